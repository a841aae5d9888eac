"""The second implementation (tests/independent, written from docs/spec.md) against the vectors and the package."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import shutil
import sqlite3
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from allocator import merkle, sealing
from allocator.canonical import CanonicalError, canonical_bytes, parse_canonical, parse_strict
from allocator.design import RandomizationDesign
from allocator.eligibility import judge, parse_form
from allocator.envelope import context, seal_to
from allocator.errors import CredentialError, EvidenceError, InputError, Refused
from allocator.evidence import read_evidence
from allocator.example_answers import redated
from allocator.home import study_place
from allocator.keys import ONLY_FOR_TESTS
from allocator.keystream import draw_below
from allocator.log import detail_commitment
from allocator.maximal_procedure import ways_on
from allocator.method import DesignError
from allocator.methods import ALGORITHMS, METHODS, draw_stratum
from allocator.opening import Opening, open_study
from allocator.permuted_block import shuffle
from allocator.person import _SMALL_ORDER, check_signature
from allocator.schedule import generate_schedule
from allocator.service import AllocationService
from allocator.study import Study
from allocator.toml_files import read_design, read_study
from allocator.verify import verify
from allocator.writer import Actor
from independent import drawing, eligibility, encoding, records, sealed
from independent.design import algorithm, check_design
from independent.trial import Trial

ROOT = Path(__file__).parent.parent
STUDY_ID = "NCT04225780"
STUDY_BYTES = (ROOT / "schedules" / STUDY_ID / "study.toml").read_bytes()
DESIGN_BYTES = (ROOT / "examples" / STUDY_ID / "design.toml").read_bytes()
KEYS32 = st.binary(min_size=32, max_size=32)
LABELS = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3).map(drawing.label_of)


def vectors(name: str) -> Any:
    return json.loads((ROOT / "tests" / "vectors" / f"{name}.json").read_bytes())


def unhex(case: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(case[name]) for name in names]


def test_it_imports_nothing_of_the_package() -> None:
    allowed = {*sys.stdlib_module_names, "cryptography"}
    for path in (ROOT / "tests" / "independent").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert {name.name.split(".")[0] for name in node.names} <= allowed, path
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1 or (node.module or "").split(".")[0] in allowed, path


# ---- against the vectors ------------------------------------------------------------------------------------------


def test_vectors_of_encoding() -> None:
    given_ = vectors("canonical")
    for case in given_["encoded"]:
        assert encoding.canon(case["value"]).hex() == case["bytes"]
        assert encoding.parse(bytes.fromhex(case["bytes"])) == case["value"]
    for case in given_["refused"]:
        with pytest.raises(encoding.Refused):
            encoding.parse(bytes.fromhex(case["bytes"]))
    assert all(encoding.tag(case["name"]).hex() == case["bytes"] for case in given_["tags"])
    assert all(encoding.prefixed(case["text"]).hex() == case["bytes"] for case in given_["prefixed"])


def test_vectors_of_study_and_design() -> None:
    given_ = vectors("study")
    study = drawing.study_object(tomllib.loads((ROOT / given_["file"]).read_text(encoding="utf-8")))
    assert encoding.canon(study).decode() == given_["canonical"]
    assert drawing.fingerprint(study).hex() == given_["fingerprint"]
    assert all(drawing.label_of(case["stratum"]) == case["label"] for case in given_["labels"])
    for case in vectors("design")["cases"]:
        assert encoding.canon(case["design"]).decode() == case["canonical"]
        assert drawing.design_commitment(case["design"], bytes.fromhex(case["salt"])).hex() == case["commitment"]


def test_vectors_of_streams() -> None:
    given_ = vectors("keystream")
    for case in given_["prk"]:
        study_print, committed, beacon = unhex(case, "fingerprint", "design_commitment", "beacon")
        shares = [bytes.fromhex(share) for share in case["shares"]]
        assert drawing.prk_of(study_print, committed, shares, beacon).hex() == case["prk"]
    for case in given_["streams"]:
        key = drawing.stream_key(bytes.fromhex(case["prk"]), case["purpose"], case["label"])
        assert key.hex() == case["key"]
        assert drawing.stream_bytes(key, 0, 48).hex() == case["bytes_0_to_47"]
        assert drawing.stream_bytes(key, 4090, 4102).hex() == case["bytes_4090_to_4101"]
        source = drawing.words(key)
        assert [next(source) for _ in case["words"]] == case["words"]
    for case in given_["below"]:
        source = iter(case["words"])
        assert [drawing.below(source, case["n"]) for _ in case["drawn"]] == case["drawn"]


@pytest.mark.requirement("G01")
def test_vectors_of_permuted_blocks() -> None:
    given_ = vectors("permuted-block")
    assert all(drawing.block(case["shares"], case["size"]) == case["block"] for case in given_["blocks"])
    for case in given_["shuffles"]:
        assert drawing.shuffled(case["block"], iter(case["words"])) == case["shuffled"]
    for case in given_["sequences"]:
        prk = bytes.fromhex(case["prk"])
        arms = bytes(drawing.sequence(prk, case["label"], case["shares"], case["block_sizes"], case["length"]))
        assert hashlib.sha256(arms).hexdigest() == case["sha256"]
        assert arms.hex() == case.get("arms", arms.hex())


@pytest.mark.requirement("G01")
def test_vectors_of_every_other_method() -> None:
    given_ = vectors("methods")
    for case in given_["integers"]:
        assert drawing.below(iter(case["words"]), case["n"]) == case["drawn"]
    assert {case["design"]["method"] for case in given_["lists"]} == METHODS.keys() - {"permuted-block"}
    for case in given_["lists"]:
        design = case["design"]
        check_design(design, [item["arm"] for item in design["ratio"]], 2)
        assert algorithm(design) == case["algorithm"]
        arms = drawing.arms_of(bytes.fromhex(case["prk"]), case["label"], design, case["stratum"])
        assert bytes(arms).hex() == case["arms"]


@pytest.mark.requirement("G01")
@pytest.mark.requirement("C06")
def test_vectors_of_a_whole_schedule() -> None:
    case = vectors("schedule")
    study = drawing.study_object(tomllib.loads((ROOT / case["study"]).read_text(encoding="utf-8")))
    salt, sealing_id, key_p, key_i = unhex(case, "design_salt", "sealing", "key_p", "key_i")
    shares = [bytes.fromhex(share) for share in case["shares"]]
    assert [drawing.seed_commitment(share).hex() for share in shares] == case["seed_commitments"]
    ((label, listed),) = drawing.schedule(study, case["design"], salt, shares)
    assert label == case["label"] and bytes(arm for arm, _ in listed).hex() == case["arms"]
    study_print, leaves = drawing.fingerprint(study), []
    for entry, (arm, entry_salt) in zip(case["entries"], listed, strict=True):
        position, data = entry["position"], sealed.entry_bytes(entry["entry"])
        half_p, half_i = (sealed.half(key, sealing_id, label, position) for key in (key_p, key_i))
        assert [half_p.hex(), half_i.hex()] == [entry["half_p"], entry["half_i"]]
        key = sealed.entry_key(half_p, half_i)
        assert sealed.open_entry(data, key, study_print, sealing_id, label, position) == (arm, entry_salt)
        assert [data[:32].hex(), data[32:44].hex()] == [entry["commitment"], entry["nonce"]]
        leaves.append(sealed.leaf(label, position, data[:32]))
    assert sealed.tree(leaves).hex() == case["root"]


def test_vectors_of_sealing() -> None:
    given_ = vectors("sealing")
    case = given_["entry"]
    label, position = case["label"], case["position"]
    study_print, sealing_id, salt, blob, key = unhex(case, "fingerprint", "sealing", "salt", "blob", "key")
    committed = sealed.commitment(salt, study_print, sealing_id, label, position, case["arm"])
    assert committed.hex() == case["commitment"]
    assert sealed.entry_data(sealing_id, label, position, committed).hex() == case["associated_data"]
    assert sealed.open_entry(blob, key, study_print, sealing_id, label, position) == (case["arm"], salt)
    assert sealed.leaf(label, position, committed).hex() == case["leaf"]
    for item in given_["contexts"]:
        assert sealed.context(item["name"], study_print, sealing_id, item["person"]).hex() == item["info"]
    for item in given_["trees"]:
        assert sealed.tree([bytes.fromhex(leaf) for leaf in item["leaves"]]).hex() == item["root"]


def test_vectors_of_records() -> None:
    given_ = vectors("record")
    code, detail = given_["code"], given_["detail"]
    digest = records.code_digest(bytes.fromhex(code["fingerprint"]), code["person"], code["code"])
    assert digest.hex() == code["digest"]
    committed = records.detail_commitment(
        bytes.fromhex(detail["salt"]), detail["seq"], detail["field"], detail["value"]
    )
    assert committed.hex() == detail["commitment"]
    for case in given_["records"]:
        body, prev = case["body"].encode(), bytes.fromhex(case["prev"])
        fields = encoding.parse(body)
        assert records.record_hash(prev, body).hex() == case["hash"]
        assert records.unsigned(fields).decode() == case["unsigned_body"]
        records.check_signature(bytes.fromhex(given_["sign_key"]), bytes.fromhex(case["signature"]), prev, fields)


# ---- against the package, on anything -----------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=5), st.data())
def test_both_encode_and_refuse_the_same(value: dict[str, Any], data: st.DataObject) -> None:
    encoded = canonical_bytes(value)
    assert encoding.canon(value) == encoded
    place = data.draw(st.integers(0, len(encoded) - 1))
    edited = encoded[:place] + data.draw(st.binary(max_size=2)) + encoded[place + 1 :]
    for theirs, ours in ((encoding.parse, parse_canonical), (encoding.parse_free, parse_strict)):
        assert _outcome(theirs, edited) == _outcome(ours, edited)


def _outcome(parse: Any, data: bytes) -> Any:
    try:
        return parse(data)
    except (encoding.Refused, CanonicalError):
        return "refused"


@given(
    st.lists(st.integers(0, 2**32 - 1), min_size=60, max_size=60),
    st.integers(1, 2**32) | st.integers(1, 2**100) | st.sampled_from([2**64 - 1, 2**64, 2**64 + 1, 2**95 + 1]),
)
def test_both_draw_the_same_integers(words: list[int], n: int) -> None:
    theirs, ours = iter([*words, *[0] * 20]), iter([*words, *[0] * 20])  # five integers of four words
    assert [drawing.below(theirs, n) for _ in range(5)] == [draw_below(ours, n) for _ in range(5)]
    assert list(theirs) == list(ours)
    assert drawing.shuffled(range(20), iter([*words, *[0] * 20])) == shuffle(list(range(20)), iter([*words, *[0] * 20]))


@pytest.mark.requirement("G01")
@pytest.mark.requirement("G02")
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    KEYS32,
    LABELS,
    st.lists(st.integers(1, 4), min_size=2, max_size=5),
    st.sets(st.integers(1, 6), min_size=1, max_size=4),
    st.integers(1, 120) | st.integers(1990, 2100),
)
@example(bytes(32), "{}", [3, 4, 4], {5}, 165)
def test_both_draw_the_same_list(prk: bytes, label: str, shares: list[int], times: set[int], length: int) -> None:
    sizes = [sum(shares) * k for k in sorted(times)]
    plain = _plain("permuted-block", length, shares, block_sizes=sizes)
    assert bytes(drawing.sequence(prk, label, shares, sizes, length)) == _by_the_package(prk, label, plain)


def _plain(method: str, length: int, shares: list[int], **fields: Any) -> dict[str, Any]:
    """A design of arms A, B, …"""
    ratio = [{"arm": chr(65 + arm), "share": share} for arm, share in enumerate(shares)]
    return {"format": "allocator-design/1", "method": method, "length": length, "ratio": ratio, **fields}


def _by_the_package(prk: bytes, label: str, plain: dict[str, Any], stratum: int = 0) -> bytes:
    return draw_stratum(plain["method"], RandomizationDesign.from_tables(plain), prk, label, stratum)


LIMITS, LENGTHS = st.integers(1, 6) | st.just(1000), st.integers(1, 90)
PROBABILITIES = st.fractions("501/1000", "999/1000", max_denominator=1000).map(
    lambda f: f"{f.numerator}/{f.denominator}"
)


@st.composite
def designs(draw: st.DrawFn, strata: int = 2) -> dict[str, Any]:
    """A design of any method, of a study with so many strata, in its canonical form."""
    method, length = draw(st.sampled_from(list(METHODS))), draw(LENGTHS)
    shares = draw(st.lists(st.integers(1, 5), min_size=2, max_size=6))
    if method in ("big-stick", "biased-coin", "truncated-binomial", "chen", "maximal-procedure"):
        shares = shares[:1] * 2
    if method == "urn":
        shares = shares[:1] * len(shares)
    total, fields = sum(shares), {}
    sizes = st.sets(st.integers(1, 6), min_size=1, max_size=4).map(lambda times: [total * k for k in sorted(times)])
    if method == "permuted-block" or (method == "truncated-binomial" and draw(st.booleans())):
        fields["block_sizes"] = draw(sizes)
    elif method in ("truncated-binomial", "maximal-procedure"):
        length *= 2
    if method == "random-allocation-rule":
        length *= total
    if method in ("big-stick", "chen", "maximal-procedure"):
        fields["limit"] = draw(st.integers(1, 50) if method == "maximal-procedure" else LIMITS)
    if method in ("biased-coin", "chen"):
        fields["probability"] = draw(PROBABILITIES)
    if method == "urn":
        balls = st.integers(0, 4) | st.just(1000)
        fields |= dict(zip(("alpha", "beta"), draw(st.tuples(balls, balls).filter(any)), strict=True))
    if method == "block-urn":
        fields["lambda"] = draw(LIMITS)
    if method == "imported-list":
        entries = st.lists(st.integers(0, len(shares) - 1), min_size=length, max_size=length)
        fields["arms"] = [bytes(draw(entries)).hex() for _ in range(strata)]
    return _plain(method, length, shares, **fields)


@pytest.mark.requirement("G01")
@pytest.mark.requirement("G02")
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(KEYS32, LABELS, designs(), st.integers(0, 1))
@example(bytes(32), "{}", _plain("maximal-procedure", 400, [1, 1], limit=50), 0)
@example(bytes(32), "{}", _plain("maximal-procedure", 90, [3, 3], limit=1), 0)
@example(bytes(32), "{}", _plain("chen", 2000, [1, 1], limit=3, probability="999/1000"), 0)
@example(bytes(32), "{}", _plain("urn", 300, [1000] * 100, alpha=0, beta=1000), 0)
@example(bytes(32), "{}", _plain("block-urn", 300, [1, 1000, 2], **{"lambda": 1000}), 0)
@example(bytes(32), "{}", _plain("truncated-binomial", 41, [2, 2], block_sizes=[4, 40]), 0)
def test_both_draw_the_same_list_by_every_method(prk: bytes, label: str, plain: dict[str, Any], stratum: int) -> None:
    check_design(plain, [item["arm"] for item in plain["ratio"]], 2)
    assert algorithm(plain) == ALGORITHMS[plain["method"]]
    assert bytes(drawing.arms_of(prk, label, plain, stratum)) == _by_the_package(prk, label, plain, stratum)


@pytest.mark.requirement("G01")
@settings(deadline=None)
@given(st.integers(0, 400), st.integers(-51, 51), st.integers(1, 50))
@example(1999, 1, 50)
@example(1998, 0, 3)
def test_both_count_the_same_ways_on(steps: int, at: int, limit: int) -> None:
    """By reflection here, by recursion in the package."""
    assert drawing.walks(steps, at, limit) == ways_on(steps + 1, limit)[steps].get(abs(at), 0)


def _of_two(*shares: Any) -> list[dict[str, Any]]:
    return [{"arm": code, "share": share} for code, share in zip("AB", shares, strict=True)]


ODD_FIELDS: dict[str, list[Any]] = {
    "method": [*METHODS, "minimization", "", None, ["complete"]],
    "format": ["allocator-design/2", None],
    "length": [0, 1, 7, 12, 2000, 2001, 2002, 10_000_001, True, "20", None],
    "ratio": [
        *([], {}, None, ["A", "B"], _of_two(1, 1)[:1], _of_two(1, 1)[::-1], [*_of_two(1, 1), {"arm": "A", "share": 1}]),
        *(_of_two(share, share) for share in (0, 2, 1000, 1001, "1", None, True)),
        *(_of_two(1, 2), [{**item, "x": 1} for item in _of_two(1, 1)]),
    ],
    "limit": [True, "3", 0, 1, 50, 51, 1000, 1001, None],
    "lambda": [True, "3", 0, 1, 1000, 1001, None],
    "alpha": [True, -1, 0, 1000, 1001, "1", None],
    "beta": [False, -1, 0, 1000, 1001, None],
    "probability": [
        *("2/3", "501/1000", "999/1000", "4/6", "1/2", "1/1", "02/3", "2/03", "1001/2000", "1000/1001", "3/2"),
        *("2/3 ", "2/3\n", "٢/٣", "-2/3", "0/1", "2/0", "2", "", 2, None),
    ],
    "block_sizes": [[], [0], [4], [4, 6], [6, 4], [4, 4], [5], [True], ["4"], [10_000], [10_002], 4, None, {}],
    "arms": [
        *(["000101000101"] * 2, ["000101000101", "000101000102"], ["00010100010A"] * 2, ["00010100010"] * 2),
        *(["00010100010x"] * 2, ["00 1010001 1"] * 2, ["00 0101000101"] * 2, [""] * 2, [0, 1], "0001", None, {}),
    ],
}
USUAL: dict[str, Any] = {"limit": 3, "probability": "2/3", "alpha": 0, "beta": 1, "lambda": 2, "block_sizes": [4, 6]}
USUAL["arms"] = ["000101000101", "010001000100"]


@pytest.mark.requirement("G02")
@pytest.mark.parametrize("method", METHODS)
def test_both_take_the_same_designs(method: str) -> None:
    """A field left out, put in or exchanged: by the text and by the package it is a design, or it is none."""
    fields = {key: USUAL[key] for key in METHODS[method].KEYS}
    base = _plain(method, 6, [1, 1], **fields)
    cases = [base, {**base, "seed": 1}, *({key: base[key] for key in base if key != left_out} for left_out in base)]
    cases += [{**base, name: value} for name, values in ODD_FIELDS.items() for value in values]
    cases += [{**case, "ratio": _of_two(2, 2)} for case in cases]
    taken = [_taken_by_text(case) for case in cases]
    ours = [_taken_by_the_package(case) for case in cases]
    assert [case for case, one, other in zip(cases, taken, ours, strict=True) if one != other] == []
    assert taken[0] and not taken[1] and {True, False} == {*taken[len(base) + 2 :]}


def _taken_by_text(plain: dict[str, Any]) -> bool:
    try:
        check_design(plain, ["A", "B"], 2)
    except encoding.Refused:
        return False
    return True


def _taken_by_the_package(plain: dict[str, Any]) -> bool:
    """As the reader of a seed does (§15.5)."""
    try:
        design = RandomizationDesign.from_tables(plain)
    except (DesignError, KeyError, TypeError, ValueError, AttributeError):
        return False
    return canonical_bytes(design.plain()) == encoding.canon(plain) and [code for code, _ in design.ratio] == ["A", "B"]


FACTORS = """
[[factor]]
name = "site"
levels = ["B", "A"]
[[factor]]
name = "age-group"
levels = ["young", "old"]
"""


@pytest.mark.requirement("G01")
@settings(deadline=None, max_examples=15)
@given(KEYS32, KEYS32, KEYS32, KEYS32, KEYS32, st.integers(1, 30), st.booleans())
def test_both_make_and_seal_the_same_schedule(
    share_1: bytes, share_2: bytes, salt: bytes, key_p: bytes, key_i: bytes, length: int, stratified: bool
) -> None:
    tables = tomllib.loads(STUDY_BYTES.decode() + FACTORS * stratified)
    theirs, ours = drawing.study_object(tables), Study.from_tables(tables)
    assert drawing.fingerprint(theirs) == ours.fingerprint
    assert drawing.strata(theirs) == list(ours.strata)
    design = RandomizationDesign(
        method="permuted-block", block_sizes=(3, 6), length=length, ratio=(("IL2-GCV", 2), ("GCV", 1))
    )
    listed = drawing.schedule(theirs, design.plain(), salt, (share_1, share_2))
    schedule = generate_schedule(ours, design, salt, (share_1, share_2))
    assert [(s.label, [(arm, s.salt(p)) for p, arm in enumerate(s.arms)]) for s in schedule.strata] == listed
    sealing_id, nonces = salt[:16], bytes(12 * length * len(listed))
    strata, root = sealing.seal_schedule(schedule, ours.fingerprint, sealing_id, key_p, key_i, nonces)
    leaves = []
    for stratum, (label, entries) in zip(strata, listed, strict=True):
        for position, entry in enumerate(entries):
            data = sealed.entry_bytes(stratum.entries[position])
            halves = [sealed.half(key, sealing_id, label, position) for key in (key_p, key_i)]
            key = sealed.entry_key(*halves)
            assert sealed.open_entry(data, key, ours.fingerprint, sealing_id, label, position) == entry
            leaves.append(sealed.leaf(label, position, data[:32]))
    assert sealed.tree(leaves) == root


@given(st.lists(st.binary(max_size=4), max_size=40))
def test_both_grow_the_same_tree(leaves: list[bytes]) -> None:
    assert sealed.tree(leaves) == merkle.root(merkle.leaf_hash(leaf) for leaf in leaves)


@given(KEYS32, st.integers(0, 2**32 - 1), st.sampled_from(["name", "answers"]), st.text(max_size=20))
def test_both_commit_to_details_alike(salt: bytes, seq: int, name: str, value: str) -> None:
    assert records.detail_commitment(salt, seq, name, value).hex() == detail_commitment(salt, seq, name, value)


@given(KEYS32, st.binary(max_size=80))
def test_the_envelopes_of_the_library_open_by_the_text(private: bytes, plaintext: bytes) -> None:
    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    info = context("grant", private, bytes(16), "PH-1")
    assert info == sealed.context("grant", private, bytes(16), "PH-1")
    assert sealed.open_envelope(private, seal_to(public, plaintext, info), info) == plaintext


def test_both_refuse_the_same_signatures() -> None:
    """Encodings on which libraries disagree: small order, non-canonical, S not reduced."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    public, body = key.public_key().public_bytes_raw(), b'{"seq":1}'
    good = key.sign(encoding.tag("sign") + bytes(32) + body)
    bigger_s = (int.from_bytes(good[32:], "little") + records.ORDER).to_bytes(32, "little")
    beyond = [(records.FIELD + y | sign << 255).to_bytes(32, "little") for y in range(19) for sign in (0, 1)]
    cases = [(public, good), (public, good[:32] + bigger_s), (public, bytes(64)), (public, good[:63]), (b"", good)]
    cases += [(point, good) for point in (*sorted(_SMALL_ORDER), *beyond)]
    cases += [(public, point + good[32:]) for point in (*sorted(_SMALL_ORDER), *beyond)]
    accepted = []
    for public_key, signature in cases:
        outcomes = set()
        for check in (_by_package, _by_text):
            outcomes.add(check(public_key, signature, body))
        assert len(outcomes) == 1
        accepted += outcomes
    assert accepted == [True] + [False] * (len(cases) - 1)


def _by_package(key: bytes, signature: bytes, body: bytes) -> bool:
    try:
        check_signature(key, signature.hex(), bytes(32), body)
    except EvidenceError:
        return False
    return True


def _by_text(key: bytes, signature: bytes, body: bytes) -> bool:
    try:
        records.check_signature(key, signature, bytes(32), {**encoding.parse(body), "signature": signature.hex()})
    except encoding.Refused:
        return False
    return True


NOW = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)  # 21 November in Shanghai
STUDY = Study.from_tables(tomllib.loads(STUDY_BYTES.decode()))
STUDY_OBJECT = drawing.study_object(tomllib.loads(STUDY_BYTES.decode()))
FORM = json.loads(redated((ROOT / "examples" / STUDY_ID / "answers" / "P-001.json").read_bytes(), NOW.date()))
ODD = [
    "",
    " ",
    "\u2003",
    "\x1c",
    "\u200b",
    "é\u202e",
    "x" * 501,
    "x" * 500,
    "Y",
    "N",
    "NA",
    "UNKNOWN",
    "M",
    "F",
    "I",
    "III",
]
ODD += [
    "0",
    "-0",
    "-1",
    "1",
    "18",
    "17.9",
    "70",
    "70.0",
    "1000",
    "1000.000000000001",
    "1e3",
    "１２",
    "999999999999",
    "0.3",
]
ODD += ["a", "U/L", "{copies}/mL", "[IU]/mL", "umol/L", "mg/dL", "POSITIVE", "none", "II"]
ODD += ["2026-11-21", "2026-11-22", "2026-11-07", "2026-11-06", "2026-02-30", "20261120", "0000-00-00"]
CONSENTS = ["2026-11-20T17:00:00Z", "2026-11-21T01:00:00+08:00", "2026-11-20T17:00:00.001Z", "2026-11-20T24:00:00Z"]
CONSENTS += ["2026-11-20T16:00:00", "2026-11-20 16:00:00Z", "0001-01-01T00:00:00+23:59", "2026-11-20T16:00:60Z", ""]


@pytest.mark.requirement("E01")
@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([criterion.id for criterion in STUDY.criteria]),
            st.sampled_from(sorted(eligibility.KEYS)),
            st.sampled_from(ODD) | st.none() | st.text(max_size=3),
        ),
        max_size=2,
    ),
    st.sampled_from(CONSENTS) | st.none(),
)
def test_both_judge_a_changed_form_alike(changes: list[tuple[str, str, str | None]], consent: str | None) -> None:
    form = {"consent": consent or FORM["consent"], "answers": {name: dict(a) for name, a in FORM["answers"].items()}}
    for name, key, text in changes:
        if text is None:
            form["answers"][name].pop(key, None)
        else:
            form["answers"][name][key] = text
    data = json.dumps(form).encode()
    ours, read = judge(STUDY, parse_form(data), NOW), eligibility.read_form(data)
    assert eligibility.qualifies(STUDY_OBJECT, read, NOW) == ours.eligible
    today = NOW.astimezone(STUDY.zone).date()
    theirs = [eligibility.met(criterion, read["answers"], today) for criterion in STUDY_OBJECT["criteria"]]
    assert theirs == [result.met for result in ours.criteria]
    assert ours.eligible or changes or consent


@given(st.dictionaries(st.sampled_from(["consent", "answers", "x"]), JSON, max_size=3))
def test_both_refuse_what_is_no_form(document: dict[str, Any]) -> None:
    data = json.dumps(document).encode()
    outcomes = []
    for read, error in ((parse_form, InputError), (eligibility.read_form, encoding.Refused)):
        try:
            read(data)
            outcomes.append("read")
        except error:
            outcomes.append("refused")
    assert outcomes[0] == outcomes[1]


# ---- a whole home -------------------------------------------------------------------------------------------------


def _run_to_activation(place: Path, study_bytes: bytes, design_bytes: bytes, **givens: Any) -> dict[str, Actor]:
    study = read_study("study.toml", study_bytes)
    opening = Opening(
        study=study, study_bytes=study_bytes, registry_bytes=None, findings=[], person="SP", name="王", mode="test"
    )
    open_study(place, opening, "pw", stretching=ONLY_FOR_TESTS, **givens)
    service = _service(place, **givens)
    actors = {"SP": service.authenticate("SP", lambda: "pw", "test")}
    for person, role in (("ST", "statistician"), ("CU", "custodian"), ("IN", "investigator"), ("PH", "pharmacist")):
        _, code = service.add_person(actors["SP"], person, f"Dr {person}", [role])
        service.enrol(person, code, lambda: "pw")
        actors[person] = service.authenticate(person, lambda: "pw", "test")
    service.generate(actors["ST"], read_design("design.toml", design_bytes))
    service.grant(actors["ST"], "PH")
    service.grant(actors["ST"], "IN")
    service.activate(actors["SP"], "ethics file 12")
    service.close_files()
    return actors


def _service(place: Path, **givens: Any) -> AllocationService:
    return AllocationService.open(study_place(place, None), stretching=ONLY_FOR_TESTS, **givens)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study run by the package: three allocations, a refusal, a failed passphrase, a repeat."""
    place = tmp_path_factory.mktemp("independent") / "home"
    actors = _run_to_activation(place, STUDY_BYTES, DESIGN_BYTES)
    service = _service(place)
    with pytest.raises(CredentialError):
        service.authenticate("PH", lambda: "wrong", "allocated")
    for number in (1, 2, 3):
        answers = (ROOT / "examples" / STUDY_ID / "answers" / f"P-00{number}.json").read_bytes()
        form = parse_form(redated(answers, datetime.now(STUDY.zone).date()))
        service.confirm(actors["IN"], f"P-00{number}", form, {})
        service.reveal(actors["PH"], f"P-00{number}", f"P-00{number}")
    with pytest.raises(Refused):
        service.reveal(actors["PH"], "P-009", "P-009")
    service.reveal(actors["PH"], "P-001", "P-001")
    service.close_files()
    return place


def _by_both(home: Path) -> tuple[str, list[str]]:
    with read_evidence(study_place(home, None)) as evidence:
        verdict = verify(evidence)
    return verdict.verdict, records.read_log(home, STUDY_ID)


@pytest.mark.requirement("R02")
def test_both_find_a_whole_home_intact(home: Path) -> None:
    assert _by_both(home) == ("intact-local", [])


@pytest.mark.requirement("R02")
@pytest.mark.requirement("G01")
def test_the_list_is_rebuilt_from_a_home_and_two_passphrases(home: Path) -> None:
    """Key files, envelopes, seed, design, list, entries: all by the text of the specification."""
    file = encoding.parse((home / "schedules" / STUDY_ID / "sealed.json").read_bytes())
    study_print, sealing_id = unhex(file, "fingerprint", "sealing")
    private = {
        person: sealed.open_key_file((home / "keys" / STUDY_ID / f"{person}.json").read_bytes(), "pw")[32:]
        for person in ("ST", "CU")
    }

    def opened(envelope: dict[str, str], name: str) -> bytes:
        info = sealed.context(name, study_print, sealing_id, envelope["person"])
        return sealed.open_envelope(private[envelope["person"]], bytes.fromhex(envelope["envelope"]), info)

    parts = [encoding.parse(sealed.unpadded(opened(envelope, "share"))) for envelope in file["shares"]]
    assert parts[0]["design"] == parts[1]["design"] and parts[0]["salt"] == parts[1]["salt"]
    shares = [bytes.fromhex(part["share"]) for part in parts]
    assert [drawing.seed_commitment(share).hex() for share in shares] == [e["commitment"] for e in file["shares"]]
    study = drawing.study_object(tomllib.loads(STUDY_BYTES.decode()))
    ((label, listed),) = drawing.schedule(study, parts[0]["design"], bytes.fromhex(parts[0]["salt"]), shares)
    both = opened(file["keys"], "keys")
    for position, text in enumerate(file["strata"][0]["entries"]):
        halves = [sealed.half(key, sealing_id, label, position) for key in (both[:32], both[32:])]
        data, key = sealed.entry_bytes(text), sealed.entry_key(*halves)
        assert sealed.open_entry(data, key, study_print, sealing_id, label, position) == listed[position]


@pytest.fixture(scope="module")
def copied(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(home, tmp_path_factory.mktemp("edited") / "home"))


def _edited(database: Path, table: str, column: str, row: int, place: int, change: int) -> Iterator[None]:
    """Exchange one byte of a stored value behind the triggers' back; on the second step, put it back."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        key = "seq" if table == "record" else "seq, field"
        found = connection.execute(f"SELECT {key}, CAST({column} AS BLOB) FROM {table} ORDER BY {key}").fetchall()
        *keys, value = found[row % len(found)]
        bytes_ = bytearray(value)
        bytes_[place % len(bytes_)] ^= change
        cast = "?" if column in ("prev", "salt") else "CAST(? AS TEXT)"
        where = " AND ".join(f"{name} = ?" for name in key.split(", "))
        for stored in (bytes(bytes_), value):
            connection.execute(f"UPDATE {table} SET {column} = {cast} WHERE {where}", (stored, *keys))
            for _, sql in triggers:
                connection.execute(sql)
            yield
            for name, _ in triggers:
                connection.execute(f"DROP TRIGGER {name}")
        for _, sql in triggers:
            connection.execute(sql)


@pytest.mark.requirement("L02")
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([("record", "body"), ("record", "prev"), ("detail", "value"), ("detail", "salt")]),
    st.integers(0, 1000),
    st.integers(0, 5000),
    st.integers(1, 127),
)
def test_both_find_one_edited_byte(copied: Path, where: tuple[str, str], row: int, place: int, change: int) -> None:
    database = copied / "schedules" / STUDY_ID / "log.sqlite3"
    edit = _edited(database, *where, row, place, change)
    next(edit)
    try:
        verdict, findings = _by_both(copied)
        assert verdict == "broken"
        assert findings
    finally:
        next(edit)
        edit.close()
    assert _by_both(copied) == ("intact-local", [])


@pytest.mark.requirement("C06")
@pytest.mark.parametrize("edit", ["one character", "two entries exchanged"])
def test_both_find_an_edited_sealed_schedule(home: Path, tmp_path: Path, edit: str) -> None:
    copy = Path(shutil.copytree(home, tmp_path / "home"))
    path = copy / "schedules" / STUDY_ID / "sealed.json"
    file = json.loads(path.read_bytes())
    entries = file["strata"][0]["entries"]
    if edit == "one character":
        data = bytearray(base64.b64decode(entries[7]))
        data[50] ^= 1
        entries[7] = base64.b64encode(data).decode()
    else:
        entries[7], entries[8] = entries[8], entries[7]
    path.write_bytes(encoding.canon(file))
    verdict, findings = _by_both(copy)
    assert verdict == "broken" and findings


# ---- the rules of binding and allocation ----------------------------------------------------------------------------

SMALL_STUDY = STUDY_BYTES.replace(b"enrollment = 10", b"enrollment = 3")
SMALL_DESIGN = DESIGN_BYTES.replace(b"block_sizes = [4, 6]", b"block_sizes = [2, 4]").replace(
    b"length = 20", b"length = 4"
)
START = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
LIMIT = timedelta(hours=72, seconds=-1)  # the next act comes a second later: exactly at the limit
CONFIRM = {n: ("confirm", f"P-00{n}", "plain", True) for n in range(1, 6)}
REVEAL = {n: ("reveal", f"P-00{n}") for n in range(1, 6)}
WITHDRAW = {n: ("withdraw", f"P-00{n}") for n in range(1, 6)}
PAUSED, RESUMED, CLOSED = (("move", kind) for kind in ("paused", "resumed", "closed"))
AT_LIMIT, AFTER_LIMIT = ("wait", LIMIT), ("wait", LIMIT + timedelta(milliseconds=1))
ACTS = st.one_of(
    st.sampled_from([*CONFIRM.values(), *REVEAL.values()]),
    st.sampled_from([*CONFIRM.values(), *REVEAL.values(), *WITHDRAW.values()]),
    st.tuples(
        st.just("confirm"),
        st.sampled_from(["P-001", "P-002"]),
        st.sampled_from(["plain", "rescreen", "correcting"]),
        st.booleans(),
    ),
    st.sampled_from([AT_LIMIT, AFTER_LIMIT, ("wait", timedelta(hours=1)), *CONFIRM.values(), *WITHDRAW.values()]),
    st.sampled_from([PAUSED, RESUMED, RESUMED, RESUMED, *REVEAL.values(), *CONFIRM.values()]),
)
FAILED_1, CORRECTED_1 = ("confirm", "P-001", "rescreen", False), ("confirm", "P-001", "correcting", True)


@pytest.fixture(scope="module")
def activated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Actor]]:
    place = tmp_path_factory.mktemp("activated") / "home"
    return place, _run_to_activation(place, SMALL_STUDY, SMALL_DESIGN, clock=lambda: START)


@pytest.mark.requirement("A02")
@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(acts=st.lists(ACTS, min_size=8, max_size=30))
@example(acts=[CONFIRM[1], AT_LIMIT, REVEAL[1], REVEAL[1]])
@example(acts=[CONFIRM[1], AFTER_LIMIT, REVEAL[1], CONFIRM[2], REVEAL[2], CONFIRM[1], REVEAL[1]])
@example(acts=[CONFIRM[1], CONFIRM[2], WITHDRAW[1], REVEAL[1], CONFIRM[3], CONFIRM[1], REVEAL[3], REVEAL[1]])
@example(acts=[CONFIRM[1], CONFIRM[2], FAILED_1, CONFIRM[1], CONFIRM[3], CORRECTED_1, REVEAL[1], REVEAL[3]])
@example(acts=[*CONFIRM.values(), *REVEAL.values(), WITHDRAW[1], WITHDRAW[4], CONFIRM[5]])
@example(acts=[CONFIRM[1], REVEAL[1], CONFIRM[2], PAUSED, REVEAL[1], REVEAL[2], RESUMED, REVEAL[2], CLOSED, REVEAL[1]])
@example(acts=[CONFIRM[1], CONFIRM[2], WITHDRAW[1], CONFIRM[2], CONFIRM[3], REVEAL[3], REVEAL[2]])
def test_both_bind_and_allocate_alike(
    activated: tuple[Path, dict[str, Actor]], tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[Any, ...]]
) -> None:
    """Whatever people do in whatever order: the package records what the text of §10 allows, and nothing else."""
    base, actors = activated
    place = Path(shutil.copytree(base, tmp_path_factory.mktemp("acts") / "home"))
    now = [START]
    service = _service(place, clock=lambda: now[0])
    study = drawing.study_object(tomllib.loads(SMALL_STUDY.decode()))
    trial = Trial(enrollment=study["enrollment"], hours=study["confirmation_hours"], length=4)
    for act, *rest in acts:
        now[0] += rest[0] if act == "wait" else timedelta(seconds=1)
        if act != "wait":
            predicted = _predicted(trial, study, act, rest, now[0])
            assert (_performed(service, actors, act, rest) or "refused") == (predicted or "refused")
    service.close_files()
    assert _by_both(place) == ("intact-local", [])
    shutil.rmtree(place)


def _form(eligible: bool) -> bytes:
    form = json.loads(redated((ROOT / "examples" / STUDY_ID / "answers" / "P-001.json").read_bytes(), START.date()))
    if not eligible:
        form["answers"]["E5"]["value"] = "Y"
    return json.dumps(form).encode()


def _predicted(trial: Trial, study: dict[str, Any], act: str, rest: list[Any], now: datetime) -> str | None:
    if act == "confirm":
        participant, way, eligible = rest
        before = trial.latest(participant)
        kind = way if way != "plain" else "again" if before else "first"
        qualifies = eligibility.qualifies(study, eligibility.read_form(_form(eligible)), now)
        return trial.attempt(participant, kind, qualifies, now)
    if act == "reveal":
        return trial.request(rest[0], now)
    return trial.withdraw(rest[0]) if act == "withdraw" else trial.move(rest[0])


def _performed(service: AllocationService, actors: dict[str, Actor], act: str, rest: list[Any]) -> str | None:
    try:
        if act == "confirm":
            participant, way, eligible = rest
            attempt = service.history.latest_attempt(participant)
            record, _ = service.confirm(
                actors["IN"],
                participant,
                parse_form(_form(eligible)),
                {},
                rescreen=way == "rescreen",
                correcting=(attempt.seq if attempt else 0) if way == "correcting" else None,
                reason="" if way == "plain" else "measured again",
            )
            return f"confirmed {record.fields['position']}" if record.kind == "confirmed" else record.kind
        if act == "reveal":
            shown = service.reveal(actors["PH"], rest[0], rest[0])
            return "again" if shown.repeated else f"allocated {shown.record.fields['position']} as {shown.number}"
        if act == "withdraw":
            return service.withdraw(actors["IN"], rest[0], "by mistake").kind
        return service.change_state(actors["SP"], rest[0], "as agreed").kind
    except Refused:
        return None
