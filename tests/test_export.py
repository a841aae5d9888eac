"""Exports: written, read again, attacked; and what is known from elsewhere held to a log or an export."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attacks
from allocator.canonical import CanonicalError, canonical_bytes, parse_canonical
from allocator.criterion import StudyError
from allocator.errors import AllocatorError, EvidenceError, InputError, Refused, StorageError
from allocator.evidence import read_evidence
from allocator.export import (
    MAX_LINE,
    File,
    Manifest,
    parse_detail_line,
    parse_record_line,
    sums,
)
from allocator.export_evidence import is_export, read_export
from allocator.exporting import export_study, verifier_files
from allocator.receipt import parse_receipt
from allocator.study import Study
from allocator.trail import csv_lines, json_lines, trail_row
from allocator.verdict import Given, Verdict
from allocator.verify import verify, verify_receipt
from support import Trial, TrialFactory, eligible_form, open_service, study

LAST = 31  # the story's last record before an export


@pytest.fixture(scope="module")
def told(_templates: tuple[Path, dict[Any, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """The story of `attacks.tell_story`, closed, opened by both holders, exported in both scopes beside its home."""
    factory = TrialFactory(_templates[0], tmp_path_factory.mktemp("told"), _templates[1])
    trial = factory("active", enrollment=4, length=6)
    attacks.tell_story(trial)
    for participant in ("P-001", "P-002", "P-004"):
        trial.service.keep_receipt(trial.service.history.allocation(participant))  # type: ignore[arg-type]
    export_study(trial.service, trial.actor("AU"), trial.home.parent / "evidence", "evidence")
    export_study(trial.service, trial.actor("AU"), trial.home.parent / "inspection", "inspection")
    trial.service.change_state(trial.actor("SP"), "closed", "all are allocated")
    trial.service.open_list(trial.actor("ST"))
    trial.service.open_list(trial.actor("CU"))
    export_study(trial.service, trial.actor("SP"), trial.home.parent / "opened", "inspection")
    yield trial
    factory.close()


@pytest.fixture
def copy_of(told: Trial, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of the exports, to be attacked."""
    return lambda name: Path(shutil.copytree(told.home.parent / name, tmp_path / name))


def judged(folder: Path, *heads: bytes, **given_files: tuple[Given, ...]) -> Verdict:
    with read_export(folder, heads, **given_files) as evidence:
        verdict = verify(evidence)
    json.dumps(verdict.as_json(), allow_nan=False)
    return verdict


def named(folder: Path) -> list[tuple[str, int | None]]:
    return [(finding.check[:2], finding.seq) for finding in judged(folder).findings]


# ---- good ones ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R01")
@pytest.mark.parametrize("name, records", [("evidence", LAST + 2), ("inspection", LAST + 3), ("opened", LAST + 7)])
def test_an_export_has_the_verdict_of_its_home(told: Trial, name: str, records: int) -> None:
    folder = told.home.parent / name
    verdict = judged(folder)
    assert (verdict.verdict, verdict.records, verdict.findings) == ("intact-local", records, ())
    assert verdict.head == told.records[records - 1].hash
    assert judged(folder, told.records[3].hash).verdict == "intact"


@pytest.mark.requirement("R01")
def test_other_peoples_tools_check_its_files(told: Trial) -> None:
    folder = told.home.parent / "inspection"
    done = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    names = {line.split(b":")[0].decode() for line in done.stdout.splitlines()}
    assert names == {path.name for path in folder.iterdir()} - {"SHA256SUMS"}
    assert set(verifier_files()) <= names


@pytest.mark.requirement("L09", "C01")
def test_the_evidence_holds_no_private_detail_and_no_arm_to_come(told: Trial) -> None:
    folder = told.home.parent / "evidence"
    whole = b"".join(path.read_bytes() for path in folder.iterdir())
    for record in told.records[: LAST + 1]:
        for value in told.service.private_details(record.seq).values():
            if len(value) > 10:  # a short word stands in other texts, too
                assert value.encode() not in whole and json.dumps(value).encode() not in whole
    assert not (folder / "details.jsonl").exists() and not (folder / "log.sqlite3").exists()
    assert not (folder / "seed.json").exists()
    allocated = sum(record.kind == "allocated" for record in told.records)
    assert (folder / "records.jsonl").read_bytes().count(b'\\"arm\\":') == allocated == 3


@pytest.mark.requirement("L06")
def test_that_it_was_made_is_its_own_last_record(told: Trial) -> None:
    lines = (told.home.parent / "inspection" / "records.jsonl").read_bytes().splitlines(keepends=True)
    body = json.loads(parse_record_line(lines[-1])[1])
    assert (body["kind"], body["scope"], body["person"]) == ("exported", "inspection", "AU")


def test_receipts_in_it_are_made_from_the_log(told: Trial) -> None:
    names = {path.name for path in (told.home.parent / "opened").glob("receipt-*")}
    assert names == {f"receipt-00000{n}-P-00{p}.tlog-proof" for n, p in ((1, 1), (2, 2), (3, 4))}


@pytest.mark.requirement("L09")
def test_nothing_of_the_receipts_folder_is_taken(trial: Trial, tmp_path: Path) -> None:
    trial.allocate("P-001")
    true = trial.service.keep_receipt(trial.last).read_bytes()
    (trial.place.receipts / "names.tlog-proof").write_text("Jun Chen")
    (trial.place.receipts / "link.tlog-proof").symlink_to("/etc/hostname")
    trial.place.receipts.joinpath("000001-P-001.tlog-proof").write_bytes(b"false")
    export_study(trial.service, trial.actor("AU"), tmp_path / "export", "evidence")
    receipts = sorted(path.name for path in (tmp_path / "export").glob("receipt-*"))
    assert receipts == ["receipt-000001-P-001.tlog-proof"]
    assert (tmp_path / "export" / receipts[0]).read_bytes() == true
    assert judged(tmp_path / "export").verdict == "intact-local"


@pytest.mark.requirement("A04")
def test_a_pipe_in_place_of_a_receipt_keeps_no_reveal_waiting(trial: Trial) -> None:
    trial.confirm("P-001")
    trial.place.receipts.mkdir(exist_ok=True)
    os.mkfifo(trial.place.receipts / "000001-P-001.tlog-proof")
    made = trial.reveal("P-001")
    assert trial.service.keep_receipt(made.record).read_bytes().startswith(b"c2sp.org/tlog-proof")


def test_a_home_put_into_an_export_does_not_stand_in_for_it(told: Trial, copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("evidence")
    shutil.copytree(told.home / "schedules", folder / "schedules")
    shutil.copytree(told.home / "keys", folder / "keys")
    assert is_export(folder)
    assert ("26", None) in named(folder)


# ---- refused, or failed ----------------------------------------------------------------------------------------------


def test_a_folder_that_is_there_is_not_written_into(trial: Trial, tmp_path: Path) -> None:
    before = trial.last
    for target in (tmp_path, trial.place.schedules / "x", tmp_path / "no" / "folder"):
        with pytest.raises(InputError):
            export_study(trial.service, trial.actor("AU"), target, "evidence")
    assert trial.last == before


@pytest.mark.requirement("A06")
def test_only_an_auditor_or_a_sponsor_exports(trial: Trial, tmp_path: Path) -> None:
    for person in ("PH", "IN", "ST", "CU"):
        with pytest.raises(Refused, match="may not do this"):
            export_study(trial.service, trial.actor(person), tmp_path / person, "inspection")
        assert trial.last.fields["action"] == "exported" and not (tmp_path / person).exists()


def test_a_disk_that_fails_leaves_no_folder(trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("allocator.exporting.shutil.copyfile", full)
    with pytest.raises(StorageError, match="No space left") as caught:
        export_study(trial.service, trial.actor("AU"), tmp_path / "export", "evidence")
    assert "no export" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir() if "export" in path.name] == []
    assert trial.last.kind == "exported"  # that it was tried is recorded


def test_nobody_writes_while_its_files_are_copied(trial: Trial) -> None:
    other = trial.again()
    with trial.service.exporting(trial.actor("AU"), "inspection") as record:
        assert other.history.store.last() == record
        with pytest.raises(StorageError):
            other._keys.lock(seconds=0.05).__enter__()


# ---- attacks --------------------------------------------------------------------------------------------------------


def rewrite(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    (folder / name).write_bytes(change((folder / name).read_bytes()))


def manifest_again(folder: Path) -> None:
    """Whoever changes a file makes manifest and sums anew; the certificate they cannot sign."""
    files = {
        path.name: File(size=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.iterdir()
    }
    plain = parse_canonical((folder / "manifest.json").read_bytes())
    named_files = {n: f for n, f in files.items() if n not in ("manifest.json", "certificate.json", "SHA256SUMS")}
    plain["files"] = [{"name": n, "bytes": f.size, "sha256": f.sha256} for n, f in sorted(named_files.items())]
    data = canonical_bytes(plain)
    (folder / "manifest.json").write_bytes(data)
    files["manifest.json"] = File(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    (folder / "SHA256SUMS").write_bytes(sums({n: f for n, f in files.items() if n != "SHA256SUMS"}))


def _drop_line(number: int) -> Callable[[bytes], bytes]:
    return lambda data: b"".join(line for n, line in enumerate(data.splitlines(keepends=True)) if n != number)


def _swap_lines(first: int, second: int) -> Callable[[bytes], bytes]:
    def swapped(data: bytes) -> bytes:
        lines = data.splitlines(keepends=True)
        lines[first], lines[second] = lines[second], lines[first]
        return b"".join(lines)

    return swapped


# file, what is done to it, the check and the record that must name it
CHANGES: list[tuple[str, Callable[[bytes], bytes], tuple[str, int | None]]] = [
    ("records.jsonl", _drop_line(5), ("11", 5)),
    ("records.jsonl", _drop_line(LAST + 2), ("21", LAST + 2)),
    ("records.jsonl", _swap_lines(16, 17), ("11", 16)),
    ("records.jsonl", lambda data: data[:-1], ("05", LAST + 2)),
    ("records.jsonl", lambda data: data.replace(b"{", b"{ ", 1), ("05", 0)),
    ("records.jsonl", lambda data: b"\xff" + data, ("05", 0)),
    ("records.jsonl", lambda _: b"", ("05", None)),
    ("records.jsonl", lambda data: data + b"x" * (MAX_LINE + 10), ("05", LAST + 3)),
    ("details.jsonl", _drop_line(0), ("17", 0)),
    ("details.jsonl", _swap_lines(0, 1), ("20", 0)),
    ("details.jsonl", lambda data: data + data.splitlines(keepends=True)[-1], ("20", LAST)),
    ("details.jsonl", lambda data: data.replace(b"Sponsor One", b"Sponsor Two"), ("17", 0)),
    ("details.jsonl", lambda data: data + b"[]\n", ("20", None)),
    ("study.json", lambda data: data.replace(b'"enrollment":4', b'"enrollment":5'), ("13", 0)),
    ("study.json", lambda data: data + b"\n", ("08", None)),
    ("study.json", lambda _: b"[" * 100_000, ("08", None)),
    ("registry.json", lambda data: data + b"\n", ("10", 0)),
    ("sealed.json", lambda data: data.replace(b'"root":"', b'"root":"0', 1), ("09", 11)),
    ("head", lambda data: data.replace(b"33", b"32"), ("21", 32)),
    ("head", lambda _: b"x", ("21", None)),
    ("checkpoint.txt", lambda data: data.replace(b"\n34\n", b"\n33\n"), ("23", None)),
    ("receipt-000001-P-001.tlog-proof", lambda data: data.replace(b"index 16", b"index 17"), ("24", None)),
]


@pytest.mark.requirement("L02", "L03")
@pytest.mark.parametrize("name, change, expected", CHANGES)
def test_a_change_is_named_even_with_a_manifest_made_anew(
    copy_of: Callable[[str], Path], name: str, change: Callable[[bytes], bytes], expected: tuple[str, int | None]
) -> None:
    folder = copy_of("inspection")
    rewrite(folder, name, change)
    assert ("26", None) in named(folder)  # as it lies there
    manifest_again(folder)
    found = named(folder)
    assert expected in found
    assert ("26", None) in found  # the certificate


@pytest.mark.requirement("R01")
@pytest.mark.parametrize("name", ["manifest.json", "certificate.json", "SHA256SUMS", "checkpoint.txt"])
def test_a_missing_file_is_named(copy_of: Callable[[str], Path], name: str) -> None:
    folder = copy_of("evidence")
    (folder / name).unlink()
    assert any(check in ("01", "26") for check, _ in named(folder))
    assert is_export(folder)


@pytest.mark.requirement("R01")
def test_what_the_manifest_does_not_name_is_named(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("evidence")
    (folder / "more.txt").write_text("more")
    finding = judged(folder).findings[0]
    assert (finding.check, finding.message) == ("26 export", "more.txt is not named in the manifest")
    (folder / "more.txt").unlink()
    for name in (b"\xff\xfe", "grün\u202e.txt".encode(), b"a\nb"):  # whatever a file system takes for a name
        odd = folder / os.fsdecode(name)
        odd.write_bytes(b"x")
        assert any("is not named in the manifest" in message for message in _messages(folder))
        odd.unlink()
    (folder / "more.txt").mkdir()
    assert ("26", None) in named(folder)
    (folder / "more.txt").rmdir()
    (folder / "more.txt").symlink_to("head")
    assert ("01", None) in named(folder)


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("name", ["head", "records.jsonl", "study.json", "sealed.json", "seed.json", "manifest.json"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(copy_of: Callable[[str], Path], name: str) -> None:
    folder = copy_of("opened")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert judged(folder).verdict == "broken"


@pytest.mark.requirement("L02")
def test_a_person_changed_into_nothing_known_still_ends_in_a_verdict(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("evidence")
    rewrite(folder, "records.jsonl", lambda data: data.replace(b'[\\"pharmacist\\"]', b'[\\"phamacist\\"]'))
    verdict = judged(folder)
    assert verdict.verdict == "broken" and verdict.findings


@pytest.mark.requirement("R01", "S02")
def test_a_certificate_of_another_person_or_export_does_not_hold(told: Trial, copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("evidence")
    plain = parse_canonical((folder / "certificate.json").read_bytes())
    other = (told.home.parent / "inspection" / "certificate.json").read_bytes()
    earlier = {**plain, "time": "2026-01-01T00:00:00.000Z"}
    for data in (other, canonical_bytes(earlier), canonical_bytes({**plain, "person": "SP"}), b"{}", b"", b"\xff"):
        (folder / "certificate.json").write_bytes(data)
        manifest_again(folder)
        assert [message for message in _messages(folder) if message.startswith("certificate.json does not hold")], data


def _messages(folder: Path) -> list[str]:
    return [finding.message for finding in judged(folder).findings]


@pytest.mark.requirement("R04")
def test_private_details_added_to_evidence_are_named(copy_of: Callable[[str], Path], told: Trial) -> None:
    folder = copy_of("evidence")
    shutil.copyfile(told.home.parent / "inspection" / "details.jsonl", folder / "details.jsonl")
    manifest_again(folder)
    assert "details.jsonl is there, in an export of scope evidence" in _messages(folder)


@pytest.mark.requirement("C06", "U05")
def test_after_the_opening_the_seed_must_be_there_and_be_the_one(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("opened")
    seed = (folder / "seed.json").read_bytes()
    (folder / "seed.json").unlink()
    assert ("25", None) in named(folder)
    (folder / "seed.json").write_bytes(seed.replace(b'"length":6', b'"length":7'))
    assert ("25", None) in named(folder)
    (folder / "seed.json").write_bytes(seed)
    assert named(folder) == []


@pytest.mark.requirement("L02")
@settings(max_examples=60)
@given(data=st.data())
def test_any_byte_of_any_file_turns_the_verdict(told: Trial, data: st.DataObject) -> None:
    folder = told.home.parent / "inspection"
    name = data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir())))
    original = (folder / name).read_bytes()
    at = data.draw(st.integers(0, len(original) - 1))
    bit = data.draw(st.integers(0, 7))
    try:
        (folder / name).write_bytes(original[:at] + bytes([original[at] ^ (1 << bit)]) + original[at + 1 :])
        verdict = judged(folder)
    finally:
        (folder / name).write_bytes(original)
    assert verdict.verdict == "broken"
    words = (name, name.partition(".")[0])
    assert any(f.seq is not None or any(word in f.message for word in words) for f in verdict.findings)


# ---- parsers --------------------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_no_bytes_surprise_a_parser(data: bytes) -> None:
    for parse in (Manifest.from_bytes, parse_record_line, parse_detail_line):
        with pytest.raises((EvidenceError, CanonicalError)):
            parse(data)


@settings(max_examples=200)
@given(data=st.data())
def test_no_bent_manifest_surprises_its_parser(told: Trial, data: st.DataObject) -> None:
    plain = json.loads((told.home.parent / "evidence" / "manifest.json").read_bytes())
    name = data.draw(st.sampled_from(sorted(plain)))
    odd = st.none() | st.integers(-5, 2**53 - 1) | st.text(max_size=5) | st.lists(st.none() | st.just({}), max_size=2)
    plain[name] = data.draw(odd.filter(lambda value: value != plain[name]))
    try:
        Manifest.from_bytes(canonical_bytes(plain))
    except EvidenceError:
        return
    assert name in ("study", "records", "program", "files")  # which may have many values


@pytest.mark.requirement("G02")
def test_a_study_comes_back_from_its_canonical_object() -> None:
    whole = study(stratified=True)
    assert Study.from_plain(whole.plain()) == whole
    for name, value in (("enrollment", 11), ("factors", []), ("arms", None), ("criteria", {}), ("more", 1)):
        plain = {**whole.plain(), name: value}
        try:
            assert Study.from_plain(plain).fingerprint != whole.fingerprint
        except StudyError:
            continue


@pytest.mark.requirement("U05")
def test_a_seed_whose_record_failed_is_not_left_behind(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    trial.service.change_state(trial.actor("SP"), "closed", "done")
    trial.service.open_list(trial.actor("ST"))

    def full(*_: object) -> None:
        raise StorageError("disk-full", "the disk is full", "Nothing was written.")

    monkeypatch.setattr(trial.store, "append", full)
    with pytest.raises(StorageError):
        trial.service.open_list(trial.actor("CU"))
    assert not trial.place.seed_file.exists() and not trial.place.next_seed_file.exists()


@pytest.mark.requirement("U05")
def test_a_seed_that_waits_for_its_name_after_a_crash_is_found(trial: Trial) -> None:
    trial.service.change_state(trial.actor("SP"), "closed", "done")
    trial.service.open_list(trial.actor("ST"))
    trial.service.open_list(trial.actor("CU"))
    trial.place.seed_file.rename(trial.place.next_seed_file)
    assert of_home(trial).verdict == "intact-local"
    trial.service.finish_opening()
    assert trial.place.seed_file.is_file() and of_home(trial).verdict == "intact-local"


@pytest.mark.requirement("U05")
def test_a_list_that_was_disclosed_is_never_allocated_from_again(trial: Trial) -> None:
    trial.confirm("P-001")
    trial.allocate("P-002")
    before = attacks.copied(trial.home, "before")
    trial.service.change_state(trial.actor("SP"), "closed", "done")
    trial.service.open_list(trial.actor("ST"))
    share = trial.place.share_file("ST")
    shutil.copyfile(share, attacks.place(before).share_file("ST"))  # the log goes back, what was disclosed does not
    service = open_service(before, trial.clock)
    for act in (
        lambda: service.reveal(trial.actor("PH"), "P-001", "P-001"),
        lambda: service.confirm(trial.actor("IN"), "P-003", eligible_form("P-003", trial.clock.now), {}),
    ):
        with pytest.raises(Refused, match="nothing more is allocated from it"):
            act()
    assert service.reveal(trial.actor("PH"), "P-002", "P-002").repeated  # what was told may be told again
    attacks.place(before).share_file("ST").write_bytes(b"junk that keeps nobody out")
    assert service.reveal(trial.actor("PH"), "P-001", "P-001").number == 2
    service.close_files()


# ---- heads, checkpoints, receipts, trails from elsewhere -----------------------------------------------------------


def of_home(trial: Trial, *heads: bytes, **given_files: tuple[Given, ...]) -> Verdict:
    with read_evidence(trial.place, heads, **given_files) as evidence:
        return verify(evidence)


def receipts_of(trial: Trial) -> tuple[Given, ...]:
    return tuple(Given(path.name, path.read_bytes()) for path in sorted(trial.place.receipts.glob("*.tlog-proof")))


@pytest.mark.requirement("L03", "A09")
def test_receipts_and_checkpoints_from_elsewhere_anchor_a_log(told: Trial) -> None:
    note = Given("note", told.service.checkpoint().note.encode())
    assert of_home(told, given_checkpoints=(note,)).verdict == "intact"
    assert len(receipts_of(told)) == 3
    assert of_home(told, given_receipts=receipts_of(told)).verdict == "intact"
    assert judged(told.home.parent / "evidence", given_receipts=receipts_of(told)).verdict == "intact"


@pytest.mark.requirement("L03")
def test_a_log_that_lacks_a_receipts_record_is_broken(trial: Trial, tmp_path: Path) -> None:
    trial.allocate("P-001")
    older = Path(shutil.copytree(trial.home, tmp_path / "older"))
    trial.allocate("P-002")
    trial.service.keep_receipt(trial.last)
    note = Given("note", trial.service.checkpoint().note.encode())
    (receipt,) = receipts_of(trial)
    place = attacks.place(older)
    (place.keys / "head").unlink()  # whoever puts a log back takes its head along
    with read_evidence(place, given_receipts=(receipt,), given_checkpoints=(note,)) as evidence:
        findings = verify(evidence).findings
    assert [(f.check, f.seq) for f in findings] == [("23 checkpoint", None), ("24 receipt", trial.last.seq)]
    assert "the log lacks its record" in findings[1].message and "fewer records" in findings[0].message


@pytest.mark.requirement("A09")
def test_a_receipt_of_another_study_or_with_other_words_is_named(told: Trial, trials: TrialFactory) -> None:
    other = trials("active", enrollment=4, length=6)
    other.allocate("P-001")
    other.service.keep_receipt(other.last)
    (foreign,) = receipts_of(other)
    (finding,) = of_home(told, given_receipts=(foreign,)).findings
    assert (finding.check, finding.seq) == ("24 receipt", other.last.seq)
    receipt = parse_receipt(receipts_of(told)[0].data)
    words = {**receipt.arm, "label": "Another label"}
    from dataclasses import replace

    bent = Given("bent", replace(receipt, arm=words).to_bytes())
    (finding,) = of_home(told, given_receipts=(bent,)).findings
    assert "its arm is not that of the study" in finding.message
    copied = Given(
        "copy", replace(receipt, copy={"seq": 3, "time": receipt.record.fields["time"], "person": "PH"}).to_bytes()
    )
    (finding,) = of_home(told, given_receipts=(copied,)).findings
    assert "which the log does not say" in finding.message


@pytest.mark.requirement("A10")
def test_a_copy_is_recorded_and_holds(trial: Trial) -> None:
    trial.allocate("P-001")
    path = trial.service.keep_receipt(trial.last)
    copy = trial.service.copy_receipt(trial.actor("AU"), "P-001")
    assert trial.last.kind == "receipt-copied"
    assert copy.copy == {"seq": trial.last.seq, "time": trial.last.fields["time"], "person": "AU"}
    from dataclasses import replace

    assert replace(copy, copy=None).to_bytes() == path.read_bytes()
    assert of_home(trial, given_receipts=(Given("copy", copy.to_bytes()),)).verdict == "intact"
    path.write_bytes(path.read_bytes()[:100])  # a crash left half of it
    assert trial.service.keep_receipt(trial.records[copy.record.seq]) == path
    assert replace(copy, copy=None).to_bytes() == path.read_bytes()


def test_a_receipt_by_itself(told: Trial) -> None:
    given_receipt = receipts_of(told)[0]
    alone = verify_receipt(given_receipt)
    assert (alone.verdict, alone.facts["participant"]) == ("intact-unanchored", "P-001")
    record = parse_receipt(given_receipt.data).record
    assert verify_receipt(given_receipt, (record.hash,)).verdict == "intact"
    for digest in (told.records[0].hash, record.prev):  # stated by the receipt, not proved
        assert verify_receipt(given_receipt, (digest,)).verdict == "intact-unanchored"
    other = verify_receipt(given_receipt, (told.records[1].hash,))
    assert (other.verdict, other.findings[0].seq) == ("broken", record.seq)
    assert verify_receipt(Given("x", b"nothing")).verdict == "broken"


@pytest.mark.requirement("L07")
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_trail_comes_back_to_its_log(told: Trial, whole: bool, form: str) -> None:
    history = told.service.history
    rows = [trail_row(r, history.details(r) if whole else None) for r in told.records if r.kind != "refused"]
    lines = csv_lines(rows, whole=whole) if form == "csv" else json_lines(rows)
    data = "".join(lines).encode("utf-8")
    assert of_home(told, given_trails=(Given(form, data),)).verdict == "intact"
    bent = data.replace(b"paused", b"posed")
    findings = of_home(told, given_trails=(Given(form, bent),)).findings
    paused = [record.seq for record in told.records if record.kind == "paused"]
    assert [(f.check, f.seq) for f in findings] == [("27 trail", seq) for seq in paused]
    if form == "csv":
        findings = of_home(told, given_trails=(Given(form, data.replace(b",clock", b",clocks", 1)),)).findings
        assert "the columns of a trail" in findings[0].message
    for nonsense in (b"", b"[1]", b"a,b\n1,2\n", b"seq,kind\nx,y\n", b"seq\n1,2\n", b"\xff", b"[" * 10_000):
        assert of_home(told, given_trails=(Given("x", nonsense),)).findings[0].check == "27 trail", nonsense


@pytest.mark.requirement("L07")
def test_a_row_gives_its_hash_again_with_nothing_of_ours(told: Trial) -> None:
    for row in json.loads((told.home.parent / "inspection" / "log.json").read_bytes()):
        again = hashlib.sha256(b"\x00" + bytes.fromhex(row["prev"]) + row["body"].encode()).hexdigest()
        assert again == row["hash"]
    last = json.loads((told.home.parent / "inspection" / "log.json").read_bytes())[-1]
    assert last["kind"] == "exported"


# ---- who had which rights -------------------------------------------------------------------------------------------


@pytest.mark.requirement("S06")
def test_who_had_which_rights_at_a_time(trial: Trial) -> None:
    before = trial.clock.now
    trial.clock.advance(hours=1)
    trial.enrol("PH2", "pharmacist")
    trial.clock.advance(hours=1)
    between = trial.clock.now
    trial.clock.advance(hours=1)
    trial.service.deactivate_person(trial.actor("SP"), "PH2", "moved away")
    assert "PH2" not in trial.service.people_at(before)
    assert trial.service.people_at(between)["PH2"].active
    assert not trial.service.people_at(None)["PH2"].active


@pytest.mark.requirement("L08")
def test_a_review_is_signed_and_of_a_period_that_was(trial: Trial) -> None:
    now = trial.clock.now
    record = trial.service.review(trial.actor("AU"), now, now, "nothing out of order")
    assert (record.kind, trial.service.private_details(record.seq)) == (
        "reviewed",
        {"findings": "nothing out of order"},
    )
    trial.clock.advance(hours=1)
    later = trial.clock.now
    trial.clock.advance(hours=-1)
    with pytest.raises(AllocatorError):
        trial.service.review(trial.actor("AU"), now, later, "of what is to come")
    with pytest.raises(InputError):
        trial.service.review(trial.actor("AU"), later, now, "backwards")
    with pytest.raises(Refused):
        trial.service.review(trial.actor("PH"), now, now, "not mine to review")
