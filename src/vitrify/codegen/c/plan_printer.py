"""The plan in C: one function that runs the whole model, and the tables that describe it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vitrify.codegen.c.custom_call import custom_source, quoted
from vitrify.codegen.c.positions import PRELUDE, position, real
from vitrify.codegen.c.printer import kernel_source
from vitrify.debug import debug_level
from vitrify.ir.dims import Dim, DimLike, lower, provably_nonnegative, substitute, symbols, upper
from vitrify.ir.graph import Type
from vitrify.lower import plan as p
from vitrify.lower.loop import Kernel
from vitrify.lower.plan import Call, Instruction, Operand, Plan, Variant
from vitrify.lower.target import Target
from vitrify.lower.verify_loop import verify_kernel

QUICK_FLOPS = 20_000  # less work than this is not worth releasing the interpreter lock for
QUICK_BYTES = 1 << 16
LARGEST = float(1 << 47)  # bytes of address space: a plan that needs more cannot run


@dataclass(frozen=True)
class PrintedPlan:
    """``sources``: C text by name, the plan's own under ``plan``; ``names``: each call's kernel."""

    sources: dict[str, str]
    names: list[str]


def print_plan(plan: Plan, target: Target, variants: Sequence[Variant] = ()) -> PrintedPlan:
    """C text of every distinct kernel, and of the plan with its variants. With ``VITRIFY_DEBUG`` >= 1 every
    kernel is verified before it is printed (:class:`vitrify.errors.VerifyError`)."""
    checked = debug_level() >= 1
    sources: dict[str, str] = {}
    named: dict[Kernel, str] = {}
    names = []
    for one in (plan, *(v.plan for v in variants)):
        for call in one.calls():
            if call.kernel not in named:
                if checked:
                    verify_kernel(call.kernel, call.source)
                custom = call.kernel.custom
                template = re.sub(r"\W", "_", str(dict(call.kernel.schedule).get("template", "kernel")))
                kernel = replace(call.kernel, name="KERNEL")
                text = kernel_source(kernel, target) if custom is None else custom_source(custom, "KERNEL")
                name = f"k_{template}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
                if text:
                    sources[name] = custom_source(custom, name) if custom else text.replace("KERNEL", name)
                named[call.kernel] = name
            names.append(named[call.kernel])
    sources["plan"] = _program(plan, variants, named)
    return PrintedPlan(sources, names)


def _program(plan: Plan, variants: Sequence[Variant], names: dict[Kernel, str]) -> str:
    kernels = sorted({name for kernel, name in names.items() if not _in_python(kernel)})
    declared = "".join(f"void {n}(char *const *, const int64_t *, int64_t, char *);\n" for n in kernels)
    scratch = max(int(str(p.scratch_bytes)) for p in (plan, *(v.plan for v in variants)))
    order = list(dict.fromkeys(n for p in (plan, *(v.plan for v in variants)) for n in p.dims))
    printers = []
    first = 0
    for k, one in enumerate((plan, *(v.plan for v in variants))):
        printers.append(PlanPrinter(one, names, order, k, scratch, first))
        first += len(printers[-1].numbers)
    bodies = [text for printer in printers for text in (printer.arena(), printer.run())]
    tests = [" && ".join(f"dims[{order.index(n)}] == {size}" for n, size in v.dims) for v in variants]
    arena = "".join(f"    if ({test}) return arena_bytes_{k}(dims);\n" for k, test in enumerate(tests, 1))
    run = "".join(f"    if ({test}) {{ run_{k}(r); return; }}\n" for k, test in enumerate(tests, 1))
    late = max(p.late for p in (plan, *(v.plan for v in variants)))
    dispatch = (
        f"static int64_t arena_bytes(const int64_t *dims) {{\n{arena}    return arena_bytes_0(dims);\n}}\n\n"
        f"static void run(vt_run *r) {{\n    const int64_t *const dims = r->dims; (void)dims;\n{run}    run_0(r);\n}}\n"
    )
    base = printers[0]
    parts = [
        '#include "abi.h"\n',
        PRELUDE,
        declared,
        base.arguments(),
        base.check(),
        base.shapes(),
        *bodies,
        dispatch,
    ]
    return "\n".join([*parts, base.model(late)])


class PlanPrinter:
    """Prints one variant; ``order`` is that of the dims of all, the model's own first. ``first`` is the number of
    its first kernel call among those of all variants, which is the order of the manifest's kernels."""

    def __init__(
        self, plan: Plan, names: dict[Kernel, str], order: list[str], number: int, scratch: int, first: int
    ) -> None:
        self.plan, self.names, self.order, self.number, self.scratch = plan, names, order, number, scratch
        self.offsets = plan.shared.weights.offsets()
        self.lines: list[str] = []
        self.numbers = {id(call): first + n for n, call in enumerate(plan.calls())}

    def pos(self, value: DimLike) -> str:
        return position(substitute(value, self.plan.safe_names))

    # ---- tables

    def arguments(self) -> str:
        rows = {"input": [], "output": []}  # type: dict[str, list[str]]
        text = ""
        for kind, ports in (("input", self.plan.inputs), ("output", self.plan.outputs)):
            for number, (name, type_) in enumerate(ports):
                dims = "0"
                if kind == "input" and type_.shape:
                    values = ", ".join(self._bound_dim(n) for n in type_.shape)
                    dims = f"{kind}_dims_{number}"
                    text += f"static const int64_t {dims}[] = {{{values}}};\n"
                late = int(kind == "output" and number in self.plan.late_outputs)
                rows[kind].append(
                    f"{{{quoted(name)}, {type_.dtype.code}, {type_.dtype.itemsize}, {type_.rank}, {late}, {dims}}}"
                )
        for kind, found in rows.items():
            body = ", ".join(found) or "{0}"
            text += f"static const vt_arg {kind}s[] = {{{body}}};\n"
        return text

    def _bound_dim(self, size: DimLike) -> str:
        if isinstance(size, int):
            return str(size)
        return str(-1 - self.plan.dims.index(str(size)))

    def _locals(self, count: int | None = None) -> str:
        names = self.plan.dims[:count]
        at = self.order.index
        return "".join(f"    int64_t {self.plan.safe_names[n]} = dims[{at(n)}];\n" for n in names) + "".join(
            f"    (void){self.plan.safe_names[n]};\n" for n in names
        )

    def check(self) -> str:
        lines = [f"static vt_status check(int64_t *dims) {{\n    (void)dims;\n{self._locals(self.plan.bound)}"]
        for name in self.plan.dims[: self.plan.bound]:
            symbol = self.plan.safe_names[name]
            low, high = lower(symbol), upper(symbol)
            if low:
                lines.append(f"    if ({symbol} < {low}) return VT_ERR_DIMS;")
            if high is not None:
                lines.append(f"    if ({symbol} > {high}) return VT_ERR_DIMS;")
        sizes = [self.plan.arena_bytes, *(n for _, t in self.plan.outputs for n in _products(t))]
        for size in sizes:
            if isinstance(size, Dim) and not self._late(size):
                lines.append(f"    if ({self._too_large(size)}) return (int64_t)VT_ERR_OVERFLOW << 32;")
        for a, b in self.plan.checks:
            lines.append(f"    if ({self.pos(a)} != {self.pos(b)}) return VT_ERR_DIMS;")
        for _, type_ in self.plan.outputs:
            for n in type_.shape:
                if isinstance(n, Dim) and not self._late(n) and not provably_nonnegative(n):
                    lines.append(f"    if ({self.pos(n)} < 0) return VT_ERR_DIMS;")
        return "\n".join([*lines, "    return 0;", "}\n"])

    def _late(self, size: DimLike) -> bool:
        late = set(self.plan.dims[self.plan.bound :])
        return any(s.name in late for s in symbols(size))

    def _too_large(self, size: DimLike) -> str:
        """Whether so many bytes cannot be had."""
        return f"{real(substitute(size, self.plan.safe_names))} > {LARGEST:.1f}"

    def shapes(self) -> str:
        lines, at = [], 0
        for number, (_, type_) in enumerate(self.plan.outputs):
            for n in type_.shape:
                value = "0" if number in self.plan.late_outputs else self.pos(n)
                lines.append(f"    out[{at}] = {value};")
                at += 1
        body = "\n".join(lines)
        return (
            "static void shapes(const int64_t *dims, int64_t *out) {\n    (void)dims; (void)out;\n"
            f"{self._locals(self.plan.bound)}{body}\n}}\n"
        )

    def arena(self) -> str:
        value = self.pos(self.plan.arena_bytes)
        head = f"static int64_t arena_bytes_{self.number}(const int64_t *dims) {{\n    (void)dims;\n"
        return f"{head}{self._locals(self.plan.bound)}    return {value};\n}}\n"

    def model(self, late: int) -> str:
        plan = self.plan
        out_dims = sum(t.rank for _, t in plan.outputs)
        return (
            "const vt_model vt_plan = {\n"
            f"    VT_ABI_VERSION, {len(plan.inputs)}, {len(plan.outputs)}, {plan.bound}, {len(self.order)}, {late},\n"
            f"    {out_dims}, {int(self._is_quick())}, {self.scratch}, INT64_C({self.offsets[-1]}),\n"
            "    inputs, outputs, check, shapes, arena_bytes, run,\n};\n"
        )

    def _is_quick(self) -> bool:
        """Whether a run is over sooner than the interpreter lock could be given away and taken back."""
        flops = traffic = 0
        for call in self.plan.calls():
            k = call.kernel
            if k.custom or not (isinstance(k.flops, int) and isinstance(k.traffic, int) and k.tasks == 1):
                return False
            flops, traffic = flops + k.flops, traffic + k.traffic
        loops = any(_repeats(i) for i in self.plan.instructions)
        return flops < QUICK_FLOPS and traffic < QUICK_BYTES and not loops

    # ---- the run

    def run(self) -> str:
        self.lines = [f"static void run_{self.number}(vt_run *r) {{"]
        self.lines.append(
            "    char *const A = r->arena; const char *const W = r->weights; int64_t *const dims = r->dims;"
        )
        self.lines.append("    (void)A; (void)W; (void)dims;")
        self.lines.append(self._locals().rstrip("\n"))
        self._body(self.plan.instructions, 1)
        self.lines.append("}\n")
        return "\n".join(self.lines)

    def _body(self, body: list[Instruction] | tuple[Instruction, ...], depth: int) -> None:
        pad = "    " * depth
        for i in body:
            match i:
                case p.Call():
                    self._call(i, pad)
                case p.Allocate(number=number, size=size):
                    status = "r->status = (int64_t)VT_ERR_OVERFLOW << 32"
                    self.lines.append(f"{pad}if ({self._too_large(size)}) {{ {status}; return; }}")
                    self.lines.append(f"{pad}if (r->late[{number}]) r->host->release(r->late[{number}]);")
                    self.lines.append(f"{pad}r->late[{number}] = r->host->alloc(64, (size_t){self.pos(size)});")
                    self.lines.append(
                        f"{pad}if (!r->late[{number}]) {{ r->status = (int64_t)VT_ERR_MEMORY << 32; return; }}"
                    )
                case p.BindSymbol():
                    self._bind(i, pad)
                case p.Require(left=left, right=right, node=node):
                    word = f"((int64_t)VT_ERR_SHAPE << 32) | {node}"
                    self.lines.append(
                        f"{pad}if ({self.pos(left)} != {self.pos(right)}) {{ r->status = {word}; return; }}"
                    )
                case p.StoreInteger(operand=operand, value=value):
                    self.lines.append(f"{pad}*(int64_t *)({self.address(operand)}) = {self.pos(value)};")
                case p.Branch(condition=condition, then=then, otherwise=otherwise):
                    self.lines.append(f"{pad}if (*({self.address(condition)})) {{")
                    self._body(then, depth + 1)
                    self.lines.append(f"{pad}}} else {{")
                    self._body(otherwise, depth + 1)
                    self.lines.append(f"{pad}}}")
                case p.Repeat(variable=v, trips=trips, body=inner, node=node):
                    self.lines.append(f"{pad}for (int64_t {v} = 0; {v} < {self.pos(trips)}; {v}++) {{")
                    self.lines.append(f"{pad}    VT_TRIP(r, {node});")
                    self._body(inner, depth + 1)
                    self.lines.append(f"{pad}}}")
                case p.While():
                    self._while(i, pad, depth)
                case p.Grow():
                    self._grow(i, pad)
                case p.Swap(one=one, other=other):
                    a, b = f"r->late[{one}]", f"r->late[{other}]"
                    self.lines.append(f"{pad}{{ void *const held = {a}; {a} = {b}; {b} = held; }}")
                case p.SetDims(symbols=names, values=values):
                    news = " ".join(f"const int64_t s{k} = {self.pos(v)};" for k, v in enumerate(values))
                    sets = " ".join(f"{self._dim(name)} = s{k};" for k, name in enumerate(names))
                    self.lines.append(f"{pad}{{ {news} {sets} }}")
                case p.Publish(output=output, operand=operand, shape=shape):
                    self._publish(output, operand, shape, pad)

    def _dim(self, name: str) -> str:
        """The dim as what is assigned to."""
        return f"{self.plan.safe_names[name]} = dims[{self.order.index(name)}]"

    def _while(self, i: p.While, pad: str, depth: int) -> None:
        t = str(i.variable)
        self.lines.append(f"{pad}int64_t {t} = 0; {{")
        limit, condition = self.address(i.limit), self.address(i.condition)
        rooms = "".join(f" int64_t room_{n} = 0; (void)room_{n};" for n in i.stacks)
        self.lines.append(f"{pad}const int64_t {t}_limit = *(const int64_t *)({limit});{rooms}")
        self.lines.append(f"{pad}for (char more = *({condition}); more && {t} < {t}_limit; {t}++) {{")
        self.lines.append(f"{pad}    VT_TRIP(r, {i.node});")
        self._body(i.body, depth + 1)
        self.lines.append(f"{pad}    more = *({self.address(i.again)});")
        self.lines.append(f"{pad}}}}}")
        self.lines.append(f"{pad}{self._dim(i.count)} = {t};")

    def _grow(self, i: p.Grow, pad: str) -> None:
        """At least twice as large each time: entries are copied a constant number of times."""
        late, room = f"r->late[{i.number}]", f"room_{i.number}"
        overflow, memory = (f"{{ r->status = (int64_t)VT_ERR_{e} << 32; return; }}" for e in ("OVERFLOW", "MEMORY"))
        self.lines += [
            f"{pad}if ({self._too_large(i.size)}) {overflow}",
            f"{pad}if ({self.pos(i.size)} > {room}) {{",
            f"{pad}    const int64_t need = {self.pos(i.size)}, kept = {self.pos(i.used)};",
            f"{pad}    const int64_t used = kept < {room} ? kept : {room};",  # an entry larger than those before
            f"{pad}    const int64_t size = need > 2 * {room} ? need : 2 * {room};",
            f"{pad}    void *const block = r->host->alloc(64, (size_t)size);",
            f"{pad}    if (!block) {memory}",
            f"{pad}    if (used) __builtin_memcpy(block, {late}, (size_t)used);",
            f"{pad}    if ({late}) r->host->release({late});",
            f"{pad}    {late} = block; {room} = size;",
            f"{pad}}}",
        ]

    def _bind(self, i: p.BindSymbol, pad: str) -> None:
        name = self.plan.safe_names[i.symbol]
        value = f"*(const int64_t *)({self.address(i.operand)})"
        wrong = f"{name} != {value}" if i.known else f"{name} < 0"
        if not i.known:
            self.lines.append(f"{pad}{name} = dims[{self.order.index(i.symbol)}] = {value};")
        code = "VT_ERR_SHAPE" if i.known else "VT_ERR_SIZE"
        self.lines.append(f"{pad}if ({wrong}) {{ r->status = ((int64_t){code} << 32) | {i.node}; return; }}")

    def _publish(self, output: int, operand: Operand, shape: tuple[DimLike, ...], pad: str) -> None:
        start = sum(t.rank for _, t in self.plan.outputs[:output])
        self.lines.append(f"{pad}r->outputs[{output}] = {self.address(operand)};")
        for k, n in enumerate(shape):
            self.lines.append(f"{pad}r->out_shapes[{start + k}] = {self.pos(n)};")

    def address(self, operand: Operand) -> str:
        place, offset = operand.place, operand.offset
        base = {
            "input": f"r->inputs[{place.number}]", "output": f"r->outputs[{place.number}]", "arena": "A",
            "weight": "(char *)W", "late": f"(char *)r->late[{place.number}]", "status": "(char *)&r->status",
        }[place.kind]  # fmt: skip
        if place.kind == "arena":
            offset = offset + self.plan.blocks[place.number].offset
        elif place.kind == "weight":
            offset = offset + self.offsets[place.number]
        return base if isinstance(offset, int) and offset == 0 else f"{base} + {self.pos(offset)}"

    def _call(self, call: Call, pad: str) -> None:
        name = self.names[call.kernel]
        buffers = ", ".join(self.address(o) for o in call.operands)
        dims = ", ".join(self.pos(d) for d in call.dims)
        tasks = position(call.kernel.tasks)
        source = call.source.replace("*/", "* /").replace("\n", " ")
        arguments = f"char *const b[] = {{{buffers}}}; const int64_t d[] = {{{dims or '0'}}};"
        if _in_python(call.kernel):
            number = self.plan.shared.custom_calls[call.kernel.custom] if call.kernel.custom else 0
            failed = f"r->status = (int64_t)VT_ERR_RAISED << 32 | d[{len(call.dims) - 1}]; return;"
            run = f"if (r->host->call({number}, b, d)) {{ {failed} }}"
        elif tasks == "1":
            run = f"{name}(b, d, 0, r->scratch);"
        else:
            passed = f"{name}, b, d, {tasks}, r->scratch, {self.scratch}, r->threads"
            parallel = f"r->host->parallel_for(r->host->pool, {passed});"
            run = parallel if tasks.isdigit() else f"if ({tasks} > 0) {parallel}"
        watched = f"VT_STOPS(r); {run} VT_DONE(r, {self.numbers[id(call)]});"
        self.lines.append(f"{pad}/* {json.dumps(source)[1:-1]} */ {{ {arguments} {watched} }}")
        if any(o.place.kind == "status" for o in call.operands):
            self.lines.append(f"{pad}if (r->status) return;")


def _in_python(kernel: Kernel) -> bool:
    """Whether the run leaves native code for it."""
    return kernel.custom is not None and not kernel.custom.c_source


def _repeats(instruction: Instruction) -> bool:
    inside = (*instruction.then, *instruction.otherwise) if isinstance(instruction, p.Branch) else ()
    return isinstance(instruction, p.Repeat | p.While) or any(map(_repeats, inside))


def _products(type_: Type) -> list[DimLike]:
    from vitrify.ir.dims import product

    return [product(type_.shape) * type_.dtype.itemsize]
