"""Three verifiers that share no code: the package, verifier/verify.py and verifier/index.html say the same.

Each export, good or attacked, must get one verdict, and one set of (check, record), from all three. A log that people
wrote past the service is put into an export by hand (`as_export`), so that the rules are compared, too.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import attacks
from allocator.canonical import canonical_bytes
from allocator.export import detail_line
from allocator.export_evidence import read_export
from allocator.log import Detail
from allocator.receipt import parse_receipt
from allocator.session import read_study_copy
from allocator.verdict import Given
from allocator.verify import verify, verify_receipt
from attacks import Forger
from support import STUDY_ID, Trial, TrialFactory
from test_attacks import COLLUSIONS
from test_export import CHANGES, manifest_again, rewrite
from test_export import told as told  # the fixture
from test_person import SMALL_ORDER_Y, encodings
from test_verifier_page import Verifier
from test_verifier_page import verifier as verifier  # the fixture: the page's script in Node

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "verifier" / "verify.py"
Said = tuple[str, list[tuple[str, int]]]  # verdict, (check, record or -1) of each finding, each once


def _loaded() -> Any:
    spec = importlib.util.spec_from_file_location("stranger", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


STRANGER = _loaded()


def said(result: Mapping[str, Any]) -> Said:
    pairs = {(f["check"], -1 if f["seq"] is None else f["seq"]) for f in result["findings"]}
    return result["verdict"], sorted(pairs)


def agreed(verifier: Verifier, folder: Path, heads: tuple[bytes, ...] = (), **piles: list[Path]) -> Said:
    """What all three say of an export; fails where they differ."""
    receipts, checkpoints = piles.get("receipts", []), piles.get("checkpoints", [])
    given = {
        "given_receipts": tuple(Given(path.name, path.read_bytes()) for path in receipts),
        "given_checkpoints": tuple(Given(path.name, path.read_bytes()) for path in checkpoints),
    }
    with read_export(folder, heads, **given) as evidence:
        ours = verify(evidence).as_json()
    stranger = STRANGER.verify_export(
        folder,
        STRANGER.Given(
            heads=list(heads),
            receipts=[(path.name, path.read_bytes()) for path in receipts],
            checkpoints=[(path.name, path.read_bytes()) for path in checkpoints],
        ),
    ).as_json()
    asked = {
        "heads": [digest.hex() for digest in heads],
        "receipts": [str(path) for path in receipts],
        "checkpoints": [str(path) for path in checkpoints],
    }
    shown = verifier.ask(verify=str(folder), given=asked)
    assert said(ours) == said(stranger) == said(shown), (ours["findings"], stranger["findings"], shown["findings"])
    for name in ("records", "followed", "head", "root"):
        assert ours[name] == stranger[name] == shown[name], name
    return said(ours)


def as_export(home: Path, folder: Path) -> Path:
    """An export of a home, made by hand and certified by nobody: as its files are, whatever they say."""
    source = attacks.place(home)
    folder.mkdir()
    for path in (source.study_file, source.registry_file, source.sealed_file, source.seed_file):
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    rows = attacks.dump(home)
    with (folder / "records.jsonl").open("wb") as stream:
        for row in rows:
            stream.write(canonical_bytes({"body": row.body.decode("utf-8"), "prev": row.prev.hex()}) + b"\n")
    with (folder / "details.jsonl").open("wb") as stream:
        for seq, row in enumerate(rows):
            for name, (salt, value) in sorted(row.details.items()):
                stream.write(detail_line(seq, name, Detail(salt=salt, value=value)))
    (folder / "study.json").write_bytes(canonical_bytes(read_study_copy(source).plain()))
    (folder / "head").write_bytes((source.keys / "head").read_bytes())
    manifest = {"format": "allocator-export/1", "study": STUDY_ID, "scope": "inspection", "program": "by hand"}
    manifest |= {"time": "2026-11-20T00:00:00.000Z", "records": len(rows), "head": rows[-1].hash.hex()}
    (folder / "manifest.json").write_bytes(canonical_bytes({**manifest, "tree": "00" * 32, "files": []}))
    (folder / "certificate.json").write_bytes(b"{}")
    (folder / "checkpoint.txt").write_bytes(b"none\n")
    manifest_again(folder)
    return folder


# ---- exports as made ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R01", "G01")
@pytest.mark.parametrize("name", ["evidence", "inspection", "opened"])
def test_all_three_find_a_good_export_intact(told: Trial, verifier: Verifier, name: str) -> None:
    folder = told.home.parent / name
    assert agreed(verifier, folder) == ("intact-local", [])
    assert agreed(verifier, folder, (told.records[3].hash,)) == ("intact", [])
    assert agreed(verifier, folder, (b"\0" * 32,)) == ("broken", [("22 given head", -1)])
    receipts = sorted(told.place.receipts.glob("*.tlog-proof"))
    assert agreed(verifier, folder, receipts=receipts) == ("intact", [])


@pytest.mark.requirement("L02", "L03")
@pytest.mark.parametrize("again", [False, True], ids=["as it lies", "manifest made anew"])
@pytest.mark.parametrize("name, change, expected", CHANGES)
def test_all_three_name_a_change_alike(
    told: Trial,
    verifier: Verifier,
    tmp_path: Path,
    name: str,
    change: Callable[[bytes], bytes],
    expected: tuple[str, int | None],
    again: bool,
) -> None:
    folder = Path(shutil.copytree(told.home.parent / "inspection", tmp_path / "export"))
    rewrite(folder, name, change)
    if again:
        manifest_again(folder)
    verdict, findings = agreed(verifier, folder)
    check, seq = expected
    assert verdict == "broken"
    assert (check, -1 if seq is None else seq) in [(name[:2], at) for name, at in findings]


@pytest.mark.requirement("C06", "U05")
@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b'"length":6', b'"length":7'),
        lambda data: data.replace(b'"shares":["', b'"shares":["0', 1),
        lambda _: b"{}",
        lambda data: data[:-1],
    ],
)
def test_all_three_name_another_seed(
    told: Trial, verifier: Verifier, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    folder = Path(shutil.copytree(told.home.parent / "opened", tmp_path / "export"))
    rewrite(folder, "seed.json", change)
    assert ("25 opening", -1) in agreed(verifier, folder)[1]


# ---- what colluding people write ------------------------------------------------------------------------------------


@pytest.fixture
def forger(trials: TrialFactory) -> Iterator[Forger]:
    """People of an active study who write past the service: 3 are approved, 4 entries are sealed."""
    forger = Forger(trials("active", enrollment=3, length=4, block_sizes=(2, 4)))
    yield forger
    forger.close()


@pytest.mark.requirement("L02", "E01")
@pytest.mark.parametrize("name", COLLUSIONS)
def test_all_three_name_what_colluding_people_fabricate(
    forger: Forger, verifier: Verifier, tmp_path: Path, name: str
) -> None:
    seq = COLLUSIONS[name][0](forger)
    verdict, findings = agreed(verifier, as_export(forger.home, tmp_path / "export"))
    assert verdict == "broken" and ("19 rule of the kind", seq) in findings


@pytest.mark.requirement("S02")
def test_all_three_refuse_the_encodings_on_which_libraries_disagree(
    told: Trial, verifier: Verifier, tmp_path: Path
) -> None:
    """As R of a record's signature; a lax library takes some of them (docs/spec.md §8.4)."""
    home = attacks.copied(told.home, "edges")
    rows = attacks.dump(home)
    points = [*(point for y in SMALL_ORDER_Y for point in encodings(y))]
    order = 2**252 + 27742317777372353535851937790883648493
    good = bytes.fromhex(rows[-1].fields["signature"])
    signatures = [point + good[32:] for point in points]
    signatures.append(good[:32] + (int.from_bytes(good[32:], "little") + order).to_bytes(32, "little"))
    for number, signature in enumerate(signatures):
        bent = replace(rows[-1]).of({**rows[-1].fields, "signature": signature.hex()})
        attacks.rebuild(home, [*rows[:-1], bent])
        found = agreed(verifier, as_export(home, tmp_path / str(number)))[1]
        assert ("16 signature", len(rows) - 1) in found


# ---- receipts and checkpoints ---------------------------------------------------------------------------------------


@pytest.mark.requirement("L03", "A09")
def test_all_three_miss_the_record_of_a_receipt_that_was_cut_off(
    trials: TrialFactory, verifier: Verifier, tmp_path: Path
) -> None:
    trial = trials("active")
    trial.allocate("P-001")
    older = as_export(trial.home, tmp_path / "older")
    trial.allocate("P-002")
    receipt = trial.service.keep_receipt(trial.last)
    note = tmp_path / "note"
    note.write_bytes(trial.service.checkpoint().note.encode())
    findings = agreed(verifier, older, receipts=[receipt], checkpoints=[note])[1]
    assert ("24 receipt", trial.last.seq) in findings and ("23 checkpoint", -1) in findings


@pytest.mark.requirement("A09")
def test_both_judge_a_receipt_by_itself_alike(told: Trial) -> None:
    whole = sorted(told.place.receipts.glob("*.tlog-proof"))[0].read_bytes()
    receipt = parse_receipt(whole)
    other = replace(receipt, arm={**receipt.arm, "label": "Another"})
    variants = [
        whole, b"", whole[:-1], whole.replace(b"index ", b"index 0"), whole + b"\n", other.to_bytes(),
        replace(receipt, first=b"\0" * 32).to_bytes(), replace(receipt, root=b"\0" * 32).to_bytes(),
        replace(receipt, sign_key=receipt.log_key).to_bytes(), replace(receipt, proof=receipt.proof[:-1]).to_bytes(),
        replace(receipt, proof=(*receipt.proof, b"\0" * 32)).to_bytes(), replace(receipt, path=()).to_bytes(),
        replace(receipt, log_key=receipt.sign_key).to_bytes(),
    ]  # fmt: skip
    for number, data in enumerate(variants):
        ours = said(verify_receipt(Given("receipt", data)).as_json())
        stranger = said(STRANGER.verify_receipt(data, STRANGER.Given()))
        assert ours == stranger, number
        assert (ours[0] == "broken") == (number not in (0, 5)), number
