"""Ops on strings, and movement of strings: steps of the host program."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from vitrify.frontends.onnx.arrays import dtype_of
from vitrify.frontends.onnx.body import Tensor, constant_tensor
from vitrify.frontends.onnx.edges import string_array
from vitrify.frontends.onnx.host import STRINGS, Held, dtype_of_kind, kind_of
from vitrify.frontends.onnx.host_call import HostCall, host
from vitrify.ir.dims import DimLike, Shape
from vitrify.ir.dtypes import I64

BOOLEANS, INTEGERS, FLOATS = "tensor(bool)", "tensor(int64)", "tensor(float)"


def broadcast_shape(n: HostCall, *shapes: Shape | None) -> Shape | None:
    """NumPy's rule, with a size of each run's own where symbols do not tell."""
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes):
        return None
    rank = max(map(len, known))
    own = n.fresh(rank)
    result: list[DimLike] = []
    for axis in range(-rank, 0):
        sizes = {shape[axis] for shape in known if len(shape) >= -axis} - {1}
        numbers = [size for size in sizes if isinstance(size, int)]
        if len(numbers) > 1:
            n.invalid("shapes that do not broadcast", actual=[list(map(str, shape)) for shape in known])
        one = next(iter(sizes), 1)
        result.append(numbers[0] if numbers else one if len(sizes) < 2 else own[rank + axis])
    return tuple(result)


def _strings(n: HostCall, *indices: int) -> None:
    for index in indices:
        if n.kind(index) != STRINGS:
            n.invalid(f"input {index} has the wrong type", expected=STRINGS, actual=n.kind(index))


@host("Constant", alone=True)
def constant(n: HostCall) -> Held:
    attributes = n.attributes
    if "value_string" in attributes:
        return n.program.constant(np.array(attributes.text("value_string", ""), object), "string")
    if "value_strings" in attributes:
        texts = attributes.texts("value_strings") or []
        array = np.empty(len(texts), object)
        array[:] = texts
        return n.program.constant(array, "string")
    tensor = attributes.raw_tensor("value")
    if tensor is None or tensor.data_type != onnx.TensorProto.STRING:
        n.unsupported("the constant's type")
    return n.program.constant(string_array(tensor), "string")


@host("StringConcat", since=20)
def string_concat(n: HostCall) -> Sequence[Held]:
    _strings(n, 0, 1)
    return n.step("StringConcat", [n.held(0), n.held(1)], [(STRINGS, broadcast_shape(n, n.shape(0), n.shape(1)))])


@host("StringNormalizer", since=10)
def string_normalizer(n: HostCall) -> Sequence[Held]:
    _strings(n, 0)
    shape = n.shape(0)
    rows = 1 if shape is None or len(shape) != 2 or not isinstance(shape[0], int) else shape[0]
    if shape is not None and (len(shape) not in (1, 2) or rows != 1):
        n.invalid("a tensor of another shape", expected="[C] or [1, C]", actual=list(map(str, shape)))
    n.attributes.ignore("locale")  # cases change as Unicode says, whatever the place
    return n.step(
        "StringNormalizer", [n.held(0)], [(STRINGS, None if shape is None else n.fresh(len(shape)))],
        case_change_action=n.attributes.text("case_change_action", "NONE"),
        is_case_sensitive=n.attributes.integer("is_case_sensitive", 0),
        stopwords=n.attributes.texts("stopwords") or None,
    )  # fmt: skip


@host("StringSplit", since=20)
def string_split(n: HostCall) -> Sequence[Held]:
    _strings(n, 0)
    shape = n.shape(0)
    most = n.attributes.integer("maxsplit") if "maxsplit" in n.attributes else None
    widened = None if shape is None else (*shape, *n.fresh(1))
    return n.step(
        "StringSplit", [n.held(0)], [(STRINGS, widened), (INTEGERS, shape)],
        delimiter=n.attributes.text("delimiter", ""), maxsplit=most,
    )  # fmt: skip


@host("RegexFullMatch", since=20)
def regex_full_match(n: HostCall) -> Sequence[Held]:
    _strings(n, 0)
    return n.step("RegexFullMatch", [n.held(0)], [(BOOLEANS, n.shape(0))], pattern=n.attributes.text("pattern", ""))


@host("Equal", since=19)
def equal(n: HostCall) -> Sequence[Held]:
    _strings(n, 0, 1)
    return n.step("Equal", [n.held(0), n.held(1)], [(BOOLEANS, broadcast_shape(n, n.shape(0), n.shape(1)))])


@host("Cast", since=6, alone=True)
def cast(n: HostCall) -> Sequence[Held] | Held:
    code = n.attributes.integer("to")
    n.attributes.ignore("saturate", "round_mode")
    if n.kind(0) == STRINGS:
        if code == onnx.TensorProto.STRING:
            return n.held(0)
        dtype = dtype_of(code)
        if dtype is None or not (dtype.is_float or dtype.is_int or dtype.is_bool) or dtype.bits < 8:
            n.unsupported("strings as numbers of this type")
        return n.step("CastFromString", [n.held(0)], [(f"tensor({dtype.onnx})", n.shape(0))], dtype=dtype.name)
    if code != onnx.TensorProto.STRING or dtype_of_kind(n.kind(0)) is None:
        n.unsupported(f"a cast of {n.kind(0)}")
    return n.step("CastToString", [n.held(0)], [(STRINGS, n.shape(0))])


# Movement
def _moves_strings(n: HostCall, index: int = 0) -> None:
    if n.kind(index) != STRINGS:
        held = n.held(index)
        n.unsupported(f"an input of type {kind_of(held)} that is only known when the model runs")


def _constant(n: HostCall, index: int) -> list[int] | None:
    held = n.held(index)
    contents = held.contents if isinstance(held, Tensor) else None
    if contents is None:
        return None
    items = [n.body.simplify(item) for item in contents.reshape(-1)]
    return [item for item in items if isinstance(item, int)] if all(isinstance(i, int) for i in items) else None


@host("Shape")
def shape(n: HostCall) -> Sequence[Held]:
    known = n.shape(0)
    start = n.attributes.integer("start", 0)
    stop = n.attributes.integer("end") if "end" in n.attributes else None
    count = None if known is None else (len(range(len(known))[start:stop]),)
    return n.step("Shape", [n.held(0)], [(INTEGERS, count)], start=start, end=stop)


@host("Size")
def size(n: HostCall) -> Sequence[Held]:
    return n.step("Size", [n.held(0)], [(INTEGERS, ())])


@host("Where", since=9)
def where(n: HostCall) -> Sequence[Held]:
    _moves_strings(n, 1)
    _strings(n, 2)
    made = broadcast_shape(n, n.shape(0), n.shape(1), n.shape(2))
    return n.step("Where", [n.held(0), n.held(1), n.held(2)], [(STRINGS, made)])


@host("Gather")
def gather(n: HostCall) -> Sequence[Held]:
    _moves_strings(n)
    axis = n.attributes.integer("axis", 0)
    x, at = n.shape(0), n.shape(1)
    made = None
    if x is not None and at is not None:
        over = axis + len(x) if axis < 0 else axis
        n.check(0 <= over < len(x), f"axis {axis} of a tensor of rank {len(x)}")
        made = (*x[:over], *at, *x[over + 1 :])
    return n.step("Gather", [n.held(0), n.held(1)], [(STRINGS, made)], axis=axis)


@host("Reshape", since=5)
def reshape(n: HostCall) -> Sequence[Held]:
    _moves_strings(n)
    wanted = _constant(n, 1)
    made = None if wanted is None else tuple(
        size if size > 0 else own for size, own in zip(wanted, n.fresh(len(wanted)), strict=True)
    )
    return n.step(
        "Reshape", [n.held(0), n.held(1)], [(STRINGS, made)], allowzero=n.attributes.integer("allowzero", 0)
    )


@host("Flatten")
def flatten(n: HostCall) -> Sequence[Held]:
    _moves_strings(n)
    shape, axis = n.shape(0), n.attributes.integer("axis", 1)
    sizes = [] if shape is None else [size for size in shape if isinstance(size, int)]
    if shape is None or len(sizes) < len(shape):
        n.unsupported("a tensor of strings of unknown shape")
    n.check(-len(sizes) <= axis <= len(sizes), f"axis {axis} of a tensor of rank {len(sizes)}")
    over = axis + len(sizes) if axis < 0 else axis
    target = [int(np.prod(sizes[:over], dtype=np.int64)), int(np.prod(sizes[over:], dtype=np.int64))]
    return n.step("Reshape", [n.held(0), _list(target)], [(STRINGS, tuple(target))], allowzero=1)


def _list(items: Sequence[int]) -> Tensor:
    return constant_tensor(np.array(items, np.int64), I64)


def _axes(n: HostCall) -> list[int] | None:
    """Axes as an attribute or an input; None where all are left out."""
    given = n.attributes.integers("axes")
    if given is not None or not n.has(1):
        return given
    axes = _constant(n, 1)
    if axes is None:
        n.unsupported("axes that only a run knows")
    return axes


@host("Unsqueeze")
def unsqueeze(n: HostCall) -> Sequence[Held]:
    _moves_strings(n)
    axes, shape = _axes(n), n.shape(0)
    if axes is None:
        n.invalid("axes are missing")
    made = None
    if shape is not None:
        rank = len(shape) + len(axes)
        n.check(all(-rank <= a < rank for a in axes), f"axes {axes} of a result of rank {rank}")
        places = {a % rank for a in axes}
        n.check(len(places) == len(axes), f"axes {axes} repeat")
        rest = iter(shape)
        made = tuple(1 if a in places else next(rest) for a in range(rank))
    return n.step("Unsqueeze", [n.held(0), _list(axes)], [(STRINGS, made)])


@host("Squeeze")
def squeeze(n: HostCall) -> Sequence[Held]:
    _moves_strings(n)
    axes, shape = _axes(n), n.shape(0)
    made = None
    if shape is not None and axes is not None:
        n.check(all(-len(shape) <= a < len(shape) for a in axes), f"axes {axes} of a tensor of rank {len(shape)}")
        gone = {a % len(shape) for a in axes}
        n.check(all(not isinstance(shape[a], int) or shape[a] == 1 for a in gone), f"axes {axes} are not of size 1")
        made = tuple(size for a, size in enumerate(shape) if a not in gone)
    elif shape is not None and all(isinstance(size, int) for size in shape):
        made = tuple(size for size in shape if size != 1)
    return n.step("Squeeze", [n.held(0), None if axes is None else _list(axes)], [(STRINGS, made)])


@host("Concat", since=4)
def concat(n: HostCall) -> Sequence[Held]:
    _moves_strings(n)
    axis = n.attributes.integer("axis")
    shapes = [n.shape(i) for i in range(len(n.inputs))]
    ranked = [shape for shape in shapes if shape is not None]
    made = None
    if len(ranked) == len(shapes):
        rank = len(ranked[0])
        n.check(all(len(shape) == rank for shape in ranked), "tensors of different ranks")
        n.check(-rank <= axis < rank, f"axis {axis} of a tensor of rank {rank}")
        over = axis % rank
        made = tuple(sum((s[a] for s in ranked[1:]), ranked[0][a]) if a == over else ranked[0][a] for a in range(rank))
    return n.step("Concat", [n.held(i) for i in range(len(n.inputs))], [(STRINGS, made)], axis=axis)


@host("Transpose")
def transpose(n: HostCall) -> Sequence[Held]:
    _moves_strings(n)
    shape, order = n.shape(0), n.attributes.integers("perm")
    if shape is not None and order is not None:
        n.check(sorted(order) == list(range(len(shape))), f"perm {order} of a tensor of rank {len(shape)}")
    axes = None if shape is None else order if order is not None else range(len(shape))[::-1]
    made = None if shape is None or axes is None else tuple(shape[a] for a in axes)
    return n.step("Transpose", [n.held(0)], [(STRINGS, made)], perm=order)


@host("Expand", since=8)
def expand(n: HostCall) -> Sequence[Held]:
    _moves_strings(n)
    wanted = _constant(n, 1)
    made = None if wanted is None else broadcast_shape(n, n.shape(0), tuple(wanted))
    return n.step("Expand", [n.held(0), n.held(1)], [(STRINGS, made)])
