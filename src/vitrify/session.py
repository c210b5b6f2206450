"""Sessions of artifacts and of models: the latter are compiled through the cache."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vitrify.artifact.loading import is_artifact
from vitrify.errors import ArgumentTypeError, InvalidArgumentError, LoadCancelledError, UnsupportedError
from vitrify.runtime.environment import check_providers
from vitrify.runtime.feed import Array
from vitrify.runtime.options import GraphOptimizationLevel, SessionOptions
from vitrify.runtime.session import ModelMetadata, NodeArg, Session

if TYPE_CHECKING:
    from pathlib import Path

    from vitrify.by_size import BySize
    from vitrify.by_value import ByValue
    from vitrify.options import CompileOptions, Stated
    from vitrify.runtime.run_options import RunOptions


class InferenceSession(Session):
    """A model that is ready to run, with onnxruntime's calls.

    ``path_or_bytes`` is the path of an artifact (a directory), or an ONNX model as path, bytes or
    ``ModelProto``; models are compiled, or taken from the cache. ``providers`` may name
    ``CPUExecutionProvider`` only. ``compile_options`` (:class:`vitrify.CompileOptions`) is for models;
    without it ``sess_options.graph_optimization_level`` decides. ``disabled_optimizers`` and
    ``enable_fallback`` have no effect.

    Raises what :func:`vitrify.compile` and :class:`vitrify.runtime.session.Session` raise, and
    InvalidArgumentError for unknown providers and options. Any number of threads may call :meth:`run`.

    Where shapes follow the elements of some inputs (axes, sizes, counts that are fed), each set of such values
    gets a compiled form of its own, made by the first run that has it. So does each set of open dims that are fed as
    1 where the model broadcasts them to others.
    """

    _by_value: ByValue | None
    _by_size: BySize | None

    def __init__(
        self,
        path_or_bytes: Any,
        sess_options: SessionOptions | None = None,
        providers: Sequence[str | tuple[str, dict[str, Any]]] | None = None,
        provider_options: Sequence[dict[str, Any]] | None = None,
        *,
        compile_options: CompileOptions | None = None,
        disabled_optimizers: object = None,
        enable_fallback: object = None,
    ) -> None:
        if sess_options is not None and not isinstance(sess_options, SessionOptions):
            raise ArgumentTypeError(
                "sess_options", expected="vitrify.SessionOptions", actual=type(sess_options).__name__
            )
        check_providers(providers, provider_options)
        settings = sess_options or SessionOptions()
        if settings.load_cancelled:
            raise LoadCancelledError("the session was not made: loading was cancelled")
        self._model: tuple[Any, CompileOptions] | None = None
        self._defaults: list[NodeArg] | None = None
        self._fed: dict[frozenset[str], Session] = {}
        self._by_value = self._by_size = None
        if isinstance(path_or_bytes, (str, os.PathLike)) and is_artifact(path_or_bytes):
            _refuse_changes(settings, compile_options)
            super().__init__(path_or_bytes, sess_options)
        else:
            self._compile(path_or_bytes, settings, compile_options)
        if settings.optimized_model_filepath:
            self._write(settings.optimized_model_filepath)

    def _compile(self, model: Any, settings: SessionOptions, options: CompileOptions | None) -> None:
        for name in ("trust_directory", "require_digest"):
            if getattr(settings, name) is not None:
                raise InvalidArgumentError(name, expected="None for a model that is compiled here", actual="one")
        from vitrify import compiled
        from vitrify.options import compile_options as checked

        level = _LEVELS[settings.graph_optimization_level]
        named = {"optimization_level": level} if options is None else {}
        model, options = _changed(model, settings, checked(options, named))
        self._model = (model, options)
        try:
            _, entry = compiled.fetch(model, options, lambda path: self._open(path, settings))
        except UnsupportedError as error:
            if not error.inputs:
                raise
            self._follow(model, error.inputs, settings, options)
        else:
            entry.close()  # everything is mapped

    def _open(self, path: Path, options: SessionOptions) -> None:
        super().__init__(path, options)

    def _follow(self, model: Any, names: Sequence[str], settings: SessionOptions, options: CompileOptions) -> None:
        """The model needs the values of some inputs: they are compiled with the first run that has them."""
        from dataclasses import replace

        from vitrify.by_value import ByValue

        if settings.optimized_model_filepath:
            raise UnsupportedError(
                [f"optimized_model_filepath where shapes follow values: {', '.join(names)}"],
                hint="give these values with CompileOptions.input_values",
            )
        self._options, self._host, self._history = settings, None, None
        if settings.enable_profiling:
            from vitrify.runtime.profile import History

            self._history = History()
        self._inputs, self._outputs, self._dtypes = (), (), []

        def open_session(values: Mapping[str, Any]) -> InferenceSession:
            known = replace(options, input_values={**options.input_values, **values})
            return self._other(model, known)

        self._by_value = ByValue(model, names, open_session)
        self._positions = {arg.name: index for index, arg in enumerate(self._by_value.outputs)}
        self.run = self._run_by_value  # type: ignore[method-assign]  # no cost for models that need none of this

    def __repr__(self) -> str:
        if self._by_value is None:
            return super().__repr__()
        return f"{type(self).__name__}(compiled for each set of values of {', '.join(self._by_value.names)})"

    def _run_by_value(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: RunOptions | None = None
    ) -> list[Array]:
        assert self._by_value is not None
        return self._by_value.run(output_names, input_feed, run_options)

    def get_inputs(self) -> list[NodeArg]:
        """The inputs in the model's order."""
        return super().get_inputs() if self._by_value is None else list(self._by_value.inputs)

    def get_outputs(self) -> list[NodeArg]:
        """The outputs in the model's order."""
        return super().get_outputs() if self._by_value is None else list(self._by_value.outputs)

    def get_modelmeta(self) -> ModelMetadata:
        """The model's description of itself."""
        return super().get_modelmeta() if self._by_value is None else self._by_value.metadata

    def _write(self, path: str) -> None:
        """The artifact, as a directory of its own."""
        if os.path.exists(path) and os.path.samefile(path, self.artifact.path):
            return
        from vitrify.artifact.writing import copy_artifact

        copy_artifact(self.artifact, path, replace=True)

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Inputs of the model that have a default value. They may be fed: that compiles the model once more, with
        these as inputs. Those of an artifact are its constants."""
        if self._defaults is None:
            self._defaults = []
            if self._model is not None:
                from vitrify.frontends.onnx.edit import overridable

                self._defaults = [
                    NodeArg(name, list(shape), f"tensor({kind})") for name, kind, shape in overridable(self._model[0])
                ]
        return list(self._defaults)

    def _taking(self, feed: object) -> tuple[Session, Mapping[str, Any]] | None:
        if self._by_value is not None:
            return self._by_value.session_for(feed)  # type: ignore[arg-type]  # which it checks
        if self._model is None or not isinstance(feed, Mapping):
            return None
        known = {arg.name for arg in self.get_inputs()}
        extra = [name for name in feed if name not in known]
        if not extra:
            return self._broadcasting(feed)
        names = frozenset(arg.name for arg in self.get_overridable_initializers() if arg.name in extra)
        if not names:
            return None
        if names not in self._fed:
            from vitrify.frontends.onnx.edit import without_defaults

            model, options = self._model
            changed = without_defaults(model, set(names))
            self._fed[names] = self._other(changed, options)
        return self._fed[names], feed

    def _broadcasting(self, feed: Mapping[str, Any]) -> tuple[Session, Mapping[str, Any]] | None:
        """The form whose dims are 1 where this feed's are and those compiled here are not."""
        if self._host is not None or self._model is None:
            return None
        if self._by_size is None:
            from dataclasses import replace

            from vitrify.by_size import BySize
            from vitrify.frontends.onnx.edit import open_shapes

            model, options = self._model

            def open_session(shapes: Mapping[str, Stated]) -> InferenceSession:
                changed = replace(options, input_shapes={**options.input_shapes, **shapes}, specialize=())
                return self._other(model, changed)

            def shapes() -> dict[str, Any]:
                declared = open_shapes(model, options.dim_overrides, batch=options.dynamic_batch)
                return {**declared, **options.input_shapes}

            self._by_size = BySize(shapes, open_session)
        other = self._by_size.session_for(self._inputs, feed)
        return None if other is None else (other, feed)

    def _other(self, model: Any, options: CompileOptions) -> InferenceSession:
        """A session that runs for this one: its runs are part of the same profile."""
        from dataclasses import replace

        options = replace(options, probes=0)  # whose inputs are those of the general form
        made = InferenceSession(model, self._plain_options(), compile_options=options)
        made._history = self._history
        return made

    def _plain_options(self) -> SessionOptions:
        """This session's options without those that were followed when its model was compiled."""
        followed = ("optimized_model_filepath", "enable_mem_reuse", "enable_profiling")
        kept = {
            name: value
            for name, value in vars(self._options).items()
            if not name.startswith("_") and name not in followed
        }
        kept["share_memory"] = self._options.shares_memory
        return SessionOptions(**kept)


def from_onnx(
    path: Any,
    *,
    optimization_level: int | None = None,
    compile_options: CompileOptions | None = None,
    sess_options: SessionOptions | None = None,
) -> InferenceSession:
    """A session of an ONNX model (a path, bytes, or a ``ModelProto``), compiled or taken from the cache.

    ``optimization_level`` (:class:`vitrify.OptLevel`, 0 to 3) takes the place of the one in ``compile_options``.
    Raises what :class:`InferenceSession` raises.
    """
    from dataclasses import replace

    from vitrify.options import CompileOptions, OptLevel
    from vitrify.options import compile_options as checked

    options = checked(compile_options, {}) if compile_options is not None else CompileOptions()
    if optimization_level is not None:
        if optimization_level not in tuple(OptLevel):
            raise InvalidArgumentError("optimization_level", expected="0 to 3", actual=repr(optimization_level))
        options = replace(options, optimization_level=OptLevel(optimization_level))
    return InferenceSession(path, sess_options, compile_options=options)


_LEVELS = {
    GraphOptimizationLevel.ORT_DISABLE_ALL: 0,
    GraphOptimizationLevel.ORT_ENABLE_BASIC: 1,
    GraphOptimizationLevel.ORT_ENABLE_EXTENDED: 2,
    GraphOptimizationLevel.ORT_ENABLE_LAYOUT: 3,
    GraphOptimizationLevel.ORT_ENABLE_ALL: 3,
}


def _refuse_changes(settings: SessionOptions, compile_options: object) -> None:
    given = {
        "compile_options": compile_options is not None,
        "add_initializer": bool(settings.initializers),
        "add_free_dimension_override": bool(settings.dim_overrides or settings.denotation_overrides),
    }
    for name, present in given.items():
        if present:
            raise InvalidArgumentError(name, expected="none: an artifact is compiled already", actual="options")


def _changed(model: Any, settings: SessionOptions, options: CompileOptions) -> tuple[Any, CompileOptions]:
    """The model and the options of its compile as the session's options want them."""
    from dataclasses import replace

    if settings.dim_overrides:
        from vitrify.frontends.onnx.edit import dim_names

        known = dim_names(model)
        sizes = {name: size for name, size in settings.dim_overrides.items() if name in known}
        options = replace(options, dim_overrides={**options.dim_overrides, **sizes})
    if settings.denotation_overrides:
        from vitrify.frontends.onnx.edit import denoted_shapes

        shapes = denoted_shapes(model, settings.denotation_overrides)
        options = replace(options, input_shapes={**shapes, **options.input_shapes})
    if not settings.enable_mem_reuse:
        options = replace(options, reuse_memory=False)
    if settings.initializers:
        from vitrify.frontends.onnx.edit import with_initializers

        model = with_initializers(model, settings.initializers, settings.external_initializers)
    return model, options
