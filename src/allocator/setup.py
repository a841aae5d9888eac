"""SetupService: the acts that prepare and steer a study: people, decisions, the sealed list, its states."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from allocator import allocation, sealing
from allocator.canonical import canonical_bytes
from allocator.case import code_digest
from allocator.design import RandomizationDesign
from allocator.envelope import context, open_sealed, padded, seal_to
from allocator.errors import CredentialError, InputError, Refused
from allocator.home import write_durably
from allocator.imported_list import source_digest
from allocator.keys import PrivateKeys
from allocator.log import Record
from allocator.person import Role, roles_of
from allocator.schedule import generate_schedule
from allocator.session import (
    StudySession,
    check_passphrase,
    finish_renaming,
    next_file,
    reason_detail,
    require_id,
    require_text,
)
from allocator.text import shown
from allocator.writer import Actor, Draft

_CODE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # 32 characters, none mistaken for another


class SetupService(StudySession):
    """What sponsor and statistician do, and what each person does for themselves."""

    # ---- sponsor ----------------------------------------------------------------------------------------------

    def add_person(self, actor: Actor, person_id: str, name: str, roles: Sequence[str]) -> tuple[Record, str]:
        """Invite a person; returns the record and the one-time code to hand over."""
        require_id(person_id)
        require_text("name", name)
        code = one_time_code(self._entropy)
        digest = code_digest(self.study.fingerprint, person_id, code)

        def build(_: datetime) -> Draft:
            fields = {"added": person_id, "roles": [str(r) for r in roles_of(roles)], "code_digest": digest}
            return Draft(kind="person-added", fields=fields, details={"name": name})

        return self._writer.write(actor, "person-added", build), code

    def deactivate_person(self, actor: Actor, person_id: str, reason: str) -> Record:
        """The person may no longer act; nothing of theirs is removed."""
        require_id(person_id)
        draft = Draft(kind="person-deactivated", fields={"deactivated": person_id}, details=reason_detail(reason))
        return self._writer.write(actor, draft.kind, lambda _: draft)

    def decide(self, actor: Actor, finding: str, reading: str, reason: str) -> Record:
        """The signed decision on a finding recorded when the study was opened."""
        require_id(finding)
        require_text("reading", reading)
        draft = Draft(
            kind="decided", fields={"finding": finding}, details={"reading": reading, **reason_detail(reason)}
        )
        return self._writer.write(actor, draft.kind, lambda _: draft)

    def activate(self, actor: Actor, deposit: str) -> Record:
        """Start allocation; `deposit` says where the root and record 0's hash were put outside."""
        require_text("deposit", deposit)

        def build(_: datetime) -> Draft:
            newest = self.history.sealing
            if newest is None:
                raise Refused("not-sealed", "no list is sealed", "The statistician runs `allocator generate` first.")
            fields = {"sealing": newest.fields["sealing"], "root": newest.fields["root"]}
            return Draft(kind="activated", fields=fields, details={"deposit": deposit})

        return self._writer.write(actor, "activated", build)

    def change_state(self, actor: Actor, kind: str, reason: str) -> Record:
        """Pause, resume or close: kind ``paused``, ``resumed`` or ``closed``."""
        draft = Draft(kind=kind, details=reason_detail(reason))

        def build(_: datetime) -> Draft:
            if kind == "resumed":
                self.check_undisclosed()
            return draft

        return self._writer.write(actor, kind, build)

    # ---- one's own keys ---------------------------------------------------------------------------------------

    def enrol(self, person_id: str, code: str, passphrase: Callable[[], str]) -> Record:
        """Make one's own keys under one's own passphrase. A wrong code is recorded and refused."""
        person = self.history.person(person_id)
        if person is None or not person.active:
            self._writer.write_failure(None, "person-enrolled", "unknown-person")
            raise CredentialError(
                "unknown-person", f"{shown(person_id)} was not invited to this study", "Ask the sponsor."
            )
        if person.enrolled:
            self._writer.write_failure(person_id, "person-enrolled", "enrolled-already")
            raise Refused(
                "enrolled-already",
                f"{person_id} is enrolled already",
                "If it was not you who enrolled, tell the sponsor and the auditor at once: somebody used your code.",
            )
        code = code.strip().upper()
        well_formed = code.isascii() and len(code) <= 40
        if not well_formed or code_digest(self.study.fingerprint, person_id, code) != person.code_digest:
            self._writer.write_failure(person_id, "person-enrolled", "wrong-code")
            raise CredentialError("wrong-code", "this is not the one-time code of this person", "Ask the sponsor.")
        secret = passphrase()
        check_passphrase(secret, self.mode)
        keys = PrivateKeys.from_entropy(self._entropy(64))
        key_file = self._keys.sealed_keys(self.study.id, person_id, keys, secret, self._entropy)
        fields = {"sign_key": keys.sign_key.hex(), "seal_key": keys.seal_key.hex(), "code": code}

        def build(_: datetime) -> Draft:
            now = self.history.person(person_id)
            if now is None or now.enrolled:
                raise Refused("enrolled-already", f"{person_id} is enrolled already", "Sign with your passphrase.")
            # The key file first, under the lock: a record without it would bind the person to keys nobody has.
            self._keys.keep(person_id, key_file)
            return Draft(kind="person-enrolled", fields=fields)

        return self._writer.write(Actor(person=person_id, keys=keys), "person-enrolled", build)

    def change_passphrase(self, actor: Actor, passphrase: Callable[[], str]) -> Record:
        """Encrypt one's keys under another passphrase; recorded first, so that no change goes unrecorded."""
        secret = passphrase()
        check_passphrase(secret, self.mode)
        record = self._writer.write(actor, "passphrase-changed", lambda _: Draft(kind="passphrase-changed"))
        self._keys.write(self.study.id, actor.person, actor.keys, secret, self._entropy)
        return record

    # ---- statistician -----------------------------------------------------------------------------------------

    def generate(
        self, actor: Actor, design: RandomizationDesign, *, reason: str = "", seeds: Sequence[bytes] = ()
    ) -> Record:
        """Draw the seed, generate, seal, commit. No arm leaves this call, and none reaches a disk in plain."""
        return self._generate(actor, "generated", lambda _: Draft(kind="generated"), design, reason, seeds)

    def import_list(
        self, actor: Actor, design: RandomizationDesign, *, origin: str, source: bytes, reason: str = ""
    ) -> Record:
        """Seal a list made elsewhere like our own; `origin` says where, `source` is its file as it came."""
        require_text("origin", origin)

        def draft(salt: bytes) -> Draft:
            fields = {"source_digest": source_digest(salt, source)}
            return Draft(kind="imported", fields=fields, details={"origin": origin})

        return self._generate(actor, "imported", draft, design, reason, ())

    def _generate(
        self,
        actor: Actor,
        kind: str,
        draft: Callable[[bytes], Draft],  # what stands in the record beside the sealing, by the salt of the design
        design: RandomizationDesign,
        reason: str,
        seeds: Sequence[bytes],
    ) -> Record:
        """sealed.json is written beside the old one first and takes its name after the commit.

        `_sealed` finishes the renaming after a crash between the two.
        """
        design = design.for_study(self.study)
        if seeds and (len(seeds) != 2 or any(len(seed) != 32 for seed in seeds)):
            raise InputError("seed", "--seed takes 64 hexadecimal digits, twice: one for each share of the seed")
        if reason:
            require_text("reason", reason)

        def build(_: datetime) -> Draft:
            allocation.check_state(kind, self.history.state)
            if seeds and self.mode != "test":
                raise Refused("seed-given", "a given seed is for mode test only", "Leave --seed away.")
            newest = self.history.sealing
            if newest is not None:
                # a crash may have left the list that is in the log under the name written to below
                finish_renaming(self.place.sealed_file, newest.fields["sealed_digest"])
                if not reason:  # a rule says so too; said here, nothing is written before it
                    raise Refused(
                        "reason-missing",
                        "a list was generated before; another one needs a reason",
                        "Add --reason TEXT.",
                    )
            shares = list(seeds) or [self._entropy(32), self._entropy(32)]
            sealing_id, salt = self._entropy(16), self._entropy(32)
            sealed, own = self._seal(actor, design, shares, sealing_id=sealing_id, salt=salt), draft(salt)
            fields = self._keep_until_recorded(sealed, design.algorithm, "given" if seeds else "system")
            return Draft(
                kind=kind,
                fields={**fields, **own.fields},
                details={**own.details, **({"reason": reason} if reason else {})},
            )

        record = self._writer.write(actor, kind, build)
        self._sealed()
        return record

    def _keep_until_recorded(self, sealed: sealing.SealedSchedule, algorithm: str, seed_origin: str) -> dict[str, Any]:
        """Write the file beside the one that counts, and give the fields of its record."""
        data = sealed.to_bytes()
        write_durably(next_file(self.place.sealed_file), data)
        return {
            "sealing": sealed.sealing.hex(),
            "algorithm": algorithm,
            "root": sealed.root.hex(),
            "sealed_digest": hashlib.sha256(data).hexdigest(),
            "design_commitment": sealed.design_commitment.hex(),
            "seed_commitments": [share.commitment for share in sealed.shares],
            "holders": [share.person for share in sealed.shares],
            "seed_origin": seed_origin,
        }

    def _seal(
        self, actor: Actor, design: RandomizationDesign, shares: Sequence[bytes], *, sealing_id: bytes, salt: bytes
    ) -> sealing.SealedSchedule:
        """The sealed schedule of this seed, under keys of its own that nobody had before."""
        custodian = next(
            (p for p in self.history.people.values() if Role.CUSTODIAN in p.roles and p.enrolled and p.active), None
        )
        if custodian is None:
            raise Refused(
                "no-custodian",
                "no enrolled custodian can hold the second share of the seed",
                "The sponsor adds one, someone outside the trial team, who then enrols.",
            )
        schedule = generate_schedule(self.study, design, salt, shares)
        key_p, key_i = self._entropy(32), self._entropy(32)
        nonces = self._entropy(12 * sum(len(stratum.arms) for stratum in schedule.strata))
        strata, root = sealing.seal_schedule(schedule, self.study.fingerprint, sealing_id, key_p, key_i, nonces)
        holders = ((actor.person, actor.keys.seal_key), (custodian.id, custodian.seal_key))
        envelopes = []
        for (person, public_key), share in zip(holders, shares, strict=True):
            plain = canonical_bytes({"share": share.hex(), "design": design.plain(), "salt": salt.hex()})
            info = context("share", self.study.fingerprint, sealing_id, person)
            envelopes.append(
                sealing.Envelope(
                    person=person,
                    commitment=sealing.seed_commitment(share).hex(),
                    envelope=seal_to(public_key, padded(plain), info).hex(),
                )
            )
        info = context("keys", self.study.fingerprint, sealing_id, actor.person)
        return sealing.SealedSchedule(
            study=self.study.id,
            fingerprint=self.study.fingerprint,
            sealing=sealing_id,
            design_commitment=schedule.design_commitment,
            root=root,
            strata=strata,
            shares=tuple(envelopes),
            keys=sealing.Envelope(
                person=actor.person,
                commitment="",
                envelope=seal_to(actor.keys.seal_key, key_p + key_i, info).hex(),
            ),
        )

    def grant(self, actor: Actor, person_id: str) -> Record:
        """Give a pharmacist K_p or an investigator K_i, sealed to that person's key."""
        require_id(person_id)

        def build(_: datetime) -> Draft:
            allocation.check_state("granted", self.history.state)
            sealed, grantee = self._required_sealed(), self.history.person(person_id)
            role = next(
                (r for r in (grantee.roles if grantee else ()) if r in (Role.PHARMACIST, Role.INVESTIGATOR)), None
            )
            if grantee is None or role is None or not grantee.enrolled:
                raise Refused(
                    "cannot-grant",
                    f"{person_id} is no enrolled pharmacist or investigator of this study",
                    "Only pharmacists and investigators are granted a half, after they have enrolled.",
                )
            half = self._half_to_grant(actor, role, sealed)
            info = context("grant", self.study.fingerprint, sealed.sealing, person_id)
            fields = {
                "grantee": person_id,
                "half": str(role),
                "sealing": sealed.sealing.hex(),
                "envelope": seal_to(grantee.seal_key, half, info).hex(),
            }
            return Draft(kind="granted", fields=fields)

        return self._writer.write(actor, "granted", build)

    def _half_to_grant(self, actor: Actor, role: Role, sealed: sealing.SealedSchedule) -> bytes:
        """K_p or K_i: from both keys for the statistician who sealed the list, one's own for who was granted it."""
        if sealed.keys.person == actor.person:
            info = context("keys", self.study.fingerprint, sealed.sealing, actor.person)
            both = open_sealed(actor.keys.opening, bytes.fromhex(sealed.keys.envelope), info)
            return both[:32] if role == Role.PHARMACIST else both[32:]
        person = self.history.person(actor.person)
        if person is not None and role in person.roles:
            return self._granted_key(actor, sealed)
        raise Refused(
            "not-the-holder",
            f"{sealed.keys.person} sealed this list and holds its keys; others pass on their own half only",
            f"Ask {sealed.keys.person}, or a granted {role}.",
        )


def one_time_code(entropy: Callable[[int], bytes]) -> str:
    """100 random bits in five groups of four characters, to read over a telephone."""
    number = int.from_bytes(entropy(13), "big")
    characters = [_CODE_ALPHABET[(number >> (5 * i)) & 31] for i in range(20)]
    return "-".join("".join(characters[i : i + 4]) for i in range(0, 20, 4))
