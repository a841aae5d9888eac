"""How each attack is done: functions of a victim that return the record where it must be named, if it is one.

What people forge with their own keys is what tests/test_attacks.py tries, by the tools of tests/attacks.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ours import Export, Home
from victim import CHECKPOINT, EVERYBODY, FIRST, HEAD, RECEIPT, TRAIL, NotApplicable, Victim

from allocator.canonical import canonical_bytes, tag
from allocator.export import CERTIFICATE, DETAILS, RECORDS
from allocator.keys import PrivateKeys
from allocator.receipt import parse_receipt
from allocator.seed import Seed
from allocator.writer import Actor
from attacks import Forger, as_owner, edit, journal_that_restores, place, rechained, tell_story
from support import design
from test_attacks import COLLUSIONS, HOSTILE, IDENTITY, ORDER, SEALED_ATTACKS

Act = Callable[[Victim], int | None]
Rows = list[Any]

GENERATED, CONFIRMED, ALLOCATED, REFUSED, FAILED, CUT, UNBLINDED, EARLIER, LAST = 11, 15, 16, 19, 20, 25, 27, 29, 31
RECEIVED = 30  # the allocation whose receipt is kept


# ---- how ----


def rows(
    change: Callable[[Rows], Rows], at: int | None, keys: frozenset[str] | None = None, *, anchor: bool = False
) -> Act:
    """Other rows; with fresh hashes and the signatures of `keys`, unless None; the head beside the log moved, if so."""

    def act(victim: Victim) -> int | None:
        changed = change(victim.rows())
        victim.rebuild(changed if keys is None else victim.rechained(changed, keys))
        if anchor:
            victim.move_anchor()
        return at

    return act


def other_arm(rows: Rows) -> Rows:
    """An allocation gives the other arm."""
    return fields(ALLOCATED, arm=1 - rows[ALLOCATED].fields["arm"])(rows)


def fields(seq: int, **changes: Any) -> Callable[[Rows], Rows]:
    """Another value in a record's body."""
    return lambda rows: [row.with_fields(**changes) if n == seq else row for n, row in enumerate(rows)]


def without(seq: int) -> Callable[[Rows], Rows]:
    """One record less."""
    return lambda rows: rows[:seq] + rows[seq + 1 :]


def with_copy(of: int, at: int, **changes: Any) -> Callable[[Rows], Rows]:
    """One record more, made from another one."""
    return lambda rows: [*rows[:at], rows[of].with_fields(**changes) if changes else rows[of], *rows[at:]]


def swapped(one: int, other: int) -> Callable[[Rows], Rows]:
    """Two neighbours change places."""
    return lambda rows: [*rows[:one], rows[other], rows[one], *rows[other + 1 :]]


def forged(forgery: Callable[[Forger], int]) -> Act:
    """People write past the program, with their own keys."""
    return lambda victim: victim.forge(forgery)


def spelt(old: str, new: str) -> Act:
    """One more record, a refusal, whose text its writer spells otherwise."""

    def act(victim: Victim) -> int:
        at = victim.forge(lambda forger: forger.write("refused", REFUSAL, by="PH"))
        victim.respell(at, old, new)
        return at

    return act


def collusion(name: str) -> Act:
    """One of those that tests/test_attacks.py tries."""
    return forged(COLLUSIONS[name][0])


def ours(act: Callable[[Home], int | None]) -> Act:
    """What can be done to our home alone; such an attack says what others lack."""
    return lambda victim: act(cast(Home, victim))


def seen(act: Callable[[Victim], object], at: int | None = None) -> Act:
    """Do it; it must be named at this record."""
    return lambda victim: (act(victim), at)[1]


def column(victim: Victim) -> None:
    """Another participant beside a confirmation."""
    victim.column(CONFIRMED)


def another_reason(victim: Victim) -> None:
    """The reason of an unblinding."""
    victim.detail(UNBLINDED, "itch")


def no_reason(victim: Victim) -> None:
    """It is taken away."""
    victim.detail(UNBLINDED, None)


def copied_signature(victim: Victim) -> None:
    """The investigator signed both."""
    victim.signature(LAST, lambda _, signatures: signatures[EARLIER])


def respelt_signature(victim: Victim) -> None:
    """S + L in place of S: the same numbers, where a library does not refuse it."""
    victim.signature(LAST, lambda own, _: own[:32] + _plus_order(own[32:]))


def _plus_order(scalar: bytes) -> bytes:
    return (int.from_bytes(scalar, "little") + ORDER).to_bytes(32, "little")


def first_records(rows: Rows) -> Rows:
    """The end is cut off."""
    return rows[:CUT]


def told_otherwise(rows: Rows) -> Rows:
    """A refusal is gone, and all that followed but two records."""
    return without(REFUSED)(rows)[: REFUSED + 2]


def all_in_production(rows: Rows) -> Rows:
    """What was a rehearsal is to be a study."""
    return [row.with_fields(mode="production") for row in rows]


# ---- the end of the log, older files, forks ----


def fresh_file(victim: Victim) -> int:
    """Yesterday's log, with the head of today."""
    victim.go_on("P-001")
    yesterday = victim.beside()
    victim.go_on("P-002")
    newest = len(victim.rows()) - 1
    victim.close()
    shutil.copy(yesterday.log, victim.log)
    return newest


def whole_home_back(victim: Victim) -> None:
    """Everything is put back in time, head included; somebody has a later hash."""
    yesterday = victim.beside()
    victim.go_on("P-001")
    victim.keep(HEAD)
    victim.replace(yesterday)


def fork(victim: Victim) -> None:
    """Two branches of one size: each is shown to other people."""
    other = victim.beside()
    other.go_on("P-001")
    victim.go_on("P-002")
    other.keep(CHECKPOINT, victim.kept)
    other.close()


def spliced(rehashed: bool) -> Act:
    """A record of a copied home, in which life went another way, in place of one's own."""

    def act(victim: Victim) -> int:
        branch = victim.beside()
        victim.go_on("P-001")
        branch.go_on("P-002")
        branch.go_on("P-003")
        rows = [*victim.rows()[:-1], branch.rows()[-2]]
        branch.close()
        at = len(rows) - 1
        if rehashed:
            victim.rebuild(victim.rechained(rows, frozenset()))
        else:
            victim.rebuild([*rows[:-1], rows[-1].with_fields(seq=at)])
        victim.move_anchor()
        return at

    return act


def fabricated(victim: Victim) -> None:
    """The whole study told anew by others, with new keys under the same ids."""
    victim.replace(victim.stranger())


def of_another_log(what: str) -> Act:
    """A checkpoint or a receipt of the study told anew is given for one of this log."""

    def act(victim: Victim) -> None:
        stranger = victim.stranger()
        stranger.keep(what, victim.kept)
        stranger.close()

    return act


def signed_lie(victim: Victim) -> None:
    """A checkpoint with another root, validly signed with the log's key."""
    victim.keep_a_lie()


def edited_checkpoint(victim: Victim) -> None:
    """It states another size."""
    old, new = ("\n32\n", "\n31\n") if isinstance(victim, Home) else ('"seq": 31', '"seq": 30')
    replace_text(victim.kept / CHECKPOINT, old, new)


def edited_trail(victim: Victim) -> None:
    """A cell of the readable copy."""
    replace_text(victim.kept / f"{TRAIL}.csv", "Z,allocated,", "Z,refused,")


def replace_text(file: Path, old: str, new: str) -> None:
    """The first place where it stands."""
    data = file.read_bytes()
    assert old.encode() in data
    file.write_bytes(data.replace(old.encode(), new.encode(), 1))


def edited_receipt(victim: Victim) -> None:
    """It names another arm, or a hash of it is another."""
    file = victim.kept / RECEIPT
    if isinstance(victim, Home):
        receipt = parse_receipt(file.read_bytes())
        file.write_bytes(replace(receipt, arm={**receipt.arm, "label": "Placebo"}).to_bytes())
    else:
        replace_text(file, '"side": "left"', '"side": "right"')


# ---- the database file ----


def older_and_newer(victim: Victim) -> tuple[bytes, bytes]:
    """The log's file before two more participants, and after."""
    victim.go_on("P-001")
    victim.close()
    older = victim.log.read_bytes()
    victim.go_on("P-002")
    victim.close()
    return older, victim.log.read_bytes()


def torn(victim: Victim) -> None:
    """Copied in the middle of a commit, without the journal: half of the changed pages are new."""
    older, newer = older_and_newer(victim)
    pages = range(0, len(newer), 4096)
    changed = [n for n in pages if older[n : n + 4096] != newer[n : n + 4096]]
    mixed = bytearray(older.ljust(len(newer), b"\0"))
    for n in changed[: len(changed) // 2]:
        mixed[n : n + 4096] = newer[n : n + 4096]
    victim.log.write_bytes(bytes(mixed))


def planted_journal(victim: Victim) -> None:
    """A rollback journal that takes two participants back; SQLite obeys it and says that all is well."""
    older, _ = older_and_newer(victim)
    journal = journal_that_restores(victim.log, older)
    victim.log.with_name(f"{victim.log.name}-journal").write_bytes(journal)


def planted_wal(victim: Victim) -> None:
    """A write-ahead log in which the last rows are gone."""
    victim.close()
    aside = victim.log.with_name("aside.sqlite3")
    shutil.copy(victim.log, aside)
    with closing(sqlite3.connect(aside, isolation_level=None)) as log:
        for (name,) in log.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            log.execute(f"DROP TRIGGER {name}")
        log.execute("PRAGMA journal_mode = WAL")
        log.execute(f"DELETE FROM {victim.table} WHERE seq > {CUT}")
        shutil.copy(aside, victim.log)
        shutil.copy(aside.with_name("aside.sqlite3-wal"), victim.log.with_name(f"{victim.log.name}-wal"))
    for file in aside.parent.glob("aside.sqlite3*"):
        file.unlink()


def view(victim: Victim) -> None:
    """A view shows the first records only."""
    victim.sql(
        "ALTER TABLE {table} RENAME TO kept_aside",
        "CREATE VIEW {table} AS SELECT * FROM kept_aside WHERE seq < 20",
    )


def doctored_index(victim: Victim) -> None:
    """The schema's text is the right one, the index holds the first records only: whoever counts by it counts wrong."""
    if not isinstance(victim, Home):
        raise NotApplicable("has no index")
    with closing(sqlite3.connect(victim.log, isolation_level=None)) as log:
        (sql,) = log.execute("SELECT sql FROM sqlite_schema WHERE name = 'record_of_kind'").fetchone()
        log.execute("DROP INDEX record_of_kind")
        log.execute("CREATE INDEX record_of_kind ON record (kind) WHERE seq < 20")
        log.execute("PRAGMA writable_schema = 1")
        log.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'record_of_kind'", (sql,))


def hostile_table(victim: Victim) -> None:
    """Its name is what a terminal would obey."""
    victim.sql(f'CREATE TABLE "{HOSTILE}" (x)')


def dropped_trigger(victim: Victim) -> None:
    """A guard rail is taken away, and nothing else is done."""
    if not isinstance(victim, Home):
        raise NotApplicable("has no triggers")
    victim.sql("DROP TRIGGER record_no_update")


BODY = {"record": "body", "log": "body", "audit_records": "subject"}  # the column that says whose a record is


def replaced_row(victim: Victim) -> int:
    """INSERT OR REPLACE, with the triggers that would stop it taken away and put back."""
    with as_owner(victim.log) as log:
        names = [row[1] for row in log.execute(f"PRAGMA table_info({victim.table})")]
        wanted = [f"replace({n}, 'P-001', 'P-002')" if n == BODY[victim.table] else n for n in names]
        select = f"SELECT {', '.join(wanted)} FROM {victim.table} WHERE seq = {ALLOCATED}"
        log.execute(f"INSERT OR REPLACE INTO {victim.table} {select}")
    return ALLOCATED


def deleted_row(victim: Victim) -> int:
    """DELETE, and a gap where it was."""
    with as_owner(victim.log) as log:
        log.execute(f"DELETE FROM {victim.table} WHERE seq = {FAILED}")
    return FAILED


def stray_detail(home: Home) -> int:
    """A private detail is moved to a record that is not there."""
    edit(home.folder, "UPDATE detail SET seq = 99 WHERE seq = ?", UNBLINDED)
    return 99


def linked(victim: Victim) -> None:
    """The folder becomes a symbolic link: whoever owns the link decides what is read tomorrow."""
    victim.close()
    real = victim.folder.with_name(f"{victim.folder.name}-real")
    victim.folder.rename(real)
    victim.folder.symlink_to(real)


# ---- the study file, the list ----


def study_text(*changes: tuple[str, str], at: int | None = 0) -> Act:
    """Other words in study.toml."""

    def act(home: Home) -> int | None:
        for old, new in changes:
            replace_text(place(home.folder).study_file, old, new)
        return at

    return ours(act)


arms_exchanged = study_text(
    ('code = "IL2-GCV"', 'code = "X"'), ('code = "GCV"', 'code = "IL2-GCV"'), ('code = "X"', 'code = "GCV"')
)


def other_registry(home: Home) -> int:
    """Another registry.json."""
    place(home.folder).registry_file.write_bytes(b"{}")
    return 0


def arms_in_another_order(home: Home) -> int:
    """The arm index means another arm."""
    file = place(home.folder).study_file
    head, first, rest = file.read_text(encoding="utf-8").split("[[arm]]")
    second, tail = rest.split("\n\n", 1)
    file.write_text(f"{head}[[arm]]{second}\n\n[[arm]]{first}{tail}", encoding="utf-8")
    return 0


def sealed(change: Callable[[Path], object]) -> Act:
    """Another sealed.json."""

    def act(home: Home) -> int:
        change(home.folder)
        return GENERATED

    return ours(act)


def swapped_strata(home: Path) -> None:
    """The lists of two strata are exchanged."""
    plain = json.loads(place(home).sealed_file.read_bytes())
    first, second = plain["strata"]
    first["entries"], second["entries"] = second["entries"], first["entries"]
    place(home).sealed_file.write_bytes(canonical_bytes(plain))


def another_studys(home: Home) -> int:
    """The list of the study told anew."""
    stranger = home.stranger()
    shutil.copy(place(stranger.folder).sealed_file, place(home.folder).sealed_file)
    return GENERATED


def digest_signed_again(home: Home) -> int:
    """Two entries change places, and everybody signs a log that has the new file's digest."""
    SEALED_ATTACKS["two entries change places"](home.folder)
    digest = hashlib.sha256(place(home.folder).sealed_file.read_bytes()).hexdigest()
    home.rebuild(home.rechained(fields(GENERATED, sealed_digest=digest)(home.rows()), EVERYBODY))
    home.move_anchor()
    return GENERATED


def sealed_otherwise(home: Home) -> int:
    """All people draw and seal another list after the same beginning, and live the same story with it."""
    home.rebuild(home.rows()[:GENERATED])
    home.move_anchor()
    place(home.folder).sealed_file.unlink()
    trial = home.trial
    trial.service.generate(trial.actor("ST"), design(length=6))
    for person in ("PH", "IN"):
        trial.service.grant(trial.actor("ST"), person)
    trial.service.activate(trial.actor("SP"), "ethics file 12, page 3")
    tell_story(trial)
    return RECEIVED


def sealed_again(home: Home) -> int:
    """Holders of both halves put the other arm under the old commitment of an entry."""
    forger = Forger(home.trial)
    place(home.folder).sealed_file.write_bytes(forger.resealed(0).to_bytes())
    forger.close()
    return GENERATED


# ---- people who write past the program ----

REFUSAL = {"action": "allocated", "cause": "not-confirmed", "participant": None}


def refused(**how: Any) -> Act:
    """A record of theirs, a refusal, with one thing wrong about it."""
    return forged(lambda forger: forger.write("refused", REFUSAL, by="PH", **how))


def while_state(kind: str) -> Act:
    """An allocation after allocation was stopped."""

    def forgery(forger: Forger) -> int:
        forger.confirm("P-001", 0)
        forger.write(kind, {}, {"reason": "as decided"}, by="SP")
        return forger.allocate("P-001")

    return forged(forgery)


def confirmed_by_pharmacist(forger: Forger) -> int:
    """Nobody but a pharmacist is needed."""
    return forger.confirm("P-001", 0, by="PH")


def generated_again(forger: Forger) -> int:
    """A nicer list."""
    last = forger.last("generated").fields
    own = ("sealing", "algorithm", "root", "sealed_digest", "design_commitment", "seed_commitments", "holders")
    fields = {name: last[name] for name in own} | {"seed_origin": "system"}
    return forger.write("generated", fields, {"reason": "a nicer list"}, by="ST")


def after_deactivation(forger: Forger) -> int:
    """A person whose rights have ended signs."""
    forger.write("person-deactivated", {"deactivated": "PH"}, {"reason": "left"}, by="SP")
    return forger.write("refused", REFUSAL, by="PH")


def allocated_twice(forger: Forger) -> int:
    """One participant, two allocations."""
    forger.confirm("P-001", 0)
    forger.allocate("P-001")
    return forger.allocate("P-001", columns=("allocated", "P-002", "{}", 1))


def in_own_words(**changes: Any) -> Act:
    """A validly signed body that is no record of this version."""

    def forgery(forger: Forger) -> int:
        own = {k: v for k, v in forger.last("granted").fields.items() if k in ("format", "time", "mode", "program")}
        signed = {"person": "PH", "role": "pharmacist", "meaning": "I made this request, and it was refused."}
        return forger.write_raw({**own, **signed, "kind": "refused", **REFUSAL, **changes})

    return forged(forgery)


def weak_key(forger: Forger) -> int:
    """A key of small order: with R = identity and S = 0 anything is signed under it, for a lenient library."""
    forger.write(
        "person-added", {"added": "XX", "roles": ["pharmacist"], "code_digest": "00" * 32}, {"name": "X"}, by="SP"
    )
    own = {k: v for k, v in forger.last("granted").fields.items() if k in ("format", "time", "mode", "program")}
    body = {
        **own,
        "kind": "person-enrolled",
        "seq": 16,
        "person": "XX",
        "role": "pharmacist",
        "meaning": "These keys are mine alone; my signature by them binds me as my own hand does.",
        "sign_key": IDENTITY,
        "seal_key": "aa" * 32,
        "code": "x",
        "signature": IDENTITY + "00" * 32,
    }
    return forger.append_body(canonical_bytes(body), ("person-enrolled", None, None, None))


# ---- the opening, exports ----


def other_seed(home: Home) -> None:
    """A share is another one."""
    seed = place(home.folder).seed_file
    seed.write_bytes(_with_other_share(Seed.from_bytes(seed.read_bytes())))


def _with_other_share(seed: Seed) -> bytes:
    return replace(seed, shares=("ab" * 32, seed.shares[1])).to_bytes()


def no_seed(home: Home) -> None:
    """The list was opened, and the seed is not there."""
    place(home.folder).seed_file.unlink()


def false_seed(home: Home) -> None:
    """Both holders sign a seed from which another list is drawn."""
    home.close()
    true = home.beside()
    _, seed = true.trial.service.open_list(true.actors["ST"])
    true.close()
    assert seed is not None
    data = _with_other_share(seed)
    place(home.folder).seed_file.write_bytes(data)
    opened = {"sealing": seed.sealing, "seed_digest": hashlib.sha256(data).hexdigest()}

    def forgery(forger: Forger) -> int:
        return forger.write("opened", {**opened, "root": forger.last("generated").fields["root"]}, by="ST")

    home.forge(forgery)


def allocated_still(forger: Forger) -> int:
    """Everybody knows the list, and one more is allocated."""
    forger.confirm("P-002", 1)
    return forger.allocate("P-002")


def export(change: Callable[[Export], object], *, packed: bool = False) -> Act:
    """Something in an export is changed; and it is packed again, with manifest and sums as they then are."""

    def act(victim: Victim) -> None:
        made = cast(Export, victim)
        change(made)
        if packed:
            made.pack_again()

    return act


def other_words(made: Export) -> None:
    """In a file that is there to be read only."""
    replace_text(made.folder / "log.csv", "P-001", "P-002")


def fewer_records(made: Export) -> None:
    """The last ones are gone."""
    lines = (made.folder / RECORDS).read_bytes().splitlines(keepends=True)
    (made.folder / RECORDS).write_bytes(b"".join(lines[:CUT]))


def no_receipt(made: Export) -> None:
    """A receipt is not handed on."""
    next(made.folder.glob("receipt-*")).unlink()


def no_details(made: Export) -> None:
    """What was exported whole is handed on as if it had been exported without private details."""
    (made.folder / DETAILS).unlink()


def added_file(made: Export) -> None:
    """Something of the outsider's own."""
    (made.folder / "note.txt").write_text("all is well", encoding="utf-8")


def certified_by_another(made: Export) -> None:
    """The same words, signed with another key."""
    file = made.folder / CERTIFICATE
    fields = json.loads(file.read_bytes())
    del fields["signature"]
    signature = Ed25519PrivateKey.generate().sign(tag("certificate") + canonical_bytes(fields))
    file.write_bytes(canonical_bytes({**fields, "signature": signature.hex()}))
    made.pack_again()


def export_made_anew(victim: Victim) -> None:
    """By others, of the study told anew, whole and certified."""
    victim.keep(FIRST)
    victim.replace(victim.stranger())


# ---- what cannot be seen ----


def unreleased_entry_opened(forger: Forger) -> int:
    """Both halves together open an entry that nobody released; nothing is written."""
    forger.opened(3)
    return 0


def released_entry_opened(forger: Forger) -> int:
    """The half of a confirmed participant's entry is in the log; a pharmacist has the other."""
    forger.confirm("P-001", 0)
    forger.opened(0)
    return 0


def by_the_rules(forger: Forger) -> int:
    """Those whose keys were stolen did not ask for this."""
    forger.confirm("P-001", 0)
    return forger.allocate("P-001")


def all_back(victim: Victim) -> None:
    """Everything is put back in time, and nobody has a later hash."""
    whole_home_back(victim)
    for file in victim.kept.iterdir():
        file.unlink()


def cut_and_headless(victim: Victim) -> None:
    """The end is cut off, and with it the head that lies in the home."""
    victim.rebuild(victim.rows()[:CUT])
    victim.drop_anchor()


def signed_by_the_sponsor(victim: Victim) -> None:
    """Record 0 stays; everybody else gets new keys under the old id, and a refusal is gone with all that followed."""
    stored = told_otherwise(victim.rows())
    if isinstance(victim, Home):
        made = {person: Actor(person=person, keys=PrivateKeys.from_entropy(os.urandom(64))) for person in victim.actors}
        new = {**made, "SP": victim.actors["SP"]}
        enrolled = {seq: row for seq, row in enumerate(stored) if row.fields["kind"] == "person-enrolled"}
        for seq, row in enrolled.items():
            stored[seq] = row.with_fields(sign_key=new[row.fields["person"]].keys.sign_key.hex())
        victim.rebuild(rechained(stored, new))
    else:
        victim.rebuild(victim.rechained(stored, frozenset({"SP"})))
    victim.move_anchor()


def planted_failure(rows: Rows) -> Rows:
    """An attempt that failed is not signed by anybody: one more of them."""
    return [*rows, rows[FAILED].with_fields(time=rows[-1].fields["time"])]
