"""The way back: backups, restores, recoveries, late entries, moved ids, a list sealed again, a clock that jumped."""

from __future__ import annotations

import errno
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from allocator import restoring
from allocator.answers_form import form_bytes
from allocator.backup import read_backup
from allocator.cli import run
from allocator.errors import AllocatorError, EvidenceError, InputError, Refused, StorageError
from allocator.evidence import read_evidence
from allocator.keys import ONLY_FOR_TESTS
from allocator.receipt import parse_receipt
from allocator.restoring import read_digest
from allocator.service import Allocation
from allocator.session import system_clock
from allocator.verdict import Verdict
from allocator.verify import verify
from support import PASSPHRASE, Trial, TrialFactory, eligible_form


def judged(trial: Trial, *heads: bytes) -> Verdict:
    """The auditor's verdict on the trial's home."""
    with read_evidence(trial.place, heads) as evidence:
        return verify(evidence)


def assert_intact(trial: Trial, verdict: str = "intact-local") -> None:
    """Every check holds."""
    found = judged(trial)
    assert (found.verdict, found.findings) == (verdict, ())


def receipt_of(allocation: Allocation) -> dict[str, str]:
    """What a receipt holds of an allocation."""
    return {"prev": allocation.record.prev.hex(), "body": allocation.record.body.decode()}


def put_back(trial: Trial, file: Path, reason: str = "disk failed") -> restoring.Restored:
    """Restore as SP; the trial goes on with a new service."""
    trial.service.close_files()
    done = restoring.restore(
        trial.home,
        file,
        read_digest(file),
        lambda service: service.authenticate("SP", lambda: PASSPHRASE, "restored"),
        reason,
        clock=trial.clock,
        stretching=ONLY_FOR_TESTS,
    )
    trial.again()
    return done


def recover(trial: Trial, by: str = "ST", **given: object) -> list[dict[str, object]]:
    """One step of a recovery; what was reserved."""
    return trial.service.recover(trial.actor(by), "after the loss", **given)[1]  # type: ignore[arg-type]


@pytest.fixture
def lossy(trial: Trial, tmp_path: Path) -> tuple[Trial, Path, list[Allocation]]:
    """A backup after two allocations, then two more allocations that the backup lacks."""
    trial.allocate("P-001", "P-002")
    file = tmp_path / "backup.tar"
    trial.service.backup(trial.actor("SP"), file)
    return trial, file, trial.allocate("P-003", "P-004")


@pytest.mark.requirement("R03", "U05")
def test_a_backup_from_before_the_opening_does_not_undo_it(trial: Trial, tmp_path: Path) -> None:
    trial.allocate("P-001")
    file = tmp_path / "backup.tar"
    trial.service.backup(trial.actor("SP"), file)
    trial.service.change_state(trial.actor("SP"), "closed", "done")
    trial.service.open_list(trial.actor("ST"))
    trial.service.open_list(trial.actor("CU"))
    seed = trial.place.seed_file.read_bytes()
    trial.place.sealed_file.unlink()
    done = put_back(trial, file, "the list's file was lost")
    assert (done.kept_log, done.missing) == (True, "none")
    assert trial.service.history.state == "opened" and trial.place.seed_file.read_bytes() == seed
    assert_intact(trial)


# ---- backup and restore ---------------------------------------------------------------------------------------------


@pytest.mark.requirement("R03")
def test_a_backup_is_recorded_and_says_what_it_holds(trial: Trial, tmp_path: Path) -> None:
    trial.allocate("P-001")
    head, file = trial.last.hash, tmp_path / "backup.tar"
    manifest, record = trial.service.backup(trial.actor("SP"), file)
    assert (manifest.head, manifest.records) == (head, record.seq)
    assert read_backup(file) == manifest and file.stat().st_mode & 0o777 == 0o600
    assert (record.kind, record.fields["backup"]) == ("backed-up", read_digest(file))
    assert not [path for path, _, _ in manifest.files if path.endswith(("/head", "/lock"))]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert_intact(trial)


@pytest.mark.requirement("R03")
def test_only_the_sponsor_backs_up_and_never_over_a_file(trial: Trial, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="may not"):
        trial.service.backup(trial.actor("PH"), tmp_path / "b.tar")
    assert trial.last.fields["action"] == "backed-up" and not (tmp_path / "b.tar").exists()
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(InputError, match="there already"):
        trial.service.backup(trial.actor("SP"), tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "precious"
    for inside in (trial.place.schedules, trial.place.keys):
        with pytest.raises(InputError, match="lost with it"):
            trial.service.backup(trial.actor("SP"), inside / "b.tar")


@pytest.mark.requirement("L03")
@pytest.mark.requirement("R03")
def test_after_a_restore_of_an_older_log_nothing_is_allocated_until_it_is_recovered(
    lossy: tuple[Trial, Path, list[Allocation]],
) -> None:
    trial, file, (third, fourth) = lossy
    lost = trial.last
    trial.place.log_file.write_bytes(b"gone")
    done = put_back(trial, file)
    assert done.missing == "known" and done.record.fields["lost"] == {"seq": lost.seq, "hash": lost.hash.hex()}
    assert done.aside is not None and (done.aside / "log.sqlite3").read_bytes() == b"gone"
    for act in (lambda: trial.confirm("P-005"), lambda: trial.reveal("P-005")):
        with pytest.raises(Refused, match="put back in time"):
            act()
    assert trial.reveal("P-001").repeated  # what the log holds is shown all the same
    with pytest.raises(Refused, match="may not"):
        recover(trial, by="PH")
    reserved = recover(trial, receipts=[receipt_of(fourth), receipt_of(third)])
    assert reserved == [] and trial.service.history.state == "active"
    for told in (third, fourth):
        again = trial.reveal(told.participant)
        assert (again.arm, again.number, again.repeated) == (told.arm, told.number, True)
    trial.confirm("P-005")
    assert trial.reveal("P-005").number == 5
    assert trial.last.fields["position"] == 4
    assert_intact(trial)
    assert judged(trial, third.record.hash).verdict == "intact"  # a receipt's record is in the log
    assert judged(trial, lost.hash).verdict == "intact"


@pytest.mark.requirement("L03")
def test_what_was_lost_without_a_receipt_is_never_given_again(lossy: tuple[Trial, Path, list[Allocation]]) -> None:
    trial, file, told = lossy
    trial.place.log_file.unlink()
    put_back(trial, file)
    # backed-up, and two confirmations with their allocations: at most two entries
    assert [(item["position"], item["participant"]) for item in recover(trial)] == [(2, None), (3, None)]
    trial.confirm("P-005")
    fifth = trial.reveal("P-005")
    assert (fifth.number, fifth.record.fields["position"]) == (5, 4)
    assert fifth.number not in [a.number for a in told]
    assert trial.service.status()["allocated"] == 3
    assert_intact(trial)


def test_a_printed_screen_gives_its_participant_the_same_entry_again(
    lossy: tuple[Trial, Path, list[Allocation]],
) -> None:
    trial, file, (third, fourth) = lossy
    trial.place.log_file.unlink()
    put_back(trial, file)
    recover(trial, places={("{}", 2): "P-003", ("{}", 3): "P-004"})
    trial.confirm("P-009")
    assert trial.reveal("P-009").record.fields["position"] == 4
    for told in (fourth, third):
        trial.confirm(told.participant)
        late = trial.service.late(
            trial.actor("PH"), told.participant, trial.clock.now, "printed screen", told=told.arm.code
        )
        assert late.arm == told.arm and late.record.fields["told"] == late.record.fields["arm"]
    assert_intact(trial)


def test_who_was_confirmed_when_the_log_broke_off_keeps_the_bound_entry(trial: Trial, tmp_path: Path) -> None:
    """The reveal may be what was lost: the same entry is theirs, however late they come, and nobody else's."""
    trial.confirm("P-001")
    trial.service.backup(trial.actor("SP"), tmp_path / "b.tar")
    told = trial.reveal("P-001")
    trial.place.log_file.unlink()
    put_back(trial, tmp_path / "b.tar")
    # one more, for nobody: two records are missing, which could be another's confirmation and allocation
    assert [(item["position"], item["participant"]) for item in recover(trial)] == [(0, "P-001"), (1, None)]
    trial.clock.advance(hours=100)
    trial.confirm("P-002")
    assert trial.reveal("P-002").record.fields["position"] == 2
    trial.confirm("P-001")
    again = trial.reveal("P-001")
    assert (again.arm, again.record.fields["position"]) == (told.arm, 0)
    assert_intact(trial)


def test_without_a_head_what_may_have_been_used_must_be_stated(
    lossy: tuple[Trial, Path, list[Allocation]],
) -> None:
    trial, file, _ = lossy
    trial.service.close_files()
    shutil.rmtree(trial.home)
    assert put_back(trial, file).missing == "unknown"
    with pytest.raises(Refused, match="must be stated"):
        recover(trial)
    assert recover(trial, none_used=True) == []
    assert_intact(trial)


@pytest.mark.requirement("R03")
def test_a_restore_that_loses_nothing_goes_on_at_once(trial: Trial, tmp_path: Path) -> None:
    trial.allocate("P-001")
    file = tmp_path / "b.tar"
    from allocator.backup import write_backup

    write_backup(trial.place, file, trial.clock.now)
    trial.place.log_file.write_bytes(b"\0" * 4096)
    assert put_back(trial, file).missing == "none"
    trial.allocate("P-002")
    assert_intact(trial)


def test_the_newer_log_is_kept_where_only_another_file_was_lost(lossy: tuple[Trial, Path, list[Allocation]]) -> None:
    trial, file, told = lossy
    trial.place.sealed_file.unlink()
    done = put_back(trial, file)
    assert (done.kept_log, done.missing) == (True, "none")
    assert trial.reveal("P-004").number == told[1].number
    trial.allocate("P-005")
    assert_intact(trial)


def test_a_study_that_holds_is_not_put_back_by_mistake(lossy: tuple[Trial, Path, list[Allocation]]) -> None:
    trial, file, _ = lossy
    with pytest.raises(Refused, match="nothing is missing"):
        put_back(trial, file)
    trial.again()
    assert trial.reveal("P-004").repeated


def test_a_lost_key_file_comes_back_and_the_study_goes_on(lossy: tuple[Trial, Path, list[Allocation]]) -> None:
    trial, file, told = lossy
    kept = (trial.place.keys / "PH.json").read_bytes()
    (trial.place.keys / "PH.json").unlink()
    (trial.home / ".restore-killed").mkdir()
    done = put_back(trial, file)
    assert (done.kept_log, done.missing) == (True, "none")
    assert (trial.place.keys / "PH.json").read_bytes() == kept and not (trial.home / ".restore-killed").exists()
    assert trial.reveal("P-004").number == told[1].number
    assert_intact(trial)


def test_a_receipt_written_again_after_a_recovery_is_good_for_the_next_one(
    lossy: tuple[Trial, Path, list[Allocation]],
) -> None:
    trial, file, told = lossy
    receipts = [receipt_of(one) for one in told]
    for _ in range(2):
        trial.place.log_file.unlink()
        put_back(trial, file)
        recover(trial, receipts=receipts)
        again = [trial.reveal(one.participant) for one in told]
        assert [(a.arm, a.number, a.time) for a in again] == [(one.arm, one.number, one.time) for one in told]
        receipts = [{"prev": a.made.prev.hex(), "body": a.made.body.decode()} for a in again]
    assert_intact(trial)


@pytest.mark.requirement("L03")
def test_a_log_put_back_by_hand_is_stated_and_recovered(lossy: tuple[Trial, Path, list[Allocation]]) -> None:
    trial, _, _ = lossy
    trial.service.close_files()
    shutil.copyfile(trial.place.log_file, trial.home / "old")
    trial.again().close_files()
    trial.again()
    trial.allocate("P-005")
    trial.service.close_files()
    shutil.copyfile(trial.home / "old", trial.place.log_file)
    trial.again()
    with pytest.raises(EvidenceError, match="older than its head"):
        trial.confirm("P-006")
    with pytest.raises((Refused, EvidenceError)):
        recover(trial, by="ST")
    recover(trial, by="SP")
    assert [item["position"] for item in recover(trial)] == [4]
    trial.allocate("P-006")
    assert trial.last.fields["position"] == 5
    assert_intact(trial)


def test_a_receipt_that_was_changed_or_is_of_another_study_is_refused(
    lossy: tuple[Trial, Path, list[Allocation]], trials: TrialFactory
) -> None:
    trial, file, (third, _) = lossy
    trial.place.log_file.unlink()
    put_back(trial, file)
    other = trials(enrollment=9)
    foreign = other.allocate("P-001", "P-002", "P-003")[-1]
    good = receipt_of(third)
    swapped = json.loads(good["body"])
    swapped["arm"] = 1 - swapped["arm"]
    for receipt in (
        good | {"body": good["body"].replace("P-003", "P-007")},
        good | {"body": json.dumps(swapped, sort_keys=True, separators=(",", ":"))},
        good | {"prev": "00" * 32},
        receipt_of(foreign),
        good | {"body": "{}"},
        good | {"body": trial.last.body.decode()},
    ):
        with pytest.raises(AllocatorError):
            recover(trial, receipts=[receipt])
    assert "receipt-entered" not in trial.kinds
    recover(trial, receipts=[good, good])
    assert trial.kinds.count("receipt-entered") == 1
    assert_intact(trial)


@pytest.mark.requirement("L03")
def test_a_whole_machine_put_back_is_seen_only_from_elsewhere_and_recovered_from(trial: Trial, tmp_path: Path) -> None:
    trial.allocate("P-001")
    trial.service.close_files()
    shutil.copytree(trial.home, tmp_path / "snapshot")
    trial.again()
    noted = trial.allocate("P-002")[0].record.hash
    trial.service.close_files()
    shutil.rmtree(trial.home)
    shutil.copytree(tmp_path / "snapshot", trial.home)
    trial.again()
    assert judged(trial).verdict == "intact-local" and judged(trial, noted).verdict == "broken"
    recover(trial, by="SP")
    with pytest.raises(Refused, match="must be stated"):
        recover(trial)
    recover(trial, places={("{}", 1): None})
    assert trial.allocate("P-003")[0].record.fields["position"] == 2
    assert_intact(trial)


# ---- late, from paper -----------------------------------------------------------------------------------------------


@pytest.mark.requirement("A11")
@pytest.mark.requirement("U04")
def test_what_was_done_on_paper_is_entered_with_both_times(trial: Trial) -> None:
    event = trial.clock.now + timedelta(hours=1)
    trial.clock.advance(hours=5)
    trial.confirm("P-001")
    entered = trial.service.late(trial.actor("PH"), "P-001", event, "power cut")
    assert entered.record.fields["event_time"] == "2026-11-20T05:00:00.000Z"
    assert entered.time == "2026-11-20T09:00:00.000Z" and not entered.repeated
    assert trial.reveal("P-001").number == 1 and trial.kinds[-2:] == ["late", "shown-again"]
    with pytest.raises(Refused, match="already allocated"):
        trial.service.late(trial.actor("PH"), "P-001", event, "again")
    assert_intact(trial)


@pytest.mark.requirement("A11")
@pytest.mark.parametrize("delta", [{"minutes": 1}, {"days": -30}])
def test_a_time_on_paper_that_cannot_be_is_refused(trial: Trial, delta: dict[str, float]) -> None:
    trial.confirm("P-001")
    with pytest.raises(Refused, match="before the activation, or after now"):
        trial.service.late(trial.actor("PH"), "P-001", trial.clock.now + timedelta(**delta), "power cut")
    assert "late" not in trial.kinds


@pytest.mark.requirement("A11")
def test_paper_that_disagrees_or_is_out_of_order_is_told(trial: Trial) -> None:
    start = trial.clock.now
    trial.clock.advance(hours=5)
    trial.confirm("P-001")
    trial.confirm("P-002")
    first = trial.service.late(trial.actor("PH"), "P-001", start + timedelta(hours=3), "power cut")
    assert not trial.service.later_than_its_successor(first)
    other = next(arm.code for arm in trial.service.study.arms if arm != first.arm)
    second = trial.service.late(trial.actor("PH"), "P-002", start + timedelta(hours=2), "power cut", told=other)
    assert trial.service.later_than_its_successor(second)
    assert second.record.fields["told"] == [arm.code for arm in trial.service.study.arms].index(other)
    with pytest.raises(InputError, match="no arm of this study"):
        trial.service.late(trial.actor("PH"), "P-003", start, "power cut", told="PLACEBO")
    assert_intact(trial)


def test_without_a_confirmation_nothing_is_entered_late(trial: Trial) -> None:
    with pytest.raises(Refused, match="not confirmed"):
        trial.service.late(trial.actor("PH"), "P-001", trial.clock.now, "power cut")


# ---- a wrong participant id -----------------------------------------------------------------------------------------


@pytest.mark.requirement("X06")
def test_two_people_move_an_allocation_to_the_right_participant(trial: Trial) -> None:
    wrong = trial.allocate("P-010")[0]
    move = trial.service.reassign
    assert move(trial.actor("IN"), "P-010", "P-001", "typed wrong")[1] is False
    with pytest.raises(Refused, match="not confirmed"):
        move(trial.actor("PH"), "P-010", "P-001", "typed wrong")
    trial.confirm("P-001")
    assert trial.reveal("P-010").repeated  # one signature changes nothing
    with pytest.raises(Refused, match="same person"):
        move(trial.actor("IN"), "P-010", "P-001", "typed wrong")
    assert move(trial.actor("PH"), "P-010", "P-001", "typed wrong")[1] is True
    moved = trial.reveal("P-001")
    assert (moved.participant, moved.number, moved.arm, moved.repeated) == ("P-001", 1, wrong.arm, True)
    with pytest.raises(Refused, match="allocation that was moved"):
        trial.reveal("P-010")
    trial.confirm("P-010")
    own = trial.reveal("P-010")
    assert (own.number, own.record.fields["position"], own.repeated) == (2, 1, False)
    history = [record.kind for record in trial.service.participant_records("P-001")]
    assert "allocated" in history and "reassignment-proposed" in history
    assert_intact(trial)


@pytest.mark.requirement("X06")
def test_an_allocation_moves_on_and_back_and_nobody_gets_two(trial: Trial) -> None:
    first = trial.allocate("P-001")[0]
    trial.allocate("P-002")
    for source, target in (("P-001", "P-003"), ("P-003", "P-004"), ("P-004", "P-001")):
        trial.clock.advance(minutes=1)
        trial.confirm(target)
        for person in ("PH", "SP"):
            trial.service.reassign(trial.actor(person), source, target, "wrong again")
        assert trial.service.history.allocation(source) is None
        again = trial.reveal(target)
        assert (again.number, again.arm) == (first.number, first.arm)
    with pytest.raises(Refused, match="already allocated"):
        trial.service.reassign(trial.actor("PH"), "P-001", "P-002", "taken")
    assert_intact(trial)


# ---- a lost list, a lost key ----------------------------------------------------------------------------------------


def test_a_lost_list_is_sealed_again_to_the_same_root(trial: Trial) -> None:
    told = trial.allocate("P-001")[0]
    trial.confirm("P-002")
    root = trial.service.history.sealing.fields["root"]  # type: ignore[union-attr]
    papers = [trial.service.copy_share(trial.actor(person))[1] for person in ("CU", "ST")]
    trial.place.sealed_file.unlink()
    trial.again()
    with pytest.raises(InputError, match="shares"):
        trial.service.reseal(trial.actor("ST"), [papers[0], papers[0]], "disk lost")
    record = trial.service.reseal(trial.actor("ST"), papers, "disk lost")
    assert record.fields["root"] == root
    with pytest.raises(Refused, match="earlier sealing"):
        trial.reveal("P-002")
    with pytest.raises(Refused, match="not been granted"):
        trial.confirm("P-002")
    for person in ("PH", "IN"):
        trial.service.grant(trial.actor("ST"), person)
    trial.confirm("P-002")
    assert trial.reveal("P-002").record.fields["position"] == 1
    assert trial.reveal("P-001").arm == told.arm
    assert_intact(trial)


def test_a_copy_of_a_share_is_recorded_and_only_for_its_holder(trial: Trial) -> None:
    record, paper = trial.service.copy_share(trial.actor("CU"))
    assert record.kind == "share-copied" and trial.last.hash == record.hash
    assert type(paper).from_bytes(paper.to_bytes()) == paper
    with pytest.raises(Refused, match="may not"):
        trial.service.copy_share(trial.actor("PH"))


@pytest.mark.requirement("S06")
def test_a_lost_key_is_replaced_without_the_statistician(trial: Trial) -> None:
    """The statistician is gone, and PH forgot the passphrase: IN and another pharmacist carry on."""
    trial.enrol("PH-2", "pharmacist")
    trial.enrol("IN-2", "investigator")
    with pytest.raises(Refused, match="pass on their own half"):
        trial.service.grant(trial.actor("PH"), "IN-2")
    trial.service.grant(trial.actor("PH"), "PH-2")
    trial.service.grant(trial.actor("IN"), "IN-2")
    for person in ("ST", "PH", "IN"):
        trial.service.deactivate_person(trial.actor("SP"), person, "key lost")
    trial.confirm("P-001", by="IN-2")
    assert trial.reveal("P-001", by="PH-2").number == 1
    assert_intact(trial)


# ---- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("L05")
def test_a_clock_that_went_back_is_an_event_and_goes_on_only_by_signature(trial: Trial) -> None:
    trial.allocate("P-001")
    trial.clock.advance(hours=-1)
    for _ in range(2):
        with pytest.raises(StorageError, match="before the last record"):
            trial.confirm("P-002")
    assert trial.kinds.count("clock-jump") == 1 and trial.last.fields["clock"] == "2026-11-20T03:00:00.000Z"
    assert trial.service.status()["clock_behind"]
    with pytest.raises((Refused, StorageError)):
        trial.service.set_clock(trial.actor("PH"), "looks right")
    trial.service.set_clock(trial.actor("SP"), "checked by telephone")
    trial.allocate("P-002")
    with pytest.raises(Refused, match="not behind"):
        trial.service.set_clock(trial.actor("SP"), "again")
    assert_intact(trial)


@pytest.mark.requirement("L05")
def test_a_confirmation_of_a_clock_ahead_is_given_again(trial: Trial) -> None:
    trial.clock.advance(days=400)
    trial.confirm("P-001")
    trial.clock.advance(days=-400)
    trial.service.set_clock(trial.actor("SP"), "was a year ahead")
    with pytest.raises(Refused, match="a clock that was ahead"):
        trial.reveal("P-001")
    trial.confirm("P-001")
    assert trial.reveal("P-001").record.fields["position"] == 0
    assert_intact(trial)


@pytest.mark.requirement("L05")
def test_an_hour_that_comes_twice_is_two_hours_of_the_log(trial: Trial) -> None:
    """Daylight saving: wall clocks repeat an hour, records are in UTC, and both are shown."""
    from zoneinfo import ZoneInfo

    from allocator.cli.pharmacist import local_time

    trial.clock.now = datetime(2027, 10, 31, 0, 30, tzinfo=UTC)  # 02:30 in Berlin, for the first time
    trial.confirm("P-001")
    first = trial.last.time
    trial.clock.advance(hours=1)
    trial.reveal("P-001")
    shown = [local_time(moment, ZoneInfo("Europe/Berlin")) for moment in (first, trial.last.time)]
    assert shown == [
        "2027-10-31 02:30:00 Europe/Berlin (00:30:00 UTC)",
        "2027-10-31 02:30:00 Europe/Berlin (01:30:00 UTC)",
    ]
    assert_intact(trial)


@pytest.mark.requirement("L05")
def test_a_machine_that_slept_past_the_hours_of_a_confirmation_allocates_nothing(trial: Trial) -> None:
    trial.confirm("P-001")
    trial.clock.advance(days=30)
    with pytest.raises(Refused, match="older than 72 hours"):
        trial.reveal("P-001")
    assert_intact(trial)


@pytest.mark.requirement("L05")
def test_a_clock_that_was_never_set_writes_nothing(trial: Trial) -> None:
    before = trial.last
    trial.clock.now = trial.clock.now.replace(year=1970)
    with pytest.raises(StorageError, match="never set"):
        trial.confirm("P-001")
    with pytest.raises(StorageError, match="never set"):
        trial.service.set_clock(trial.actor("SP"), "it is 1970")
    assert trial.last == before


# ---- by the commands ------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(trial: Trial, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command line in the trial's home, on the system's clock; its exit code and what it printed."""
    monkeypatch.setenv("ALLOCATOR_HOME", str(trial.home))
    monkeypatch.setenv("ALLOCATOR_PASSPHRASE", PASSPHRASE)
    trial.clock.now = system_clock()
    trial.service.close_files()

    def run_line(*arguments: str) -> tuple[int, Any]:
        code = run(["--json", *arguments])
        return code, json.loads(capsys.readouterr().out)

    return run_line


@pytest.mark.requirement("A09")
@pytest.mark.requirement("L03")
@pytest.mark.requirement("R03")
@pytest.mark.parametrize("form", ["the receipt's file", "what reveal printed"])
def test_the_whole_way_back_by_its_commands(form: str, trial: Trial, shell: Callable[..., Any], tmp_path: Path) -> None:
    answers = tmp_path / "answers.json"
    answers.write_bytes(form_bytes(eligible_form("P-001", system_clock())))
    for who in ("P-001", "P-002"):
        assert shell("--as", "IN", "confirm", who, "--answers", str(answers))[0] == 0
    backup = str(tmp_path / "b.tar")
    assert shell("--as", "SP", "backup", backup)[1]["file"] == backup
    arms = {who: shell("--as", "PH", "reveal", who, "--retype", who)[1] for who in ("P-001", "P-002")}
    told, saved = arms["P-001"], tmp_path / "receipt"
    saved.write_bytes(Path(told["receipt"]).read_bytes())
    receipt = parse_receipt(saved.read_bytes())
    assert (receipt.record.hash.hex(), receipt.arm["code"]) == (told["record"]["hash"], told["arm"]["code"])
    if form == "what reveal printed":
        saved.write_text(json.dumps(told))
    trial.place.log_file.unlink()
    assert shell("status")[0] == 3
    code, done = shell("--as", "SP", "restore", backup, "--reason", "disk lost")
    assert (code, done["missing"], done["state"]) == (0, "known", "recovering")
    code, refused = shell("--as", "PH", "reveal", "P-002", "--retype", "P-002")
    assert (code, refused["error"]["code"]) == (1, "recovering")
    code, done = shell("--as", "ST", "recover", "--reason", "disk lost", "--receipt", str(saved), "--none-used")
    assert (code, done["state"]) == (0, "active")
    assert done["skipped"] == [{"stratum": {}, "position": 1, "participant": "P-002"}]
    for who, arm in arms.items():
        again = shell("--as", "PH", "reveal", who, "--retype", who)[1]
        assert again["arm"] == arm["arm"] and again["number"] >= arm["number"]
    assert shell("verify", "--head", arms["P-001"]["record"]["hash"])[1]["verdict"] == "intact"


def test_bad_input_of_the_way_back_is_said_and_loses_nothing(
    trial: Trial, shell: Callable[..., Any], tmp_path: Path
) -> None:
    before = trial.place.log_file.read_bytes()
    (tmp_path / "junk").write_text("{}")
    junk = str(tmp_path / "junk")
    for line, code in (
        (("--as", "SP", "restore", junk, "--reason", "x"), 3),
        (("--as", "SP", "restore", str(tmp_path / "no"), "--reason", "x"), 2),
        (("--as", "SP", "backup", junk), 2),
        (("--as", "SP", "backup", str(tmp_path / "no" / "b.tar")), 2),
        (("--as", "SP", "recover", "--reason", "x", "--receipt", junk), 2),
        (("--as", "ST", "recover", "--reason", "x", "--position", "6"), 2),
        (("--as", "ST", "recover", "--reason", "x", "--position", "{}=1@Zhang"), 2),
        (("--as", "PH", "late", "P-001", "--time", "yesterday", "--reason", "x"), 2),
        (("--as", "PH", "late", "P-001", "--time", "2026-11-20T04:00:00", "--reason", "x"), 2),
        (("--as", "ST", "reseal", junk, junk, "--reason", "x"), 2),
        (("--as", "CU", "share", "--to", junk), 2),
    ):
        found, said = shell(*line)
        assert (found, bool(said["error"]["hint"] or said["error"]["message"])) == (code, True), line
    assert trial.place.log_file.read_bytes() == before


@pytest.mark.parametrize("spoil", ["byte", "cut", "more", "order", "link", "outside", "twice"])
def test_a_backup_that_was_changed_is_refused(trial: Trial, tmp_path: Path, spoil: str) -> None:
    file = tmp_path / "b.tar"
    trial.service.backup(trial.actor("SP"), file)
    data = file.read_bytes()
    if spoil == "byte":
        at = data.index(b'"kind":"activated"')
        file.write_bytes(data[:at] + b"#" + data[at + 1 :])
    elif spoil == "cut":
        file.write_bytes(data[: len(data) // 2])
    else:
        _rewrite(file, spoil)
    with pytest.raises(EvidenceError, match="no whole backup"):
        read_backup(file)
    with pytest.raises(EvidenceError):
        put_back(trial, file)
    assert not [path for path in trial.home.iterdir() if path.name.startswith(".restore")]


def _rewrite(file: Path, spoil: str) -> None:
    """The same tar with one member wrong."""
    with tarfile.open(file) as tar:
        members = [(entry, tar.extractfile(entry).read()) for entry in tar.getmembers()]  # type: ignore[union-attr]
    if spoil == "order":
        members = [members[0], *members[:0:-1]]
    if spoil == "twice":
        members.append(members[1])
    if spoil == "more":
        members.append((tarfile.TarInfo("keys/head"), b""))
    if spoil == "outside":
        members[1][0].name = "../../outside"
    if spoil == "link":
        members[1][0].type, members[1][0].linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(file, "w") as tar:
        for entry, content in members:
            tar.addfile(entry, io.BytesIO(content))


@pytest.mark.requirement("R03")
def test_a_backup_on_a_full_disk_leaves_no_file(trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("allocator.backup._write_tar", full)
    with pytest.raises(StorageError, match="No space left"):
        trial.service.backup(trial.actor("SP"), tmp_path / "b.tar")
    assert list(tmp_path.glob("*b.tar*")) == [] and "backed-up" not in trial.kinds


def test_a_restore_that_was_killed_can_be_done_again(lossy: tuple[Trial, Path, list[Allocation]]) -> None:
    """Killed after the old log was moved aside: there is no log, and the same restore puts it back."""
    trial, file, told = lossy
    trial.place.log_file.write_bytes(b"gone")
    real = Path.rename

    def dies(self: Path, target: Path) -> Path:
        if ".restore-" in str(self) and target == trial.place.schedules:
            raise KeyboardInterrupt
        return real(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", dies)
        with pytest.raises(KeyboardInterrupt):
            put_back(trial, file)
    assert not trial.place.schedules.exists()
    assert put_back(trial, file).missing == "known"
    recover(trial, receipts=[receipt_of(one) for one in told])
    assert trial.reveal("P-004").number == told[1].number
    assert_intact(trial)
