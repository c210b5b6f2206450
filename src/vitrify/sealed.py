"""Sealed artifacts from Python: looked at, verified, loaded, signed, copied and compared.

There is no way to skip a check. ``trust`` is a directory with a policy; without it, ``$VITRIFY_TRUST_DIR`` or this
user's own (docs/artifacts.md).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from vitrify.artifact.loading import Artifact, load_artifact
from vitrify.artifact.trust.store import Store
from vitrify.errors import ArgumentTypeError, InvalidArgumentError

# What loading does not need is imported where it is needed.
if TYPE_CHECKING:
    from vitrify.artifact.comparison import Comparison
    from vitrify.artifact.examination import Inspection, Verification
    from vitrify.artifact.signing import Moment
    from vitrify.artifact.trust.keys import Signer
    from vitrify.runtime.feed import Array
    from vitrify.runtime.options import SessionOptions
    from vitrify.runtime.session import NodeArg, Session

Path = str | os.PathLike[str]


def inspect(path: Path, trust: str | None = None) -> Inspection:
    """What an artifact says of itself, and whether the policy would accept it. Nothing of it is mapped, run or
    believed, so it may come from anywhere. Raises ContainerError, LimitError, ManifestError, IntegrityError or
    SignatureError for what is no artifact, or is a damaged one."""
    from vitrify.artifact.examination import inspect_artifact

    return inspect_artifact(path, Store(trust))


def verify(path: Path, trust: str | None = None) -> Verification:
    """Examines all of an artifact: container, signature, policy, every file, native code of all targets, leaks, all
    leaves of the weights, and that it is for this version of the runtime. Nothing of it is run.

    Raises the ArtifactError that says what is wrong; its ``code`` is the exit status of ``vitrify verify``. A release
    that was verified is not remembered: older ones load until it is loaded.
    """
    from vitrify.artifact.examination import verify_artifact
    from vitrify.runtime.native import ABI_DIGEST

    return verify_artifact(path, Store(trust), ABI_DIGEST)


def load(
    path: Path, trust: str | None = None, require_digest: str | None = None, *, options: SessionOptions | None = None
) -> Loaded:
    """An artifact that the policy accepts, ready to run::

        with vitrify.load("model.vit") as model:
            outputs = model.run(x=array)

    ``require_digest`` is the SHA-256 of the only manifest that will do (``inspect(path).digest``); without it, and
    without ``trust``, those of ``options`` count. Raises what
    :func:`vitrify.artifact.loading.load_artifact` and :class:`vitrify.runtime.session.Session` raise.
    """
    from vitrify.runtime.session import Session

    if require_digest is not None and not isinstance(require_digest, str):
        raise ArgumentTypeError("require_digest", expected="64 hexadecimal digits", actual=require_digest)
    if options is not None:
        trust = options.trust_directory if trust is None else trust
        require_digest = options.require_digest if require_digest is None else require_digest
    artifact = load_artifact(path, trust=trust, require_digest=require_digest)
    try:
        return Loaded(artifact, Session(artifact, options))
    except BaseException:
        artifact.close()
        raise


class Loaded:
    """What :func:`load` gives. Any number of threads may call :meth:`run`."""

    def __init__(self, artifact: Artifact, session: Session) -> None:
        self.artifact = artifact
        self._session: Session | None = session

    @property
    def session(self) -> Session:
        """The session that runs it. InvalidArgumentError once it is closed."""
        if self._session is None:
            raise InvalidArgumentError(f"{self.artifact.path} is closed", hint="use it inside the with statement")
        return self._session

    @property
    def inputs(self) -> list[NodeArg]:
        """Name, shape and type of each input, in order."""
        return self.session.get_inputs()

    @property
    def outputs(self) -> list[NodeArg]:
        """Name, shape and type of each output, in order."""
        return self.session.get_outputs()

    def run(self, /, **inputs: Any) -> dict[str, Array]:
        """The outputs by name. Raises what :meth:`vitrify.InferenceSession.run` raises."""
        session = self.session
        names = [port.name for port in session.get_outputs()]
        return dict(zip(names, session.run(None, inputs), strict=True))

    def close(self) -> None:
        """Closes the artifact; memory goes with the last run."""
        self._session = None
        self.artifact.close()

    def __enter__(self) -> Loaded:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.artifact.path!r})"


def sign(
    path: Path, key: Signer | Path | None = None, *, product: str | None = None, release: int | None = None,
    not_before: Moment | None = None, expires: Moment | None = None, licence: str | None = None,
    trust: str | None = None,
) -> Inspection:  # fmt: skip
    """Signs the artifact at ``path`` in place and tells what it says now.

    ``key`` is the file of a private key (:func:`vitrify.trust.new_key` makes one); without it, this machine's. What
    is not given stays as it was signed before. Where the statement stays the same, the signature is added to those
    that are there, for policies that want several; otherwise it takes their place. Moments are dates or moments in
    UTC as text, seconds since 1970, or datetimes with a zone.

    Everything in the artifact is examined first. Raises ArtifactError for what is wrong with it, with the key, or with
    the place, and InvalidArgumentError.
    """
    from vitrify.artifact.examination import inspect_artifact
    from vitrify.artifact.signing import sign_artifact
    from vitrify.artifact.trust.keys import Signer
    from vitrify.artifact.writing import unwritable

    store = Store(trust)
    try:
        signer = key if isinstance(key, Signer) else store.machine_key() if key is None else Signer.read(key)
    except OSError as error:
        raise unwritable(store.directory, error) from None
    said = {
        "product": product, "release": release, "not_before": not_before, "expires": expires, "licence": licence,
    }  # fmt: skip
    sign_artifact(path, signer, **said)
    return inspect_artifact(path, store)


def pack(source: Path, target: Path, *, replace: bool = False) -> None:
    """Writes the artifact at ``source``, signatures and all, to ``target``: as one file where its name ends in
    ``.vit``, else as a directory. All is examined but for who signed. Raises ArtifactError, also where something is
    at ``target`` (another artifact is replaced if ``replace``)."""
    from vitrify.artifact.signing import pack_artifact

    pack_artifact(source, target, replace=replace)


def diff(before: Path, after: Path) -> Comparison:
    """What tells two artifacts apart: interface, targets, kernels, weights, details, seal. Raises ArtifactError for
    what is no artifact."""
    from vitrify.artifact.comparison import compare

    return compare(before, after)
