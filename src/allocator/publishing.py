"""PublishingService: what leaves the building. Checkpoints, receipts, the opening of the list, reviews of the trail.

Nothing here is needed for an allocation; all of it lets somebody else check one without our word (docs/spec.md §16–18).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from allocator import allocation, sealing
from allocator.canonical import format_time
from allocator.checkpoint import Checkpoint, consistency_text, origin_of, sign_checkpoint, verifier_key
from allocator.continuity import ContinuityService, SharePaper
from allocator.errors import AllocatorError, CredentialError, EvidenceError, InputError, Refused, StorageError
from allocator.export import certificate_bytes
from allocator.home import is_file, sync_folder, write_durably
from allocator.log import ALLOCATION_KINDS, Record
from allocator.merkle import Tree, WholeTree, consistency_proof, root
from allocator.receipt import Receipt, arm_words, file_name, parse_receipt
from allocator.recovery import original_record
from allocator.seed import Seed, check_opening
from allocator.session import require_text
from allocator.study import stratum_label
from allocator.writer import Actor, Draft


class PublishingService(ContinuityService):
    """Evidence for those who trust neither us nor our program."""

    _log_key: tuple[bytes, Ed25519PrivateKey] | None = None  # by its public half
    _schedule_tree: tuple[bytes, WholeTree] | None = None  # by the root; made from sealed.json, never read from a disk

    # ---- checkpoints --------------------------------------------------------------------------------------------

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        """The log's signed head: of all its records, or of the first `size`.

        A log must never sign two heads that do not follow from each other (C2SP tlog-checkpoint).

        Raises:
            EvidenceError: the log is behind its head, or was changed.
            InputError: the log has fewer records.
        """
        self._writer.check_head()
        self.history.follow()
        tree = self.history.tree
        if size is None or size == tree.size:
            return self.signed_head(tree.size, tree.root())
        if not 1 <= size <= tree.size:
            raise InputError(
                "size",
                f"a checkpoint of {size} records, where the log has {tree.size}",
                "Leave --size away for all of them.",
            )
        return self.signed_head(size, root(self.history.hashes(size)))

    def verifier_key(self) -> str:
        """The log's public key as readers of signed notes take it."""
        return verifier_key(*self._identity(self._opening()))

    def consistency(self, older: Checkpoint, size: int | None = None) -> str:
        """A newer checkpoint, of all records or the first `size`, with the proof that the older log is its beginning.

        Raises:
            EvidenceError: it is not: the older one is of another log, or this log lost or changed records.
        """
        newer = self.checkpoint(size)
        if size is not None and older.size > size:
            said = f"there is no proof from {older.size} records to {size}"
            raise InputError("size", said, "Give a --size from the older one on, or none.")
        leaves = self.history.hashes(newer.size)
        if older.origin != newer.origin or older.size > newer.size or root(leaves[: older.size]) != older.root:
            raise EvidenceError(
                "checkpoint",
                f"this log does not begin with the {older.size} records of that checkpoint",
                "It is another log, or this one lost or changed records. Run `allocator verify --checkpoint FILE`.",
            )
        return consistency_text(older.size, consistency_proof(leaves, older.size), newer)

    def signed_head(self, size: int, root_: bytes) -> Checkpoint:
        """A checkpoint of the first records. CredentialError when log.key is not the key named in record 0."""
        return self._signed_by(self._opening(), size, root_)

    def _signed_by(self, opening: Record, size: int, root_: bytes) -> Checkpoint:
        origin, public = self._identity(opening)
        return sign_checkpoint(origin, size, root_, self._log_key_of(public), public)

    def _log_key_of(self, public: bytes) -> Ed25519PrivateKey:
        """The log's own key, read once: a log never has another."""
        if self._log_key is None or self._log_key[0] != public:
            key = self._keys.read_log_key()
            if key.public_key().public_bytes_raw() != public:
                hint = "Restore keys/ from a backup."
                raise CredentialError("log-key", "log.key is not the key named in record 0", hint)
            self._log_key = public, key
        return self._log_key[1]

    def first_hash(self) -> bytes:
        """Hash of record 0."""
        return self._opening().hash

    def _opening(self) -> Record:
        if (opening := self.history.opening) is None:
            raise EvidenceError("empty-log", "the log is empty: its records are gone", "Restore it from a backup.")
        return opening

    def _identity(self, opening: Record) -> tuple[str, bytes]:
        """The log's origin and its public key."""
        return origin_of(self.study.id, opening.hash), bytes.fromhex(opening.fields["log_key"])

    # ---- receipts -----------------------------------------------------------------------------------------------

    def receipt(self, record: Record) -> Receipt:
        """The receipt of an allocation: the same bytes whenever it is made.

        Its checkpoint ends with its own record, so whoever has just written that record has the proof at hand.
        """
        tree, proof = self.history.tree, self.history.last_path
        if tree.size != record.seq + 1:
            tree = Tree()
            for leaf in self.history.hashes(record.seq):
                tree.append(leaf)
            proof = tree.next_path()
            tree.append(record.hash)
        return self._receipt(record, proof, tree.root())

    def all_receipts(self, until: int) -> Iterator[Receipt]:
        """The receipt of each allocation up to a record, in one pass over the log."""
        tree = Tree()
        for record in self.history.store.records():
            if record.seq > until:
                return
            proof = tree.next_path()
            tree.append(record.hash)
            if record.kind in ALLOCATION_KINDS:
                yield self._receipt(record, proof, tree.root())

    def _receipt(self, record: Record, proof: Sequence[bytes], head: bytes) -> Receipt:
        fields, opening = record.fields, self._opening()
        person, sealed = self.history.person(fields["person"]), self._required_sealed()
        if person is None:
            raise EvidenceError("person", f"{fields['person']} is no person of this log", "Run `allocator verify`.")
        index = sealing.leaf_index(sealed.strata, stratum_label(fields["stratum"]), fields["position"])
        return Receipt(
            record=record,
            sign_key=person.sign_key,
            fingerprint=self.study.fingerprint,
            first=opening.hash,
            log_key=bytes.fromhex(opening.fields["log_key"]),
            root=sealed.root,
            path=tuple(self._tree_of(sealed).path(index)),
            arm=arm_words(self.study.arms[fields["arm"]]),
            copy=None,
            proof=tuple(proof),
            checkpoint=self._signed_by(opening, record.seq + 1, head),
        )

    def _tree_of(self, sealed: sealing.SealedSchedule) -> WholeTree:
        if self._schedule_tree is None or self._schedule_tree[0] != sealed.root:
            self._schedule_tree = sealed.root, WholeTree(sealing.schedule_leaves(sealed.strata))
        return self._schedule_tree[1]

    def keep_receipt(self, record: Record) -> Path:
        """Write the receipt of an allocation beside the log, once; not synced, for it can be made again.

        One that a crash left half written, or that is of another record, is made again.

        Raises:
            OSError, AllocatorError: it could not be made or written; the allocation stands.
        """
        path = self.place.receipts / file_name(record)
        if not _is_receipt_of(path, record):
            if not path.parent.is_dir():
                path.parent.mkdir(exist_ok=True)
            unfinished = path.with_name(f".{path.name}.{os.getpid()}")
            unfinished.write_bytes(self.receipt(record).to_bytes())
            unfinished.replace(path)
        return path

    def copy_receipt(self, actor: Actor, participant: str) -> Receipt:
        """A participant's receipt made again, marked as a copy and recorded (A10)."""

        receipts: list[Receipt] = []

        def build(_: datetime) -> Draft:
            record = self.history.allocation(participant)
            if record is None:
                raise Refused("not-allocated", f"{participant} has no allocation", "Look with `allocator show`.")
            receipts.append(self.receipt(record))  # one that cannot be made is not recorded as made
            return Draft(kind="receipt-copied", fields={"participant": participant, "allocation": record.seq})

        copied = self._writer.write(actor, "receipt-copied", build, participant=participant)
        return receipts[-1].as_copy(copied)

    # ---- the opening of the list --------------------------------------------------------------------------------

    def open_list(self, actor: Actor, paper: SharePaper | None = None) -> tuple[Record, Seed | None]:
        """Give one's share of the seed; with the last share the list is drawn again and compared (U05, C06).

        Args:
            actor: a holder of a share, in a study that is closed.
            paper: the paper copy of the own share, where the sealed one cannot be opened any more.

        Returns:
            The record, and the seed once it is disclosed; None while the other share is missing.

        Raises:
            Refused: not closed, or no holder.
            EvidenceError: the list drawn again is not the sealed one; nothing is disclosed.
        """
        seeds: list[Seed] = []
        written: list[Path] = []

        def build(_: datetime) -> Draft:
            newest = self.history.sealing
            allocation.check_state("opened", self.history.state)
            if newest is None:
                raise Refused("not-sealed", "no list was sealed")
            holders = newest.fields["holders"]
            if actor.person not in holders:
                raise Refused(
                    "no-share",
                    f"{actor.person} holds no share of the seed of this list",
                    f"Its shares are held by {' and '.join(holders)}.",
                )
            own = paper or self._own_share(actor)
            papers = {person: self._given_share(person, newest) for person in holders if person != actor.person}
            self._check_share(own, holders.index(actor.person), newest)
            if None in papers.values():
                data = own.to_bytes()
                written.append(self.place.share_file(actor.person))
                write_durably(written[-1], data, mode=0o600)
                fields = {"sealing": own.sealing, "share_digest": hashlib.sha256(data).hexdigest()}
                return Draft(kind="share-given", fields=fields)
            shares = [own if person == actor.person else papers[person] for person in holders]
            seed = self._disclosed([share for share in shares if share is not None], newest)
            seeds.append(seed)
            written.append(self.place.next_seed_file)
            write_durably(written[-1], seed.to_bytes(), mode=0o600)
            digest = hashlib.sha256(seed.to_bytes()).hexdigest()
            return Draft(
                kind="opened",
                fields={"sealing": seed.sealing, "root": newest.fields["root"], "seed_digest": digest},
            )

        self.check_may(actor, "opened")
        try:
            record = self._writer.write(actor, "opened", build)
        except StorageError as error:
            if error.code != "unknown":  # then the record may stand, and the file with it
                _remove(written)
            raise
        except AllocatorError:
            _remove(written)
            raise
        self.finish_opening()
        return record, seeds[-1] if seeds else None

    def finish_opening(self) -> None:
        """Give the waiting seed its name, when it is the one whose digest is in the log (docs/spec.md §15.5)."""
        opened = self.history.store.newest(("opened",))
        waiting = self.place.next_seed_file
        if opened is None or not is_file(waiting):
            return
        if hashlib.sha256(waiting.read_bytes()).hexdigest() == opened.fields["seed_digest"]:
            waiting.chmod(0o644)
            waiting.replace(self.place.seed_file)
            sync_folder(self.place.schedules)

    def _given_share(self, person: str, newest: Record) -> SharePaper | None:
        """The share that another holder gave, held to their record; None when they have given none."""
        given = [
            r for r in self.history.store.records(("share-given",), since=newest.seq) if r.fields["person"] == person
        ]
        if not given:
            return None
        try:
            data = self.place.share_file(person).read_bytes()
        except OSError as error:
            raise EvidenceError(
                "share-file", f"the share that {person} gave cannot be read: {error.strerror}", "They give it again."
            ) from error
        if hashlib.sha256(data).hexdigest() not in [record.fields["share_digest"] for record in given]:
            raise EvidenceError("share-file", f"the share that {person} gave was changed", "They give it again.")
        return SharePaper.from_bytes(data)

    def _check_share(self, own: SharePaper, index: int, newest: Record) -> None:
        committed = sealing.seed_commitment(bytes.fromhex(own.share)).hex()
        if (own.sealing, committed) != (newest.fields["sealing"], newest.fields["seed_commitments"][index]):
            raise EvidenceError("share", "this is not the share committed to", "Give your own share of this list.")

    def _disclosed(self, shares: list[SharePaper], newest: Record) -> Seed:
        own = shares[0]
        if any((share.design, share.salt) != (own.design, own.salt) for share in shares):
            raise EvidenceError("shares", "the two shares state different designs", "Are both of this sealing?")
        seed = Seed(
            study=self.study.id,
            sealing=newest.fields["sealing"],
            shares=tuple(share.share for share in shares),
            design=own.design,
            salt=own.salt,
        )
        check_opening(seed, self.study, newest, self._required_sealed())
        return seed

    # ---- reviews and exports ------------------------------------------------------------------------------------

    def review(self, actor: Actor, since: datetime, until: datetime, findings: str) -> Record:
        """That the trail of a period was reviewed, with what was found (L08)."""
        require_text("findings", findings)
        if since > until:
            raise InputError("period", "the period ends before it begins", "Give --from and --to in this order.")

        def build(_: datetime) -> Draft:
            fields = {"since": format_time(since), "until": format_time(until)}
            return Draft(kind="reviewed", fields=fields, details={"findings": findings})

        return self._writer.write(actor, "reviewed", build)

    @contextmanager
    def exporting(self, actor: Actor, scope: str) -> Iterator[Record]:
        """Record that an export is made, first, so that it stands in the export itself (L06).

        Nobody else writes until the context is left.
        """
        draft = Draft(kind="exported", fields={"scope": scope})
        with self._writer.writing(actor, "exported", lambda _: draft) as record:
            yield record

    def certificate(self, actor: Actor, exported: Record, manifest: bytes) -> bytes:
        """The signed statement that the files of a manifest are a true copy (R01; spec §18.3)."""
        return certificate_bytes(
            study=self.study.id,
            manifest=manifest,
            exported=exported,
            time=format_time(max(self._clock(), exported.time)),
            sign=actor.keys.signing.sign,
        )


def _is_receipt_of(path: Path, record: Record) -> bool:
    """Whether a regular file is there that holds this record; a pipe is not waited for, another receipt not kept."""
    try:
        return is_file(path) and parse_receipt(path.read_bytes()).made.hash == _made(record)
    except (OSError, EvidenceError):
        return False


def _made(record: Record) -> bytes:
    """Hash of the record by which an allocation was made: the lost one where it was entered from its receipt."""
    return original_record(record.fields["original"]).hash if "original" in record.fields else record.hash


def _remove(files: Sequence[Path]) -> None:
    """What was written for a record that was not: no share and no seed stays behind."""
    for file in files:
        file.unlink(missing_ok=True)
