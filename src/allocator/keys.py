"""The only reader of keys/: people's keys, encrypted; the log key; the local head; the lock (docs/spec.md §13)."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from allocator.canonical import CanonicalError, canonical_bytes, parse_strict, prefixed, tag
from allocator.errors import CredentialError, EvidenceError, StorageError
from allocator.home import is_passing, write_durably

FORMAT = "allocator-key/1"
LOCK_SECONDS = 10.0
_HEAD = re.compile(rb"\s*([0-9]{1,10})\s+([0-9a-f]{64})\s*")
_HEAD_BYTES = 80  # 10 digits, a space, 64 hexadecimal digits, spaces, a newline: one overwrite in one sector


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStretching:
    """Argon2id parameters (RFC 9106 §4); bounded when read, so that a forged file cannot exhaust the machine."""

    memory_kib: int
    iterations: int
    lanes: int

    def __post_init__(self) -> None:
        if not (64 <= self.memory_kib <= 1 << 21 and 1 <= self.iterations <= 16 and 1 <= self.lanes <= 16):
            raise CredentialError("key-file", "the key file asks for impossible Argon2id parameters")


STANDARD = KeyStretching(memory_kib=65_536, iterations=3, lanes=4)  # RFC 9106 §4, second recommended option
ONLY_FOR_TESTS = KeyStretching(memory_kib=64, iterations=1, lanes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateKeys:
    """A person's own keys, in memory while they act."""

    signing: Ed25519PrivateKey = field(repr=False)
    opening: X25519PrivateKey = field(repr=False)

    @classmethod
    def from_entropy(cls, secret: bytes) -> PrivateKeys:
        """From 64 random bytes: Ed25519 seed ‖ X25519 scalar."""
        return cls(
            signing=Ed25519PrivateKey.from_private_bytes(secret[:32]),
            opening=X25519PrivateKey.from_private_bytes(secret[32:]),
        )

    @property
    def sign_key(self) -> bytes:
        """Raw Ed25519 public key."""
        return self.signing.public_key().public_bytes_raw()

    @property
    def seal_key(self) -> bytes:
        """Raw X25519 public key."""
        return self.opening.public_key().public_bytes_raw()


class KeyFolder:
    """keys/<study>/. Stateless: every call reads or writes the disk."""

    def __init__(self, path: Path, *, stretching: KeyStretching = STANDARD) -> None:
        self.path = path
        self._stretching = stretching

    # ---- people -----------------------------------------------------------------------------------------------

    def has(self, person: str) -> bool:
        """True when a key file of this person is there."""
        return self._person_file(person).is_file()

    def write(
        self, study: str, person: str, keys: PrivateKeys, passphrase: str, entropy: Callable[[int], bytes]
    ) -> None:
        """Encrypt a person's keys under a passphrase: Argon2id, then AES-256-GCM over Ed25519 ‖ X25519."""
        self.keep(person, self.sealed_keys(study, person, keys, passphrase, entropy))

    def keep(self, person: str, key_file: bytes) -> None:
        """Write the bytes of a key file, whole or not at all."""
        write_durably(self._person_file(person), key_file, mode=0o600)

    def sealed_keys(
        self, study: str, person: str, keys: PrivateKeys, passphrase: str, entropy: Callable[[int], bytes]
    ) -> bytes:
        """The bytes of a key file."""
        salt, nonce = entropy(16), entropy(12)
        secret = keys.signing.private_bytes_raw() + keys.opening.private_bytes_raw()
        stretched = _stretch(passphrase, salt, self._stretching)
        public = {"sign_key": keys.sign_key.hex(), "seal_key": keys.seal_key.hex()}
        return canonical_bytes(
            {
                "format": FORMAT,
                "study": study,
                "person": person,
                **public,
                "argon2id": {
                    "salt": salt.hex(),
                    "memory_kib": self._stretching.memory_kib,
                    "iterations": self._stretching.iterations,
                    "lanes": self._stretching.lanes,
                },
                "nonce": nonce.hex(),
                "ciphertext": AESGCM(stretched).encrypt(nonce, secret, _associated(study, person, public)).hex(),
            }
        )

    def unlock(self, study: str, person: str, passphrase: str) -> PrivateKeys:
        """Open a person's keys.

        Raises:
            CredentialError: no key file, a damaged one, another study's, or a wrong passphrase.
        """
        plain = self._read_person(person)
        try:
            if (plain["format"], plain["study"], plain["person"]) != (FORMAT, study, person):
                raise CredentialError("key-file", f"the key file of {person} is not for this study and person")
            given, public = plain["argon2id"], {k: plain[k] for k in ("sign_key", "seal_key")}
            stretching = KeyStretching(**{k: given[k] for k in ("memory_kib", "iterations", "lanes")})
            stretched = _stretch(passphrase, bytes.fromhex(given["salt"]), stretching)
            nonce, ciphertext = bytes.fromhex(plain["nonce"]), bytes.fromhex(plain["ciphertext"])
            secret = AESGCM(stretched).decrypt(nonce, ciphertext, _associated(study, person, public))
        except InvalidTag as error:
            raise CredentialError(
                "wrong-passphrase",
                f"the passphrase does not open the key of {person}",
                "Try again; after several failures each try waits a little longer. Nothing is ever locked.",
            ) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CredentialError(
                "key-file", f"the key file of {person} is damaged", "Restore keys/ from a backup."
            ) from error
        return PrivateKeys.from_entropy(secret)

    # ---- log key, local head, lock ----------------------------------------------------------------------------

    def write_log_key(self, secret: bytes) -> bytes:
        """Keep the log's own signing key (it signs checkpoints); returns its public half."""
        write_durably(self.path / "log.key", secret.hex().encode("ascii") + b"\n", mode=0o600)
        return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()

    def read_log_key(self) -> Ed25519PrivateKey:
        """The log's own key, which signs checkpoints. CredentialError when it is not there or no key."""
        try:
            text = (self.path / "log.key").read_bytes()
            return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(text.decode("ascii").removesuffix("\n")))
        except OSError as error:
            raise CredentialError(
                "log-key", f"the log's own key cannot be read: {error.strerror}", "Restore keys/ from a backup."
            ) from error
        except ValueError as error:
            raise CredentialError("log-key", "log.key holds no key", "Restore keys/ from a backup.") from error

    def read_head(self) -> tuple[int, bytes] | None:
        """(seq, hash) of the last record known here, None when there is no head. EvidenceError when it is no head."""
        try:
            # O_NONBLOCK: a pipe that somebody put there is no head, and must not be waited for
            descriptor = os.open(self.path / "head", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as stream:
                text = stream.read(4096)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError("unavailable", f"the local head cannot be read: {error.strerror}") from error
        if match := _HEAD.fullmatch(text):
            return int(match[1]), bytes.fromhex(match[2].decode("ascii"))
        raise EvidenceError("head-damaged", "keys/<study>/head is no head", "Restore it; do not delete it to go on.")

    def write_head(self, seq: int, digest: bytes) -> None:
        """Overwrite the head in place and wait until it is durable. OSError when it cannot be."""
        descriptor = os.open(self.path / "head", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            os.pwrite(descriptor, head_line(seq, digest), 0)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def lock(self, seconds: float = LOCK_SECONDS) -> Iterator[None]:
        """One writer of this study at a time, from before BEGIN until after the head. StorageError after `seconds`."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise StorageError(
                "unavailable", f"keys/ cannot be written: {error.strerror}", "Nothing was written. Check the home."
            ) from error
        try:
            if not wait_in_line(self.path, descriptor, fcntl.LOCK_EX, seconds):
                raise StorageError("busy", "somebody else is writing to this study", "Nothing was written. Ask again.")
            yield
        finally:
            os.close(descriptor)  # closing releases the lock

    def _person_file(self, person: str) -> Path:
        return self.path / f"{person}.json"

    def _read_person(self, person: str) -> dict[str, Any]:
        try:
            return parse_strict(self._person_file(person).read_bytes(), limit=1 << 16)
        except FileNotFoundError as error:
            raise CredentialError(
                "no-key", f"there is no key file of {person} in this home", "Restore keys/ from a backup."
            ) from error
        except (OSError, CanonicalError) as error:
            if isinstance(error, OSError) and is_passing(error):
                raise StorageError(
                    "unavailable",
                    f"the key file of {person} cannot be read: {error.strerror}",
                    "Nothing was written. Ask again.",
                ) from error
            raise CredentialError(
                "key-file", f"the key file of {person} cannot be read", "Restore keys/ from a backup."
            ) from error


def head_line(seq: int, digest: bytes) -> bytes:
    """The content of a head file (docs/spec.md §13.4)."""
    return (f"{seq:>10} {digest.hex()}".ljust(_HEAD_BYTES - 1) + "\n").encode("ascii")


def wait_in_line(folder: Path, descriptor: int, how: int, seconds: float) -> bool:
    """Lock an open lock file, one after another; False when the time is up.

    Who waits stands in line at the folder's own lock, and only the first in line waits for the file: so nobody who
    comes later goes before, and a process that is killed leaves both. Where a folder cannot be locked there is no line.

    Args:
        folder: keys/<study>/.
        descriptor: the lock file, open.
        how: `fcntl.LOCK_EX` or `fcntl.LOCK_SH`.
        seconds: at most so long.
    """
    deadline = time.monotonic() + seconds
    line = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            if not _flock(line, fcntl.LOCK_EX, deadline):
                return False
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.EINVAL, errno.EOPNOTSUPP):
                raise
        return _flock(descriptor, how, deadline)
    finally:
        os.close(line)


def _flock(descriptor: int, how: int, deadline: float) -> bool:
    """Lock, waiting in the kernel's own order until the deadline; False when it passed."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        pass
    import threading  # not on the way of who need not wait

    # flock takes no time-out, so another thread waits. A lock it gets too late goes when both descriptors are closed
    waiting, outcome, ended = os.dup(descriptor), list[OSError | None](), threading.Event()

    def wait() -> None:
        try:
            fcntl.flock(waiting, how)
            outcome.append(None)
        except OSError as error:
            outcome.append(error)
        finally:
            ended.set()
            os.close(waiting)

    threading.Thread(target=wait, daemon=True).start()
    if not ended.wait(max(0.0, deadline - time.monotonic())):
        return False
    if outcome[0] is not None:
        raise outcome[0]
    return True


def _stretch(passphrase: str, salt: bytes, stretching: KeyStretching) -> bytes:
    try:
        # NFC: the same word typed on another keyboard is the same passphrase
        secret = unicodedata.normalize("NFC", passphrase).encode("utf-8")
    except UnicodeEncodeError as error:  # bytes of another encoding, from the environment or a terminal
        raise CredentialError(
            "passphrase-text", "the passphrase is no text in UTF-8", "Set the terminal or the locale to UTF-8."
        ) from error
    return Argon2id(
        salt=salt,
        length=32,
        iterations=stretching.iterations,
        lanes=stretching.lanes,
        memory_cost=stretching.memory_kib,
    ).derive(secret)


def _associated(study: str, person: str, public: dict[str, str]) -> bytes:
    names = b"".join(prefixed(text.encode("ascii")) for text in (study, person, public["sign_key"], public["seal_key"]))
    return tag("key") + names
