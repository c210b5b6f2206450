"""Kernels in C: Loop IR printed statement by statement, with the definitions it uses before it."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from vitrify.codegen.c import functions
from vitrify.codegen.c.conversions import conversion
from vitrify.codegen.c.intrinsics import INTRINSICS
from vitrify.codegen.c.moves import move_definition, picked
from vitrify.codegen.c.positions import PRELUDE, position
from vitrify.codegen.c.types import element, register, typedefs
from vitrify.codegen.c.vmath import vmath_source
from vitrify.codegen.c.vmath_table import LANES
from vitrify.ir.dims import DimLike, symbols
from vitrify.ir.dtypes import BOOL, BY_NAME, F32, F64, I32, I64, U8, DType
from vitrify.ir.scalar import SCALAR
from vitrify.lower import loop as L
from vitrify.lower.loop import Data, Kernel, Stmt, VType
from vitrify.lower.target import Target

HEADER = "#include <stdint.h>\n"


@dataclass
class Definitions:
    """What the text so far uses, in the order of first use."""

    types: dict[VType, None] = field(default_factory=dict)
    functions: dict[tuple[str, VType], None] = field(default_factory=dict)
    vmath: dict[tuple[str, str, int], None] = field(default_factory=dict)
    pairs: dict[str, str] = field(default_factory=dict)  # vector math on two lanes, by name
    loads: dict[tuple[str, VType], None] = field(default_factory=dict)
    positions: bool = False

    def type(self, type_: VType) -> str:
        if type_ not in self.types:
            self.types[type_] = None
        return register(type_)

    def function(self, name: str, type_: VType) -> str:
        for needed, needed_type in functions.needs(name, type_):
            if needed:
                self.function(needed, needed_type)
            else:
                self.type(needed_type)
        self.functions.setdefault((name, type_))
        return f"vt_{name}_{type_}"

    def vector_math(self, name: str, dtype: str, arguments: Sequence[VType], result: VType) -> str:
        """The function ``name`` of the vector math; two lanes go through four where it has no such form."""
        lanes = result.lanes
        stem = f"vt_{name}x" if dtype == "cast" else f"vt_{name}_{dtype}x"
        for type_ in (*arguments, result):
            self.type(type_)
        if lanes != 2 or lanes in LANES[dtype]:
            self.vmath.setdefault((name, dtype, lanes))
            return f"{stem}{lanes}"
        self.vmath.setdefault((name, dtype, 4))
        for type_ in (*arguments, result):
            self.type(VType(type_.dtype, 4))
        names = "abc"[: len(arguments)]
        parameters = ", ".join(f"{register(t)} {n}" for t, n in zip(arguments, names, strict=True))
        wide = ", ".join(f"__builtin_shufflevector({n}, {n}, 0, 1, 0, 1)" for n in names)
        body = f"{register(VType(result.dtype, 4))} r = {stem}4({wide}); return __builtin_shufflevector(r, r, 0, 1);"
        self.pairs[f"{stem}2"] = f"static inline {register(result)} {stem}2({parameters}) {{ {body} }}"
        return f"{stem}2"

    def _vector_math(self) -> str:
        """The vector math, on our register types instead of its own definitions of them."""
        kept = []
        for line in vmath_source(self.vmath).splitlines() if self.vmath else ():
            declared = re.fullmatch(r"typedef .* vt_([a-z0-9]+)x(\d+)(?: __attribute__.*)?;", line)
            if declared:
                self.type(VType(BY_NAME[declared[1]], int(declared[2])))
            else:
                kept.append(line)
        return "\n".join(kept)

    def text(self) -> str:
        """Definitions in an order in which C accepts them."""
        math_text = self._vector_math()
        types = "\n".join(line for t in self.types for line in typedefs(t))
        local = "\n".join(functions.definition(name, t) for name, t in self.functions)
        moves = "\n".join(move_definition(name, t) for name, t in self.loads)
        pairs = "\n".join(self.pairs.values())
        parts = [types, PRELUDE if self.positions else "", math_text, pairs, local, moves]
        return "\n".join(p for p in parts if p)


class KernelPrinter:
    """Prints one kernel; the text depends on the kernel and the target alone."""

    def __init__(self, kernel: Kernel, target: Target) -> None:
        self.kernel = kernel
        self.target = target
        self.defs = Definitions()
        self.lines: list[str] = []
        self.dtypes: dict[str, DType] = {b.name: b.dtype for b in kernel.buffers}
        self.offsets = 0

    def source(self) -> str:
        k = self.kernel
        self._parameters()
        self._body(k.body, 1)
        head = f"void {k.name}(char *const *bufs, const int64_t *dims, int64_t task, char *scratch) {{"
        unused = "    (void)bufs; (void)dims; (void)task; (void)scratch;"
        body = "\n".join([head, unused, *self.lines, "}"])
        return f"{HEADER}{self.defs.text()}\n{body}\n"

    def _parameters(self) -> None:
        for i, buffer in enumerate(self.kernel.buffers):
            const = "" if buffer.written else "const "
            c = element(buffer.dtype)
            self._line(1, f"{const}{c} *{buffer.name} = ({const}{c} *)bufs[{i}];")
        for i, dim in enumerate(self.kernel.dims):
            self._line(1, f"const int64_t {dim} = dims[{i}]; (void){dim};")
        local: DimLike = 0
        for tile in self.kernel.tiles:
            c = element(tile.dtype)
            self.dtypes[tile.name] = tile.dtype
            self._line(1, f"{c} *{tile.name} = ({c} *)(scratch + {self._position(local)});")
            local = local + L.align64(tile.size * tile.dtype.itemsize)

    def _line(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    # ---- statements

    def _body(self, body: tuple[Stmt, ...], depth: int) -> None:
        for statement in body:
            self._statement(statement, depth)

    def _statement(self, s: Stmt, depth: int) -> None:
        match s:
            case L.Let(register=r, value=v):
                self._line(depth, f"{self.defs.type(r.type)} {r.name} = {self._data(v)};")
            case L.Assign(register=r, value=v):
                self._line(depth, f"{r.name} = {self._data(v)};")
            case L.Store():
                self._line(depth, self._store(s))
            case L.For():
                self._for(s, depth)
            case L.If(condition=c, then=then, otherwise=otherwise):
                self._line(depth, f"if ({self._data(c)}) {{")
                self._body(then, depth + 1)
                if otherwise:
                    self._line(depth, "} else {")
                    self._body(otherwise, depth + 1)
                self._line(depth, "}")
            case L.While(condition=c, body=body):
                self._line(depth, f"while ({self._data(c)}) {{")
                self._body(body, depth + 1)
                self._line(depth, "}")
            case L.Break():
                self._line(depth, "break;")
            case L.Bind(variable=v, value=value):
                self._line(depth, f"const int64_t {v} = {self._data(value)};")
            case L.Fail(code=code, node=node):
                word = (code << 32) | node
                self._line(
                    depth,
                    f"{{ int64_t ok = 0; __atomic_compare_exchange_n(status, &ok, INT64_C({word}), 0, 0, 0); "
                    "return; }",
                )
            case L.Prefetch(buffer=b, index=i, write=w):
                self._line(depth, f"__builtin_prefetch({b} + {self._position(i)}, {int(w)});")
            case L.Matrix():
                self._line(depth, self._matrix(s))
            case L.Comment(text=text):
                self._line(depth, f"/* {text} */")
            case L.Tile():
                pass  # declared with the parameters

    def _matrix(self, s: L.Matrix) -> str:
        """One AMX instruction."""
        address = f"{s.buffer} + {self._position(s.index)}"
        match s.operation:
            case "configure":
                rows = [s.rows] * 6 + [s.terms // 2] * 2
                columns = ", ".join(f"{2 * s.terms if i in (4, 5) else 64}, 0" for i in range(8))
                shape = f"{{1, 0, {'0, ' * 14}{columns}, {'0, ' * 16}{', '.join(map(str, rows))}}}"
                return f"{{ static const uint8_t shape[64] = {shape}; __builtin_ia32_tile_loadconfig(shape); }}"
            case "release":
                return "__builtin_ia32_tilerelease();"
            case "zero":
                return f"__builtin_ia32_tilezero({s.registers[0]});"
            case "load" | "store":
                name = "tileloadd64" if s.operation == "load" else "tilestored64"
                step = self._position(s.stride * self.dtypes[s.buffer].itemsize)
                return f"__builtin_ia32_{name}({s.registers[0]}, {address}, {step});"
            case "multiply":
                return f"__builtin_ia32_tdpbf16ps({', '.join(map(str, s.registers))});"
            case "dpbssd" | "dpbsud" | "dpbusd" | "dpbuud":
                return f"__builtin_ia32_t{s.operation}({', '.join(map(str, s.registers))});"
        raise ValueError(f"no matrix operation {s.operation!r}")

    def _for(self, s: L.For, depth: int) -> None:
        name, extent = str(s.variable), self._position(s.extent)
        if s.unrolled:
            self._line(depth, '_Pragma("clang loop unroll(full)")')
        step = f"{name} += {s.step}" if s.step != 1 else f"{name}++"
        self._line(depth, f"for (int64_t {name} = 0; {name} < {extent}; {step}) {{")
        self._body(s.body, depth + 1)
        self._line(depth, "}")

    def _store(self, s: L.Store) -> str:
        dtype, value = self.dtypes[s.buffer], self._data(s.value)
        lanes = s.value.type.lanes
        address = f"{s.buffer} + {self._position(s.index)}"
        if lanes == 1:
            return f"*({address}) = {value};"
        stored = VType(U8 if dtype is BOOL else dtype, lanes)
        name = self.defs.type(stored)
        if dtype is BOOL:
            value = f"__builtin_convertvector({value}, {name})"
        if s.stride == 1 and s.count is None:
            return f"*({name}u *)({address}) = {value};"
        count = self._position(lanes if s.count is None else s.count)
        if s.stride == 1:
            return f"{self._move('store', stored)}({address}, {value}, {count});"
        return f"{self._move('scatter', stored)}({address}, {self._position(s.stride)}, {value}, {count});"

    def _move(self, name: str, type_: VType) -> str:
        self.defs.type(type_)
        self.defs.type(VType(BOOL, type_.lanes))
        if name in ("store", "load", "head"):
            self.defs.type(VType(I32, type_.lanes))
        self.defs.loads.setdefault((name, type_))
        return f"vt_{name}_{type_}"

    # ---- data

    def _position(self, value: DimLike) -> str:
        text = position(value)
        if "vt_" in text:
            self.defs.positions = True
        return text

    def _data(self, d: Data) -> str:
        match d:
            case L.Literal(value=value, type=type_):
                text = literal(value, type_.dtype)
                return text if type_.lanes == 1 else f"({self.defs.type(type_)})({text})"
            case L.Register(name=name):
                return name
            case L.Load():
                return self._load(d)
            case L.GatherLoad():
                return self._gather(d)
            case L.Apply():
                return self._apply(d)
            case L.Convert(arg=arg, dtype=dtype, saturate=saturate):
                return self._convert(arg, dtype, saturate)
            case L.Splat(arg=arg, lanes=lanes):
                if lanes == 1:
                    return self._data(arg)
                return f"({self.defs.type(d.type)})({self._data(arg)})"
            case L.Position(value=value, dtype=dtype):
                return f"({self.defs.type(VType(dtype, 1))})({self._position(value)})"
            case L.Lanes(type=type_):
                if type_.lanes == 1:
                    return "0"
                return f"({self.defs.type(type_)}){{{', '.join(map(str, range(type_.lanes)))}}}"
            case L.Fold(fn=fn, arg=arg):
                return self._fold(fn, arg)
            case L.Shuffle(a=a, b=b, chosen=chosen):
                picks = ", ".join(map(str, chosen))
                return f"__builtin_shufflevector({self._data(a)}, {self._data(b)}, {picks})"
            case L.Shuffle(a=a, b=b, chosen=chosen):
                picks = ", ".join(map(str, chosen))
                return f"__builtin_shufflevector({self._data(a)}, {self._data(b)}, {picks})"
            case L.Intrinsic(name=name, args=args, type=type_):
                text = INTRINSICS[name].text(type_, tuple(a.type for a in args))
                for a in args:
                    self.defs.type(a.type)
                self.defs.type(type_)
                return text.format(*(self._data(a) for a in args))

    def _load(self, d: L.Load) -> str:
        dtype, lanes = self.dtypes[d.buffer], d.type.lanes
        address = f"{d.buffer} + {self._position(d.index)}"
        if lanes == 1:
            text = f"*({address})" if d.mask is None else f"({self._data(d.mask)} ? *({address}) : 0)"
            return f"({text} != 0)" if dtype is BOOL else text
        memory = VType(U8 if dtype is BOOL else dtype, lanes)
        name = self.defs.type(memory)
        if d.mask is not None:
            text = self._masked_load(d, memory, address)
        elif d.stride == 0:
            text = f"({name})(*({address}))"
        elif d.stride == 1 and d.count is None:
            text = f"*(const {name}u *)({address})"
        elif d.stride == 1:
            count = self._position(d.count if d.count is not None else lanes)
            text = f"{self._move('load', memory)}({address}, {count})"
        elif d.count is None and picked(d.stride, lanes):
            text = f"{self._move(f'collect_by{d.stride}', memory)}({address})"
        else:
            count = self._position(lanes if d.count is None else d.count)
            text = f"{self._move('collect', memory)}({address}, {self._position(d.stride)}, {count})"
        return self._to_bool(text, dtype, lanes)

    def _masked_load(self, d: L.Load, memory: VType, address: str) -> str:
        mask = self._data(d.mask) if d.mask is not None else ""
        if d.count is not None:
            head = self._move("head", VType(BOOL, memory.lanes))
            mask = f"({mask} & {head}({self._position(d.count)}))"
        if d.stride == 1:
            return f"{self._move('maskload', memory)}({address}, {mask})"
        if picked(d.stride, memory.lanes):
            return f"{self._move(f'maskcollect_by{d.stride}', memory)}({address}, {mask})"
        return f"{self._move('maskcollect', memory)}({address}, {self._position(d.stride)}, {mask})"

    def _to_bool(self, text: str, dtype: DType, lanes: int) -> str:
        if dtype is not BOOL:
            return text
        return f"__builtin_convertvector({text}, {self.defs.type(VType(BOOL, lanes))})"

    def _gather(self, d: L.GatherLoad) -> str:
        dtype, lanes = self.dtypes[d.buffer], d.type.lanes
        address = f"{d.buffer} + {self._position(d.index)}"
        positions = self._data(d.positions)
        if lanes == 1:
            text = f"({address})[{positions}]"
            text = f"({text} != 0)" if dtype is BOOL else text
            return text if d.mask is None else f"({self._data(d.mask)} ? {text} : 0)"
        memory = VType(U8 if dtype is BOOL else dtype, lanes)
        wide = f"__builtin_convertvector({positions}, {self.defs.type(VType(I64, lanes))})"
        mask_type = self.defs.type(VType(BOOL, lanes))
        mask = self._data(d.mask) if d.mask is not None else f"~({mask_type})(0)"
        return self._to_bool(f"{self._move('gather', memory)}({address}, {wide}, {mask})", dtype, lanes)

    def _apply(self, d: L.Apply) -> str:
        row, type_ = SCALAR[d.fn], d.args[-1].type
        args = [self._data(a) for a in d.args]
        if type_.dtype is BOOL and d.fn in ("eq", "ne"):
            text = f"({args[0]} ^ {args[1]})"
            return text if d.fn == "ne" else f"(~{text})" if type_.lanes > 1 else f"(!{text})"
        if d.fn == "quotient" or (d.fn == "fmod" and not type_.dtype.is_float):
            name = "quotient" if d.fn == "quotient" else "fmod_int"
            return f"{self.defs.function(name, type_)}({', '.join(args)})"
        template = row.c_float if type_.dtype.is_float else row.c_int
        if template.startswith("vt_"):
            name = template[3:]
            if name in functions.LOCAL:
                return f"{self.defs.function(name, type_)}({', '.join(args)})"
            function = self.defs.vector_math(name, type_.dtype.name, [a.type for a in d.args], type_)
            return f"{function}({', '.join(args)})"
        if row.name == "isnan":
            return f"{self.defs.function('isnan', type_)}({args[0]})"
        text = template.format(*args)
        if row.predicate and type_.lanes > 1:
            return f"__builtin_convertvector({text}, {self.defs.type(VType(BOOL, type_.lanes))})"
        if not row.predicate and type_.lanes == 1 and type_.dtype.is_int and type_.dtype.itemsize < 4:
            return f"(({self.defs.type(type_)}){text})"  # undo C's promotion to int
        return text

    def _convert(self, arg: Data, dtype: DType, saturate: bool) -> str:
        source = arg.type
        if source.dtype is dtype:
            return self._data(arg)
        return conversion(self, self._data(arg), source, dtype, saturate)

    def _fold(self, fn: str, arg: Data) -> str:
        name = self.defs.function(f"fold_{fn}", arg.type) if arg.type.lanes > 1 else ""
        return f"{name}({self._data(arg)})" if name else self._data(arg)


def literal(value: float | int | bool, dtype: DType) -> str:
    """An exact C constant."""
    if dtype is BOOL:
        return "1" if value else "0"
    if dtype in (F32, F64):
        number = float(value)
        if dtype is F32:
            number = struct.unpack("f", struct.pack("f", number))[0] if math.isfinite(number) else number
        suffix = "f" if dtype is F32 else ""
        if math.isnan(number):
            return f'__builtin_nan{suffix}("")'
        if math.isinf(number):
            return f"{'-' if number < 0 else ''}__builtin_inf{suffix}()"
        return f"{number.hex()}{suffix}"
    if dtype.is_float:
        raise ValueError(f"a literal of {dtype}: constants of narrow floats are f32 converted")
    whole = int(value)
    if whole == -(2**63):
        return "INT64_MIN"
    if dtype.itemsize == 8:
        return f"{'U' if dtype.min() == 0 else ''}INT64_C({whole})"
    return f"{whole}u" if dtype.min() == 0 else str(whole)


def kernel_source(kernel: Kernel, target: Target) -> str:
    """The C text of one kernel. ValueError for IR that C cannot say (a bug of a template)."""
    scope = {"task", *kernel.dims}
    loose = {s.name for s in symbols(kernel.tasks)} - scope
    if loose:
        raise ValueError(f"kernel {kernel.name}: tasks mentions {sorted(loose)}, not among its dims")
    return KernelPrinter(kernel, target).source()
