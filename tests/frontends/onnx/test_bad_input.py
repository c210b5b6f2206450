"""Models that cannot be imported: which error, and what it says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from tests.frontends.onnx.models import model_of, one_node, value_info
from vitrify.errors import (
    ExternalDataError,
    InvalidArgumentError,
    InvalidModelError,
    NoSuchFileError,
    UnsupportedError,
    VitrifyError,
)
from vitrify.frontends.onnx import import_onnx, load_onnx
from vitrify.ir.interpret import interpret

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def relu_model() -> onnx.ModelProto:
    return one_node("Relu", {"x": X})


# Files and bytes
def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NoSuchFileError, match=r"gone\.onnx does not exist"):
        import_onnx(tmp_path / "gone.onnx")


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError, match="is a directory"):
        import_onnx(tmp_path)


@pytest.mark.parametrize("data", [b"", b"hello, this is no model", b"\x00" * 64, b"\xff" * 100, b"PK\x03\x04"])
def test_bytes_that_are_no_model(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError):
        import_onnx(data)
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(InvalidModelError, match=r"model\.onnx"):
        import_onnx(str(path))


def test_every_truncation_is_refused() -> None:
    w = np.arange(64, dtype=np.float32).reshape(8, 8)
    data = one_node("MatMul", {"x": np.ones((2, 8), np.float32)}, constants={"w": w}).SerializeToString()
    import_onnx(data)
    for size in range(len(data)):
        try:
            import_onnx(data[:size])
        except (InvalidModelError, UnsupportedError):
            continue
        # protobuf fields may end early and leave a whole model; then only what follows the graph is missing
        assert size > len(data) - 16, size


@pytest.mark.parametrize("model", [None, 3, [b""], onnx.GraphProto()])
def test_objects_that_are_no_model(model: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot import this object"):
        import_onnx(model)


def test_incomplete_model() -> None:
    with pytest.raises(InvalidModelError, match="no ir_version, opset_import, graph"):
        import_onnx(onnx.ModelProto())


def test_a_newer_opset() -> None:
    with pytest.raises(UnsupportedError, match="opset 999"):
        import_onnx(one_node("Relu", {"x": X}, opset=999))


# External data
def external(tmp_path: Path, **entries: object) -> Path:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    model = one_node("Add", {"x": X}, names=["x", "w"])
    model.graph.initializer.append(tensor)
    path = tmp_path / "model" / "model.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_is_mapped(tmp_path: Path) -> None:
    path = external(tmp_path, location="w.bin", offset=8, length=24)
    (path.parent / "w.bin").write_bytes(b"\0" * 8 + X.tobytes() + b"tail")
    (y,) = interpret(import_onnx(path), [X])
    np.testing.assert_array_equal(y, 2 * X)


def test_external_data_below_a_folder_and_unaligned(tmp_path: Path) -> None:
    path = external(tmp_path, location="data/w.bin", offset=3)
    (path.parent / "data").mkdir()
    (path.parent / "data" / "w.bin").write_bytes(b"abc" + X.tobytes())
    (y,) = interpret(import_onnx(path), [X])
    np.testing.assert_array_equal(y, 2 * X)


ENTRIES = [
    ({"location": "../w.bin"}, "a path below the model's directory"),
    ({"location": "a/../../w.bin"}, "a path below the model's directory"),
    ({"location": "..\\w.bin"}, "a path below the model's directory"),
    ({"location": "C:\\w.bin"}, "a path below the model's directory"),
    ({"location": "/etc/passwd"}, "a path below the model's directory"),
    ({"location": ""}, "a path below the model's directory"),
    ({}, "a path below the model's directory"),
    ({"location": "w\0.bin"}, "a path below the model's directory"),
    ({"location": "."}, "a file below"),
    ({"location": "gone.bin"}, "is missing"),
    ({"location": "w.bin", "offset": 1}, "lies outside"),
    ({"location": "w.bin", "offset": 2**62}, "lies outside"),
    ({"location": "w.bin", "offset": 2**80}, "the offset"),
    ({"location": "w.bin", "offset": -4}, "the offset '-4'"),
    ({"location": "w.bin", "offset": "1e3"}, "the offset '1e3'"),
    ({"location": "w.bin", "length": 20}, "the wrong length"),
    ({"location": "w.bin", "length": 2**40}, "the wrong length"),
    ({"location": "empty.bin"}, "lies outside"),
]


@pytest.mark.parametrize(("entries", "message"), ENTRIES)
def test_external_data_that_is_refused(tmp_path: Path, entries: dict[str, object], message: str) -> None:
    (tmp_path / "w.bin").write_bytes(X.tobytes())
    path = external(tmp_path, **entries)
    (path.parent / "w.bin").write_bytes(X.tobytes())
    (path.parent / "empty.bin").write_bytes(b"")
    with pytest.raises(ExternalDataError, match=message):
        import_onnx(path)


@pytest.mark.parametrize("link", ["file", "folder"])
def test_links_out_of_the_directory_are_refused(tmp_path: Path, link: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "w.bin").write_bytes(X.tobytes())
    path = external(tmp_path, location="w.bin" if link == "file" else "sub/w.bin")
    if link == "file":
        os.symlink(tmp_path / "outside" / "w.bin", path.parent / "w.bin")
    else:
        os.symlink(tmp_path / "outside", path.parent / "sub")
    with pytest.raises(ExternalDataError, match="a file below"):
        import_onnx(path)


def test_external_data_of_bytes_has_no_directory(tmp_path: Path) -> None:
    path = external(tmp_path, location="w.bin")
    (path.parent / "w.bin").write_bytes(X.tobytes())
    with pytest.raises(ExternalDataError, match="needs a directory"):
        import_onnx(path.read_bytes())


# Tensors
@pytest.mark.parametrize(
    "tensor",
    [
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 3], raw_data=b"\0" * 23),
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 3], float_data=[1.0] * 5),
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[-2, 3], raw_data=b""),
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2**40, 2**40], raw_data=b""),
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2**62, 0, 2**62], raw_data=b"1"),
    ],
)
def test_tensors_that_do_not_fit_their_data(tensor: TensorProto) -> None:
    model = one_node("Add", {"x": X}, names=["x", "w"])
    model.graph.initializer.append(tensor)
    with pytest.raises(InvalidModelError, match="'w'"):
        import_onnx(model)


@pytest.mark.parametrize(
    "dtype", ["int4", "uint4", "bfloat16", "float8_e4m3fn", "bool", "float16", "uint64", "float64"]
)
def test_constants_of_every_width(dtype: str) -> None:
    from vitrify.ir.dtypes import BY_NAME, DTYPES

    row = next(t for t in DTYPES if t.numpy_name in (dtype, dtype + "_"))
    assert row.name in BY_NAME
    array = np.array([[0, 1, 2], [3, 1, 0], [1, 1, 1]]).astype(row.numpy)
    node = helper.make_node("Constant", [], ["y"], "c", value=numpy_helper.from_array(array))
    (y,) = interpret(import_onnx(model_of([node], [], ["y"])), [])
    assert y.dtype == row.numpy
    np.testing.assert_array_equal(y.astype(np.float64), array.astype(np.float64))


# Everything unsupported at once
def test_all_problems_are_listed() -> None:
    text = """agraph (float[2, 3] x, complex64[2] s, bool c) => (float[] y) {
        [first] a = NoSuchOp(x)
        [second] b = custom.Thing(a)
        [third] d = Relu <speed = 3> (x)
        [fourth] e = Cast <to = 14> (x)
        f = NotThere(s)
        [fifth] g = If (c) <then_branch = t () => (float[] p) { [inner] p = AlsoMissing(a) },
                            else_branch = u () => (float[] q) { q = Identity(x) }>
        y = Add(b, d)
    }"""
    model = parser.parse_model('<ir_version: 8, opset_import: ["" : 17, "custom" : 2]>\n' + text)
    with pytest.raises(UnsupportedError) as caught:
        import_onnx(model)
    expected = [
        "input 's': type tensor(complex64)",
        "NoSuchOp 'first' (ai.onnx opset 17): the op is not supported",
        "Thing 'second' (custom opset 2): the op is not supported",
        "Relu 'third' (ai.onnx opset 17): attribute 'speed'",
        "Cast 'fourth' (ai.onnx opset 17): a cast to complex64",
        "NotThere 'f' (ai.onnx opset 17): the op is not supported",
        "AlsoMissing 'inner' (ai.onnx opset 17): the op is not supported",
    ]
    assert list(caught.value.problems) == expected


def test_an_op_of_a_later_opset() -> None:
    with pytest.raises(UnsupportedError, match="not supported in opset 17, only in later ones"):
        import_onnx(one_node("Gelu", {"x": X}, opset=17))


def test_sparse_and_complex_initializers() -> None:
    model = relu_model()
    model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.complex64), "text"))
    values = numpy_helper.from_array(np.ones(1, np.float32), "thin")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64)), [4])
    model.graph.sparse_initializer.append(sparse)
    with pytest.raises(UnsupportedError) as caught:
        import_onnx(model)
    assert [p.split("'")[1] for p in caught.value.problems] == ["thin", "text"]


# Ill-formed graphs
ILL_FORMED = [
    ("y = Add(x, nowhere)", "nothing defines: 'nowhere' \\(read by Add 'y'\\)"),
    ("a = Relu(b)\n b = Relu(a)\n y = Add(a, x)", "a cycle through Relu 'a', Relu 'b'"),
    ("y = Relu(y)", "a cycle through Relu 'y'"),
    ("y = Relu(x)\n y = Neg(x)", "the name 'y' is defined twice, again by Neg 'y'"),
    ("x = Relu(x)\n y = Neg(x)", "the name 'x' is defined twice"),
    ("z = Relu(x)", "nothing defines: 'y' \\(an output\\)"),
    ("y, z, w = Relu(x)", "too many outputs"),
    ("y = Relu()", "input 0 is missing"),
    ("i = Cast <to = 7> (x)\n y = Add(x, i)", "Add 'y': the inputs' types differ"),
    ("y = And(x, x)", "And 'y'"),
    ("y = Reshape <allowzero = 0> (x, bad)", "6 elements do not divide by 4"),
    ("y = MatMul(x, x)", "MatMul 'y': sizes differ"),
    ("y = Transpose <perm = [0, 0]> (x)", "perm"),
    ("y = Softmax <axis = 2> (x)", "axis 2 of a tensor of rank 2"),
    ("y = Softmax <axis = 1.5> (x)", "attribute 'axis' has the wrong type"),
    ("y = Concat(x, x)", "attribute 'axis' is missing"),
    ("y = Concat <axis = 0> (x, bad)", "Concat 'y'"),
    ("y = Conv(x, x)", "Conv 'y'"),
    ("y = MaxPool(x)", "MaxPool 'y'"),
    ("y = Gather(x, far)", "indices 7 .. 7"),
    ("y = If(x) <then_branch = t () => (float[] a) { a = Relu(x) }>", "If 'y'"),
    ("y = Split <axis = 0> (x)", "Split 'y'"),
]


@pytest.mark.parametrize(("nodes", "message"), ILL_FORMED)
def test_ill_formed_graphs(nodes: str, message: str) -> None:
    constants = "<int64[2] bad = {4, -1}, int64[1] far = {7}>"
    model = parser.parse_model(HEAD + f"agraph (float[2, 3] x) => (y) {constants} {{ {nodes} }}")
    if "Split" in nodes:
        model.graph.node[0].output.extend(["p", "q", "r"])
    with pytest.raises(InvalidModelError, match=message):
        import_onnx(model)


def test_nodes_out_of_order_are_sorted() -> None:
    model = parser.parse_model(HEAD + "agraph (float[2] x) => (float[] y) { y = Neg(a) a = Relu(x) }")
    (y,) = interpret(import_onnx(model), [np.array([-1, 2], np.float32)])
    assert y.tolist() == [0.0, -2.0]


def test_declared_type_of_an_output() -> None:
    model = parser.parse_model(HEAD + "agraph (float[2] x) => (int64[2] y) { y = Relu(x) }")
    with pytest.raises(InvalidModelError, match="'y' is declared with another type"):
        import_onnx(model)


def test_functions_that_call_themselves() -> None:
    text = """agraph (float[n] x) => (float[n] y) { y = local.f(x) }
    <domain: "local", opset_import: ["" : 17, "local" : 1]>
    f (p) => (r) { r = local.f(p) }"""
    model = parser.parse_model('<ir_version: 8, opset_import: ["" : 17, "local" : 1]>\n' + text)
    with pytest.raises(InvalidModelError, match="calls itself"):
        import_onnx(model)


# Sizes
@pytest.mark.parametrize(
    "text",
    [
        "agraph (float[4611686018427387904, 4] x) => (float[] y) { y = Relu(x) }",
        "agraph (float[2] x) => (float[] y) <int64[2] s = {4611686018427387904, 8}>{ y = ConstantOfShape(s) }",
        "agraph (float[1, n] x) => (float[] y) <int64[2] s = {9223372036854775807, 1}> { y = Expand(x, s) }",
        "agraph (float[2] x) => (float[] y) <int64[1] s = {-5}> { y = ConstantOfShape(s) }",
        "agraph (float[1048576, 1048576] x) => (float[] y) <int64[2] s = {1048576, 1048576}>{ y = Tile(x, s) }",
    ],
)
def test_sizes_that_overflow(text: str) -> None:
    with pytest.raises(InvalidModelError):
        import_onnx(parser.parse_model(HEAD + text))


def test_a_negative_declared_size() -> None:
    model = relu_model()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -3
    with pytest.raises(InvalidModelError, match="the size -3 on axis 0"):
        import_onnx(model)


def test_deep_nesting() -> None:
    inner = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [onnx.ValueInfoProto(name="y")])
    for depth in range(40):
        node = helper.make_node("If", ["c"], [f"y{depth}"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph([node], "g", [], [onnx.ValueInfoProto(name=f"y{depth}")])
        if len(inner.SerializeToString()) > 2**16:
            break
    inputs = [value_info("x", X), value_info("c", np.array(True))]
    inner.input.extend(inputs)
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 17)])
    import_onnx(model)


MUTATED = [
    "agraph (float[n, 3, 8] x) => (float[] y) <int64[2] s = {0, -1}> {"
    " a = Conv <pads = [1, 1]> (x, w) b = Reshape(a, s) y = Softmax <axis = 1> (b) }",
    "agraph (float[2, 3] x, bool c) => (float[] y) <int64[1] one = {1}> {"
    " s = Shape(x) t = Slice(s, one, one) y = If (c) <"
    "then_branch = t () => (float[] p) { p = Relu(x) }, else_branch = e () => (float[] q) { q = Neg(x) }> }",
]


@pytest.mark.parametrize("text", MUTATED)
def test_changed_bytes_end_in_our_errors(text: str) -> None:
    model = parser.parse_model(HEAD + text)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((4, 3, 3), np.float32), "w"))
    data = model.SerializeToString()
    import_onnx(data)
    random = np.random.default_rng(0)
    for _ in range(3000):
        changed = bytearray(data)
        for _ in range(int(random.integers(1, 4))):
            changed[random.integers(len(data))] = random.integers(256)
        try:
            import_onnx(bytes(changed))
        except VitrifyError:
            continue


# What a model says of itself
def test_metadata() -> None:
    model = relu_model()
    model.producer_name, model.domain, model.doc_string, model.model_version = "maker", "org", "text", 7
    model.graph.doc_string = "graph text"
    model.metadata_props.add(key="k", value="v")
    model.graph.initializer.append(numpy_helper.from_array(X, "w"))
    model.graph.input.append(value_info("w", X))
    metadata = load_onnx(model).metadata
    assert (metadata.producer_name, metadata.graph_name, metadata.domain) == ("maker", "test", "org")
    assert (metadata.description, metadata.graph_description, metadata.version) == ("text", "graph text", 7)
    assert dict(metadata.custom_metadata_map) == {"k": "v"}
    assert metadata.overridable_initializers == ("w",)
