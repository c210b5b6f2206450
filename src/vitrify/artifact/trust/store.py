"""What one machine remembers: its own key, its policy, the latest moment it has seen, and the highest releases.

The directory is ``$VITRIFY_TRUST_DIR``, else ``vitrify`` in ``$XDG_DATA_HOME`` or ``~/.local/share``; only its owner
can enter it. Where no policy lies there, only what was built on this machine is trusted.
"""

from __future__ import annotations

import fcntl
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ...errors import ArtifactError, ContainerError, PolicyError, UntrustedKeyError
from .. import canonical
from .. import schema as s
from ..archive import open_regular
from ..container import read_exactly
from ..record import Record
from .keys import Signer, key_id, parse_public
from .policy import ANY, Key, Policy, Role, Rule, open_policy, seal_policy, succeed

if TYPE_CHECKING:
    from .changes import Change  # like all that changes policies, imported when one is changed

DIRECTORY_VARIABLE = "VITRIFY_TRUST_DIR"
BUILT = 1795219200  # 2026-11-21: no clock that says less is right
_MACHINE_KEY, _PUBLIC, _POLICY, _STATE = "machine.pem", "machine.pub", "policy.json", "state.json"
_NOTED_EVERY = 3600  # seconds between two notes of the time


class TrustWarning(UserWarning):
    """Something is less checked than it could be: development, or a directory that cannot be written."""


class State(Record):
    """The latest moment seen (seconds since 1970), and by product the highest release."""

    seen: int
    releases: Mapping[str, int]


_state = s.record(State, seen=s.count, releases=s.mapping(s.text, s.count))


def default_directory() -> str:
    """Where this user's machine key, policy and state lie."""
    if named := os.environ.get(DIRECTORY_VARIABLE):
        return named
    base = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return os.path.join(base, "vitrify")


class Store:
    """The directory, made when something is first written to it."""

    def __init__(self, directory: str | None = None) -> None:
        self.directory = directory or default_directory()

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    # ---- the machine's key

    def machine_key(self) -> Signer:
        """This machine's key, made when there is none. OSError where the directory cannot be written,
        SignatureError where others can read the key."""
        path = self.path(_MACHINE_KEY)
        if not os.path.exists(path):
            with self._locked():
                if not os.path.exists(path):
                    fresh = f"{path}.{os.getpid()}"
                    with suppress(OSError):
                        os.unlink(fresh)
                    key = Signer.generate()
                    key.write(fresh)
                    self._write(_PUBLIC, key.public.hex().encode())
                    os.rename(fresh, path)
        return Signer.read(path)

    def machine_public(self) -> bytes | None:
        """The public half, which is all that loading needs: None before anything was built here."""
        try:
            encoded = self._read(_PUBLIC)
        except FileNotFoundError:
            return None
        return parse_public(encoded.decode("ascii", "replace"))

    # ---- the policy

    def policy(self) -> Policy:
        """The policy that lies here; without one, that only this machine's key is trusted."""
        try:
            encoded = self._read(_POLICY)
        except FileNotFoundError:
            return own_policy(self.machine_public())
        return open_policy(encoded)

    def envelope(self) -> bytes | None:
        """The policy as it was signed; None where none lies here."""
        try:
            return self._read(_POLICY)
        except FileNotFoundError:
            return None

    def install(self, encoded: bytes, *, force: bool = False) -> Policy:
        """Makes ``encoded`` the policy: the first as it is, later ones where they follow the present one.
        PolicyError where it would trust nobody, unless ``force``."""
        from .changes import check_reachable

        with self._locked():
            present = self.envelope()
            policy = open_policy(encoded) if present is None else succeed(open_policy(present), encoded)
            check_reachable(policy, force=force)
            self._write(_POLICY, encoded)
        return policy

    def change(
        self, change: Change, signers: Iterable[Signer] = (), *, install: bool = True, force: bool = False
    ) -> tuple[Policy, bytes]:
        """The next policy and its envelope, signed by ``signers`` and, where it is a root key, by this machine's.

        The first one starts from the trust in this machine's key. With ``install`` it becomes the policy, unless it is
        the present one; without, others may sign it first. Raises PolicyError where it would trust nobody (unless
        ``force``), UntrustedKeyError where too few root keys have signed.
        """
        signing = list(signers)
        if self.envelope() is None or os.path.exists(self.path(_MACHINE_KEY)):
            signing.append(self.machine_key())
        with self._locked():
            return self._change(change, signing, install=install, force=force)

    def _change(
        self, change: Change, signing: list[Signer], *, install: bool = True, force: bool
    ) -> tuple[Policy, bytes]:
        """The last of ``signing`` is the machine's key where there is no policy yet."""
        from .changes import apply

        now = max(BUILT, int(time.time()))
        encoded = self.envelope()
        present = own_policy(signing[-1].public) if encoded is None else open_policy(encoded)
        following = apply(change, present, now=now, force=force)
        if following == present:
            if encoded is not None:
                return present, encoded
            following = present._replace(version=1, issued=now)
        roots = {*present.root.keys, *following.root.keys}
        rooted = [signer for signer in signing if signer.id in roots]
        if not rooted:
            raise UntrustedKeyError(
                "no root key signs this policy", expected=f"one of {sorted(roots)}", hint="give its file with --key"
            )
        fresh = seal_policy(following, rooted)
        if install:
            succeed(present, fresh)
            self._write(_POLICY, fresh)
        return following, fresh

    def renew_machine_key(self, signers: Iterable[Signer] = (), *, revoke: bool, force: bool = False) -> Policy:
        """Makes a new machine key, which takes the old one's place in the policy. What the old one signed still loads,
        unless ``revoke``."""
        from .changes import renewing

        self.machine_key()  # where there is none yet
        fresh = Signer.generate()
        kept = self.path(f"machine-{fresh.id[:16]}.pem")
        with self._locked():
            old = Signer.read(self.path(_MACHINE_KEY))
            fresh.write(kept)  # before the policy speaks of it: an interruption leaves no policy without its key
            try:
                renewed = renewing(old.id, fresh.public, "this machine", revoke=revoke)
                policy, _ = self._change(renewed, [*signers, fresh, old], force=force)
            except BaseException:
                os.unlink(kept)
                raise
            self._write(_PUBLIC, fresh.public.hex().encode())
            os.rename(kept, self.path(_MACHINE_KEY))
        return policy

    # ---- time and releases

    def state(self) -> State:
        """What has been seen here. PolicyError where the record is damaged."""
        try:
            encoded = self._read(_STATE)
        except FileNotFoundError:
            return State(0, {})
        try:
            found: State = _state(canonical.loads(encoded, what="the state", limit=canonical.MAX_BYTES), "state")
        except ArtifactError as error:
            raise PolicyError(
                "the record of releases is damaged", expected="what was written here", actual=error,
                hint=f"if this machine's clock and releases are right, remove {self.path(_STATE)}",
            ) from None  # fmt: skip
        return found

    def now(self, policy: Policy, state: State) -> int:
        """The time, which is never before what is known to be past. PolicyError where the clock says so."""
        floor = max(BUILT, policy.issued, state.seen)
        clock = int(time.time())
        if clock < floor:
            raise PolicyError(
                "the clock was set back", expected=f"{s.moment(floor)} or later", actual=s.moment(clock),
                hint="set the clock right",
            )  # fmt: skip
        return clock

    def note(self, state: State, now: int, product: str, release: int) -> None:
        """Remembers an accepted release. Warns where it cannot be written."""
        if now - state.seen < _NOTED_EVERY and state.releases.get(product, -1) >= release:
            return
        try:
            with self._locked():
                latest = self.state()
                releases = {**latest.releases, product: max(latest.releases.get(product, 0), release)}
                fresh = State(max(latest.seen, now), releases)
                self._write(_STATE, canonical.dumps({"releases": releases, "seen": fresh.seen}))
        except OSError as error:
            warnings.warn(
                f"{self.directory} cannot be written ({error.strerror}): a return to an older release, or of the "
                "clock, will not be noticed", TrustWarning, stacklevel=2,
            )  # fmt: skip

    # ---- files

    def _read(self, name: str) -> bytes:
        path = self.path(name)
        if not os.path.lexists(path):
            raise FileNotFoundError(path)
        try:
            writers = os.stat(self.directory).st_mode & 0o002
        except OSError as error:
            raise PolicyError(f"cannot be opened: {error.strerror}", path=self.directory) from None
        if writers:
            raise UntrustedKeyError(
                "others can change what is in this directory", path=self.directory, expected="mode 700",
                hint=f"chmod 700 {self.directory}",
            )  # fmt: skip
        try:
            fd = open_regular(path)
        except ContainerError as error:
            raise PolicyError(str(error), hint="check the directory's permissions") from None
        try:
            status = os.fstat(fd)
            if status.st_mode & 0o022 or status.st_uid not in (os.geteuid(), 0):
                raise UntrustedKeyError(
                    "others can change this file", path=path, expected="its owner and root alone can",
                    actual=f"mode {status.st_mode & 0o777:o}, owner {status.st_uid}", hint=f"chmod go-w {path}",
                )  # fmt: skip
            return read_exactly(fd, 0, min(status.st_size, canonical.MAX_BYTES + 1), path)
        finally:
            os.close(fd)

    def _write(self, name: str, data: bytes) -> None:
        """The whole file or none, readable by its owner alone."""
        fresh = self.path(f"{name}.{os.getpid()}-{os.urandom(4).hex()}")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(fresh, self.path(name))
        except BaseException:
            with suppress(OSError):
                os.unlink(fresh)
            raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        fd = os.open(self.path("lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def own_policy(public: bytes | None) -> Policy:
    """That the key's owner alone is trusted, with any product; nobody, where there is no key."""
    ids = () if public is None else (key_id(public),)
    return Policy(
        version=0, issued=0, expires=None, development=False, root=Role(ids, 1),
        keys=() if public is None else (Key(public, "this machine"),), products={ANY: Rule(ids, 1, 0)}, revoked=(),
        denied=(), licences=None,
    )  # fmt: skip


def first_policy(key: Signer) -> bytes:
    """The envelope of a policy that trusts this machine alone: what ``vitrify trust`` starts from."""
    return seal_policy(own_policy(key.public)._replace(version=1, issued=max(BUILT, int(time.time()))), [key])
