"""Every parser under fire: whatever the bytes, it reads them or says its own error; never a fault, a hang, or a flood.

Bytes at random, good inputs bent by byte and by value, deep nesting, huge numbers, and what is too long.
`ALLOCATOR_SOAK=50 pytest tests/test_parsers.py` tries fifty times as many.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allocator import sealing
from allocator.answers_form import parse_form, parse_stored_form
from allocator.backup import Manifest, read_backup
from allocator.canonical import CanonicalError, canonical_bytes, encode_parsed, parse_canonical, parse_strict
from allocator.checkpoint import check_note, parse_checkpoint
from allocator.continuity import SharePaper
from allocator.eligibility import judge
from allocator.errors import CredentialError, EvidenceError, FileProblems, InputError
from allocator.evidence import _read_study
from allocator.home import StudyPlace
from allocator.keys import ONLY_FOR_TESTS, KeyFolder, PrivateKeys
from allocator.log import GENESIS, RecordError, parse_record
from allocator.receipt import check_receipt, parse_receipt
from allocator.recovery import original_record
from allocator.registry_record import parse_registry
from allocator.sealing import SealedSchedule
from allocator.seed import Seed, check_opening
from allocator.toml_files import read_design, read_study
from allocator.verdict import Given
from allocator.verify import verify_receipt
from support import ANSWERS, DESIGN_FILE, REGISTRY_BYTES, START, STUDY_BYTES, study
from test_seed import SCHEDULE, SEED, STUDY, generated, sealed_of
from test_vectors import EVIDENCE

SOAK = int(os.environ.get("ALLOCATOR_SOAK", "1"))
LOG_KEY = bytes.fromhex(EVIDENCE["log"]["log_key"])
SEALED = sealed_of(SCHEDULE)
PERSON = PrivateKeys.from_entropy(bytes(range(64)))
MOMENT = EVIDENCE["log"]["records"][0]["body"].partition('"time":"')[2][:24]


# ---- the parsers: what is made of the bytes, and of what was read ---------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Parser:
    """One parser with what must hold of what it read, its own errors, and inputs that it reads.

    Attributes:
        values: the JSON values in an input and the way back, where it holds any: they are bent too.
    """

    read: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    good: tuple[bytes, ...]
    values: tuple[Callable[[bytes], Any], Callable[[bytes, Any], bytes]] | None = None


def _plain_json() -> tuple[Callable[[bytes], Any], Callable[[bytes, Any], bytes]]:
    return json.loads, lambda _, value: canonical_bytes(value)


def _extra_data() -> tuple[Callable[[bytes], Any], Callable[[bytes, Any], bytes]]:
    """The extra data of a receipt; the record in it is bent as an object of its own."""

    def values(data: bytes) -> Any:
        extra = json.loads(base64.b64decode(data.split(b"\n")[1].removeprefix(b"extra ")))
        return extra | {"record": extra["record"] | {"body": json.loads(extra["record"]["body"])}}

    def back(data: bytes, value: Any) -> bytes:
        record = value.get("record") if isinstance(value, dict) else None
        if isinstance(record, dict) and isinstance(record.get("body"), dict):
            value = value | {"record": record | {"body": canonical_bytes(record["body"]).decode("utf-8")}}
        lines = data.split(b"\n")
        return b"\n".join([lines[0], b"extra " + base64.b64encode(canonical_bytes(value)), *lines[2:]])

    return values, back


def _read_record(data: bytes) -> object:
    record = parse_record(GENESIS, data)
    return record.hash, record.columns, record.time, "signature" in record.fields and record.unsigned_body()


def _read_original(data: bytes) -> object:
    return original_record({"prev": GENESIS.hex(), "body": data.decode("utf-8")})


def _read_sealed(data: bytes) -> object:
    sealed = SealedSchedule.from_bytes(data)
    assert sealed.to_bytes() == data
    return sealing.schedule_root(sealed.strata)


def _read_study_copy(data: bytes) -> object:
    """As a verifier reads the copy in a home: a finding of check 08 where it is no study (docs/spec.md §11.2)."""
    place = StudyPlace(home=FOLDER.path, study="STUDY")
    place.schedules.mkdir(parents=True, exist_ok=True)
    place.study_file.write_bytes(data)
    read, findings = _read_study(place)
    assert (read is None) == bool(findings)
    return read


def _read_form(data: bytes) -> object:
    return judge(study(), parse_form(data), START).as_json()


def _read_head(folder: KeyFolder) -> object:
    seq, digest = folder.read_head() or pytest.fail("no head")
    assert 0 <= seq < 2**32 and len(digest) == 32
    return seq


def _in_folder(name: str, read: Callable[[KeyFolder], object]) -> Callable[[bytes], object]:
    """A file of keys/, written and read."""

    def read_file(data: bytes) -> object:
        (FOLDER.path / name).write_bytes(data)
        return read(FOLDER)

    return read_file


def _read_backup(data: bytes) -> object:
    file = FOLDER.path / "backup.tar"
    file.write_bytes(data)
    return read_backup(file)


FOLDER = KeyFolder(Path(), stretching=ONLY_FOR_TESTS)  # its path is set by the fixture


@pytest.fixture(scope="module", autouse=True)
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for files; nobody stretches a passphrase with what a bent key file asks for."""
    FOLDER.path = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("allocator.keys._stretch", lambda *_: bytes(32))
        yield


def _key_file() -> bytes:
    return FOLDER.sealed_keys("STUDY", "PH", PERSON, "pw", lambda count: bytes(count))


def _manifest() -> bytes:
    digest = "ab" * 32
    paths = ["schedules/STUDY/study.toml", "schedules/STUDY/receipts/000001-P-001.tlog-proof", "keys/STUDY/PH.json"]
    return canonical_bytes(
        {
            "format": "allocator-backup/1",
            "study": "STUDY",
            "time": MOMENT,
            "program": "allocator 0.1.0",
            "records": 7,
            "head": digest,
            "files": [{"path": path, "bytes": 3, "sha256": digest} for path in paths],
        }
    )


def _tar() -> bytes:
    stream = io.BytesIO()
    plain = json.loads(_manifest())
    content, digest = b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    plain["files"] = [item | {"sha256": digest} for item in plain["files"]]
    with tarfile.TarFile(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, data in (("manifest.json", canonical_bytes(plain)), *((f["path"], content) for f in plain["files"])):
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


FORMS = tuple(path.read_bytes() for path in sorted(ANSWERS.glob("*.json")))[:3]
RECORDS = tuple(case["body"].encode("utf-8") for case in EVIDENCE["log"]["records"])
SHARE = EVIDENCE["opening"]["share"]["file"].encode("utf-8")
PARSERS = {
    "canonical JSON": Parser(
        read=lambda data: encode_parsed(parse_canonical(data)) == data or pytest.fail("another encoding"),
        errors=(CanonicalError,),
        good=RECORDS,
        values=_plain_json(),
    ),
    "strict JSON": Parser(
        read=lambda data: canonical_bytes(parse_strict(data)),
        errors=(CanonicalError,),
        good=(b'{"a": [1, {"b": null}], "c": "\\u00e9"}', *RECORDS),
        values=_plain_json(),
    ),
    "record": Parser(read=_read_record, errors=(CanonicalError, RecordError), good=RECORDS, values=_plain_json()),
    "lost record": Parser(
        read=_read_original, errors=(EvidenceError, UnicodeDecodeError), good=RECORDS, values=_plain_json()
    ),
    "checkpoint": Parser(
        read=lambda data: check_note(parse_checkpoint(data), LOG_KEY),
        errors=(EvidenceError,),
        good=tuple(
            note.encode("utf-8")
            for note in (
                EVIDENCE["checkpoints"]["newer"]["note"],
                EVIDENCE["checkpoints"]["with_signatures_unknown_here"],
            )
        ),
    ),
    "receipt": Parser(
        read=lambda data: check_receipt(parse_receipt(data)),
        errors=(EvidenceError,),
        good=tuple(EVIDENCE["receipts"][name].encode("utf-8") for name in ("first", "copy")),
        values=_extra_data(),
    ),
    "receipt by itself": Parser(
        read=lambda data: verify_receipt(Given("a receipt", data)).as_json(),
        errors=(),
        good=tuple(EVIDENCE["receipts"][name].encode("utf-8") for name in ("first", "copy")),
        values=_extra_data(),
    ),
    "seed": Parser(
        read=lambda data: check_opening(Seed.from_bytes(data), STUDY, generated(), SEALED),
        errors=(EvidenceError,),
        good=(SEED.to_bytes(),),
        values=_plain_json(),
    ),
    "share on paper": Parser(
        read=lambda data: SharePaper.from_bytes(data).to_bytes(),
        errors=(InputError,),
        good=(SHARE,),
        values=_plain_json(),
    ),
    "sealed schedule": Parser(
        read=_read_sealed, errors=(EvidenceError,), good=(SEALED.to_bytes(),), values=_plain_json()
    ),
    "form": Parser(read=_read_form, errors=(InputError,), good=FORMS, values=_plain_json()),
    "stored form": Parser(
        read=parse_stored_form,
        errors=(InputError,),
        good=tuple(canonical_bytes(json.loads(form)) for form in FORMS),
        values=_plain_json(),
    ),
    "key file": Parser(
        read=_in_folder("PH.json", lambda folder: folder.unlock("STUDY", "PH", "pw")),
        errors=(CredentialError,),
        good=(_key_file(),),
        values=_plain_json(),
    ),
    "log key": Parser(
        read=_in_folder("log.key", lambda folder: folder.read_log_key()),
        errors=(CredentialError,),
        good=(b"ab" * 32 + b"\n",),
    ),
    "head": Parser(
        read=_in_folder("head", _read_head),
        errors=(EvidenceError,),
        good=(f"{7:>10} {'ab' * 32}".ljust(79).encode() + b"\n",),
    ),
    "manifest of a backup": Parser(
        read=lambda data: Manifest.from_bytes(data).to_bytes(),
        errors=(EvidenceError,),
        good=(_manifest(),),
        values=_plain_json(),
    ),
    "backup": Parser(read=_read_backup, errors=(EvidenceError,), good=(_tar(),)),
    "registry record": Parser(
        read=parse_registry, errors=(InputError,), good=(REGISTRY_BYTES,), values=_plain_json()
    ),
    "study file": Parser(
        read=lambda data: read_study("study.toml", data), errors=(FileProblems,), good=(STUDY_BYTES,)
    ),
    "study file of a home": Parser(
        read=_read_study_copy, errors=(), good=(STUDY_BYTES,)
    ),
    "design file": Parser(
        read=lambda data: read_design("design.toml", data), errors=(FileProblems,), good=(DESIGN_FILE.read_bytes(),)
    ),
}  # fmt: skip


def fired(parser: Parser, data: bytes) -> None:
    """It reads the bytes, or says its own error; anything else fails the test."""
    try:
        parser.read(data)
    except parser.errors as error:
        assert str(error)


# ---- what is fired --------------------------------------------------------------------------------------------------

ODD_BYTES = [
    b"",
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",  # a surrogate
    b"\r\n",
    b"\n\n",
    b'"',
    b"\\",
    b"[",
    b"]",
    b"{",
    b"}",
    b"=",
    b"[[a]]\n",
    b"-",
    b"null",
    b"true",
    b"0",
    b"-1",
    b"1e999",
    b"0.1",
    b"9" * 25,
    b"9" * 5000,
    b"0x" + b"f" * 5000,
    b"nan",
    b"1979-05-27T07:32:00Z",
    b"\\ud800",
    b"[" * 300,
    b'{"a":' * 300,
    "\u202e".encode(),
]
ODD_VALUES = st.sampled_from(
    [
        *(None, True, False, 0, 1, -1, 255, 256, 2**32 - 1, 2**32, 2**53 - 1, -(2**53 - 1)),
        *("", "0", "\x00", "\u202e", "é", "x" * 501, "x" * 70_000, "9" * 5000, "\U0001f600", ".."),
        *("ab" * 32, "AB" * 32, "ab" * 16, "12:00", "2026-11-20T04:00:00.000Z"),
        *([], {}, [[]], [None], {"": ""}, {"x": {"x": {}}}, ["ab" * 32] * 3),
    ]
)


@st.composite
def bent_bytes(draw: st.DrawFn, good: bytes) -> bytes:
    """A good input, cut, doubled, or with something odd in it."""
    data = good
    for _ in range(draw(st.integers(1, 3))):
        at, cut = draw(st.integers(0, len(data))), draw(st.integers(0, 40))
        patch = draw(st.one_of(st.sampled_from(ODD_BYTES), st.binary(max_size=8)))
        whole = draw(st.sampled_from(["patch", "patch", "patch", "cut", "double"]))
        if whole == "patch":
            data = data[:at] + patch + data[at + cut :]
        elif whole == "cut":
            data = data[:at]
        else:
            data = data[:at] + data[at : at + cut] + data[at:]
    return data


@st.composite
def bent_value(draw: st.DrawFn, value: Any) -> Any:
    """The same value with one value in it, at any depth, another one; or a key more, or less."""
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        name = draw(st.sampled_from(sorted(value)))
        return {**value, name: draw(bent_value(value[name]))}
    if isinstance(value, list) and value and draw(st.integers(0, 9)):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], draw(bent_value(value[place])), *value[place + 1 :]]
    if isinstance(value, dict) and draw(st.booleans()):
        return {key: item for key, item in value.items() if key != draw(st.sampled_from(sorted(value) or [""]))}
    if isinstance(value, dict) and draw(st.booleans()):
        return {**value, draw(st.sampled_from(["", "a", "format", "\u202e"])): draw(ODD_VALUES)}
    return draw(ODD_VALUES)


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("name", PARSERS)
def test_what_is_good_is_read(name: str) -> None:
    """Else all below would be refused for one dull reason."""
    parser = PARSERS[name]
    dull = {"key file": CredentialError, "lost record": EvidenceError}  # a wrong passphrase; a record of another kind
    for data in parser.good:
        try:
            parser.read(data)
        except dull.get(name, ()) as error:  # type: ignore[misc]
            assert "wrong" in str(error) or "does not open" in str(error) or "of kind" in str(error)


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=25 * SOAK, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=200))
def test_bytes_at_random(name: str, data: bytes) -> None:
    fired(PARSERS[name], data)


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=50 * SOAK, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_good_inputs_bent_by_bytes(name: str, data: st.DataObject) -> None:
    good = data.draw(st.sampled_from(PARSERS[name].good))
    fired(PARSERS[name], data.draw(bent_bytes(good)))


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("name", [name for name, parser in PARSERS.items() if parser.values])
@settings(max_examples=60 * SOAK, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_good_inputs_bent_by_values(name: str, data: st.DataObject) -> None:
    """In the right encoding, so that what is read of it is what meets the odd value."""
    parser = PARSERS[name]
    assert parser.values is not None
    values, back = parser.values
    good = data.draw(st.sampled_from(parser.good))
    fired(parser, back(good, data.draw(bent_value(values(good)))))


# ---- what costs -----------------------------------------------------------------------------------------------------

COSTLY = {
    "deep arrays": b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "an open end": b'{"a":' + b"[" * 500_000,
    "deep tables": b"[" + b"a." * 400_000 + b"a]\nx = 1\n",
    "deep inline": b"a = " + b"{a = " * 20_000 + b"1" + b"}" * 20_000,
    "a number of a million digits": b'{"a":' + b"9" * 1_000_000 + b"}",
    "a TOML number of a million digits": b"a = " + b"9" * 1_000_000 + b"\n",
    "a size of a million digits": b"allocator/S/0000000000000000\n" + b"9" * 1_000_000 + b"\n\n\n",
    "many keys": b"{" + b",".join(b'"%d":0' % n for n in range(50_000)) + b"}",
    "one key many times": b"{" + b",".join([b'"a":0'] * 80_000) + b"}",
    "a long string": b'{"a":"' + b"x" * 2_000_000 + b'"}',
    "many escapes": b'{"a":"' + b"\\u0000" * 200_000 + b'"}',
    "many lines": b"\n" * 50_000,
    "many tables": b"".join(b"[a%d]\n" % n for n in range(100_000)),
    "many array tables": b"[[criterion]]\nid = 1\n" * 40_000,
    "many unknown fields": b"".join(b"a%d = 1\n" % n for n in range(3_000)),
    "dotted keys": b"".join(b"k%d%s = 1\n" % (n, b".a" * 900) for n in range(200)),
    "one dotted key": b"a." * 400_000 + b"a = 1\n",
    "a proof of many lines": b"c2sp.org/tlog-proof@v1\nextra AAAA\nindex 0\n" + b"%s\n" % (b"A" * 43 + b"=") * 50_000,
    "many signatures": EVIDENCE["checkpoints"]["newer"]["note"].encode("utf-8") + "— a AAAAAAAA\n".encode() * 100_000,
    "blanks": b" " * 2_000_000,
    "nulls": bytes(2_000_000),
}
CPU_SECONDS = 10.0  # of the processor, which others do not take away; most of these need well under one
MEMORY = 256 << 20  # bytes: what stands in one byte of JSON or TOML takes some tens in memory; inputs are a few MiB


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("name", PARSERS)
def test_what_costs_is_refused_cheaply(name: str) -> None:
    for what, data in COSTLY.items():
        begun = time.process_time()
        fired(PARSERS[name], data)
        took = time.process_time() - begun
        assert took < CPU_SECONDS, f"{what}: {took:.1f} s"


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("name", PARSERS)
def test_what_is_large_takes_no_more_memory_than_it_must(name: str) -> None:
    for what, data in COSTLY.items():
        tracemalloc.start()
        try:
            fired(PARSERS[name], data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < MEMORY, f"{what}: {peak >> 20} MiB"


HEADS = ["", "7", "ab" * 32, "7 " + "ab" * 31, "7 " + "AB" * 32, "7  " + "ab" * 32 + " 8", "-1 " + "ab" * 32]
HEADS += [f"{number} {'ab' * 32}" for number in ("+7", "1_0", "0x7", "7.0", "٧", "9" * 11, "9" * 4000)]


@pytest.mark.requirement("L03")
@pytest.mark.parametrize("text", HEADS, ids=lambda text: text[:12])
def test_what_is_no_head_is_said(text: str) -> None:
    """A number that no log reaches is one: SQLite itself would fail at it."""
    with pytest.raises(EvidenceError, match="no head"):
        PARSERS["head"].read(text.encode("utf-8"))


def _sparse(name: str, size: int) -> bytes:
    """A header of GNU tar for a file that is all hole: no byte follows it, and `size` of them are read."""
    entry = tarfile.TarInfo(name)
    header = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    header[483:495] = b"%011o\0" % size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.requirement("R03")
def test_a_backup_holds_as_many_bytes_as_it_has() -> None:
    """A hole of terabytes would be read for ever, and fill the disk when it is put back."""
    size = 32 << 20
    digest = hashlib.sha256(bytes(size)).hexdigest()
    plain = json.loads(_manifest())
    plain["files"] = [{"path": "schedules/STUDY/study.toml", "bytes": size, "sha256": digest}]
    manifest = tarfile.TarInfo("manifest.json")
    content = canonical_bytes(plain)
    manifest.size = len(content)
    head = manifest.tobuf(tarfile.USTAR_FORMAT) + content.ljust(-(-len(content) // 512) * 512, b"\0")
    with pytest.raises(EvidenceError, match="not where the manifest says"):
        _read_backup(head + _sparse("schedules/STUDY/study.toml", size) + bytes(1024))
