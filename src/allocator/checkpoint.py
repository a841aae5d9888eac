"""Checkpoints: the log's signed tree head, as C2SP tlog-checkpoint in a C2SP signed note (docs/spec.md §16.2).

Whoever keeps one outside the home holds a head that its owner cannot take back. `openssl` and any other reader of
signed notes can check the signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from allocator.errors import EvidenceError
from allocator.person import check_ed25519

MAX_NOTE = 1 << 16
MAX_SIGNATURES = 16  # signed-note: a reader takes at least so many
_ED25519 = b"\x01"  # signature type (C2SP signed-note)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_ORIGIN = re.compile(r"allocator/([A-Za-z0-9][A-Za-z0-9._-]{0,39})/([0-9a-f]{16})", re.ASCII)
# white space of Unicode, and the plus of verifier keys, are in no key name (C2SP signed-note); written out, so that
# every reader knows the same ones
_SPACES = " \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_SIGNATURE_LINE = re.compile(f"— ([^+{_SPACES}]+) ([A-Za-z0-9+/]+={{0,2}})")
_KEY_ID = 4  # bytes in front of each signature


def origin_of(study: str, first: bytes) -> str:
    """The name of a log: its study, and the beginning of record 0's hash, so that no two openings share one."""
    return f"allocator/{study}/{first.hex()[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The root over the first `size` records of the log named `origin`, as the log's key signed it.

    Attributes:
        note: the signed note, whole.
    """

    origin: str
    size: int
    root: bytes
    note: str

    @property
    def text(self) -> bytes:
        """What the signature covers."""
        return note_text(self.origin, self.size, self.root)

    def signatures(self) -> list[tuple[str, bytes]]:
        """(key name, key id ‖ signature) of each signature line, in order; the log's own stands first."""
        matches = [_SIGNATURE_LINE.fullmatch(line) for line in self.note[:-1].split("\n")[4:]]
        return [(match[1], _decoded(match[2])) for match in matches if match]


def note_text(origin: str, size: int, root: bytes) -> bytes:
    """The three lines of a checkpoint."""
    return f"{origin}\n{size}\n{_base64(root)}\n".encode("ascii")


def key_id(name: str, public: bytes) -> bytes:
    """SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key)[:4] (C2SP signed-note)."""
    return hashlib.sha256(name.encode("ascii") + b"\n" + _ED25519 + public).digest()[:_KEY_ID]


def verifier_key(origin: str, public: bytes) -> str:
    """The log's key as readers of signed notes take it: ``name+id+base64(0x01 ‖ public key)``."""
    return f"{origin}+{key_id(origin, public).hex()}+{_base64(_ED25519 + public)}"


def sign_checkpoint(origin: str, size: int, root: bytes, key: Ed25519PrivateKey, public: bytes) -> Checkpoint:
    """Sign a tree head with the log's own key."""
    text = note_text(origin, size, root)
    signature = _base64(key_id(origin, public) + key.sign(text))
    return Checkpoint(origin=origin, size=size, root=root, note=f"{text.decode('ascii')}\n— {origin} {signature}\n")


def parse_checkpoint(data: bytes) -> Checkpoint:
    """Read a checkpoint strictly; its signature is checked by `check_note`. EvidenceError when it is none.

    Of a consistency proof (`consistency_text`) it is the part behind the first empty line.
    """
    if data.startswith(b"old "):
        data = data.partition(b"\n\n")[2]
    try:
        if len(data) > MAX_NOTE:
            raise ValueError(f"it has more than {MAX_NOTE} bytes")
        note = data.decode("utf-8")
        if not note.endswith("\n") or _CONTROL.search(note):
            raise ValueError("it does not end in a newline, or holds a control character")
        lines = note[:-1].split("\n")
        if len(lines) < 5 or lines[3] or not 1 <= len(lines) - 4 <= MAX_SIGNATURES:
            raise ValueError("it is not three lines, an empty one and 1 to 16 signatures")
        for line in lines[4:]:
            if (match := _SIGNATURE_LINE.fullmatch(line)) is None:
                raise ValueError("a signature line is not of the form '— name base64'")
            if len(_decoded(match[2])) <= _KEY_ID:
                raise ValueError("a signature is no longer than its key id")
        if _ORIGIN.fullmatch(lines[0]) is None:
            raise ValueError("its origin is of no log of this program")
        if _NUMBER.fullmatch(lines[1]) is None or not 1 <= int(lines[1]) <= 1 << 32:
            raise ValueError("its size is no number from 1")
        return Checkpoint(origin=lines[0], size=int(lines[1]), root=parse_hash(lines[2]), note=note)
    except (UnicodeDecodeError, ValueError) as error:
        said = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise EvidenceError("checkpoint", f"this is no checkpoint: {said}") from error


def check_note(checkpoint: Checkpoint, public: bytes) -> None:
    """The log's key signed this checkpoint under its origin's name; keys unknown here are passed over.

    Raises:
        EvidenceError: the first signature is not the log's, or any by this key does not hold.
    """
    own = key_id(checkpoint.origin, public)
    for number, (name, blob) in enumerate(checkpoint.signatures()):
        ours = name == checkpoint.origin and blob[:_KEY_ID] == own
        if number == 0 and not ours:
            raise EvidenceError("checkpoint", "the checkpoint is not signed by the key of this log")
        if ours:
            _check_one(public, blob[_KEY_ID:], checkpoint)


def _check_one(public: bytes, signature: bytes, checkpoint: Checkpoint) -> None:
    try:
        check_ed25519(public, signature, checkpoint.text)
    except (InvalidSignature, ValueError) as error:
        raise EvidenceError("checkpoint", "the log's signature under the checkpoint does not hold") from error


def consistency_text(old: int, proof: Sequence[bytes], checkpoint: Checkpoint) -> str:
    """A consistency proof with the newer checkpoint, as C2SP tlog-witness takes it."""
    return "".join(f"{line}\n" for line in (f"old {old}", *map(_base64, proof), "")) + checkpoint.note


def parse_hash(text: str) -> bytes:
    """32 bytes from one line of base64. ValueError for anything else."""
    data = _decoded(text)
    if len(data) != 32:
        raise ValueError("a hash in base64 was expected")
    return data


def hash_line(digest: bytes) -> str:
    """32 bytes as one line of base64."""
    return _base64(digest)


def _decoded(text: str) -> bytes:
    """Base64 in its one form. ValueError otherwise."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64") from error
    if _base64(data) != text:
        raise ValueError("not the one form of its base64")
    return data


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
