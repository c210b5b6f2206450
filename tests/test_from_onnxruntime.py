"""onnxruntime's names: those that docs/from-onnxruntime.md lists, and what one script does under both modules."""

from __future__ import annotations

import inspect
import re
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import vitrify
import vitrify.capi.onnxruntime_pybind11_state as state

PAGE = Path(__file__).parents[1] / "docs" / "from-onnxruntime.md"
MODULE_INTERNALS = {
    "capi", "contextlib", "import_capi_exception", "onnxruntime_validation", "package_name", "version", "cuda_version",
}  # fmt: skip
ERRORS = (
    "Fail InvalidArgument NoSuchFile NoModel EngineError RuntimeException InvalidProtobuf ModelLoaded NotImplemented "
    "InvalidGraph EPFail ModelLoadCanceled"
).split()
X = np.linspace(-2, 2, 8, dtype=np.float32).reshape(2, 4)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


def tables() -> dict[str, dict[str, str]]:
    """Section -> name -> works, accepted, refused or absent."""
    found: dict[str, dict[str, str]] = {}
    section = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif row := re.match(r"\| `(\w+)` \| (works|accepted|refused|absent) \|", line):
            found.setdefault(section, {})[row[1]] = row[2]
    return found


TABLES = tables()


@pytest.mark.parametrize("section", [s for s in TABLES if s != "Errors"])
def test_the_page_has_every_name_and_says_what_is_so(section: str) -> None:
    rows = TABLES[section]
    theirs, ours = (m if section == "onnxruntime" else getattr(m, section) for m in (onnxruntime, vitrify))
    internal = MODULE_INTERNALS if inspect.ismodule(theirs) else set()
    public = {n for n in dir(theirs) if not n.startswith("_")} - internal
    assert public <= rows.keys(), "names the page lacks"
    instance = ours() if section in ("SessionOptions", "RunOptions") else ours
    if inspect.isclass(ours) and issubclass(ours, Enum):
        instance = next(iter(ours))
    for name, here in rows.items():
        assert hasattr(theirs, name), f"{name} is not onnxruntime's"
        assert hasattr(instance, name) == (here != "absent"), f"{name} is not {here}"


def test_error_classes() -> None:
    assert set(TABLES["Errors"]) == set(ERRORS)
    for name in ERRORS:
        kind = getattr(vitrify, name)
        assert issubclass(kind, Exception) and kind is getattr(state, name)
        from onnxruntime.capi import onnxruntime_pybind11_state as theirs

        assert hasattr(theirs, name)
    for value in vars(vitrify.errors).values():
        if isinstance(value, type) and issubclass(value, vitrify.VitrifyError) and value not in (
            vitrify.VitrifyError, vitrify.ModelError,
        ):  # fmt: skip
            assert any(base.__name__ in ERRORS for base in value.__mro__), f"no script catches {value.__name__}"


# ---- one script, two modules


def model() -> bytes:
    """z = relu(x @ w + b) and y = x @ w + b, where b has a default."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["m"]),
            helper.make_node("Add", ["m", "b"], ["y"]),
            helper.make_node("Relu", ["y"], ["z"]),
        ],
        "affine",
        [info("x", TensorProto.FLOAT, ["N", 4]), info("b", TensorProto.FLOAT, [3])],
        [info("y", TensorProto.FLOAT, ["N", 3]), info("z", TensorProto.FLOAT, ["N", 3])],
        [
            numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3) / 4, "w"),
            numpy_helper.from_array(np.array([1, 2, 3], np.float32), "b"),
        ],
        doc_string="what it does",
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tests")
    proto.model_version = 3
    helper.set_model_props(proto, {"labels": "cat,dog"})
    return proto.SerializeToString()


def script(ort: Any, path: str) -> dict[str, Any]:
    """What a user of onnxruntime writes; only what does not depend on the module is given back."""
    found: dict[str, Any] = {}
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = 2
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    ort.set_default_logger_severity(3)
    ort.set_seed(1)
    found["device"] = ort.get_device()
    assert "CPUExecutionProvider" in ort.get_available_providers()
    session = ort.InferenceSession(path, sess_options=options, providers=["CPUExecutionProvider"])
    found["inputs"] = [(i.name, i.type, i.shape) for i in session.get_inputs()]
    found["defaults"] = [(i.name, i.type, i.shape) for i in session.get_overridable_initializers()]
    found["outputs"] = [(o.name, o.type, o.shape) for o in session.get_outputs()]
    meta = session.get_modelmeta()
    found["meta"] = (
        meta.producer_name, meta.graph_name, meta.domain, meta.description, meta.graph_description, meta.version,
        meta.custom_metadata_map,
    )  # fmt: skip
    found["providers"] = (session.get_providers(), session.get_provider_options())
    found["run"] = session.run(None, {"x": X})
    found["one"] = session.run(["z"], {"x": X}, ort.RunOptions())
    found["none named"] = session.run([], {"x": X.tolist()})
    found["default fed"] = session.run(["y"], {"x": X, "b": np.zeros(3, np.float32)})
    found.update(bindings(ort, session))
    found.update(values(ort, session))
    found["profile"] = (session.end_profiling(), session.get_session_options().intra_op_num_threads)
    return found


def bindings(ort: Any, session: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    binding = session.io_binding()
    binding.bind_cpu_input("x", X)
    binding.bind_output("z")
    place = np.zeros((2, 3), np.float32)
    binding.bind_output("y", "cpu", 0, np.float32, [2, 3], place.ctypes.data)
    binding.synchronize_inputs()
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()
    found["bound"] = (*binding.copy_outputs_to_cpu(), place)
    found["bound values"] = [(v.shape(), v.data_type(), v.device_name()) for v in binding.get_outputs()]
    held = ort.OrtValue.ortvalue_from_shape_and_type([2, 3], np.float32)
    binding.clear_binding_outputs()
    binding.bind_ortvalue_output("z", held)
    binding.bind_input("x", "cpu", 0, np.float32, [2, 4], X.ctypes.data)
    session.run_with_iobinding(binding)
    found["held"] = held.numpy().copy()
    binding.clear_binding_inputs()
    return found


def values(ort: Any, session: Any) -> dict[str, Any]:
    value = ort.OrtValue.ortvalue_from_numpy(X.copy())
    found: dict[str, Any] = {
        "value": (value.shape(), value.data_type(), value.element_type(), value.device_name(), value.is_tensor(),
                  value.is_sparse_tensor(), value.is_tensor_sequence(), value.has_value(),
                  value.tensor_size_in_bytes(), value.__dlpack_device__()),
        "dlpack": np.from_dlpack(value),
        "from dlpack": ort.OrtValue.from_dlpack(X.copy()).numpy(),
        "bf16": ort.OrtValue.ortvalue_from_shape_and_type([3], 16).data_type(),
        "ort values": [v.numpy() for v in session.run_with_ort_values(["z", "y"], {"x": value})],
    }  # fmt: skip
    value.update_inplace(X[::-1].copy())
    found["updated"] = value.numpy().copy()
    return found


def same(a: Any, b: Any) -> None:
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-6)
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            same(left, right)
    else:
        assert a == b


def test_a_typical_script_runs_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model())
    theirs, ours = script(onnxruntime, str(path)), script(vitrify, str(path))
    assert theirs.keys() == ours.keys()
    for key in theirs:
        same(theirs[key], ours[key])


def attempts(ort: Any) -> dict[str, Any]:
    """Wrong calls by name."""
    session = ort.InferenceSession(model(), providers=["CPUExecutionProvider"])
    stopped = ort.RunOptions()
    stopped.terminate = True
    info = helper.make_tensor_value_info

    def made(op: str, kind: int = TensorProto.FLOAT) -> Any:
        node = helper.make_node(op, ["x"], ["y"])
        graph = helper.make_graph([node], "g", [info("x", kind, [2])], [info("y", kind, [2])])
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return ort.InferenceSession(proto.SerializeToString())

    def bound_to_unknown() -> None:
        session.io_binding().bind_cpu_input("q", X)

    def bound_wrongly() -> None:
        binding = session.io_binding()
        binding.bind_cpu_input("x", X)
        binding.bind_ortvalue_output("y", ort.OrtValue.ortvalue_from_shape_and_type([5, 3], np.float32))
        session.run_with_iobinding(binding)

    def option(name: str, value: object) -> None:
        setattr(ort.SessionOptions(), name, value)

    return {
        "missing input": lambda: session.run(None, {}),
        "unknown input": lambda: session.run(None, {"x": X, "q": X}),
        "wrong dtype": lambda: session.run(None, {"x": X.astype(np.float64)}),
        "wrong rank": lambda: session.run(None, {"x": X[0]}),
        "wrong dim": lambda: session.run(None, {"x": X[:, :3].copy()}),
        "unknown output": lambda: session.run(["q"], {"x": X}),
        "terminated": lambda: session.run(None, {"x": X}, stopped),
        "run options": lambda: session.run(None, {"x": X}, 3),
        "no file": lambda: ort.InferenceSession("there is no such file.onnx"),
        "no model": lambda: ort.InferenceSession(b"abc"),
        "empty model": lambda: ort.InferenceSession(b""),
        "type of model": lambda: ort.InferenceSession(3),
        "unknown op": lambda: made("NoSuchOp"),
        "binding of an unknown name": bound_to_unknown,
        "binding of a wrong shape": bound_wrongly,
        "nothing bound": lambda: session.run_with_iobinding(session.io_binding()),
        "unknown option": lambda: option("no_such_option", 1),
        "type of an option": lambda: option("intra_op_num_threads", "a"),
        "number for a level": lambda: option("graph_optimization_level", 99),
        "no configuration entry": lambda: ort.SessionOptions().get_session_config_entry("none"),
        "no run entry": lambda: ort.RunOptions().get_run_config_entry("none"),
        "device": lambda: ort.OrtValue.ortvalue_from_numpy(X, "cuda", 0),
        "update": lambda: ort.OrtValue.ortvalue_from_numpy(X.copy()).update_inplace(X[:1].copy()),
        "initializer": lambda: ort.SessionOptions().add_initializer("w", 3),
        "library": lambda: ort.SessionOptions().register_custom_ops_library("no such library.so"),
        "severity": lambda: ort.set_default_logger_severity(9),
    }


def raised(call: Any) -> BaseException:
    with pytest.raises(Exception) as info:
        call()
    return info.value


@pytest.mark.parametrize("name", list(attempts(onnxruntime)))
def test_errors_are_caught_by_the_same_clause(name: str) -> None:
    theirs, ours = raised(attempts(onnxruntime)[name]), raised(attempts(vitrify)[name])
    assert isinstance(ours, vitrify.VitrifyError)
    names = {kind.__name__ for kind in type(ours).__mro__}
    assert type(theirs).__name__ in names, f"{type(theirs).__name__}: {theirs}\n{type(ours).__name__}: {ours}"


def test_unknown_providers_are_refused() -> None:
    for providers in (["CUDAExecutionProvider", "CPUExecutionProvider"], [3], "CPUExecutionProvider"):
        with pytest.raises(vitrify.InvalidArgument, match="provider"):
            vitrify.InferenceSession(model(), providers=providers)
    with pytest.raises(vitrify.InvalidArgument, match="provider_options"):
        vitrify.InferenceSession(model(), providers=["CPUExecutionProvider"], provider_options=[])
    session = vitrify.InferenceSession(model(), providers=[("CPUExecutionProvider", {})])
    session.set_providers(["CPUExecutionProvider"])
    with pytest.raises(ValueError, match="CUDA"):
        session.set_providers(["CUDAExecutionProvider"])
