"""Compiling a model: through the cache, to an artifact that sessions load."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from vitrify.artifact.loading import Artifact, load_artifact, open_artifact
from vitrify.artifact.signing import Moment, seal_of, stated
from vitrify.artifact.trust.envelope import STATEMENT_TYPE, sign, statement
from vitrify.artifact.trust.keys import Signer
from vitrify.artifact.trust.store import Store
from vitrify.artifact.writing import copy_artifact, unwritable
from vitrify.cache import Cache, Entry, Write
from vitrify.errors import InvalidArgumentError, ToolchainError
from vitrify.model_key import custom_ops_of, model_key, serialized
from vitrify.options import CompileOptions, Progress, compile_options

T = TypeVar("T")


class CompiledArtifact(Artifact):
    """An artifact in the cache, which keeps it for as long as this object lives.

    ``compiled``: made just now, not found.
    """

    def __init__(self, artifact: Artifact, entry: Entry) -> None:
        super().__init__(artifact.opened, artifact.signers)
        self.compiled = entry.compiled
        self._entry = entry

    def save(
        self, path: str | os.PathLike[str], *, replace: bool = False,
        key: Signer | str | os.PathLike[str] | None = None, product: str | None = None, release: int | None = None,
        not_before: Moment | None = None, expires: Moment | None = None, licence: str | None = None,
    ) -> Artifact:  # fmt: skip
        """Writes the artifact to ``path``, in one step or not at all, and returns it: as one file where the name
        ends in ``.vit``, else as a directory. ArtifactError when something is there (another artifact is replaced if
        ``replace``).

        It is signed as it is in the cache, by this machine and for no product, unless there is a ``key`` (or the file
        of one) or something to say of it, as for :func:`vitrify.sign`.
        """
        seal = stated(
            seal_of(self.opened), product=product, release=release, not_before=not_before, expires=expires,
            licence=licence,
        )  # fmt: skip
        if key is None and seal == self.seal:
            copy_artifact(self, path, replace=replace)
            return Artifact(open_artifact(path), self.signers)
        try:
            signer = key if isinstance(key, Signer) else Store().machine_key() if key is None else Signer.read(key)
        except OSError as error:
            raise unwritable(Store().directory, error) from None
        copy_artifact(self, path, replace=replace, envelope=sign(STATEMENT_TYPE, statement(seal), [signer]))
        return Artifact(open_artifact(path), frozenset({signer.id}))


def compile(
    model: Any,
    *,
    options: CompileOptions | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    **named: Any,
) -> CompiledArtifact:
    """``model`` (a path, bytes, or an ``onnx.ModelProto``) as an artifact, from the cache where it is there.

    Options are given as :class:`CompileOptions`, or by name: ``compile("m.onnx", accurate=True)``.
    Raises InvalidModelError, NoSuchFileError, ExternalDataError, UnsupportedError (all that is not
    supported at once), InvalidArgumentError, ToolchainError; CacheError for a ``cache_dir`` that is none.
    """
    chosen = compile_options(options, named)
    artifact, entry = fetch(model, chosen, load_artifact, cache_dir=cache_dir, progress=progress)
    return CompiledArtifact(artifact, entry)


def fetch(
    model: Any,
    options: CompileOptions,
    load: Callable[[Path], T],
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> tuple[T, Entry]:
    """What ``load`` makes of the artifact of ``model``, and the cache's entry of it."""
    cache = Cache(cache_dir or options.cache_dir)
    if not isinstance(model, (str, os.PathLike)):
        model = serialized(model)
    ops = custom_ops_of(model)
    key = model_key(model, options, cache)
    return cache.fetch(key, lambda: _build(model, options, cache, ops, progress), load)


def _build(
    model: Any, options: CompileOptions, cache: Cache, ops: list[tuple[str, int, str]], progress: Progress | None
) -> Write:
    write = builder(model, options, store=cache, progress=progress)
    if custom_ops_of(model) != ops:  # the key would name others than those compiled
        raise InvalidArgumentError("custom ops were defined or unregistered while the model was compiled")
    return write


def builder(
    model: Any,
    options: CompileOptions,
    *,
    store: Cache | None = None,
    progress: Progress | None = None,
    targets: tuple[str, ...] | None = None,
) -> Write:
    """Reads the model; what compiles it and writes the artifact is returned. ``store`` keeps objects; ``targets`` are
    those that the options leave to this machine. Raises as :func:`compile` does."""
    # Only here the compiler is imported: what is cached needs none of it.
    from vitrify.artifact.manifest import Meta

    try:
        from vitrify.compiler import build_artifact
        from vitrify.frontends.onnx import load_onnx
        from vitrify.origin.materials import materials_of
        from vitrify.toolchain.zig import Compiler
    except ModuleNotFoundError as error:
        raise ToolchainError(
            f"compiling needs {error.name}, which is not installed", hint="pip install 'vitrify[compile]'"
        ) from None
    if progress is not None:
        progress("reading the model", 0, 0)
    shapes = options.input_shapes
    if options.dynamic_batch:
        from vitrify.frontends.onnx.edit import batch_shapes

        shapes = batch_shapes(model, shapes)
    imported = load_onnx(
        model,
        input_shapes=shapes,
        dim_overrides=options.dim_overrides,
        input_values=options.input_values,
    )
    materials = materials_of(model)  # after the import, which refuses external data of holes
    described = imported.metadata
    meta = Meta(
        producer_name=described.producer_name,
        graph_name=described.graph_name,
        domain=described.domain,
        description=described.description,
        version=described.version,
        custom_metadata_map=dict(described.custom_metadata_map),
        graph_description=described.graph_description,
    )
    compiler = Compiler(store=store)

    def write(path: Path) -> None:
        build_artifact(
            imported.graph, path, options, meta=meta, host=imported.host, compiler=compiler, progress=progress,
            materials=materials, targets=targets,
        )  # fmt: skip

    return write
