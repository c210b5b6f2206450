"""``vitrify run``."""

from __future__ import annotations

import json
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitrify.artifact.loading import is_artifact
from vitrify.cli.compile import artifact_of, counted
from vitrify.cli.console import console, escape, table
from vitrify.cli.feeds import make_feed, tensor_ports
from vitrify.errors import InvalidArgumentError
from vitrify.options import CompileOptions

_WIDE = 100  # columns that a table with several elements takes


def run_once(
    model: Path,
    options: CompileOptions,
    files: Sequence[str],
    seed: int | None,
    shapes: Sequence[str],
    dims: Sequence[str],
    save: Path | None,
    threads: int,
    accepted: tuple[str | None, str | None],
    as_json: bool,
) -> None:
    """Loads, runs once, shows a summary of each output; ``save`` gets them all. ``accepted`` are the directory of the
    policy and the only digest that will do, or nothing."""
    import vitrify

    trust, digest = accepted
    settings = vitrify.SessionOptions(intra_op_num_threads=threads, trust_directory=trust, require_digest=digest)
    kept = None if is_artifact(model) else artifact_of(model, options)
    session = vitrify.InferenceSession(model if kept is None else kept.path, settings)
    artifact = session.artifact
    feed = make_feed(tensor_ports(artifact.manifest), files, seed, shapes, dims)
    start = time.perf_counter()
    results = session.run(None, feed)
    seconds = time.perf_counter() - start
    names = [port.name for port in artifact.manifest.outputs]
    if save is not None:
        try:
            _save(save, dict(zip(names, results, strict=True)))
        except OSError as error:
            raise InvalidArgumentError(f"{save} cannot be written: {error.strerror}") from None
    outputs = [summary(name, result) for name, result in zip(names, results, strict=True)]
    if as_json:
        json.dump({"milliseconds": seconds * 1e3, "outputs": outputs}, sys.stdout)
        print()
        return
    out = console()
    few = out.width < _WIDE
    shown = table("output", "dtype", "shape", right=("min", "mean", "max", "first" if few else "first elements"))
    for output in outputs:
        shown.add_row(*_cells(output, 1 if few else 3))
    out.print(shown)
    where = f", saved to {escape(str(save))}" if save else ""
    out.print(f"[dim]first run {seconds * 1e3:.3f} ms on {counted(session.threads, 'thread')}{where}[/]")


def _save(path: Path, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    """An .npz at exactly ``path``, whatever the outputs are called."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def summary(name: str, array: np.ndarray[Any, Any]) -> dict[str, Any]:
    """What JSON can hold of an array: NaN and infinities are None."""
    result: dict[str, Any] = {"name": name, "dtype": str(array.dtype), "shape": list(array.shape)}
    if array.size:
        numbers = array.astype(np.float64).ravel()
        with np.errstate(all="ignore"):
            for key, value in (("min", numbers.min()), ("mean", numbers.mean()), ("max", numbers.max())):
                result[key] = float(value) if np.isfinite(value) else None
        result["not_finite"] = int((~np.isfinite(numbers)).sum())
        result["first"] = [float(v) if np.isfinite(v) else None for v in numbers[:3]]
    return result


def _cells(output: dict[str, Any], first_elements: int) -> list[str]:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.4g}"

    first = " ".join(number(v) for v in output.get("first", ())[:first_elements])
    if output.get("not_finite"):
        first += f"  [red]{output['not_finite']} not finite[/]"
    shape = "×".join(map(str, output["shape"])) or "scalar"
    figures = [number(output.get(key)) for key in ("min", "mean", "max")]
    return [escape(output["name"]), output["dtype"], shape, *figures, first]
