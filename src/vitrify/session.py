"""Sessions of artifacts and of models: the latter are compiled through the cache."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vitrify.errors import InvalidArgumentError, UnsupportedError
from vitrify.runtime.options import GraphOptimizationLevel, SessionOptions
from vitrify.runtime.session import ModelMetadata, NodeArg, Session

if TYPE_CHECKING:
    from pathlib import Path

    from vitrify.by_value import ByValue
    from vitrify.options import CompileOptions

#: The one execution provider there is.
PROVIDER = "CPUExecutionProvider"


class InferenceSession(Session):
    """A model that is ready to run, with onnxruntime's calls.

    ``path_or_bytes`` is the path of an artifact (a directory), or an ONNX model as path, bytes or
    ``ModelProto``; models are compiled, or taken from the cache. ``providers`` may name
    ``CPUExecutionProvider`` only. ``compile_options`` (:class:`vitrify.CompileOptions`) is for models;
    without it ``sess_options.graph_optimization_level`` decides.

    Raises what :func:`vitrify.compile` and :class:`vitrify.runtime.session.Session` raise, and
    InvalidArgumentError for unknown providers and options. Any number of threads may call :meth:`run`.

    Where shapes follow the elements of some inputs (axes, sizes, counts that are fed), each set of such values
    gets a compiled form of its own, made by the first run that has it.
    """

    _by_value: ByValue | None

    def __init__(
        self,
        path_or_bytes: Any,
        sess_options: SessionOptions | None = None,
        providers: Sequence[str | tuple[str, dict[str, Any]]] | None = None,
        *,
        compile_options: Any = None,
    ) -> None:
        if sess_options is not None and not isinstance(sess_options, SessionOptions):
            raise InvalidArgumentError(
                "sess_options", expected="vitrify.SessionOptions", actual=type(sess_options).__name__
            )
        _check_providers(providers)
        if isinstance(path_or_bytes, (str, os.PathLike)) and os.path.isdir(path_or_bytes):
            if compile_options is not None:
                raise InvalidArgumentError(
                    "compile_options", expected="None: an artifact is compiled already", actual="options"
                )
            super().__init__(path_or_bytes, sess_options)
            self._by_value = None
            return
        from vitrify import compiled
        from vitrify.options import compile_options as checked

        level = _LEVELS[(sess_options or SessionOptions()).graph_optimization_level]
        named = {"optimization_level": level} if compile_options is None else {}
        options = checked(compile_options, named)
        self._by_value = None
        try:
            _, entry = compiled.fetch(path_or_bytes, options, lambda path: self._open(path, sess_options))
        except UnsupportedError as error:
            if not error.inputs:
                raise
            self._follow(path_or_bytes, error.inputs, sess_options, options)
        else:
            entry.close()  # everything is mapped

    def _open(self, path: Path, options: SessionOptions | None) -> None:
        super().__init__(path, options)

    def _follow(
        self, model: Any, names: Sequence[str], sess_options: SessionOptions | None, options: CompileOptions
    ) -> None:
        """The model needs the values of some inputs: they are compiled with the first run that has them."""
        from vitrify.by_value import ByValue

        def open_session(values: Mapping[str, Any]) -> InferenceSession:
            known = replace(options, input_values={**options.input_values, **values})
            return InferenceSession(model, sess_options, compile_options=known)

        self._options = sess_options or SessionOptions()
        self._by_value = ByValue(model, names, open_session)
        self.run = self._by_value.run  # type: ignore[method-assign]  # no cost for models that need none of this

    def get_inputs(self) -> list[NodeArg]:
        return super().get_inputs() if self._by_value is None else list(self._by_value.inputs)

    def get_outputs(self) -> list[NodeArg]:
        return super().get_outputs() if self._by_value is None else list(self._by_value.outputs)

    def get_modelmeta(self) -> ModelMetadata:
        return super().get_modelmeta() if self._by_value is None else self._by_value.metadata


_LEVELS = {
    GraphOptimizationLevel.ORT_DISABLE_ALL: 0,
    GraphOptimizationLevel.ORT_ENABLE_BASIC: 1,
    GraphOptimizationLevel.ORT_ENABLE_EXTENDED: 2,
    GraphOptimizationLevel.ORT_ENABLE_LAYOUT: 3,
    GraphOptimizationLevel.ORT_ENABLE_ALL: 3,
}


def _check_providers(providers: Any) -> None:
    if providers is None:
        return
    if isinstance(providers, str) or not isinstance(providers, Sequence):
        raise InvalidArgumentError(
            "providers", expected=f"a list such as [{PROVIDER!r}]", actual=repr(providers)
        )
    for provider in providers:
        name, options = provider if isinstance(provider, tuple) and len(provider) == 2 else (provider, {})
        if name != PROVIDER:
            raise InvalidArgumentError(
                "unknown provider", expected=PROVIDER, actual=repr(name), hint="leave providers out"
            )
        if options:
            raise InvalidArgumentError(
                f"unknown option of {PROVIDER}", expected="no options", actual=", ".join(map(str, options))
            )
