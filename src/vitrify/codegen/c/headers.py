"""What C and C++ programs include, written from what the compiler and the Python loader use themselves.

``python -m vitrify.codegen.c.headers`` writes the files anew; a test compares them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from ...artifact import leaks
from ...artifact.dtypes import DTYPES
from ...artifact.trust.keys import SMALL_ORDER
from ...artifact.trust.store import BUILT
from ...include import include_directory as public_directory
from ...runtime.cpu import TARGETS
from .native import include_directory

_ABOUT = """\
/* The C interface of Vitrify's payloads. Written by vitrify.codegen.c.headers from the headers that payloads are
 * compiled with; do not edit.
 *
 * An artifact's payload is a shared library that imports nothing and exports one symbol, `vt_payload`. A program
 *
 *   1. examines the artifact and the library (vitrify.hpp does; docs/artifacts.md says what that takes), and loads it;
 *   2. compares vt_payload.abi and .size with VT_ABI_VERSION and sizeof(vt_payload_table), and the manifest's "abi"
 *      with VT_ABI_DIGEST;
 *   3. once in a process: pool = vt_payload.provide(&os, NULL, cpus). That library is never unloaded; all sessions of
 *      all payloads get its `parallel_for` and this pool. After fork(), the child calls pool_reset(pool);
 *   4. vt_session *session = vt_payload.session_create(&config), with config.python NULL and `weights` the packed
 *      constants, aligned to 64 bytes;
 *   5. vt_payload.run(session, &request), from any number of threads. The dims of the inputs are compared with the
 *      model's; their element types and alignment are the caller's business. 0 is success, below 0 minus the bytes
 *      that a run over memory_limit would take, above 0 a vt_status;
 *   6. vt_payload.session_destroy(session), after the last run.
 *
 * Members that speak of Python objects (vt_python, input_names, input_dtypes, output_dtypes, capsule_end, call,
 * raised) are for Python's loader; other callers leave them NULL. The codes of element types in vt_arg.dtype are
 * those of VT_DTYPES.
 */
#ifndef VITRIFY_H
#define VITRIFY_H

#ifdef __cplusplus
extern "C" {
#endif

"""


def interface() -> str:
    """``vitrify.h``: abi.h and the part of payload.h that speaks of the library's one symbol."""
    abi = (include_directory() / "abi.h").read_text(encoding="utf-8")
    payload = (include_directory() / "payload.h").read_text(encoding="utf-8")
    shared, mark, _ = payload.partition("void vt_watch_clock(")
    if not mark:
        raise ValueError("payload.h has lost the line that ends what is shared")
    shared = shared.replace('#include "abi.h"\n\n', "")
    types = ", ".join(f'"{dtype.name}"' for dtype in DTYPES)
    return (
        f"{_ABOUT}{_c_and_cpp(abi)}\n/* SHA-256 of abi.h: the `abi` of a manifest whose payloads are called in this "
        f"way. */\n#define VT_ABI_DIGEST \"{hashlib.sha256(abi.encode()).hexdigest()}\"\n\n"
        f"/* Names of element types by code. */\n#define VT_DTYPES {types}\n\n{_c_and_cpp(shared)}"
        "#endif\n\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n"
    )


def _c_and_cpp(text: str) -> str:
    """Without the declaration of a plan, which only the payload itself has."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if "extern const vt_model vt_plan" not in line and "plan defines" not in line)


def tables() -> str:
    """``vitrify/tables.hpp``: what the C++ loader knows in common with Python's."""
    types = _rows(f'{{"{t.name}", {t.itemsize}, "{t.tensor_type}"}}' for t in DTYPES)
    targets = _rows(f'{{"{name}", "{" ".join(sorted(needs))}"}}' for name, needs in TARGETS.items())
    folders = _rows(f'"{name}"' for name in leaks.FOLDERS)
    weak = _rows(f'"{y.to_bytes(32, "little").hex()}"' for y in sorted(SMALL_ORDER))
    return f"""\
// What this loader knows in common with Python's. Written by vitrify.codegen.c.headers; do not edit.
#ifndef VITRIFY_TABLES_HPP
#define VITRIFY_TABLES_HPP

#include <cstddef>
#include <cstdint>

namespace vitrify::detail {{

struct TypeRow {{
    const char *name;
    std::size_t size;
    const char *shown;
}};

// Element types; a type's code is its index.
inline constexpr TypeRow types[] = {{
{types}}};

struct TargetRow {{
    const char *name;
    const char *features;
}};

// Targets with the CPU features they imply, the better ones later.
inline constexpr TargetRow targets[] = {{
{targets}}};

// Folders of local paths, which no artifact names.
inline constexpr const char *local_folders[] = {{
{folders}}};

// Ed25519 points whose order divides 8, as y coordinates: signatures under such keys can be forged.
inline constexpr const char *weak_points[] = {{
{weak}}};

// Seconds since 1970: no clock that says less is right.
inline constexpr std::int64_t built = {BUILT};

}}  // namespace vitrify::detail

#endif
"""


def _rows(rows: Iterable[str]) -> str:
    return "".join(f"    {row},\n" for row in rows)


def generated() -> dict[str, str]:
    """The files by their names in the directory of headers."""
    return {"vitrify.h": interface(), "vitrify/tables.hpp": tables()}


def write(directory: Path) -> None:
    """Writes the files below ``directory``."""
    for name, text in generated().items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(public_directory())
