"""§2 to §6: study, design, streams, methods, schedule. What a design must be stands in `design`."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from .encoding import Refused, canon, expand, mac, prefixed, sha256, tag, uint


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
    k = 1
    while 2 ** (32 * k) < n:
        k += 1
    whole: int = 2 ** (32 * k)
    x = limit = whole - whole % n
    while x >= limit:
        x = 0
        for _ in range(k):
            x = 2**32 * x + next(source)
    return x % n


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


def walks(steps: int, at: int, limit: int) -> int:
    """§5.5, W: ways back to 0 in so many steps of 1 within -limit … limit; by reflection (Feller 1968, III.1), not by
    the recursion of the text."""
    if abs(at) > limit:
        return 0
    wall = limit + 1  # where no way may be; its images repeat every 4 walls

    def free(to: int) -> int:
        up, odd = divmod(steps + to - at, 2)
        return 0 if odd or not 0 <= up <= steps else math.comb(steps, up)

    turns = range(-steps // wall - 1, steps // wall + 2)
    return sum(free(4 * wall * turn) - free(4 * wall * turn + 2 * wall) for turn in turns)


_walks = functools.cache(walks)


def weights(design: dict[str, Any], counts: Sequence[int], size: int) -> list[int]:
    """§5.5: of each arm, after these counts of a block of this size."""
    ratio, n, lead = [item["share"] for item in design["ratio"]], sum(counts), counts[0] - counts[1]
    limit, arms = design.get("limit", 0), range(len(counts))
    p, q = map(int, design.get("probability", "1/1").split("/"))
    coin = [1, 1] if lead == 0 else [q - p, p] if lead > 0 else [p, q - p]
    least = min(count // share for count, share in zip(counts, ratio, strict=True))
    balls = design.get("lambda", 0) + least
    match design["method"]:
        case "complete":
            return ratio
        case "random-allocation-rule":
            return [size * ratio[k] // sum(ratio) - counts[k] for k in arms]
        case "big-stick" | "chen" if abs(lead) >= limit:
            return [int(lead < 0), int(lead > 0)]
        case "big-stick":
            return [1, 1]
        case "biased-coin" | "chen":
            return coin
        case "urn":
            result = [design["alpha"] + design["beta"] * (n - count) for count in counts]
            return result if sum(result) else [1] * len(counts)
        case "truncated-binomial":
            return [int(2 * count < size) for count in counts]
        case "maximal-procedure":
            return [_walks(size - n - 1, lead + step, limit) for step in (1, -1)]
        case "block-urn":
            return [ratio[k] * balls - counts[k] for k in arms]
        case method:
            raise Refused(f"{method} has no weights")


def drawn_by_weights(prk: bytes, label: str, design: dict[str, Any]) -> list[int]:
    """§5.4."""
    sizes, draws = words(stream_key(prk, "size", label)), words(stream_key(prk, "draw", label))
    result: list[int] = []
    while len(result) < design["length"]:
        size = design["length"]
        if "block_sizes" in design:
            size = design["block_sizes"][below(sizes, len(design["block_sizes"]))]
        counts = [0] * len(design["ratio"])
        for _ in range(size):
            sums = list(itertools.accumulate(weights(design, counts, size)))
            x = below(draws, sums[-1])
            arm = next(k for k, reached in enumerate(sums) if reached > x)
            counts[arm] += 1
            result.append(arm)
    return result[: design["length"]]


def arms_of(prk: bytes, label: str, design: dict[str, Any], stratum: int) -> list[int]:
    """§5: of one stratum, counted from 0."""
    if design["method"] == "imported-list":
        return list(bytes.fromhex(design["arms"][stratum]))
    if design["method"] == "permuted-block":
        shares = [item["share"] for item in design["ratio"]]
        return sequence(prk, label, shares, design["block_sizes"], design["length"])
    return drawn_by_weights(prk, label, design)


def schedule(
    study: dict[str, Any], design: dict[str, Any], salt: bytes, shares: Sequence[bytes]
) -> list[tuple[str, list[tuple[int, bytes]]]]:
    """§6: (label, [(arm, salt), …]) of every stratum."""
    prk = prk_of(fingerprint(study), design_commitment(design, salt), shares)
    result, length = [], design["length"]
    for number, stratum in enumerate(strata(study)):
        label = label_of(stratum)
        arms = arms_of(prk, label, design, number)
        salts = stream_bytes(stream_key(prk, "salt", label), 0, 32 * length)
        result.append((label, [(arm, salts[32 * p : 32 * p + 32]) for p, arm in enumerate(arms)]))
    return result
