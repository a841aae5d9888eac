"""Drawing a list against numpy's own shuffling, and sealing it against the bare loop of its cryptography."""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from measure import Row, compare

from allocator import sealing
from allocator.design import RandomizationDesign
from allocator.keystream import stream_key, words
from allocator.maximal_procedure import MAX_LENGTH
from allocator.methods import draw_stratum as draw_by_method
from allocator.permuted_block import draw_sequence, draw_stratum
from allocator.schedule import generate_schedule
from support import design, study

RATIO, ODDS = (("A", 1), ("B", 1)), Fraction(2, 3)
INFO = b"x" * 40  # as long as what is authenticated in an entry, nearly


def draw_rows(folder: Path, quick: bool) -> Iterator[Row]:  # noqa: ARG001 (all parts are called alike)
    """Long lists of 1:1 in blocks."""
    length = 100_000 if quick else 1_000_000
    generator = np.random.default_rng(1)

    def permuted(sizes: tuple[int, ...]) -> None:
        blocks = generator.choice(np.array(sizes), size=length // min(sizes))
        for size in sizes:
            rows = int((np.cumsum(blocks) <= length).sum()) if len(sizes) == 1 else int((blocks == size).sum() * 0.5)
            generator.permuted(np.tile(np.repeat([0, 1], size // 2).astype(np.uint8), (rows, 1)), axis=1)

    for sizes in ((4,), (2, 4, 6)):
        yield compare(
            f"draw {length:,} entries in blocks of {sizes} / numpy Generator.permuted",
            lambda s=sizes: draw_stratum(bytes(32), "{}", (1, 1), s, length),
            lambda s=sizes: permuted(s),
            goal="<= 5",
            repeats=7,
        )


METHODS = (
    RandomizationDesign(method="complete", length=1, ratio=RATIO),
    RandomizationDesign(method="random-allocation-rule", length=2, ratio=RATIO),
    RandomizationDesign(method="big-stick", length=1, ratio=RATIO, limit=3),
    RandomizationDesign(method="biased-coin", length=1, ratio=RATIO, probability=ODDS),
    RandomizationDesign(method="urn", length=1, ratio=RATIO, alpha=1, beta=1),
    RandomizationDesign(method="truncated-binomial", length=2, ratio=RATIO),
    RandomizationDesign(method="chen", length=1, ratio=RATIO, limit=3, probability=ODDS),
    RandomizationDesign(method="maximal-procedure", length=2, ratio=RATIO, limit=3),
    RandomizationDesign(method="block-urn", length=1, ratio=RATIO, lambda_=2),
)


def method_rows(folder: Path, quick: bool) -> Iterator[Row]:  # noqa: ARG001
    """Each other method against permuted blocks of 4, drawn the plain way too; the maximal procedure at its longest."""
    for short in METHODS:
        length = MAX_LENGTH if short.method == "maximal-procedure" else 10_000
        how = replace(short, length=length)
        keys = [stream_key(bytes(32), purpose, "{}") for purpose in ("size", "shuffle")]
        yield compare(
            f"draw {length:,} entries by {how.method} / plain permuted blocks of (4,)",
            lambda d=how: draw_by_method(d.method, d, bytes(32), "{}", 0),
            lambda n=length, k=keys: draw_sequence((1, 1), (4,), n, words(k[0]), words(k[1])),
            goal="",
            repeats=3 if quick else 5,
        )


def seal_rows(folder: Path, quick: bool) -> Iterator[Row]:  # noqa: ARG001
    """Sealing entries: five HMACs and one AES-GCM each."""
    for count in (10_000,) if quick else (10_000, 100_000):
        schedule = generate_schedule(study(), design(length=count), bytes(32), [bytes(32), bytes(32)])
        [stratum] = schedule.strata
        nonces = os.urandom(12 * count)

        def bare(n: int = count, nonces: bytes = nonces, salts: bytes = stratum.salts) -> None:
            for i in range(n):
                key = hmac.digest(
                    hmac.digest(b"p" * 32, INFO, "sha256"), b"entry" + hmac.digest(b"i" * 32, INFO, "sha256"), "sha256"
                )
                committed = hmac.digest(salts[32 * i : 32 * i + 32], INFO, "sha256")
                sealed = AESGCM(key).encrypt(
                    nonces[12 * i : 12 * i + 12], salts[32 * i : 32 * i + 33], INFO + committed
                )
                base64.b64encode(committed + sealed)

        yield compare(
            f"seal {count:,} entries and their root / the bare loop of its cryptography",
            lambda s=schedule, n=nonces: sealing.seal_schedule(s, bytes(32), bytes(16), b"p" * 32, b"i" * 32, n),
            bare,
            goal="<= 2",
            repeats=3,
        )
