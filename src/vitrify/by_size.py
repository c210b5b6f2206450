"""Sessions of models whose open dims meet, as in the sum of [a] and [b]: a compiled form for each set of them that
is 1.

A compiled model takes open dims that meet as equal, which lets each be one loop. Fed with 1 where another size is
expected, ONNX broadcasts: then the model is compiled once more, with these dims fixed to 1.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vitrify.artifact.manifest import Port
from vitrify.errors import VitrifyError

if TYPE_CHECKING:
    from vitrify.options import Stated
    from vitrify.session import InferenceSession

#: The (input, axis) pairs that are 1.
Ones = frozenset[tuple[str, int]]
MOST_FORMS = 32  # sets of dims that are tried; further ones are refused as what does not fit


class BySize:
    """The compiled forms of one session's model. ``shapes`` gives the dims that the inputs are compiled with, by name;
    ``open_session`` compiles for other ones."""

    def __init__(
        self, shapes: Callable[[], Mapping[str, Sequence[int | str | None]]],
        open_session: Callable[[Mapping[str, Stated]], InferenceSession],
    ) -> None:  # fmt: skip
        self._shapes, self._open = shapes, open_session
        self._forms: dict[Ones, InferenceSession | None] = {}
        self._lock = threading.Lock()

    def session_for(self, ports: Sequence[Port], feed: Mapping[str, Any]) -> InferenceSession | None:
        """The form for such a feed; None where the compiled dims fit it, or no form does."""
        found = _ones(ports, feed)
        if not found:
            return None
        with self._lock:
            if found not in self._forms and len(self._forms) < MOST_FORMS:
                self._forms[found] = self._compiled(found)
            form = self._forms.get(found)
        return form if form is not None and _fits(form.plan_inputs, feed) else None

    def _compiled(self, ones: Ones) -> InferenceSession | None:
        shapes = {name: list(dims) for name, dims in self._shapes().items()}
        for name, axis in ones:
            if name not in shapes or isinstance(shapes[name][axis], int):
                return None  # the model itself says another size
            shapes[name][axis] = 1
        try:
            return self._open({name: shapes[name] for name, _ in ones})
        except VitrifyError:
            return None  # the dims meet where nothing broadcasts: the feed does not fit


def _fits(ports: Sequence[Port], feed: Mapping[str, Any]) -> bool:
    """Whether no dim became 1 that is fed otherwise, as those do that an op sums over."""
    return all(
        want == have
        for port in ports
        for want, have in zip(port.dims, feed[port.name].shape, strict=True)
        if isinstance(want, int)
    )


def _ones(ports: Sequence[Port], feed: Mapping[str, Any]) -> Ones:
    """The dims fed as 1 where the compiled model has another size for them."""
    sizes: dict[str, set[int]] = {}
    placed: list[tuple[str, int, str | int]] = []
    for port in ports:
        shape = getattr(feed.get(port.name), "shape", None)
        if not isinstance(shape, tuple) or len(shape) != len(port.dims):
            return frozenset()
        for axis, (want, have) in enumerate(zip(port.dims, shape, strict=True)):
            if isinstance(want, str):
                sizes.setdefault(want, set()).add(have)
            if have == 1:
                placed.append((port.name, axis, want))
    if any(len(found - {1}) > 1 for found in sizes.values()):
        return frozenset()
    return frozenset(
        (name, axis) for name, axis, want in placed if (want != 1 if isinstance(want, int) else len(sizes[want]) > 1)
    )
