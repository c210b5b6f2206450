"""Loading a payload and making the builtin that runs it: the Python side of ``payload.h``.

A payload imports nothing, so everything it calls is looked up here and handed over as addresses:
the C library's threads and memory, CPython's functions, NumPy's array constructor.
"""

from __future__ import annotations

import _ctypes
import ctypes
import os
import sys
from _thread import RLock, allocate_lock  # threading takes a millisecond to import
from collections.abc import Callable, Sequence
from ctypes import POINTER, Structure, addressof, c_char_p, c_int, c_int32, c_int64, c_uint32, c_void_p
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy._core import _multiarray_umath  # type: ignore[attr-defined]  # its stubs leave it out

from ..artifact.dtypes import CODES, DTYPES
from ..artifact.manifest import Port
from ..artifact.payload import Payload
from ..artifact.record import Record
from ..artifact.weights import Weights
from ..errors import OutOfMemoryError, PlatformError, SchemaError
from .threads import available_cpus

ABI_VERSION = 5
#: SHA-256 of abi.h: payloads are made for exactly this interface.
ABI_DIGEST = "defa996bd5fb8d3c0a50ab0dd0efbbb195a731fd96198aeed4701982ec32fc7b"

#: What the builtin returns: all outputs; None for a feed not in native form; the status of a failure.
Result = list["np.ndarray[Any, Any]"] | int | None
NativeCall = Callable[[object], Result]
#: The array that an output of this number and shape is written into.
OutputMaker = Callable[[int, tuple[int, ...]], "np.ndarray[Any, Any]"]
#: An op in Python: its number, addresses of its operands, their dims; 0, or 1 where it failed. It never raises.
OpCall = Callable[[int, Any, Any], int]


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
                "PyErr_Clear", "PyErr_CheckSignals", "PyErr_Fetch", "PyErr_Restore", "PyEval_SaveThread",
                "PyEval_RestoreThread", "PyGILState_Ensure", "PyGILState_Release", "array_new", "session_end",
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
        ("time_limit", c_int64),
        ("trip_limit", c_int64),
        ("arenas", POINTER(c_void_p)),
        ("call", c_void_p),
    ]


class Span(Structure):
    """A kernel call: its number in the manifest, and nanoseconds of the monotonic clock."""

    _fields_ = [("kernel", c_int64), ("start", c_int64), ("end", c_int64)]


class Watch(Structure):
    """What a run is watched by: ``vt_watch``."""

    _fields_ = [
        ("stop", POINTER(c_int32)),
        ("counts", POINTER(c_int64)),
        ("nanos", POINTER(c_int64)),
        ("spans", POINTER(Span)),
        ("capacity", c_int64),
        ("seen", c_int64),
        ("start", c_int64),
        ("end", c_int64),
        ("began", c_int64),
        ("time_limit", c_int64),
        ("trip_limit", c_int64),
    ]


_NativeOpCall = ctypes.CFUNCTYPE(c_int, c_int64, POINTER(c_void_p), POINTER(c_int64))
_OutputMemory = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_int32, POINTER(c_int64))


class _Request(Structure):
    _fields_ = [
        ("inputs", POINTER(c_void_p)),
        ("input_dims", POINTER(c_void_p)),
        ("output", _OutputMemory),
        ("caller", c_void_p),
        ("watch", POINTER(Watch)),
        ("raised", c_void_p * 3),
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
        ("provide", ctypes.CFUNCTYPE(c_void_p, POINTER(_Os), POINTER(_Python), c_int32)),
        ("pool_reset", ctypes.CFUNCTYPE(None, c_void_p)),
        ("parallel_for", c_void_p),
        ("capsule_end", c_void_p),
        ("session_create", ctypes.CFUNCTYPE(c_void_p, POINTER(_Config))),
        ("session_destroy", ctypes.CFUNCTYPE(None, c_void_p)),
        ("call", c_void_p),
        ("run", ctypes.CFUNCTYPE(c_int64, c_void_p, POINTER(_Request))),
        ("probe", ctypes.CFUNCTYPE(c_int64, c_int64)),
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
    pointer = ctypes.pythonapi["PyCapsule_GetPointer"]
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


def _fixed(arg: _Arg) -> list[int]:
    """An input's dims, -1 for those that are not numbers; nothing of an output, whose dims come of a run."""
    return [max(dim, -1) for dim in arg.dims[: arg.rank]] if arg.dims else []


class _Library:
    """A payload, opened once however many sessions use it.

    It is opened through a file that cannot change, so that what was checked is what is loaded. The dynamic loader
    remembers every name it opened a library by: the descriptor in the name stays open, hence unique, until the
    library is unloaded.
    """

    lock = RLock()  # recursive: the garbage collector may release one while another is opened
    loaded: ClassVar[dict[str, _Library]] = {}  # by the digest of the payload

    def __init__(self, file: Payload) -> None:
        self.file = file
        self.users = 0
        try:
            self.cdll = ctypes.CDLL(file.location, mode=ctypes.RTLD_LOCAL | os.RTLD_NOW)
        except OSError as error:
            raise PlatformError(f"{file.path}: the system cannot load it: {error}") from None
        try:
            self.table = _Table.in_dll(self.cdll, "vt_payload")
        except ValueError:
            _ctypes.dlclose(self.cdll._handle)
            raise SchemaError("not a payload: vt_payload is not in it", path=file.path) from None
        if (self.table.abi, self.table.size) != (ABI_VERSION, ctypes.sizeof(_Table)):
            found = f"interface {self.table.abi} of {self.table.size} bytes"
            _ctypes.dlclose(self.cdll._handle)
            raise SchemaError(
                "made for another runtime", path=file.path,
                expected=f"interface {ABI_VERSION} of {ctypes.sizeof(_Table)} bytes",
                actual=found, hint="compile the model again with this version",
            )  # fmt: skip
        try:
            file.check_mapped(addressof(self.table))
        except BaseException:
            _ctypes.dlclose(self.cdll._handle)
            raise
        self.model = self.table.model.contents

    @classmethod
    def acquire(cls, file: Payload) -> _Library:
        """The library of ``file``, loaded if it is not; for each call there has to be a release."""
        with cls.lock:
            library = cls.loaded.get(file.digest)
            if library is None:
                library = cls.loaded[file.digest] = cls(file)
            library.users += 1
            return library

    def release(self) -> None:
        with self.lock:
            self.users -= 1
            if self.users == 0:
                _Library.loaded = {key: other for key, other in self.loaded.items() if other is not self}
                _ctypes.dlclose(self.cdll._handle)

    def check(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
        """Raises SchemaError unless the payload's arguments are those of the manifest."""
        model = self.model
        found = [
            [(arg.name.decode(), arg.dtype, arg.itemsize, arg.rank, _fixed(arg)) for arg in args[:count]]
            for args, count in ((model.inputs, model.n_inputs), (model.outputs, model.n_outputs))
        ]
        stated = [
            [
                (
                    p.name, CODES[p.dtype], DTYPES[CODES[p.dtype]].itemsize, len(p.dims),
                    [dim if isinstance(dim, int) else -1 for dim in p.dims] if ports is inputs else [],
                )
                for p in ports
            ]
            for ports in (inputs, outputs)
        ]  # fmt: skip
        if found != stated:
            raise SchemaError(
                "payload and manifest disagree on inputs and outputs", expected=stated, actual=found,
                hint="compile the model again",
            )  # fmt: skip


class Memory(Record):
    """What a session does about memory. ``limit`` is in bytes, 0 for none; ``kept``: what a run needed is kept
    for the next one; ``shared``: sessions of the process lend each other what they keep."""

    limit: int = 0
    kept: bool = True
    shared: bool = False


class Limits(Record):
    """What a run may take: ``time`` in nanoseconds, ``trips`` of its loops together; 0 for any."""

    time: int = 0
    trips: int = 0


_NO_LIMITS = Limits()


class _Arenas:
    """Blocks that sessions lend each other, for as long as one of these sessions lives."""

    COUNT = 64

    def __init__(self) -> None:
        self.slots = (c_void_p * self.COUNT)()
        self.users = 0

    def leave(self, free: Any) -> None:
        self.users -= 1
        if self.users == 0:
            for index in range(self.COUNT):
                block, self.slots[index] = self.slots[index], None
                free(c_void_p(block))


class _Process:
    """What all sessions of a process share. Filled at the first load, never freed: pool threads live on."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._provider: _Library | None = None
        self.arenas = _Arenas()
        os.register_at_fork(after_in_child=self._after_fork)

    def provide(self, library: _Library) -> None:
        """At the first load: resolves the functions and makes the pool, whose code is this library's."""
        with self._lock:
            if self._provider is not None:
                return
            libc = ctypes.CDLL(None)
            self.os = _Os(*[_address(getattr(libc, field[0])) for field in _Os._fields_])
            arrays = _array_table()
            functions = [field[0] for field in _Python._fields_ if field[0].startswith("Py")]
            self.python = _Python(
                object.__basicsize__, id(None), id(dict), id(np.ndarray),
                *[_address(ctypes.pythonapi[name]) for name in functions],
                arrays[_NEW_FROM_DESCR],
                ctypes.cast(_end_callback, c_void_p),
            )  # fmt: skip
            table = library.table
            self.pool: int = (
                table.provide(ctypes.byref(self.os), ctypes.byref(self.python), available_cpus()) or 0
            )
            if not self.pool:
                raise OutOfMemoryError("no memory for the thread pool")
            # At the end of the process its threads still run, and sessions may still be destroyed.
            library.users += 1
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(_end_callback))
            self.parallel_for: int = table.parallel_for
            self.capsule_end: int = table.capsule_end
            self._provider = library

    def _after_fork(self) -> None:
        # Another thread may have held them.
        self._lock = allocate_lock()
        _Library.lock = RLock()
        if self._provider is not None:
            self._provider.table.pool_reset(self.pool)


_process = _Process()

#: Sessions by their address, each with its library, the objects that it refers to, and what to do at its end.
_sessions: dict[int, tuple[_Library, list[Any], Callable[[], None] | None]] = {}


_capsule_pointer = ctypes.PYFUNCTYPE(c_void_p, c_void_p, c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
_capsule_new = ctypes.PYFUNCTYPE(ctypes.py_object, c_void_p, c_char_p, c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_function_new = ctypes.PYFUNCTYPE(ctypes.py_object, c_void_p, ctypes.py_object, c_void_p)(
    ("PyCFunction_NewEx", ctypes.pythonapi)
)


def _end(
    capsule: int,
    # Bound here: at the end of the process a module's names go before the last session may.
    pointer: Any = _capsule_pointer,
    sessions: dict[int, tuple[_Library, list[Any], Callable[[], None] | None]] = _sessions,
    finalizing: Callable[[], bool] = sys.is_finalizing,
) -> None:
    """Frees a session when its capsule dies with the builtin, hence when no call can come any more. (A
    ``__del__`` would not do: in a reference cycle it runs while the builtin can still be called.)"""
    if not finalizing():  # else other threads may still be inside a run
        address = pointer(capsule, None)
        library, _, leave = sessions.pop(address)
        library.table.session_destroy(address)
        if leave is not None:
            leave()
        library.release()


_end_callback = ctypes.PYFUNCTYPE(None, c_void_p)(_end)


def _create(
    library: _Library,
    weights: Weights | None,
    objects: Sequence[Sequence[object]],
    threads: int,
    memory: Memory,
    limits: Limits,
    op_call: OpCall | None,
) -> tuple[int, list[Any]]:
    """The address of a new session, and what has to live as long."""
    _process.provide(library)
    arrays = [(c_void_p * max(len(part), 1))(*map(id, part)) for part in objects]
    constants = None if weights is None else np.frombuffer(weights.data, np.uint8)
    if library.model.weights_bytes != (0 if constants is None else constants.size):
        raise SchemaError("payload and weights disagree on their size", hint="compile the model again")
    callback = None if op_call is None else _NativeOpCall(op_call)
    config = _Config(
        ctypes.pointer(_process.os), ctypes.pointer(_process.python),
        _process.parallel_for, _process.pool,
        None if constants is None else constants.ctypes.data,
        *arrays, memory.limit, threads, available_cpus() if memory.kept else 0, *limits,
        _process.arenas.slots if memory.shared else None,
        None if callback is None else _address(callback),
    )  # fmt: skip
    address = library.table.session_create(ctypes.byref(config))
    if not address:
        raise OutOfMemoryError("no memory for the session")
    if memory.shared:
        _process.arenas.users += 1
    return address, [objects, arrays, constants, weights, callback]


class NativeSession:
    """A session of a payload. ``call`` is a builtin, feed -> outputs, None or status; the native session lives
    until it and this object are gone.

    ``dtypes`` are the exact dtype objects of the inputs' and the outputs' arrays. Raises PlatformError when
    the system cannot load the payload, SchemaError when payload, weights and manifest do not fit together,
    OutOfMemoryError. :meth:`check` has to be called before the first ``call``.
    """

    def __init__(
        self,
        payload: Payload,
        weights: Weights | None,
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        dtypes: tuple[Sequence[np.dtype[Any]], Sequence[np.dtype[Any]]],
        *,
        threads: int,
        memory: Memory,
        limits: Limits = _NO_LIMITS,
        op_call: OpCall | None = None,
    ) -> None:
        library = _Library.acquire(payload)
        try:
            library.check(inputs, outputs)
            objects = ([port.name for port in inputs], *dtypes)
            address, kept = _create(library, weights, objects, threads, memory, limits, op_call)
        except BaseException:
            library.release()
            raise
        method = _MethodDef(b"run", library.table.call, _METH_O, b"feed -> outputs, None or status")
        leave = partial(_process.arenas.leave, ctypes.CDLL(None).free) if memory.shared else None
        _sessions[address] = (library, [*kept, method], leave)
        capsule = _capsule_new(address, None, _process.capsule_end)
        self.call: NativeCall = _function_new(addressof(method), capsule, None)
        self._weights = weights
        self._address, self._table, self._model = address, library.table, library.model
        self._ranks = [len(port.dims) for port in outputs]
        # Made once: ctypes forgets array types that nobody holds, and takes long to make them.
        ranks = [len(port.dims) for port in inputs]
        self._pointers = c_void_p * max(len(inputs), 1)
        self._dims = c_int64 * max(sum(ranks), 1)
        self._starts = [8 * sum(ranks[:index]) for index in range(len(ranks))]

    def check(self) -> None:
        """Compares the weights with their digests, the first time. Raises IntegrityError, RaceError."""
        if self._weights is not None:
            self._weights.check()

    def run(
        self, arrays: Sequence[np.ndarray[Any, Any]], output: OutputMaker, watch: Watch | None = None
    ) -> int:
        """A run over ``arrays``, which are native and fit the model. ``output(index, shape)`` gives the array
        to write each output into, native and of that shape. 0, or a status as ``call`` gives them; what
        ``output`` raises is raised here, and so is what a signal's handler raises during a loop."""
        self.check()
        raised: list[BaseException] = []
        made: list[np.ndarray[Any, Any]] = []

        def memory(_: int | None, index: int, dims: Any) -> int:
            try:
                made.append(output(index, tuple(dims[: self._ranks[index]])))
                return int(made[-1].ctypes.data)
            except BaseException as error:  # noqa: BLE001  # goes on behind the native frames
                raised.append(error)
                return 0

        dims = self._dims(*[n for array in arrays for n in array.shape])
        request = _Request(
            self._pointers(*[array.ctypes.data for array in arrays]),
            self._pointers(*[addressof(dims) + start for start in self._starts]),
            _OutputMemory(memory),
            None,
            None if watch is None else ctypes.pointer(watch),
        )
        status: int = self._table.run(self._address, ctypes.byref(request))
        if raised:
            raise raised[0]
        if request.raised[0]:
            ctypes.pythonapi.PyErr_Restore(*map(c_void_p, request.raised))  # which raises it
        return status

    def probe(self, rounds: int) -> int:
        """Multiplies and adds in registers on the calling thread; how many operations that were."""
        return int(self._table.probe(rounds))
