"""What ``vitrify bench`` shows: facts, whether results agree, and one table for each kind of figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from vitrify.benchmark.comparison import OURS, Comparison
from vitrify.benchmark.difference import Difference
from vitrify.cli.compile import counted, scaled
from vitrify.cli.console import console, significant, table

if TYPE_CHECKING:
    from rich.console import Console

    from vitrify.cli.bench import BenchOptions

_WIDE = 96  # columns that a table with all figures takes
_LONG = 150  # characters of a peer's reason
_LEVEL = 0.02  # ratios so close to 1 are even


def show(found: Comparison, defaults: dict[str, int], options: BenchOptions) -> None:
    """Prints a comparison."""
    out = console()
    _facts(out, found, defaults)
    _agreement(out, found)
    if not found.latency:
        out.print("\n[bold red]Not timed: results differ.[/] --tolerance says how far they may; --force times anyway.")
        return
    _latency(out, found)
    if found.throughput:
        _throughput(out, found)
    _memory(out, found)
    if options.bf16 and "onnxruntime" not in found.absent:
        out.print("[dim]onnxruntime multiplies in float32 all the same: its CPU provider has no bfloat16 products[/]")
    for path in (options.chart, options.json):
        if path is not None:
            out.print(f"[dim]written: {escape(str(path))}[/]", soft_wrap=True)


def _facts(out: Console, found: Comparison, defaults: dict[str, int]) -> None:
    machine, model = found.machine, found.model
    what = model.get("model", model["artifact"])
    size = f"artifact {scaled(model['artifact_bytes'], 'B')}"
    if "model_bytes" in model:
        size = f"model {scaled(model['model_bytes'], 'B')}, {size}"
    if (seconds := model.get("compile_seconds")) is not None:
        size += f", compiled in {seconds:.2f} s"
    elif "compiled" in model:
        size += ", found in the cache"
    limits = f"{counted(len(machine['affinity']), 'CPU')} on {counted(machine['cores'], 'core')}"
    limits += ", no quota" if machine["quota"] is None else f", a quota of {machine['quota']:g}"
    limits += f", governor {machine['governor'] or 'not told'}, load {machine['load']:.2f}"
    rows = [
        ("model", f"{escape(str(what))}: {size}"),
        ("inputs", ", ".join(map(_input, found.inputs)) or "none"),
        ("machine", f"{escape(machine['cpu'])}, {'+'.join(machine['targets'])}; {limits}"),
        ("versions", ", ".join(f"{name} {number}" for name, number in machine["versions"].items() if number)),
    ]
    if defaults:
        sizes = ", ".join(f"{name} = {size}" for name, size in defaults.items())
        rows.insert(2, ("dims", f"{escape(sizes)}, since none was given: --dim NAME=N"))
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*row)
    out.print(grid)


def _input(row: dict[str, Any]) -> str:
    shape = "×".join(map(str, row["shape"])) or "scalar"
    return escape(f"{row['name']} {row['dtype']} {shape} ({row['source']})")


def _agreement(out: Console, found: Comparison) -> None:
    out.print()
    peers = dict.fromkeys(agreement.peer for agreement in found.agreements)
    for peer in peers:
        checked = [agreement for agreement in found.agreements if agreement.peer == peer]
        wrong = [(a.threads, d) for a in checked for d in a.outputs if not d.passes]
        if wrong:
            out.print(f"[bold red]✗[/] {peer} has other results:")
            for text, numbers in _by_text(wrong).items():
                on = f"on {', '.join(map(str, numbers))} thread{'s' * (numbers != [1])}: "
                out.print(Padding(Text(on + text), (0, 0, 0, 4)))
            continue
        largest = max((d.largest for a in checked for d in a.outputs), default=0.0)
        allowed = max((d.tolerance for a in checked for d in a.outputs), default=0.0)
        elements = sum(d.elements for d in checked[0].outputs)
        near = f"within {largest:.2g} of the largest ({allowed:.1g} allowed)" if largest else "equal"
        out.print(f"[green]✓[/] {peer} agrees: {elements:,} element{'s' * (elements != 1)} {near}")
    if not found.same_bits:
        out.print("[bold red]✗[/] vitrify's results depend on the number of threads")
    for peer, reason in found.absent.items():
        short = reason if len(reason) <= _LONG else reason[:_LONG] + " …"
        out.print(Text(f"– {peer}: {short}", style="dim"))


def _by_text(found: list[tuple[int, Difference]]) -> dict[str, list[int]]:
    """The numbers of threads at which outputs differ in the same way."""
    numbers: dict[str, list[int]] = {}
    for threads, difference in found:
        how_far = f" ({difference.largest:.2g} of the largest element, {difference.tolerance:.1g} allowed)"
        numbers.setdefault(f"{difference}{how_far}", []).append(threads)
    return numbers


def _ratio(value: float, *, less_is_better: bool) -> str:
    better = value < 1 if less_is_better else value > 1
    colour = "" if abs(value - 1) < _LEVEL else "green" if better else "red"
    return f"[{colour}]{value:.2f}[/]" if colour else f"{value:.2f}"


def _latency(out: Console, found: Comparison) -> None:
    shortest = min(figures.p50_ms for row in found.latency.values() for figures in row.values())
    unit, factor = ("µs", 1e3) if shortest < 0.1 else ("ms", 1.0)
    keys = ["p50", "p90", "p99", "min", "mean", "stddev"]
    if out.width < _WIDE:
        keys = keys[:4]
    shown = table("threads", "latency", right=(*(f"{key} {unit}" for key in keys), "calls", "ratio"))
    for threads, row in found.latency.items():
        label = str(threads)
        for engine, figures in row.items():
            cells = [significant(getattr(figures, f"{key}_ms") * factor) for key in keys]
            ratio = "" if engine == OURS else _ratio(found.latency_ratio(threads, engine), less_is_better=True)
            shown.add_row(label, _named(engine), *cells, f"{figures.calls:,}", ratio)
            label = ""
        shown.add_section()
    out.print(shown)
    if any(len(row) > 1 for row in found.latency.values()):
        out.print("[dim]engines took turns; ratio: vitrify's p50 ÷ the peer's, below 1 is faster[/]")


def _throughput(out: Console, found: Comparison) -> None:
    shown = table("callers", "throughput", right=("requests/s", "samples/s", "ratio"))
    for callers, row in found.throughput.items():
        label = str(callers)
        for engine, figures in row.items():
            ratio = "" if engine == OURS else _ratio(found.throughput_ratio(callers, engine), less_is_better=False)
            cells = significant(figures.requests_per_second), significant(figures.samples_per_second)
            shown.add_row(label, _named(engine), *cells, ratio)
            label = ""
        shown.add_section()
    out.print(shown)
    peers = any(len(row) > 1 for row in found.throughput.values())
    more = "; ratio: vitrify's rate ÷ the peer's, above 1 is faster" if peers else ""
    out.print(f"[dim]callers at once, each on one thread{more}[/]")


def _memory(out: Console, found: Comparison) -> None:
    shown = table("fresh process", right=("peak MB", "load ms", "first call ms", "start to first result ms"))
    for engine, figures in found.memory.items():
        cells = (figures.peak_bytes / 1e6, figures.load_ms, figures.first_call_ms, figures.start_ms)
        shown.add_row(_named(engine), *map(significant, cells))
    out.print(shown)
    loads = "load: import, and the artifact"
    if len(found.memory) > 1:
        loads += " or, for a peer, the model with its optimisation"
    out.print(f"[dim]{loads}[/]")


def _named(engine: str) -> str:
    return f"[bold]{engine}[/]" if engine == OURS else engine
