"""The results as a table, as JSON and as a chart."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PEERS = ("onnxruntime", "openvino")


@dataclass
class Row:
    """One workload. ``values`` are medians in ``unit`` by engine; ``notes`` say what went wrong."""

    name: str
    threads: int
    unit: str
    reach: float
    aim: float
    values: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    limit_share: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        """Ours divided by the better peer's."""
        peers = [self.values[p] for p in PEERS if p in self.values]
        ours = self.values.get("vitrify")
        return ours / min(peers) if ours is not None and peers else None

    @property
    def reached(self) -> bool:
        return self.ratio is not None and self.ratio <= self.reach


def to_json(machine: dict[str, Any], rows: list[Row]) -> str:
    entries = [{**asdict(row), "ratio": row.ratio, "reached": row.reached} for row in rows]
    return json.dumps({"machine": machine, "rows": entries}, indent=1)


def print_table(machine: dict[str, Any], rows: list[Row]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=132)
    console.print(", ".join(f"[dim]{key}[/] {value}" for key, value in machine.items()))
    table = Table(header_style="bold", pad_edge=False, box=box.SIMPLE)
    heads = ("workload", "threads", "", "vitrify", *PEERS, "ratio", "reach", "aim", "limit", "difference")
    for head in heads:
        table.add_column(head, justify="left" if head in ("workload", "") else "right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table)
    for row in rows:
        for note in row.notes:
            console.print(f"[red]{row.name}, {row.threads}[/]: {note}")


def _cells(row: Row) -> list[str]:
    engines = [_number(row.values.get(name)) for name in ("vitrify", *PEERS)]
    ratio = "–"
    if row.ratio is not None:
        colour = "green" if row.ratio <= row.aim else "yellow" if row.reached else "red"
        ratio = f"[{colour}]{row.ratio:.2f}[/]"
    share = f"{row.limit_share:.0%}" if row.limit_share else ""
    found = row.differences.get("vitrify")
    difference = "" if found is None else f"{found:.0e}"
    targets = f"{row.reach:.2f}", f"{row.aim:.2f}"
    return [row.name, str(row.threads), row.unit, *engines, ratio, *targets, share, difference]


def _number(value: float | None) -> str:
    """Three significant digits, without exponents."""
    if value is None:
        return "–"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def draw_chart(rows: list[Row], path: Path) -> None:
    """Ratios as bars, with what is to be reached."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [row for row in rows if row.ratio is not None][::-1]
    if not shown:
        return
    figure, axes = pyplot.subplots(figsize=(9, 0.34 * len(shown) + 1.4), layout="constrained")
    ratios = [row.ratio or 0 for row in shown]
    colours = ["#2a7f62" if row.reached else "#b4533c" for row in shown]
    labels = [f"{row.name}, {row.threads} thread{'s' if row.threads > 1 else ''}" for row in shown]
    axes.barh(labels, ratios, color=colours, height=0.62)
    for index, row in enumerate(shown):
        axes.plot([row.reach] * 2, [index - 0.42, index + 0.42], color="#222", linewidth=1.6)
        axes.text(ratios[index] + 0.015, index, f"{ratios[index]:.2f}", va="center", fontsize=8)
    axes.axvline(1.0, color="#999", linewidth=0.8, linestyle="--")
    axes.set_xlim(0, max(1.3, max(ratios) * 1.08))
    axes.set_xlabel("time or memory of Vitrify ÷ the better peer's; marks: what is to be reached")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", labelsize=8)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
