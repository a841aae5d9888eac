"""All that must stay secret of a study whose entropy is known, and the hunt for it in files and in what is printed.

Arms and their codes are public; what is secret is which entry has which arm, until it is allocated, and all from which
that could be learnt: seed shares, the design, K_p and K_i, the half keys, keys and salts of entries, private keys,
passphrases. The salt stands beside the arm in an opened entry, so whoever writes one down writes the salt down.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import support
from allocator import sealing
from allocator.canonical import canonical_bytes
from allocator.design import RandomizationDesign, design_commitment
from allocator.home import study_place
from allocator.keys import ONLY_FOR_TESTS, KeyFolder
from allocator.keystream import pseudorandom_key, stream_key
from allocator.schedule import generate_schedule
from allocator.sealing import SealedSchedule
from allocator.study import Study


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What `generate` draws from the system, in its order."""

    shares: tuple[bytes, bytes]
    sealing: bytes
    salt: bytes
    key_p: bytes
    key_i: bytes

    @classmethod
    def of(cls, values: Iterable[bytes]) -> Drawn:
        """From the values in the order in which they were asked for."""
        one, other, sealing_id, salt, key_p, key_i, *_ = values
        return cls(shares=(one, other), sealing=sealing_id, salt=salt, key_p=key_p, key_i=key_i)


def secrets_of(home: Path, drawn: Drawn, study: Study, how: RandomizationDesign) -> dict[str, bytes]:
    """Every secret byte string of a study with one stratum, by a name such as ``salt of entry 3``.

    The commitments in the log and in sealed.json are held to them first: a hunt for other bytes would find nothing.
    """
    sealed = SealedSchedule.from_bytes(study_place(home, None).sealed_file.read_bytes())
    how = how.for_study(study)
    schedule = generate_schedule(study, how, drawn.salt, drawn.shares)
    assert sealed.sealing == drawn.sealing
    assert [s.commitment for s in sealed.shares] == [sealing.seed_commitment(s).hex() for s in drawn.shares]
    assert sealed.design_commitment == design_commitment(how, drawn.salt)
    prk = pseudorandom_key(study.fingerprint, sealed.design_commitment, drawn.shares)
    (stratum,), label = schedule.strata, sealed.strata[0].label
    found = {
        "share 1": drawn.shares[0],
        "share 2": drawn.shares[1],
        "salt of the design": drawn.salt,
        "the design": canonical_bytes(how.plain()),
        "K_p": drawn.key_p,
        "K_i": drawn.key_i,
        "PRK": prk,
        "all arms": stratum.arms,
        "all arms, as digits": bytes(0x30 + arm for arm in stratum.arms),
        "all arms, as JSON": json.dumps(list(stratum.arms)).encode(),
        **{f"stream {purpose}": stream_key(prk, purpose, label) for purpose in ("size", "shuffle", "salt")},
    }
    for position, arm in enumerate(stratum.arms):
        half_p, half_i = (sealing.half_key(key, sealed.sealing, label, position) for key in (drawn.key_p, drawn.key_i))
        opened = sealing.open_entry(sealed.strata[0], position, half_p, half_i, study.fingerprint, sealed.sealing)
        assert opened == (arm, stratum.salt(position))
        found |= {
            f"salt of entry {position}": stratum.salt(position),
            f"pharmacists' half of entry {position}": half_p,
            f"investigators' half of entry {position}": half_i,
            f"key of entry {position}": sealing.entry_key(half_p, half_i),
        }
    return found


def private_keys(home: Path, people: Mapping[str, str]) -> dict[str, bytes]:
    """Both private keys of each person, by the passphrases given, and those passphrases where they are long enough."""
    folder = KeyFolder(study_place(home, None).keys, stretching=ONLY_FOR_TESTS)
    found = {}
    for person, passphrase in people.items():
        keys = folder.unlock(support.STUDY_ID, person, passphrase)
        found[f"signing key of {person}"] = keys.signing.private_bytes_raw()
        found[f"opening key of {person}"] = keys.opening.private_bytes_raw()
        if len(passphrase) >= 8:  # "pw" stands in base64 somewhere
            found[f"passphrase of {person}"] = passphrase.encode()
    return found


def told_by(record: Mapping[str, object]) -> tuple[str, ...]:
    """The secrets that a record gives away, as it must: a confirmation its half, an allocation its opened entry."""
    position = record.get("position")
    return {
        "confirmed": (f"investigators' half of entry {position}",),
        "allocated": (f"salt of entry {position}",),
    }.get(str(record["kind"]), ())


def forms(value: bytes) -> Iterator[bytes]:
    """How bytes may stand in a file: raw, hexadecimal, base64 at each of its three alignments, both alphabets."""
    yield value
    yield value.hex().encode()
    yield value.hex().upper().encode()
    for shift in range(3):
        text = base64.b64encode(bytes(shift) + value)[4 if shift else 0 :].rstrip(b"=")
        middle = text[: len(text) - 2]  # the last characters depend on what follows
        yield middle
        yield middle.replace(b"+", b"-").replace(b"/", b"_")


class Hunt:
    """One search for many secrets."""

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        self._forms = [(name, form) for name, value in secrets.items() for form in forms(value)]

    def within(self, data: bytes | str) -> set[str]:
        """The names of the secrets that stand in these bytes, in any form."""
        data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        return {name for name, form in self._forms if form in data}

    def files(self, folder: Path) -> set[str]:
        """The same for the content and the name of every file below a folder."""
        found = set()
        for path in folder.rglob("*"):
            found |= self.within(path.name)
            if path.is_file():
                found |= self.within(path.read_bytes())
        return found
