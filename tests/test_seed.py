"""The opening of the list: by two people, after the close; what is disclosed draws the sealed list, entry by entry."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from allocator import sealing
from allocator.canonical import canonical_bytes
from allocator.continuity import SharePaper
from allocator.design import RandomizationDesign, design_commitment
from allocator.envelope import context, open_sealed, unpadded
from allocator.errors import AllocatorError, CredentialError, EvidenceError, InputError, Refused
from allocator.imported_list import MAX_ENTRIES
from allocator.log import Record
from allocator.permuted_block import ALGORITHM
from allocator.schedule import Schedule, StratumSchedule, generate_schedule
from allocator.seed import Seed, check_opening, draw_again
from attacks import judged
from support import STUDY_ID, Trial, TrialFactory, design, eligible_form, study

SHARES = (bytes([1]) * 32, bytes([2]) * 32)
SALT = bytes([3]) * 32
SEALING = bytes(range(16))
STUDY = study(stratified=True)
DESIGN = design(length=7).for_study(STUDY)
SCHEDULE = generate_schedule(STUDY, DESIGN, SALT, SHARES)
SEED = Seed(
    study=STUDY.id,
    sealing=SEALING.hex(),
    shares=tuple(share.hex() for share in SHARES),
    design=DESIGN.plain(),
    salt=SALT.hex(),
)


def sealed_of(schedule: Schedule) -> sealing.SealedSchedule:
    """A list, sealed under keys of no secret."""
    nonces = bytes(12 * sum(len(stratum.arms) for stratum in schedule.strata))
    strata, root = sealing.seal_schedule(schedule, STUDY.fingerprint, SEALING, bytes(32), bytes(32), nonces)
    nobody = sealing.Envelope(person="ST", commitment="", envelope="")
    return sealing.SealedSchedule(
        study=STUDY.id,
        fingerprint=STUDY.fingerprint,
        sealing=SEALING,
        design_commitment=schedule.design_commitment,
        root=root,
        strata=strata,
        shares=(nobody, nobody),
        keys=nobody,
    )


def generated(**changes: Any) -> Record:
    """What the record of the generation commits to."""
    fields = {
        "algorithm": ALGORITHM,
        "sealing": SEALING.hex(),
        "seed_commitments": [sealing.seed_commitment(share).hex() for share in SHARES],
        "design_commitment": design_commitment(DESIGN, SALT).hex(),
    }
    return Record(prev=bytes(32), body=b"", fields=fields | changes)


def assert_another(said: str, act: Callable[[], object]) -> EvidenceError:
    """The seed is not this list's, and why is said."""
    with pytest.raises(EvidenceError, match=said) as refusal:
        act()
    assert refusal.value.code == "seed"
    return refusal.value


def with_stratum(schedule: Schedule, index: int, **changes: Any) -> Schedule:
    """The list with one stratum changed."""
    strata = list(schedule.strata)
    strata[index] = replace(strata[index], **changes)
    return replace(schedule, strata=tuple(strata))


def flipped(stratum: StratumSchedule, position: int) -> bytes:
    """The stratum's arms with one of them the other."""
    arms = bytearray(stratum.arms)
    arms[position] = 1 - arms[position]
    return bytes(arms)


# ---- values: a seed and a sealed list -------------------------------------------------------------------------------


@pytest.mark.requirement("C06")
@pytest.mark.requirement("G01")
def test_the_seed_draws_the_list_again() -> None:
    assert draw_again(SEED, STUDY, generated()) == SCHEDULE
    assert check_opening(SEED, STUDY, generated(), sealed_of(SCHEDULE)) == SCHEDULE


@pytest.mark.requirement("C06")
@pytest.mark.parametrize("index, label", [(0, '{"site":"A"}'), (1, '{"site":"B"}')])
@pytest.mark.parametrize("position", [0, 3, 6])
def test_an_entry_sealed_with_another_arm_is_named(index: int, label: str, position: int) -> None:
    """The root is that of the exchanged list, and every entry opens: only the seed tells."""
    exchanged = with_stratum(SCHEDULE, index, arms=flipped(SCHEDULE.strata[index], position))
    refusal = assert_another(
        f"entry {position} of stratum {label} is not the one that the seed draws",
        lambda: check_opening(SEED, STUDY, generated(), sealed_of(exchanged)),
    )
    assert refusal.details["expected"] == sealed_of(SCHEDULE).strata[index].commitment(position).hex()
    assert refusal.details["found"] == sealed_of(exchanged).strata[index].commitment(position).hex()


@pytest.mark.requirement("C06")
def test_an_entry_with_another_salt_is_named() -> None:
    """The salt is the seed's too: none can be chosen so that an entry opens twice."""
    salts = SCHEDULE.strata[1].salts
    other = with_stratum(SCHEDULE, 1, salts=salts[:32] + bytes(32) + salts[64:])
    assert_another("entry 1 of stratum", lambda: check_opening(SEED, STUDY, generated(), sealed_of(other)))


@pytest.mark.requirement("C06")
@pytest.mark.parametrize(
    "other, said",
    [
        (replace(SCHEDULE, strata=SCHEDULE.strata[::-1]), "the strata of the sealed schedule"),
        (replace(SCHEDULE, strata=SCHEDULE.strata[:1]), "the strata of the sealed schedule"),
        (replace(SCHEDULE, strata=(*SCHEDULE.strata, SCHEDULE.strata[0])), "the strata of the sealed schedule"),
        (replace(SCHEDULE, strata=()), "the strata of the sealed schedule"),
        (with_stratum(SCHEDULE, 1, arms=SCHEDULE.strata[1].arms[:-1]), "another number of entries"),
        (with_stratum(SCHEDULE, 0, arms=b"", salts=b""), "another number of entries"),
        (generate_schedule(STUDY, design(length=8).for_study(STUDY), SALT, SHARES), "another number of entries"),
    ],
    ids=["strata exchanged", "a stratum less", "a stratum twice", "no stratum", "cut", "empty", "longer"],
)
def test_a_list_of_another_extent_is_refused(other: Schedule, said: str) -> None:
    assert_another(said, lambda: check_opening(SEED, STUDY, generated(), sealed_of(other)))


def test_a_list_committed_to_but_never_sealed_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log made up can commit to a hundred thousand million entries beside a small file."""
    huge = design(length=10_000_000).for_study(STUDY)
    seed = replace(SEED, design=huge.plain())
    record = generated(design_commitment=design_commitment(huge, SALT).hex())
    monkeypatch.setattr("allocator.seed.generate_schedule", lambda *_: pytest.fail("drawn"))
    assert_another("number of entries", lambda: check_opening(seed, STUDY, record, sealed_of(SCHEDULE)))


@pytest.mark.requirement("C06")
@pytest.mark.parametrize(
    "changes, said",
    [
        ({"study": "OTHER"}, "of another study or sealing"),
        ({"sealing": "00" * 16}, "of another study or sealing"),
        ({"shares": SEED.shares[::-1]}, "shares of the seed are not"),
        ({"shares": SEED.shares[:1]}, "shares of the seed are not"),
        ({"shares": ()}, "shares of the seed are not"),
        ({"shares": (*SEED.shares, "00" * 32)}, "shares of the seed are not"),
        ({"shares": ("00" * 32, SEED.shares[1])}, "shares of the seed are not"),
        ({"salt": "00" * 32}, "design is not the one committed to"),
        ({"design": design(length=8).for_study(STUDY).plain()}, "design is not the one committed to"),
        ({"design": design(length=7, block_sizes=(4,)).for_study(STUDY).plain()}, "design is not the one committed to"),
        ({"design": {**DESIGN.plain(), "block_sizes": [6, 4]}}, "not in its canonical form"),
        ({"design": {**DESIGN.plain(), "ratio": DESIGN.plain()["ratio"][::-1]}}, "not in its canonical form"),
        ({"design": {**DESIGN.plain(), "note": ""}}, "not in its canonical form"),
        ({"design": list(DESIGN.plain().items())}, "not in its canonical form"),
    ],
)
def test_another_seed_is_refused(changes: dict[str, Any], said: str) -> None:
    seed = replace(SEED, **changes)
    assert_another(said, lambda: check_opening(seed, STUDY, generated(), sealed_of(SCHEDULE)))


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        7,
        "design",
        [],
        [[]],
        {},
        {"format": "allocator-design/1"},
        {**DESIGN.plain(), "format": "allocator-design/2"},
        {**DESIGN.plain(), "method": ["permuted-block"]},
        {**DESIGN.plain(), "length": 0},
        {**DESIGN.plain(), "length": 10_000_001},
        {**DESIGN.plain(), "length": "7"},
        {**DESIGN.plain(), "length": None},
        {**DESIGN.plain(), "block_sizes": 4},
        {**DESIGN.plain(), "block_sizes": ["4"]},
        {**DESIGN.plain(), "block_sizes": "46"},
        {**DESIGN.plain(), "block_sizes": [4, None]},
        {**DESIGN.plain(), "block_sizes": [5]},
        {**DESIGN.plain(), "ratio": {"GCV": 1, "IL2-GCV": {}}},
        {**DESIGN.plain(), "ratio": [{"arm": "GCV"}]},
        {**DESIGN.plain(), "ratio": [{"arm": "X", "share": 1}, {"arm": "Y", "share": 1}]},
        {**DESIGN.plain(), "ratio": [7]},
        {**DESIGN.plain(), "ratio": None},
    ],
    ids=repr,
)
def test_what_is_no_design_of_the_study_is_refused(wrong: Any) -> None:
    seed = Seed.from_bytes(replace(SEED, design=wrong).to_bytes())
    assert_another("states no design of this study", lambda: draw_again(seed, STUDY, generated()))


# ---- the file -------------------------------------------------------------------------------------------------------


def test_a_seed_is_read_as_it_was_written() -> None:
    data = SEED.to_bytes()
    assert Seed.from_bytes(data) == SEED
    assert json.loads(data)["format"] == "allocator-seed/1"
    assert set(json.loads(data)) == {"format", "study", "sealing", "shares", "design", "salt"}


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "allocator-seed/2"},
        {"format": None},
        {"study": ""},
        {"study": "a b"},
        {"study": 7},
        {"sealing": "00" * 15},
        {"sealing": "AB" * 16},
        {"shares": None},
        {"shares": "00" * 32},
        {"shares": [None, "00" * 32]},
        {"shares": ["00" * 31, "00" * 32]},
        {"shares": ["AB" * 32, "00" * 32]},
        {"shares": [" " + "00" * 31 + "0", "00" * 32]},
        {"salt": "00" * 33},
        {"salt": ["00" * 32]},
        {"note": ""},
    ],
    ids=json.dumps,
)
def test_what_is_no_seed_is_refused(changes: dict[str, Any]) -> None:
    plain = json.loads(SEED.to_bytes())
    assert_another("seed.json is no seed", lambda: Seed.from_bytes(canonical_bytes(plain | changes)))


@pytest.mark.parametrize("name", ["format", "study", "sealing", "shares", "design", "salt"])
def test_nothing_of_a_seed_may_be_missing(name: str) -> None:
    plain = json.loads(SEED.to_bytes())
    del plain[name]
    assert_another("seed.json is no seed", lambda: Seed.from_bytes(canonical_bytes(plain)))


@pytest.mark.parametrize("data", [b"", b"[]", SEED.to_bytes() + b"\n", SEED.to_bytes().replace(b":", b": ", 1)])
def test_a_seed_has_one_form_of_bytes(data: bytes) -> None:
    assert_another("seed.json is no seed", lambda: Seed.from_bytes(data))


# ---- two people -----------------------------------------------------------------------------------------------------


@pytest.fixture
def closed(trials: TrialFactory) -> Trial:
    """A stratified study, closed after four allocations."""
    trial = trials("active", stratified=True)
    for participant, site in (("P-001", "A"), ("P-002", "B"), ("P-003", "A"), ("P-004", "B")):
        trial.allocate(participant, stratum={"site": site})
    trial.service.change_state(trial.actor("SP"), "closed", "all are in")
    return trial


def open_list(trial: Trial, person: str, paper: SharePaper | None = None) -> tuple[Record, Seed | None]:
    """One person's part of the opening."""
    return trial.service.open_list(trial.actor(person), paper)


def paper_of(trial: Trial, person: str) -> SharePaper:
    """A person's share as it is sealed to them; what `share` prints, without its record."""
    sealed = sealing.SealedSchedule.from_bytes(trial.place.sealed_file.read_bytes())
    envelope = next(share.envelope for share in sealed.shares if share.person == person)
    info = context("share", sealed.fingerprint, sealed.sealing, person)
    plain = json.loads(unpadded(open_sealed(trial.actor(person).keys.opening, bytes.fromhex(envelope), info)))
    return SharePaper(study=STUDY_ID, sealing=sealed.sealing.hex(), person=person, **plain)


def assert_not_opened(trial: Trial, error: type[AllocatorError], code: str, act: Callable[[], object]) -> None:
    """Nothing is disclosed; the log says what was tried."""
    with pytest.raises(error) as refusal:
        act()
    assert refusal.value.code == code
    assert not trial.place.seed_file.exists() and "opened" not in trial.kinds
    fields = trial.last.fields
    assert (fields["kind"], fields["action"], fields["cause"]) == ("refused", "opened", code)


@pytest.mark.requirement("U05")
def test_a_study_closed_and_half_opened_is_refused_as_closed(closed: Trial) -> None:
    """A share given after the close is no disclosure by accident: nobody is told to close what is closed."""
    open_list(closed, "ST")
    for act in (
        lambda: closed.service.change_state(closed.actor("SP"), "resumed", "one more"),
        lambda: closed.service.reveal(closed.actor("PH"), "P-005", "P-005"),
        lambda: closed.service.confirm(closed.actor("IN"), "P-005", eligible_form("P-005", closed.clock.now), {}),
    ):
        with pytest.raises(Refused) as refusal:
            act()
        assert refusal.value.code == "closed"


@pytest.mark.requirement("U05")
@pytest.mark.requirement("C06")
@pytest.mark.parametrize("first, second", [("ST", "CU"), ("CU", "ST")])
def test_two_people_open_the_list(first: str, second: str, closed: Trial) -> None:
    given, nothing = open_list(closed, first)
    assert (given.kind, given.fields["person"], nothing) == ("share-given", first, None)
    file = closed.place.share_file(first)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == given.fields["share_digest"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert closed.service.history.state == "closed" and not closed.place.seed_file.exists()

    opened, seed = open_list(closed, second)
    newest = closed.service.history.sealing
    assert seed is not None and newest is not None
    data = closed.place.seed_file.read_bytes()
    assert Seed.from_bytes(data) == seed
    assert (opened.kind, opened.fields["seed_digest"]) == ("opened", hashlib.sha256(data).hexdigest())
    assert closed.service.history.state == closed.service.status()["state"] == "opened"
    verdict = judged(closed.home)
    assert (verdict.verdict, verdict.findings) == ("intact-local", ())

    drawn = {stratum.label: stratum for stratum in draw_again(seed, closed.service.study, newest).strata}
    allocated = [record.fields for record in closed.records if record.kind == "allocated"]
    for fields in allocated:
        stratum, position = drawn[f'{{"site":"{fields["stratum"]["site"]}"}}'], fields["position"]
        assert (stratum.arms[position], stratum.salt(position).hex()) == (fields["arm"], fields["salt"])
    assert len(allocated) == 4


@pytest.mark.requirement("U05")
@pytest.mark.parametrize("stage", ["opened", "enrolled", "sealed", "granted", "active", "paused"])
def test_while_anything_can_be_allocated_nothing_is_opened(stage: str, trials: TrialFactory) -> None:
    trial = trials("active" if stage == "paused" else stage)
    if stage == "paused":
        trial.service.change_state(trial.actor("SP"), "paused", "a doubt")
    if stage == "opened":
        trial.enrol("ST", "statistician")
    with pytest.raises(Refused) as refusal:
        open_list(trial, "ST")
    assert refusal.value.code == "not-closed"
    assert trial.last.kind == "refused" and trial.last.fields["action"] == "opened"
    assert not trial.place.share_file("ST").exists() and not trial.place.seed_file.exists()


@pytest.mark.requirement("U05")
@pytest.mark.parametrize("person", ["SP", "IN", "PH", "AU"])
def test_who_holds_no_share_opens_nothing(person: str, closed: Trial) -> None:
    assert_not_opened(closed, Refused, "not-permitted", lambda: open_list(closed, person))


@pytest.mark.requirement("U05")
@pytest.mark.parametrize("role", ["custodian", "statistician"])
def test_another_custodian_or_statistician_opens_nothing(role: str, closed: Trial) -> None:
    closed.enrol("NEW", role)
    assert_not_opened(closed, Refused, "no-share", lambda: open_list(closed, "NEW"))


@pytest.mark.requirement("U05")
def test_one_person_twice_is_one_person(closed: Trial) -> None:
    for _ in range(2):
        record, seed = open_list(closed, "ST")
        assert (record.kind, seed) == ("share-given", None)
    assert open_list(closed, "CU")[0].kind == "opened"
    assert judged(closed.home).findings == ()


@pytest.mark.requirement("U05")
def test_who_has_left_opens_nothing(closed: Trial) -> None:
    closed.service.deactivate_person(closed.actor("SP"), "CU", "left")
    with pytest.raises(CredentialError):
        open_list(closed, "CU")
    assert closed.last.kind == "person-deactivated"


@pytest.mark.requirement("U05")
def test_a_share_given_before_the_list_was_sealed_again_is_given_again(closed: Trial) -> None:
    open_list(closed, "CU")
    papers = [paper_of(closed, person) for person in ("ST", "CU")]
    closed.service.reseal(closed.actor("ST"), papers, "keys lost")
    assert open_list(closed, "ST")[0].kind == "share-given"
    assert open_list(closed, "CU")[0].kind == "opened"
    assert judged(closed.home).findings == ()


# ---- shares that are not the right ones -----------------------------------------------------------------------------


@pytest.mark.requirement("C06")
def test_a_paper_copy_opens_as_the_sealed_share_does(closed: Trial) -> None:
    open_list(closed, "ST", paper_of(closed, "ST"))
    assert open_list(closed, "CU", paper_of(closed, "CU"))[0].kind == "opened"
    assert judged(closed.home).findings == ()


@pytest.mark.requirement("C06")
@pytest.mark.parametrize(
    "wrong",
    [
        lambda trial: paper_of(trial, "CU"),
        lambda trial: replace(paper_of(trial, "ST"), share="00" * 32),
        lambda trial: replace(paper_of(trial, "ST"), sealing="00" * 16),
    ],
    ids=["another holder's", "no share", "of another sealing"],
)
def test_a_share_that_is_not_one_s_own_is_refused(wrong: Callable[[Trial], SharePaper], closed: Trial) -> None:
    assert_not_opened(closed, EvidenceError, "share", lambda: open_list(closed, "ST", wrong(closed)))
    assert not closed.place.share_file("ST").exists()


@pytest.mark.requirement("C06")
def test_a_share_file_that_was_changed_is_refused_until_it_is_given_again(closed: Trial) -> None:
    open_list(closed, "ST")
    file = closed.place.share_file("ST")
    good = file.read_bytes()
    other = canonical_bytes(json.loads(good) | {"share": "00" * 32})
    for content in (other, b"", good + b"\n"):
        file.write_bytes(content)
        assert_not_opened(closed, EvidenceError, "share-file", lambda: open_list(closed, "CU"))
    file.unlink()
    assert_not_opened(closed, EvidenceError, "share-file", lambda: open_list(closed, "CU"))
    open_list(closed, "ST")
    assert open_list(closed, "CU")[0].kind == "opened"


@pytest.mark.requirement("C06")
def test_papers_with_another_design_open_nothing(closed: Trial) -> None:
    """Each alone is noticed beside the other, and both together by the design's commitment."""
    shorter = {**paper_of(closed, "ST").design, "length": 19}
    own = {person: replace(paper_of(closed, person), design=shorter) for person in ("ST", "CU")}
    with pytest.raises(EvidenceError):
        open_list(closed, "ST", own["ST"])
        open_list(closed, "CU")
    with pytest.raises(EvidenceError):
        open_list(closed, "ST", own["ST"])
        open_list(closed, "CU", own["CU"])
    assert not closed.place.seed_file.exists() and "opened" not in closed.kinds
    for person in ("ST", "CU"):
        opened, _ = open_list(closed, person)
    assert opened.kind == "opened"


@pytest.mark.requirement("C06")
@pytest.mark.parametrize("name", ["share", "salt"])
@pytest.mark.parametrize("typed", [str.upper, lambda text: f"{text[:8]} {text[8:]}"], ids=["in capitals", "spaced"])
def test_a_paper_typed_in_another_way_opens_a_list_that_verifies_or_none(
    typed: Callable[[str], str], name: str, closed: Trial
) -> None:
    """What is disclosed must be read by everybody, for ever."""
    plain = {person: json.loads(paper_of(closed, person).to_bytes()) for person in ("ST", "CU")}
    try:
        for person, paper in plain.items():
            paper[name] = typed(paper[name])
            open_list(closed, person, SharePaper.from_bytes(canonical_bytes(paper)))
    except (InputError, EvidenceError):
        assert "opened" not in closed.kinds and not closed.place.seed_file.exists()
    assert judged(closed.home).findings == ()


# ---- a list that was never the seed's -------------------------------------------------------------------------------


@pytest.mark.requirement("C06")
@pytest.mark.requirement("G01")
def test_a_statistician_who_sealed_another_list_is_found_out(
    trials: TrialFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that can be checked before holds: entries open, allocations are as committed. The seed tells at the end."""
    trial = trials("enrolled")

    def dishonest(*given: Any) -> Schedule:
        honest = generate_schedule(*given)
        return with_stratum(honest, 0, arms=flipped(honest.strata[0], 2))

    with monkeypatch.context() as patch:
        patch.setattr("allocator.setup.generate_schedule", dishonest)
        trial.service.generate(trial.actor("ST"), design())
    for person in ("PH", "IN"):
        trial.service.grant(trial.actor("ST"), person)
    trial.service.activate(trial.actor("SP"), "ethics file 12, page 3")
    trial.allocate("P-001", "P-002", "P-003")
    trial.service.change_state(trial.actor("SP"), "closed", "all are in")
    assert judged(trial.home).findings == ()
    open_list(trial, "CU")
    with pytest.raises(EvidenceError, match=r"entry 2 of stratum \{\} is not the one that the seed draws"):
        open_list(trial, "ST")
    assert not trial.place.seed_file.exists() and trial.service.history.state == "closed"


# ---- afterwards -----------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(closed: Trial) -> Trial:
    """The same, with its list open."""
    for person in ("ST", "CU"):
        open_list(closed, person)
    return closed


@pytest.mark.requirement("U05")
def test_nothing_is_allocated_any_more(opened: Trial) -> None:
    service, stratum, now = opened.service, {"site": "A"}, opened.clock.now
    acts: list[Callable[[], object]] = [
        lambda: opened.confirm("P-005", stratum=stratum),
        lambda: opened.reveal("P-005"),
        lambda: service.late(opened.actor("PH"), "P-005", now, "on paper"),
        lambda: service.change_state(opened.actor("SP"), "resumed", "one more"),
        lambda: service.change_state(opened.actor("SP"), "closed", "again"),
        lambda: service.copy_share(opened.actor("ST")),
        lambda: service.reseal(opened.actor("ST"), [paper_of(opened, p) for p in ("ST", "CU")], "again"),
        lambda: service.generate(opened.actor("ST"), design(), reason="again"),
        lambda: service.grant(opened.actor("ST"), "PH"),
        lambda: open_list(opened, "ST"),
    ]
    for act in acts:
        before = len(opened.records)
        with pytest.raises(Refused) as refusal:
            act()
        assert refusal.value.code == "opened"
        assert opened.last.kind == "refused" and len(opened.records) == before + 1
    assert opened.service.history.state == "opened"
    assert judged(opened.home).findings == ()


@pytest.mark.requirement("A05")
def test_look_ups_and_corrections_go_on(opened: Trial) -> None:
    assert opened.reveal("P-001").repeated
    opened.service.look_up(opened.actor("IN"), "P-002")
    opened.service.unblind(opened.actor("IN"), "P-002", "rash")
    opened.service.correct(opened.actor("PH"), "P-001", "treatment", "GCV", "the wrong vial")
    opened.service.copy_receipt(opened.actor("AU"), "P-001")
    assert opened.service.history.state == "opened"
    assert judged(opened.home).findings == ()


@pytest.mark.requirement("C06")
@pytest.mark.parametrize("change", ["gone", "a byte", "another share", "another form"])
def test_a_seed_that_is_not_the_one_disclosed_is_a_finding(change: str, opened: Trial) -> None:
    file = opened.place.seed_file
    data = file.read_bytes()
    plain = json.loads(data)
    changed = {
        "a byte": data.replace(b'"length":20', b'"length":21'),
        "another share": canonical_bytes(plain | {"shares": plain["shares"][::-1]}),
        "another form": json.dumps(plain).encode(),
    }
    file.unlink() if change == "gone" else file.write_bytes(changed[change])
    assert {finding.check for finding in judged(opened.home).findings} == {"25 opening"}


# ---- a list made elsewhere ------------------------------------------------------------------------------------------


def imported(trials: TrialFactory, arms: bytes) -> Trial:
    """An active study whose list came from elsewhere."""
    trial = trials("enrolled")
    how = RandomizationDesign(
        method="imported-list", arms=(arms,), length=len(arms), ratio=(("IL2-GCV", 1), ("GCV", 1))
    )
    trial.service.import_list(trial.actor("ST"), how, origin="R, blockrand", source=b"id,treatment")
    granted_and_active(trial)
    return trial


def granted_and_active(trial: Trial) -> None:
    """Both halves granted, and the study activated."""
    for person in ("PH", "IN"):
        trial.service.grant(trial.actor("ST"), person)
    trial.service.activate(trial.actor("SP"), "ethics file 12, page 3")


@pytest.mark.requirement("C06")
@pytest.mark.requirement("U05")
def test_an_imported_list_is_opened_as_it_came(trials: TrialFactory) -> None:
    arms = bytes([1, 0, 0, 1, 1, 0])
    trial = imported(trials, arms)
    told = [allocation.arm.code for allocation in trial.allocate("P-001", "P-002", "P-003")]
    assert told == ["GCV", "IL2-GCV", "IL2-GCV"]
    trial.service.change_state(trial.actor("SP"), "closed", "all are in")
    open_list(trial, "ST")
    _, seed = open_list(trial, "CU")
    newest = trial.service.history.sealing
    assert seed is not None and newest is not None and newest.kind == "imported"
    assert draw_again(seed, trial.service.study, newest).strata[0].arms == arms
    assert (judged(trial.home).verdict, judged(trial.home).findings) == ("intact-local", ())


@pytest.mark.requirement("C06")
def test_an_imported_list_that_is_not_the_disclosed_one_is_found_out(trials: TrialFactory) -> None:
    """The list is in the design, and the design is committed to: another list is another design."""
    trial = imported(trials, bytes([1, 0, 0, 1]))
    trial.service.change_state(trial.actor("SP"), "closed", "all are in")
    other = {**paper_of(trial, "ST").design, "arms": [bytes([0, 1, 1, 0]).hex()]}
    with pytest.raises(EvidenceError):
        open_list(trial, "ST", replace(paper_of(trial, "ST"), design=other))
        open_list(trial, "CU", replace(paper_of(trial, "CU"), design=other))
    assert not trial.place.seed_file.exists()


@pytest.mark.requirement("C06")
def test_an_imported_list_is_sealed_again_from_paper(trials: TrialFactory) -> None:
    trial = imported(trials, bytes([1, 0, 0, 1, 1, 0]))
    trial.allocate("P-001")
    root = trial.service.history.sealing.fields["root"]  # type: ignore[union-attr]
    papers = [trial.service.copy_share(trial.actor(person))[1] for person in ("ST", "CU")]
    papers = [SharePaper.from_bytes(paper.to_bytes()) for paper in papers]
    trial.place.sealed_file.unlink()
    trial.again()
    record = trial.service.reseal(trial.actor("ST"), papers, "the file is lost")
    assert (record.kind, record.fields["root"], record.fields["algorithm"]) == ("resealed", root, "imported-list/1")
    for person in ("PH", "IN"):
        trial.service.grant(trial.actor("ST"), person)
    assert [allocation.arm.code for allocation in trial.allocate("P-002", "P-003")] == ["IL2-GCV", "IL2-GCV"]
    trial.service.change_state(trial.actor("SP"), "closed", "all are in")
    for person in ("ST", "CU"):
        opened, _ = open_list(trial, person)
    assert opened.kind == "opened" and judged(trial.home).findings == ()


@pytest.mark.requirement("C06")
def test_the_longest_imported_list_fits_into_a_share(trials: TrialFactory) -> None:
    arms = bytes(n * n // 7 % 2 for n in range(MAX_ENTRIES))
    trial = imported(trials, arms)
    trial.service.change_state(trial.actor("SP"), "closed", "all are in")
    assert paper_of(trial, "CU").design["arms"] == [arms.hex()]
    for person in ("ST", "CU"):
        opened, _ = open_list(trial, person)
    assert opened.kind == "opened" and judged(trial.home).findings == ()
