"""Make the test vectors of docs/spec.md from fixed inputs: ``python tests/vectors/make.py [--replace NAME …]``.

Deterministic. A file that is there is compared, never overwritten, unless it is named with --replace: changed vectors
mean changed bytes, and every list and log made before would no longer verify. Exit 1 when a file differs.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from allocator import merkle, sealing
from allocator.canonical import canonical_bytes, prefixed, tag, u8, u32
from allocator.case import code_digest
from allocator.design import RandomizationDesign, design_commitment
from allocator.envelope import context, padded
from allocator.keystream import draw_below, keystream_bytes, pseudorandom_key, stream_key, words
from allocator.log import GENESIS, KINDS, Detail, detail_commitment, new_record
from allocator.permuted_block import block_of, draw_sequence, draw_stratum, shuffle
from allocator.person import sign
from allocator.schedule import generate_schedule
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


MAKERS = {
    "canonical": canonical_json,
    "study": study,
    "design": designs,
    "keystream": keystreams,
    "permuted-block": permuted_blocks,
    "schedule": schedules,
    "sealing": sealed_entry,
    "record": records,
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
