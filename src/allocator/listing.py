"""ListingService: the statistician reads the sealed list whole, and signs that it was checked (G07, L06).

The statistician who sealed the list holds both keys and could read it at any time; here reading it is a record, and
the record is durable before the first entry is opened. No arm is written to a disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from allocator import allocation, sealing
from allocator.design import RandomizationDesign, design_commitment
from allocator.envelope import context, open_sealed
from allocator.errors import AllocatorError, EvidenceError, Refused
from allocator.log import Record
from allocator.method import DesignError
from allocator.publishing import PublishingService
from allocator.schedule import StratumSchedule
from allocator.seed import Seed, draw_again
from allocator.writer import Actor, Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRead:
    """The whole list in plain, for the eyes of its statistician. Secret.

    Attributes:
        strata: in declared order; `arms` are arm indices by position, `salts` 32 bytes an entry, each pair held to
            its commitment in sealed.json.
        design: held to the design's commitment in the log, its ratio in the study's arm order.
        record: the ``list-read`` record by which it was read.
    """

    strata: tuple[StratumSchedule, ...] = field(repr=False)
    design: RandomizationDesign = field(repr=False)
    record: Record


class ListingService(PublishingService):
    """What the statistician may see before anybody else, and what the log says about it."""

    def read_list(self, actor: Actor, purpose: str) -> ListRead:
        """Open every entry in memory, after the record that says so.

        Args:
            actor: the statistician who sealed the list: nobody else holds both keys.
            purpose: one of `record_form.PURPOSES`; stands in the record.

        Raises:
            Refused: not the holder, or no list is sealed.
            EvidenceError: an entry or the design is not the one committed to.
        """

        def build(_: datetime) -> Draft:
            allocation.check_state("list-read", self.history.state)
            return Draft(kind="list-read", fields={"sealing": self._held_list(actor).sealing.hex(), "purpose": purpose})

        record = self._writer.write(actor, "list-read", build)
        sealed = self._held_list(actor)
        info = context("keys", self.study.fingerprint, sealed.sealing, actor.person)
        both = open_sealed(actor.keys.opening, bytes.fromhex(sealed.keys.envelope), info)
        return ListRead(
            strata=tuple(_opened(stratum, sealed, both[:32], both[32:]) for stratum in sealed.strata),
            design=self._sealed_design(actor),
            record=record,
        )

    def check_sign_off(self, actor: Actor) -> None:
        """Whether a list could be signed off now, asked before it is read; a refusal is recorded. Raises Refused."""
        try:
            self._writer.check_role(actor, "list-checked")
            allocation.check_state("list-checked", self.history.state)
            self._held_list(actor)
        except Refused as refusal:
            self._writer.refuse(actor, "list-checked", refusal, None)
            raise

    def sign_off(self, actor: Actor, report_digest: str, *, faults: int = 0) -> Record:
        """Sign, before activation, that the list was checked and the report of this SHA-256 (hex) found no fault."""

        def build(_: datetime) -> Draft:
            allocation.check_state("list-checked", self.history.state)
            if faults:
                raise Refused(
                    "list-faulty",
                    f"the report found {faults} fault{'s' if faults > 1 else ''} in the list",
                    "Do not activate this list. Find the cause, then `allocator generate` with a reason.",
                )
            fields = {"sealing": self._held_list(actor).sealing.hex(), "report_digest": report_digest}
            return Draft(kind="list-checked", fields=fields)

        return self._writer.write(actor, "list-checked", build)

    def drawn_again(self, read: ListRead) -> bool:
        """Whether the disclosed seed draws the list that was read; False while it is not disclosed.

        Raises:
            EvidenceError: seed.json is gone or changed, or draws another list.
        """
        newest, opened = self.history.sealing, self.history.store.newest(("opened",))
        if opened is None or newest is None:
            return False
        try:
            data = self.place.seed_file.read_bytes()
        except OSError as error:
            hint = "Restore it from a backup."
            raise EvidenceError("seed", f"seed.json cannot be read: {error.strerror}", hint) from error
        drawn = draw_again(Seed.from_bytes(data), self.study, newest)
        for own, other in zip(read.strata, drawn.strata, strict=True):
            if (own.label, own.arms, own.salts) != (other.label, other.arms, other.salts):
                raise EvidenceError(
                    "seed", f"the list of stratum {own.label} is not the one the seed draws", "Run `allocator verify`."
                )
        return True

    def list_checked(self) -> Record | None:
        """The newest ``list-checked`` record of the list as it is sealed now, or None: nobody signed."""
        newest, checked = self.history.sealing, self.history.store.newest(("list-checked",))
        if newest is None or checked is None or checked.fields["sealing"] != newest.fields["sealing"]:
            return None
        return checked

    def holds_list(self, person_id: str | None) -> bool:
        """Whether this person is the statistician who sealed the list, and so can read it."""
        newest = self.history.sealing
        return newest is not None and newest.fields["holders"][0] == person_id

    def _held_list(self, actor: Actor) -> sealing.SealedSchedule:
        """The sealed schedule, for who holds its keys."""
        sealed = self._required_sealed()
        if sealed.keys.person != actor.person:
            raise Refused(
                "not-the-holder",
                f"{sealed.keys.person} sealed this list and holds its keys; nobody else can read it",
                f"Ask {sealed.keys.person}. Without --as, `allocator balance` shows what everybody may see.",
            )
        return sealed

    def _sealed_design(self, actor: Actor) -> RandomizationDesign:
        """The design out of the own share's envelope, held to its commitment in the log."""
        newest, own = self.history.sealing, self._own_share(actor)
        try:
            design = RandomizationDesign.from_tables(dict(own.design)).for_study(self.study)
            committed = design_commitment(design, bytes.fromhex(own.salt)).hex()
        except (AllocatorError, DesignError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise EvidenceError("design", f"the sealed design is none of this study: {error}") from error
        if newest is None or committed != newest.fields["design_commitment"]:
            raise EvidenceError(
                "design",
                "the sealed design is not the one committed to",
                "Run `allocator verify`; the list is not to be used.",
            )
        return design


def _opened(
    stratum: sealing.SealedStratum, sealed: sealing.SealedSchedule, key_p: bytes, key_i: bytes
) -> StratumSchedule:
    """Every entry of a stratum, each held to its commitment."""
    arms, salts, label = bytearray(), bytearray(), stratum.label
    for position in range(len(stratum.entries)):
        half_p, half_i = (sealing.half_key(key, sealed.sealing, label, position) for key in (key_p, key_i))
        arm, salt = sealing.open_entry(stratum, position, half_p, half_i, sealed.fingerprint, sealed.sealing)
        arms.append(arm)
        salts += salt
    return StratumSchedule(label=label, stratum=stratum.stratum, arms=bytes(arms), salts=bytes(salts))
