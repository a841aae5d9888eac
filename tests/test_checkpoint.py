"""Checkpoints: the published examples of signed notes, strict reading, and heads of a log that `openssl` verifies."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from allocator.checkpoint import (
    MAX_NOTE,
    MAX_SIGNATURES,
    Checkpoint,
    check_note,
    consistency_text,
    key_id,
    note_text,
    origin_of,
    parse_checkpoint,
    parse_hash,
    sign_checkpoint,
    verifier_key,
)
from allocator.errors import CredentialError, EvidenceError
from allocator.merkle import check_consistency, root
from allocator.person import check_ed25519
from attacks import edit
from support import STUDY_ID, Trial, TrialFactory
from test_person import FIELD, ORDER, SMALL_ORDER_Y, encodings

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
ORIGIN = f"allocator/{STUDY_ID}/00008b91a39bdeb0"
ROOT = hashlib.sha256(b"a root").digest()
NOTE = sign_checkpoint(ORIGIN, 7, ROOT, KEY, PUBLIC)


def coded(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode("ascii")


def signature_line(name: str = ORIGIN, blob: bytes = b"", mark: str = "—") -> str:
    """One signature line, by default the log's own."""
    return f"{mark} {name} {coded(blob or key_id(ORIGIN, PUBLIC) + KEY.sign(NOTE.text))}\n"


def note_of(*lines: str, text: bytes = NOTE.text) -> bytes:
    """A note with these signature lines under a text."""
    return (text.decode("ascii") + "\n" + "".join(lines)).encode("utf-8")


def assert_none(data: bytes, said: str = "this is no checkpoint") -> None:
    """This is no checkpoint, and that is said."""
    with pytest.raises(EvidenceError, match=said) as refusal:
        parse_checkpoint(data)
    assert refusal.value.code == "checkpoint"
    assert str(refusal.value).startswith("this is no checkpoint: ")


def assert_not_signed(data: bytes, public: bytes = PUBLIC) -> None:
    """It is a checkpoint, but not this log's."""
    with pytest.raises(EvidenceError) as refusal:
        check_note(parse_checkpoint(data), public)
    assert refusal.value.code == "checkpoint"


# ---- notes by others ------------------------------------------------------------------------------------------------

PUBLISHED = {
    # C2SP signed-note, "Verifier keys", Example
    "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k": (
        "This is an example message.\n",
        "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=",
    ),
    # golang.org/x/mod/sumdb/note, package documentation
    "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW": (
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n",
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=",
    ),
}


@pytest.mark.requirement("L03")
@pytest.mark.parametrize("vkey", PUBLISHED, ids=["C2SP", "sumdb"])
def test_published_verifier_keys_and_their_notes(vkey: str) -> None:
    text, signature = PUBLISHED[vkey]
    name, _, rest = vkey.partition("+")
    identity, _, key = rest.partition("+")
    public, blob = base64.b64decode(key)[1:], base64.b64decode(signature)
    assert key_id(name, public).hex() == identity == blob[:4].hex()
    assert verifier_key(name, public) == vkey
    check_ed25519(public, blob[4:], text.encode("utf-8"))


def test_the_published_checkpoint_has_our_text_and_is_of_no_log_of_ours() -> None:
    """C2SP tlog-checkpoint, introduction."""
    name, head = "example.com/behind-the-sofa", "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
    text = note_text(name, 20852163, parse_hash(head))
    assert text.decode("ascii") == f"{name}\n20852163\n{head}\n"
    blob = "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8="
    assert_none(text + f"\n— {name} {blob}\n".encode(), "of no log of this program")


@pytest.mark.requirement("L03")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
def test_openssl_verifies_the_text_of_a_note(trial: Trial, tmp_path: Path) -> None:
    """An auditor needs the note, the log's verifier key, and nothing of ours."""
    checkpoint = trial.service.checkpoint()
    public = base64.b64decode(trial.service.verifier_key().split("+", 2)[2])[1:]
    pem = Ed25519PublicKey.from_public_bytes(public).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "signature").write_bytes(checkpoint.signatures()[0][1][4:])
    text = checkpoint.note.encode("utf-8").partition(b"\n\n")[0] + b"\n"
    for said, code in ((text, 0), (text.replace(b"\n", b" ", 1), 1)):
        (tmp_path / "text").write_bytes(said)
        words = "openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in text -sigfile signature"
        done = subprocess.run(words.split(), cwd=tmp_path, capture_output=True, timeout=60, check=False)
        assert done.returncode == code, done.stdout + done.stderr


# ---- our notes ------------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 2**32),
    st.binary(min_size=32, max_size=32),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", fullmatch=True),
)
def test_a_checkpoint_is_read_as_it_was_signed(size: int, head: bytes, study: str) -> None:
    made = sign_checkpoint(origin_of(study, ROOT), size, head, KEY, PUBLIC)
    read = parse_checkpoint(made.note.encode("utf-8"))
    assert read == made
    check_note(read, PUBLIC)
    assert read.text == note_text(f"allocator/{study}/{ROOT.hex()[:16]}", size, head)


@given(st.data())
def test_a_bit_turned_anywhere_is_noticed(data: st.DataObject) -> None:
    note = bytearray(NOTE.note.encode("utf-8"))
    bit = data.draw(st.integers(0, 8 * len(note) - 1))
    note[bit // 8] ^= 1 << bit % 8
    with pytest.raises(EvidenceError):
        check_note(parse_checkpoint(bytes(note)), PUBLIC)


FIRST, SECOND, THIRD = NOTE.text.decode("ascii").splitlines()
MALFORMED = {
    "nothing": b"",
    "no UTF-8": NOTE.note.encode("utf-8") + b"\xff\n",
    "no newline at the end": NOTE.note.encode("utf-8")[:-1],
    "a newline more": NOTE.note.encode("utf-8") + b"\n",
    "a byte order mark": b"\xef\xbb\xbf" + NOTE.note.encode("utf-8"),
    "carriage returns": NOTE.note.replace("\n", "\r\n").encode("utf-8"),
    "a null": NOTE.note.replace("\n", "\n\0", 1).encode("utf-8"),
    "a delete": note_of(signature_line(), signature_line("a\x7fb")),
    "a control character beyond ASCII": note_of(signature_line(), signature_line("a\x9bb")),
    "a tab": NOTE.note.replace("— ", "—\t").encode("utf-8"),
    "no signature": note_of(),
    "no empty line": NOTE.note.replace("\n\n", "\n").encode("utf-8"),
    "two empty lines": NOTE.note.replace("\n\n", "\n\n\n").encode("utf-8"),
    "an empty line first": b"\n" + NOTE.note.encode("utf-8"),
    "an extension line": note_of(signature_line(), text=NOTE.text + b"more\n"),
    "a line too few": note_of(signature_line(), text=f"{FIRST}\n{SECOND}\n".encode()),
    "a hyphen for the dash": note_of(signature_line(mark="-")),
    "an en dash": note_of(signature_line(mark="–")),
    "no blank after the dash": note_of(signature_line().replace("— ", "—")),
    "two blanks": note_of(signature_line().replace("— ", "—  ")),
    "a blank at the end": note_of(signature_line().replace("\n", " \n")),
    "a key name with a plus": note_of(signature_line(), signature_line("a+b")),
    "a key name with a no-break space": note_of(signature_line(), signature_line("a\u00a0b")),
    "a key name with an ideographic space": note_of(signature_line(), signature_line("a\u3000b")),
    "a key name with a next line": note_of(signature_line(), signature_line("a\u0085b")),
    "no key name": note_of(signature_line(), "—  AAAA\n"),
    "a signature that is no base64": note_of(signature_line(), "— other !!!!\n"),
    "an empty signature": note_of(signature_line(), "— other \n"),
    "a key id without a signature": note_of(signature_line(), signature_line("other", bytes(4))),
    "base64 of two forms": note_of(signature_line(), "— other AAAAAAB=\n"),
    "no padding": note_of(signature_line(), "— other AAAAAAA\n"),
}
ORIGINS = [
    "",
    "example.com/log",
    f"allocator/{STUDY_ID}",
    f"allocator/{STUDY_ID}/00008B91A39BDEB0",
    f"allocator/{STUDY_ID}/00008b91a39bdeb",
    f"allocator/{STUDY_ID}/00008b91a39bdeb0/",
    "allocator//00008b91a39bdeb0",
    f"allocator/{'x' * 41}/00008b91a39bdeb0",
    "allocator/../00008b91a39bdeb0",
    "allocator/a b/00008b91a39bdeb0",
    "allocator/Ünal/00008b91a39bdeb0",
]
SIZES = ["", "0", "-1", "+7", "07", " 7", "7 ", "7.0", "0x7", "1e3", "７", "٧", str(2**32 + 1), "9" * 5000]
HASHES = ["", coded(ROOT)[:-1], coded(ROOT[:31]), coded(ROOT + b"x"), ROOT.hex(), coded(ROOT)[:-2] + "T=", "!" * 44]
HASHES += [coded(ROOT).replace("=", ""), coded(ROOT) + "=", coded(b"\xfb" * 32).replace("+", "-"), " " + coded(ROOT)]


@pytest.mark.requirement("L03")
@pytest.mark.parametrize("data", MALFORMED.values(), ids=list(MALFORMED))
def test_what_is_malformed_is_no_checkpoint(data: bytes) -> None:
    assert_none(data)


@pytest.mark.parametrize(
    "lines",
    [(origin, SECOND, THIRD) for origin in ORIGINS]
    + [(FIRST, size, THIRD) for size in SIZES]
    + [(FIRST, SECOND, digest) for digest in HASHES],
    ids=lambda lines: " ".join(lines)[:60],
)
def test_a_line_of_another_form_is_no_checkpoint(lines: tuple[str, str, str]) -> None:
    """Signed by the log's own key: the form is what refuses it."""
    text = "".join(f"{line}\n" for line in lines).encode("utf-8")
    signed = signature_line(blob=key_id(ORIGIN, PUBLIC) + KEY.sign(text))
    assert_none(text + f"\n{signed}".encode())


@pytest.mark.parametrize("size", [1, 2, 10, 2**31, 2**32])
def test_the_sizes_of_a_log_are_taken(size: int) -> None:
    made = sign_checkpoint(ORIGIN, size, ROOT, KEY, PUBLIC)
    check_note(parse_checkpoint(made.note.encode("utf-8")), PUBLIC)


# ---- signatures -----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("L03")
def test_signatures_of_unknown_keys_are_passed_over() -> None:
    """Witnesses; and keys that share the name, or the id, but not both, with the log's own."""
    identity = key_id(ORIGIN, PUBLIC)
    others = [
        signature_line("witness.example/w1", b"\1\2\3\4" + bytes(72)),
        signature_line("свидетель", b"\1\2\3\4x"),
        signature_line("a\ufeff\u200bb\u0301", b"\1\2\3\4x"),  # no white space, though some readers think so
        signature_line(ORIGIN, bytes(4) + bytes(64)),
        signature_line("somebody", identity + bytes(64)),
    ]
    checkpoint = parse_checkpoint(note_of(signature_line(), *others))
    check_note(checkpoint, PUBLIC)
    assert [name for name, _ in checkpoint.signatures()] == [
        ORIGIN, "witness.example/w1", "свидетель", "a\ufeff\u200bb\u0301", ORIGIN, "somebody",
    ]  # fmt: skip


@pytest.mark.requirement("L03")
def test_each_signature_by_the_log_s_key_must_hold() -> None:
    check_note(parse_checkpoint(note_of(signature_line(), signature_line())), PUBLIC)
    identity = key_id(ORIGIN, PUBLIC)
    for failing in (bytes(64), KEY.sign(NOTE.text)[:-1], KEY.sign(NOTE.text) + b"x", KEY.sign(b"another text")):
        line = signature_line(blob=identity + failing)
        assert_not_signed(note_of(line))
        assert_not_signed(note_of(signature_line(), line))


def test_the_log_s_own_signature_stands_first() -> None:
    assert_not_signed(note_of(signature_line("witness.example/w1", bytes(68)), signature_line()))
    assert_not_signed(note_of(signature_line("witness.example/w1", bytes(68))))


@pytest.mark.requirement("L03")
def test_another_key_or_another_text_is_not_signed() -> None:
    other = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
    assert_not_signed(NOTE.note.encode("utf-8"), other)
    assert_not_signed(NOTE.note.replace("\n7\n", "\n8\n").encode("utf-8"))
    assert_not_signed(NOTE.note.replace("00008b91a39bdeb0", "00008b91a39bdeb1").encode("utf-8"))
    assert_not_signed(NOTE.note.replace(coded(ROOT), coded(bytes(32))).encode("utf-8"))


def test_sixteen_signatures_are_read_and_seventeen_are_not() -> None:
    others = [signature_line(f"w{number}", bytes(68)) for number in range(MAX_SIGNATURES)]
    check_note(parse_checkpoint(note_of(signature_line(), *others[:-1])), PUBLIC)
    assert_none(note_of(signature_line(), *others), "1 to 16 signatures")


def test_a_note_is_read_up_to_its_bound() -> None:
    """Fifteen signatures of 4 kB, as of keys to come, fit."""
    others = [signature_line(f"w{number}", bytes(3000)) for number in range(MAX_SIGNATURES - 2)]
    room = MAX_NOTE - len(note_of(signature_line(), *others)) - len(signature_line("", bytes(12)).encode("utf-8"))
    for length, fits in ((room, True), (room + 1, False)):
        data = note_of(signature_line(), *others, signature_line("n" * length, bytes(12)))
        assert (len(data) <= MAX_NOTE) == fits
        if fits:
            check_note(parse_checkpoint(data), PUBLIC)
        else:
            assert_none(data, "more than 65536 bytes")


# ---- encodings on which libraries disagree (docs/spec.md §8.4) ------------------------------------------------------

SMALL = [point for y in SMALL_ORDER_Y for point in encodings(y)]
BEYOND = [(y + FIELD | sign << 255).to_bytes(32, "little") for y in range(19) for sign in (0, 1)]


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("point", [*SMALL, *BEYOND], ids=lambda point: point.hex()[:8])
def test_points_of_small_order_or_beyond_the_field_sign_no_checkpoint(point: bytes) -> None:
    """With such a key, R the identity and S 0, a lax library takes any text as signed."""
    identity = (1).to_bytes(32, "little")
    assert_not_signed(note_of(signature_line(blob=key_id(ORIGIN, point) + identity + bytes(32))), point)
    assert_not_signed(note_of(signature_line(blob=key_id(ORIGIN, point) + point + bytes(32))), point)
    signature = KEY.sign(NOTE.text)
    assert_not_signed(note_of(signature_line(blob=key_id(ORIGIN, PUBLIC) + point + signature[32:])))


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("times", [1, 2, 7, 15])
def test_an_s_that_is_not_reduced_signs_no_checkpoint(times: int) -> None:
    signature = KEY.sign(NOTE.text)
    s = int.from_bytes(signature[32:], "little") + times * ORDER
    blob = key_id(ORIGIN, PUBLIC) + signature[:32] + s.to_bytes(32, "little")
    assert_not_signed(note_of(signature_line(blob=blob)))


# ---- heads of a log -------------------------------------------------------------------------------------------------


def joined(text: str) -> tuple[int, list[bytes], Checkpoint]:
    """Old size, proof and newer checkpoint of a consistency proof in text, read by C2SP tlog-witness."""
    head, _, note = text.partition("\n\n")
    first, *proof = head.split("\n")
    assert first.startswith("old ")
    return int(first[4:]), [parse_hash(line) for line in proof], parse_checkpoint(note.encode("utf-8"))


@pytest.mark.requirement("L03")
def test_a_log_signs_its_head(trial: Trial) -> None:
    trial.allocate("P-001")
    checkpoint, records = trial.service.checkpoint(), trial.records
    assert checkpoint.origin == f"allocator/{STUDY_ID}/{records[0].hash.hex()[:16]}"
    assert (checkpoint.size, checkpoint.root) == (len(records), root(record.hash for record in records))
    check_note(checkpoint, bytes.fromhex(records[0].fields["log_key"]))
    assert trial.service.verifier_key() == verifier_key(checkpoint.origin, bytes.fromhex(records[0].fields["log_key"]))
    assert len(trial.records) == len(records)  # to look is no act


@pytest.mark.requirement("L03")
def test_two_checkpoints_are_joined_by_a_proof(trial: Trial) -> None:
    older = [trial.service.checkpoint()]
    for participant in ("P-001", "P-002", "P-003"):
        trial.confirm(participant)
        older.append(trial.service.checkpoint())
        trial.reveal(participant)
    for one in older:
        old, proof, newer = joined(trial.service.consistency(one))
        assert (old, newer) == (one.size, trial.service.checkpoint())
        check_consistency(old, one.root, newer.size, newer.root, proof)
    old, proof, newer = joined(trial.service.consistency(trial.service.checkpoint()))
    assert (old, proof) == (newer.size, [])


def test_a_proof_in_text_is_the_body_of_a_witness_request() -> None:
    assert consistency_text(3, [ROOT], NOTE) == f"old 3\n{coded(ROOT)}\n\n{NOTE.note}"


@pytest.mark.requirement("L03")
def test_what_another_process_wrote_is_in_the_next_checkpoint(trial: Trial) -> None:
    first = trial.service
    assert first.checkpoint().size == len(trial.records)
    trial.again()
    trial.allocate("P-001")
    assert first.checkpoint() == trial.service.checkpoint()


@pytest.mark.requirement("L03")
def test_a_checkpoint_of_another_log_is_not_joined(trial: Trial, trials: TrialFactory) -> None:
    other = trials(enrollment=9)
    for foreign in (other.service.checkpoint(), sign_checkpoint(ORIGIN, 3, ROOT, KEY, PUBLIC)):
        assert_not_ours(lambda foreign=foreign: trial.service.consistency(foreign), "does not begin with")


@pytest.mark.requirement("L03")
@pytest.mark.parametrize("change", ["another root", "more records"])
def test_a_fork_and_a_log_that_lost_records_have_no_proof(change: str, trial: Trial) -> None:
    own = trial.service.checkpoint()
    size, head = (own.size + 1, own.root) if change == "more records" else (own.size, ROOT)
    parted = sign_checkpoint(own.origin, size, head, KEY, PUBLIC)
    assert_not_ours(lambda: trial.service.consistency(parted), f"with the {size} records")


@pytest.mark.requirement("L03")
@pytest.mark.requirement("L02")
def test_a_log_that_was_changed_or_put_back_signs_nothing(trial: Trial) -> None:
    """Two signed heads that do not follow from each other would be a fork by our own hand."""
    trial.allocate("P-001")
    trial.service.close_files()
    before = trial.place.log_file.read_bytes()
    trial.again().close_files()
    edit(trial.home, "UPDATE record SET body = replace(body, '\"system\"', '\"given\"') WHERE kind = 'generated'")
    trial.again()
    assert_not_ours(trial.service.checkpoint, "was changed at record")
    trial.service.close_files()
    trial.place.log_file.write_bytes(before)
    trial.again().checkpoint()
    trial.allocate("P-002")
    trial.service.close_files()
    trial.place.log_file.write_bytes(before)
    trial.again()
    assert_not_ours(trial.service.checkpoint, "older than its head")


def test_the_log_s_key_must_be_the_one_of_record_0(trial: Trial) -> None:
    key = trial.place.keys / "log.key"
    good = key.read_bytes()
    for content, said in ((b"00" * 32 + b"\n", "not the key named"), (b"xyz", "no key"), (b"00" * 31, "no key")):
        key.write_bytes(content)
        with pytest.raises(CredentialError, match=said) as refusal:
            trial.service.checkpoint()
        assert refusal.value.hint
    key.unlink()
    with pytest.raises(CredentialError, match="cannot be read"):
        trial.service.checkpoint()
    key.write_bytes(good)
    trial.service.checkpoint()


def assert_not_ours(act: Callable[[], object], said: str) -> None:
    """The log itself refuses: exit code 3."""
    with pytest.raises(EvidenceError, match=said) as refusal:
        act()
    assert refusal.value.hint
