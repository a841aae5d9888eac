"""verifier/verify.py, the second opinion: held to the vectors, to exports good and bad, and to what `verify` says.

The file is run as an outsider runs it, by a Python that sees nothing of ours (`-I -S`); where many cases are asked it
is loaded as the single file that it is. `write_export` makes exports as somebody does who holds every key.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given, settings
from hypothesis import strategies as st

from allocator import merkle
from allocator.answers_form import form_bytes, parse_form
from allocator.canonical import canonical_bytes, tag
from allocator.cli import run
from allocator.eligibility import is_eligible
from allocator.errors import AllocatorError
from allocator.exporting import export_study
from allocator.keystream import keystream_bytes
from allocator.person import sign
from allocator.service import Allocation
from allocator.toml_files import read_study
from allocator.writer import Actor
from attacks import Forger, Stored, dump, example_form, place, rechained, tell_story
from support import START, Trial, TrialFactory, eligible_form, finding, ineligible_form, open_service, study
from test_attacks import COLLUSIONS, HOSTILE, _chained_as_is, _obeyed
from test_keystream import vectors as vectors_by_others
from test_vectors import EVIDENCE, MAKE, vectors
from test_way_back import put_back, receipt_of, recover

FILE = Path(__file__).parent.parent / "verifier" / "verify.py"


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verify_py", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["verify_py"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


V = _loaded()


@dataclass(frozen=True)
class Said:
    """What a verifier says of an export: exit code, the object of §11.3, and its findings as (check, seq)."""

    code: int
    told: Mapping[str, Any]

    @property
    def named(self) -> set[tuple[str, int | None]]:
        """Number of the check and record of every finding."""
        return {(one["check"][:2], one["seq"]) for one in self.told["findings"]}

    @property
    def checks(self) -> set[str]:
        """The checks that do not hold."""
        return {check for check, _ in self.named}


def outsider(*words: object) -> subprocess.CompletedProcess[str]:
    """verify.py run by a Python without site packages, environment or the current folder."""
    command = [sys.executable, "-I", "-S", str(FILE), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr
    return done


def outsider_says(*words: object) -> Said:
    """What it says with --json."""
    done = outsider(*words, "--json")
    return Said(done.returncode, json.loads(done.stdout))


def says(folder: Path, **given_: Any) -> Said:
    """The same without a process of its own."""
    report = V.verify_export(folder, V.Given(**given_))
    told = json.loads(json.dumps(report.as_json()))
    return Said(0 if told["verdict"] in ("intact", "intact-local") else 3, told)


def package_says(folder: Path, *words: str) -> Said:
    """What `allocator verify` says."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run(["--json", "verify", str(folder), *words])
    return Said(code, json.loads(out.getvalue()))


def agreed(folder: Path) -> Said:
    """What both say: verdict, counts, head, root and the findings' checks and records are the same."""
    ours, theirs = says(folder), package_says(folder)
    assert ours.named == theirs.named
    for name in ("verdict", "records", "followed", "head", "root"):
        assert ours.told[name] == theirs.told[name], name
    assert ours.code == theirs.code
    return ours


# ---- exports ---------------------------------------------------------------------------------------------------------


def export(home: Path, folder: Path, trial: Trial, scope: str = "evidence") -> Path:
    """An export of a copy of the trial's home, as the program makes it."""
    service = open_service(home, trial.clock)
    export_study(service, trial.actor("AU"), folder, scope)
    service.close_files()
    return folder


def write_export(
    home: Path,
    folder: Path,
    actors: Mapping[str, Actor],
    rows: Iterable[Stored] | None = None,
    *,
    scope: str = "evidence",
) -> Path:
    """An export of these records, made anew from a home by somebody with every key: only the records may be wrong."""
    rows = list(dump(home) if rows is None else rows)
    rows.append(_exported(rows, actors["AU"], scope))
    folder.mkdir()
    at = place(home)
    for source in (at.study_file, at.registry_file, at.sealed_file, at.schedules / "seed.json"):
        if source.exists():
            shutil.copy(source, folder / source.name)
    plain = read_study("study.toml", at.study_file.read_bytes()).plain()
    (folder / "study.json").write_bytes(canonical_bytes(plain))
    lines = [canonical_bytes({"body": row.body.decode(), "prev": row.prev.hex()}) for row in rows]
    (folder / "records.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    if scope == "inspection":
        (folder / "details.jsonl").write_bytes(b"".join(_details(rows)))
    (folder / "head").write_text(f"{len(rows) - 1:>10} {rows[-1].hash.hex()}  \n", encoding="ascii")
    (folder / "checkpoint.txt").write_text(_checkpoint(home, plain["id"], rows), encoding="utf-8")
    certify(folder, actors["AU"], rows, scope)
    return folder


def _exported(rows: list[Stored], actor: Actor, scope: str) -> Stored:
    fields = {name: rows[0].fields[name] for name in ("format", "mode", "program")}
    fields |= {"kind": "exported", "seq": len(rows), "scope": scope, "person": "AU", "role": "auditor"}
    fields |= {"time": rows[-1].fields["time"], "meaning": "I made an export of this study to be read elsewhere."}
    fields["signature"] = sign(actor.keys.signing, rows[-1].hash, canonical_bytes(fields))
    return Stored(prev=rows[-1].hash, body=canonical_bytes(fields), columns=())


def _details(rows: list[Stored]) -> Iterator[bytes]:
    for seq, row in enumerate(rows):
        for name, (salt, value) in sorted(row.details.items()):
            yield canonical_bytes({"field": name, "salt": salt.hex(), "seq": seq, "value": value}) + b"\n"


def _checkpoint(home: Path, study_id: str, rows: list[Stored]) -> str:
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex((place(home).keys / "log.key").read_text()))
    origin = f"allocator/{study_id}/{rows[0].hash.hex()[:16]}"
    note = f"{origin}\n{len(rows)}\n{b64encode(merkle.root([row.hash for row in rows])).decode()}\n"
    key_id = hashlib.sha256(origin.encode() + b"\n\1" + key.public_key().public_bytes_raw()).digest()[:4]
    return f"{note}\n— {origin} {b64encode(key_id + key.sign(note.encode())).decode()}\n"


def certify(folder: Path, actor: Actor, rows: list[Stored], scope: str) -> None:
    """Manifest, certificate and SHA256SUMS of the files as they are now."""
    three = ("manifest.json", "certificate.json", "SHA256SUMS")
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name not in three}
    time, study_id = rows[-1].fields["time"], rows[0].fields["study"]
    manifest = {
        "format": "allocator-export/1",
        "study": study_id,
        "scope": scope,
        "time": time,
        "program": "allocator 0.1.0",
        "records": len(rows),
        "head": rows[-1].hash.hex(),
        "tree": merkle.root([row.hash for row in rows]).hex(),
        "files": [
            {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        ],
    }
    files["manifest.json"] = canonical_bytes(manifest)
    certificate = {
        "format": "allocator-certificate/1",
        "study": study_id,
        "manifest": hashlib.sha256(files["manifest.json"]).hexdigest(),
        "person": "AU",
        "role": "auditor",
        "time": time,
        "meaning": V.MEANING,
    }
    signature = actor.keys.signing.sign(tag("certificate") + canonical_bytes(certificate))
    files["certificate.json"] = canonical_bytes({**certificate, "signature": signature.hex()})
    sums = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)]
    files["SHA256SUMS"] = "".join(sums).encode()
    for name in three:
        (folder / name).write_bytes(files[name])


LAST = 31  # the last record of the story, before its export


@pytest.fixture(scope="module")
def story(_templates: tuple[Path, dict[Any, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """The story of `tell_story`; nobody writes to its home."""
    factory = TrialFactory(_templates[0], tmp_path_factory.mktemp("story"), _templates[1])
    trial = factory("active", enrollment=4, length=6)
    tell_story(trial)
    assert trial.last.seq == LAST
    trial.service.close_files()
    yield trial
    factory.close()


@pytest.fixture(scope="module")
def inspection(story: Trial, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the story as the program makes it, in scope inspection; nobody changes it."""
    folder = tmp_path_factory.mktemp("inspection")
    home = Path(shutil.copytree(story.home, folder / "home"))
    return export(home, folder / "export", story, "inspection")


@pytest.fixture
def folder(inspection: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(inspection, tmp_path / "export"))


@pytest.fixture
def forger(trials: TrialFactory) -> Iterator[Forger]:
    """People of an active study who write past the service: 3 are approved, 4 entries are sealed."""
    forger = Forger(trials("active", enrollment=3, length=4, block_sizes=(2, 4)))
    yield forger
    forger.close()


# ---- good exports ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_story(_templates: tuple[Path, dict[Any, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """A study in which nearly every kind of record stands, in two strata, closed and opened; nobody writes to it."""
    folder = tmp_path_factory.mktemp("long")
    factory = TrialFactory(_templates[0], folder, _templates[1])
    trial = factory("active", stratified=True, enrollment=12, length=8, findings=[finding(), finding("K07", "info")])
    _on_paper_and_under_a_wrong_id(trial)
    _sealed_again(trial)
    _lost_and_recovered(trial, folder / "backup.tar")
    _stopped_and_opened(trial)
    yield trial
    factory.close()


def _allocate(trial: Trial, participant: str, site: str) -> Allocation:
    trial.confirm(participant, stratum={"site": site})
    return trial.reveal(participant)


def _on_paper_and_under_a_wrong_id(trial: Trial) -> None:
    service, actor = trial.service, trial.actor
    _allocate(trial, "P-001", "A")
    _allocate(trial, "P-002", "B")
    trial.confirm("P-003", ineligible_form(trial.clock.now), stratum={"site": "A"})
    event = trial.clock.now
    trial.clock.advance(hours=2)
    trial.confirm("P-004", stratum={"site": "A"})
    service.late(actor("PH"), "P-004", event + timedelta(hours=1), "power cut")
    service.reassign(actor("IN"), "P-004", "P-005", "typed wrong")
    trial.confirm("P-005", stratum={"site": "B"})
    service.reassign(actor("PH"), "P-004", "P-005", "typed wrong")
    _allocate(trial, "P-004", "B")


def _sealed_again(trial: Trial) -> None:
    service, actor = trial.service, trial.actor
    trial.confirm("P-006", stratum={"site": "A"})
    papers = [service.copy_share(actor(person))[1] for person in ("CU", "ST")]
    service.reseal(actor("ST"), papers, "keys lost")
    for person in ("PH", "IN"):
        service.grant(actor("ST"), person)
    _allocate(trial, "P-006", "A")
    service.copy_receipt(actor("PH"), "P-001")
    service.unblind(actor("IN"), "P-002", "rash")
    service.correct(actor("PH"), "P-002", "in-error", "wrong participant", "misread")


def _lost_and_recovered(trial: Trial, backup: Path) -> None:
    trial.confirm("P-007", stratum={"site": "A"})
    trial.service.backup(trial.actor("SP"), backup)
    lost = [trial.reveal("P-007"), _allocate(trial, "P-008", "B")]
    trial.place.log_file.unlink()
    put_back(trial, backup)
    recover(trial, receipts=[receipt_of(lost[0])])
    trial.reveal("P-007")
    _allocate(trial, "P-009", "B")


def _stopped_and_opened(trial: Trial) -> None:
    service, actor = trial.service, trial.actor
    service.review(actor("AU"), START, trial.clock.now, "nothing out of order")
    service.change_state(actor("IN"), "paused", "pharmacy closed")
    service.change_state(actor("SP"), "resumed", "pharmacy open")
    trial.clock.advance(hours=-1)
    with contextlib.suppress(AllocatorError):
        trial.confirm("P-010", stratum={"site": "A"})
    service.set_clock(actor("SP"), "checked")
    _allocate(trial, "P-010", "A")
    service.change_state(actor("SP"), "closed", "all are in")
    service.open_list(actor("ST"))
    service.open_list(actor("CU"))


@pytest.fixture
def home(story: Trial, tmp_path: Path) -> Path:
    """A copy of the story's home."""
    return Path(shutil.copytree(story.home, tmp_path / "home"))


@pytest.mark.requirement("R01")
@pytest.mark.parametrize("scope", ["evidence", "inspection"])
def test_an_untouched_export_is_intact(story: Trial, home: Path, tmp_path: Path, scope: str) -> None:
    folder = export(home, tmp_path / "export", story, scope)
    said = outsider_says(folder)
    assert (said.code, said.told["verdict"], said.told["findings"]) == (0, "intact-local", [])
    assert said.told == {name: package_says(folder).told[name] for name in said.told}
    assert (said.told["records"], said.told["followed"]) == (LAST + 2, LAST + 2)


@pytest.mark.requirement("R01")
@pytest.mark.parametrize("scope", ["evidence", "inspection"])
def test_a_study_with_nearly_every_kind_of_record_is_intact(long_story: Trial, tmp_path: Path, scope: str) -> None:
    never = {"person-deactivated", "passphrase-changed", "log-read", "looked-up", "confirmation-withdrawn", "backed-up"}
    never |= {"moved", "arrived"}
    never |= {"imported", "list-checked", "list-read"}  # those stand in the studies of every method, below
    assert set(V.KINDS) - set(long_story.kinds) - {"refused", "attempt-failed", "exported"} == never
    folder = tmp_path / "export"
    export_study(long_story.service, long_story.actor("AU"), folder, scope)
    said = agreed(folder)
    assert (said.told["verdict"], said.told["records"]) == ("intact-local", len(long_story.kinds))
    lines = outsider(folder).stdout.splitlines()
    assert lines[0].startswith("INTACT") and any("drawn again from the seed" in line for line in lines)


@pytest.mark.requirement("L03")
def test_what_was_kept_elsewhere_anchors_it_and_names_a_log_that_lacks_it(story: Trial, tmp_path: Path) -> None:
    """A head, a checkpoint and a receipt of today; an export of today, and one of yesterday."""
    home = Path(shutil.copytree(story.home, tmp_path / "home"))
    today = export(home, tmp_path / "today", story)
    head, receipt = (
        json.loads((today / "manifest.json").read_bytes())["head"],
        today / "receipt-000003-P-004.tlog-proof",
    )
    given_ = (("--head", head), ("--checkpoint", today / "checkpoint.txt"), ("--receipt", receipt))
    for words in (*given_, ("--receipt", today)):
        said = outsider_says(today, *words)
        assert (said.code, said.told["verdict"]) == (0, "intact")
    yesterday = write_export(story.home, tmp_path / "yesterday", story.actors, dump(story.home)[:25])
    assert outsider_says(yesterday).told["verdict"] == "intact-local"
    expected = [("22", None), ("23", None), ("24", 30)]
    for words, name in zip(given_, expected, strict=True):
        said = outsider_says(yesterday, *words)
        assert (said.code, said.named) == (3, {name})


@pytest.mark.requirement("C06")
def test_the_root_that_was_deposited_is_held_to_the_list_and_anchors_no_log(inspection: Path) -> None:
    root = says(inspection).told["root"]
    assert outsider_says(inspection, "--root", root.upper()).told["verdict"] == "intact-local"
    said = outsider_says(inspection, "--root", "00" * 32)
    assert (said.code, said.named) == (3, {("22", None)})


@pytest.mark.requirement("L03")
def test_without_any_head_it_is_not_anchored(story: Trial, tmp_path: Path) -> None:
    folder = write_export(story.home, tmp_path / "export", story.actors)
    rows = [*dump(story.home), _exported(dump(story.home), story.actors["AU"], "evidence")]
    (folder / "head").unlink()
    certify(folder, story.actors["AU"], rows, "evidence")
    said = outsider_says(folder)
    assert (said.code, said.told["verdict"], said.told["findings"]) == (3, "intact-unanchored", [])


@pytest.mark.requirement("A09")
def test_a_receipt_by_itself_says_what_it_shows_and_what_not(inspection: Path) -> None:
    receipt = inspection / "receipt-000003-P-004.tlog-proof"
    said = outsider_says(receipt)
    assert (said.code, said.told["verdict"], said.told["findings"]) == (3, "intact-unanchored", [])
    told = said.told["receipt"]
    assert (told["participant"], told["number"], told["time"]) == ("P-004", 3, "2026-11-20T06:00:00.000Z")
    assert told["schedule_root"] == says(inspection).told["root"]
    text = outsider(receipt).stdout
    assert text.startswith("OF ONE PIECE") and "What it does not show" in text and told["arm"]["label"] in text
    assert all(value in text for value in ("P-004", told["first"], told["schedule_root"], told["time"]))
    assert outsider_says(receipt, "--head", told["hash"]).told["verdict"] == "intact"
    for words in (("--head", told["first"]), ("--root", told["schedule_root"])):  # stated, not proved
        assert outsider_says(receipt, *words).told["verdict"] == "intact-unanchored"
    for option in ("--head", "--root"):
        assert outsider_says(receipt, option, "00" * 32).named == {("24", 30)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "not there"),
        ([".", "--head", "zz"], "64 hexadecimal digits"),
        ([".", "--receipt", "nowhere"], "not there"),
        ([".", "--checkpoint", "nowhere"], "not there"),
        ([str(FILE), "--receipt", str(FILE)], "is no folder"),
        ([], "PATH"),
    ],
)
def test_a_wrong_call_is_said(words: list[str], said: str) -> None:
    done = outsider(*words)
    assert (done.returncode, done.stdout) == (2, "") and said in done.stderr


def test_it_uses_nothing_but_the_standard_library() -> None:
    tree = ast.parse(FILE.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert names and {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


# ---- changed exports -------------------------------------------------------------------------------------------------

FILES_OF_AN_EXPORT = (
    "README.txt", "SHA256SUMS", "certificate.json", "checkpoint.txt", "details.jsonl", "head", "log.csv", "log.json",
    "log.sqlite3", "manifest.json", "receipt-000001-P-001.tlog-proof", "records.jsonl", "registry.json", "sealed.json",
    "spec.md", "study.json", "study.toml",
)  # fmt: skip
SOAK = int(os.environ.get("ALLOCATOR_SOAK", "1"))


@pytest.mark.requirement("L02")
@settings(max_examples=40 * SOAK)
@given(
    name=st.sampled_from(FILES_OF_AN_EXPORT),
    where=st.floats(0, 1, exclude_max=True),
    turned=st.integers(1, 255),
)
def test_any_byte_changed_in_any_file_turns_the_verdict(
    inspection: Path, tmp_path_factory: pytest.TempPathFactory, name: str, where: float, turned: int
) -> None:
    folder = Path(shutil.copytree(inspection, tmp_path_factory.mktemp("byte") / "export"))
    data = bytearray((folder / name).read_bytes())
    data[int(where * len(data))] ^= turned
    (folder / name).write_bytes(bytes(data))
    said = says(folder)
    shutil.rmtree(folder)
    assert (said.code, said.told["verdict"]) == (3, "broken") and ("26", None) in said.named


def _edit(seq: int, old: str, new: str) -> Callable[[list[Stored]], list[Stored]]:
    def edited(rows: list[Stored]) -> list[Stored]:
        assert old in rows[seq].body.decode()
        row = replace(rows[seq], body=rows[seq].body.decode().replace(old, new).encode())
        return [*rows[:seq], row, *rows[seq + 1 :]]

    return edited


def _detail(seq: int, name: str, value: str | None) -> Callable[[list[Stored]], list[Stored]]:
    def edited(rows: list[Stored]) -> list[Stored]:
        details = {**rows[seq].details, name: (rows[seq].details[name][0], value)}
        kept = {key: pair for key, pair in details.items() if pair[1] is not None}
        return [*rows[:seq], replace(rows[seq], details=kept), *rows[seq + 1 :]]  # type: ignore[arg-type]

    return edited


CHANGED: dict[str, tuple[Callable[[list[Stored]], list[Stored]], set[tuple[str, int | None]]]] = {
    "a record is deleted": (lambda rows: rows[:19] + rows[20:], {("11", 19)}),
    "a record is written twice": (lambda rows: [*rows[:20], rows[19], *rows[20:]], {("11", 20)}),
    "two records change places": (lambda rows: [*rows[:20], rows[21], rows[20], *rows[22:]], {("11", 20)}),
    "a participant is another": (_edit(16, "P-001", "P-007"), {("16", 16), ("19", 16), ("12", 17)}),
    "a time is another": (_edit(19, "T04:", "T03:"), {("14", 19), ("16", 19), ("12", 20)}),
    "a space is put in": (_edit(16, '"kind"', ' "kind"'), {("06", 16)}),
    "the arm is turned": (_edit(16, '"arm":', '"arm":1'), {("16", 16), ("19", 16), ("12", 17)}),
    "a reason is reworded": (_detail(27, "reason", "itch"), {("17", 27)}),
    "a reason is taken out": (_detail(27, "reason", None), {("17", 27)}),
    "answers are taken out": (_detail(15, "answers", None), {("17", 15), ("19", 15)}),
    "answers are emptied": (_detail(15, "answers", "{}"), {("17", 15), ("19", 15)}),
}


@pytest.mark.requirement("L02")
@pytest.mark.parametrize(("change", "expected"), CHANGED.values(), ids=CHANGED.keys())
def test_a_changed_log_is_named_at_its_record(
    story: Trial, tmp_path: Path, change: Callable[[list[Stored]], list[Stored]], expected: set[tuple[str, int | None]]
) -> None:
    """Whoever changes it also makes manifest, certificate and checkpoint anew: only the records give it away."""
    folder = write_export(story.home, tmp_path / "export", story.actors, change(dump(story.home)), scope="inspection")
    said = agreed(folder)
    assert said.named - {("26", None)} == expected


@pytest.mark.requirement("L02")
@pytest.mark.requirement("L03")
def test_a_log_cut_off_and_certified_anew_is_named_by_what_was_kept(story: Trial, tmp_path: Path) -> None:
    rows = dump(story.home)
    folder = write_export(story.home, tmp_path / "export", story.actors, rows[:28])
    assert agreed(folder).told["verdict"] == "intact-local"
    assert says(folder, heads=[rows[27].hash]).told["verdict"] == "intact"
    assert says(folder, heads=[rows[31].hash]).named == {("22", None)}


@pytest.mark.requirement("L02")
@pytest.mark.requirement("S02")
def test_fresh_hashes_do_not_mend_the_signatures(story: Trial, tmp_path: Path) -> None:
    rows = dump(story.home)
    rows[27] = rows[27].with_fields(participant="P-002", allocation=18)
    only_au = {"AU": story.actors["AU"]}
    said = agreed(write_export(story.home, tmp_path / "export", story.actors, rechained(rows, only_au)))
    assert said.named == {("16", seq) for seq in range(27, LAST + 1)}


@pytest.mark.requirement("L02")
@pytest.mark.requirement("A01")
@pytest.mark.requirement("E01")
@pytest.mark.parametrize(("forge", "scope"), [
    pytest.param(forge, scope, id=f"{name}, {scope}")
    for (name, (forge, _)), scope in itertools.product(COLLUSIONS.items(), ("evidence", "inspection"))
    if scope == "inspection" or name.startswith("a false")
])  # fmt: skip
def test_what_colluding_people_fabricate_is_named_as_by_the_program(
    forger: Forger, tmp_path: Path, forge: Callable[[Forger], int], scope: str
) -> None:
    """Answers are judged again where they are in the export; without them nobody can."""
    seq = forge(forger)
    said = agreed(write_export(forger.home, tmp_path / "export", forger.actors, scope=scope))
    false_answers = scope == "evidence"
    assert (("19", seq) in said.named) is not false_answers and said.checks <= {"19"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


# how a record of these kinds, or a wrong `number`, counts for later records is not settled by §10
LEFT_OPEN = {"person-added", "person-enrolled", "person-deactivated", "reassignment-proposed", "reassigned"}


@pytest.mark.requirement("L02")
@settings(max_examples=15 * SOAK)
@given(data=st.data(), scope=st.sampled_from(["evidence", "inspection"]))
def test_any_field_changed_by_all_together_is_judged_as_by_the_program(
    long_story: Trial, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, scope: str
) -> None:
    """Everybody's keys together, and a value of any form in any field: the same findings, or the same silence."""
    rows = dump(long_story.home)
    row = data.draw(st.sampled_from([row for row, kind in enumerate(long_story.kinds) if kind not in LEFT_OPEN]))
    name = data.draw(st.sampled_from(sorted(rows[row].fields.keys() - {"number"})))
    others = sorted({json.dumps(other.fields[name]) for other in rows if name in other.fields})
    value = data.draw(st.one_of(JSON, st.sampled_from(others).map(json.loads)))
    rows[row] = replace(rows[row], body=canonical_bytes({**rows[row].fields, name: value}))
    folder = tmp_path_factory.mktemp("field") / "export"
    agreed(
        write_export(long_story.home, folder, long_story.actors, _chained_as_is(rows, long_story.actors), scope=scope)
    )
    shutil.rmtree(folder)


@pytest.mark.requirement("C06")
@pytest.mark.parametrize(("kept", "expected"), [(None, {("19", 22)}), (31, {("09", 11), ("19", 22)})])
def test_a_record_under_an_earlier_sealing_is_held_to_the_list_of_the_same_root(
    long_story: Trial, tmp_path: Path, kept: int | None, expected: set[tuple[str, int | None]]
) -> None:
    """Record 22 opens another salt; the list is sealed again at 31. Cut before that, its file is not the one logged."""
    rows = dump(long_story.home)[:kept]
    rows[22] = rows[22].with_fields(salt="98" * 32)
    rows = _chained_as_is(rows, long_story.actors)
    assert agreed(write_export(long_story.home, tmp_path / "export", long_story.actors, rows)).named == expected


def test_findings_beyond_a_thousand_are_counted() -> None:
    report = V.Report()
    for seq in range(1500):
        report.add(16, seq, V.Fault("the signature does not hold", None, "x" * 5000))
    report.add(22, None, V.Fault("no record of this log has the hash given"))
    told = report.as_json()
    assert (len(told["findings"]), told["left_out"], told["findings"][-1]["check"]) == (1001, 500, "22 given head")
    assert len(told["findings"][0]["found"]) < 1100
    assert list(V.finding_lines(told))[-1].endswith("1301 more")


def _json(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        plain = json.loads((folder / name).read_bytes())
        change(plain)
        (folder / name).write_bytes(canonical_bytes(plain))

    return attack


def _swap_entries(plain: dict[str, Any]) -> None:
    entries = plain["strata"][0]["entries"]
    entries[4], entries[5] = entries[5], entries[4]


RECEIPTS_OF = (17, 19, 22, 27, 35, 41, 45, 52)  # the allocations of the long story
NO_LIST = {("09", 31), ("25", None)}  # 31: the newest sealing; without its list the seed is held to nothing
FILES_CHANGED: dict[str, tuple[Callable[[Path], None], set[tuple[str, int | None]]]] = {
    "two entries change places": (_json("sealed.json", _swap_entries), NO_LIST),
    "an entry is left out": (_json("sealed.json", lambda plain: plain["strata"][0]["entries"].pop()), NO_LIST),
    "strata change places": (_json("sealed.json", lambda plain: plain["strata"].reverse()), NO_LIST),
    "no list": (lambda folder: (folder / "sealed.json").unlink(), NO_LIST),
    "another registry record": (lambda folder: (folder / "registry.json").write_bytes(b"{}"), {("10", 0)}),
    "no registry record": (lambda folder: (folder / "registry.json").unlink(), {("10", 0)}),
    "another enrolment": (
        _json("study.json", lambda plain: plain.update(enrollment=13)),
        {("13", 0), ("25", None)},
    ),
    "the arms change places": (
        _json("study.json", lambda plain: plain["arms"].reverse()),
        {("13", 0), ("25", None), *(("24", seq) for seq in RECEIPTS_OF)},
    ),
    "no study": (_json("study.json", lambda plain: plain.update(masking="double")), {("08", None)}),
    "another share of the seed": (
        _json("seed.json", lambda plain: plain["shares"].reverse()),
        {("25", None)},
    ),
    "no seed": (lambda folder: (folder / "seed.json").unlink(), {("25", None)}),
    "an older head": (lambda folder: (folder / "head").write_text(f"3 {'00' * 32}"), {("21", 3)}),
    "a head beyond": (lambda folder: (folder / "head").write_text(f"99 {'00' * 32}"), {("21", 99)}),
    "no head at all": (lambda folder: (folder / "head").write_text("none"), {("21", None)}),
    "another checkpoint": (
        lambda folder: (folder / "checkpoint.txt").write_text((folder / "checkpoint.txt").read_text() + "more\n"),
        {("23", None)},
    ),
    "a detail is left out": (lambda folder: _without_line(folder / "details.jsonl", 3), {("17", 5)}),
    "a detail of no record": (
        lambda folder: (folder / "details.jsonl").write_bytes(
            (folder / "details.jsonl").read_bytes()
            + canonical_bytes({"field": "name", "salt": "00" * 32, "seq": 99, "value": ""})
            + b"\n"
        ),
        {("20", 99)},
    ),
}


def _without_line(file: Path, number: int) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:number] + lines[number + 1 :]))


@pytest.fixture(scope="module")
def long_export(long_story: Trial, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the long story in scope inspection; nobody changes it."""
    folder = tmp_path_factory.mktemp("long-export") / "export"
    export_study(long_story.service, long_story.actor("AU"), folder, "inspection")
    return folder


@pytest.mark.requirement("L02")
@pytest.mark.requirement("C06")
@pytest.mark.parametrize(("attack", "expected"), FILES_CHANGED.values(), ids=FILES_CHANGED.keys())
def test_another_file_is_named_by_its_check(
    long_export: Path, tmp_path: Path, attack: Callable[[Path], None], expected: set[tuple[str, int | None]]
) -> None:
    folder = Path(shutil.copytree(long_export, tmp_path / "export"))
    attack(folder)
    assert agreed(folder).named == expected | {("26", None)}


# ---- hostile exports -------------------------------------------------------------------------------------------------


def _write(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data) and None


def _folder_instead(name: str) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return attack


def _link_instead(name: str) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        (folder / name).rename(folder.parent / "elsewhere")
        (folder / name).symlink_to(folder.parent / "elsewhere")

    return attack


def _pipe_instead(name: str) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return attack


def _sparse(name: str) -> Callable[[Path], None]:
    """A file of 8 GiB that takes no room: whoever reads it whole runs out of memory, or of time."""
    return lambda folder: os.truncate(folder / name, 2**33)


CHECK_OF = {
    "manifest.json": "26",
    "study.json": "08",
    "records.jsonl": "05",
    "sealed.json": "09",
    "registry.json": "10",
    "details.jsonl": "20",
    "head": "21",
    "checkpoint.txt": "23",
    "receipt-000001-P-001.tlog-proof": "24",
    "certificate.json": "26",
    "SHA256SUMS": "26",
}
NO_CONTENT = {
    "nothing": b"",
    "not UTF-8": b"\xff\xfe\x00",
    "nested too deeply": b"[" * 200_000,
    "objects nested too deeply": b'{"a":' * 200_000,
    "a huge number": b'{"a":' + b"9" * 1_000_000 + b"}",
    "a number with an exponent": b'{"a":1e400}',
    "a float": b'{"a":1.5}',
    "no number": b'{"a":NaN}',
    "a key twice": b'{"a":1,"a":1}',
    "half a character": b'{"a":"\\ud800"}',
    "a byte order mark": b'\xef\xbb\xbf{"a":1}',
    "an array": b"[]",
    "an empty object": b"{}",
    "zeros": bytes(100_000),
    "newlines": b"\n" * 1000,
}


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("name", CHECK_OF)
def test_whatever_a_file_holds_there_is_a_verdict(folder: Path, name: str) -> None:
    for other in ("log.sqlite3", "log.csv", "log.json", "spec.md"):
        (folder / other).write_bytes(b"")  # they are only read for their digests
    for why, data in NO_CONTENT.items():
        (folder / name).write_bytes(data)
        said = says(folder)
        assert said.told["verdict"] == "broken", why
        # of no details at all each record lacks its own, and that is what is said
        assert CHECK_OF[name] in said.checks or (name, why) == ("details.jsonl", "nothing"), why


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("instead", [_folder_instead, _link_instead, _pipe_instead])
@pytest.mark.parametrize("name", [*CHECK_OF, "README.txt", "study.toml", "log.csv"])
def test_what_is_no_file_is_named_and_never_waited_for(
    folder: Path, name: str, instead: Callable[[str], Callable[[Path], None]]
) -> None:
    instead(name)(folder)
    said = says(folder)
    assert said.told["verdict"] == "broken" and ("26", None) in said.named
    essential = name in ("manifest.json", "study.json", "records.jsonl")
    assert (("01", None) in said.named) == (essential or instead is _link_instead)


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("name", ["records.jsonl", "details.jsonl", "sealed.json", "head", "checkpoint.txt"])
def test_a_line_without_end_does_not_fill_the_memory(folder: Path, name: str) -> None:
    """The address space of the process is held to 1 GiB."""
    (folder / name).write_bytes(b"x" * (40 * 2**20))
    command = f"ulimit -v {2**20} && exec {sys.executable} -I -S {FILE} {folder} --json"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3 and json.loads(done.stdout)["verdict"] == "broken" and not done.stderr


@pytest.mark.requirement("L02")
def test_a_folder_inside_and_a_file_too_many_are_named(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "\x1b[2J\u202e").write_bytes(b"")
    said = says(folder)
    assert said.named == {("26", None)} and len(said.told["findings"]) >= 3
    assert not _obeyed(outsider(folder).stdout)


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("name", ["manifest.json", "study.json", "records.jsonl"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert ("01", None) in agreed(folder).named


@pytest.mark.requirement("L07")
@pytest.mark.parametrize("field", ["kind", "format", "participant", "person", "role", "cause", "time", HOSTILE])
def test_no_text_of_an_export_moves_the_terminal_or_paints_it_green(story: Trial, tmp_path: Path, field: str) -> None:
    rows = dump(story.home)
    refused = {**rows[19].fields, field: HOSTILE + "\nINTACT: every check holds"}
    rows[19] = replace(rows[19], body=canonical_bytes(refused))
    text = outsider(write_export(story.home, tmp_path / "export", story.actors, rows)).stdout
    assert text.startswith("BROKEN") and not _obeyed(text)
    assert [line for line in text.splitlines() if line.startswith("INTACT")] == []


@pytest.mark.requirement("L02")
@settings(max_examples=100 * SOAK)
@given(data=st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_readers_meet_any_bytes(data: bytes) -> None:
    for read in (V.parse, V.parse_canonical, V.Study, V.Manifest, V.Checkpoint, V.Receipt, V.read_form, V.read_head):
        with contextlib.suppress(V.Fault):
            read(data)
    for line in (V.whole_line, V._detail):
        with contextlib.suppress(V.Fault):
            line(data + b"\n")


# ---- vectors ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("G02")
def test_canonical_json() -> None:
    given_ = vectors("canonical")
    for case in given_["encoded"]:
        data = bytes.fromhex(case["bytes"])
        assert V.parse_canonical(data) == case["value"] and V.canon(case["value"]) == data
    for case in given_["refused"]:
        with pytest.raises(V.Fault):
            V.parse_canonical(bytes.fromhex(case["bytes"]))


@pytest.mark.requirement("G02")
def test_study_fingerprint_and_labels() -> None:
    given_ = vectors("study")
    parsed = V.Study(given_["canonical"].encode())
    assert parsed.fingerprint.hex() == given_["fingerprint"]
    assert [V.label_of(case["stratum"]) for case in given_["labels"]] == [case["label"] for case in given_["labels"]]
    factors = [{"name": "site", "levels": ["A", "B"]}, {"name": "sex", "levels": ["F", "M"]}]
    labels = [json.loads(label) for label in V._labels(factors)]
    assert labels == [{"site": site, "sex": sex} for site in "AB" for sex in "FM"] and V._labels([]) == ["{}"]


@pytest.mark.requirement("G02")
def test_design_commitments() -> None:
    for case in vectors("design")["cases"]:
        assert V.canon(case["design"]).decode() == case["canonical"]
        committed = V.hmac_sha256(bytes.fromhex(case["salt"]), V.tag("design") + V.canon(case["design"]))
        assert committed.hex() == case["commitment"]


@pytest.mark.requirement("G02")
def test_streams_and_integers_below() -> None:
    given_ = vectors("keystream")
    for case in given_["prk"]:
        shares = [bytes.fromhex(share) for share in case["shares"]]
        known = bytes.fromhex(case["fingerprint"]), bytes.fromhex(case["design_commitment"])
        assert V.pseudorandom_key(*known, shares, bytes.fromhex(case["beacon"])).hex() == case["prk"]
    for case in given_["streams"]:
        drawn = V.stream(bytes.fromhex(case["prk"]), case["purpose"], case["label"]).take(4102)
        assert (drawn[:48].hex(), drawn[4090:].hex()) == (case["bytes_0_to_47"], case["bytes_4090_to_4101"])
        words = [int.from_bytes(drawn[4 * i : 4 * i + 4], "big") for i in range(len(case["words"]))]
        assert words == case["words"]
    for case in (*given_["below"], *({**one, "drawn": [one["drawn"]]} for one in vectors("methods")["integers"])):
        words = V.Stream(bytes(32))
        words._rest = b"".join(word.to_bytes(4, "big") for word in case["words"])
        assert [words.below(case["n"]) for _ in case["drawn"]] == case["drawn"]


@pytest.mark.requirement("G02")
def test_blocks_shuffles_and_sequences() -> None:
    given_ = vectors("permuted-block")
    for case in given_["blocks"]:
        assert V.block_of(case["shares"], case["size"]) == case["block"]
    for case in given_["shuffles"]:
        words = V.Stream(bytes(32))
        words._rest = b"".join(word.to_bytes(4, "big") for word in case["words"])
        assert V.shuffle(case["block"], words.below) == case["shuffled"]
    for case in given_["sequences"]:
        drawn = V.sequence(
            bytes.fromhex(case["prk"]), case["label"], case["shares"], case["block_sizes"], case["length"]
        )
        assert hashlib.sha256(bytes(drawn)).hexdigest() == case["sha256"]


@dataclass(frozen=True)
class Strata:
    """As much of a study as a design is held to: arms and labels."""

    arms: list[dict[str, str]]
    labels: list[str]

    @classmethod
    def of(cls, design: Mapping[str, Any], count: int = 1) -> Strata:
        """A study with the arms of the design and so many strata."""
        return cls([{"code": item["arm"]} for item in design["ratio"]], [str(number) for number in range(count)])


@pytest.mark.requirement("G01")
@pytest.mark.requirement("G02")
def test_lists_of_every_method() -> None:
    cases = vectors("methods")["lists"]
    assert {case["design"]["method"] for case in cases} == V.METHODS.keys() - {"permuted-block"}
    for case in cases:
        design = V.Design(case["design"], Strata.of(case["design"], 2))
        drawn = V.arms_of(bytes.fromhex(case["prk"]), case["label"], design, case["stratum"])
        assert (design.algorithm, bytes(drawn).hex()) == (case["algorithm"], case["arms"])


@pytest.mark.requirement("G01")
@pytest.mark.requirement("C06")
def test_the_whole_list_commitments_and_root() -> None:
    given_, fingerprint = vectors("schedule"), bytes.fromhex(vectors("study")["fingerprint"])
    shares = [bytes.fromhex(share) for share in given_["shares"]]
    assert [V.seed_commitment(share).hex() for share in shares] == given_["seed_commitments"]
    committed = V.hmac_sha256(bytes.fromhex(given_["design_salt"]), V.tag("design") + V.canon(given_["design"]))
    prk = V.pseudorandom_key(fingerprint, committed, shares)
    design, tree = V.Design(given_["design"], V.Study(vectors("study")["canonical"].encode())), V.Tree()
    drawn = list(V.entries_of(prk, given_["label"], design, 0))
    assert bytes(arm for arm, _ in drawn).hex() == given_["arms"]
    for entry, (arm, salt) in zip(given_["entries"], drawn, strict=True):
        leaf_place = V.place_of(given_["label"], entry["position"])
        commitment = V.commitment_of(fingerprint, bytes.fromhex(given_["sealing"]), leaf_place, arm, salt)
        assert (salt.hex(), commitment.hex()) == (entry["salt"], entry["commitment"])
        tree.add(V.leaf_hash(leaf_place + commitment))
    assert tree.root().hex() == given_["root"]


@pytest.mark.requirement("S02")
def test_records_their_hashes_and_signatures() -> None:
    given_ = vectors("record")
    for case in given_["records"]:
        record = V.Record(bytes.fromhex(case["prev"]), case["body"].encode())
        assert record.hash.hex() == case["hash"] and record.signed_by(bytes.fromhex(given_["sign_key"]))
        assert not record.signed_by(bytes.fromhex(given_["sign_key"])[::-1])
    detail = given_["detail"]
    salt = bytes.fromhex(detail["salt"])
    assert V.detail_commitment(salt, detail["seq"], detail["field"], detail["value"]).hex() == detail["commitment"]


@pytest.mark.requirement("L03")
def test_trees_and_inclusion_proofs() -> None:
    trees = EVIDENCE["trees"]
    leaves, roots, tree = [bytes.fromhex(leaf) for leaf in trees["leaf_hashes"]], {}, V.Tree()
    assert tree.root() == hashlib.sha256(b"").digest()
    for leaf, case in zip(leaves, trees["roots"], strict=True):
        tree.add(leaf)
        roots[tree.size] = tree.root()
        assert (tree.size, tree.root().hex()) == (case["size"], case["root"])
    for case in trees["inclusion"]:
        proof = [bytes.fromhex(digest) for digest in case["proof"]]
        leaf = leaves[case["index"]]
        assert V.included_root(leaf, case["index"], case["size"], proof) == roots[case["size"]]
        for wrong in ([*proof, bytes(32)], *([proof[:-1]] if proof else [])):
            with pytest.raises(V.Fault, match="a hash too"):
                V.included_root(leaf, case["index"], case["size"], wrong)


@pytest.mark.requirement("L03")
@pytest.mark.requirement("A09")
def test_checkpoints_and_receipts() -> None:
    log_key = bytes.fromhex(EVIDENCE["log"]["log_key"])
    given = EVIDENCE["checkpoints"]
    for note in (given["older"]["note"], given["with_signatures_unknown_here"]):
        V.Checkpoint(note.encode()).signed_by(log_key)
    for name in ("first", "copy"):
        receipt = V.Receipt(EVIDENCE["receipts"][name].encode())
        receipt.hold()
        assert (receipt.copy is None) == (name == "first")


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("case", EVIDENCE["refused_checkpoints"], ids=lambda case: case["why"])
def test_checkpoints_that_every_reader_refuses(case: dict[str, str]) -> None:
    with pytest.raises(V.Fault):
        V.Checkpoint(case["note"].encode()).signed_by(bytes.fromhex(case["log_key"]))


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("case", EVIDENCE["refused_receipts"], ids=lambda case: case["why"])
def test_receipts_that_every_reader_refuses(case: dict[str, str]) -> None:
    with pytest.raises(V.Fault):
        V.Receipt(case["receipt"].encode()).hold()


# ---- primitives: vectors by others -----------------------------------------------------------------------------------

RFC_8032 = [  # §7.1: secret, public, message, signature of TEST 1, 2 and 3
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
        "655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aee"
        "b00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28d"
        "c027beceea1ec40a",
    ),
]


@pytest.mark.requirement("S02")
@pytest.mark.parametrize(("public", "message", "signature"), RFC_8032)
def test_signatures_of_rfc_8032(public: str, message: str, signature: str) -> None:
    key, text, signed = bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature)
    assert V.signature_holds(key, text, signed)
    assert not V.signature_holds(key, text + b"x", signed)
    for at in range(64):
        turned = bytes([*signed[:at], signed[at] ^ 1, *signed[at + 1 :]])
        assert not V.signature_holds(key, text, turned)
    beyond = int.from_bytes(signed[32:], "little") + V.L
    assert not V.signature_holds(key, text, signed[:32] + beyond.to_bytes(32, "little"))


@pytest.mark.requirement("S02")
def test_the_vectors_of_the_authors_of_ed25519() -> None:
    package = pytest.importorskip("cryptography_vectors", reason="cryptography-vectors is not installed")
    with package.open_vector_file("asymmetric/Ed25519/sign.input", "r") as lines:
        cases = [[bytes.fromhex(part) for part in line.split(":")[1:4]] for line in itertools.islice(lines, 128)]
    for public, message, signed in cases:
        assert V.signature_holds(public, message, signed[:64])
        assert not V.signature_holds(public, message + b"x", signed[:64])


NOT_CANONICAL = [(2**255 - 19 + y).to_bytes(32, "little") for y in range(19)]
NOT_CANONICAL += [bytes([*encoding[:31], encoding[31] | 0x80]) for encoding in NOT_CANONICAL]


@pytest.mark.requirement("S02")
@pytest.mark.parametrize("point", [*sorted(V.SMALL_ORDER), *NOT_CANONICAL], ids=lambda point: point.hex())
def test_points_on_which_libraries_disagree_are_refused(point: bytes) -> None:
    """As a key and as R: with S = 0, or S such that a lenient equation holds for every message that fits."""
    secret = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = secret.public_key().public_bytes_raw()
    for s in (0, 1, V.L - 1):
        scalar = s.to_bytes(32, "little")
        for n in range(8):  # k is a multiple of each order that divides 8 for one of them, most likely
            assert not V.signature_holds(point, bytes([n]), point + scalar)
            assert not V.signature_holds(point, bytes([n]), (1).to_bytes(32, "little") + scalar)
        assert not V.signature_holds(public, b"message", point + scalar)
    assert len(V.SMALL_ORDER) == 10


@pytest.mark.requirement("S02")
def test_a_signature_that_holds_only_times_the_cofactor_is_refused() -> None:
    secret, message = bytes(range(32)), b"message"
    public = Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    assert not V.signature_holds(public, message, MAKE.cofactored_only(secret, message))


@pytest.mark.requirement("S02")
@settings(max_examples=30 * SOAK)
@given(secret=st.binary(min_size=32, max_size=32), message=st.binary(max_size=200), at=st.integers(0, 63))
def test_signatures_of_any_key(secret: bytes, message: bytes, at: int) -> None:
    key = Ed25519PrivateKey.from_private_bytes(secret)
    public, signed = key.public_key().public_bytes_raw(), bytearray(key.sign(message))
    assert V.signature_holds(public, message, bytes(signed))
    signed[at] ^= 4
    assert not V.signature_holds(public, message, bytes(signed))


def _counter_mode(key: bytes, counter: int, count: int) -> bytes:
    keys, blocks = V.aes256_round_keys(key), range(counter, counter + count // 16 + 1)
    return V.aes256_encrypt(keys, b"".join(block.to_bytes(16, "big") for block in blocks))[:count]


@pytest.mark.requirement("G02")
def test_aes_of_fips_197_and_sp_800_38a() -> None:
    keys = V.aes256_round_keys(bytes(range(32)))  # FIPS 197 appendix C.3
    block = V.aes256_encrypt(keys, bytes.fromhex("00112233445566778899aabbccddeeff"))
    assert block.hex() == "8ea2b7ca516745bfeafc49904b496089"
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")  # SP 800-38A F.5.5
    plain = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    stream = _counter_mode(key, 0xF0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF, 64)
    assert bytes(a ^ b for a, b in zip(plain, stream, strict=True)).hex() == (
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
        "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    )


@pytest.mark.requirement("G02")
def test_aes_in_counter_mode_of_rfc_3686() -> None:
    cases = list(vectors_by_others("ciphers/AES/CTR/aes-256-ctr.txt"))
    assert len(cases) >= 3
    for case in cases:
        plain = bytes.fromhex(case["plaintext"])
        stream = _counter_mode(bytes.fromhex(case["key"]), int(case["iv"], 16), len(plain))
        assert bytes(a ^ b for a, b in zip(plain, stream, strict=True)).hex() == case["ciphertext"]


@pytest.mark.requirement("G02")
@settings(max_examples=10 * SOAK)
@given(key=st.binary(min_size=32, max_size=32), sizes=st.lists(st.integers(0, 9000), max_size=20))
@example(key=bytes(32), sizes=[4, 250, 1, 60_000, 32, 4, 70_000])
def test_a_stream_is_the_same_in_whatever_pieces_it_is_taken(key: bytes, sizes: list[int]) -> None:
    stream, expected = V.Stream(key), keystream_bytes(key, 0, sum(sizes))
    assert b"".join(stream.take(size) for size in sizes) == expected


@pytest.mark.requirement("G02")
def test_hkdf_of_rfc_5869() -> None:
    cases = list(vectors_by_others("KDF/rfc-5869-HKDF-SHA256.txt"))
    assert len(cases) == 3
    for case in cases:
        salt, material, info = (bytes.fromhex(case.get(name, "")) for name in ("salt", "ikm", "info"))
        prk = V.hkdf_extract(salt, material)
        assert (prk.hex(), V.hkdf_expand(prk, info, int(case["l"])).hex()) == (case["prk"], case["okm"])


# ---- eligibility and patterns: the two programs side by side ---------------------------------------------------------

IDS = [criterion.id for criterion in study().criteria]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.sampled_from(
    ["", " ", "N", "Y", "NA", "UNKNOWN", "F", "M", "POSITIVE", "II", "none", "45", "45.5", "1000", "1001", "-1", "0.5",
     "30", "30.1", "120", "121", "a", "U/L", "mg/kg/d", "mL/min", "{copies}/mL", "2026-11-19", "2026-11-06",
     "2026-11-05", "2026-11-21", "2026-02-30", "40", "0", "plasma", "\u202e"]
)  # fmt: skip
CHANGES = st.dictionaries(
    st.sampled_from(["value", "unit", "text", "specimen", "date", "uln"]), ANY_TEXT | VALUES, min_size=1, max_size=2
)
CONSENTS = st.sampled_from(
    ["2026-11-20T12:00:00+08:00", "2026-11-20T12:00:00.000001+08:00", "2026-11-20T04:00:00Z", "2026-11-20",
     "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-11-20T24:00:00Z", "2026-11-20T04:00:00+24:00", ""]
)  # fmt: skip


@pytest.mark.requirement("E01")
@pytest.mark.requirement("E04")
@settings(max_examples=150 * SOAK)
@given(
    criterion=st.sampled_from(IDS),
    changed=CHANGES,
    other=st.sampled_from(IDS),
    value=VALUES,
    consent=st.none() | CONSENTS,
)
def test_answers_are_judged_as_by_the_program(
    criterion: str, changed: dict[str, str], other: str, value: str, consent: str | None
) -> None:
    plain = json.loads(form_bytes(eligible_form("P-001", START)))
    plain["answers"][criterion] |= changed
    plain["answers"][other]["value"] = value if consent is None else plain["answers"][other]["value"]
    plain["consent"] = plain["consent"] if consent is None else consent
    data = canonical_bytes(plain)
    at = V.milliseconds(START.strftime("%Y-%m-%dT%H:%M:%S.000Z"))
    assert V.qualifies(_study(), V.read_form(data), at) == is_eligible(study(), parse_form(data), START)


def test_the_answers_of_every_example_are_judged_as_by_the_program() -> None:
    at = V.milliseconds(START.strftime("%Y-%m-%dT%H:%M:%S.000Z"))
    forms = {name: example_form(name, START) for name in ("P-001", "P-007", "P-011", "P-101", "P-102", "P-103")}
    judged = {name: V.qualifies(_study(), V.read_form(form_bytes(form)), at) for name, form in forms.items()}
    assert judged == {name: name < "P-100" for name in forms}


@cache
def _study() -> Any:
    return V.Study(canonical_bytes(study().plain()))


PARTS = st.sampled_from(["P", "-", "[0-9]", r"\d", "[^x]", "(A|B)", "(?:x|)", ".", r"\.", "[]-]"])
COUNTS = st.sampled_from(["", "", "?", "*", "+", "{2}", "{1,3}", "{,2}", "{2,}", "*?"])
PATTERNS = st.lists(st.tuples(PARTS, COUNTS), min_size=1, max_size=6).map(
    lambda parts: "".join(part + ("" if part.startswith("(") else count) for part, count in parts)
)


@pytest.mark.requirement("L09")
@settings(max_examples=150 * SOAK)
@given(pattern=PATTERNS, ids=st.lists(st.text("PAB-x0129.]", max_size=8), max_size=6))
def test_a_participant_pattern_means_what_it_means_to_re(pattern: str, ids: list[str]) -> None:
    compiled = re.compile(pattern, re.ASCII)
    if compiled.fullmatch(""):
        with pytest.raises(V.Fault):
            V.ParticipantPattern(pattern)
        return
    ours = V.ParticipantPattern(pattern)
    assert [ours.matches(text) for text in ids] == [bool(compiled.fullmatch(text)) for text in ids]


@pytest.mark.parametrize(
    "pattern", ["(ab)*c", "(a+)+b", "(?=a)a", r"(a)\1", "a++", "(?i)a", "[", "a)", "é", "", "a" * 101, "a\n", 5]
)
def test_a_pattern_that_is_none_or_is_not_read_is_refused(pattern: Any) -> None:
    with pytest.raises(V.Fault, match="pattern"):
        V.ParticipantPattern(pattern)


def test_braces_that_are_no_repeat_stand_for_themselves() -> None:
    for pattern in ("a{2", "a{}", "a{x}", "a}"):
        assert V.ParticipantPattern(pattern).matches(pattern)


@pytest.mark.requirement("L02")
def test_no_pattern_makes_it_hang() -> None:
    """With more of them, backtracking takes longer than a lifetime."""
    with pytest.raises(V.Fault, match="more than six repeats"):
        V.ParticipantPattern("a*" * 7 + "b")
    assert not V.ParticipantPattern("a*" * 6 + "b").matches("a" * 40)
    assert V.ParticipantPattern("a*" * 6 + "b").matches("a" * 39 + "b")
    assert not V.ParticipantPattern("a{1,99999999}" * 6).matches("a" * 5)
