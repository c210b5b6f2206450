"""A whole model lowered: the plan with its arena laid out."""

from __future__ import annotations

from vitrify.ir.dims import Dim, DimLike, maximum, product, substitute, symbols
from vitrify.ir.graph import Graph, Value
from vitrify.lower import plan as p
from vitrify.lower.build import Lowering, LowerOptions
from vitrify.lower.coded_weights import with_coded_weights
from vitrify.lower.control import lower_body
from vitrify.lower.inplace import root_block, share_blocks, without_idle_copies
from vitrify.lower.memory import assign_offsets
from vitrify.lower.plan import Place, Placement, Plan, Shared
from vitrify.lower.safe_dims import with_safe_dims
from vitrify.lower.target import Target
from vitrify.lower.views import row_major


def lower_model(
    graph: Graph, target: Target, options: LowerOptions | None = None, shared: Shared | None = None
) -> Plan:
    """The plan of ``graph`` for ``target``; ``shared`` is common to the variants of one model."""
    low = Lowering(target, options or LowerOptions(), shared=shared or Shared())
    model, (graph, safe) = graph, with_safe_dims(with_coded_weights(graph))
    low.symbols = {str(dim): dim for dim in safe.values()}
    low.model_names = {str(dim): name for name, dim in safe.items()}
    for number, value in enumerate(graph.inputs):
        low.placements[value] = Placement(Place("input", number), 0, row_major(value.shape), value.dtype)
    bound = _bound_symbols(graph)
    unknown = [name for name in low.symbols if name not in bound]
    low.late_symbols = set(unknown)
    late = {i for i, v in enumerate(graph.outputs) if any(low.is_late(n) for n in v.shape)}
    results = [_own_block(low, v) if i in late else _output(i, v) for i, v in enumerate(graph.outputs)]
    lower_body(low, graph, results)
    for i in sorted(late):
        low.emit(p.Publish(i, results[i].operand(), graph.outputs[i].shape))
    names = model.output_names or tuple(v.name for v in graph.outputs)
    measured = _measured(model)
    plan = Plan(
        model.name, [(v.name, v.type) for v in model.inputs],
        [(n, v.type) for n, v in zip(names, model.outputs, strict=True)],
        late, [*(low.model_names[n] for n in bound), *measured, *(low.model_names[n] for n in unknown)],
        len(bound) + len(measured),
        [*_checks(graph, set(bound)), *((dim, substitute(size, safe)) for dim, size in measured.values())],
        low.instructions, low.blocks,
        low.shared, low.late,
    )  # fmt: skip
    plan.safe_names = {**safe, **{text: dim for text, (dim, _) in measured.items()}}
    if not low.options.reuse:
        for block in low.blocks:
            block.birth, block.death = 0, len(low.instructions)
    lies_in = share_blocks(low.calls, low.blocks) if low.options.reuse else {}
    plan.instructions = without_idle_copies(plan.instructions, lies_in)
    arena = assign_offsets([b for i, b in enumerate(low.blocks) if i not in lies_in])
    plan.arena_bytes = substitute(arena, {new: Dim.symbol(name) for new, name in low.model_names.items()})
    for inner, outer in lies_in.items():
        low.blocks[inner].offset = low.blocks[root_block(lies_in, outer)].offset
    plan.scratch_bytes = low.scratch
    return plan


def _output(number: int, value: Value) -> Placement:
    return Placement(Place("output", number), 0, row_major(value.shape), value.dtype)


def _own_block(low: Lowering, value: Value) -> Placement:
    """A block for a result whose size the run finds out; allocated before its first use."""
    place = Place("late", low.late)
    low.late += 1
    low.unsized[place.number] = p.Allocate(place.number, maximum(product(value.shape) * value.dtype.itemsize, 1))
    return Placement(place, 0, row_major(value.shape), value.dtype)


def _bound_symbols(graph: Graph) -> list[str]:
    """Dims that are a plain symbol somewhere in an input, in order of appearance."""
    found: dict[str, None] = {}
    for value in graph.inputs:
        for size in value.shape:
            if isinstance(size, Dim) and str(size) in graph.symbols:
                found.setdefault(str(size))
    return list(found)


def _measured(graph: Graph) -> dict[str, tuple[Dim, Dim]]:
    """Dims of inputs that are expressions, such as ``2*n``, by their text: what an array has there is bound to a
    symbol of its own, which a run must find equal to the expression."""
    sizes = (size for value in graph.inputs for size in value.shape)
    found = {str(size): size for size in sizes if isinstance(size, Dim) and str(size) not in graph.symbols}
    return {text: (Dim.symbol(f"x{k}_measured"), size) for k, (text, size) in enumerate(found.items())}


def _checks(graph: Graph, bound: set[str]) -> list[tuple[DimLike, DimLike]]:
    """Equalities that a run's dims must satisfy."""
    return [pair for pair in dict.fromkeys(graph.assumptions) if all(s.name in bound for x in pair for s in symbols(x))]
