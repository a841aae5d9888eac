"""Keys at rest: what opens them, what does not, and who may read the files."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.errors import AllocatorError, CredentialError, EvidenceError, StorageError
from allocator.keys import ONLY_FOR_TESTS, STANDARD, KeyFolder, KeyStretching, PrivateKeys
from support import PASSPHRASE, Trial

KEYS = PrivateKeys.from_entropy(bytes(range(64)))
DATA = KeyFolder(Path("nowhere"), stretching=ONLY_FOR_TESTS).sealed_keys("S1", "PH", KEYS, "secret", os.urandom)


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    """A key folder in which PH of study S1 has the passphrase "secret"."""
    (tmp_path / "PH.json").write_bytes(DATA)
    return KeyFolder(tmp_path, stretching=ONLY_FOR_TESTS)


def rewrite(folder: KeyFolder, **changes: Any) -> None:
    """Change fields of PH's key file."""
    path = folder.path / "PH.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


def unlock_code(folder: KeyFolder, study: str = "S1", person: str = "PH", passphrase: str = "secret") -> str:
    """The code of the refusal, "" when the keys open."""
    try:
        assert folder.unlock(study, person, passphrase).sign_key == KEYS.sign_key
    except CredentialError as error:
        return error.code
    return ""


@pytest.mark.requirement("S04")
def test_the_passphrase_opens_the_keys(folder: KeyFolder) -> None:
    keys = folder.unlock("S1", "PH", "secret")
    assert (keys.sign_key, keys.seal_key) == (KEYS.sign_key, KEYS.seal_key)
    assert keys.signing.sign(b"m") == KEYS.signing.sign(b"m")


@pytest.mark.requirement("S04")
@pytest.mark.parametrize("passphrase", ["", "Secret", "secret ", "secret\n", "s\u200becret"])
def test_another_passphrase_opens_nothing(folder: KeyFolder, passphrase: str) -> None:
    assert unlock_code(folder, passphrase=passphrase) == "wrong-passphrase"


def test_any_text_is_a_passphrase(folder: KeyFolder) -> None:
    for passphrase in ("密码短语", "é" * 1000, " ", "\x00"):
        folder.write("S1", "PH", KEYS, passphrase, os.urandom)
        assert unlock_code(folder, passphrase=passphrase) == ""


def test_a_passphrase_that_is_no_text_is_said_and_is_no_damaged_file(folder: KeyFolder) -> None:
    assert unlock_code(folder, passphrase="secret\udcff") == "passphrase-text"
    with pytest.raises(CredentialError):
        folder.write("S1", "PI", KEYS, "\ud800", os.urandom)
    assert not folder.has("PI")


@pytest.mark.requirement("C01")
def test_no_private_byte_stands_in_the_file() -> None:
    for secret in (KEYS.signing.private_bytes_raw(), KEYS.opening.private_bytes_raw(), b"secret"):
        assert secret not in DATA and secret.hex().encode() not in DATA
    assert KEYS.sign_key.hex().encode() in DATA
    assert "private" not in repr(KEYS) and KEYS.signing.private_bytes_raw().hex() not in repr(KEYS)


def test_salt_and_nonce_are_drawn_anew() -> None:
    other = KeyFolder(Path("nowhere"), stretching=ONLY_FOR_TESTS).sealed_keys("S1", "PH", KEYS, "secret", os.urandom)
    first, second = json.loads(DATA), json.loads(other)
    for path in (("nonce",), ("ciphertext",), ("argon2id", "salt")):
        a, b = first, second
        for name in path:
            a, b = a[name], b[name]
        assert a != b


@pytest.mark.requirement("S03")
@pytest.mark.parametrize("study, person", [("S2", "PH"), ("S1", "PI")])
def test_a_foreign_key_file_is_refused(folder: KeyFolder, study: str, person: str) -> None:
    (folder.path / "PI.json").write_bytes(DATA)
    assert unlock_code(folder, study=study, person=person) == "key-file"


@pytest.mark.requirement("S03")
def test_a_key_file_made_out_to_somebody_else_does_not_open(folder: KeyFolder) -> None:
    (folder.path / "PI.json").write_bytes(DATA.replace(b'"PH"', b'"PI"'))
    assert unlock_code(folder, person="PI") == "wrong-passphrase"  # the names are under the encryption's seal
    rewrite(folder, sign_key="00" * 32)
    assert unlock_code(folder) == "wrong-passphrase"


@pytest.mark.requirement("S03")
def test_somebody_elses_keys_under_ones_own_name_do_not_act(trial: Trial) -> None:
    own = trial.place.keys / "PH.json"
    trial.service._keys.write(trial.service.study.id, "PH", KEYS, PASSPHRASE, os.urandom)
    assert own.exists()
    with pytest.raises(CredentialError) as refusal:
        trial.service.authenticate("PH", lambda: PASSPHRASE, "reveal")
    assert refusal.value.code == "key-file"


@pytest.mark.requirement("S05")
@pytest.mark.parametrize(
    "change",
    [
        {"memory_kib": 1 << 40},
        {"memory_kib": (1 << 21) + 1},
        {"memory_kib": 63},
        {"memory_kib": -1},
        {"memory_kib": "64"},
        {"memory_kib": 64.5},
        {"iterations": 0},
        {"iterations": 17},
        {"lanes": 0},
        {"lanes": 17},
        {"memory_kib": 64, "lanes": 16},
        {"salt": ""},
        {"salt": "zz"},
        {"salt": None},
    ],
)
def test_forged_parameters_are_refused_before_they_cost_anything(folder: KeyFolder, change: dict[str, Any]) -> None:
    rewrite(folder, argon2id=json.loads(DATA)["argon2id"] | change)
    assert unlock_code(folder) == "key-file"


def test_the_bounds_themselves_are_taken() -> None:
    assert KeyStretching(memory_kib=1 << 21, iterations=16, lanes=16)
    assert KeyStretching(memory_kib=64, iterations=1, lanes=1) == ONLY_FOR_TESTS
    assert (STANDARD.memory_kib, STANDARD.iterations, STANDARD.lanes) == (65536, 3, 4)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"{",
        b"\xff",
        b'{"format":1,"format":1}',
        b'{"format":"allocator-key/2"}',
        DATA[:-1],
        b"x" * 70000,
    ],
)
def test_a_damaged_file_is_refused(folder: KeyFolder, content: bytes) -> None:
    (folder.path / "PH.json").write_bytes(content)
    assert unlock_code(folder) == "key-file"


def test_no_file_is_said(folder: KeyFolder) -> None:
    assert unlock_code(folder, person="PI") == "no-key"
    assert folder.has("PH") and not folder.has("PI")


@given(st.integers(0, 8 * len(DATA) - 1))
def test_a_flipped_bit_never_opens_other_keys(tmp_path_factory: pytest.TempPathFactory, bit: int) -> None:
    damaged = bytearray(DATA)
    damaged[bit // 8] ^= 1 << bit % 8
    path = tmp_path_factory.mktemp("keys")
    (path / "PH.json").write_bytes(bytes(damaged))
    try:
        keys = KeyFolder(path, stretching=ONLY_FOR_TESTS).unlock("S1", "PH", "secret")
        assert keys.sign_key == KEYS.sign_key  # the case of a hexadecimal digit, at most
    except AllocatorError as error:
        assert isinstance(error, CredentialError)


@pytest.mark.requirement("S04")
def test_key_files_are_for_their_owner_only(trial: Trial) -> None:
    for path in (*trial.place.keys.glob("*.json"), trial.place.keys / "log.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
    assert len(list(trial.place.keys.glob("*.json"))) == 6


def test_keys_of_a_new_home_lie_in_a_closed_folder(tmp_path: Path) -> None:
    from support import open_home, open_service

    open_home(tmp_path / "home")
    service = open_service(tmp_path / "home")
    assert stat.S_IMODE(service.place.keys.stat().st_mode) == 0o700
    service.close_files()


# ---- head and lock --------------------------------------------------------------------------------------------------


@pytest.mark.requirement("L03")
@pytest.mark.parametrize("seq", [0, 9, 99_999, 2**32 - 1])
def test_the_head_is_read_as_written_and_keeps_its_length(tmp_path: Path, seq: int) -> None:
    folder = KeyFolder(tmp_path)
    assert folder.read_head() is None
    for number in (2**32 - 1, seq):
        folder.write_head(number, bytes([7]) * 32)
        assert folder.read_head() == (number, bytes([7]) * 32)
        assert (tmp_path / "head").stat().st_size == 80


@pytest.mark.requirement("L03")
@pytest.mark.parametrize(
    "content", [b"", b"1", b"1 00", b"x " + b"0" * 64, b"1 " + b"0" * 64 + b" 2", b"\xff", b"1 " + b"g" * 64]
)
def test_a_damaged_head_is_evidence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "head").write_bytes(content)
    with pytest.raises(EvidenceError) as refusal:
        KeyFolder(tmp_path).read_head()
    assert refusal.value.code == "head-damaged"


@pytest.mark.parametrize("name", ["head", "lock"])
def test_a_symbolic_link_is_never_followed_for_writing(tmp_path: Path, name: str) -> None:
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / name).symlink_to(tmp_path / "target")
    folder = KeyFolder(tmp_path)
    if name == "head":
        with pytest.raises(OSError, match="symbolic"):
            folder.write_head(1, bytes(32))
    else:
        with pytest.raises(StorageError), folder.lock():
            pytest.fail("the lock was taken")
    assert (tmp_path / "target").read_bytes() == b"precious"


@pytest.mark.requirement("A03")
def test_one_holder_of_the_lock_at_a_time(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path)
    with folder.lock():
        with pytest.raises(StorageError) as refusal, folder.lock(seconds=0.03):
            pytest.fail("two holders of one lock")
        assert refusal.value.code == "busy"
    with folder.lock(seconds=0):
        pass


@pytest.mark.requirement("A03")
def test_who_waits_gets_the_lock_when_it_is_free(tmp_path: Path) -> None:
    folder, taken, done = KeyFolder(tmp_path), threading.Event(), []

    def wait() -> None:
        taken.set()
        with folder.lock(seconds=10):
            done.append(True)

    thread = threading.Thread(target=wait)
    with folder.lock():
        thread.start()
        assert taken.wait(5) and not done
    thread.join(10)
    assert done == [True]
