"""Hostile models: what each ends in, in bounded time and memory, imported and (where that gives a graph) compiled."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import vitrify
from tests.fuzz.hostile import BUILDERS, node
from vitrify.errors import ExternalDataError, InvalidModelError, OutOfMemoryError, UnsupportedError, VitrifyError
from vitrify.frontends.onnx import load_onnx

SECONDS = 120  # on a busy machine; alone each takes a few
MEMORY = 4 << 30  # of address space, beyond what the process has

# What the import says, where it refuses.
REFUSED: dict[str, tuple[type[VitrifyError], str]] = {
    "constants_read_as_a_shape": (InvalidModelError, "a rank of 1099511627776"),
    "range_of_floats": (InvalidModelError, "overflows 64 bits"),
    "rank_of_100000": (InvalidModelError, "a rank of 100000; expected at most 64"),
    "rank_of_a_constant": (InvalidModelError, "a rank of 100000"),
    "dilation_of_2_to_62": (InvalidModelError, "window of 3 does not fit"),
    "parts_of_2_to_40": (InvalidModelError, "num_outputs is 1099511627776"),
    "transposed_by_a_million_axes": (InvalidModelError, "perm"),
    "transform_of_2_to_40": (InvalidModelError, "a transform of 1099511627776 points"),
    "nested_1000_deep": (InvalidModelError, "nested more than 64 deep"),
    "functions_that_double": (InvalidModelError, "too many nodes"),
    "equation_of_a_megabyte": (InvalidModelError, "equation"),
    "text_of_a_megabyte": (InvalidModelError, "mode is"),
    "unknown_ops_of_a_megabyte": (UnsupportedError, "the op is not supported"),
    "branch_that_reads_its_own_result": (InvalidModelError, "a cycle through If 'y'"),
    "names_with_nul": (InvalidModelError, r"Proto\.\w+ is no text"),
    "attributes_given_twice": (InvalidModelError, "given twice: 'axis'"),
}
# Where memory is refused by the run.
TOO_LARGE = {
    "constant_of_2_to_40_elements", "expansion_to_2_to_40_elements", "tiles", "pads", "one_hot_of_depth_2_to_40",
    "scales_of_2_to_40",
}  # fmt: skip


@pytest.fixture(autouse=True)
def bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Time and memory are taken away, and given back."""

    def stop(*_: object) -> None:
        pytest.fail(f"more than {SECONDS} s")

    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path / "cache"))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


@pytest.mark.parametrize("name", BUILDERS)
def test_import(name: str) -> None:
    model = BUILDERS[name]()
    if name not in REFUSED:
        load_onnx(model)
        return
    kind, message = REFUSED[name]
    with pytest.raises(kind, match=message) as caught:
        load_onnx(model)
    assert len(str(caught.value)) < 20_000


COMPILED = [
    "constant_of_2_to_40_elements", "sum_of_2_to_40_constants", "shape_of_2_to_40_constants",
    "expansion_to_2_to_40_elements", "tiles", "pads", "one_hot_of_depth_2_to_40", "scales_of_2_to_40",
    "doubled_constant", "windows_of_2_to_62", "squared_sizes", "branching_sizes", "chain_of_2000_nodes",
    "names_that_end_comments", "nested_30_deep", "loop_of_2_to_60_trips", "stacked_2_to_40_times", "range_of_2_to_40",
]  # fmt: skip


@pytest.mark.parametrize("name", COMPILED)
def test_compile(name: str) -> None:
    session = vitrify.InferenceSession(BUILDERS[name]())
    if name in TOO_LARGE:
        feeds = {
            i.name: np.zeros([n if isinstance(n, int) else 3 for n in i.shape], np.int64 if "int" in i.type else "f4")
            for i in session.get_inputs()
        }
        with pytest.raises(OutOfMemoryError):
            session.run(None, feeds)


def test_names_are_kept() -> None:
    session = vitrify.InferenceSession(BUILDERS["names_that_end_comments"]())
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    (y,) = session.run([made.name], {given.name: np.array([-1, 2], np.float32)})
    assert made.name == given.name + "y" and y.tolist() == [0, 2]


def test_text_that_is_no_utf_8() -> None:
    model = BUILDERS["tiles"]()
    model.graph.node[0].name = "qqqqqqqq"
    with pytest.raises(InvalidModelError, match=r"NodeProto.name is no text"):
        load_onnx(model.SerializeToString().replace(b"qqqqqqqq", b"\xff\xfe\xfd\xfcqqqq"))


# ---- external data


def external(folder: Path, count: int, size: int, offsets: bool = False) -> Path:
    """A model of ``count`` constants of ``size`` floats each in one file."""
    graph = helper.make_graph(
        [node("Sum", " ".join(["x", *(f"w{i}" for i in range(count))]))],
        "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [size])], [onnx.ValueInfoProto(name="y")],
    )  # fmt: skip
    for i in range(count):
        tensor = graph.initializer.add(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[size])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
        if offsets:
            tensor.external_data.add(key="offset", value=str(4 * i))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_file_of_holes(tmp_path: Path) -> None:
    path = external(tmp_path, 1, 2**38)
    with (tmp_path / "w.bin").open("wb") as file:
        os.truncate(file.fileno(), 2**40)
    with pytest.raises(ExternalDataError, match="holes"):
        vitrify.InferenceSession(path)


def test_tensors_that_overlap(tmp_path: Path) -> None:
    """4,000 tensors of a megabyte each, of a file of little more than one."""
    path = external(tmp_path, 4000, 2**18, offsets=True)
    (tmp_path / "w.bin").write_bytes(bytes(2**20 + 16000))
    with pytest.raises(ExternalDataError, match="overlap"):
        load_onnx(path)


def test_tensors_that_share_their_data(tmp_path: Path) -> None:
    path = external(tmp_path, 3, 4)
    (tmp_path / "w.bin").write_bytes(np.float32([1, 2, 3, 4]).tobytes())
    (y,) = vitrify.InferenceSession(path).run(None, {"x": np.zeros(4, np.float32)})
    assert y.tolist() == [3, 6, 9, 12]
