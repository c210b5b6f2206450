"""Loading a payload and making the builtin that runs it: the Python side of ``payload.h``.

A payload imports nothing, so everything it calls is looked up here and handed over as addresses:
the C library's threads and memory, CPython's functions, NumPy's array constructor.
"""

from __future__ import annotations

import _ctypes
import ctypes
import os
import sys
import threading
from collections.abc import Callable, Sequence
from ctypes import POINTER, Structure, addressof, c_char_p, c_int, c_int32, c_int64, c_uint32, c_void_p
from typing import Any

import numpy as np
from numpy._core import _multiarray_umath  # type: ignore[attr-defined]  # its stubs leave it out

from ..artifact.directory import MappedFile
from ..artifact.dtypes import CODES, DTYPES
from ..artifact.manifest import Port
from ..errors import ArtifactError, OutOfMemoryError, PlatformError
from .threads import available_cpus

ABI_VERSION = 1

#: What the builtin returns: all outputs; None for a feed not in native form; the status of a failure.
Result = list["np.ndarray[Any, Any]"] | int | None
NativeCall = Callable[[object], Result]


class _Os(Structure):
    _fields_ = [
        (name, c_void_p)
        for name in (
            "posix_memalign", "free", "madvise", "pthread_create", "pthread_detach", "pthread_mutex_init",
            "pthread_mutex_lock", "pthread_mutex_unlock", "pthread_cond_init", "pthread_cond_wait",
            "pthread_cond_signal", "sched_yield", "clock_gettime",
        )
    ]  # fmt: skip


class _Python(Structure):
    _fields_ = [
        ("object_size", c_int64),
        *(
            (name, c_void_p)
            for name in (
                "none", "dict_type", "array_type", "Py_IncRef", "Py_DecRef", "PyDict_GetItemWithError",
                "PyDict_Size", "PyList_New", "PyList_SetItem", "PyLong_FromLongLong", "PyCapsule_GetPointer",
                "PyErr_Clear", "PyEval_SaveThread", "PyEval_RestoreThread", "array_new",
            )
        ),
    ]  # fmt: skip


class _Config(Structure):
    _fields_ = [
        ("os", POINTER(_Os)),
        ("python", POINTER(_Python)),
        ("parallel_for", c_void_p),
        ("pool", c_void_p),
        ("weights", c_void_p),
        ("input_names", POINTER(c_void_p)),
        ("input_dtypes", POINTER(c_void_p)),
        ("output_dtypes", POINTER(c_void_p)),
        ("memory_limit", c_int64),
        ("threads", c_int32),
        ("kept_contexts", c_int32),
    ]


class _Arg(Structure):
    _fields_ = [
        ("name", c_char_p),
        ("dtype", c_int32),
        ("itemsize", c_int32),
        ("rank", c_int32),
        ("late", c_int32),
        ("dims", POINTER(c_int64)),
    ]


class _Model(Structure):
    _fields_ = [
        ("abi", c_uint32),
        ("n_inputs", c_int32),
        ("n_outputs", c_int32),
        ("n_bound", c_int32),
        ("n_dims", c_int32),
        ("n_late", c_int32),
        ("n_out_dims", c_int32),
        ("quick", c_int32),
        ("scratch_bytes", c_int64),
        ("weights_bytes", c_int64),
        ("inputs", POINTER(_Arg)),
        ("outputs", POINTER(_Arg)),
        ("check", c_void_p),
        ("shapes", c_void_p),
        ("arena_bytes", c_void_p),
        ("run", c_void_p),
    ]


class _Table(Structure):
    _fields_ = [
        ("abi", c_uint32),
        ("size", c_uint32),
        ("model", POINTER(_Model)),
        ("pool_create", ctypes.CFUNCTYPE(c_void_p, POINTER(_Os), c_int32)),
        ("pool_reset", ctypes.CFUNCTYPE(None, c_void_p)),
        ("parallel_for", c_void_p),
        ("session_create", ctypes.CFUNCTYPE(c_void_p, POINTER(_Config))),
        ("session_destroy", ctypes.CFUNCTYPE(None, c_void_p)),
        ("call", c_void_p),
    ]


class _MethodDef(Structure):
    _fields_ = [("name", c_char_p), ("method", c_void_p), ("flags", c_int), ("doc", c_char_p)]


class _ArrayFields(Structure):
    """NumPy's array after the object header, as the payload's ``array_fields``."""

    _fields_ = [
        ("data", c_void_p),
        ("rank", c_int),
        ("dims", POINTER(ctypes.c_ssize_t)),
        ("strides", POINTER(ctypes.c_ssize_t)),
        ("base", c_void_p),
        ("dtype", c_void_p),
        ("flags", c_int),
    ]


_METH_O = 0x8
# Positions in NumPy's table of C functions, which its binary interface fixes
_ARRAY_TYPE, _NEW_FROM_DESCR = 2, 94


def _address(function: Any) -> int | None:
    return ctypes.cast(function, c_void_p).value


def _array_table() -> Any:
    """NumPy's table of C functions, after checking that arrays are laid out as payloads read them."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = c_void_p, [ctypes.py_object, c_char_p]
    table = (c_void_p * (_NEW_FROM_DESCR + 1)).from_address(pointer(_multiarray_umath._ARRAY_API, None))
    probe = np.zeros((3, 5), np.float32)
    fields = _ArrayFields.from_address(id(probe) + object.__basicsize__)
    flags = int(probe.flags.c_contiguous) | int(probe.flags.aligned) << 8
    same = (
        table[_ARRAY_TYPE] == id(np.ndarray)
        and fields.rank == 2
        and fields.dtype == id(probe.dtype)
        and fields.data == probe.ctypes.data
        and (fields.dims[0], fields.dims[1]) == probe.shape
        and fields.flags & 0x101 == flags == 0x101
    )
    if not same:
        raise PlatformError(
            "this NumPy lays out its arrays in an unknown way", actual=f"NumPy {np.__version__}"
        )
    return table


class _Process:
    """What all sessions of a process share. Filled at the first load, never freed: pool threads live on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._provider: Payload | None = None
        os.register_at_fork(after_in_child=self._after_fork)

    def provide(self, payload: Payload) -> None:
        """At the first load: resolves the functions and makes the pool, whose code is this payload's."""
        with self._lock:
            if self._provider is not None:
                return
            libc = ctypes.CDLL(None)
            self.os = _Os(*[_address(getattr(libc, field[0])) for field in _Os._fields_])
            arrays = _array_table()
            functions = [field[0] for field in _Python._fields_ if field[0].startswith("Py")]
            self.python = _Python(
                object.__basicsize__, id(None), id(dict), id(np.ndarray),
                *[_address(getattr(ctypes.pythonapi, name)) for name in functions],
                arrays[_NEW_FROM_DESCR],
            )  # fmt: skip
            self.pool: int = payload.table.pool_create(ctypes.byref(self.os), available_cpus()) or 0
            if not self.pool:
                raise OutOfMemoryError("no memory for the thread pool")
            payload.pin()
            self._provider = payload

    @property
    def parallel_for(self) -> int:
        assert self._provider is not None
        address: int = self._provider.table.parallel_for
        return address

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # another thread may have held it
        if self._provider is not None:
            self._provider.table.pool_reset(self.pool)


_process = _Process()


class Payload:
    """A loaded payload; unloaded when nothing refers to it any more, unless it provides the pool."""

    def __init__(self, file: MappedFile) -> None:
        self._handle = 0
        # Through the descriptor, which stays open: a path could meanwhile name another file, and the
        # dynamic loader would take an equal path for the library it already has.
        self._file = file
        try:
            library = ctypes.CDLL(f"/proc/self/fd/{file.fd}", mode=ctypes.RTLD_LOCAL | os.RTLD_NOW)
        except OSError as error:
            raise PlatformError(f"{file.path}: the system cannot load it: {error}") from None
        self._handle = library._handle
        try:
            self.table = _Table.in_dll(library, "vt_payload")
        except ValueError:
            raise ArtifactError(f"{file.path}: not a payload: vt_payload is not in it") from None
        if (self.table.abi, self.table.size) != (ABI_VERSION, ctypes.sizeof(_Table)):
            raise ArtifactError(
                f"{file.path}: made for another runtime", expected=f"interface {ABI_VERSION}",
                actual=self.table.abi, hint="compile the model again with this version",
            )  # fmt: skip
        self.model = self.table.model.contents

    def pin(self) -> None:
        """Keeps the payload loaded until the process ends: pool threads run its code."""
        self._handle = 0

    def check(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
        """Raises ArtifactError unless the payload's arguments are those of the manifest."""
        model = self.model
        found = [
            [(arg.name.decode(), arg.dtype, arg.itemsize, arg.rank) for arg in args[:count]]
            for args, count in ((model.inputs, model.n_inputs), (model.outputs, model.n_outputs))
        ]
        stated = [
            [(p.name, CODES[p.dtype], DTYPES[CODES[p.dtype]].itemsize, len(p.dims)) for p in ports]
            for ports in (inputs, outputs)
        ]
        if found != stated:
            raise ArtifactError(
                "payload and manifest disagree on inputs and outputs", expected=stated, actual=found,
                hint="compile the model again",
            )  # fmt: skip

    def __del__(self) -> None:
        # At the end of the process other threads may still be inside.
        if self._handle and not sys.is_finalizing():
            _ctypes.dlclose(self._handle)


class NativeSession:
    """The native state of one session. Owned by its builtin, so that it lives as long as a call can."""

    def __init__(
        self,
        payload: Payload,
        weights: MappedFile | None,
        names: Sequence[str],
        input_dtypes: Sequence[np.dtype[Any]],
        output_dtypes: Sequence[np.dtype[Any]],
        *,
        threads: int,
        memory_limit: int,
    ) -> None:
        self._session: int | None = None
        _process.provide(payload)
        self._payload = payload
        self._objects = (list(names), list(input_dtypes), list(output_dtypes))
        self._arrays = [(c_void_p * max(len(part), 1))(*map(id, part)) for part in self._objects]
        self._weights = None if weights is None else np.frombuffer(weights.data, np.uint8)
        if payload.model.weights_bytes != (0 if self._weights is None else self._weights.size):
            raise ArtifactError("payload and weights disagree on their size", hint="compile the model again")
        config = _Config(
            ctypes.pointer(_process.os), ctypes.pointer(_process.python),
            _process.parallel_for, _process.pool,
            None if self._weights is None else self._weights.ctypes.data,
            *self._arrays, memory_limit, threads, available_cpus(),
        )  # fmt: skip
        self._session = payload.table.session_create(ctypes.byref(config))
        if not self._session:
            raise OutOfMemoryError("no memory for the session")
        doc = b"feed -> outputs, None or status"
        self._method = _MethodDef(b"run", payload.table.call, _METH_O, doc)

    def make_call(self) -> NativeCall:
        """The builtin. It holds this object, and must be the only one to be called on it."""
        api = ctypes.pythonapi
        capsule_new, function_new = api.PyCapsule_New, api.PyCFunction_NewEx
        capsule_new.restype, capsule_new.argtypes = ctypes.py_object, [c_void_p, c_char_p, c_void_p]
        function_new.restype = ctypes.py_object
        function_new.argtypes = [c_void_p, ctypes.py_object, ctypes.py_object]
        capsule = capsule_new(self._session, None, None)
        call: NativeCall = function_new(addressof(self._method), capsule, self)
        return call

    def __del__(self) -> None:
        if self._session and not sys.is_finalizing():
            self._payload.table.session_destroy(self._session)
            self._session = None
