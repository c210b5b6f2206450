"""IOBinding: inputs and outputs of runs that lie where the caller says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..artifact.dtypes import BY_NAME
from ..errors import BindingError
from .feed import Array, native_dtype
from .ort_value import OrtValue, array_at, check_device

if TYPE_CHECKING:
    from .run_options import RunOptions
    from .session import Session


class IOBinding:
    """Values bound to the names of a session's inputs and outputs.

    Outputs that are bound to memory are written there by the run itself. Where that memory overlaps an input,
    and for models with strings, sequences or maps, they are copied there after the run. Nothing is copied
    from or to devices: all memory is the CPU's. One thread at a time may use a binding.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._types = {arg.name: arg.type for arg in session.get_inputs()}
        self._out_types = {arg.name: arg.type for arg in session.get_outputs()}
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, Array | None] = {}
        self._results: list[OrtValue] = []

    def _known(self, name: str, names: dict[str, str], kind: str) -> str:
        if name not in names:
            raise BindingError(f"no {kind} {name!r}", expected=", ".join(names) or "none")
        return name

    def bind_cpu_input(self, name: str, arr_on_cpu: Any) -> None:
        """The array is read at each run; it is not copied, unless its type or layout asks for it."""
        self._inputs[self._known(name, self._types, "input")] = arr_on_cpu

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any, shape: Sequence[int], buffer_ptr: int
    ) -> None:
        """The memory at ``buffer_ptr`` is read at each run. The caller keeps it alive."""
        check_device(device_type, device_id)
        self.bind_cpu_input(name, array_at(buffer_ptr, element_type, shape))

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        """The value is read at each run."""
        self.bind_cpu_input(name, _checked(ortvalue).value())

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """The output is asked for; with ``buffer_ptr`` it is written there, and the caller keeps that alive."""
        check_device(device_type, device_id)
        self._known(name, self._out_types, "output")
        if buffer_ptr is None:
            self._outputs[name] = None
            return
        if element_type is None or shape is None:
            raise BindingError("bind_output", expected="element_type and shape with buffer_ptr", actual="None")
        self._bind_array(name, array_at(buffer_ptr, element_type, shape))

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """The output is written into the value's memory."""
        self._known(name, self._out_types, "output")
        self._bind_array(name, _checked(ortvalue).numpy())

    def _bind_array(self, name: str, array: Array) -> None:
        ports = {port.name: port for port in self._session.plan_outputs}
        if name in ports:
            wanted = native_dtype(BY_NAME[ports[name].dtype])
            if array.dtype != wanted:
                raise BindingError(f"output {name!r}", expected=str(wanted), actual=str(array.dtype))
        if not (array.flags.c_contiguous and array.flags.aligned and array.flags.writeable):
            raise BindingError(f"output {name!r}", expected="contiguous, aligned memory that can be written")
        for other, memory in self._outputs.items():
            if other != name and memory is not None and np.may_share_memory(array, memory):
                raise BindingError(f"output {name!r} overlaps output {other!r}", expected="memory of its own")
        self._outputs[name] = array

    def clear_binding_inputs(self) -> None:
        """Forgets the inputs."""
        self._inputs.clear()

    def clear_binding_outputs(self) -> None:
        """Forgets the outputs, and the results of the last run."""
        self._outputs.clear()
        self._results.clear()

    def synchronize_inputs(self) -> None:
        """Nothing: no copies are under way."""

    def synchronize_outputs(self) -> None:
        """Nothing: a run is over when it returns."""

    def get_outputs(self) -> list[OrtValue]:
        """The last run's outputs in the order in which they were bound."""
        return list(self._results)

    def copy_outputs_to_cpu(self) -> list[Any]:
        """The last run's outputs in the order in which they were bound; arrays are copied."""
        return [v.numpy().copy() if v.is_tensor() else v.value() for v in self._results]

    def run(self, session: Session, run_options: RunOptions | None) -> None:
        """A run of ``session``, which has to be the one that the binding was made by."""
        if session is not self._session:
            raise BindingError("the IOBinding", expected="a binding of this session", actual="another session's")
        if not self._outputs:
            raise BindingError("at least one output has to be bound", hint="call bind_output(name)")
        bound = {name: array for name, array in self._outputs.items() if array is not None}
        results = session.run_into(list(self._outputs), self._inputs, bound, run_options)
        self._results = [
            OrtValue(value, self._out_types[name]) for name, value in zip(self._outputs, results, strict=True)
        ]


def _checked(value: object) -> OrtValue:
    if not isinstance(value, OrtValue):
        raise BindingError("ortvalue", expected="an OrtValue", actual=type(value).__name__)
    return value
