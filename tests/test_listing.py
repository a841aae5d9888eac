"""The statistician reads the whole list: recorded first, every entry held to its commitment, nobody else."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from allocator.balance import allocated
from allocator.errors import EvidenceError, Refused
from allocator.listing import check_allocated
from allocator.log import Record
from canaries import Hunt
from support import Trial, TrialFactory, design
from test_leaks import _known_list

DIGEST = hashlib.sha256(b"report").hexdigest()


def sealing(trial: Trial) -> str:
    """The id of the list as it is sealed now, "" before there is one."""
    newest = trial.service.history.sealing
    return newest.fields["sealing"] if newest else ""


@pytest.mark.requirement("G07")
@pytest.mark.requirement("L06")
def test_the_list_read_is_the_one_that_is_allocated(trials: TrialFactory) -> None:
    trial = trials("active", stratified=True)
    read = trial.service.read_list(trial.actor("ST"), "balance")
    assert (read.record.kind, read.record.fields["purpose"], trial.last.seq) == (
        "list-read",
        "balance",
        read.record.seq,
    )
    assert read.design == design().for_study(trial.service.study)
    assert [stratum.stratum for stratum in read.strata] == list(trial.service.study.strata)
    assert [len(stratum.arms) for stratum in read.strata] == [20, 20]
    codes = [arm.code for arm in trial.service.study.arms]
    for number, site in enumerate("ABAAB", 1):
        (given,) = trial.allocate(f"P-{number:03d}", stratum={"site": site})
        stratum = read.strata["AB".index(site)]
        assert given.arm.code == codes[stratum.arms[given.record.fields["position"]]]
        assert bytes.fromhex(given.record.fields["salt"]) == stratum.salt(given.record.fields["position"])
    seen = allocated(trial.records)
    check_allocated(read, seen)
    for changed in ({"arm": 1 - seen[2].arm}, {"position": 20}, {"position": -1}, {"stratum": "{}"}):
        with pytest.raises(EvidenceError, match="allocation 3 is not the entry of the list"):
            check_allocated(read, [seen[0], replace(seen[2], **changed)])


@pytest.mark.requirement("L06")
def test_the_record_is_durable_before_the_first_entry_is_opened(
    trials: TrialFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trials("sealed")
    seen: list[str] = []

    def opened(*_: object) -> tuple[int, bytes]:
        seen.append(trial.last.kind)
        raise EvidenceError("entry-does-not-open", "as if damaged")

    monkeypatch.setattr("allocator.sealing.open_entry", opened)
    with pytest.raises(EvidenceError):
        trial.service.read_list(trial.actor("ST"), "check")
    assert seen == ["list-read"] == [trial.last.kind]


@pytest.mark.requirement("C02")
@pytest.mark.parametrize("person", ["SP", "CU", "IN", "PH", "AU", "ST2"])
def test_nobody_else_reads_or_signs_it(person: str, trials: TrialFactory) -> None:
    trial = trials("sealed")
    trial.enrol("ST2", "statistician")
    code = "not-the-holder" if person == "ST2" else "not-permitted"
    for act in (
        lambda: trial.service.read_list(trial.actor(person), "check"),
        lambda: trial.service.sign_off(trial.actor(person), DIGEST, sealing=sealing(trial)),
    ):
        with pytest.raises(Refused) as refused:
            act()
        assert (refused.value.code, trial.last.kind) == (code, "refused")
    assert not trial.service.holds_list(person) and trial.service.holds_list("ST")


def test_before_a_list_is_sealed_there_is_none_to_read(trials: TrialFactory) -> None:
    trial = trials("enrolled")
    for act in (
        lambda: trial.service.read_list(trial.actor("ST"), "check"),
        lambda: trial.service.sign_off(trial.actor("ST"), DIGEST, sealing=sealing(trial)),
    ):
        with pytest.raises(Refused, match=r"sealed|now open"):
            act()
    assert not trial.service.holds_list("ST") and trial.service.list_checked() is None


def test_the_list_is_signed_off_before_the_activation_only(trials: TrialFactory) -> None:
    trial = trials("sealed")
    assert trial.service.list_checked() is None
    record = trial.service.sign_off(trial.actor("ST"), DIGEST, sealing=sealing(trial))
    assert (record.kind, record.fields["report_digest"]) == ("list-checked", DIGEST)
    found = trial.service.list_checked()
    assert found is not None and found.hash == record.hash
    trial.service.generate(trial.actor("ST"), design(), reason="another ratio was meant")
    assert trial.service.list_checked() is None  # it was of the list before
    active = trials("active")
    with pytest.raises(Refused):
        active.service.sign_off(active.actor("ST"), DIGEST, sealing=sealing(active))


@pytest.mark.requirement("G07")
def test_a_list_that_was_exchanged_while_it_was_read_is_neither_shown_nor_signed(
    trials: TrialFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at once: the report of one list must not stand for another."""
    trial = trials("sealed")
    first = sealing(trial)
    trial.service.generate(trial.actor("ST"), design(), reason="another ratio was meant")
    with pytest.raises(Refused) as refused:
        trial.service.sign_off(trial.actor("ST"), DIGEST, sealing=first)
    assert (refused.value.code, trial.last.kind) == ("another-list", "refused")
    assert trial.service.list_checked() is None
    write = trial.service._writer.write

    def exchanged(*given: Any) -> Record:
        record = write(*given)
        if record.kind == "list-read":
            trial.service.generate(trial.actor("ST"), design(), reason="once more")
        return record

    monkeypatch.setattr(trial.service._writer, "write", exchanged)
    monkeypatch.setattr("allocator.sealing.open_entry", lambda *_: pytest.fail("an entry of another list was opened"))
    with pytest.raises(Refused, match="another list was sealed while this one was read"):
        trial.service.read_list(trial.actor("ST"), "check")


@pytest.mark.requirement("C01")
def test_reading_the_list_leaves_nothing_of_it_on_the_disk(trials: TrialFactory) -> None:
    trial, hunt = _known_list(trials)
    assert isinstance(hunt, Hunt)
    read = trial.service.read_list(trial.actor("ST"), "balance")
    assert hunt.files(trial.home) == set()
    assert hunt.within(repr(read)) == set()


@pytest.mark.requirement("C06")
def test_an_entry_that_was_exchanged_is_named(trials: TrialFactory) -> None:
    trial = trials("sealed")
    sealed = trial.service._required_sealed()
    entries = sealed.strata[0].entries
    object.__setattr__(sealed.strata[0], "entries", (entries[1], entries[0], *entries[2:]))
    with pytest.raises(EvidenceError) as fault:
        trial.service.read_list(trial.actor("ST"), "check")
    assert fault.value.code == "entry-does-not-open"


def test_the_design_is_held_to_its_commitment(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allocator.sealed_design.design_commitment", lambda *_: bytes(32))
    with pytest.raises(EvidenceError, match="not the one committed to"):
        trial.service.read_list(trial.actor("ST"), "balance")
