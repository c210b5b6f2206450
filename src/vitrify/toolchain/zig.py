"""The C compiler: clang and lld of the ``ziglang`` wheel, or a clang that the user names.

``zig clang`` and ``zig ld.lld`` are called directly: the driver ``zig cc`` turns ``-O3`` into ``-O2``,
keeps frame pointers and links a libc. Sources go in through standard input and objects come back
through standard output, so nothing is ever half-written and no path gets into an artifact.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from vitrify.errors import InvalidArgumentError, ToolchainError
from vitrify.lower.target import EXTENSIONS, Target
from vitrify.runtime.threads import available_cpus
from vitrify.toolchain.locate import CC_VARIABLE, locate

#: What ``sanitize`` may ask for.
SANITIZERS = ("address", "undefined")

_FLAGS = (
    "-O3", "-std=gnu17", "-ffreestanding", "-fno-builtin", "-fPIC", "-fvisibility=hidden",
    # the same bits everywhere: what the source says is what is computed
    "-ffp-contract=off", "-fno-math-errno", "-fno-strict-aliasing", "-fwrapv",
    "-fomit-frame-pointer", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-stack-protector",
    "-g0", "-fno-ident", "-w", "-fno-color-diagnostics",
)  # fmt: skip
_LINK_FLAGS = ("-shared", "-nostdlib", "--build-id=none", "--gc-sections", "-z", "noexecstack", "-z", "relro")
_EMULATIONS = {"x86_64": "elf_x86_64", "aarch64": "aarch64linux"}
_WINDOWS_LINK_FLAGS = (
    "-dll", "-noentry", "-machine:x64", "-lldmingw", "-nodefaultlib", "-opt:ref", "-timestamp:0", "-build-id:no",
    "-debug:none",
)  # fmt: skip
_MACOS_LINK_FLAGS = ("-dynamiclib", "-nostdlib", "-Wl,-s", "-Wl,-dead_strip", "-Wl,-install_name,@rpath/payload")
_SHOWN_FAILURES = 3
_SHOWN_LINES = 30


class ObjectStore(Protocol):
    """Where compiled objects are kept between processes; :class:`vitrify.cache.Cache` is one."""

    def read_object(self, key: str) -> bytes | None: ...

    def write_object(self, key: str, data: bytes) -> None: ...


#: Exit status, standard output and standard error.
Finished = tuple[int, bytes, bytes]


@dataclass
class _Children:
    """The running compilers, so that an interruption can end them."""

    running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: bool = False

    def run(self, command: Sequence[str], data: bytes, environment: Mapping[str, str]) -> Finished:
        """Runs ``command`` to its end, with ``data`` as its standard input."""
        with self.lock:
            if self.stopped:
                return -1, b"", b"interrupted"
            pipe = subprocess.PIPE
            child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=dict(environment))
            self.running.add(child)
        try:
            out, err = child.communicate(data)
        finally:
            with self.lock:
                self.running.discard(child)
        return child.returncode, out, err

    def stop(self) -> None:
        with self.lock:
            self.stopped = True
            for child in self.running:
                child.kill()


def _first_lines(text: str, count: int) -> str:
    lines = text.strip().splitlines()
    more = len(lines) - count
    return "\n".join(lines[:count] + ([f"… {more} more lines"] if more > 0 else []))


class Compiler:
    """Compiles C text for a target and links it into a shared library that imports nothing.

    ``cc`` names a clang; without it the environment's ``VITRIFY_CC`` is used, and without that the
    compiler of the ``ziglang`` wheel. A system compiler is never chosen otherwise. ``store`` keeps
    objects between processes. Raises ToolchainError when the compiler is missing or is not a clang.
    """

    def __init__(self, cc: str | None = None, *, store: ObjectStore | None = None) -> None:
        located = locate(cc)
        # clang reads these as more include directories
        ignored = ("CPATH", "C_INCLUDE_PATH")
        self._environment = {k: v for k, v in os.environ.items() if k not in ignored}
        self.store = store
        self.program = located.path
        self.fingerprint = located.fingerprint
        if located.zig:
            self._cc = [str(self.program), "clang"]
            self._ld: list[str] | None = [str(self.program), "ld.lld"]
            self._headers = ["-nostdinc", "-isystem", str(self.program.parent / "lib" / "include")]
            return
        self._cc = [str(self.program)]
        self._ld = None
        self._headers = []
        if "clang" not in self.version:
            raise ToolchainError(
                f"{self.program} cannot compile what Vitrify generates", expected="a clang",
                actual=self.version, hint=f"set {CC_VARIABLE} to a clang",
            )  # fmt: skip
    @cached_property
    def version(self) -> str:
        """The first line of ``--version``."""
        try:
            command = [*self._cc, "--version"]
            found = subprocess.run(command, capture_output=True, check=True, timeout=60, text=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise ToolchainError(f"{self.program} does not run: {error}") from None
        return found.stdout.strip().split("\n", 1)[0]

    # ---- compiling

    def flags(self, target: Target, sanitize: Sequence[str] = ()) -> list[str]:
        """The C compiler's flags for ``target``, without include directories."""
        unknown = [s for s in sanitize if s not in SANITIZERS]
        if unknown:
            raise InvalidArgumentError("unknown sanitizer", expected=" or ".join(SANITIZERS), actual=unknown)
        flags = ["-target", target.triple, *_FLAGS, *_machine(target), *target.flags]
        if sanitize:
            # gcc's runtime, which is at hand where clang's is not, lacks the check of function types
            flags += ["-O1", "-g1", "-fno-omit-frame-pointer", f"-fsanitize={','.join(sanitize)}"]
            flags += ["-fno-sanitize=function", "-fsanitize-recover=undefined"]
        return flags

    def compile_objects(
        self,
        sources: Mapping[str, str],
        target: Target,
        *,
        flags: Sequence[str] = (),
        include: Sequence[Path] = (),
        jobs: int | None = None,
        on_done: Callable[[str, bool], None] | None = None,
        sanitize: Sequence[str] = (),
    ) -> dict[str, bytes]:
        """Object files by the sources' names, in their order.

        Equal texts are compiled once; objects that the store has are not compiled at all. ``jobs``
        compilers run at once, by default one for each CPU that this process may use. ``include`` are
        directories of headers, whose contents count for the store. ``on_done(name, compiled)`` is called
        in this thread as each object is there. Raises ToolchainError with the diagnostics of the sources
        that do not compile.
        """
        options = [*self.flags(target, sanitize), *flags]
        salt = _digest(self.fingerprint, repr(options), *_header_texts(include))
        command = [*self._cc, *options, *self._headers, *(f"-I{path}" for path in include)]
        command += ["-x", "c", "-c", "-", "-o", "-"]
        report = on_done or (lambda name, compiled: None)
        names: dict[str, list[str]] = {}
        for name, text in sources.items():
            names.setdefault(_digest(salt, text), []).append(name)
        found: dict[str, bytes] = {}
        for key, same in names.items():
            kept = self.store.read_object(key) if self.store else None
            if kept is not None:
                found[key] = kept
                for name in same:
                    report(name, False)
        missing = {key: (same[0], sources[same[0]]) for key, same in names.items() if key not in found}

        def done(key: str, data: bytes) -> None:
            found[key] = data
            if self.store:
                self.store.write_object(key, data)
            for name in names[key]:
                report(name, True)

        self._compile_all(command, missing, jobs or available_cpus(), done)
        by_name = {name: found[key] for key, same in names.items() for name in same}
        return {name: by_name[name] for name in sources}

    def _compile_all(
        self,
        command: Sequence[str],
        missing: Mapping[str, tuple[str, str]],
        jobs: int,
        done: Callable[[str, bytes], None],
    ) -> None:
        if not missing:
            return
        children = _Children()
        failures: list[tuple[str, str]] = []
        # the longest first, so that none is left running alone at the end
        order = sorted(missing, key=lambda key: -len(missing[key][1]))
        with ThreadPoolExecutor(min(jobs, len(order)), "vitrify-compile") as pool:
            try:
                pending: dict[Future[Finished], str] = {
                    pool.submit(children.run, command, missing[key][1].encode(), self._environment): key
                    for key in order
                }
                while pending:
                    for future in wait(pending, return_when=FIRST_COMPLETED).done:
                        key = pending.pop(future)
                        status, out, err = future.result()
                        if status == 0:
                            done(key, out)
                        else:
                            failures.append((missing[key][0], _diagnostics(missing[key][0], status, err)))
            except BaseException as error:
                children.stop()
                pool.shutdown(wait=True, cancel_futures=True)
                if isinstance(error, OSError):
                    raise ToolchainError(f"{self.program} cannot be started: {error}") from None
                raise
        if failures:
            raise _failed(self.program, failures)

    # ---- linking

    def link(self, objects: Mapping[str, bytes], target: Target, *, sanitize: Sequence[str] = ()) -> bytes:
        """A shared library of ``objects``, in their order; symbols that stay undefined are an error, but
        for the runtime's of a sanitized one (see :func:`sanitizer_libraries`)."""
        try:
            return self._link(objects, target, sanitize)
        except OSError as error:
            raise ToolchainError(
                f"linking needs temporary files: {error}", hint="free space, or set TMPDIR"
            ) from None

    def _link(self, objects: Mapping[str, bytes], target: Target, sanitize: Sequence[str]) -> bytes:
        options = [*_LINK_FLAGS, *([] if sanitize else ["-z", "defs", "-s"])]
        with tempfile.TemporaryDirectory(prefix="vitrify-") as folder:
            files = []
            for index, data in enumerate(objects.values()):
                path = Path(folder, f"{index}.o")
                path.write_bytes(data)
                files.append(path.name)
            Path(folder, "files").write_text("\n".join(files))
            environment = self._environment
            if target.os == "macos":
                # its linker keeps a cache, whose contents must not matter
                places = {f"ZIG_{kind}_CACHE_DIR": str(Path(folder, "cache")) for kind in ("LOCAL", "GLOBAL")}
                environment = {**environment, **places}
            command = self._link_command(target, options)
            try:
                result = subprocess.run(command, cwd=folder, capture_output=True, env=environment)
            except OSError as error:
                raise ToolchainError(f"{self.program} cannot be started: {error}") from None
            if result.returncode:
                text = result.stderr.decode(errors="replace")
                for index, name in enumerate(objects):
                    text = text.replace(f" {index}.o:", f" {name}:")
                raise ToolchainError(f"linking failed:\n{_first_lines(text, _SHOWN_LINES)}")
            return Path(folder, "payload").read_bytes()

    def _link_command(self, target: Target, options: Sequence[str]) -> list[str]:
        """What links the objects named in the file ``files`` into ``payload``."""
        if target.os == "linux" and self._ld:
            return [*self._ld, "-m", _EMULATIONS[target.arch], *options, "@files", "-o", "payload"]
        if target.os == "linux":
            passed = [o if o in ("-shared", "-nostdlib") else f"-Wl,{o}" for o in _joined(options)]
            return [*self._cc, "-target", target.triple, *passed, "@files", "-o", "payload"]
        if not self._ld:
            raise ToolchainError(
                f"{self.program} does not link for {target.name}", expected="the compiler of the ziglang wheel",
                hint=f"pip install 'vitrify[compile]', and unset {CC_VARIABLE}",
            )  # fmt: skip
        if target.os == "windows":
            return [str(self.program), "lld-link", *_WINDOWS_LINK_FLAGS, "@files", "-out:payload"]
        triple = f"{target.arch}-macos.11.0"
        return [str(self.program), "cc", "-target", triple, *_MACOS_LINK_FLAGS, "@files", "-o", "payload"]


def sanitizer_libraries() -> list[Path]:
    """gcc's runtime libraries of the sanitizers: what ``LD_PRELOAD`` must name for a process that loads a
    sanitized library. Raises ToolchainError when there is no gcc with them."""
    found = []
    for name in ("libasan.so", "libubsan.so"):
        try:
            shown = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True)
        except OSError as error:
            raise ToolchainError(f"no sanitizer runtime: {error}", hint="install gcc") from None
        path = Path(shown.stdout.strip())
        if not path.is_absolute():
            raise ToolchainError(f"no sanitizer runtime: gcc has no {name}")
        found.append(path.resolve())
    return found


def _machine(target: Target) -> list[str]:
    """Flags that select the CPU."""
    cpu = target.cpu.replace("_", "-")
    features = [EXTENSIONS.get(f, f) for f in target.features]
    if target.triple.startswith("x86_64"):
        return [f"-march={cpu}", *(f"-m{f}" for f in features)]
    return [f"-mcpu={'+'.join((cpu, *features))}"]


def _joined(options: Iterable[str]) -> list[str]:
    """``-z defs`` as ``-z,defs``."""
    result: list[str] = []
    for option in options:
        if result and result[-1] == "-z":
            result[-1] = f"-z,{option}"
        else:
            result.append(option)
    return result


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def _header_texts(include: Sequence[Path]) -> list[str]:
    return [path.read_text() for folder in include for path in sorted(folder.glob("*.h"))]


def _diagnostics(name: str, status: int, err: bytes) -> str:
    text = err.decode(errors="replace").replace("<stdin>", f"{name}.c")
    if status < 0:
        text += f"\nended by signal {-status}" + (" (out of memory?)" if status == -9 else "")
    return text


def _failed(program: Path, failures: Sequence[tuple[str, str]]) -> ToolchainError:
    names = ", ".join(name for name, _ in failures)
    texts = [_first_lines(text, _SHOWN_LINES) for _, text in failures[:_SHOWN_FAILURES]]
    shown = "\n".join(texts)
    if (rest := len(failures) - _SHOWN_FAILURES) > 0:
        shown += f"\n… and the diagnostics of {rest} more"
    return ToolchainError(
        f"{program.name} could not compile {names}:\n{shown}",
        hint="VITRIFY_DUMP=directory writes the generated sources",
    )
