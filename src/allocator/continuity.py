"""ContinuityService: the way back. Backups, a log put back in time, a lost list, a clock that jumped.

Nothing here edits or removes: a loss is stated by the sponsor, what may have been used is reserved by the
statistician, and both are records (docs/spec.md §10.11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator import allocation, recovery
from allocator.canonical import CanonicalError, canonical_bytes, parse_strict
from allocator.design import RandomizationDesign
from allocator.envelope import context, open_sealed, unpadded
from allocator.errors import EvidenceError, InputError, Refused
from allocator.log import Record
from allocator.method import DesignError
from allocator.person import Role
from allocator.relocation import check_here
from allocator.sealing import seed_commitment
from allocator.session import finish_renaming, reason_detail
from allocator.setup import SetupService
from allocator.study import stratum_label
from allocator.writer import Actor, Draft

if TYPE_CHECKING:
    from allocator.backup import Manifest

SHARE_FORMAT = "allocator-share/1"
Place = tuple[str, int]  # stratum label, position


@dataclass(frozen=True, slots=True, kw_only=True)
class SharePaper:
    """The paper copy of one share of the seed, with the design and its salt: secret.

    Attributes:
        share, salt: 32 bytes each, in hexadecimal.
        design: the canonical design.
    """

    study: str
    sealing: str
    person: str
    share: str
    design: Mapping[str, Any]
    salt: str

    def to_bytes(self) -> bytes:
        """Canonical JSON, to be kept on paper or on a stick in a safe."""
        return canonical_bytes({"format": SHARE_FORMAT, **{name: getattr(self, name) for name in self.__slots__}})

    @classmethod
    def from_bytes(cls, data: bytes) -> SharePaper:
        """InputError when this is no share of a seed."""
        try:
            plain = parse_strict(data, limit=1 << 20)
            if plain.pop("format", None) != SHARE_FORMAT or plain.keys() != set(cls.__slots__):
                raise CanonicalError("other fields than a share has")
            texts = [plain[name] for name in cls.__slots__ if name != "design"]
            if not all(isinstance(text, str) for text in texts):
                raise CanonicalError("a text was expected")
            secrets = {name: bytes.fromhex(plain[name]) for name in ("share", "salt")}
            if any(len(secret) != 32 for secret in secrets.values()):
                raise CanonicalError("a share and a salt have 32 bytes")
            # typed from paper, in capitals too; what is disclosed of it has one form
            return cls(**plain | {name: secret.hex() for name, secret in secrets.items()})
        except (CanonicalError, ValueError, TypeError) as error:
            raise InputError(
                "share", f"this is no share of a seed: {error}", "Give a file of `allocator share`."
            ) from error


class ContinuityService(SetupService):
    """What keeps a study going after something was lost."""

    # ---- time ---------------------------------------------------------------------------------------------------

    def set_clock(self, actor: Actor, reason: str) -> Record:
        """Let time go on from a clock that is right and behind the log; Refused when it is not behind (L05)."""

        def build(now: datetime) -> Draft:
            last = self._store.last()
            if last is not None and now >= last.time - allocation.CLOCK_TOLERANCE:
                raise Refused("clock-right", "the clock is not behind the log: nothing stops", "Nothing is needed.")
            return Draft(kind="clock-set", details=reason_detail(reason))

        return self._writer.write(actor, "clock-set", build)

    # ---- backups ------------------------------------------------------------------------------------------------

    def backup(self, actor: Actor, file: Path) -> tuple[Manifest, Record]:
        """Write a backup, then record it by the SHA-256 of its file (R03); the record is not in the backup itself."""
        from allocator.backup import write_backup  # tar and threads: not on the way of a reveal

        self.check_may(actor, "backed-up")
        manifest, digest = write_backup(self.place, file, self._clock())
        draft = Draft(kind="backed-up", fields={"backup": digest})
        return manifest, self._writer.write(actor, "backed-up", lambda _: draft)

    def check_may(self, actor: Actor, kind: str) -> None:
        """Refused, and the refusal recorded, unless this person may write a record of this kind."""
        check_here(self._store.last())
        try:
            self._writer.check_role(actor, kind)
        except Refused as refusal:
            self._writer.refuse(actor, kind, refusal, None)
            raise

    def state_loss(
        self, actor: Actor, reason: str, *, backup: str | None, missing: str, lost: Mapping[str, Any] | None
    ) -> Record:
        """State that this log was put back in time; unless it is known that nothing is missing, allocation stops."""

        def build(_: datetime) -> Draft:
            before = recovery.state_before(self.history)
            stays = missing == "none" and self.history.state != "recovering"
            fields = {
                "backup": backup,
                "missing": missing,
                "lost": lost,
                "before": before,
                "state": before if stays else "recovering",
            }
            return Draft(kind="restored", fields=fields, details=reason_detail(reason))

        return self._writer.write(actor, "restored", build)

    # ---- recovery -----------------------------------------------------------------------------------------------

    def recover(
        self,
        actor: Actor,
        reason: str,
        *,
        receipts: Sequence[Mapping[str, Any]] = (),
        places: Mapping[Place, str | None] | None = None,
        none_used: bool = False,
    ) -> tuple[Record, list[dict[str, Any]]]:
        """The sponsor states a loss; then the statistician ends it. Returns the last record and what was reserved.

        Args:
            actor: the sponsor first, then the statistician; either may give receipts.
            reason: recorded.
            receipts: {"prev", "body"} of each lost allocation.
            places: positions that may have been used, each with its participant, or None where nobody knows whose.
            none_used: the statistician states that none was used beyond the receipts.
        """
        person = self.history.person(actor.person)
        concludes = person is not None and Role.STATISTICIAN in person.roles
        self.check_may(actor, "recovered" if concludes else "restored")
        record: Record | None = None
        if self.history.state != "recovering":
            self._check_sponsor_first(actor, concludes=concludes)
            missing, lost = self.known_loss()
            # a log that reaches its head is put back by who states it: with the head, by a restored machine
            record = self.state_loss(
                actor, reason, backup=None, missing="known" if missing == "known" else "unknown", lost=lost
            )
            concludes = False
        originals = sorted((recovery.original_record(dict(r)) for r in receipts), key=lambda r: int(r.fields["number"]))
        for original in originals:
            record = self._enter_receipt(actor, original) or record
        if concludes:
            return self._conclude(actor, reason, places or {}, none_used=none_used)
        if record is None:
            raise Refused(
                "stated-already",
                "the loss is stated already",
                "The statistician ends the recovery: allocator --as STATISTICIAN recover --reason TEXT.",
            )
        return record, []

    def _check_sponsor_first(self, actor: Actor, *, concludes: bool) -> None:
        person = self.history.person(actor.person)
        if concludes and person is not None and Role.SPONSOR not in person.roles:
            raise Refused(
                "sponsor-first",
                "no loss is stated: there is nothing to recover from",
                "If records are missing, the sponsor states it first: allocator --as SPONSOR recover --reason TEXT.",
            )

    def _enter_receipt(self, actor: Actor, original: Record) -> Record | None:
        """One lost allocation from its receipt; None when the log holds it."""
        known = self.history.allocation(original.fields["participant"])
        if known is not None and (known.hash == original.hash or _original_hash(known) == original.hash):
            return None
        draft = Draft(kind="receipt-entered", fields=recovery.proved_fields(original))
        participant = str(original.fields["participant"])
        return self._writer.write(actor, "receipt-entered", lambda _: draft, participant=participant)

    def _conclude(
        self, actor: Actor, reason: str, places: Mapping[Place, str | None], *, none_used: bool
    ) -> tuple[Record, list[dict[str, Any]]]:
        def build(_: datetime) -> Draft:
            allocation.check_state("recovered", self.history.state)
            reserved = recovery.implied(self.history, self.study.confirmation_hours)
            known = {place: whose for place, whose in places.items() if whose is not None or place not in reserved}
            reserved |= known if places or none_used else self._may_have_been_used(reserved)
            loss = self.history.store.newest(("restored",))
            if loss is None:
                raise RuntimeError("recovering without a loss")
            by_label = {stratum_label(stratum): stratum for stratum in self.study.strata}
            items = [
                {"stratum": by_label[label], "position": position, "participant": whose}
                for (label, position), whose in sorted(reserved.items(), key=lambda item: item[0])
                if label in by_label
            ]
            fields = {
                "restored": loss.seq,
                "reserved": items,
                # each of them may have been told with a number of its own
                "number": self.history.last_number + len(items),
                "allocated": recovery.count_allocations(self.history),
                "state": loss.fields["before"],
            }
            return Draft(kind="recovered", fields=fields, details=reason_detail(reason))

        record = self._writer.write(actor, "recovered", build)
        return record, list(record.fields["reserved"])

    def _may_have_been_used(self, reserved: Mapping[Place, str | None]) -> dict[Place, str | None]:
        """As many of the next entries of each stratum as the records lost could have used; Refused when unknown.

        A lost allocation on an entry that no record left binds took two records: its confirmation and its own.
        """
        count = recovery.lost_allocations(self.history)
        if count is None:
            raise Refused(
                "not-stated",
                "nobody knows how many records are missing, so what may have been used must be stated",
                "Ask every site. Then give each entry with --position STRATUM=N, or --none-used if there is none.",
            )
        sealed = self._sealed() if count else None
        places: dict[Place, str | None] = {}
        for stratum in sealed.strata if sealed else ():
            free = (
                position
                for position in range(len(stratum.entries))
                if not self.history.is_allocated(stratum.label, position)
                and (stratum.label, position) not in reserved
                and (stratum.label, position) not in self.history.reserved
            )
            places |= {(stratum.label, position): None for position, _ in zip(free, range(count), strict=False)}
        return places

    # ---- a lost list --------------------------------------------------------------------------------------------

    def copy_share(self, actor: Actor) -> tuple[Record, SharePaper]:
        """One's own share of the seed, to be kept on paper; that it was taken is recorded first (C02, L06)."""

        def build(_: datetime) -> Draft:
            allocation.check_state("share-copied", self.history.state)
            return Draft(kind="share-copied", fields={"sealing": self._required_sealed().sealing.hex()})

        record = self._writer.write(actor, "share-copied", build)
        return record, self._own_share(actor)

    def _own_share(self, actor: Actor) -> SharePaper:
        sealed = self._required_sealed()
        envelope = next(share.envelope for share in sealed.shares if share.person == actor.person)
        info = context("share", self.study.fingerprint, sealed.sealing, actor.person)
        plain = parse_strict(unpadded(open_sealed(actor.keys.opening, bytes.fromhex(envelope), info)), limit=1 << 20)
        return SharePaper(study=self.study.id, sealing=sealed.sealing.hex(), person=actor.person, **plain)

    def reseal(self, actor: Actor, papers: Sequence[SharePaper], reason: str) -> Record:
        """Seal the same list again from both shares of its seed, to the same root, under new keys.

        For a sealed schedule that is lost, or whose keys are. Grants and confirmations made before it no longer hold.

        Raises:
            InputError: not two shares of one design.
            Refused, EvidenceError: not the shares of this list.
        """
        newest = self.history.sealing
        if newest is None:
            raise Refused("not-sealed", "no list was sealed", "The statistician runs `allocator generate` first.")
        commitments = newest.fields["seed_commitments"]
        of = {seed_commitment(bytes.fromhex(paper.share)).hex(): paper for paper in papers}
        shares = [of.get(commitment) for commitment in commitments]
        if None in shares or len(papers) != len(commitments):
            raise InputError(
                "shares",
                f"the {len(commitments)} shares of this list's seed are needed, each once",
                "Give the statistician's and the custodian's file of `allocator share`. Nothing was sealed.",
            )
        own = papers[0]
        if any((paper.design, paper.salt) != (own.design, own.salt) for paper in papers):
            raise InputError("shares", "the two papers state different designs", "Are both of this sealing?")
        try:
            design = RandomizationDesign.from_tables(dict(own.design)).for_study(self.study)
        except (DesignError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError("shares", f"the paper states no design: {error}", "Give the paper as printed.") from error

        def build(_: datetime) -> Draft:
            allocation.check_state("resealed", self.history.state)
            finish_renaming(self.place.sealed_file, newest.fields["sealed_digest"])
            sealed = self._seal(
                actor,
                design,
                [bytes.fromhex(paper.share) for paper in shares if paper is not None],
                sealing_id=bytes.fromhex(newest.fields["sealing"]),
                salt=bytes.fromhex(own.salt),
            )
            if sealed.root.hex() != newest.fields["root"]:
                raise EvidenceError("root", "the list drawn from these shares has another root", "Nothing was sealed.")
            fields = self._keep_until_recorded(sealed, design.algorithm, newest.fields["seed_origin"])
            return Draft(kind="resealed", fields=fields, details=reason_detail(reason))

        record = self._writer.write(actor, "resealed", build)
        self._sealed()
        return record


def _original_hash(record: Record) -> bytes | None:
    return recovery.original_record(record.fields["original"]).hash if record.kind == "receipt-entered" else None


def read_share(file: Path) -> SharePaper:
    """A paper copy from its file. InputError when it is none."""
    from allocator.home import read_input

    return SharePaper.from_bytes(read_input(file, limit=1 << 20))
