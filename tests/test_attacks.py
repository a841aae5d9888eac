"""Attacks on a study's files and log: each is named by the check that must find it, at the record it was done to.

The story (`attacks.tell_story`) has 32 records; the numbers below are theirs.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attacks
from allocator.canonical import canonical_bytes
from allocator.cli.auditor import record_line, verdict_text
from allocator.errors import AllocatorError
from allocator.keys import PrivateKeys
from allocator.person import Role
from allocator.verify import Finding, Verdict
from allocator.writer import Actor
from attacks import (
    LATER,
    Forger,
    Stored,
    as_owner,
    copied,
    dump,
    edit,
    journal_that_restores,
    judged,
    log_of,
    named,
    place,
    rebuild,
    rechained,
    write_head,
)
from support import PASSPHRASE, STUDY_ID, Clock, Trial, TrialFactory, example_form, open_home, open_service

GENERATED, CONFIRMED, ALLOCATED, REFUSED, FAILED, SCREENED = 11, 15, 16, 19, 20, 21
WITHDRAWN, UNBLINDED, LAST = 23, 27, 31
KINDS_AT = {
    GENERATED: "generated",
    CONFIRMED: "confirmed",
    ALLOCATED: "allocated",
    REFUSED: "refused",
    FAILED: "attempt-failed",
    SCREENED: "screen-failed",
    WITHDRAWN: "confirmation-withdrawn",
    UNBLINDED: "unblinded",
    LAST: "confirmed",
}


@pytest.fixture(scope="module")
def story(_templates: tuple[Path, dict[Any, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """The story, told once; nobody writes to its home."""
    factory = TrialFactory(_templates[0], tmp_path_factory.mktemp("story"), _templates[1])
    trial = factory("active", enrollment=4, length=6)
    attacks.tell_story(trial)
    assert {seq: trial.kinds[seq] for seq in KINDS_AT} == KINDS_AT and trial.last.seq == LAST
    yield trial
    factory.close()


@pytest.fixture
def home(story: Trial, tmp_path: Path) -> Path:
    """A copy of the story's home, to be attacked."""
    return copied_to(story.home, tmp_path / "home")


@pytest.fixture
def forger(trials: TrialFactory) -> Iterator[Forger]:
    """People of an active study who write past the service: 3 are approved, 4 entries are sealed."""
    forger = Forger(trials("active", enrollment=3, length=4, block_sizes=(2, 4)))
    yield forger
    forger.close()


def copied_to(home: Path, target: Path) -> Path:
    return copied(home, "copy").rename(target)


def heads(home: Path) -> list[bytes]:
    """The hash of every record."""
    return [row.hash for row in dump(home)]


def only(home: Path, check: str, seq: int | None) -> Finding:
    """The only finding there is, by its check and record."""
    (finding,) = judged(home).findings
    assert (finding.check[:2], finding.seq) == (check, seq)
    return finding


def test_an_untouched_story_is_intact(story: Trial) -> None:
    verdict = judged(story.home)
    assert (verdict.verdict, verdict.records, verdict.findings) == ("intact-local", LAST + 1, ())
    assert judged(story.home, heads(story.home)[3]).verdict == "intact"


# ---- one record: a byte, a column, a detail ------------------------------------------------------------------------


@pytest.mark.requirement("L02")
@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("""UPDATE record SET body = replace(body, '"arm":', '"arm":1') WHERE seq = 16""", ["16 16", "19 16", "12 17"]),
        (
            "UPDATE record SET body = replace(body, 'P-001', 'P-007') WHERE seq = 16",
            ["07 16", "16 16", "19 16", "12 17"],
        ),
        ("""UPDATE record SET body = replace(body, 'T04:', 'T03:') WHERE seq = 19""", ["14 19", "16 19", "12 20"]),
        ("UPDATE record SET body = replace(body, '\"kind\"', ' \"kind\"') WHERE seq = 16", ["06 16"]),
        ("UPDATE record SET body = '' WHERE seq = 16", ["06 16"]),
        ("UPDATE record SET prev = zeroblob(32) WHERE seq = 20", ["12 20"]),
        ("UPDATE record SET kind = 'refused' WHERE seq = 15", ["07 15"]),
        ("UPDATE record SET participant = 'P-002' WHERE seq = 15", ["07 15"]),
        ("UPDATE record SET participant = NULL WHERE seq = 15", ["07 15"]),
        ('UPDATE record SET stratum = \'{"site":"A"}\' WHERE seq = 15', ["07 15"]),
        ("UPDATE record SET position = 5 WHERE seq = 15", ["07 15"]),
        ("UPDATE detail SET value = replace(value, 'rash', 'itch') WHERE seq = 27", ["17 27"]),
        ("UPDATE detail SET salt = zeroblob(32) WHERE seq = 27", ["17 27"]),
        ("UPDATE detail SET field = 'value' WHERE seq = 27", ["17 27"]),
        ("UPDATE detail SET seq = 26 WHERE seq = 27", ["17 26", "17 27"]),
        ("UPDATE detail SET seq = 99 WHERE seq = 27", ["20 99", "17 27"]),
        ("UPDATE detail SET value = '{}' WHERE seq = 15", ["17 15", "19 15"]),
        ("DELETE FROM detail WHERE seq = 15", ["17 15", "19 15"]),
        ("DELETE FROM detail WHERE seq = 27", ["17 27"]),
        ("INSERT INTO detail VALUES (26, 'reason', zeroblob(32), 'rash')", ["17 26"]),
        ("UPDATE detail SET value = CAST(x'ff' AS TEXT) WHERE seq = 27", ["17 27"]),
        ("UPDATE record SET participant = CAST(x'ff' AS TEXT) WHERE seq = 27", ["07 27"]),
        ("UPDATE record SET participant = participant || char(0) || 'x' WHERE seq = 27", ["07 27"]),
        ("UPDATE record SET body = CAST(x'7bff' AS TEXT) WHERE seq = 16", ["06 16"]),
        ("UPDATE record SET body = body || char(0) WHERE seq = 16", ["06 16"]),
    ],
)
def test_an_edited_row_is_named(home: Path, sql: str, expected: list[str]) -> None:
    edit(home, sql)
    assert [f"{check} {seq}" for check, seq in named(home)] == expected


@pytest.mark.requirement("L02")
def test_bytes_that_are_no_text_are_not_taken_for_the_text_that_looks_like_them(home: Path) -> None:
    rows = dump(home)
    rows[UNBLINDED] = replace(rows[UNBLINDED], details={"reason": (bytes(32), r"\xff")})
    rebuild(home, rechained(rows))
    before = named(home)
    edit(home, "UPDATE detail SET value = CAST(x'ff' AS TEXT) WHERE seq = 27")
    assert set(named(home)) - set(before) == {("17", UNBLINDED)}


# ---- the sequence: delete, insert, reorder, duplicate --------------------------------------------------------------


def _without(seq: int) -> Callable[[list[Stored]], list[Stored]]:
    return lambda rows: rows[:seq] + rows[seq + 1 :]


@pytest.mark.requirement("L02")
@pytest.mark.parametrize(
    ("change", "first", "rehashed"),
    [
        pytest.param(_without(REFUSED), ("11", 19), ("16", 20), id="a refusal is deleted"),
        pytest.param(_without(FAILED), ("11", 20), ("16", 20), id="a failed attempt, which nobody signed, is deleted"),
        pytest.param(
            lambda rows: [*rows[:20], rows[REFUSED], *rows[20:]], ("11", 20), ("16", 20), id="one is written twice"
        ),
        pytest.param(
            lambda rows: [*rows[:20], rows[21], rows[20], *rows[22:]], ("11", 20), ("16", 20), id="two change places"
        ),
    ],
)
def test_a_changed_sequence_is_named_even_with_fresh_hashes(
    home: Path, change: Callable[[list[Stored]], list[Stored]], first: tuple[str, int], rehashed: tuple[str, int]
) -> None:
    rows = change(dump(home))
    rebuild(home, rows)
    assert first in named(home)
    rebuild(home, rechained(rows))
    names = [name for name in named(home) if name[0] == "16"]
    assert names[0] == rehashed


@pytest.mark.requirement("L02")
def test_a_missing_row_is_named(home: Path) -> None:
    edit(home, "DELETE FROM record WHERE seq = 20")
    assert named(home) == [("05", 20), ("11", 21)]


@pytest.mark.requirement("L02")
@pytest.mark.parametrize(("seq", "missing"), [(-1, 0), (77, LAST), (2**62, LAST)])
def test_a_row_moved_elsewhere_is_named(home: Path, seq: int, missing: int) -> None:
    edit(home, f"UPDATE record SET seq = {seq} WHERE seq = {LAST}")
    assert {("05", missing), ("07", seq), ("20", LAST)} <= set(named(home))


@pytest.mark.requirement("L02")
def test_fresh_hashes_do_not_mend_the_signatures(home: Path) -> None:
    """Whoever owns the database rewrites one record and everything after it: each signature from there on fails."""
    rows = dump(home)
    rows[UNBLINDED] = rows[UNBLINDED].with_fields(participant="P-002", allocation=18)
    rows = rechained(rows)
    rebuild(home, rows)
    write_head(home, LAST, rows[-1].hash)  # and the local head with it
    assert named(home) == [("16", seq) for seq in range(UNBLINDED, LAST + 1)]


@pytest.mark.requirement("L02")
def test_the_log_key_signs_no_record(home: Path) -> None:
    rows = dump(home)
    secret = bytes.fromhex((place(home).keys / "log.key").read_text(encoding="ascii"))
    log_key = Actor(person="PH", keys=PrivateKeys.from_entropy(secret + bytes(32)))
    assert rows[0].fields["log_key"] == log_key.keys.sign_key.hex()  # it is the log's own key
    rebuild(home, rechained(_without(FAILED)(rows), {"PH": log_key}))
    assert ("16", 25) in named(home)  # PH's shown-again


@pytest.mark.requirement("L02")
def test_one_stolen_key_does_not_sign_for_the_others(home: Path, story: Trial) -> None:
    rows = rechained(dump(home)[:28] + dump(home)[29:], {"PH": story.actors["PH"]})
    rebuild(home, rows)
    assert [seq for check, seq in named(home) if check == "16"] == [28, 30]  # IN signed both


@pytest.mark.requirement("L02")
@pytest.mark.requirement("L03")
def test_all_keys_together_still_meet_the_head_known_elsewhere(home: Path, story: Trial) -> None:
    """With everybody's keys the tail can be written anew: only a head kept outside tells (docs/trust.md)."""
    known = heads(home)
    rows = rechained(dump(home)[:UNBLINDED], story.actors)
    rebuild(home, rows)
    write_head(home, len(rows) - 1, rows[-1].hash)
    assert judged(home).verdict == "intact-local"
    assert named(home, known[LAST]) == [("22", None)]


@pytest.mark.requirement("L02")
def test_references_to_other_records_are_held_to_them_after_a_rewrite_by_all(home: Path, story: Trial) -> None:
    rebuild(home, rechained(_without(REFUSED)(dump(home)), story.actors))
    assert named(home)[0] == ("19", 22)  # the withdrawal names the record that was 22


# ---- the tail, older files, forks ----------------------------------------------------------------------------------


@pytest.mark.requirement("L03")
def test_a_cut_tail_is_named_by_any_head_and_by_none_without_one(home: Path) -> None:
    known = heads(home)
    rebuild(home, dump(home)[:25])
    assert named(home) == [("21", LAST)]
    assert named(home, known[LAST]) == [("21", LAST), ("22", None)]
    (place(home).keys / "head").unlink()
    assert named(home, known[LAST]) == [("22", None)]
    assert judged(home).verdict == "intact-unanchored"  # not to be told from a log that ends here: never "intact"


@pytest.mark.requirement("L03")
def test_yesterdays_file_is_named_and_nothing_is_allocated_on_it(trials: TrialFactory) -> None:
    trial = trials("active", enrollment=4, length=6)
    trial.allocate("P-001")
    yesterday = log_of(trial.home).read_bytes()
    trial.allocate("P-002")
    trial.service.close_files()
    log_of(trial.home).write_bytes(yesterday)
    assert named(trial.home) == [("21", 18)]
    with pytest.raises(AllocatorError) as refused:
        trial.again().confirm(trial.actor("IN"), "P-003", example_form("P-003"), {})
    assert refused.value.code == "log-behind-head"


@pytest.mark.requirement("L03")
def test_a_whole_home_put_back_is_named_only_by_a_head_from_elsewhere(trials: TrialFactory) -> None:
    trial = trials("active")
    yesterday = copied(trial.home, "yesterday")
    trial.allocate("P-001")
    assert judged(yesterday).verdict == "intact-local"  # its own head was put back with it
    assert named(yesterday, trial.last.hash) == [("22", None)]


@pytest.mark.requirement("L03")
def test_a_fork_is_named_by_the_other_branch(trials: TrialFactory) -> None:
    trial = trials("active")
    other = copied(trial.home, "branch")
    trial.allocate("P-001")
    branch = Trial(home=other, service=open_service(other), actors=trial.actors, clock=trial.clock)
    branch.allocate("P-002")
    branch.close()
    assert [judged(home).verdict for home in (trial.home, other)] == ["intact-local", "intact-local"]
    assert len(dump(trial.home)) == len(dump(other))
    assert named(other, trial.last.hash) == [("22", None)]


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("rehashed", [False, True])
def test_a_record_from_a_copied_home_does_not_fit(trials: TrialFactory, rehashed: bool) -> None:
    trial = trials("active")
    branch = copied(trial.home, "branch")
    trial.allocate("P-001")
    there = Trial(home=branch, service=open_service(branch), actors=trial.actors, clock=trial.clock)
    there.allocate("P-002", "P-003")
    there.close()
    rows = [*dump(trial.home)[:-1], dump(branch)[17]]  # instead of P-001's allocation, P-003's confirmation
    rebuild(trial.home, rechained(rows) if rehashed else [*rows[:-1], rows[-1].with_fields(seq=16)])
    assert ("16" if rehashed else "12", 16) in named(trial.home)


@pytest.mark.requirement("L03")
@pytest.mark.parametrize("text", ["", "zz", "1 2 3", "-1 " + "ab" * 32, "0 " + "ab" * 31, "\xff"])
def test_a_damaged_head_is_named(home: Path, text: str) -> None:
    (place(home).keys / "head").write_bytes(text.encode("latin-1"))
    (check,) = {check for check, _ in named(home)}
    assert check == "21"


@pytest.mark.requirement("L03")
def test_a_head_before_the_first_record_is_not_counted_from_the_end(home: Path) -> None:
    (place(home).keys / "head").write_text(f"-1 {heads(home)[-1].hex()}", encoding="ascii")
    assert named(home) == [("21", -1)]


@pytest.mark.requirement("L03")
def test_an_older_head_is_an_ancestor(home: Path) -> None:
    write_head(home, 29, heads(home)[29])  # a crash came between commit and head
    assert judged(home).verdict == "intact-local"
    write_head(home, 30, heads(home)[29])
    assert named(home) == [("21", 30)]


# ---- the database file ---------------------------------------------------------------------------------------------


def _run(*statements: str) -> Callable[[Path], None]:
    def attack(home: Path) -> None:
        with closing(sqlite3.connect(log_of(home), isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)

    return attack


@pytest.mark.requirement("L02")
@pytest.mark.requirement("L04")
@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (_run("CREATE TABLE notes (x)"), "table notes does not belong there"),
        (_run("CREATE VIEW names AS SELECT seq FROM record"), "view names does not belong there"),
        (_run("CREATE INDEX later ON record (prev)"), "index later does not belong there"),
        (
            _run("CREATE TRIGGER quiet BEFORE INSERT ON detail BEGIN SELECT raise(IGNORE); END"),
            "trigger quiet does not belong there",
        ),
        (_run("DROP TRIGGER record_no_update"), "trigger record_no_update is missing"),
        (_run("DROP INDEX one_allocation_a_participant"), "index one_allocation_a_participant is missing"),
        (_run("PRAGMA application_id = 1"), "application_id is changed"),
        (_run("PRAGMA user_version = 2"), "user_version is changed"),
        (_run("PRAGMA journal_mode = WAL"), "the journal mode is changed"),
    ],
)
def test_another_schema_is_named_and_the_records_are_judged_all_the_same(
    home: Path, attack: Callable[[Path], None], said: str
) -> None:
    attack(home)
    finding = only(home, "03", None)
    assert finding.message == said
    assert judged(home).records == LAST + 1


@pytest.mark.requirement("L02")
def test_a_view_in_place_of_the_table_is_named_and_not_read(home: Path) -> None:
    _run("ALTER TABLE record RENAME TO kept", "CREATE VIEW record AS SELECT * FROM kept WHERE seq < 20")(home)
    verdict = judged(home)
    assert {finding.check for finding in verdict.findings} == {"03 schema"} and verdict.records == 0
    assert "view record does not belong there" in [finding.message for finding in verdict.findings]


@pytest.mark.requirement("L02")
def test_an_index_that_lost_rows_is_named(home: Path) -> None:
    """The schema's text is ours, the index holds the first records only: whoever counts by it counts wrong."""
    with closing(sqlite3.connect(log_of(home), isolation_level=None)) as log:
        (sql,) = log.execute("SELECT sql FROM sqlite_schema WHERE name = 'record_of_kind'").fetchone()
        log.execute("DROP INDEX record_of_kind")
        log.execute("CREATE INDEX record_of_kind ON record (kind) WHERE seq < 20")
        log.execute("PRAGMA writable_schema = 1")
        log.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'record_of_kind'", (sql,))
    with closing(sqlite3.connect(log_of(home))) as log:
        assert log.execute("SELECT count(*) FROM record WHERE kind > ''").fetchone() == (20,)  # it lies
    verdict = judged(home)
    assert {finding.check for finding in verdict.findings} == {"04 integrity"} and verdict.records == LAST + 1


@pytest.mark.requirement("L02")
@pytest.mark.requirement("L04")
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE record SET participant = 'P-009' WHERE seq = 16",
        "DELETE FROM record WHERE seq = 31",
        "INSERT OR REPLACE INTO record SELECT 16, prev, body, kind, participant, stratum, 9 FROM record WHERE seq = 15",
        "INSERT INTO record SELECT 99, prev, body, kind, participant, stratum, 9 FROM record WHERE seq = 15",
        "INSERT OR REPLACE INTO detail SELECT 27, 'reason', salt, 'itch' FROM detail WHERE seq = 27",
        "UPDATE detail SET value = 'itch' WHERE seq = 27",
        "DELETE FROM detail WHERE seq = 27",
    ],
)
def test_a_plain_connection_cannot_change_a_record(home: Path, sql: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        _run(sql)(home)
    assert judged(home).verdict == "intact-local"


@pytest.mark.requirement("L02")
@pytest.mark.parametrize(
    ("data", "check"), [(b"", "03"), (b"no database" * 1000, "04"), (b"SQLite format 3\0" + b"\xff" * 4096, "04")]
)
def test_a_log_that_is_no_database_is_named(home: Path, data: bytes, check: str) -> None:
    log_of(home).write_bytes(data)
    assert {name for name, _ in named(home)} == {check}


@pytest.mark.requirement("L02")
def test_an_emptied_log_is_named(home: Path) -> None:
    edit(home, "DELETE FROM detail")
    edit(home, "DELETE FROM record")
    assert named(home) == [("05", None), ("21", LAST)]


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_planted_wal_is_named(home: Path, suffix: str) -> None:
    log_of(home).with_name(f"log.sqlite3{suffix}").write_bytes(b"")
    assert only(home, "01", None).message.startswith(f"log.sqlite3{suffix} lies beside the log")


@pytest.mark.requirement("L03")
@pytest.mark.parametrize("head", [True, False])
def test_a_planted_journal_that_takes_records_back_is_named(trials: TrialFactory, head: bool) -> None:
    trial = trials("active", enrollment=4, length=6)
    trial.allocate("P-001")
    older = log_of(trial.home).read_bytes()
    trial.allocate("P-002", "P-003")
    trial.service.close_files()
    journal = log_of(trial.home).with_name("log.sqlite3-journal")
    journal.write_bytes(journal_that_restores(log_of(trial.home), older))
    stolen = copied(trial.home, "opened")
    with closing(sqlite3.connect(log_of(stolen))) as log:  # tried: the rows are gone, and all is said to be well
        assert log.execute("SELECT count(*) FROM record").fetchone() == (17,)
        assert log.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    if not head:
        (place(trial.home).keys / "head").unlink()
    assert named(trial.home) == [("02", None), *([("21", 20)] if head else [])]


@pytest.mark.requirement("A04")
def test_a_journal_left_by_a_crash_is_rolled_back_on_the_copy(trials: TrialFactory) -> None:
    """The last commit did not happen: its journal takes one record back, and that is no attack."""
    trial = trials("active")
    trial.confirm("P-001")
    older, head = log_of(trial.home).read_bytes(), (place(trial.home).keys / "head").read_bytes()
    trial.reveal("P-001")
    trial.service.close_files()
    (place(trial.home).keys / "head").write_bytes(head)
    journal = log_of(trial.home).with_name("log.sqlite3-journal")
    journal.write_bytes(journal_that_restores(log_of(trial.home), older))
    before = log_of(trial.home).read_bytes(), journal.read_bytes()
    verdict = judged(trial.home)
    assert (verdict.verdict, verdict.records) == ("intact-local", 16)
    assert (log_of(trial.home).read_bytes(), journal.read_bytes()) == before  # only a copy was rolled back


@pytest.mark.requirement("L02")
def test_a_file_copied_in_a_commit_without_its_journal_is_named_or_whole(trials: TrialFactory) -> None:
    """Half of a commit's pages are written and the journal is lost: no such mixture passes for a log."""
    trial = trials("active", enrollment=4, length=6)
    trial.allocate("P-001")
    older = log_of(trial.home).read_bytes()
    trial.confirm("P-002")
    trial.service.close_files()
    newer, page = log_of(trial.home).read_bytes(), 4096
    changed = [n for n in range(0, len(newer), page) if older[n : n + page] != newer[n : n + page]]
    assert len(changed) > 3
    for written in range(1, len(changed)):
        mixed = bytearray(older.ljust(len(newer), b"\0"))
        for n in changed[:written]:
            mixed[n : n + page] = newer[n : n + page]
        log_of(trial.home).write_bytes(bytes(mixed))
        assert judged(trial.home).verdict == "broken"


# ---- the other files -----------------------------------------------------------------------------------------------


def _study_text(home: Path, old: str, new: str) -> None:
    text = place(home).study_file.read_text(encoding="utf-8")
    assert old in text
    place(home).study_file.write_text(text.replace(old, new), encoding="utf-8")


def _swap_arms(home: Path) -> None:
    for old, new in (('"IL2-GCV"', '"X"'), ('"GCV"', '"IL2-GCV"'), ('"X"', '"GCV"')):
        _study_text(home, f"code = {old}", f"code = {new}")


def _swap_arm_order(home: Path) -> None:
    head, first, rest = place(home).study_file.read_text(encoding="utf-8").split("[[arm]]")
    second, tail = rest.split("\n\n", 1)
    text = f"{head}[[arm]]{second}\n\n[[arm]]{first}{tail}"
    place(home).study_file.write_text(text, encoding="utf-8")


@pytest.mark.requirement("C06")
@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(_swap_arms, id="the arms' codes"),
        pytest.param(_swap_arm_order, id="the arms' order"),
        pytest.param(lambda home: _study_text(home, "enrollment = 4", "enrollment = 6"), id="the enrolment"),
    ],
)
def test_another_study_file_is_named_once(home: Path, attack: Callable[[Path], None]) -> None:
    attack(home)
    assert "study.toml was changed" in only(home, "13", 0).message


@pytest.mark.requirement("C06")
def test_answers_that_qualify_no_more_by_another_study_file_are_judged_by_it(home: Path) -> None:
    _study_text(home, 'pass = "18..70"', 'pass = "18..19"')
    assert named(home)[0] == ("13", 0) and ("19", CONFIRMED) in named(home)


@pytest.mark.requirement("L02")
@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"[[",
        b"",
        b"x = " + b"[" * 100_000,
        b"x = " + b"1" * 5000,
        b'format = "allocator-study/1"\nstudy = 5\narm = []\ncriterion = []',
    ],
)
def test_a_study_file_that_is_none_is_named(home: Path, data: bytes) -> None:
    place(home).study_file.write_bytes(data)
    assert named(home) == [("08", None)]


@pytest.mark.requirement("L02")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("enrollment = 4", "enrollment = 4.0"),
        ("confirmation_hours = 72", "confirmation_hours = 72.5"),
        ("{3,6}", "{99999999999}"),
        ('"Asia/Shanghai"', '"Asia"'),
        ('"Asia/Shanghai"', '"\\u0000"'),
        ("[[arm]]", "[arm]"),
    ],
)
def test_a_study_file_with_values_that_no_study_has_is_named(home: Path, old: str, new: str) -> None:
    if old.startswith("levels"):
        place(home).study_file.write_text(
            place(home).study_file.read_text(encoding="utf-8") + f'\n[[factor]]\nname = "site"\n{new}\n',
            encoding="utf-8",
        )
    else:
        _study_text(home, old, new)
    assert named(home) == [("08", None)]


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("name", ["study_file", "log_file"])
def test_a_missing_file_is_named(home: Path, name: str) -> None:
    path: Path = getattr(place(home), name)
    path.unlink()
    assert only(home, "01", None).message == f"{path.name} is not there"
    path.mkdir()
    assert ("01", None) in named(home)


@pytest.mark.requirement("L02")
@pytest.mark.parametrize(
    "name", [".", "schedules", "keys", f"schedules/{STUDY_ID}", f"keys/{STUDY_ID}", f"keys/{STUDY_ID}/head"]
    + [f"schedules/{STUDY_ID}/{file}" for file in ("study.toml", "sealed.json", "registry.json", "log.sqlite3")]
)  # fmt: skip
def test_a_symbolic_link_is_named(home: Path, name: str) -> None:
    """Whoever owns the link decides what is read tomorrow."""
    path = home / name
    real = path.with_name(f"{path.name}.real")
    path.rename(real)
    path.symlink_to(real)
    assert ("01", None) in named(home)


@pytest.mark.requirement("L02")
def test_another_registry_record_is_named(home: Path) -> None:
    place(home).registry_file.write_bytes(b"{}")
    assert only(home, "10", 0).found
    place(home).registry_file.unlink()
    assert only(home, "10", 0).found is None


# ---- the sealed schedule -------------------------------------------------------------------------------------------


def _sealed(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def attack(home: Path) -> None:
        plain = json.loads(place(home).sealed_file.read_bytes())
        change(plain)
        place(home).sealed_file.write_bytes(canonical_bytes(plain))

    return attack


def _swap_entries(plain: dict[str, Any]) -> None:
    entries = plain["strata"][0]["entries"]
    entries[4], entries[5] = entries[5], entries[4]


SEALED_ATTACKS = {
    "two entries change places": _sealed(_swap_entries),
    "an entry is left out": _sealed(lambda plain: plain["strata"][0]["entries"].pop()),
    "a share's holder is another": _sealed(lambda plain: plain["shares"][0].update(person="PH")),
    "the root": _sealed(lambda plain: plain.update(root="00" * 32)),
    "another study's": _sealed(lambda plain: plain.update(study="NCT00000000")),
    "the entry's length": _sealed(lambda plain: plain["strata"][0]["entries"].__setitem__(5, "AA")),
    "no entry": _sealed(lambda plain: plain.update(strata=[])),
    "another format": _sealed(lambda plain: plain.update(format="allocator-sealed/2")),
    "strata of other forms": _sealed(
        lambda plain: plain.update(strata=[{"stratum": {"x": "y" * 70_000}, "entries": []}])
    ),
    "not canonical": lambda home: place(home).sealed_file.write_bytes(b" " + place(home).sealed_file.read_bytes()),
    "deeply nested": lambda home: place(home).sealed_file.write_bytes(b"[" * 100_000),
    "missing": lambda home: place(home).sealed_file.unlink(),
}


@pytest.mark.requirement("C06")
@pytest.mark.requirement("G09")
@pytest.mark.parametrize("attack", SEALED_ATTACKS.values(), ids=SEALED_ATTACKS.keys())
def test_another_sealed_schedule_is_named_at_the_generation(home: Path, attack: Callable[[Path], None]) -> None:
    attack(home)
    assert only(home, "09", GENERATED).message


@pytest.mark.requirement("C06")
@pytest.mark.requirement("G09")
@pytest.mark.parametrize(
    "attack", [SEALED_ATTACKS[name] for name in SEALED_ATTACKS if name != "missing"], ids=lambda _: ""
)
def test_another_sealed_schedule_is_named_even_when_its_digest_is_put_into_the_log(
    home: Path, story: Trial, attack: Callable[[Path], None]
) -> None:
    """All keys together: the digest is signed anew, and so is all that follows; the root does not follow from it."""
    attack(home)
    digest = hashlib.sha256(place(home).sealed_file.read_bytes()).hexdigest()
    rows = dump(home)
    rows[GENERATED] = rows[GENERATED].with_fields(sealed_digest=digest)
    rebuild(home, rechained(rows, story.actors))
    (place(home).keys / "head").unlink()
    assert ("09", GENERATED) in named(home)


@pytest.mark.requirement("C06")
def test_swapped_strata_are_named(trials: TrialFactory) -> None:
    trial = trials("active", stratified=True)
    _sealed(lambda plain: plain["strata"].reverse())(trial.home)
    assert named(trial.home) == [("09", GENERATED)]


@pytest.mark.requirement("C06")
def test_swapped_entries_of_two_strata_are_named(trials: TrialFactory) -> None:
    trial = trials("active", stratified=True)

    def swap(plain: dict[str, Any]) -> None:
        a, b = plain["strata"]
        a["entries"], b["entries"] = b["entries"], a["entries"]

    _sealed(swap)(trial.home)
    assert named(trial.home) == [("09", GENERATED)]


@pytest.mark.requirement("C06")
def test_an_entry_sealed_anew_with_another_arm_is_named(trials: TrialFactory) -> None:
    """Whoever holds both halves' keys puts the other arm under the old commitment: it does not open it."""
    forger = Forger(trials("active"))
    resealed = forger.resealed(position=0)
    with pytest.raises(AllocatorError) as refused:
        forger.opened(0, sealed=resealed)
    assert refused.value.code == "entry-not-as-committed"
    place(forger.home).sealed_file.write_bytes(resealed.to_bytes())
    forger.close()
    assert named(forger.home) == [("09", GENERATED)]


@pytest.mark.requirement("C06")
def test_another_studys_schedule_is_named(home: Path, trials: TrialFactory) -> None:
    other = trials("active", enrollment=3, length=4, block_sizes=(2, 4))
    place(home).sealed_file.write_bytes(place(other.home).sealed_file.read_bytes())
    assert named(home) == [("09", GENERATED)]


@pytest.mark.requirement("L03")
@pytest.mark.requirement("C06")
def test_a_study_fabricated_afresh_is_told_by_record_0_from_elsewhere(home: Path, tmp_path: Path) -> None:
    first = heads(home)[0]
    forged = tmp_path / "forged"
    open_home(forged, place(home).study_file.read_bytes())
    assert judged(forged).verdict == "intact-local"  # it is a study, only not this one
    assert named(forged, first) == [("22", None)]
    (place(forged).keys / "head").unlink()
    assert judged(forged).verdict == "intact-unanchored"
