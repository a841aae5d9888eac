"""Any byte that a reader can see, changed anywhere, turns the verdict and names the place.

Each example turns, drops or adds one byte: in a record or beside it (as the owner of the database edits it), in the
sealed list, the study file, the registry record, the head, a checkpoint, a receipt, the seed, or a file of an export.
Where a file may say the same in other bytes (study.toml, the head), it must still say the same or be named.

A short form runs with the suite; ALLOCATOR_SOAK=100 runs a hundred times as many.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from allocator.evidence import read_evidence
from allocator.export import MANIFEST
from allocator.export_evidence import read_export
from allocator.exporting import export_study
from allocator.keys import KeyFolder
from allocator.toml_files import read_study
from allocator.verdict import Given, Verdict
from allocator.verify import verify
from attacks import as_owner, log_of, place, tell_story
from support import TrialFactory

SOAK = int(os.environ.get("ALLOCATOR_SOAK", "1"))
GENERATED = 11
FEW = 15 * SOAK

Change = Callable[[bytes], bytes]


def _turned(where: float, mask: int) -> Change:
    def change(data: bytes) -> bytes:
        at = int(where * len(data))
        return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]

    return change


def _dropped(where: float) -> Change:
    def change(data: bytes) -> bytes:
        at = int(where * len(data))
        return data[:at] + data[at + 1 :]

    return change


def _added(where: float, byte: int) -> Change:
    def change(data: bytes) -> bytes:
        at = int(where * (len(data) + 1))
        return data[:at] + bytes([byte]) + data[at:]

    return change


WHERE = st.floats(0, 1, exclude_max=True)
CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(_turned, WHERE, st.integers(1, 255)),
    st.builds(_dropped, WHERE),
    st.builds(_added, WHERE, st.one_of(st.sampled_from(b" \n\t"), st.integers(0, 255))),
)


@dataclass(frozen=True)
class Told:
    """The story's home, and what lives elsewhere; what a test changes it puts back."""

    home: Path
    size: int
    checkpoint: bytes
    receipt: bytes
    exports: dict[str, Path]


@pytest.fixture(scope="module")
def told(_templates: tuple[Path, dict[Any, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """The story of tests/attacks.py, then an export of each scope, a checkpoint and a receipt."""
    folder = tmp_path_factory.mktemp("every-byte")
    factory = TrialFactory(_templates[0], folder, _templates[1])
    trial = factory("active", enrollment=4, length=6)
    tell_story(trial)
    exports = {scope: folder / scope for scope in ("evidence", "inspection")}
    for scope, target in exports.items():
        export_study(trial.service, trial.actor("AU"), target, scope)
    allocated = [record for record in trial.records if record.kind == "allocated"][-1]
    checkpoint, receipt = trial.service.checkpoint().note.encode(), trial.service.receipt(allocated).to_bytes()
    yield Told(trial.home, len(trial.records), checkpoint, receipt, exports)
    factory.close()


@pytest.fixture(scope="module")
def opened(_templates: tuple[Path, dict[Any, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose list was opened."""
    factory = TrialFactory(_templates[0], tmp_path_factory.mktemp("opened"), _templates[1])
    trial = factory("active", enrollment=4, length=6)
    trial.allocate("P-001")
    trial.service.change_state(trial.actor("SP"), "closed", "all visits are done")
    for person in ("CU", "ST"):
        trial.service.open_list(trial.actor(person))
    yield trial.home
    factory.close()


def judged(home: Path, **given: tuple[Given, ...]) -> Verdict:
    """The verdict on a home."""
    with read_evidence(place(home), **given) as evidence:
        return verify(evidence)


def judged_export(folder: Path) -> Verdict:
    """The verdict on an export."""
    with read_export(folder) as evidence:
        return verify(evidence)


def named(verdict: Verdict, *checks: str, at: Container[int | None]) -> bool:
    """Broken, and one of these checks (any, when none is given) names the place."""
    found = [one for one in verdict.findings if not checks or one.check[:2] in checks]
    return verdict.verdict == "broken" and any(one.seq in at for one in found)


@contextmanager
def changed(file: Path, change: Change) -> Iterator[None]:
    """A file with one byte changed, for as long as the context lasts."""
    before = file.read_bytes()
    after = change(before)
    assume(after != before)
    file.write_bytes(after)
    try:
        yield
    finally:
        file.write_bytes(before)


@contextmanager
def edited(home: Path, table: str, column: str, row: int, change: Change) -> Iterator[int]:
    """A value in the database with one byte changed by its owner; gives the record it belongs to."""
    log, kind = log_of(home), "BLOB" if column in ("prev", "salt") else "TEXT"
    before = log.read_bytes()
    try:
        with as_owner(log) as connection:
            connection.execute("PRAGMA ignore_check_constraints = 1")
            sql = f"SELECT seq, CAST({column} AS BLOB) FROM {table} WHERE {column} IS NOT NULL ORDER BY seq"
            rows = connection.execute(sql).fetchall()
            seq, value = rows[row % len(rows)]
            after = change(value)
            assume(after != value)
            if table == "record":
                where, which = "seq = ?", (seq,)
            else:
                where, which = f"seq = ? AND CAST({column} AS BLOB) = ?", (seq, value)
            sql = f"UPDATE {table} SET {column} = CAST(? AS {kind}) WHERE {where}"
            connection.execute(sql, (after, *which))
        yield seq
    finally:
        log.write_bytes(before)


def test_what_nobody_touched_is_intact(told: Told, opened: Path) -> None:
    given = {
        "given_checkpoints": (Given("checkpoint", told.checkpoint),),
        "given_receipts": (Given("receipt", told.receipt),),
    }
    assert judged(told.home, **given).verdict == "intact"
    assert judged(opened).verdict == "intact-local"
    assert {judged_export(folder).verdict for folder in told.exports.values()} == {"intact-local"}


@pytest.mark.requirement("L02")
@settings(max_examples=3 * FEW)
@given(row=st.integers(0, 10**6), change=CHANGES)
def test_a_byte_of_a_body_is_named_at_its_record(told: Told, row: int, change: Change) -> None:
    """A record that nobody signed is named by the next one's link, where it reads as a record all the same."""
    with edited(told.home, "record", "body", row, change) as seq:
        assert named(judged(told.home), at=(seq, seq + 1))


@pytest.mark.requirement("L02")
@settings(max_examples=FEW)
@given(row=st.integers(0, 10**6), change=CHANGES)
def test_a_byte_of_a_link_is_named_at_its_record(told: Told, row: int, change: Change) -> None:
    with edited(told.home, "record", "prev", row, change) as seq:
        assert named(judged(told.home), "06", "12", at=(seq,))


@pytest.mark.requirement("L02")
@settings(max_examples=FEW)
@given(column=st.sampled_from(["kind", "participant", "stratum"]), row=st.integers(0, 10**6), change=CHANGES)
def test_a_byte_beside_a_body_is_named_at_its_record(told: Told, column: str, row: int, change: Change) -> None:
    with edited(told.home, "record", column, row, change) as seq:
        assert named(judged(told.home), "07", at=(seq,))


@pytest.mark.requirement("L02")
@settings(max_examples=2 * FEW)
@given(column=st.sampled_from(["field", "salt", "value"]), row=st.integers(0, 10**6), change=CHANGES)
def test_a_byte_of_a_private_detail_is_named_at_its_record(told: Told, column: str, row: int, change: Change) -> None:
    with edited(told.home, "detail", column, row, change) as seq:
        assert named(judged(told.home), "17", at=(seq,))


@pytest.mark.requirement("C06")
@pytest.mark.requirement("G09")
@settings(max_examples=2 * FEW)
@given(change=CHANGES)
def test_a_byte_of_the_sealed_list_is_named_at_the_generation(told: Told, change: Change) -> None:
    with changed(place(told.home).sealed_file, change):
        assert named(judged(told.home), "09", at=(GENERATED,))


@pytest.mark.requirement("L02")
@settings(max_examples=FEW)
@given(change=CHANGES)
def test_a_byte_of_the_registry_record_is_named_at_record_0(told: Told, change: Change) -> None:
    with changed(place(told.home).registry_file, change):
        assert named(judged(told.home), "10", at=(0,))


@pytest.mark.requirement("C06")
@settings(max_examples=2 * FEW)
@given(change=CHANGES)
def test_a_byte_of_the_study_file_is_named_or_means_the_same(told: Told, change: Change) -> None:
    """A comment or a space more is no other study (docs/spec.md §2.2)."""
    file = place(told.home).study_file
    true = read_study(file.name, file.read_bytes()).fingerprint
    with changed(file, change):
        verdict = judged(told.home)
        if verdict.verdict == "broken":
            assert named(verdict, "08", at=(None,)) or named(verdict, "13", at=(0,))
        else:
            assert read_study(file.name, file.read_bytes()).fingerprint == true


@pytest.mark.requirement("L03")
@settings(max_examples=2 * FEW)
@given(change=CHANGES)
def test_a_byte_of_the_head_is_named_or_means_the_same(told: Told, change: Change) -> None:
    keys = place(told.home).keys
    true = KeyFolder(keys).read_head()
    with changed(keys / "head", change):
        verdict = judged(told.home)
        if verdict.verdict == "broken":
            assert {one.check for one in verdict.findings} == {"21 local head"}
        else:
            assert KeyFolder(keys).read_head() == true


@pytest.mark.requirement("L03")
@settings(max_examples=2 * FEW)
@given(change=CHANGES)
def test_a_byte_of_a_checkpoint_is_named(told: Told, change: Change) -> None:
    after = change(told.checkpoint)
    assume(after != told.checkpoint)
    verdict = judged(told.home, given_checkpoints=(Given("kept.txt", after),))
    assert named(verdict, "23", at=(None,)) and "kept.txt" in verdict.findings[0].message


@pytest.mark.requirement("C06")
@pytest.mark.requirement("L03")
@settings(max_examples=3 * FEW)
@given(change=CHANGES)
def test_a_byte_of_a_receipt_is_named(told: Told, change: Change) -> None:
    after = change(told.receipt)
    assume(after != told.receipt)
    verdict = judged(told.home, given_receipts=(Given("kept.tlog-proof", after),))
    assert {one.check for one in verdict.findings} == {"24 receipt"}
    assert verdict.verdict == "broken" and "kept.tlog-proof" in verdict.findings[0].message


@pytest.mark.requirement("C06")
@settings(max_examples=2 * FEW)
@given(change=CHANGES)
def test_a_byte_of_the_seed_is_named(opened: Path, change: Change) -> None:
    with changed(place(opened).seed_file, change):
        assert named(judged(opened), "25", at=(None,))


@pytest.mark.requirement("L02")
@settings(max_examples=5 * FEW)
@given(data=st.data(), scope=st.sampled_from(["evidence", "inspection"]), change=CHANGES)
def test_a_byte_of_any_file_of_an_export_is_named(told: Told, data: st.DataObject, scope: str, change: Change) -> None:
    files = sorted(told.exports[scope].iterdir())
    file = data.draw(st.sampled_from(files), label="file")
    with changed(file, change):
        verdict = judged_export(told.exports[scope])
    assert verdict.verdict == "broken"
    name = file.name.removesuffix(".json") if file.name == MANIFEST else file.name  # "its manifest is another one"
    assert any(name in one.message for one in verdict.findings if one.check == "26 export")
