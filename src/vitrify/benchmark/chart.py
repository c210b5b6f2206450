"""A comparison as a chart: latency, throughput and memory, one colour for each engine."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitrify.benchmark.comparison import Comparison
from vitrify.errors import InvalidArgumentError, ToolchainError

FORMATS = ("svg", "png", "pdf")
_COLOURS = {"vitrify": "#2a7f62", "onnxruntime": "#8d99ae", "openvino": "#c9a66b"}
_BAR = 0.26  # of the distance between two groups
_TITLE = 110  # characters
_TAIL = 1.8  # times the highest bar: higher ones are cut, their labels say how high they are


def check_chart(path: Path) -> None:
    """Raises InvalidArgumentError for a name that says no known format, ToolchainError without matplotlib."""
    if path.suffix.lower().lstrip(".") not in FORMATS:
        known = ", ".join(f".{name}" for name in FORMATS)
        raise InvalidArgumentError("the chart's format", expected=f"a name that ends in {known}", actual=str(path))
    if importlib.util.find_spec("matplotlib") is None:
        raise ToolchainError("a chart needs matplotlib, which is not installed", hint="pip install matplotlib")


def draw_chart(found: Comparison, path: Path) -> None:
    """Writes the chart in the format that the name says. Raises what :func:`check_chart` does, and
    InvalidArgumentError where the path cannot be written."""
    check_chart(path)
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = 2 + bool(found.throughput)
    groups = max(len(found.latency), len(found.throughput))
    figure = Figure(figsize=(max(3.9, 1.2 * groups) * panels, 4.1), layout="constrained")
    FigureCanvasAgg(figure)
    grid = list(figure.subplots(1, panels))
    _latency(grid[0], found)
    if found.throughput:
        rates = {
            f"{n} caller{'s' * (n != 1)}": {e: f.requests_per_second for e, f in row.items()}
            for n, row in found.throughput.items()
        }
        _bars(grid[1], rates, "Throughput, requests per second", "more is better")
    memory = {"fresh process": {engine: f.peak_bytes / 1e6 for engine, f in found.memory.items()}}
    _bars(grid[-1], memory, "Peak memory, MB", "less is better")
    engines = dict.fromkeys(name for row in found.latency.values() for name in row)
    handles = [matplotlib.patches.Patch(color=_COLOURS[name], label=_label(found, name)) for name in engines]
    source = Path(found.model.get("model", found.model["artifact"])).name
    shapes = ", ".join(f"{i['name']} {'×'.join(map(str, i['shape'])) or 'scalar'}" for i in found.inputs)
    title = f"{source}: {shapes}"
    figure.legend(
        handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=9,
        title=title if len(title) <= _TITLE else title[:_TITLE] + " …", title_fontsize=11,
    )  # fmt: skip
    figure.supxlabel(_facts(found.machine), fontsize=7, color="#555")
    try:
        with matplotlib.rc_context({"svg.hashsalt": "vitrify"}):  # the same names of parts in every file
            figure.savefig(path, dpi=150)
    except OSError as error:
        raise InvalidArgumentError(f"{path} cannot be written: {error.strerror}") from None


def _label(found: Comparison, engine: str) -> str:
    return f"{engine} {found.machine['versions'].get(engine) or ''}".strip()


def _facts(machine: Mapping[str, Any]) -> str:
    quota = "" if machine["quota"] is None else f", a quota of {machine['quota']:g}"
    cpus = f"{len(machine['affinity'])} CPUs on {machine['cores']} cores"
    return f"{machine['cpu']}, {cpus}{quota}, load {machine['load']}"


def _latency(axes: Any, found: Comparison) -> None:
    shortest = min(f.p50_ms for row in found.latency.values() for f in row.values())
    unit, factor = ("µs", 1e3) if shortest < 0.1 else ("ms", 1.0)
    rows = {
        f"{n} thread{'s' * (n != 1)}": {e: f.p50_ms * factor for e, f in row.items()}
        for n, row in found.latency.items()
    }
    tails = {
        f"{n} thread{'s' * (n != 1)}": {e: f.p99_ms * factor for e, f in row.items()}
        for n, row in found.latency.items()
    }
    _bars(axes, rows, f"Latency, {unit}", "black, full: p50; grey, pale: p99; less is better", tails)


def _bars(
    axes: Any, rows: Mapping[str, Mapping[str, float]], title: str, note: str,
    tails: Mapping[str, Mapping[str, float]] | None = None,
) -> None:  # fmt: skip
    """Groups of bars, a bar for each engine; ``tails`` are paler bars behind them."""
    highest = max(value for row in rows.values() for value in row.values())
    cut = highest * (1 if tails is None else min(_TAIL, max(v for t in tails.values() for v in t.values()) / highest))
    top = cut * 1.16
    for place, (group, row) in enumerate(rows.items()):
        for number, (engine, value) in enumerate(row.items()):
            x, above, rise = place + (number - (len(row) - 1) / 2) * _BAR, value, 2
            axes.bar(x, value, _BAR * 0.9, color=_COLOURS[engine])
            if tails is not None:
                tail = tails[group][engine]
                above, rise = min(tail, cut), 9
                axes.bar(x, above, _BAR * 0.9, color=_COLOURS[engine], alpha=0.25, zorder=0)
                _label_above(axes, x, above, 2, _number(tail), "#888")
            _label_above(axes, x, above, rise, _number(value), "black")
    axes.set_xticks(range(len(rows)), list(rows), fontsize=9)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.set_ylim(0, top)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(note, fontsize=8, color="#555")
    axes.tick_params(axis="y", labelsize=8)
    axes.yaxis.set_major_formatter("{x:,.10g}")
    axes.spines[["top", "right"]].set_visible(False)


def _label_above(axes: Any, x: float, y: float, points: int, text: str, colour: str) -> None:
    place = {"xytext": (0, points), "textcoords": "offset points"}
    axes.annotate(text, (x, y), ha="center", va="bottom", fontsize=7, color=colour, **place)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
