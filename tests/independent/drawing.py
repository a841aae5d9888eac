"""§2 to §6: study, design, streams, blocks, schedule."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from .encoding import canon, expand, mac, prefixed, sha256, tag, uint


def study_object(file: dict[str, Any]) -> dict[str, Any]:
    """§2.1: the canonical object of the tables of study.toml."""
    study = dict(file["study"])
    study["format"] = file["format"]
    study["arms"] = [{"interventions": [], **arm} for arm in file["arm"]]
    study["factors"] = file.get("factor", [])
    study["questions"] = file.get("question", [])
    absent: dict[str, Any] = {"unit": [], "needs": [], "codes": [], "max_age_days": None, "not_applicable": None}
    absent |= {"whole_number": False, "summary": False}
    study["criteria"] = [{**absent, **criterion} for criterion in file["criterion"]]
    for criterion in study["criteria"]:
        if isinstance(criterion["unit"], str):
            criterion["unit"] = [criterion["unit"]]
    return study


def fingerprint(study: dict[str, Any]) -> bytes:
    """§2.2."""
    return sha256(tag("study") + canon(study))


def strata(study: dict[str, Any]) -> list[dict[str, str]]:
    """§2.3."""
    names = [factor["name"] for factor in study["factors"]]
    levels = [factor["levels"] for factor in study["factors"]]
    return [dict(zip(names, combination, strict=True)) for combination in itertools.product(*levels)]


def label_of(stratum: dict[str, str]) -> str:
    """§2.3."""
    return canon(stratum).decode()


def design_commitment(design: dict[str, Any], salt: bytes) -> bytes:
    """§3."""
    return mac(salt, tag("design") + canon(design))


def seed_commitment(share: bytes) -> bytes:
    """§4.1."""
    return sha256(tag("seed") + share)


def prk_of(study_print: bytes, committed: bytes, shares: Sequence[bytes], beacon: bytes = b"") -> bytes:
    """§4.1; HKDF-Extract is HMAC with the salt as key (RFC 5869 §2.2)."""
    material = tag("prk") + uint(len(shares), 1) + b"".join(shares) + prefixed(beacon)
    return mac(study_print + committed, material)


def stream_key(prk: bytes, purpose: str, label: str) -> bytes:
    """§4.2."""
    return expand(prk, tag("stream") + prefixed(purpose) + prefixed(label))


def keystream(key: bytes) -> Iterator[bytes]:
    """§4.2: the encrypted counter blocks, 16 bytes each, one after another."""
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    for counter in itertools.count():
        yield encryptor.update(uint(counter, 16))


def stream_bytes(key: bytes, start: int, end: int) -> bytes:
    """§4.2: bytes start … end - 1 of a stream."""
    return b"".join(itertools.islice(keystream(key), -(-end // 16)))[start:end]


def words(key: bytes) -> Iterator[int]:
    """§4.2."""
    for block in keystream(key):
        for offset in range(0, 16, 4):
            yield int.from_bytes(block[offset : offset + 4], "big")


def below(source: Iterator[int], n: int) -> int:
    """§4.3."""
    limit = 2**32 - 2**32 % n
    word = next(source)
    while word >= limit:
        word = next(source)
    return word % n


def block(shares: Sequence[int], size: int) -> list[int]:
    """§5.1."""
    times, rest = divmod(size, sum(shares))
    assert not rest
    result: list[int] = []
    for arm, share in enumerate(shares):
        result += [arm] * (share * times)
    return result


def shuffled(items: Sequence[int], source: Iterator[int]) -> list[int]:
    """§5.2."""
    result = list(items)
    last = len(result) - 1
    while last >= 1:
        other = below(source, last + 1)
        result[last], result[other] = result[other], result[last]
        last -= 1
    return result


def sequence(prk: bytes, label: str, shares: Sequence[int], sizes: Sequence[int], length: int) -> list[int]:
    """§5.3."""
    size_source = words(stream_key(prk, "size", label))
    shuffle_source = words(stream_key(prk, "shuffle", label))
    result: list[int] = []
    while len(result) < length:
        size = sizes[below(size_source, len(sizes))]
        result += shuffled(block(shares, size), shuffle_source)
    return result[:length]


def schedule(
    study: dict[str, Any], design: dict[str, Any], salt: bytes, shares: Sequence[bytes]
) -> list[tuple[str, list[tuple[int, bytes]]]]:
    """§6: (label, [(arm, salt), …]) of every stratum."""
    prk = prk_of(fingerprint(study), design_commitment(design, salt), shares)
    result, length = [], design["length"]
    for stratum in strata(study):
        label = label_of(stratum)
        ratio = [item["share"] for item in design["ratio"]]
        arms = sequence(prk, label, ratio, design["block_sizes"], length)
        salts = stream_bytes(stream_key(prk, "salt", label), 0, 32 * length)
        result.append((label, [(arm, salts[32 * p : 32 * p + 32]) for p, arm in enumerate(arms)]))
    return result
