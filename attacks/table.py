"""The attacks of the table: what is done, who could do it, and which check of docs/spec.md §11.2 must name it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import ways as do
from victim import CHECKPOINT, EVERYBODY, FIRST, HEAD, LOG, RECEIPT, TRAIL

from support import Clock
from test_attacks import HOSTILE, SEALED_ATTACKS

OWNER = "whoever can write the files"
LOG_KEY = "holder of the log's key, with the files"
PHARMACIST = "a pharmacist, past the program"
PHARMACIST_KEY = "holder of a pharmacist's key, with the files"
INVESTIGATOR = "an investigator, past the program"
SPONSOR = "the sponsor, past the program"
STATISTICIAN = "the statistician who generated"
BOTH = "pharmacist and investigator together"
WITH_SPONSOR = "the sponsor with a person in both roles"
ALL = "all people together, with the files"
HOLDERS = "statistician and custodian together"
OUTSIDER = "whoever passes an export on"
HOLDER = "who gives what was kept elsewhere"

NO_DETAILS = "keeps nothing beside its records"
NO_KEYS, NO_LIST, NO_STUDY = "has no keys in its records", "has no sealed list", "has no study file"
NO_EXPORT = "has no exports"
FRESH = frozenset[str]()  # hashes without anybody's signature


@dataclass(frozen=True)
class Attack:
    """One row of the table.

    Attributes:
        who: could do it.
        check: number of the check that must name it; "" when `verdict` is all that can be said.
        act: does it; returns the record where it must be named.
        base: the home it is done to (ours.TOLD).
        kept: what somebody keeps elsewhere, and gives to `verify`.
        lacks: why it cannot be done to any log but ours; "" when it can.
        shown: the text is hostile: no terminal may obey what is printed.
    """

    name: str
    who: str
    check: str
    act: do.Act
    base: str = "story"
    kept: tuple[str, ...] = ()
    lacks: str = ""
    shown: bool = False
    verdict: str = "broken"


RECORDS = (
    Attack("edit a value: an allocation gives the other arm", OWNER, "16", do.rows(do.other_arm, do.ALLOCATED)),
    Attack(
        "the same, then all hashes and the head fresh",
        OWNER,
        "16",
        do.rows(do.other_arm, do.ALLOCATED, FRESH, anchor=True),
    ),
    Attack("another participant in the column beside a body", OWNER, "07", do.seen(do.column, do.CONFIRMED)),
    Attack("`INSERT OR REPLACE` over a record", OWNER, "16", do.replaced_row),
    Attack("a private detail: another reason", OWNER, "17", do.seen(do.another_reason, do.UNBLINDED)),
    Attack("a private detail taken away", OWNER, "17", do.seen(do.no_reason, do.UNBLINDED)),
    Attack("a private detail moved to no record", OWNER, "20", do.ours(do.stray_detail), lacks=NO_DETAILS),
    Attack("a signature copied to another record of its person", OWNER, "16", do.seen(do.copied_signature, do.LAST)),
    Attack("a signature spelt otherwise (S + L for S)", OWNER, "16", do.seen(do.respelt_signature, do.LAST)),
    Attack(
        "a key under which anything is signed (of small order)",
        SPONSOR,
        "16",
        do.forged(do.weak_key),
        "active",
        lacks=NO_KEYS,
    ),
    Attack("a body that is not canonical: a space more", PHARMACIST, "06", do.spelt('":', '": '), "active"),
    Attack("a JSON key twice in a body", PHARMACIST, "06", do.spelt('{"', '{"cause":"x","'), "active"),
    Attack(
        "an integer that programs read differently, 2^53 + 1",
        PHARMACIST,
        "06",
        do.spelt('"not-confirmed"', "9007199254740993"),
        "active",
    ),
    Attack("a record of no known kind", PHARMACIST, "06", do.in_own_words(kind="gift"), "active"),
    Attack("a record of another version", PHARMACIST, "06", do.in_own_words(format="allocator-record/2"), "active"),
    Attack(
        "terminal escapes, bidi and HTML in a record",
        PHARMACIST,
        "06",
        do.in_own_words(participant=HOSTILE),
        "active",
        shown=True,
    ),
)

SEQUENCE = (
    Attack("delete a row of the table", OWNER, "05", do.deleted_row),
    Attack("delete a record", OWNER, "11", do.rows(do.without(do.REFUSED), 19)),
    Attack("the same, then fresh", OWNER, "16", do.rows(do.without(do.REFUSED), 20, FRESH, anchor=True)),
    Attack(
        "delete a record that nobody signed, then fresh",
        OWNER,
        "16",
        do.rows(do.without(do.FAILED), 20, FRESH, anchor=True),
    ),
    Attack("insert a record", OWNER, "11", do.rows(do.with_copy(do.UNBLINDED, 28, participant="P-002"), 28)),
    Attack(
        "the same, then fresh",
        OWNER,
        "16",
        do.rows(do.with_copy(do.UNBLINDED, 28, participant="P-002"), 28, FRESH, anchor=True),
    ),
    Attack("reorder: two records change places", OWNER, "11", do.rows(do.swapped(20, 21), 20)),
    Attack("the same, then fresh", OWNER, "16", do.rows(do.swapped(20, 21), 20, FRESH, anchor=True)),
    Attack("duplicate a record", OWNER, "11", do.rows(do.with_copy(do.REFUSED, 20), 20)),
    Attack("the same, then fresh", OWNER, "16", do.rows(do.with_copy(do.REFUSED, 20), 20, FRESH, anchor=True)),
    Attack("a record of a copied home spliced in", OWNER, "12", do.spliced(rehashed=False), "active"),
    Attack("the same, then fresh", OWNER, "16", do.spliced(rehashed=True), "active"),
    Attack(
        "rewrite all, signed with the stolen log key",
        LOG_KEY,
        "16",
        do.rows(do.without(do.FAILED), 20, frozenset({LOG}), anchor=True),
    ),
    Attack(
        "rewrite all, signed with one person's stolen key",
        PHARMACIST_KEY,
        "16",
        do.rows(do.without(28), 28, frozenset({"PH"}), anchor=True),
    ),
    Attack(
        "rewrite all with everybody's keys, as production",
        ALL,
        "22",
        do.rows(do.all_in_production, None, EVERYBODY, anchor=True),
        kept=(FIRST,),
    ),
)

THE_END = (
    Attack("cut the end", OWNER, "21", do.rows(do.first_records, do.LAST)),
    Attack(
        "cut the end, move the head; a printed hash is kept",
        OWNER,
        "22",
        do.rows(do.first_records, None, anchor=True),
        kept=(HEAD,),
    ),
    Attack("… a checkpoint is kept", OWNER, "23", do.rows(do.first_records, None, anchor=True), kept=(CHECKPOINT,)),
    Attack("… a receipt is kept", OWNER, "24", do.rows(do.first_records, do.RECEIVED, anchor=True), kept=(RECEIPT,)),
    Attack("yesterday's log put back", OWNER, "21", do.fresh_file, "active"),
    Attack("the whole home put back; a later hash is kept", OWNER, "22", do.seen(do.whole_home_back), "active"),
    Attack("fork: two heads of one size, a checkpoint of the other", ALL, "23", do.seen(do.fork), "active"),
    Attack(
        "the end rewritten with everybody's keys; a receipt is kept",
        ALL,
        "24",
        do.rows(do.told_otherwise, do.RECEIVED, EVERYBODY, anchor=True),
        kept=(RECEIPT,),
    ),
    Attack(
        "the whole study made anew; record 0's hash is deposited", OWNER, "22", do.seen(do.fabricated), kept=(FIRST,)
    ),
    Attack("… a receipt is kept", OWNER, "24", do.seen(do.fabricated, do.RECEIVED), kept=(RECEIPT,)),
)

FILES = (
    Attack("terminal escapes, bidi and HTML in a table's name", OWNER, "03", do.seen(do.hostile_table), shown=True),
    Attack("a view in place of the table", OWNER, "03", do.seen(do.view)),
    Attack("a doctored index", OWNER, "04", do.seen(do.doctored_index)),
    Attack("a trigger dropped", OWNER, "03", do.seen(do.dropped_trigger)),
    Attack("copied in mid-commit without its journal", OWNER, "04", do.seen(do.torn), "active"),
    Attack("an old rollback journal planted beside the log", OWNER, "02", do.seen(do.planted_journal), "active"),
    Attack("a write-ahead log planted beside it", OWNER, "01", do.seen(do.planted_wal)),
    Attack("the home is a symbolic link", OWNER, "01", do.seen(do.linked)),
    Attack("study.toml: the arms' codes exchanged", OWNER, "13", do.arms_exchanged, lacks=NO_STUDY),
    Attack("study.toml: the arms in another order", OWNER, "13", do.ours(do.arms_in_another_order), lacks=NO_STUDY),
    Attack(
        "study.toml: a higher enrolment",
        OWNER,
        "13",
        do.study_text(("enrollment = 4", "enrollment = 6")),
        lacks=NO_STUDY,
    ),
    Attack("study.toml: no study any more", OWNER, "08", do.study_text(("[[arm]]", "[arm]"), at=None), lacks=NO_STUDY),
    Attack("another registry record", OWNER, "10", do.ours(do.other_registry), lacks=NO_STUDY),
)

THE_LIST = (
    Attack(
        "two sealed entries change places",
        OWNER,
        "09",
        do.sealed(SEALED_ATTACKS["two entries change places"]),
        lacks=NO_LIST,
    ),
    Attack(
        "… and all people sign a log with the new digest", ALL, "09", do.ours(do.digest_signed_again), lacks=NO_LIST
    ),
    Attack("two strata change places", OWNER, "09", do.sealed(do.swapped_strata), "stratified", lacks=NO_LIST),
    Attack(
        "an entry sealed again with the other arm",
        STATISTICIAN,
        "09",
        do.ours(do.sealed_again),
        "active",
        lacks=NO_LIST,
    ),
    Attack("another study's list", OWNER, "09", do.ours(do.another_studys), lacks=NO_LIST),
    Attack(
        "another list after the same record 0, signed by all; a receipt is kept",
        ALL,
        "24",
        do.ours(do.sealed_otherwise),
        kept=(RECEIPT,),
        lacks=NO_LIST,
    ),
    Attack("an arm that is not the one committed to", BOTH, "19", do.collusion("another arm"), "active"),
    Attack("a list generated again after activation", STATISTICIAN, "18", do.forged(do.generated_again), "active"),
)

PEOPLE = (
    Attack("an allocation without a confirmation", BOTH, "19", do.collusion("without a confirmation"), "active"),
    Attack("… before its confirmation", BOTH, "19", do.collusion("before its confirmation"), "active"),
    Attack("… on an expired confirmation", BOTH, "19", do.collusion("on an expired one"), "active"),
    Attack("… on a withdrawn confirmation", BOTH, "19", do.collusion("on a withdrawn one"), "active"),
    Attack(
        "… on a confirmation of answers that do not qualify",
        INVESTIGATOR,
        "19",
        do.collusion("a false confirmation"),
        "active",
    ),
    Attack("… while the study is paused", PHARMACIST, "18", do.while_state("paused"), "active"),
    Attack("… while it is closed", PHARMACIST, "18", do.while_state("closed"), "active"),
    Attack("… beyond the enrolment", BOTH, "19", do.collusion("beyond the enrolment"), "active"),
    Attack("… by the person who confirmed", WITH_SPONSOR, "19", do.collusion("by the person who confirmed"), "active"),
    Attack("… a second one for one participant", PHARMACIST, "19", do.forged(do.allocated_twice), "active"),
    Attack("a skipped position", INVESTIGATOR, "19", do.collusion("a skipped position"), "active"),
    Attack(
        "a position that is not the lowest free one", INVESTIGATOR, "19", do.collusion("a position left out"), "active"
    ),
    Attack("a position used before", INVESTIGATOR, "19", do.collusion("a position used before"), "active"),
    Attack("a skipped randomization number", PHARMACIST, "19", do.collusion("a number skipped"), "active"),
    Attack("a confirmation signed by a pharmacist", PHARMACIST, "15", do.forged(do.confirmed_by_pharmacist), "active"),
    Attack("a role that the person does not have", PHARMACIST, "15", do.refused(role="sponsor"), "active"),
    Attack(
        "a signature after the person was deactivated", PHARMACIST, "15", do.forged(do.after_deactivation), "active"
    ),
    Attack("a back-dated record", PHARMACIST, "14", do.refused(at=Clock().now - timedelta(seconds=1)), "active"),
    Attack("mode switched from test to production", PHARMACIST, "13", do.refused(mode="production"), "active"),
    Attack("a look-alike id: P-1", INVESTIGATOR, "19", do.collusion("a look-alike id, short"), "active"),
    Attack("… p-001", INVESTIGATOR, "19", do.collusion("a look-alike id, small"), "active"),
    Attack("… another hyphen (U+2010)", PHARMACIST, "06", do.in_own_words(participant="P\u2010001"), "active"),
    Attack("… full-width digits", PHARMACIST, "06", do.in_own_words(participant="P-\uff10\uff10\uff11"), "active"),
)

KEPT = (
    Attack("a receipt names another arm", HOLDER, "24", do.seen(do.edited_receipt, do.RECEIVED), kept=(RECEIPT,)),
    Attack("a receipt of another log", HOLDER, "24", do.seen(do.of_another_log(RECEIPT), do.RECEIVED)),
    Attack("a checkpoint states another size", HOLDER, "23", do.seen(do.edited_checkpoint), kept=(CHECKPOINT,)),
    Attack("a checkpoint of another log", HOLDER, "23", do.seen(do.of_another_log(CHECKPOINT))),
    Attack(
        "a cell of a readable copy (`log --export`)",
        HOLDER,
        "27",
        do.seen(do.edited_trail, do.ALLOCATED),
        kept=(TRAIL,),
    ),
    Attack("a checkpoint signed over another history", LOG_KEY, "23", do.seen(do.signed_lie)),
)

THE_OPENING = (
    Attack("seed.json: another share", OWNER, "25", do.ours(do.other_seed), "opened", lacks=NO_LIST),
    Attack("seed.json taken away", OWNER, "25", do.ours(do.no_seed), "opened", lacks=NO_LIST),
    Attack("both holders sign a seed of another list", HOLDERS, "25", do.ours(do.false_seed), "closed", lacks=NO_LIST),
    Attack("an allocation after the list was opened", BOTH, "18", do.forged(do.allocated_still), "opened"),
)

EXPORTS = (
    Attack(
        "a value in a file made for reading", OUTSIDER, "26", do.export(do.other_words), "evidence", lacks=NO_EXPORT
    ),
    Attack(
        "the same, packed again", OUTSIDER, "26", do.export(do.other_words, packed=True), "evidence", lacks=NO_EXPORT
    ),
    Attack("a file taken away", OUTSIDER, "26", do.export(do.no_receipt), "evidence", lacks=NO_EXPORT),
    Attack(
        "a file added, packed again", OUTSIDER, "26", do.export(do.added_file, packed=True), "evidence", lacks=NO_EXPORT
    ),
    Attack(
        "the last records cut, packed again",
        OUTSIDER,
        "26",
        do.export(do.fewer_records, packed=True),
        "evidence",
        lacks=NO_EXPORT,
    ),
    Attack(
        "private details cut, packed again as if by right",
        OUTSIDER,
        "26",
        do.export(do.no_details, packed=True),
        "inspection",
        lacks=NO_EXPORT,
    ),
    Attack(
        "an export certified by a key of the outsider's own",
        OUTSIDER,
        "26",
        do.export(do.certified_by_another),
        "evidence",
        lacks=NO_EXPORT,
    ),
    Attack(
        "a whole export made anew; record 0's hash is deposited",
        OUTSIDER,
        "22",
        do.seen(do.export_made_anew),
        "evidence",
        lacks=NO_EXPORT,
    ),
)

UNSEEN = (
    Attack(
        "both halves' holders open an entry that nobody released",
        f"{BOTH}; {STATISTICIAN}",
        "",
        do.forged(do.unreleased_entry_opened),
        "active",
        lacks=NO_LIST,
        verdict="intact-local",
    ),
    Attack(
        "a pharmacist opens a released entry before asking",
        PHARMACIST,
        "",
        do.forged(do.released_entry_opened),
        "active",
        lacks=NO_LIST,
        verdict="intact-local",
    ),
    Attack(
        "an act by the rules, with stolen keys", BOTH, "", do.forged(do.by_the_rules), "active", verdict="intact-local"
    ),
    Attack(
        "the whole home put back; nobody kept a later hash",
        OWNER,
        "",
        do.seen(do.all_back),
        "active",
        verdict="intact-local",
    ),
    Attack(
        "cut the end and drop the head; nothing is kept",
        OWNER,
        "",
        do.seen(do.cut_and_headless),
        verdict="intact-unanchored",
    ),
    Attack(
        "the end rewritten with everybody's keys; nothing later is kept",
        ALL,
        "",
        do.rows(do.told_otherwise, None, EVERYBODY, anchor=True),
        kept=(FIRST,),
        verdict="intact",
    ),
    Attack(
        "another list after the same record 0, signed by all; the deposited root tells whoever compares it",
        ALL,
        "",
        do.ours(do.sealed_otherwise),
        kept=(FIRST,),
        lacks=NO_LIST,
        verdict="intact",
    ),
    Attack(
        "all after record 0 signed anew with keys of the sponsor's making; only record 0's hash is kept",
        SPONSOR,
        "",
        do.seen(do.signed_by_the_sponsor),
        kept=(FIRST,),
        verdict="intact",
    ),
    Attack(
        "a failed attempt added, which nobody signs",
        OWNER,
        "",
        do.rows(do.planted_failure, None, FRESH),
        verdict="intact-local",
    ),
)

SECTIONS = {
    "One record": RECORDS,
    "The sequence": SEQUENCE,
    "The end of the log, older files, forks": THE_END,
    "Files and database": FILES,
    "The sealed list": THE_LIST,
    "People who write past the program, with their own keys": PEOPLE,
    "Receipts and checkpoints": KEPT,
    "The opening of the list": THE_OPENING,
    "Exports": EXPORTS,
    "Not detectable": UNSEEN,
}
