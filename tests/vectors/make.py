"""Make the test vectors of docs/spec.md from fixed inputs: ``python tests/vectors/make.py [--replace NAME …]``.

Deterministic. A file that is there is compared, never overwritten, unless it is named with --replace: changed vectors
mean changed bytes, and every list and log made before would no longer verify. Exit 1 when a file differs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from allocator import merkle, sealing
from allocator.canonical import canonical_bytes, prefixed, tag, u8, u32
from allocator.case import code_digest
from allocator.checkpoint import (
    Checkpoint,
    consistency_text,
    key_id,
    note_text,
    origin_of,
    sign_checkpoint,
    verifier_key,
)
from allocator.continuity import SharePaper
from allocator.design import RandomizationDesign, design_commitment
from allocator.envelope import context, padded
from allocator.keystream import draw_below, keystream_bytes, pseudorandom_key, stream_key, words
from allocator.log import GENESIS, KINDS, Detail, Record, detail_commitment, new_record
from allocator.methods import draw_stratum as draw_stratum_by
from allocator.permuted_block import block_of, draw_sequence, draw_stratum, shuffle
from allocator.person import sign
from allocator.receipt import Receipt, arm_words, file_name
from allocator.schedule import generate_schedule
from allocator.seed import Seed
from allocator.study import Study, stratum_label
from allocator.toml_files import read_study

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
STUDY_FILE = "schedules/NCT04225780/study.toml"
Vectors = dict[str, Any]


def given(name: str, length: int = 32) -> bytes:
    """A fixed input that anybody can make again: the first bytes of SHA-256 of its name."""
    return hashlib.sha256(name.encode("utf-8")).digest()[:length]


STUDY: Study = read_study("study.toml", (ROOT / STUDY_FILE).read_bytes())
SHARES = (given("share 1"), given("share 2"))
DESIGN_SALT = given("design salt")
SEALING = given("sealing", 16)
KEY_P, KEY_I = given("K_p"), given("K_i")
SITES = {"site": "北京", "sex": "F"}  # two factors, one level beyond ASCII, keys not in canonical order


def design(*shares: int, sizes: Iterable[int], length: int) -> RandomizationDesign:
    """A design with arms A, B, C … of these shares."""
    ratio = tuple((chr(ord("A") + i), share) for i, share in enumerate(shares))
    return RandomizationDesign(method="permuted-block", block_sizes=tuple(sizes), length=length, ratio=ratio)


FIRST_DESIGN = RandomizationDesign(
    method="permuted-block", block_sizes=(4, 6), length=20, ratio=(("IL2-GCV", 1), ("GCV", 1))
)


def canonical_json() -> Vectors:
    """§1: encodings, and bytes that strict parsing refuses."""
    values = [
        {},
        {"b": 2, "a": 1},
        {"B": "", "a": "", "A": "", "_": "", "1": ""},
        {"\U0001f600": "surrogate pair sorts before U+FB33", "\ufb33": "", "é": "", "z": ""},
        {"text": 'quote " backslash \\ slash / tab \t newline \n bell \x07 delete \x7f line separator \u2028'},
        {"nested": [[], {}, [1, [2]], {"x": None}], "yes": True, "no": False},
        {"largest": 2**53 - 1, "smallest": -(2**53 - 1), "zero": 0},
        {"quantity": "0.10", "time": "2026-11-20T01:30:00.000Z"},
    ]
    refused = {
        "duplicate key": b'{"a":1,"a":1}',
        "float": b'{"a":1.0}',
        "exponent": b'{"a":1e2}',
        "minus zero": b'{"a":-0}',
        "leading zero": b'{"a":01}',
        "2^53": b'{"a":9007199254740992}',
        "NaN": b'{"a":NaN}',
        "lone surrogate": b'{"a":"\\ud800"}',
        "white space": b'{"a": 1}',
        "key order": b'{"b":1,"a":1}',
        "key order by code point": '{"\ufb33":"","\U0001f600":""}'.encode(),
        "needless escape": b'{"a":"\\u0041"}',
        "upper-case escape": b'{"a":"\\u001F"}',
        "raw control character": b'{"a":"\x01"}',
        "invalid UTF-8": b'{"a":"\xff"}',
        "byte order mark": b"\xef\xbb\xbf{}",
        "no object": b"[]",
        "trailing bytes": b"{}\n",
    }
    return {
        "encoded": [{"value": value, "bytes": canonical_bytes(value).hex()} for value in values],
        "refused": [{"why": why, "bytes": data.hex()} for why, data in refused.items()],
        "tags": [{"name": name, "bytes": tag(name).hex()} for name in ("study", "prk", "entry-data")],
        "prefixed": [{"text": text, "bytes": prefixed(text.encode("utf-8")).hex()} for text in ("", "size", "北京")],
    }


def study() -> Vectors:
    """§2: the first study's canonical bytes and fingerprint, and labels of strata."""
    canonical = canonical_bytes(STUDY.plain())
    return {
        "file": STUDY_FILE,
        "canonical": canonical.decode("utf-8"),
        "fingerprint": STUDY.fingerprint.hex(),
        "labels": [{"stratum": s, "label": stratum_label(s)} for s in ({}, {"site": "A"}, SITES)],
    }


def designs() -> Vectors:
    """§3: canonical design and its salted commitment."""
    cases = [FIRST_DESIGN, design(3, 4, 4, sizes=[11, 55], length=100)]
    return {
        "cases": [
            {
                "design": case.plain(),
                "salt": DESIGN_SALT.hex(),
                "canonical": canonical_bytes(case.plain()).decode("utf-8"),
                "commitment": design_commitment(case, DESIGN_SALT).hex(),
            }
            for case in cases
        ]
    }


def keystreams() -> Vectors:
    """§4: PRK, stream keys, first bytes and words, integers below n with redraws."""
    committed = design_commitment(FIRST_DESIGN, DESIGN_SALT)
    prks = [
        {
            "fingerprint": STUDY.fingerprint.hex(),
            "design_commitment": committed.hex(),
            "shares": [share.hex() for share in shares],
            "beacon": beacon.hex(),
            "prk": pseudorandom_key(STUDY.fingerprint, committed, shares, beacon).hex(),
        }
        for shares, beacon in ((SHARES, b""), (SHARES[::-1], b""), (SHARES[:1], b""), (SHARES, b"beacon"))
    ]
    prk = pseudorandom_key(STUDY.fingerprint, committed, SHARES)
    streams = []
    for label in (stratum_label({}), stratum_label(SITES)):
        for purpose in ("size", "shuffle", "salt"):
            key = stream_key(prk, purpose, label)
            streams.append(
                {
                    "prk": prk.hex(),
                    "purpose": purpose,
                    "label": label,
                    "key": key.hex(),
                    "bytes_0_to_47": keystream_bytes(key, 0, 48).hex(),
                    "bytes_4090_to_4101": keystream_bytes(key, 4090, 12).hex(),
                    "words": list(islice(words(key), 6)),
                }
            )
    raw = [0xFFFFFFFF, 0, 0xFFFFFFFE, 5, 0xFFFFFFFC, 0xC0000000, 0xBFFFFFFF, 7, 0x80000001, 0x80000000, 3]
    below = []
    for n in (1, 2, 3, 4, 5, 6, 0xC0000000, 2**31 + 1, 2**32):
        stream = iter(raw)
        below.append({"words": raw, "n": n, "drawn": list(_until_empty(stream, n))})
    return {"prk": prks, "streams": streams, "below": below}


def _until_empty(stream: Any, n: int) -> Iterable[int]:
    while True:
        try:
            yield draw_below(stream, n)
        except StopIteration:
            return


def permuted_blocks() -> Vectors:
    """§5: blocks, shuffles of given words, and whole sequences."""
    prk = given("prk of the sequences")
    blocks = [
        {"shares": list(shares), "size": size, "block": block_of(shares, size)}
        for shares, size in (((1, 1), 4), ((2, 1), 6), ((3, 4, 4), 55), ((1, 1, 1), 3))
    ]
    raw = [7, 0xFFFFFFFF, 2, 0xFFFFFFFE, 1, 9]
    multisets = ([0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 1, 1])
    shuffles = [{"block": block, "words": raw, "shuffled": shuffle(block, iter(raw))} for block in multisets]
    cases = [
        ("one size", design(1, 1, sizes=[4], length=12)),
        ("two sizes, last block cut", design(1, 1, sizes=[4, 6], length=21)),
        ("2:1", design(2, 1, sizes=[3, 6, 9], length=30)),
        ("3:4:4 in blocks of 55, cut", design(3, 4, 4, sizes=[55], length=120)),
        ("three arms", design(1, 1, 1, sizes=[3, 6], length=24)),
        ("shorter than a block", design(1, 1, sizes=[6], length=1)),
        ("long enough for the vectorised way", design(1, 1, sizes=[2, 4, 6], length=5000)),
        ("large blocks with redraws", design(1, 2, sizes=[3, 9999], length=20_000)),
    ]
    sequences = []
    for name, case in cases:
        for label in (stratum_label({}), stratum_label(SITES)):
            arms = draw_stratum(prk, label, case.shares, case.block_sizes, case.length)
            plain = draw_sequence(
                case.shares,
                case.block_sizes,
                case.length,
                words(stream_key(prk, "size", label)),
                words(stream_key(prk, "shuffle", label)),
            )
            if arms != plain:
                raise RuntimeError("the two ways of drawing differ")
            sequences.append(
                {
                    "name": name,
                    "prk": prk.hex(),
                    "label": label,
                    "shares": list(case.shares),
                    "block_sizes": list(case.block_sizes),
                    "length": case.length,
                    "sha256": hashlib.sha256(arms).hexdigest(),
                    **({"arms": arms.hex()} if case.length <= 200 else {}),
                }
            )
    return {"blocks": blocks, "shuffles": shuffles, "sequences": sequences}


def methods() -> Vectors:
    """§4.3: integers of several words; §5.4 to §5.6: a list of every other method."""
    prk, raw = given("prk of the sequences"), [0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 1, 2, 3, 4, 5, 6]
    integers = [
        {"words": raw, "n": n, "drawn": draw_below(iter(raw), n)}
        for n in (1, 2**32, 2**32 + 1, 3**41, 2**64, 2**64 + 1)
    ]
    two, three = (("A", 1), ("B", 1)), (("A", 2), ("B", 1), ("C", 3))
    odds = {"probability": Fraction(2, 3)}
    designs = [
        RandomizationDesign(method="complete", length=40, ratio=three),
        RandomizationDesign(method="random-allocation-rule", length=40, ratio=two),
        RandomizationDesign(method="random-allocation-rule", length=36, ratio=three),
        RandomizationDesign(method="big-stick", length=60, ratio=two, limit=2),
        RandomizationDesign(method="biased-coin", length=60, ratio=(("A", 2), ("B", 2)), **odds),
        RandomizationDesign(method="urn", length=40, ratio=two, alpha=0, beta=1),
        RandomizationDesign(method="urn", length=40, ratio=(*two, ("C", 1)), alpha=1000, beta=7),
        RandomizationDesign(method="truncated-binomial", length=40, ratio=two),
        RandomizationDesign(method="truncated-binomial", length=41, ratio=two, block_sizes=(4, 6)),
        RandomizationDesign(method="chen", length=60, ratio=two, limit=2, **odds),
        RandomizationDesign(method="maximal-procedure", length=60, ratio=two, limit=3),
        RandomizationDesign(method="maximal-procedure", length=200, ratio=two, limit=7),
        RandomizationDesign(method="block-urn", length=60, ratio=three, lambda_=2),
        RandomizationDesign(
            method="imported-list", length=4, ratio=two, arms=(bytes([0, 1, 1, 0]), bytes([1, 1, 0, 0]))
        ),
    ]
    lists = [
        {
            "design": case.plain(),
            "algorithm": case.algorithm,
            "prk": prk.hex(),
            "label": label,
            "stratum": place,
            "arms": draw_stratum_by(case.method, case, prk, label, place).hex(),
        }
        for case in designs
        for place, label in enumerate((stratum_label({}), stratum_label(SITES)))
    ]
    return {"integers": integers, "lists": lists}


def schedules() -> Vectors:
    """§6, §7: the first study's list under fixed shares, sealed with fixed keys and nonces; its root."""
    schedule = generate_schedule(STUDY, FIRST_DESIGN, DESIGN_SALT, SHARES)
    nonces = b"".join(given(f"nonce {i}", 12) for i in range(FIRST_DESIGN.length))
    strata, root = sealing.seal_schedule(schedule, STUDY.fingerprint, SEALING, KEY_P, KEY_I, nonces)
    listed, sealed = schedule.strata[0], strata[0]
    entries = []
    for position in range(FIRST_DESIGN.length):
        half_p = sealing.half_key(KEY_P, SEALING, listed.label, position)
        half_i = sealing.half_key(KEY_I, SEALING, listed.label, position)
        entries.append(
            {
                "position": position,
                "arm": listed.arms[position],
                "salt": listed.salt(position).hex(),
                "commitment": sealed.commitment(position).hex(),
                "half_p": half_p.hex(),
                "half_i": half_i.hex(),
                "key": sealing.entry_key(half_p, half_i).hex(),
                "nonce": given(f"nonce {position}", 12).hex(),
                "entry": sealed.entries[position],
            }
        )
    return {
        "study": STUDY_FILE,
        "design": FIRST_DESIGN.plain(),
        "design_salt": DESIGN_SALT.hex(),
        "shares": [share.hex() for share in SHARES],
        "seed_commitments": [sealing.seed_commitment(share).hex() for share in SHARES],
        "sealing": SEALING.hex(),
        "key_p": KEY_P.hex(),
        "key_i": KEY_I.hex(),
        "label": listed.label,
        "arms": listed.arms.hex(),
        "entries": entries,
        "root": root.hex(),
    }


def sealed_entry() -> Vectors:
    """§7: one entry of a stratum with factors, step by step; contexts and padding of envelopes."""
    label, position, arm, salt = stratum_label(SITES), 258, 1, given("salt of the entry")
    nonce, place = given("nonce of the entry", 12), prefixed(label.encode("utf-8")) + u32(position)
    committed = sealing.commitment(salt, STUDY.fingerprint, SEALING, label, position, arm)
    half_p = sealing.half_key(KEY_P, SEALING, label, position)
    half_i = sealing.half_key(KEY_I, SEALING, label, position)
    key, data = sealing.entry_key(half_p, half_i), tag("entry-data") + SEALING + place + committed
    leaf = sealing.schedule_leaf(label, position, committed)
    leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    hashes = [merkle.leaf_hash(bytes.fromhex(leaf)) for leaf in leaves]
    return {
        "entry": {
            "fingerprint": STUDY.fingerprint.hex(),
            "sealing": SEALING.hex(),
            "label": label,
            "position": position,
            "arm": arm,
            "salt": salt.hex(),
            "key_p": KEY_P.hex(),
            "key_i": KEY_I.hex(),
            "nonce": nonce.hex(),
            "half_p": half_p.hex(),
            "half_i": half_i.hex(),
            "key": key.hex(),
            "commitment": committed.hex(),
            "associated_data": data.hex(),
            "blob": (committed + nonce + AESGCM(key).encrypt(nonce, u8(arm) + salt, data)).hex(),
            "leaf": leaf.hex(),
            "leaf_hash": merkle.leaf_hash(leaf).hex(),
        },
        "contexts": [
            {"name": name, "person": "ST-1", "info": context(name, STUDY.fingerprint, SEALING, "ST-1").hex()}
            for name in ("share", "keys", "grant")
        ],
        "padded": [
            {"plaintext_bytes": n, "padded_bytes": len(padded(bytes(n)))} for n in (0, 1, 1022, 1023, 2046, 2047)
        ],
        "trees": [{"leaves": leaves[:n], "root": merkle.root(hashes[:n]).hex()} for n in range(len(leaves) + 1)],
    }


def records() -> Vectors:
    """§8, §9: an invitation's digest, a private detail, and two signed records with their links."""
    key = Ed25519PrivateKey.from_private_bytes(given("signing key"))
    sign_key, code = key.public_key().public_bytes_raw().hex(), "ABCD-EFGH-JKLM-NPQR-STUV"
    detail = Detail(salt=given("salt of the name"), value="Zoë 王")
    common = {"format": "allocator-record/1", "mode": "test", "program": "allocator 0.1.0"}
    signed = {"person": "SP-1", "role": "sponsor"}
    opened: dict[str, Any] = {
        **common,
        **signed,
        "seq": 0,
        "kind": "study-opened",
        "time": "2026-11-20T01:30:00.000Z",
        "study": STUDY.id,
        "fingerprint": STUDY.fingerprint.hex(),
        "registry": None,
        "findings": [{"id": "K02", "level": "warn", "message": "type", "quotes": ["Placebo"]}],
        "log_key": given("log key").hex(),
        "sign_key": sign_key,
        "seal_key": given("seal key").hex(),
        "details": {"name": detail_commitment(detail.salt, 0, "name", detail.value)},
        "meaning": KINDS["study-opened"].meaning,
    }
    added: dict[str, Any] = {
        **common,
        **signed,
        "seq": 1,
        "kind": "person-added",
        "time": "2026-11-20T01:30:00.001Z",
        "added": "IN-1",
        "roles": ["investigator"],
        "code_digest": code_digest(STUDY.fingerprint, "IN-1", code),
        "details": {"name": detail_commitment(detail.salt, 1, "name", detail.value)},
        "meaning": KINDS["person-added"].meaning,
    }
    prev, made = GENESIS, []
    for fields in (opened, added):
        unsigned = canonical_bytes(fields)
        fields["signature"] = sign(key, prev, unsigned)
        record = new_record(prev, fields)
        made.append(
            {
                "prev": prev.hex(),
                "unsigned_body": unsigned.decode("utf-8"),
                "signature": fields["signature"],
                "body": record.body.decode("utf-8"),
                "hash": record.hash.hex(),
            }
        )
        prev = record.hash
    return {
        "signing_key": given("signing key").hex(),
        "sign_key": sign_key,
        "detail": {
            "salt": detail.salt.hex(),
            "seq": 0,
            "field": "name",
            "value": detail.value,
            "commitment": detail_commitment(detail.salt, 0, "name", detail.value),
        },
        "code": {
            "fingerprint": STUDY.fingerprint.hex(),
            "person": "IN-1",
            "code": code,
            "digest": code_digest(STUDY.fingerprint, "IN-1", code),
        },
        "records": made,
    }


# ---- §15.5, §16, §17 ------------------------------------------------------------------------------------------------

ORDER = 2**252 + 27742317777372353535851937790883648493  # of the base point of Ed25519
FIELD = 2**255 - 19
SMALL_ORDER = (  # §8.4; each with either sign bit
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
)
LOG_SEED = given("log seed")
LOG_KEY = Ed25519PrivateKey.from_private_bytes(LOG_SEED)
SIGNERS = {
    person: Ed25519PrivateKey.from_private_bytes(given(f"signing key of {person}"))
    for person in ("SP-1", "IN-1", "PH-1")
}


def public(key: Ed25519PrivateKey) -> bytes:
    """The raw public key, 32 bytes."""
    return key.public_key().public_bytes_raw()


def little_log() -> list[Record]:
    """Six signed records: what §16 and §17 need of a log, and not one that verifies (nobody was granted a key)."""
    schedule = generate_schedule(STUDY, FIRST_DESIGN, DESIGN_SALT, SHARES).strata[0]
    keys = {"log_key": public(LOG_KEY).hex(), "seal_key": given("seal key").hex()}
    bound = {"participant": "P-001", "stratum": {}, "position": 0, "sealing": SEALING.hex()}
    own: list[tuple[str, str, str, dict[str, Any]]] = [
        ("study-opened", "SP-1", "sponsor",
         {"study": STUDY.id, "fingerprint": STUDY.fingerprint.hex(), "registry": None, "findings": [],
          "sign_key": public(SIGNERS["SP-1"]).hex(), **keys}),
        ("person-added", "SP-1", "sponsor",
         {"added": "PH-1", "roles": ["pharmacist"], "code_digest": given("code digest").hex()}),
        ("person-enrolled", "PH-1", "pharmacist",
         {"sign_key": public(SIGNERS["PH-1"]).hex(), "seal_key": keys["seal_key"], "code": "ABCD-EFGH-JKLM-NPQR-STUV"}),
        ("confirmed", "IN-1", "investigator",
         {**bound, "fingerprint": STUDY.fingerprint.hex(), "attempt": {"type": "first", "of": None},
          "release": sealing.half_key(KEY_I, SEALING, schedule.label, 0).hex()}),
        ("allocated", "PH-1", "pharmacist",
         {**bound, "number": 1, "confirmation": 3, "arm": schedule.arms[0], "salt": schedule.salt(0).hex()}),
        ("receipt-copied", "PH-1", "pharmacist", {"participant": "P-001", "allocation": 4}),
    ]  # fmt: skip
    records: list[Record] = []
    for seq, (kind, person, role, fields) in enumerate(own):
        if KINDS[kind].details:
            fields["details"] = {
                name: detail_commitment(given(f"salt {seq} {name}"), seq, name, "") for name in KINDS[kind].details
            }
        prev = records[-1].hash if records else GENESIS
        records.append(_signed(prev, seq, kind, person, role, fields))
    return records


def _signed(prev: bytes, seq: int, kind: str, person: str, role: str, own: dict[str, Any]) -> Record:
    fields: dict[str, Any] = {
        "format": "allocator-record/1",
        "mode": "test",
        "program": "allocator 0.1.0",
        "seq": seq,
        "kind": kind,
        "time": f"2026-11-20T01:30:00.{seq:03d}Z",
        "person": person,
        "role": role,
        "meaning": KINDS[kind].meaning,
        **own,
    }
    fields["signature"] = sign(SIGNERS[person], prev, canonical_bytes(fields))
    return new_record(prev, fields)


def evidence() -> Vectors:
    """§15.5, §16, §17: trees and proofs, checkpoints, a receipt and its copy, what was disclosed; what is refused."""
    records = little_log()
    return {
        "trees": _trees([given(f"record {n}") for n in range(11)]),
        "log": {
            "log_key": public(LOG_KEY).hex(),
            "log_seed": LOG_SEED.hex(),
            "records": [{"prev": r.prev.hex(), "body": r.body.decode("utf-8"), "hash": r.hash.hex()} for r in records],
        },
        "checkpoints": _checkpoints(records),
        "receipts": _receipts(records),
        "opening": _opening(),
        "refused_checkpoints": [
            {"why": why, "log_key": key.hex(), "note": note} for why, key, note in _refused_checkpoints(records)
        ],
        "refused_receipts": [
            {"why": why, "receipt": data.decode("utf-8")} for why, data in _refused_receipts(_receipt(records))
        ],
    }


def _trees(leaves: list[bytes]) -> Vectors:
    """§16.1. Leaf hashes are given as they are: those of records are their hashes."""
    sizes = range(1, len(leaves) + 1)
    return {
        "leaf_hashes": [leaf.hex() for leaf in leaves],
        "roots": [{"size": size, "root": merkle.root(leaves[:size]).hex()} for size in sizes],
        "inclusion": [
            {"index": index, "size": size, "proof": _hex(merkle.inclusion_proof(leaves[:size], index))}
            for size in sizes
            for index in range(size)
        ],
        "consistency": [
            {"old": old, "size": size, "proof": _hex(merkle.consistency_proof(leaves[:size], old))}
            for size in sizes
            for old in range(1, size)
        ],
    }


def _hex(digests: Iterable[bytes]) -> list[str]:
    return [digest.hex() for digest in digests]


def _head(records: list[Record], size: int) -> Checkpoint:
    root = merkle.root(record.hash for record in records[:size])
    return sign_checkpoint(_origin(records), size, root, LOG_KEY, public(LOG_KEY))


def _origin(records: list[Record]) -> str:
    return origin_of(STUDY.id, records[0].hash)


def _checkpoints(records: list[Record]) -> Vectors:
    """§16.2, of the little log."""
    older, newer = _head(records, 2), _head(records, len(records))
    proof = merkle.consistency_proof([record.hash for record in records], older.size)
    blob = base64.b64encode(b"w1id" + given("cosignature", 32)).decode("ascii")
    # none of the characters in the second name is white space, though some readers think so
    witnesses = f"— witness.example/w1 {blob}\n— witness.example/\ufeff\u200b\u0301 {blob}\n"
    return {
        "origin": _origin(records),
        "key_id": key_id(_origin(records), public(LOG_KEY)).hex(),
        "verifier_key": verifier_key(_origin(records), public(LOG_KEY)),
        "older": {"size": older.size, "root": older.root.hex(), "note": older.note},
        "newer": {"size": newer.size, "root": newer.root.hex(), "note": newer.note},
        "with_signatures_unknown_here": newer.note + witnesses,
        "consistency": consistency_text(older.size, proof, newer),
    }


def _receipt(records: list[Record]) -> Receipt:
    """The receipt of record 4."""
    schedule = generate_schedule(STUDY, FIRST_DESIGN, DESIGN_SALT, SHARES)
    nonces = b"".join(given(f"nonce {i}", 12) for i in range(FIRST_DESIGN.length))
    strata, root = sealing.seal_schedule(schedule, STUDY.fingerprint, SEALING, KEY_P, KEY_I, nonces)
    record, hashes = records[4], [record.hash for record in records]
    return Receipt(
        record=record,
        sign_key=public(SIGNERS["PH-1"]),
        fingerprint=STUDY.fingerprint,
        first=records[0].hash,
        log_key=public(LOG_KEY),
        root=root,
        path=tuple(merkle.WholeTree(sealing.schedule_leaves(strata)).path(0)),
        arm=arm_words(STUDY.arms[record.fields["arm"]]),
        copy=None,
        proof=tuple(merkle.inclusion_proof(hashes[:5], 4)),
        checkpoint=_head(records, 5),
    )


def _receipts(records: list[Record]) -> Vectors:
    """§17.1: the first one, and a copy of it."""
    first = _receipt(records)
    copy = first.as_copy(records[5])
    return {
        "name": file_name(records[4]),
        "first": first.to_bytes().decode("utf-8"),
        "copy": copy.to_bytes().decode("utf-8"),
    }


def _opening() -> Vectors:
    """§15.5: a share given, and the seed; the list that it draws is that of schedule.json."""
    plain = FIRST_DESIGN.plain()
    share = SharePaper(
        study=STUDY.id,
        sealing=SEALING.hex(),
        person="ST-1",
        share=SHARES[0].hex(),
        design=plain,
        salt=DESIGN_SALT.hex(),
    )
    seed = Seed(
        study=STUDY.id,
        sealing=SEALING.hex(),
        shares=tuple(share.hex() for share in SHARES),
        design=plain,
        salt=DESIGN_SALT.hex(),
    )
    files = {"share": share.to_bytes(), "seed": seed.to_bytes()}
    return {
        name: {"file": data.decode("utf-8"), "digest": hashlib.sha256(data).hexdigest()} for name, data in files.items()
    }


# what every reader must refuse, so that any two readers agree


def _refused_checkpoints(records: list[Record]) -> Iterator[tuple[str, bytes, str]]:
    """(why, the log's key, the note): encodings of Ed25519 (§8.4), and lines of another form (§16.2)."""
    good, key = _head(records, 5), public(LOG_KEY)
    signature, identity = good.signatures()[0][1][4:], bytes.fromhex(SMALL_ORDER[0])
    for point in map(bytes.fromhex, SMALL_ORDER):
        for bit in (0, 0x80):
            small = point[:31] + bytes([point[31] | bit])
            yield "a key of small order, R the identity, S zero", small, _note(good, small, identity + bytes(32))
            yield "an R of small order", key, _note(good, key, small + signature[32:])
    for y in (0, 1, 18):
        beyond = (FIELD + y).to_bytes(32, "little")
        yield "a key whose y is beyond the field", beyond, _note(good, beyond, signature)
        yield "an R whose y is beyond the field", key, _note(good, key, beyond + signature[32:])
    for times in (1, 15):
        s = int.from_bytes(signature[32:], "little") + times * ORDER
        yield "an S that is not reduced", key, _note(good, key, signature[:32] + s.to_bytes(32, "little"))
    yield "holds only times the cofactor", key, _note(good, key, cofactored_only(LOG_SEED, good.text))
    yield "a signature of another text", key, _note(good, key, LOG_KEY.sign(b"another text"))
    yield "63 bytes", key, _note(good, key, signature[:-1])
    yield (
        "a second signature by the log's key that fails",
        key,
        good.note
        + good.note.splitlines()[-1].replace(
            base64.b64encode(key_id(good.origin, key) + signature).decode("ascii"),
            base64.b64encode(key_id(good.origin, key) + bytes(64)).decode("ascii"),
        )
        + "\n",
    )
    other = f"— witness.example/w1 {base64.b64encode(b'w1id' + bytes(64)).decode('ascii')}\n"
    head, _, own = good.note.rpartition("\n— ")
    for why, note in {
        "another key's signature first": f"{head}\n{other}— {own}",
        "no signature": f"{head}\n",
        "seventeen signatures": good.note + 16 * other,
        "a key name with a no-break space": good.note + other.replace("/w1", "\u00a0w1"),
        "a key name with a control character": good.note + other.replace("/w1", "\x9bw1"),
        "a key name with a delete": good.note + other.replace("/w1", "\x7fw1"),
        "a key name with a plus": good.note + other.replace("/w1", "+w1"),
        "a key id without a signature": good.note + "— witness.example/w1 dzFpZA==\n",
        "an extension line": good.note.replace("\n\n", "\nmore\n\n", 1),
        "a size with a zero in front": good.note.replace("\n5\n", "\n05\n"),
        "size 0": good.note.replace("\n5\n", "\n0\n"),
        "a size beyond 2^32": good.note.replace("\n5\n", "\n4294967297\n"),
        "base64 of the root in another form": good.note.replace(*_last_bits(good.note.split("\n")[2])),
        "a hyphen for the dash": good.note.replace("— ", "- "),
        "carriage returns": good.note.replace("\n", "\r\n"),
        "no newline at the end": good.note.removesuffix("\n"),
        "an empty line at the end": good.note + "\n",
    }.items():
        yield why, key, note


def _note(good: Checkpoint, key: bytes, signature: bytes) -> str:
    """The same head, signed otherwise."""
    blob = base64.b64encode(key_id(good.origin, key) + signature).decode("ascii")
    return f"{note_text(good.origin, good.size, good.root).decode('ascii')}\n— {good.origin} {blob}\n"


def _last_bits(coded: str) -> tuple[str, str]:
    """A base64 text of 32 bytes, and the same with unused bits set: lax readers take it as equal."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return coded, coded[:-2] + alphabet[alphabet.index(coded[-2]) + 1] + "="


def cofactored_only(secret: bytes, message: bytes) -> bytes:
    """A signature that holds in the equation multiplied by 8 and fails in the one without (§8.4).

    The point of order 2 is (0, −1), and (x, y) + (0, −1) = (−x, −y): so R is moved by its encoding alone.
    """
    key, hashed = Ed25519PrivateKey.from_private_bytes(secret), hashlib.sha512(secret).digest()
    scalar = int.from_bytes(hashed[:32], "little") & (2**254 - 8) | 2**254
    nonce = int.from_bytes(hashlib.sha512(hashed[32:] + message).digest(), "little")  # R = [nonce]B (RFC 8032 §5.1.6)
    r = int.from_bytes(key.sign(message)[:32], "little")
    y, sign_bit = r & (2**255 - 1), r >> 255
    moved = (FIELD - y | (1 - sign_bit) << 255).to_bytes(32, "little")
    k = int.from_bytes(hashlib.sha512(moved + public(key) + message).digest(), "little")
    return moved + ((nonce + k * scalar) % ORDER).to_bytes(32, "little")


def _refused_receipts(good: Receipt) -> Iterator[tuple[str, bytes]]:
    """(why, the file)."""
    other, other_arm = given("another digest"), 1 - good.record.fields["arm"]
    body = good.record.body.replace(b'"arm":%d' % good.record.fields["arm"], b'"arm":%d' % other_arm)
    opposite = {"L": "R", "R": "L"}[good.path[0][0]]
    yield "another arm in the record", _with(good, record=replace(good.record, body=body))
    yield "another record before it", _with(good, record=replace(good.record, prev=other))
    yield "another person's key", _with(good, sign_key=public(SIGNERS["IN-1"]))
    yield "another study", _with(good, fingerprint=other)
    yield "another first record", _with(good, first=other)
    yield "another key of the log", _with(good, log_key=public(SIGNERS["IN-1"]))
    yield "another root of the list", _with(good, root=other)
    yield "a step on the other side", _with(good, path=((opposite, good.path[0][1]), *good.path[1:]))
    yield "a step less", _with(good, path=good.path[:-1])
    yield "a step more", _with(good, path=(*good.path, ("R", other)))
    yield "65 steps", _with(good, path=65 * good.path[:1])
    yield "another hash in the proof", _with(good, proof=(other, *good.proof[1:]))
    yield "a hash less in the proof", _with(good, proof=good.proof[:-1])
    yield "a hash more in the proof", _with(good, proof=(*good.proof, other))
    yield "a checkpoint of another size", _with(good, checkpoint=_head(little_log(), 6))
    data = good.to_bytes()
    yield "another index", data.replace(b"\nindex 4\n", b"\nindex 3\n")
    yield "an index with a zero in front", data.replace(b"\nindex 4\n", b"\nindex 04\n")
    yield "a later version", data.replace(b"proof@v1", b"proof@v2")
    yield "carriage returns", data.replace(b"\n", b"\r\n")
    extra = data.split(b"\n")[1].removeprefix(b"extra ")
    for why, plain in {
        "extra data with a blank": base64.b64decode(extra).replace(b":", b": ", 1),
        "extra data with a field more": base64.b64decode(extra)[:-1] + b',"z":0}',
        "extra data of a later version": base64.b64decode(extra).replace(b"receipt/1", b"receipt/2"),
        "hidden characters in the arm's label": base64.b64decode(extra).replace(
            b'"label":"', '"label":"\u202e'.encode()
        ),
    }.items():
        yield why, data.replace(extra, base64.b64encode(plain), 1)


def _with(good: Receipt, **changes: Any) -> bytes:
    return replace(good, **changes).to_bytes()


MAKERS = {
    "canonical": canonical_json,
    "study": study,
    "design": designs,
    "keystream": keystreams,
    "permuted-block": permuted_blocks,
    "methods": methods,
    "schedule": schedules,
    "sealing": sealed_entry,
    "record": records,
    "evidence": evidence,
}


def made(name: str) -> bytes:
    """The bytes of one vector file."""
    return (json.dumps(MAKERS[name](), indent=1, ensure_ascii=True) + "\n").encode("ascii")


def main(arguments: list[str]) -> int:
    """Write the files that are missing or named with --replace; compare the others."""
    replace = set(arguments[1:]) if arguments[:1] == ["--replace"] else set()
    differing = []
    for name in MAKERS:
        path, data = HERE / f"{name}.json", made(name)
        if not path.exists() or name in replace:
            path.write_bytes(data)
            print(f"written   {path.name}")
        elif path.read_bytes() == data:
            print(f"the same  {path.name}")
        else:
            differing.append(path.name)
            print(f"DIFFERENT {path.name}: kept as it was")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
