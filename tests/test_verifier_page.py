"""verifier/index.html: its verifier in Node against vectors and attacks, and the page in a real browser.

What it has to agree on with the other verifiers is compared in test_verifiers_agree.py. Here: its own arithmetic, that
no file makes it fail, hang or lie, and what somebody sees who drops files on it. The browser is Debian's Chromium,
driven by tests/chromium.py; pictures of each page go to the test's own folder.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import re
import shutil
import subprocess
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.canonical import canonical_bytes
from allocator.design import RandomizationDesign
from allocator.export_evidence import read_export
from allocator.exporting import export_study
from allocator.log import GENESIS, detail_commitment, link
from allocator.person import sign
from allocator.verify import verify
from attacks import Forger, Stored, dump
from chromium import Chromium, Page, executable
from support import Trial, TrialFactory
from test_export import manifest_again
from test_export import told as told  # the fixture
from test_person import SMALL_ORDER_Y, encodings
from test_vectors import MAKE

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "verifier" / "index.html"
ORDER = 2**252 + 27742317777372353535851937790883648493
LAST = 31  # the story's last record before an export (test_export.py)


def vectors(name: str) -> Any:
    return json.loads((ROOT / "tests" / "vectors" / f"{name}.json").read_bytes())


EVIDENCE = vectors("evidence")
DRAW = """(key, label, design, stratum) => {
    const arms = drawnArms(key, label, design, stratum);
    return Uint8Array.from({ length: design.length }, () => arms.next().value);
}"""
HOLD = "holdDesign"


# ---- its script in Node ----------------------------------------------------------------------------------------------


class Verifier:
    """The script of the page in Node, asked one question after another."""

    def __init__(self) -> None:
        command = ["node", str(Path(__file__).with_name("page.js")), str(PAGE)]
        self._node = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **question: Any) -> Any:
        """Its answer. AssertionError when the script threw."""
        assert self._node.stdin and self._node.stdout
        self._node.stdin.write(json.dumps(question) + "\n")
        self._node.stdin.flush()
        answer = json.loads(self._node.stdout.readline())
        assert "answer" in answer, answer
        return answer["answer"]

    def call(self, function: str, *args: Any) -> Any:
        """What a function of the script returns; bytes go both ways."""
        answer = self.ask(call=function, args=[_plain(arg) for arg in args])
        return bytes.fromhex(answer["hex"]) if isinstance(answer, dict) and "hex" in answer else answer

    def refuses(self, function: str, *args: Any) -> bool:
        """Whether a function of the script refuses these; any other error fails the test."""
        told = f"(...given) => {{ try {{ ({function})(...given); }} catch (e) {{ return e.constructor.name; }} }}"
        answer = self.call(told, *args)
        assert answer in (None, "Refused"), answer
        return answer == "Refused"

    def verify(self, folder: Path, **given_: Any) -> Any:
        """The result of §11.3 on an export."""
        return self.ask(verify=str(folder), given=given_)

    def close(self) -> None:
        """End the process."""
        self._node.communicate(timeout=60)


def _plain(value: Any) -> Any:
    return {"hex": value.hex()} if isinstance(value, bytes) else value


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    """The script, started once."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    started = Verifier()
    yield started
    started.close()


@pytest.fixture
def copy_of(told: Trial, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of the three exports of test_export.py: evidence, inspection, opened."""
    return lambda name: Path(shutil.copytree(told.home.parent / name, tmp_path / name))


def named(result: Mapping[str, Any]) -> list[tuple[str, int]]:
    """(number of the check, record or -1) of each finding, each once."""
    return sorted({(f["check"][:2], -1 if f["seq"] is None else f["seq"]) for f in result["findings"]})


# ---- the file itself -------------------------------------------------------------------------------------------------


def inline(element: str) -> list[str]:
    """The texts of its inline elements of a kind."""
    return re.findall(rf"<{element}[^>]*>(.*?)</{element}>", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.mark.requirement("R01")
def test_its_policy_lets_its_own_text_run_and_nothing_else() -> None:
    """Whoever edits a script or the style puts the new digests into the policy; this says which."""

    def digests(element: str) -> str:
        return " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in inline(element)
        )

    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', PAGE.read_text("utf-8"))
    assert policy is not None
    assert [" ".join(part.split()) for part in policy[1].split(";")] == [
        "default-src 'none'",
        f"script-src {digests('script')}",
        f"style-src {digests('style')}",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]


@pytest.mark.requirement("R01", "R02")
def test_it_is_one_file_that_needs_no_other() -> None:
    text = PAGE.read_text("utf-8")
    for word in ("http:", "https:", "src=", "href=", "url(", "@import", "import(", "fetch(", "XMLHttpRequest"):
        assert word not in text, word
    for word in (
        "WebSocket",
        "EventSource",
        "sendBeacon",
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
    ):
        assert word not in text, word
    for word in ("eval(", "new Function", "localStorage", "indexedDB", "serviceWorker", "style=", "onclick", "onload"):
        assert word not in text, word


# ---- vectors ---------------------------------------------------------------------------------------------------------


def test_vectors_of_encoding(verifier: Verifier) -> None:
    cases = vectors("canonical")
    for case in cases["encoded"]:
        data = bytes.fromhex(case["bytes"])
        assert verifier.call("(value) => utf8(canon(value))", case["value"]) == data
        assert verifier.call("parseCanonical", data, 2**24) == case["value"]
    for case in cases["refused"]:
        assert verifier.refuses("parseCanonical", bytes.fromhex(case["bytes"]), 2**24), case["why"]
    assert all(verifier.call("tag", case["name"]).hex() == case["bytes"] for case in cases["tags"])
    assert all(verifier.call("prefixed", case["text"]).hex() == case["bytes"] for case in cases["prefixed"])


def test_vectors_of_study_and_design(verifier: Verifier) -> None:
    case = vectors("study")
    data = case["canonical"].encode("utf-8")
    assert verifier.call("(bytes) => readStudy(bytes).fingerprint", data) == case["fingerprint"]
    assert all(verifier.call("canon", label["stratum"]) == label["label"] for label in case["labels"])
    for case in vectors("design")["cases"]:
        salt = bytes.fromhex(case["salt"])
        assert verifier.call("designCommitment", case["design"], salt) == case["commitment"]


@pytest.mark.requirement("G01")
def test_vectors_of_streams_and_blocks(verifier: Verifier) -> None:
    cases = vectors("keystream")
    for case in cases["prk"]:
        if case["beacon"] == "":
            shares = [{"hex": share} for share in case["shares"]]
            prk = verifier.call("pseudorandomKey", case["fingerprint"], case["design_commitment"], shares)
            assert prk.hex() == case["prk"]
    stream = "(key, purpose, label, n) => new Stream(key, purpose, label)"
    for case in cases["streams"]:
        key = bytes.fromhex(case["prk"])
        drawn = verifier.call(f"{stream}.take(n)", key, case["purpose"], case["label"], 4102)
        assert drawn[:48].hex() == case["bytes_0_to_47"] and drawn[4090:].hex() == case["bytes_4090_to_4101"]
        words = "Array.from({ length: n }, () => s.word())"
        read = f"(...given) => {{ const s = ({stream})(...given), n = given[3]; return {words}; }}"
        assert verifier.call(read, key, case["purpose"], case["label"], len(case["words"])) == case["words"]
    source = "const source = { word: () => words.shift() };"
    for case in cases["below"]:
        draw = f"(words, n, count) => {{ {source} return Array.from({{ length: count }}, () => below(source, n)); }}"
        assert verifier.call(draw, case["words"], case["n"], len(case["drawn"])) == case["drawn"]
    blocks = vectors("permuted-block")
    for case in blocks["blocks"]:
        ratio = [{"arm": "A", "share": share} for share in case["shares"]]
        assert verifier.call("orderedBlock", ratio, case["size"]) == case["block"]
    for case in blocks["shuffles"]:
        shuffled = verifier.call(
            f"(block, words) => {{ {source} return shuffled(block, source); }}", case["block"], case["words"]
        )
        assert shuffled == case["shuffled"]
    for case in blocks["sequences"]:
        ratio = [{"share": share} for share in case["shares"]]
        design = {"method": "permuted-block", "ratio": ratio, **{k: case[k] for k in ("block_sizes", "length")}}
        arms = verifier.call(DRAW, bytes.fromhex(case["prk"]), case["label"], design, 0)
        assert hashlib.sha256(arms).hexdigest() == case["sha256"]


@pytest.mark.requirement("G02")
def test_vectors_of_the_other_methods(verifier: Verifier) -> None:
    cases = vectors("methods")
    draw = "(words, n) => String(below({ word: () => words.shift() }, BigInt(n)))"
    for case in cases["integers"]:
        assert verifier.call(draw, case["words"], str(case["n"])) == str(case["drawn"])
    drawn = set()
    for case in cases["lists"]:
        assert not verifier.refuses(HOLD, case["design"], study_of(case["design"]))
        arms = verifier.call(DRAW, bytes.fromhex(case["prk"]), case["label"], case["design"], case["stratum"])
        assert arms.hex() == case["arms"], case["algorithm"]
        assert verifier.call("(algorithm) => ALGORITHMS.has(algorithm)", case["algorithm"]) is True
        drawn.add(case["design"]["method"])
    assert verifier.call("() => [...METHODS.keys()].sort()") == sorted(drawn | {"permuted-block"})


def test_a_short_list_by_each_method_has_the_chances_of_its_paper(verifier: Verifier) -> None:
    """Worked out by hand for lists of two to four; the page's by enumeration, in fractions, not by drawing."""
    walk = """(design, size) => {
        const weights = WEIGHTS[design.method](design, size), found = {};
        (function go(arms, counts, chance) {
            if (arms.length === size) { found[arms] = chance.join("/"); return; }
            const parts = weights(counts, arms.length).map(Number), sum = parts.reduce((a, b) => a + b);
            parts.forEach((part, k) => part && go(arms + k, counts.map((c, j) => c + (j === k)),
                                                  [chance[0] * part, chance[1] * sum]));
        })("", design.ratio.map(() => 0), [1, 1]);
        return found;
    }"""

    def chances(method: str, size: int, shares: tuple[int, ...] = (1, 1), **own: Any) -> dict[str, Fraction]:
        design = {"method": method, "ratio": [{"share": share} for share in shares], **own}
        return {arms: Fraction(chance) for arms, chance in verifier.call(walk, design, size).items()}

    balanced = {"0011", "0101", "0110", "1001", "1010", "1100"}
    assert chances("complete", 2, (2, 1)) == {
        "00": Fraction(4, 9), "01": Fraction(2, 9), "10": Fraction(2, 9), "11": Fraction(1, 9)
    }  # fmt: skip
    assert chances("random-allocation-rule", 4) == dict.fromkeys(balanced, Fraction(1, 6))
    assert chances("random-allocation-rule", 3, (2, 1)) == dict.fromkeys(("001", "010", "100"), Fraction(1, 3))
    assert chances("truncated-binomial", 4) == {
        arms: Fraction(1, 4 if arms in ("0011", "1100") else 8) for arms in balanced
    }
    assert chances("maximal-procedure", 4, limit=1) == dict.fromkeys(("0101", "0110", "1001", "1010"), Fraction(1, 4))
    assert chances("maximal-procedure", 4, limit=2) == dict.fromkeys(balanced, Fraction(1, 6))
    assert chances("big-stick", 3, limit=2)["001"] == Fraction(1, 4)  # two heads, then no choice
    assert chances("biased-coin", 3, probability="2/3")["001"] == Fraction(1, 2) * Fraction(1, 3) * Fraction(2, 3)
    assert chances("chen", 3, limit=2, probability="2/3")["001"] == Fraction(1, 2) * Fraction(1, 3)
    assert chances("urn", 2, alpha=0, beta=1) == dict.fromkeys(("01", "10"), Fraction(1, 2))
    assert chances("urn", 3, alpha=1, beta=1)["001"] == Fraction(1, 2) * Fraction(1, 3) * Fraction(3, 4)
    block_urn = chances("block-urn", 3, **{"lambda": 2})
    assert "000" not in block_urn and sum(block_urn.values()) == 1
    assert block_urn["010"] == Fraction(1, 2) * Fraction(2, 3) * Fraction(1, 2)  # a full set goes back into the urn


OWN_FIELDS: dict[str, dict[str, Any]] = {
    "complete": {},
    "random-allocation-rule": {},
    "big-stick": {"limit": 3},
    "biased-coin": {"probability": "2/3"},
    "urn": {"alpha": 1, "beta": 1},
    "truncated-binomial": {"block_sizes": [4, 6]},
    "chen": {"limit": 3, "probability": "2/3"},
    "maximal-procedure": {"limit": 3},
    "block-urn": {"lambda": 2},
    "imported-list": {"arms": ["0001000100010001", "0101010100000000"]},
}


def good_design(method: str, change: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A design of eight entries for the arms A and B; a change to None takes the field away."""
    ratio = [{"arm": code, "share": 1} for code in "AB"]
    fields = {"format": "allocator-design/1", "method": method, "length": 8, "ratio": ratio, **OWN_FIELDS[method]}
    return {key: value for key, value in {**fields, **(change or {})}.items() if value is not None}


def study_of(design: Mapping[str, Any]) -> dict[str, Any]:
    """What a design is held to of a study: its arms, and as many strata as an imported list has."""
    return {
        "arms": [{"code": part["arm"]} for part in design["ratio"]],
        "labels": [str(n) for n in range(len(design.get("arms", "x")))],
    }


BENT_DESIGNS: list[tuple[str, dict[str, Any]]] = [  # a good design's method, and a change that no design may have
    *((method, change) for method in ("complete", "big-stick") for change in (
        {"method": "minimization"}, {"method": "complete/1"}, {"method": None}, {"format": "allocator-design/2"},
        {"length": 0}, {"length": 10**7 + 1}, {"length": "8"}, {"ratio": []}, {"extra": 1}, {"block_sizes": [2]},
    )),
    ("random-allocation-rule", {"length": 9}), ("random-allocation-rule", {"limit": 3}),
    ("big-stick", {"limit": 0}), ("big-stick", {"limit": 1001}), ("big-stick", {"limit": None}),
    ("big-stick", {"ratio": [{"arm": "A", "share": 2}, {"arm": "B", "share": 1}]}),
    ("big-stick", {"ratio": [{"arm": code, "share": 1} for code in "ABC"]}),
    *(("biased-coin", {"probability": text}) for text in (
        "1/2", "4/6", "1/1", "3/2", "02/3", "2/03", " 2/3", "2/3 ", "667/1001", "2", "0.67", "1/3", "٢/٣", 2, None
    )),
    ("biased-coin", {"limit": 3}), ("chen", {"limit": None}), ("chen", {"probability": "1/2"}),
    ("urn", {"alpha": 0, "beta": 0}), ("urn", {"alpha": -1}), ("urn", {"beta": 1001}), ("urn", {"beta": None}),
    ("urn", {"ratio": [{"arm": "A", "share": 2}, {"arm": "B", "share": 1}]}),
    ("truncated-binomial", {"length": 9, "block_sizes": None}), ("truncated-binomial", {"block_sizes": []}),
    ("truncated-binomial", {"block_sizes": [3]}), ("truncated-binomial", {"block_sizes": [4, 4]}),
    ("truncated-binomial", {"block_sizes": [6, 4]}), ("truncated-binomial", {"block_sizes": [10002]}),
    ("maximal-procedure", {"limit": 51}), ("maximal-procedure", {"length": 2002}),
    ("maximal-procedure", {"length": 9}), ("block-urn", {"lambda": 0}), ("block-urn", {"lambda": 1001}),
    ("imported-list", {"arms": None}), ("imported-list", {"arms": ["00" * 8, "02" * 8]}),
    ("imported-list", {"arms": ["00" * 8, "00" * 7]}), ("imported-list", {"arms": ["00" * 8]}),
    ("imported-list", {"arms": ["00" * 8, "0" * 15]}), ("imported-list", {"arms": ["00" * 8, "0A" * 8]}),
    ("imported-list", {"length": 10001, "arms": ["00" * 10001, "00" * 10001]}),
]  # fmt: skip
EDGE_DESIGNS: list[tuple[str, dict[str, Any]]] = [  # and one that it may have, just
    ("biased-coin", {"probability": "501/1000"}), ("biased-coin", {"probability": "999/1000"}),
    ("big-stick", {"limit": 1000}), ("big-stick", {"ratio": [{"arm": code, "share": 2} for code in "AB"]}),
    ("urn", {"alpha": 0, "beta": 1}), ("urn", {"alpha": 1000, "beta": 0}),
    ("urn", {"ratio": [{"arm": code, "share": 2} for code in "ABC"]}),
    ("truncated-binomial", {"length": 9, "block_sizes": [2, 10000]}), ("complete", {"length": 10**7}),
    ("maximal-procedure", {"limit": 50, "length": 2000}), ("block-urn", {"length": 7}),
    ("imported-list", {"length": 10000, "arms": ["00" * 10000, "01" * 10000]}),
]  # fmt: skip


@pytest.mark.requirement("G02")
@pytest.mark.parametrize("method, change", BENT_DESIGNS)
def test_a_design_with_another_field_form_or_limit_is_refused(
    verifier: Verifier, method: str, change: dict[str, Any]
) -> None:
    good, bent = good_design(method), good_design(method, change)
    assert not verifier.refuses(HOLD, good, study_of(good))
    assert verifier.refuses(HOLD, bent, study_of({**good, "ratio": bent["ratio"] or good["ratio"]}))


@pytest.mark.requirement("G02")
@pytest.mark.parametrize("method, change", EDGE_DESIGNS)
def test_a_design_at_its_limits_is_taken(verifier: Verifier, method: str, change: dict[str, Any]) -> None:
    design = good_design(method, change)
    assert not verifier.refuses(HOLD, design, study_of(design))


@pytest.mark.requirement("C06")
def test_vectors_of_sealing_and_trees(verifier: Verifier) -> None:
    case = vectors("schedule")
    for entry in case["entries"]:
        given_ = (vectors("study")["fingerprint"], case["sealing"], case["label"], entry["position"], entry["arm"])
        assert verifier.call("commitmentOf", *given_, bytes.fromhex(entry["salt"])).hex() == entry["commitment"]
    root = "(leaves) => { const tree = new Tree(); leaves.forEach((leaf) => tree.append(leaf)); return tree.root(); }"
    for tree in vectors("sealing")["trees"]:
        leaves = [{"hex": hashlib.sha256(b"\0" + bytes.fromhex(leaf)).hexdigest()} for leaf in tree["leaves"]]
        assert verifier.call(root, leaves).hex() == tree["root"]
    hashes = [{"hex": leaf} for leaf in EVIDENCE["trees"]["leaf_hashes"]]
    roots = {case["size"]: case["root"] for case in EVIDENCE["trees"]["roots"]}
    assert all(verifier.call(root, hashes[:size]).hex() == digest for size, digest in roots.items())
    for case in EVIDENCE["trees"]["inclusion"]:
        proof = [{"hex": digest} for digest in case["proof"]]
        given_ = (case["index"], case["size"], hashes[case["index"]])
        assert verifier.call("rootOfInclusion", *given_, proof).hex() == roots[case["size"]]
        for wrong in (proof[:-1] if proof else [hashes[0]], [*proof, hashes[0]]):
            led = verifier.call("rootOfInclusion", *given_, wrong)
            assert led is None or led.hex() != roots[case["size"]]


@pytest.mark.requirement("S02")
def test_vectors_of_records(verifier: Verifier) -> None:
    case = vectors("record")
    detail = case["detail"]
    salt = bytes.fromhex(detail["salt"])
    given_ = (salt, detail["seq"], detail["field"], detail["value"])
    assert verifier.call("detailCommitment", *given_) == detail["commitment"]
    for record in case["records"]:
        prev, body = bytes.fromhex(record["prev"]), record["body"].encode("utf-8")
        assert verifier.call("recordHash", prev, body).hex() == record["hash"]
        holds = "(key, prev, body) => recordSignatureHolds(key, prev, readBody(body))"
        assert verifier.call(holds, case["sign_key"], prev, body) is True
        assert verifier.call(holds, case["sign_key"], hashlib.sha256(prev).digest(), body) is False


@pytest.mark.requirement("L03", "A09", "A10")
def test_vectors_of_checkpoints_and_receipts(verifier: Verifier) -> None:
    held = "(note, key) => holdToLogKey(readCheckpoint(note), key)"
    given_, key = EVIDENCE["checkpoints"], EVIDENCE["log"]["log_key"]
    for note in (given_["older"]["note"], given_["newer"]["note"], given_["with_signatures_unknown_here"]):
        assert not verifier.refuses(held, note.encode("utf-8"), key)
    for case in EVIDENCE["refused_checkpoints"]:
        assert verifier.refuses(held, case["note"].encode("utf-8"), case["log_key"]), case["why"]
    for name in ("first", "copy"):
        assert verifier.ask(receipt=EVIDENCE["receipts"][name].encode("utf-8").hex())["verdict"] == "intact-unanchored"
    for case in EVIDENCE["refused_receipts"]:
        result = verifier.ask(receipt=case["receipt"].encode("utf-8").hex())
        assert result["verdict"] == "broken" and result["findings"], case["why"]


# ---- its arithmetic against other people's ---------------------------------------------------------------------------


def test_its_hashes_and_streams_are_those_of_the_standards(verifier: Verifier) -> None:
    source = random.Random(7)
    for length in (0, 1, 55, 56, 63, 64, 65, 111, 112, 119, 120, 127, 128, 129, 200, 1000, 5000):
        data, key = source.randbytes(length), source.randbytes(source.choice((0, 1, 31, 32, 63, 64)))
        assert verifier.call("sha256", data) == hashlib.sha256(data).digest()
        assert verifier.call("sha512", data) == hashlib.sha512(data).digest()
        assert verifier.call("hmac", key, data) == hmac.digest(key, data, "sha256")
        parts = "(data, at) => sha256(data.subarray(0, at), data.subarray(at))"
        assert verifier.call(parts, data, source.randint(0, length)) == hashlib.sha256(data).digest()


def hkdf_cases() -> Iterator[dict[str, str]]:
    """The test cases of RFC 5869 that the package cryptography-vectors carries."""
    text = (Path(cryptography_vectors.__file__).parent / "KDF" / "rfc-5869-HKDF-SHA256.txt").read_text("ascii")
    for block in re.split(r"COUNT = \d+", text)[1:]:
        yield dict(re.findall(r"(\w+) *= ?(\w*)", block))


def test_vectors_of_hkdf_by_others(verifier: Verifier) -> None:
    cases = list(hkdf_cases())
    assert len(cases) == 3
    for case in cases:
        ikm, salt, info = (bytes.fromhex(case[name]) for name in ("IKM", "salt", "info"))
        if len(salt) <= 64:  # no longer key is used by the specification
            prk = verifier.call("hkdfExtract", salt, ikm)
            assert prk.hex() == case["PRK"]
            assert case["OKM"].startswith(verifier.call("hkdfExpand", prk, info).hex())


def test_its_aes_is_the_standards(verifier: Verifier) -> None:
    source = random.Random(8)
    encrypt = "aesEncrypt(aesRounds(key), high, low, out)"
    block = f"(key, high, low) => {{ const out = new Uint8Array(16); {encrypt}; return out; }}"
    for _ in range(30):
        key, counter = source.randbytes(32), source.choice((0, 1, 2**32 - 1, 2**32, source.randrange(2**53)))
        cipher = Cipher(algorithms.AES(key), modes.CTR(counter.to_bytes(16, "big"))).encryptor()
        assert verifier.call(block, key, counter >> 32, counter % 2**32) == cipher.update(bytes(16))


def signed_by_others() -> list[tuple[bytes, bytes, bytes]]:
    """(key, message, signature): the sign.input of ed25519.cr.yp.to, as cryptography-vectors carries it; every 16th."""
    lines = (
        (Path(cryptography_vectors.__file__).parent / "asymmetric/Ed25519/sign.input").read_text("ascii").splitlines()
    )
    split = [line.split(":") for line in lines[::16]]
    return [(bytes.fromhex(p), bytes.fromhex(m), bytes.fromhex(s)[:64]) for _, p, m, s, *_ in split]


@pytest.mark.requirement("S02")
def test_it_takes_the_signatures_of_others_and_none_that_was_changed(verifier: Verifier) -> None:
    source, cases = random.Random(9), signed_by_others()
    assert len(cases) == 64
    for key, message, signature in cases:
        assert verifier.call("signatureHolds", key, message, signature) is True
        for changed in (
            (_bent(key, source), message, signature),
            (key, message + b"x", signature),
            (key, message, _bent(signature, source)),
        ):
            assert verifier.call("signatureHolds", *changed) is False


def _bent(data: bytes, source: random.Random) -> bytes:
    at = source.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << source.randrange(8))]) + data[at + 1 :]


@pytest.mark.requirement("S02")
def test_it_refuses_the_encodings_on_which_libraries_disagree(verifier: Verifier) -> None:
    key, message, signature = signed_by_others()[1]
    points = [point for y in SMALL_ORDER_Y for point in encodings(y)]
    beyond = [(2**255 - 19 + y).to_bytes(32, "little") for y in range(19)]
    for point in (*points, *beyond):
        assert verifier.call("encodesPoint", point) is False
        assert verifier.call("signatureHolds", point, message, signature) is False
        assert verifier.call("signatureHolds", key, message, point + signature[32:]) is False
        assert verifier.call("signatureHolds", point, message, point + bytes(32)) is False
    s = int.from_bytes(signature[32:], "little")
    for bent in (s + ORDER, ORDER, 2**256 - 1):
        assert verifier.call("signatureHolds", key, message, signature[:32] + bent.to_bytes(32, "little")) is False
    public = MAKE.public(MAKE.Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    only_with_cofactor = MAKE.cofactored_only(bytes(range(32)), b"message")
    assert verifier.call("signatureHolds", public, b"message", only_with_cofactor) is False


ITEMS = st.one_of(
    st.sampled_from(
        ["a", "B", "0", "-", r"\d", r"\w", r"\.", r"\x41", ".", "[0-9]", "[^a]", "[a-cX-]", r"[\d_]", "[]x]"]
    ),
    st.sampled_from(["(a|b)", "(?:ab|0)", "(a|b0|)", "((a)|-)", "(P-[0-9]{2})"]),
)
PLACES = [r"\b", r"\A", r"\Z", "^", "$"]
REPEATS = st.sampled_from(["", "", "?", "*", "+", "{2}", "{1,3}", "{0,}", "{,2}", "*?", "+?", "{1,2}?"])


@given(
    before=st.sampled_from(["", "", *PLACES]),
    parts=st.lists(st.tuples(ITEMS, REPEATS), min_size=1, max_size=6),
    after=st.sampled_from(["", "", *PLACES]),
    ids=st.lists(st.text("aABb0-.P_X9", max_size=8), min_size=4),
)
@settings(max_examples=150)
def test_it_matches_participant_patterns_as_python_does(
    verifier: Verifier, before: str, parts: Any, after: str, ids: list[str]
) -> None:
    pattern = "".join(item + (repeat if item[0] != "(" or repeat in ("", "?") else "") for item, repeat in parts)
    pattern = before + pattern + after
    found = verifier.call(
        "(source, ids) => { const p = readPattern(source); return ids.map((id) => patternMatches(p, id)); }",
        pattern,
        ids,
    )
    assert found == [re.fullmatch(pattern, text, re.ASCII) is not None for text in ids]


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+", "(a|a)*b", "((a{2,9}){2,9}){2,9}", "a**", "(a", "a)", "[a", "(?=a)", "(?i)a", r"(a)\1", "a{3,1}"],
)
def test_it_reads_no_pattern_that_could_keep_it_busy(verifier: Verifier, pattern: str) -> None:
    assert verifier.refuses("readPattern", pattern)
    slow = "a?" * 40 + "a*" * 10  # minutes for a backtracking matcher
    assert verifier.call("(source, id) => patternMatches(readPattern(source), id)", slow, "a" * 39 + "!") is False


# ---- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("L07")
def test_no_hidden_character_is_shown(verifier: Verifier) -> None:
    codes = [
        *range(0x3000),
        0x3164,
        *range(0xE000, 0xE010),
        *range(0xFDD0, 0x10000),
        *range(0xE0000, 0xE0200),
        0x10FFFD,
    ]
    shown = verifier.call("visible", "".join(map(chr, codes)))
    assert {unicodedata.category(c) for c in shown}.isdisjoint({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
    for code in (0x202E, 0x200B, 0x3164, 0x115F, 0x2800, 0xFE0F, 0xE0100, 0x34F, 0xA0, 0x2028):
        assert f"\\u{{{code:x}}}" in shown
    assert verifier.call("visible", "Zoë 王 – 5 µg/mL") == "Zoë 王 – 5 µg/mL"
    piled = verifier.call("visible", "e" + "\u0301" * 50)
    assert piled.count("\u0301") == 2  # marks on marks climb over the line above


# ---- exports ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R01", "L03")
@pytest.mark.parametrize("name, records", [("evidence", LAST + 2), ("inspection", LAST + 3), ("opened", LAST + 7)])
def test_a_good_export_is_intact_by_what_is_given(told: Trial, verifier: Verifier, name: str, records: int) -> None:
    folder = told.home.parent / name
    result = verifier.verify(folder)
    assert (result["verdict"], result["records"], result["followed"]) == ("intact-local", records, records)
    assert (result["findings"], result["left_out"]) == ([], 0)
    assert result["head"] == told.records[records - 1].hash.hex()
    head, other = told.records[3].hash.hex(), "00" * 32
    assert verifier.verify(folder, heads=[head])["verdict"] == "intact"
    assert verifier.verify(folder, roots=[result["root"]])["verdict"] == "intact-local"  # of the list, not of the log
    assert named(verifier.verify(folder, heads=[head, other])) == [("22", -1)]
    assert named(verifier.verify(folder, roots=[other])) == [("22", -1)]
    receipt = str(folder / "receipt-000001-P-001.tlog-proof")
    assert verifier.verify(folder, receipts=[receipt])["verdict"] == "intact"
    assert verifier.verify(folder, checkpoints=[str(folder / "checkpoint.txt")])["verdict"] == "intact"


@pytest.mark.requirement("L02")
@settings(max_examples=60)
@given(data=st.data())
def test_any_byte_of_any_file_turns_the_verdict(told: Trial, verifier: Verifier, data: st.DataObject) -> None:
    folder = told.home.parent / data.draw(st.sampled_from(["evidence", "inspection", "opened"]))
    name = data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir())))
    original = (folder / name).read_bytes()
    at, bit = data.draw(st.integers(0, len(original) - 1)), data.draw(st.integers(0, 7))
    try:
        (folder / name).write_bytes(original[:at] + bytes([original[at] ^ (1 << bit)]) + original[at + 1 :])
        result = verifier.verify(folder)
    finally:
        (folder / name).write_bytes(original)
    assert result["verdict"] == "broken" and named(result)


# ---- the rules, on logs that people wrote past the service -----------------------------------------------------------


def signed_again(rows: list[Stored], trial: Trial) -> list[Stored]:
    """The records numbered, committed, linked and signed anew, whatever they say."""
    done, prev = [], GENESIS
    for seq, row in enumerate(rows):
        fields = {**row.fields, "seq": seq}
        if "details" in fields:
            fields["details"] = {n: detail_commitment(salt, seq, n, v) for n, (salt, v) in row.details.items()}
        actor = trial.actors.get(fields["person"]) if isinstance(fields.get("person"), str) else None
        if actor and "signature" in fields:
            del fields["signature"]
            fields["signature"] = sign(actor.keys.signing, prev, canonical_bytes(fields))
        done.append(replace(row, prev=prev, body=canonical_bytes(fields)))
        prev = link(prev, done[-1].body)
    return done


def written(folder: Path, rows: list[Stored]) -> Path:
    """These records and their details, in place of those of an export; nobody certifies that."""
    lines = [canonical_bytes({"body": row.body.decode("utf-8"), "prev": row.prev.hex()}) for row in rows]
    (folder / "records.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    details = [
        canonical_bytes({"field": name, "salt": salt.hex(), "seq": seq, "value": value})
        for seq, row in enumerate(rows)
        for name, (salt, value) in sorted(row.details.items())
    ]
    (folder / "details.jsonl").write_bytes(b"".join(line + b"\n" for line in details))
    manifest_again(folder)
    return folder


def with_fields(row: Stored, **fields: Any) -> Stored:
    """The same record saying something else; it is not signed again here."""
    return replace(row, body=canonical_bytes({**row.fields, **fields}))


def one_change(source: random.Random, rows: list[Stored], values: Mapping[str, list[Any]]) -> list[Stored]:
    """A field that says what another record says, or a record dropped, doubled, moved or exchanged."""
    rows, at, to = list(rows), source.randrange(1, len(rows)), source.randrange(1, len(rows))
    way = source.choice(["say"] * 6 + ["drop", "double", "move", "exchange"])
    if way == "say":
        field = source.choice(
            sorted(set(rows[at].fields) - {"format", "kind", "meaning", "program", "seq", "signature"})
        )
        rows[at] = with_fields(rows[at], **{field: source.choice(values[field])})
    elif way == "drop":
        del rows[at]
    elif way == "double":
        rows.insert(to, rows[at])
    elif way == "move":
        rows.insert(to, rows.pop(at))
    else:
        rows[at], rows[to] = rows[to], rows[at]
    return rows


@pytest.mark.requirement("L02", "E01", "A06")
@pytest.mark.parametrize("seed", range(4))
def test_it_judges_rules_as_the_program_does(
    told: Trial, verifier: Verifier, copy_of: Callable[[str], Path], seed: int
) -> None:
    """On logs changed at random, linked and signed again by those whose keys are at hand."""
    folder, source, all_rows = copy_of("opened"), random.Random(seed), dump(told.home)
    values: dict[str, list[Any]] = {}
    for row in all_rows:
        for name, value in row.fields.items():
            values.setdefault(name, []).append(value)
    for _ in range(12):
        rows = one_change(source, all_rows, values)
        written(folder, signed_again(rows, told))
        with read_export(folder, ()) as evidence:
            ours = verify(evidence).as_json()
        found = verifier.verify(folder)
        assert (found["verdict"], named(found)) == (ours["verdict"], named(ours))
        assert (found["records"], found["followed"]) == (ours["records"], ours["followed"])


# ---- files made to do harm -------------------------------------------------------------------------------------------

DEEP = b"[" * 1_000_000 + b"]" * 1_000_000
HARM = {
    "nothing in any": lambda _: b"",
    "no UTF-8": lambda _: b"\xff\xfe\x00",
    "zeros": lambda _: bytes(3_000_000),
    "newlines": lambda _: b"\n" * 300_000,
    "quotes": lambda _: b'"' * 3_000_000,
    "deep": lambda _: DEEP,
    "deep in an object": lambda _: b'{"a":' + DEEP + b"}",
    "its own prototype": lambda _: b'{"__proto__":{"constructor":1},"body":"x","prev":"y"}\n',
    "a number too long": lambda _: b'{"seq":' + b"9" * 100_000 + b"}",
    "half of it": lambda data: data[: len(data) // 2],
    "twice": lambda data: data + data,
    "entries without end": lambda _: b'"entries":[' * 200_000,
    "spaces": lambda _: b" " * 3_000_000,
}  # fmt: skip


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("harm", HARM)
def test_no_file_makes_it_fail_or_hang(verifier: Verifier, copy_of: Callable[[str], Path], harm: str) -> None:
    folder = copy_of("opened")
    names = sorted(path.name for path in folder.iterdir())
    originals = {name: (folder / name).read_bytes() for name in names}
    for name in names:
        (folder / name).write_bytes(HARM[harm](originals[name]))
        started = time.process_time()
        result = verifier.verify(folder)
        assert result["verdict"] == "broken" and result["findings"], name
        assert not any("could not go on" in finding["message"] for finding in result["findings"]), result["findings"]
        assert time.process_time() - started < 60
        (folder / name).write_bytes(originals[name])
    for name in names:
        (folder / name).write_bytes(HARM[harm](originals[name]))
    assert verifier.verify(folder)["verdict"] == "broken"


@pytest.mark.requirement("L02")
def test_findings_without_end_are_counted_and_not_kept(verifier: Verifier, copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("evidence")
    for number in range(1500):
        (folder / f"more-{number}").write_bytes(b"")
    result = verifier.verify(folder)
    assert len(result["findings"]) == 1000 and result["left_out"] == 1500 + 1 - 1000  # and SHA256SUMS


# ---- a receipt by itself ---------------------------------------------------------------------------------------------


@pytest.mark.requirement("A09")
def test_a_receipt_by_itself(told: Trial, verifier: Verifier) -> None:
    data = (told.home.parent / "evidence" / "receipt-000001-P-001.tlog-proof").read_bytes()
    hashes = [record.hash.hex() for record in told.records]
    result = verifier.ask(receipt=data.hex())
    assert result["verdict"] == "intact-unanchored" and result["receipt"]["participant"] == "P-001"
    seq = result["receipt"]["record"]
    given_: list[tuple[list[str], list[str], str]] = [
        ([hashes[seq]], [], "intact"),
        ([hashes[seq], hashes[0], hashes[seq - 1]], [result["root"]], "intact"),
        ([hashes[0]], [result["root"]], "intact-unanchored"),  # both are stated by the receipt itself
        ([hashes[seq], hashes[seq + 1]], [], "broken"),
        ([hashes[seq]], [hashes[seq]], "broken"),
    ]
    for heads, roots, verdict in given_:
        assert verifier.ask(receipt=data.hex(), given={"heads": heads, "roots": roots})["verdict"] == verdict


@pytest.mark.requirement("A09")
@settings(max_examples=80)
@given(at=st.integers(0, 2**20), bit=st.integers(0, 7))
def test_any_byte_of_a_receipt_turns_its_verdict(told: Trial, verifier: Verifier, at: int, bit: int) -> None:
    original = (told.home.parent / "evidence" / "receipt-000001-P-001.tlog-proof").read_bytes()
    at %= len(original)
    data = original[:at] + bytes([original[at] ^ (1 << bit)]) + original[at + 1 :]
    if verifier.ask(receipt=data.hex())["verdict"] != "broken":
        assert extra_of(data) == extra_of(original)


def extra_of(receipt: bytes) -> dict[str, Any]:
    """What a receipt says, but for what only an export can hold it to: its arm's words, the rest of `first`."""
    extra = json.loads(base64.b64decode(receipt.split(b"\n")[1].removeprefix(b"extra ")))
    return {**extra, "arm": None, "first": extra["first"][:16]}


# ---- in a browser ----------------------------------------------------------------------------------------------------

GREEN, RED = ("rgb(23, 100, 58)", "rgb(127, 214, 162)"), ("rgb(163, 22, 27)", "rgb(255, 157, 152)")  # light, dark
CAUTION = "rgb(125, 82, 0)"
HEADING = "document.querySelector('#verdict h2')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """Chromium, started once."""
    if executable() is None:
        pytest.skip("chromium is not installed")
    with Chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@dataclass(frozen=True)
class Seen:
    """What somebody sees: the verdict's state, the colour of its title, and all of its words."""

    state: str
    colour: str
    words: str


def seen(page: Page, title: str) -> Seen:
    """The verdict of this title, once it is there. No network was asked for it; nothing failed or was blocked."""
    shown = f"{HEADING}?.lastChild.textContent === {json.dumps(title)}"
    page.wait(f"{shown} && document.querySelector('#working').hidden", seconds=120)
    assert page.value("document.title").startswith(title)
    assert page.requests == [PAGE.as_uri()] and page.complaints == []
    return Seen(
        state=page.value("document.querySelector('#verdict section').dataset.state"),
        colour=page.value(f"getComputedStyle({HEADING}).color"),
        words=page.value("document.querySelector('#verdict').innerText"),
    )


def on_top(page: Page) -> bool:
    """Whether the verdict's title is what lies on top where it stands, inside the window, and is seen."""
    return bool(
        page.value(
            f"""(() => {{
                const title = {HEADING}, box = title.getBoundingClientRect(), style = getComputedStyle(title);
                const spots = [0.02, 0.25, 0.5].map((x) => [box.x + box.width * x, box.y + box.height / 2]);
                return box.width > 100 && box.top >= 0 && box.bottom <= innerHeight && style.opacity === "1" &&
                    style.visibility === "visible" &&
                    spots.every(([x, y]) => title.contains(document.elementFromPoint(x, y)));
            }})()"""
        )
    )


def fits(page: Page) -> bool:
    """Whether nothing makes the page wider than its window."""
    return bool(page.value("document.documentElement.scrollWidth <= innerWidth"))


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


@pytest.mark.requirement("R01", "R04")
@pytest.mark.parametrize("way", ["files chosen", "folder chosen", "files dropped", "folder dropped"])
def test_an_export_is_judged_however_it_comes(browser: Chromium, told: Trial, tmp_path: Path, way: str) -> None:
    folder, page = told.home.parent / "evidence", browser.open(PAGE)
    {
        "files chosen": lambda: page.choose("#pick-files", files_of(folder)),
        "folder chosen": lambda: page.choose("#pick-folder", [folder]),
        "files dropped": lambda: page.drop("#zone-export .drop", files_of(folder)),
        "folder dropped": lambda: page.drop("#zone-export .drop", [folder]),
    }[way]()
    verdict = seen(page, "Intact in itself")
    page.picture(tmp_path / "evidence.png")
    assert (verdict.state, verdict.colour) == ("held", GREEN[0])
    assert "whoever made this export could have cut off the newest records" in verdict.words
    assert "answers, names and reasons, so these were not judged" in verdict.words
    assert told.records[LAST + 1].hash.hex() in verdict.words and "test: not for a patient" in verdict.words
    assert page.value("document.querySelectorAll('#records tbody tr').length") == LAST + 2
    assert on_top(page) and fits(page)


@pytest.mark.requirement("C06", "G01", "U05", "L07")
def test_an_opened_export_shows_the_list_and_the_trail(browser: Chromium, told: Trial, tmp_path: Path) -> None:
    page = browser.open(PAGE)
    page.choose("#pick-files", files_of(told.home.parent / "opened"))
    verdict = seen(page, "Intact in itself")
    page.wait("document.querySelectorAll('#list tbody tr').length === 6")
    page.picture(tmp_path / "opened.png")
    page.printed(tmp_path / "opened.pdf")
    assert verdict.state == "held" and "Certified by" in verdict.words
    states = page.value("[...document.querySelectorAll('ul.checks li')].map((row) => row.className)")
    assert sorted(set(states)) == ["held", "not-judged"] and states.count("not-judged") == 1  # no hash was given
    checks = page.value("document.querySelector('ul.checks').innerText")
    assert "Drawn again from the seed: all 6 entries are the sealed ones." in checks
    used = page.value("[...document.querySelectorAll('#list tbody tr')].map((row) => row.lastChild.innerText)")
    assert used == ["P-001 record 16", "P-002 record 18", "P-004 record 30", "not used", "not used", "not used"]
    people = page.value("document.querySelector('#people tbody').innerText")
    assert all(person in people for person in told.actors) and "Sponsor One" in people
    arms = page.value("[...document.querySelectorAll('#allocations tbody tr')].map((row) => row.children[2].innerText)")
    assert len(arms) == 3 and all("GCV" in arm for arm in arms)
    page.value("document.querySelector('#search').value = 'p-003'")
    page.value("document.querySelector('#search').dispatchEvent(new Event('input'))")
    page.wait("document.querySelectorAll('#records tbody tr').length === 3")
    page.value("document.querySelector('#records button.more').click()")
    page.wait("document.querySelector('#records pre')")
    page.wait("document.querySelector('#records td.whole h3')")
    assert '"consent"' in page.value("document.querySelector('#records td.whole').innerText")  # a private detail


def opened_export(trial: Trial, folder: Path, stratum: Mapping[str, str] | None = None) -> Path:
    """An export of the study, one participant allocated, after both holders opened its list."""
    trial.allocate("P-001", stratum=stratum)
    trial.service.change_state(trial.actor("SP"), "closed", "all are allocated")
    for holder in ("ST", "CU"):
        trial.service.open_list(trial.actor(holder))
    export_study(trial.service, trial.actor("AU"), folder, "inspection")
    return folder


RATIO = (("IL2-GCV", 1), ("GCV", 1))
MAXIMAL = RandomizationDesign(method="maximal-procedure", limit=3, length=80, ratio=RATIO)
IMPORTED = RandomizationDesign(method="imported-list", arms=(bytes((0, 1, 1, 0)),), length=4, ratio=RATIO)


@pytest.mark.requirement("C06", "G01", "G02")
@pytest.mark.parametrize("how, origin, drawn, said", [
    (MAXIMAL, "Drawn and sealed by maximal-procedure/1 (record 11).", "The list, drawn again from the seed 80",
     "Drawn again from the seed: all 80 entries are the sealed ones."),
    (IMPORTED, "Elsewhere, and sealed here (record 11).", "The list, as it was imported 4",
     "As it was imported: all 4 entries are the sealed ones."),
], ids=["maximal procedure", "imported"])  # fmt: skip
def test_an_opened_study_of_another_method_is_intact_and_says_how_it_was_made(
    browser: Chromium,
    trials: TrialFactory,
    tmp_path: Path,
    how: RandomizationDesign,
    origin: str,
    drawn: str,
    said: str,
) -> None:
    trial = trials("active", how=how)
    forger = Forger(trial)
    seq = forger.write("list-read", {"sealing": forger.sealed.sealing.hex(), "purpose": "balance"}, by="ST")
    forger.close()
    folder = opened_export(trial, tmp_path / "export")
    page = browser.open(PAGE)
    page.choose("#pick-files", files_of(folder))
    verdict = seen(page, "Intact in itself")
    page.wait("document.querySelector('#list tbody tr')")
    page.picture(tmp_path / "other-method.png")
    assert origin in verdict.words and fits(page)
    assert f"A holder of a share, with the arms still to come: record {seq}." in verdict.words
    assert ("How the list was made: it came from elsewhere" in verdict.words) == (how is IMPORTED)
    assert said in page.value("document.querySelector('ul.checks').innerText")
    assert page.value("document.querySelector('#list h2').innerText") == drawn
    arms = page.value("[...document.querySelectorAll('#list tbody tr')].map((row) => row.children[2].innerText)")
    if how is IMPORTED:
        assert arms == ["IL2-GCV", "GCV", "GCV", "IL2-GCV"]
    assert "purpose balance" in page.value("document.querySelector('#records').innerText")


@pytest.mark.requirement("L03")
def test_what_was_kept_elsewhere_anchors_it_or_breaks_it(browser: Chromium, told: Trial, tmp_path: Path) -> None:
    folder, page = told.home.parent / "evidence", browser.open(PAGE)
    page.choose("#pick-files", files_of(folder))
    seen(page, "Intact in itself")
    for text, title, words in (
        (told.records[20].hash.hex().upper(), "Intact", "The newest head you gave reaches record 20 of 0 to 32."),
        ("ab" * 32, "Broken", "the hash of no record"),
    ):
        page.fill("#heads", text)
        verdict = seen(page, title)
        assert words.lower() in verdict.words.lower()
    assert verdict.colour == RED[0]
    page.fill("#heads", "no hash")
    page.wait("document.querySelector('#heads-problem').textContent")
    assert page.value("document.querySelector('#verdict').children.length") == 0  # nothing is said without it
    page.fill("#heads", "")
    seen(page, "Intact in itself")
    page.choose("#pick-elsewhere", [folder / "receipt-000003-P-004.tlog-proof"])
    verdict = seen(page, "Intact")
    page.picture(tmp_path / "anchored.png")
    assert "The newest receipt you gave reaches record 30" in verdict.words
    assert "For the 2 records after it there is no word from outside" in verdict.words
    page.drop("#zone-elsewhere .drop", [folder / "checkpoint.txt"])
    page.wait(f"document.querySelector('#verdict').innerText.includes('checkpoint you gave reaches record {LAST + 1}')")


@pytest.mark.requirement("L02")
def test_a_changed_export_is_red_and_the_first_bad_record_stands_first(
    browser: Chromium, told: Trial, copy_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy_of("inspection")
    rows = dump(told.home)[: LAST + 1]
    rows[18] = with_fields(rows[18], arm=1 - rows[18].fields["arm"])
    written(folder, signed_again(rows, told))
    page = browser.open(PAGE)
    page.choose("#pick-files", files_of(folder))
    verdict = seen(page, "Broken")
    page.picture(tmp_path / "broken.png")
    assert (verdict.state, verdict.colour) == ("failed", RED[0])
    assert "Record 18 · check 19 rule of the kind" in verdict.words and "Expected" in verdict.words
    rows_ = page.value("[...document.querySelectorAll('#records tr.bad')].map((row) => row.firstChild.innerText)")
    assert rows_ == ["18"]
    result = json.loads(page.value("document.querySelector('#rest > section:last-child pre').textContent"))
    assert ("19 rule of the kind", 18) in [(f["check"], f["seq"]) for f in result["findings"]]


# ---- an export that tries to look good -------------------------------------------------------------------------------

MARKER = "ZQXJ"
PAINT = (
    f'<h2 class="held" style="position:fixed;inset:0;z-index:99999;color:green">{MARKER} Intact</h2>'
    f"<img src=x onerror=\"document.title='{MARKER}'\"><script>{MARKER}=1</script>"
    "<style>*{color:green!important}</style>"
)
TRICKS = (
    PAINT,
    f"{MARKER} \u202eevil\u2066\u200b\u200d\u00ad\ufeff\u2028\u3164\u115f\u2800",
    f"{MARKER} " + "W" * 450,
    f"{MARKER} Z" + "\u0335\u0310\u0311" * 140,
    f"{MARKER} ✓ Intact. Every check holds, and so does what you gave from elsewhere. " + "\u00a0" * 300,
    f'{MARKER} \u05d0\u05d1\u05d2 \u0627\u0644\u0639 ] "}} // --> ]]> &lt;/td&gt;',
)


def hostile_export(folder: Path, told: Trial) -> Path:
    """A log that signs whatever it takes to look good in every text there is, and breaks a rule at record 18."""
    rows = dump(told.home)[: LAST + 1]
    for seq, row in enumerate(rows):
        rows[seq] = with_fields(row, program=TRICKS[seq % len(TRICKS)][:480])
    finding = {"id": "K01", "level": "warn", "message": PAINT + "A" * 5000, "quotes": list(TRICKS)}
    rows[0] = with_fields(rows[0], findings=[finding])
    rows[18] = with_fields(rows[18], arm=1 - rows[18].fields["arm"])
    for seq, row in enumerate(rows):
        text = "".join(TRICKS)
        kept = {n: (salt, v if n == "answers" else text) for n, (salt, v) in row.details.items()}
        rows[seq] = replace(rows[seq], details=kept)
    for receipt in folder.glob("*.tlog-proof"):
        receipt.unlink()
    written(folder, signed_again(rows, told))
    (folder / f"<b>{MARKER} Intact\u202egnp.txt").write_text("x")
    (folder / "certificate.json").write_bytes(canonical_bytes({TRICKS[1]: PAINT, PAINT: 1}))
    return folder


def stray_texts(page: Page) -> list[str]:
    """Every text outside of what is set apart as a file's own that holds the marker without quotation marks of ours."""
    found: list[str] = page.value(
        f"""(() => {{
            const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), stray = [];
            for (let node = walker.nextNode(); node; node = walker.nextNode()) {{
                if (node.parentElement.closest(".data, script")) continue;
                if (node.data.replace(/“[^“”]*”/g, "").includes("{MARKER}")) stray.push(node.data);
            }}
            return stray;
        }})()"""
    )
    return found


@pytest.mark.requirement("L02", "R01")
@pytest.mark.parametrize("width, height, dark", [(1100, 900, False), (390, 800, True)], ids=["desk", "phone, dark"])
def test_a_hostile_export_cannot_paint_itself_green(
    browser: Chromium,
    told: Trial,
    copy_of: Callable[[str], Path],
    tmp_path: Path,
    width: int,
    height: int,
    dark: bool,
) -> None:
    folder = hostile_export(copy_of("inspection"), told)
    page = browser.open(PAGE, width=width, height=height, dark=dark)
    elements = page.value("document.querySelectorAll('img, script, style, iframe, link').length")
    page.choose("#pick-files", files_of(folder))
    verdict = seen(page, "Broken")
    page.wait("document.querySelector('#allocations tbody tr')")
    page.value("[...document.querySelectorAll('button.more')].slice(0, 7).forEach((button) => button.click())")
    page.value("document.querySelectorAll('details').forEach((details) => (details.open = true))")
    page.wait("document.querySelectorAll('td.whole pre').length === document.querySelectorAll('td.whole').length")
    page.picture(tmp_path / "hostile.png")
    assert (verdict.state, verdict.colour) == ("failed", RED[int(dark)])
    assert "Record 18 · check 19 rule of the kind" in verdict.words, verdict.words[:900]
    assert on_top(page) and fits(page)
    whole = page.value("document.body.innerText")
    assert MARKER in whole and "\\u{202e}" in whole and "\\u{3164}" in whole  # it is shown, and written out
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b-\u200f\u3164\u115f\u2800\ufeff\u00ad]", whole)
    assert stray_texts(page) == []
    assert page.value("document.querySelectorAll('img, script, style, iframe, link').length") == elements
    assert page.value(f"typeof {MARKER} === 'undefined'") and MARKER not in page.value("document.title")
    colours = page.value("[...document.querySelectorAll('#verdict *')].map((e) => getComputedStyle(e).color)")
    assert set(colours).isdisjoint(GREEN)
    lone = page.value(
        "[...document.querySelectorAll('.data')].every((e) => getComputedStyle(e).contain.includes('paint'))"
    )
    assert lone is True


@pytest.mark.requirement("R01")
def test_its_policy_stops_what_it_does_not_know(browser: Chromium) -> None:
    """Were there a way to plant markup after all, no script in it would run and nothing would leave."""
    page = browser.open(PAGE)
    tries = {
        "an inline script": "add('script', { textContent: 'window.planted = 1' })",
        "an image": "add('img', { src: 'http://127.0.0.1:9/x.png' })",
        "a frame": "add('iframe', { src: 'http://127.0.0.1:9/' })",
        "a request": "fetch('http://127.0.0.1:9/x').catch(() => {})",
        "a form": "add('form', { action: 'http://127.0.0.1:9/' }).submit()",
        "markup": "document.body.innerHTML = '<p>x</p>'",
    }
    add = "const add = (name, given) => document.body.appendChild(Object.assign(document.createElement(name), given));"
    for words, act in tries.items():
        page.value(f"(() => {{ {add} try {{ {act} }} catch (e) {{ }} }})()")
        page.value("new Promise((resume) => setTimeout(resume, 50))")
        assert page.value("typeof window.planted === 'undefined' && document.querySelector('#verdict') !== null"), words
    assert [url for url in page.requests if url.startswith("http")] == []
    assert sum("Content Security Policy" in text for text in page.complaints) >= 3


# ---- receipts, and everything else -----------------------------------------------------------------------------------


@pytest.mark.requirement("A09")
def test_a_receipt_alone_says_what_it_shows_and_what_not(browser: Chromium, told: Trial, tmp_path: Path) -> None:
    page = browser.open(PAGE)
    receipt = told.home.parent / "evidence" / "receipt-000001-P-001.tlog-proof"
    page.drop("#zone-export .drop", [receipt])
    verdict = seen(page, "The receipt is of one piece")
    page.picture(tmp_path / "receipt.png")
    assert (verdict.state, verdict.colour) == ("caution", CAUTION)
    assert "P-001" in verdict.words and "It does not prove" in verdict.words and "not for a patient" in verdict.words
    page.fill("#heads", told.records[16].hash.hex())
    assert seen(page, "Intact receipt").colour == GREEN[0]
    (other := tmp_path / "other.tlog-proof").write_bytes(receipt.read_bytes().replace(b"index 16", b"index 17"))
    page = browser.open(PAGE)
    page.choose("#pick-files", [other])
    assert seen(page, "Broken receipt").colour == RED[0]
    (nothing := tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    page = browser.open(PAGE)
    page.choose("#pick-files", [nothing])
    page.wait("document.querySelector('#said-export').innerText.includes('no export, no receipt')")
    assert page.value("document.querySelector('#verdict').children.length") == 0


def test_an_older_check_never_speaks_for_a_newer_choice(
    browser: Chromium, told: Trial, copy_of: Callable[[str], Path]
) -> None:
    folder = copy_of("evidence")
    (folder / "README.txt").write_bytes(b"another")
    page = browser.open(PAGE)
    for _ in range(3):
        page.choose("#pick-files", files_of(told.home.parent / "inspection"))
        page.choose("#pick-files", files_of(folder))
    page.wait("document.querySelector('#verdict section') && document.querySelector('#working').hidden")
    time.sleep(0.5)
    assert page.value("document.querySelectorAll('#verdict section').length") == 1
    assert page.value(f"{HEADING}.innerText").endswith("Broken")


def test_the_page_stays_alive_while_it_works(browser: Chromium, told: Trial, copy_of: Callable[[str], Path]) -> None:
    folder, rows = copy_of("inspection"), dump(told.home)[: LAST + 1]
    refusal = next(row for row in rows if row.fields["kind"] == "refused")
    last = rows[-1].fields["time"]
    rows += [with_fields(refusal, time=last, participant=f"P-{number:03d}") for number in range(600)]
    written(folder, signed_again(rows, told))
    page = browser.open(PAGE)
    page.value("(window.beats = 0, window.shares = new Set(), setInterval(() => { beats += 1; "
               "shares.add(document.querySelector('#working-share').value); }, 20), 0)")  # fmt: skip
    page.choose("#pick-files", files_of(folder))
    assert "632 records" in seen(page, "Broken").words  # nobody certified it
    assert page.value("beats") >= 5 and page.value("shares.size") >= 3
    assert page.value("document.querySelectorAll('#records tbody tr').length") == 50  # a page of them
    page.value("document.querySelector('#records .pages button:nth-child(2)').click()")
    page.wait("document.querySelector('#records .pages').innerText.includes('51 to 100 of 632')")


def test_it_says_so_when_scripts_are_off(browser: Chromium, tmp_path: Path) -> None:
    page = browser.open(PAGE, script=False)
    time.sleep(0.5)
    page.picture(tmp_path / "no-script.png")
    tree = page.ask("Accessibility.getFullAXTree")["nodes"]
    words = " ".join(str(node.get("name", {}).get("value", "")) for node in tree)
    assert "JavaScript is off" in words and "Nothing was checked." in words


def test_everything_on_it_has_a_name_and_can_be_reached_by_keys(browser: Chromium, told: Trial) -> None:
    page = browser.open(PAGE)
    page.choose("#pick-files", files_of(told.home.parent / "inspection"))
    seen(page, "Intact in itself")
    page.wait("document.querySelector('#records button.more')")
    nodes = page.ask("Accessibility.getFullAXTree")["nodes"]
    nameless = [
        node["role"]["value"]
        for node in nodes
        if node.get("role", {}).get("value")
        in ("button", "textbox", "searchbox", "combobox", "checkbox", "progressbar")
        and not node.get("ignored")
        and not node.get("name", {}).get("value")
    ]
    assert nameless == []
    assert page.value("document.querySelector('#verdict').getAttribute('role')") == "status"
    reached = []
    page.value("document.activeElement.blur()")
    for _ in range(12):
        for kind in ("keyDown", "keyUp"):
            page.ask("Input.dispatchKeyEvent", {"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9})
        reached.append(page.value("document.activeElement.id || document.activeElement.innerText"))
    for name in (
        "Print this page",
        "pick-folder",
        "pick-files",
        "pick-elsewhere",
        "heads",
        "roots",
        "again",
        "search",
        "kind",
    ):
        assert name in reached
