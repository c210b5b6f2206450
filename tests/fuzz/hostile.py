"""Models that ask for more than there is: numbers, sizes, names, depths and files out of all proportion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

HUGE = 2**40
Build = Callable[[], ModelProto]
BUILDERS: dict[str, Build] = {}


def hostile(build: Build) -> Build:
    BUILDERS[build.__name__] = build
    return build


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, Any] | None = None,
    *,
    shape: Sequence[int | str | None] = ("n",),
    dtype: int = TensorProto.FLOAT,
    name: str = "x",
    output: str = "y",
    opset: int = 21,
) -> ModelProto:
    """A model of one input ``x`` and the output ``y`` of whatever type."""
    graph = helper.make_graph(
        list(nodes), "g", [helper.make_tensor_value_info(name, dtype, shape)], [onnx.ValueInfoProto(name=output)],
        [numpy_helper.from_array(np.asarray(a), k) for k, a in (constants or {}).items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def node(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


# ---- sizes


@hostile
def constant_of_2_to_40_elements() -> ModelProto:
    return model([node("ConstantOfShape", "s")], {"s": [HUGE]})


@hostile
def sum_of_2_to_40_constants() -> ModelProto:
    nodes = [node("ConstantOfShape", "s", "c"), node("ReduceSum", "c", "r"), node("Add", "x r")]
    return model(nodes, {"s": [HUGE]})


@hostile
def shape_of_2_to_40_constants() -> ModelProto:
    return model([node("ConstantOfShape", "s", "c"), node("Shape", "c")], {"s": [HUGE]})


@hostile
def constants_read_as_a_shape() -> ModelProto:
    nodes = [node("ConstantOfShape", "s", "c"), node("Cast", "c", "d", to=7), node("Reshape", "x d")]
    return model(nodes, {"s": [HUGE]})


@hostile
def expansion_to_2_to_40_elements() -> ModelProto:
    return model([node("Expand", "x s")], {"s": [HUGE, 1]}, shape=[1])


@hostile
def expanded_constant() -> ModelProto:
    nodes = [node("Expand", "c s", "d"), node("NonZero", "d", "z"), node("Gather", "x z")]
    return model(nodes, {"s": [HUGE], "c": np.float32(1)})


@hostile
def tiles() -> ModelProto:
    return model([node("Tile", "x s")], {"s": [HUGE]}, shape=[3])


@hostile
def pads() -> ModelProto:
    return model([node("Pad", "x s")], {"s": [HUGE, HUGE]}, shape=[3])


@hostile
def range_of_2_to_40() -> ModelProto:
    nodes = [node("Range", "a b c", "r"), node("Cast", "r", "f", to=1), node("ReduceSum", "f", "s"), node("Add", "x s")]
    return model(nodes, {"a": np.int64(0), "b": np.int64(HUGE), "c": np.int64(1)})


@hostile
def range_of_floats() -> ModelProto:
    nodes = [node("Range", "a b c", "r"), node("ReduceSum", "r", "s"), node("Add", "x s")]
    return model(nodes, {"a": np.float32(0), "b": np.float32(1e30), "c": np.float32(1e-30)})


@hostile
def one_hot_of_depth_2_to_40() -> ModelProto:
    return model([node("OneHot", "x d v")], {"d": np.int64(HUGE), "v": np.float32([0, 1])}, dtype=TensorProto.INT64)


@hostile
def scales_of_2_to_40() -> ModelProto:
    return model([node("Resize", "x e s")], {"s": np.float32([HUGE]), "e": np.float32([])}, shape=[3])


@hostile
def doubled_constant() -> ModelProto:
    """Concatenated with itself 50 times."""
    nodes = [node("Concat", f"c{i} c{i}", f"c{i + 1}", axis=0) for i in range(50)]
    return model([*nodes, node("ReduceMax", "c50", "m", keepdims=0), node("Add", "x m")], {"c0": np.float32([1])})


@hostile
def rank_of_100000() -> ModelProto:
    return model([node("Relu", "x")], shape=[1] * 100_000)


@hostile
def rank_of_a_constant() -> ModelProto:
    return model([node("ConstantOfShape", "s", "c"), node("Add", "x c")], {"s": [1] * 100_000})


@hostile
def windows_of_2_to_62() -> ModelProto:
    return model([node("MaxPool", "x", kernel_shape=[2**62], pads=[2**61, 2**61])], shape=[1, 1, 8])


@hostile
def dilation_of_2_to_62() -> ModelProto:
    return model([node("Conv", "x w", dilations=[2**62])], {"w": np.ones((1, 1, 3), np.float32)}, shape=[1, 1, 8])


@hostile
def parts_of_2_to_40() -> ModelProto:
    return model([node("Split", "x", "y z", num_outputs=HUGE)])


@hostile
def transposed_by_a_million_axes() -> ModelProto:
    return model([node("Transpose", "x", perm=list(range(1_000_000)))])


@hostile
def transform_of_2_to_40() -> ModelProto:
    return model([node("DFT", "x n")], {"n": np.int64(HUGE)}, shape=[1, 8, 1])


@hostile
def window_of_2_to_40() -> ModelProto:
    nodes = [node("HannWindow", "n", "w"), node("ReduceSum", "w", "s"), node("Add", "x s")]
    return model(nodes, {"n": np.int64(HUGE)})


@hostile
def eye_of_2_to_40() -> ModelProto:
    nodes = [node("ConstantOfShape", "s", "c"), node("EyeLike", "c", "e"), node("MatMul", "e e", "m")]
    return model([*nodes, node("ReduceSum", "m", "t"), node("Add", "x t")], {"s": [2**20, 2**20]})


# ---- arithmetic of shapes


@hostile
def squared_numbers() -> ModelProto:
    """60 squarings of 2^62: a number of 2^66 bits."""
    nodes = [node("Mul", f"c{i} c{i}", f"c{i + 1}") for i in range(60)]
    return model([*nodes, node("Reshape", "x c60")], {"c0": np.int64([2**62])})


@hostile
def squared_sizes() -> ModelProto:
    """A polynomial of degree 2^40 in the size of an axis."""
    nodes = [node("Shape", "x", "c0")]
    for i in range(40):
        nodes += [node("Mul", f"c{i} c{i}", f"d{i}"), node("Add", f"d{i} c{i}", f"c{i + 1}")]
    return model([*nodes, node("ConstantOfShape", "c40")])


@hostile
def branching_sizes() -> ModelProto:
    """Each expression holds the one before twice, 200 times."""
    nodes = [node("Shape", "x", "c0")]
    for i in range(200):
        nodes += [node("Div", f"c{i} three", f"d{i}"), node("Mod", f"c{i} seven", f"e{i}")]
        nodes.append(node("Max", f"d{i} e{i}", f"c{i + 1}"))
    return model([*nodes, node("ConstantOfShape", "c200")], {"three": np.int64([3]), "seven": np.int64([7])})


@hostile
def many_terms() -> ModelProto:
    """The product of 40 sums of two sizes each."""
    shape = [f"d{i}" for i in range(8)]
    nodes = [node("Shape", "x", "s"), node("ReduceSum", "s", "c0", keepdims=1)]
    nodes += [node("Mul", f"c{i} c0", f"c{i + 1}") for i in range(40)]
    return model([*nodes, node("ConstantOfShape", "c40")], shape=shape)


# ---- depth and length


def nested(depth: int) -> ModelProto:
    """Made from the outside in, as protobuf refuses to copy what lies too deep."""
    made = ModelProto(ir_version=10, opset_import=[helper.make_opsetid("", 21)])
    graph = made.graph
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]))
    graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    for level in range(depth):
        graph.name = f"g{level}"
        graph.output.add(name=f"y{level}")
        branching = graph.node.add(op_type="If", input=["c"], output=[f"y{level}"])
        last = GraphProto(name="e", node=[node("Neg", "x", f"z{level}")])
        last.output.add(name=f"z{level}")
        branching.attribute.add(name="else_branch", type=onnx.AttributeProto.GRAPH).g.CopyFrom(last)
        graph = branching.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g
    graph.name = "inner"
    graph.node.add(op_type="Relu", input=["x"], output=["y"])
    graph.output.add(name="y")
    return made


@hostile
def nested_1000_deep() -> ModelProto:
    return nested(1000)


@hostile
def nested_30_deep() -> ModelProto:
    return nested(30)


def chain(count: int) -> ModelProto:
    nodes = [node("Sin", f"x{i}", f"x{i + 1}") for i in range(count)]
    return model([*nodes, node("Identity", f"x{count}")], name="x0")


@hostile
def chain_of_20000_nodes() -> ModelProto:
    return chain(20_000)


@hostile
def chain_of_2000_nodes() -> ModelProto:
    return chain(2000)


@hostile
def sum_of_100000_inputs() -> ModelProto:
    return model([node("Sum", " ".join(["x"] * 100_000))])


@hostile
def functions_that_double() -> ModelProto:
    """30 functions that call the one before twice."""
    made = model([helper.make_node("f30", ["x"], ["y"], domain="local")])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    made.functions.append(helper.make_function("local", "f0", ["p"], ["r"], [node("Relu", "p", "r")], opsets))
    for i in range(30):
        calls = [helper.make_node(f"f{i}", [a], [b], domain="local") for a, b in (("p", "q"), ("q", "r"))]
        made.functions.append(helper.make_function("local", f"f{i + 1}", ["p"], ["r"], calls, opsets))
    made.opset_import.add(domain="local", version=1)
    return made


def counted_loop(trips: int, body: Sequence[onnx.NodeProto]) -> onnx.NodeProto:
    graph = helper.make_graph(
        [*body, node("Identity", "cond", "again")], "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("cond", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, ["n"]),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, ["n"]),
        ],
    )  # fmt: skip
    return node("Loop", "trips yes x", "y", body=graph)


@hostile
def loop_of_2_to_60_trips() -> ModelProto:
    constants = {"trips": np.int64(2**60), "yes": np.array(True)}
    return model([counted_loop(2**60, [node("Neg", "v", "w")])], constants)


@hostile
def stacked_2_to_40_times() -> ModelProto:
    """A loop that stacks a value per trip."""
    made = loop_of_2_to_60_trips()
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.int64(HUGE), "trips"))
    made.graph.node[0].output.append("s")
    body = made.graph.node[0].attribute[0].g
    body.node.append(node("Neg", "v", "z"))
    body.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n"]))
    made.graph.output[0].name = "s"
    return made


# ---- names and texts


def named(name: str) -> ModelProto:
    nodes = [helper.make_node("Relu", [name], [name + "y"], name=name)]
    made = model(nodes, name=name, output=name + "y", shape=[name])
    made.graph.name = made.producer_name = made.graph.doc_string = name
    return made


@hostile
def names_with_nul() -> ModelProto:
    return named("a\0b")


@hostile
def names_of_a_megabyte() -> ModelProto:
    return named("n" * 2**20)


@hostile
def names_that_end_comments() -> ModelProto:
    return named('*/ " \\ \n #include "/etc/passwd" %s{x}')


@hostile
def equation_of_a_megabyte() -> ModelProto:
    return model([node("Einsum", "x", equation="i" * 2**20 + "->i")])


@hostile
def text_of_a_megabyte() -> ModelProto:
    return model([node("Pad", "x s", mode="m" * 2**20)], {"s": [1, 1]})


@hostile
def unknown_ops_of_a_megabyte() -> ModelProto:
    return model([helper.make_node("O" * 2**20, ["x"], ["y"], domain="d" * 2**20)])


# ---- ways round


@hostile
def branch_that_reads_its_own_result() -> ModelProto:
    inner = helper.make_graph([node("Relu", "y", "z")], "b", [], [onnx.ValueInfoProto(name="z")])
    return model([node("If", "c", then_branch=inner, else_branch=inner)], {"c": np.array(True)})


@hostile
def attributes_given_twice() -> ModelProto:
    made = model([node("Softmax", "x", axis=0)])
    made.graph.node[0].attribute.append(helper.make_attribute("axis", 7))
    return made
