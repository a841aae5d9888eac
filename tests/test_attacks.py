"""Attacks on a study's files and log: each is named by the check that must find it, at the record it was done to.

The story (`attacks.tell_story`) has 32 records; the numbers below are theirs.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attacks
from allocator.answers_form import form_bytes
from allocator.canonical import canonical_bytes
from allocator.cli.auditor import record_line
from allocator.cli.verifying import verdict_text
from allocator.errors import AllocatorError
from allocator.keys import KeyFolder, PrivateKeys
from allocator.log import GENESIS
from allocator.person import sign
from allocator.verdict import Finding
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
from support import STUDY_ID, Clock, Trial, TrialFactory, example_form, open_home, open_service

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
    assert named(home) == [("21", None)]


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
        (_run("DROP INDEX one_allocation_a_position"), "index one_allocation_a_position is missing"),
        (_run("PRAGMA application_id = 1"), "application_id is changed"),
        (_run("PRAGMA user_version = 3"), "user_version is changed"),
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
    assert named(home) == [("01", None)]


PIPES = {"study.toml": "01", "log.sqlite3": "01", "log.sqlite3-journal": "04", "sealed.json": "09", "head": "21"}


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("name", PIPES)
def test_a_pipe_in_place_of_a_file_is_named_and_never_waited_for(home: Path, name: str) -> None:
    path = (place(home).keys if name == "head" else place(home).schedules) / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert [check for check, _ in named(home)] == [PIPES[name]]


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


# ---- people who collude and write past the service -----------------------------------------------------------------
# Every record of theirs is validly signed; each forgery returns the record that breaks a rule.


def _stop(forger: Forger, kind: str) -> None:
    forger.write(kind, {}, {"reason": "as decided"}, by="SP")


def _withdraw(forger: Forger, participant: str, confirmation: int) -> None:
    fields = {"participant": participant, "confirmation": confirmation}
    forger.write("confirmation-withdrawn", fields, {"reason": "new value"}, by="IN")


def _attempt(forger: Forger, participant: str, form: str, of: int | None, kind: str = "screen-failed") -> int:
    fields = {
        "participant": participant,
        "stratum": {},
        "fingerprint": forger.study.fingerprint.hex(),
        "attempt": {"type": "rescreen" if of else "first", "of": of},
    }
    answers = form_bytes(example_form(form, forger.now)).decode("utf-8")
    return forger.write(kind, fields, {"answers": answers, **({"reason": "measured again"} if of else {})}, by="IN")


def _before_its_confirmation(forger: Forger) -> int:
    seq = forger.allocate("P-001", confirmation=16)
    forger.confirm("P-001", 0)
    return seq


def _expired(forger: Forger) -> int:
    forger.confirm("P-001", 0)
    return forger.allocate("P-001", at=forger.now + LATER)


def _withdrawn(forger: Forger) -> int:
    _withdraw(forger, "P-001", forger.confirm("P-001", 0))
    return forger.allocate("P-001")


def _superseded_by_a_refusal(forger: Forger) -> int:
    _attempt(forger, "P-001", "P-101", forger.confirm("P-001", 0))
    return forger.allocate("P-001")


def _superseded_by_another(forger: Forger) -> int:
    first = forger.confirm("P-001", 0)
    forger.confirm("P-001", 0, attempt={"type": "again", "of": first})
    return forger.allocate("P-001", confirmation=first)


def _while(kind: str) -> Callable[[Forger], int]:
    def forge(forger: Forger) -> int:
        forger.confirm("P-001", 0)
        _stop(forger, kind)
        return forger.allocate("P-001")

    return forge


def _beyond_the_enrolment(forger: Forger) -> int:
    for position, participant in enumerate(["P-001", "P-002", "P-003", "P-004"]):
        forger.confirm(participant, position)
        seq = forger.allocate(participant)
    return seq


def _allocated(**changes: Any) -> Callable[[Forger], int]:
    def forge(forger: Forger) -> int:
        forger.confirm("P-001", 0)
        return forger.allocate("P-001", **changes)

    return forge


def _other_arm(forger: Forger) -> int:
    forger.confirm("P-001", 0)
    arm, _ = forger.opened(0)
    return forger.allocate("P-001", arm=1 - arm)


def _bound(participant: str, position: int) -> Callable[[Forger], int]:
    def forge(forger: Forger) -> int:
        forger.confirm("P-001", 0)
        return forger.confirm(participant, position)

    return forge


def _used_again(forger: Forger) -> int:
    forger.confirm("P-001", 0)
    forger.allocate("P-001")
    return forger.confirm("P-002", 0)


def _both_places_of_one_person(forger: Forger) -> int:
    forger.enrol_both("XX", ["investigator", "pharmacist"])
    forger.confirm("P-001", 0, by="XX")
    return forger.allocate("P-001", by="XX")


COLLUSIONS: dict[str, tuple[Callable[[Forger], int], str]] = {
    "without a confirmation": (lambda f: f.allocate("P-001"), "the eligibility of P-001 is not confirmed"),
    "before its confirmation": (_before_its_confirmation, "the eligibility of P-001 is not confirmed"),
    "on an expired one": (_expired, "older than 72 hours"),
    "on a withdrawn one": (_withdrawn, "withdrew the confirmation"),
    "on one refused since": (_superseded_by_a_refusal, "latest form did not qualify"),
    "on one confirmed again since": (_superseded_by_another, "the confirmation that holds is record 16"),
    "beyond the enrolment": (_beyond_the_enrolment, "Enrolment complete: 3 of 3"),
    "by the person who confirmed": (_both_places_of_one_person, "the person who confirmed eligibility"),
    "another arm": (_other_arm, "not the one committed to"),
    "another salt": (_allocated(salt="00" * 32), "not the one committed to"),
    "an arm of no study": (_allocated(arm=2), "the arm index is of no arm"),
    "a number skipped": (_allocated(number=2), "randomization number 2, the next one is 1"),
    "another position than bound": (_allocated(position=1), "position is not the one bound"),
    "another sealing": (_allocated(sealing="00" * 16), "sealing is not the one bound"),
    "a false confirmation": (
        lambda f: f.confirm("P-001", 0, form=example_form("P-101", f.now)),
        "a confirmation on answers that do not qualify",
    ),
    "a false refusal": (lambda f: _attempt(f, "P-001", "P-001", None), "a screen failure on answers that qualify"),
    "a skipped position": (lambda f: f.confirm("P-001", 1), "not the lowest free one"),
    "a position bound for another": (_bound("P-002", 0), "not the lowest free one"),
    "a position left out": (_bound("P-002", 2), "not the lowest free one"),
    "a position used before": (_used_again, "not the lowest free one"),
    "a position of no list": (_bound("P-002", 4_000_000_000), "not the lowest free one"),
    "a confirmation twice": (_bound("P-001", 0), "the latest attempt of P-001"),
    "a look-alike id, short": (lambda f: f.confirm("P-1", 0), "not of the study's pattern"),
    "a look-alike id, small": (lambda f: f.confirm("p-001", 0), "not of the study's pattern"),
    "another stratum": (lambda f: f.confirm("P-001", 0, stratum={"site": "A"}), "no stratum"),
}


@pytest.mark.requirement("L02")
@pytest.mark.requirement("A01")
@pytest.mark.requirement("A02")
@pytest.mark.requirement("E01")
@pytest.mark.parametrize(("forge", "said"), COLLUSIONS.values(), ids=COLLUSIONS.keys())
def test_what_colluding_people_fabricate_is_judged_again_and_named(
    forger: Forger, forge: Callable[[Forger], int], said: str
) -> None:
    seq = forge(forger)
    found = [finding for finding in judged(forger.home).findings if finding.seq == seq]
    assert [finding.check for finding in found] == ["19 rule of the kind"]
    assert said in found[0].message


@pytest.mark.requirement("A01")
@pytest.mark.requirement("L02")
def test_what_colluding_people_write_by_the_rules_is_not_to_be_told(forger: Forger) -> None:
    """Holders of both halves may look at any entry; what they record must still follow the list (docs/trust.md)."""
    forger.confirm("P-001", 0)
    forger.allocate("P-001")
    assert judged(forger.home).verdict == "intact-local"


@pytest.mark.requirement("A01")
def test_a_second_allocation_is_stopped_by_the_trigger_and_named_behind_its_back(forger: Forger) -> None:
    forger.confirm("P-001", 0)
    forger.allocate("P-001")
    with pytest.raises(AllocatorError, match="one participant, one allocation"):
        forger.allocate("P-001")
    seq = forger.allocate("P-001", columns=("allocated", "P-002", "{}", 1))
    first, second = judged(forger.home).findings
    assert (first.check[:2], first.seq, second.check[:2], second.seq) == ("07", seq, "19", seq)
    assert second.message == "P-001 is already allocated (record 16)"


@pytest.mark.requirement("L02")
def test_an_allocation_at_a_position_of_no_list_is_named(forger: Forger) -> None:
    forger.confirm("P-001", 4_000_000_000)
    forger.allocate("P-001")
    assert named(forger.home) == [("19", 15), ("19", 16)]


@pytest.mark.requirement("A07")
@pytest.mark.parametrize("kind", ["paused", "closed"])
def test_an_allocation_while_paused_or_closed_is_named(forger: Forger, kind: str) -> None:
    seq = _while(kind)(forger)
    assert only(forger.home, "18", seq).message == f"allocation is {kind} in this study"


@pytest.mark.requirement("A07")
def test_an_allocation_before_activation_is_named(trials: TrialFactory) -> None:
    forger = Forger(trials("granted"))
    seqs = forger.confirm("P-001", 0), forger.allocate("P-001")
    forger.close()
    assert named(forger.home) == [("18", seq) for seq in seqs]


@pytest.mark.requirement("L01")
@pytest.mark.requirement("L05")
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"by": "PH", "mode": "production"}, "13"),
        ({"by": "PH", "at": Clock().now - timedelta(seconds=1)}, "14"),
        ({"by": "PH", "role": "sponsor"}, "15"),
        (
            {"by": "NN", "role": "pharmacist", "actor": Actor(person="NN", keys=PrivateKeys.from_entropy(bytes(64)))},
            "15",
        ),
    ],
    ids=["mode production", "back-dated", "another's role", "a person of no study"],
)
def test_a_record_of_another_mode_time_or_role_is_named(forger: Forger, how: dict[str, Any], expected: str) -> None:
    fields = {"action": "allocated", "cause": "not-confirmed", "participant": None}
    seq = forger.write("refused", fields, **how)
    assert named(forger.home)[0] == (expected, seq)


@pytest.mark.requirement("A06")
@pytest.mark.requirement("C02")
def test_a_signature_without_the_role_is_named(forger: Forger) -> None:
    seqs = [forger.confirm("P-001", 0, by="PH"), forger.allocate("P-001", by="IN")]
    assert ("15", seqs[0]) in named(forger.home) and ("15", seqs[1]) in named(forger.home)


@pytest.mark.requirement("A06")
def test_a_signature_with_a_claimed_role_is_named(forger: Forger) -> None:
    seq = forger.write("resumed", {}, {"reason": "go on"}, by="PH", role="sponsor")
    assert ("15", seq) in named(forger.home)


@pytest.mark.requirement("A06")
@pytest.mark.requirement("S06")
def test_a_signature_before_enrolment_and_after_deactivation_is_named(forger: Forger) -> None:
    own = Actor(person="PX", keys=PrivateKeys.from_entropy(b"x" * 64))
    added = {"added": "PX", "roles": ["pharmacist"], "code_digest": "00" * 32}
    forger.write("person-added", added, {"name": "Dr X"}, by="SP")
    refused = {"action": "allocated", "cause": "not-confirmed", "participant": None}
    early = forger.write("refused", refused, by="PX", actor=own)
    forger.write("person-deactivated", {"deactivated": "PH"}, {"reason": "left"}, by="SP")
    late = forger.write("refused", refused, by="PH")
    assert named(forger.home) == [("15", early), ("16", early), ("15", late)]


@pytest.mark.requirement("S02")
def test_a_signature_copied_to_another_record_is_named(home: Path) -> None:
    rows = dump(home)
    rows[LAST] = rows[LAST].with_fields(signature=rows[29].fields["signature"])  # IN signed both
    rebuild(home, rows)
    assert named(home) == [("16", LAST), ("21", LAST)]


@pytest.mark.requirement("A06")
@pytest.mark.parametrize(
    ("kind", "fields", "details", "by", "check"),
    [
        ("person-added", {"added": "PH", "roles": ["auditor"], "code_digest": "00" * 32}, {"name": "x"}, "SP", "19"),
        ("person-added", {"added": "XX", "roles": [], "code_digest": "00" * 32}, {"name": "x"}, "SP", "19"),
        ("person-added", {"added": "XX", "roles": ["king"], "code_digest": "00" * 32}, {"name": "x"}, "SP", "19"),
        (
            "person-added",
            {"added": "XX", "roles": ["pharmacist", "statistician"], "code_digest": "00" * 32},
            {"name": "x"},
            "SP",
            "19",
        ),
        ("person-enrolled", {"sign_key": "aa" * 32, "seal_key": "aa" * 32, "code": "x"}, {}, "AU", "19"),
        ("person-deactivated", {"deactivated": "SP"}, {"reason": "x"}, "SP", "19"),
        ("person-deactivated", {"deactivated": "NN"}, {"reason": "x"}, "SP", "19"),
        ("decided", {"finding": "K99"}, {"reading": "x", "reason": "x"}, "SP", "19"),
        ("activated", {"sealing": "00" * 16, "root": "00" * 32}, {"deposit": "x"}, "SP", "18"),
        (
            "granted",
            {"grantee": "PH", "half": "pharmacist", "sealing": "00" * 16, "envelope": "00" * 80},
            {},
            "ST",
            "19",
        ),
        ("shown-again", {"participant": "P-001", "allocation": 3}, {}, "PH", "19"),
        ("unblinded", {"participant": "P-001", "allocation": 3}, {"reason": "x"}, "PH", "19"),
        ("attempt-failed", {"person": "NN", "action": "allocated", "failure": "unknown-person"}, {}, None, "15"),
        ("refused", {"action": "allocated", "cause": "x", "participant": "P-1"}, {}, "PH", "19"),
    ],
)
def test_a_record_that_breaks_the_rule_of_its_kind_is_named(
    forger: Forger, kind: str, fields: dict[str, Any], details: dict[str, str], by: str | None, check: str
) -> None:
    seq = forger.write(kind, fields, details, by=by)
    assert (check, seq) in named(forger.home)


@pytest.mark.requirement("G06")
@pytest.mark.requirement("A07")
def test_a_generation_after_activation_is_named(forger: Forger) -> None:
    last = forger.last("generated").fields
    own = ("sealing", "algorithm", "root", "sealed_digest", "design_commitment", "seed_commitments", "holders")
    fields = {name: last[name] for name in own} | {"seed_origin": "system", "algorithm": "simple/1"}
    seq = forger.write("generated", fields, {"reason": "a nicer list"}, by="ST")
    assert named(forger.home) == [("18", seq), ("19", seq)]


@pytest.mark.requirement("X04")
def test_a_second_mark_of_error_and_anothers_allocation_are_named(forger: Forger) -> None:
    for position, participant in enumerate(["P-001", "P-002"]):
        forger.confirm(participant, position)
        forger.allocate(participant)
    marked = {"participant": "P-001", "allocation": 16, "what": "in-error"}
    details = {"value": "x", "reason": "x"}
    forger.write("corrected", marked, details, by="PH")
    twice = forger.write("corrected", marked, details, by="PH")
    anothers = forger.write("corrected", {**marked, "what": "treatment", "allocation": 18}, details, by="PH")
    assert named(forger.home) == [("19", twice), ("19", anothers)]


@pytest.mark.requirement("L02")
def test_a_person_without_a_role_signs_nothing(forger: Forger) -> None:
    own = Actor(person="XX", keys=PrivateKeys.from_entropy(b"x" * 64))
    enrolled = forger.enrol("XX", [], own)
    fields = {"action": "allocated", "cause": "x", "participant": None}
    seq = forger.write("refused", fields, by="XX", actor=own, role="pharmacist")
    assert named(forger.home) == [("19", enrolled - 1), ("15", enrolled), ("15", seq)]


@pytest.mark.requirement("L02")
def test_a_confirmation_at_the_end_of_all_time_is_judged_or_named(forger: Forger) -> None:
    last = Clock().now.replace(year=9999, month=12, day=31, hour=23)
    seq = forger.confirm("P-001", 0, form=example_form("P-001"), at=last)
    assert ("19", seq) in named(forger.home)


# ---- bodies that are no records ------------------------------------------------------------------------------------


def _body(forger: Forger, **changes: Any) -> dict[str, Any]:
    fields = {k: v for k, v in forger.last("granted").fields.items() if k in ("format", "time", "mode", "program")}
    signed = {"person": "PH", "role": "pharmacist", "meaning": "I made this request, and it was refused."}
    own = {"kind": "refused", "action": "allocated", "cause": "not-confirmed", "participant": None}
    return {**fields, **signed, **own, **changes}


@pytest.mark.requirement("L01")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "gift"}, "kind 'gift' is no kind of this version"),
        ({"kind": "locked"}, "kind 'locked' is reserved for a later version"),
        ({"format": "allocator-record/2"}, "record format 'allocator-record/2' is not 'allocator-record/1'"),
        ({"note": "rash"}, "not expected ['note']"),
        ({"participant": "P\u2010001"}, "field participant of refused has a wrong form"),
        ({"participant": "P-\uff10\uff10\uff11"}, "field participant of refused has a wrong form"),
        ({"participant": ["P-001"]}, "field participant of refused has a wrong form"),
        ({"meaning": "I agree to everything."}, "the meaning of the signature is not that of refused"),
        ({"time": "2026-11-20T04:00:00Z"}, "field time of refused has a wrong form"),
        ({"role": None}, "field role of refused has a wrong form"),
    ],
)
def test_a_validly_signed_body_of_another_form_is_named(forger: Forger, changes: dict[str, Any], said: str) -> None:
    seq = forger.write_raw(_body(forger, **changes))
    assert said in only(forger.home, "06", seq).message


@pytest.mark.requirement("L09")
def test_a_failed_attempt_carries_no_free_text(forger: Forger) -> None:
    body = {k: v for k, v in _body(forger).items() if k in ("format", "time", "mode", "program", "action")}
    row = {**body, "kind": "attempt-failed", "person": None, "failure": "P-001 got GCV", "seq": 15}
    seq = forger.append_body(canonical_bytes(row), ("attempt-failed", None, None, None))
    assert only(forger.home, "06", seq).message == "field failure of attempt-failed has a wrong form"


@pytest.mark.requirement("L02")
@pytest.mark.parametrize(
    ("body", "check", "said"),
    [
        ('{"kind":"refused","kind":"allocated"}', "06", "not the canonical encoding"),
        ('{"seq":9007199254740992}', "06", "integer 9007199254740992 is beyond 2^53 - 1"),
        ('{"seq":15.0}', "06", "15.0 is not an integer"),
        ('{"seq":1e1}', "06", "1e1 is not an integer"),
        ('{"seq":NaN}', "06", "NaN is not an integer"),
        ('{"b":1,"a":2}', "06", "not the canonical encoding"),
        ('{"a": 1}', "06", "not the canonical encoding"),
        ('{"a":"\\u0041"}', "06", "not the canonical encoding"),
        ('{"a":"\\ud800"}', "06", "not encodable"),
        ('{"a":1}\x00', "06", "not JSON"),
        ("[1]", "06", "an object was expected"),
        ("[" * 100_000, "06", "nested too deeply"),
        ('{"a":' * 100_000, "06", "nested too deeply"),
        ('{"seq":' + "1" * 10_000 + "}", "06", "beyond 2^53 - 1"),
        (b"\xff\xfe{}", "06", "not UTF-8 at byte 0"),
        ('{"a":"' + "x" * (1 << 20) + '"}', "06", "bytes where at most 1048576 are read"),
        ('{"a":"' + "x" * (1 << 22) + '"}', "04", "cannot be read"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_body_that_is_not_canonical_is_named(forger: Forger, body: str | bytes, check: str, said: str) -> None:
    seq = forger.append_body(body)
    assert said in only(forger.home, check, seq).message


ORDER = 2**252 + 27742317777372353535851937790883648493
IDENTITY = "01" + "00" * 31


@pytest.mark.requirement("S02")
def test_a_signature_in_another_encoding_of_the_same_numbers_is_named(home: Path) -> None:
    """S + L passes in libraries that do not reduce: the same signature twice, with two hashes."""
    rows = dump(home)
    signature = bytes.fromhex(rows[LAST].fields["signature"])
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    rows[LAST] = rows[LAST].with_fields(signature=(signature[:32] + scalar.to_bytes(32, "little")).hex())
    rebuild(home, rows)
    assert named(home) == [("16", LAST), ("21", LAST)]


@pytest.mark.requirement("S02")
@pytest.mark.parametrize(
    "key",
    [IDENTITY, "00" * 32, (2**255 - 18).to_bytes(32, "little").hex(), "01" + "00" * 30 + "80"],
    ids=["identity", "order 4", "identity, not canonical", "identity with a sign"],
)
def test_a_key_under_which_anything_is_signed_is_named(forger: Forger, key: str) -> None:
    """With a point of small order as key, R = identity and S = 0 verify for every record in lenient libraries."""
    added = {"added": "XX", "roles": ["pharmacist"], "code_digest": "00" * 32}
    forger.write("person-added", added, {"name": "Dr X"}, by="SP")
    meaning = "These keys are mine alone; my signature by them binds me as my own hand does."
    body = {k: v for k, v in _body(forger).items() if k not in ("action", "cause", "participant")}
    own = {"kind": "person-enrolled", "person": "XX", "meaning": meaning, "code": "x", "seq": 16}
    keys = {"sign_key": key, "seal_key": "aa" * 32, "signature": IDENTITY + "00" * 32}
    seq = forger.append_body(canonical_bytes({**body, **own, **keys}), ("person-enrolled", None, None, None))
    assert ("16", seq) in named(forger.home)


# ---- what is shown -------------------------------------------------------------------------------------------------

HOSTILE = "\x1b[2J\x1b]0;x\x07\u202e\u2066\u200b<script>alert(1)</script>\r\n\x9b1m"


def _obeyed(text: str) -> list[str]:
    """Characters that a terminal would obey or hide."""
    return [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")]


@pytest.mark.requirement("L07")
@pytest.mark.parametrize("field", ["kind", "format", "participant", "person", "role", "cause", "time", HOSTILE])
def test_no_text_of_the_log_moves_the_terminal_of_the_auditor(forger: Forger, field: str) -> None:
    forger.write_raw(_body(forger, **{field: HOSTILE}))
    text = verdict_text(judged(forger.home), STUDY_ID)
    assert "BROKEN" in text and not _obeyed(text)


@pytest.mark.requirement("L07")
@pytest.mark.parametrize(
    "sql",
    [
        f'CREATE TABLE "{HOSTILE}" (x)',
        f"UPDATE record SET participant = '{HOSTILE}' WHERE seq = 15",
        f"UPDATE record SET kind = '{HOSTILE}' WHERE seq = 15",
        f"UPDATE detail SET field = '{HOSTILE}' WHERE seq = 27",
        f"UPDATE detail SET value = '{HOSTILE}' WHERE seq = 15",
        "UPDATE record SET kind = CAST(x'ff1b5b324a' AS TEXT) WHERE seq = 15",
    ],
    ids=["table", "participant", "kind", "detail", "answers", "no UTF-8"],
)
def test_no_text_of_the_database_moves_the_terminal_of_the_auditor(home: Path, sql: str) -> None:
    edit(home, sql)
    text = verdict_text(judged(home), HOSTILE)
    assert "BROKEN" in text and not _obeyed(text)


@pytest.mark.requirement("L07")
def test_no_text_of_the_study_file_moves_the_terminal_of_the_auditor(home: Path) -> None:
    place(home).study_file.write_text(f"format = {json.dumps(HOSTILE)}", encoding="utf-8")
    text = verdict_text(judged(home), STUDY_ID)
    assert "BROKEN" in text and not _obeyed(text)


@pytest.mark.requirement("L07")
@pytest.mark.parametrize(
    "field",
    [
        "kind",
        "person",
        "participant",
        "cause",
        "program",
    ],
)
def test_no_line_of_the_log_moves_the_terminal(trials: TrialFactory, field: str) -> None:
    trial = trials("active")
    forger = Forger(trial)
    forger.write_raw(_body(forger, **{field: HOSTILE}))
    forger.close()
    lines = [record_line(record, trial.service) for record in trial.service.records()]
    assert not _obeyed("\n".join(lines)) and len(lines) == 16


# ---- anything at all -----------------------------------------------------------------------------------------------

SOAK = int(os.environ.get("ALLOCATOR_SOAK", "1"))
BYTES = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255))  # where, and what is turned there
VALUES = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=9), st.binary(max_size=40)
)
FILES = ["log.sqlite3", "log.sqlite3", "study.toml", "sealed.json", "registry.json", "head"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
COLUMNS = [("record", name) for name in ("seq", "prev", "body", "kind", "participant", "stratum", "position")]
COLUMNS += [("detail", name) for name in ("seq", "field", "salt", "value")]


def _damage(path: Path, flips: list[tuple[float, int]], keep: float | None) -> None:
    data = bytearray(path.read_bytes())
    for where, turned in flips:
        data[int(where * len(data))] ^= turned
    path.write_bytes(bytes(data if keep is None else data[: int(keep * len(data))]))


def _is_unchanged(home: Path, story: Trial) -> None:
    """Broken; or else all that anybody reads of the log is what it was."""
    verdict = judged(home)
    if verdict.verdict != "broken":
        assert (verdict.records, verdict.head) == (LAST + 1, story.last.hash)
        assert dump(home) == dump(story.home)


@pytest.mark.requirement("L02")
@settings(max_examples=200 * SOAK)
@given(name=st.sampled_from(FILES), flips=st.lists(BYTES, max_size=4), keep=st.one_of(st.none(), st.floats(0, 1)))
def test_no_damage_to_a_file_passes_or_stops_the_verifier(
    story: Trial, name: str, flips: list[tuple[float, int]], keep: float | None
) -> None:
    with TemporaryDirectory() as folder:
        home = copied_to(story.home, Path(folder, "home"))
        path = place(home).keys / name if name == "head" else place(home).schedules / name
        before = path.read_bytes()
        _damage(path, flips, keep)
        _is_unchanged(home, story)
        if name in ("sealed.json", "registry.json") and path.read_bytes() != before:
            assert judged(home).verdict == "broken"


@pytest.mark.requirement("L02")
@settings(max_examples=60 * SOAK)
@given(row=st.integers(0, LAST), column=st.sampled_from(COLUMNS), value=VALUES)
def test_no_edited_row_passes_or_stops_the_verifier(
    story: Trial, row: int, column: tuple[str, str], value: object
) -> None:
    """With the tables' own checks taken away: any value of any storage class in any column."""
    with TemporaryDirectory() as folder:
        home = copied_to(story.home, Path(folder, "home"))
        _overwrite(home, *column, row, value)
        _is_unchanged(home, story)


@pytest.mark.requirement("L02")
@settings(max_examples=60 * SOAK)
@given(data=st.data(), row=st.integers(0, LAST))
def test_no_signed_body_stops_the_verifier(story: Trial, data: st.DataObject, row: int) -> None:
    """Everybody's keys together, and a value of any form in any field: followed or named, never a crash."""
    rows = dump(story.home)
    fields = rows[row].fields
    name = data.draw(st.sampled_from(sorted(fields)))
    others = sorted({json.dumps(other.fields.get(name)) for other in rows})
    value = data.draw(st.one_of(JSON, st.sampled_from(others).map(json.loads)))
    rows[row] = replace(rows[row], body=canonical_bytes({**fields, name: value}))
    with TemporaryDirectory() as folder:
        home = copied_to(story.home, Path(folder, "home"))
        rebuild(home, _chained_as_is(rows, story.actors))
        verdict = judged(home)
        assert verdict.verdict == "broken" or verdict.head == story.last.hash


def _chained_as_is(rows: list[Stored], actors: Mapping[str, Actor]) -> list[Stored]:
    """Linked and signed anew, the bodies' own `seq` and details as they are."""
    done: list[Stored] = []
    for row in rows:
        fields, prev = row.fields, done[-1].hash if done else GENESIS
        actor = actors.get(fields["person"]) if isinstance(fields.get("person"), str) else None
        if actor and "signature" in fields:
            del fields["signature"]
            fields["signature"] = sign(actor.keys.signing, prev, canonical_bytes(fields))
        done.append(replace(row, prev=prev, body=canonical_bytes(fields)))
    return done


def _overwrite(home: Path, table: str, column: str, seq: int, value: object) -> None:
    """Store a value that the table would not take: its schema says otherwise for as long as that takes."""
    with as_owner(log_of(home)) as log:
        log.execute("PRAGMA writable_schema = 1")
        log.execute("PRAGMA ignore_check_constraints = 1")
        (sql,) = log.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        loose = sql.replace(") STRICT, WITHOUT", ") WITHOUT").replace(") STRICT", ")").replace(" NOT NULL", "")
        for type_name in ("INTEGER,", "BLOB", "TEXT"):
            loose = loose.replace(f" {type_name}", " " + type_name[7:])
        log.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (loose, table))
    with closing(sqlite3.connect(log_of(home), isolation_level=None)) as log, suppress(sqlite3.Error):
        log.execute("PRAGMA foreign_keys = 0")
        log.execute("PRAGMA ignore_check_constraints = 1")
        triggers = log.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            log.execute(f"DROP TRIGGER {name}")
        with suppress(sqlite3.Error):
            log.execute(f"UPDATE {table} SET {column} = ? WHERE seq = ?", (value, seq))
        for _, text in triggers:
            log.execute(text)
        log.execute("PRAGMA writable_schema = 1")
        log.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (sql, table))


@pytest.mark.requirement("L02")
@pytest.mark.requirement("R03")
def test_a_verification_waits_for_whoever_writes(trials: TrialFactory) -> None:
    """A copy taken in the middle of a commit is torn: a false alarm. Nobody who only reads makes a writer wait long."""
    trial = trials("active")
    with ThreadPoolExecutor(1) as others:
        with KeyFolder(trial.place.keys).lock():
            reading = others.submit(judged, trial.home)
            with pytest.raises(TimeoutError):
                reading.result(timeout=0.3)
        assert reading.result(timeout=10).verdict == "intact-local"
