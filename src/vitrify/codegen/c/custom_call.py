"""C that a user gives for an op, as a kernel: its types and attributes before it, the call of it after it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vitrify.codegen.c.types import ELEMENT
from vitrify.custom_ops import read_attributes
from vitrify.ir.dtypes import DTYPES
from vitrify.lower.loop import CustomCall, Slot

_HEAD = """#include <stddef.h>
#include <stdint.h>
"""
_ERROR = 7  # VT_ERR_CUSTOM of abi.h, with the op's own number above it


def custom_source(call: CustomCall, kernel: str) -> str:
    """The text of the function ``kernel``; empty for an op without C.

    ``docs/custom-ops.md`` says what the user's text may rely on: the types ``in0_t``, ``out0_t`` and so on, the macros
    ``IN0_RANK``, ``IN0_GIVEN``, ``IN0_f32``, and the constants ``ATTR_name``.
    """
    if not call.c_source:
        return ""
    name = call.label.partition("::")[2]
    head = [_HEAD]
    for kind, slots in (("in", call.arguments), ("out", call.results)):
        head += [_slot(kind, number, slot) for number, slot in enumerate(slots)]
    head += [_attribute(key, value) for key, value in read_attributes(call.attributes).items()]
    head.append(f"static int {name}({', '.join(_parameters(call))});\n")
    return "".join(
        [*head, f"#line 1 {quoted(call.c_file or call.label)}\n", call.c_source, "\n", _wrapper(call, name, kernel)]
    )


def _slot(kind: str, number: int, slot: Slot | None) -> str:
    type_, macro = f"{kind}{number}_t", f"{kind.upper()}{number}"
    if slot is None:
        return f"typedef void {type_};\n#define {macro}_GIVEN 0\n"
    dtype, rank = slot
    macros = f"#define {macro}_GIVEN 1\n#define {macro}_RANK {rank}\n#define {macro}_{dtype.name} 1\n"
    return f"typedef {ELEMENT[dtype.name]} {type_};\n{macros}"


def _parameters(call: CustomCall) -> list[str]:
    listed: list[str] = []
    for number, _ in enumerate(call.arguments):
        listed += [f"const in{number}_t *restrict", "const int64_t *"]
    for number, _ in enumerate(call.results):
        listed += [f"out{number}_t *restrict", "const int64_t *"]
    return listed


def _wrapper(call: CustomCall, name: str, kernel: str) -> str:
    passed: list[str] = []
    buffer = dim = 0
    slots = [("const in", n, s) for n, s in enumerate(call.arguments)]
    for prefix, number, slot in [*slots, *(("out", n, s) for n, s in enumerate(call.results))]:
        if slot is None:
            passed += ["NULL", "NULL"]
            continue
        passed += [f"({prefix}{number}_t *)b[{buffer}]", f"d + {dim}"]
        buffer, dim = buffer + 1, dim + slot[1]
    return (
        f"#line 1 {quoted(f'the call of {call.label}')}\n"
        f"void {kernel}(char *const *b, const int64_t *d, int64_t task, char *scratch) {{\n"
        f"    const int64_t status = {name}({', '.join(passed)});\n"
        f"    if (status) *(int64_t *)b[{buffer}] = ((status & 0x7fff) << 40) | ((int64_t){_ERROR} << 32) | d[{dim}];\n"
        "}\n"
    )


def _attribute(name: str, value: Any) -> str:
    label = f"ATTR_{name}"
    if isinstance(value, np.ndarray):
        return _array(label, value)
    if isinstance(value, list):
        kind = "const char *const" if value and isinstance(value[0], str) else _scalar_type(value)
        items = ", ".join(map(_literal, value)) or "0"
        return f"enum {{ {label}_COUNT = {len(value)} }};\nstatic {kind} {label}[] = {{{items}}};\n"
    if isinstance(value, str):
        return f"static const char {label}[] = {quoted(value)};\n"
    return f"static {_scalar_type([value])} {label} = {_literal(value)};\n"


def _scalar_type(values: list[Any]) -> str:
    return "const double" if any(isinstance(v, float) for v in values) else "const int64_t"


def _array(label: str, array: np.ndarray[Any, Any]) -> str:
    raw = np.ascontiguousarray(array).tobytes()
    element = next(ELEMENT[row.name] for row in DTYPES if row.numpy_name == array.dtype.name)
    data = ", ".join(map(str, raw)) or "0"
    dims = ", ".join(map(str, array.shape)) or "0"
    return (
        f"static const _Alignas(64) unsigned char {label}_bytes[] = {{{data}}};\n"
        f"#define {label} ((const {element} *){label}_bytes)\n"
        f"enum {{ {label}_COUNT = {array.size} }};\nstatic const int64_t {label}_DIMS[] = {{{dims}}};\n"
    )


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, float):
        if math.isnan(value):
            return '__builtin_nan("")'
        return value.hex() if math.isfinite(value) else ("-" if value < 0 else "") + "__builtin_inf()"
    return "INT64_MIN" if value == -(1 << 63) else f"INT64_C({value})"


def quoted(text: str) -> str:
    """A C string literal of the UTF-8 bytes."""
    data = text.encode("utf-8", "surrogatepass")
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in (34, 92, 63) else f"\\{b:03o}" for b in data) + '"'
