"""The command line as users and scripts rely on it: options, results, exit codes, one JSON object, no waiting.

Other test modules of the command line use `Site` from here: a study in a home of these days, since the program itself
reads the real clock, and the people of `support` at their keyboards.
"""

from __future__ import annotations

import atexit
import hashlib
import io
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import click
import pytest

import support
from allocator.cli import GROUPS, MODULES, cli, run
from allocator.errors import EvidenceError, StorageError
from allocator.example_answers import redated
from allocator.home import study_place
from allocator.keys import ONLY_FOR_TESTS
from allocator.service import AllocationService
from allocator.session import system_clock
from support import ANSWERS, DESIGN_FILE, PASSPHRASE, PEOPLE, STUDY_ID, Clock, Trial

PROGRAM = Path(sys.executable).with_name("allocator")
STAGES = ("opened", "enrolled", "sealed", "granted", "active", "used", "full")
SECONDS = 60  # no command may take longer, however slow the machine


# ---- a home of these days, and its people at their keyboards --------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """What a command line left behind."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All that it printed."""
        return self.out + self.err

    @property
    def result(self) -> dict[str, Any]:
        """The one JSON object on standard output; fails when there is anything else."""
        lines = self.out.splitlines()
        assert len(lines) == 1, self.said
        found = json.loads(lines[0])
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True)
class Site:
    """A home with one study, and a desk (the working folder) with the files its people have."""

    home: Path
    desk: Path
    codes: Mapping[str, str]

    def typed(self, line: str, **environment: str) -> Ran:
        """Type a command line without its first word; run in this process, answering for everybody's passphrase."""
        out, err = io.StringIO(), io.StringIO()
        with self._seat(environment), redirect_stdout(out), redirect_stderr(err):
            code = run(shlex.split(line))
        return Ran(code, out.getvalue(), err.getvalue())

    def spawned(self, line: str, *, within: tuple[str, ...] = (), **environment: str | None) -> Ran:
        """The same in a process of its own, without a terminal, that may not wait for anything."""
        asked = {name: value for name, value in {**self._variables(), **environment}.items() if value is not None}
        done = subprocess.run(
            [*within, str(PROGRAM), *shlex.split(line)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=SECONDS, cwd=self.desk, env={**_bare_environment(), **asked}, start_new_session=True, check=False,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr)

    def form(self, name: str) -> str:
        """An example form with its dates moved to these days, as a path from the desk."""
        self.desk.joinpath("answers").mkdir(exist_ok=True)
        today = system_clock().astimezone(support.study().zone).date()
        self.desk.joinpath("answers", f"{name}.json").write_bytes(
            redated((ANSWERS / f"{name}.json").read_bytes(), today)
        )
        return f"answers/{name}.json"

    def service(self) -> AllocationService:
        """The study, opened beside the program; the caller closes it."""
        return AllocationService.open(study_place(self.home, None), stretching=ONLY_FOR_TESTS)

    def kinds(self) -> list[str]:
        """The kinds of all records, by asking the program."""
        return [json.loads(line)["kind"] for line in self.typed("--json log").out.splitlines()]

    def verdict(self) -> str:
        """What `verify` says."""
        return str(self.typed("--json verify").result["verdict"])

    def _variables(self) -> dict[str, str]:
        return {"ALLOCATOR_HOME": str(self.home), "ALLOCATOR_PASSPHRASE": PASSPHRASE}

    @contextmanager
    def _seat(self, environment: Mapping[str, str]) -> Iterator[None]:
        before = Path.cwd()
        os.chdir(self.desk)
        try:
            with (
                mock.patch.dict(os.environ, {**_bare_environment(), **self._variables(), **environment}, clear=True),
                mock.patch.object(sys, "stdin", io.StringIO()),
            ):
                yield
        finally:
            os.chdir(before)


def _bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("ALLOCATOR_", "_ALLOCATOR_"))}


def site_at(folder: Path, stage: str = "active") -> Site:
    """A site of its own in `folder`, as far as `stage`.

    Stage ``used``: P-001 is allocated, P-002 confirmed, P-101 refused. Stage ``full``: three of three are allocated and
    P-004 is confirmed.
    """
    stages, codes = _template(3 if stage == "full" else 10)
    desk = folder / "desk"
    desk.mkdir()
    for name, data in (("study.toml", support.STUDY_BYTES), ("registry.json", support.REGISTRY_BYTES)):
        desk.joinpath(name).write_bytes(data)
    shutil.copy(DESIGN_FILE, desk / "design.toml")
    home = folder / "home"
    if stage != "none":
        shutil.copytree(stages["active" if stage in ("used", "full") else stage], home)
    site = Site(home=home, desk=desk, codes=codes)
    if stage in ("used", "full"):
        _use(site, ("P-001", "P-002", "P-003") if stage == "full" else ("P-001",))
    return site


def _use(site: Site, allocated: tuple[str, ...]) -> None:
    service = site.service()
    investigator, pharmacist = (service.authenticate(p, lambda: PASSPHRASE, "use") for p in ("IN", "PH"))
    now = system_clock()
    for participant in allocated:
        service.confirm(investigator, participant, support.eligible_form(participant, now), {})
        service.reveal(pharmacist, participant, participant)
    following = f"P-{len(allocated) + 1:03d}"
    service.confirm(investigator, following, support.eligible_form(following, now), {})
    service.confirm(investigator, "P-101", support.ineligible_form(now), {})
    service.close_files()


def _given_entropy() -> Callable[[int], bytes]:
    """The same list in every run, so that transcripts can show arms."""
    drawn = itertools.count()
    return lambda size: hashlib.shake_256(b"%d" % next(drawn)).digest(size)


@cache
def _template(enrollment: int) -> tuple[dict[str, Path], dict[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="allocator-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    home, stages = folder / "home", {}
    support.open_home(
        home, support.study_bytes(enrollment=enrollment), findings=[support.finding()], clock=system_clock
    )
    service = AllocationService.open(study_place(home, None), stretching=ONLY_FOR_TESTS)
    sponsor = service.authenticate("SP", lambda: PASSPHRASE, "open")
    trial = Trial(home=home, service=service, actors={"SP": sponsor}, clock=Clock())

    def keep(stage: str) -> None:
        stages[stage] = Path(shutil.copytree(home, folder / stage))

    keep("opened")
    for person, role in PEOPLE.items():
        trial.enrol(person, role)
    trial.invite("NEW", "pharmacist")
    keep("enrolled")
    drawn = AllocationService.open(study_place(home, None), entropy=_given_entropy())
    drawn.generate(trial.actors["ST"], support.design())
    drawn.close_files()
    keep("sealed")
    service.grant(trial.actors["ST"], "PH")
    service.grant(trial.actors["ST"], "IN")
    keep("granted")
    service.decide(sponsor, "K06", "One to one.", "agreed with the investigator")
    service.activate(sponsor, "ethics file 12, page 3")
    keep("active")
    trial.close()
    return stages, dict(trial.codes)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An active study."""
    return site_at(tmp_path)


@pytest.fixture
def used(tmp_path: Path) -> Site:
    """An active study in which P-001 is allocated, P-002 confirmed and P-101 refused."""
    return site_at(tmp_path, "used")


# ---- options --------------------------------------------------------------------------------------------------------

OPTIONS = {
    "check": ("--design", "--registry"),
    "init": ("--person", "--name", "--registry", "--mode"),
    "person add": ("--name", "--role"),
    "person deactivate": ("--reason",),
    "person list": (),
    "person enrol": ("--code",),
    "person passphrase": (),
    "decide": ("--reading", "--reason"),
    "generate": ("--reason", "--seed"),
    "import": ("--origin", "--ratio", "--length", "--map", "--level", "--column", "--reason"),
    "list": ("--columns", "--to", "--map", "--level", "--column"),
    "grant": (),
    "balance": ("--sign", "--html", "--pdf"),
    "activate": ("--deposit",),
    "pause": ("--reason",),
    "resume": ("--reason",),
    "close": ("--reason",),
    "confirm": ("--answers", "--stratum", "--rescreen", "--correcting", "--reason"),
    "withdraw": ("--reason",),
    "reveal": ("--retype", "--dry-run"),
    "show": (),
    "status": (),
    "log": ("--participant", "--kind", "--person", "--since", "--at", "--follow"),
    "verify": ("--head", "--receipt", "--checkpoint"),
    "checkpoint": (),
    "receipt": ("--pdf", "--text"),
    "export": (),
    "open": (),
    "review": ("--from", "--to", "--findings"),
    "statement": ("--design", "--to"),
    "unblind": ("--reason",),
    "correct": ("--what", "--value", "--reason"),
    "demo": ("--home",),
}


def _command(path: str) -> click.Command:
    command: click.Command = cli
    for name in path.split():
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None, path
        command = found
    return command


@pytest.mark.parametrize(("path", "options"), OPTIONS.items(), ids=list(OPTIONS))
def test_a_command_has_its_options(path: str, options: tuple[str, ...]) -> None:
    found = {name for parameter in _command(path).params for name in parameter.opts}
    assert found >= set(options)


@pytest.mark.parametrize("path", OPTIONS)
def test_every_command_and_option_has_help(path: str, site: Site) -> None:
    command = _command(path)
    assert command.help
    assert [p.opts[0] for p in command.params if isinstance(p, click.Option) and not p.help] == []
    ran = site.typed(f"{path} --help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Usage: allocator {path}")


def test_help_groups_the_commands_by_who_uses_them(site: Site) -> None:
    said = site.typed("--help").out
    places = [said.index(f"\n{group}:\n") for group in GROUPS]
    assert places == sorted(places)
    for (group, commands), start, end in zip(GROUPS.items(), places, [*places[1:], len(said)], strict=True):
        assert all(re.search(rf"^  {name} ", said[start:end], re.MULTILINE) for name in commands), group


def test_every_command_of_the_help_can_be_imported() -> None:
    for name in MODULES:
        assert _command(name).name == name


def test_no_blanket_yes_exists(site: Site) -> None:
    for option in ("--yes", "-y", "--force", "--no-log"):
        assert site.typed(f"--as PH reveal P-001 {option}").code == 2


# ---- results --------------------------------------------------------------------------------------------------------

HASH = re.compile("[0-9a-f]{64}")
RECORD = {"seq": int, "hash": HASH}
ARM = {"code": re.compile("GCV|IL2-GCV"), "label": str}
ALLOCATION = {
    "participant": "P-001", "number": 1, "arm": ARM, "stratum": dict, "time": str, "repeated": bool, "record": RECORD,
    "receipt": object,
}  # fmt: skip
CRITERION = {"id": str, "met": bool, "answer": object, "reason": str}
CONFIRMATION = {"participant": str, "eligible": bool, "criteria": [CRITERION], "record": RECORD}
VERDICT = {"verdict": str, "records": int, "head": HASH, "root": HASH, "findings": []}
FINDING = {"id": str, "level": re.compile("block|warn|info"), "message": str, "quotes": [str], "decided": bool}

CORRECTED = (("ineligible", "I2b"), ("in-error", "P-002"), ("treatment", "GCV"), ("participant", "P-099"))

# stage, what is typed, exit code, the least that the result holds
RESULTS: list[tuple[str, str, int, dict[str, Any]]] = [
    ("none", "check study.toml --registry registry.json", 1, {"findings": [FINDING], "blockers": int}),
    ("none", "check study.toml --design design.toml", 1, {"findings": [FINDING], "blockers": int}),
    ("none", "init study.toml --person SP --name 'Li Na' --mode test", 0, {"study": STUDY_ID, "record": RECORD}),
    ("opened", "--as SP person add PH --name 'Jun Chen' --role pharmacist", 0,
     {"person": "PH", "roles": ["pharmacist"], "code": re.compile("[A-Z2-9]{4}(-[A-Z2-9]{4}){4}")}),
    ("enrolled", "--as NEW person enrol --code {NEW}", 0, {"person": "NEW", "record": RECORD}),
    ("enrolled", "--as PH person passphrase", 0, {"person": "PH", "record": RECORD}),
    ("enrolled", "--as SP person deactivate PH --reason left", 0, {"person": "PH", "record": RECORD}),
    ("enrolled", "person list", 0, {"people": [{"person": str, "name": str, "roles": [str], "state": str}]}),
    ("enrolled", "--as SP decide K06 --reading 'One to one.' --reason agreed", 0, {"finding": "K06", "record": RECORD}),
    ("enrolled", "--as ST generate design.toml", 0, {"sealing": str, "root": HASH, "strata": 1, "record": RECORD}),
    ("sealed", "--as ST list --columns blockrand", 0,
     {"columns": "blockrand", "entries": 20, "list": str, "record": RECORD}),
    ("sealed", "balance", 0, {"view": "blinded", "allocated": 0, "enrollment": 10, "strata": [dict], "months": []}),
    ("sealed", "--as ST balance --sign", 0,
     {"view": "restricted", "report": {"root": HASH, "faults": []}, "digest": HASH, "record": RECORD,
      "signed": {"person": "ST", "time": str, "report_digest": HASH, "record": RECORD}}),
    ("used", "--as ST balance", 0, {"view": "restricted", "allocated": 1, "signed": None, "drawn_again": False}),
    ("sealed", "--as ST grant PH", 0, {"person": "PH", "record": RECORD}),
    ("active", "--as AU pause --reason 'a question'", 0, {"state": "paused", "record": RECORD}),
    ("active", "--as SP close --reason done", 0, {"state": "closed", "record": RECORD}),
    ("active", "--as IN confirm P-001 --answers {P-001}", 0, {**CONFIRMATION, "eligible": True}),
    ("active", "--as IN confirm P-101 --answers {P-101}", 1, {**CONFIRMATION, "eligible": False}),
    ("used", "--as IN withdraw P-002 --reason consent", 0, {"participant": "P-002", "record": RECORD}),
    ("used", "--as PH reveal P-002 --retype P-002", 0,
     {**ALLOCATION, "participant": "P-002", "number": 2, "repeated": False}),
    ("used", "--as PH reveal P-001 --retype P-001", 0,
     {**ALLOCATION, "repeated": True, "receipt": re.compile(r".*/receipts/000001-P-001\.tlog-proof")}),
    ("used", "--as PH show P-001", 0, {**ALLOCATION, "state": "allocated", "history": [dict]}),
    ("used", "show P-101", 0, {"participant": "P-101", "state": "refused"}),
    ("used", "--as PH late P-002 --time {now} --reason 'power cut'", 0,
     {**ALLOCATION, "participant": "P-002", "number": 2, "late": {"agrees": True, "in_order": True}}),
    ("used", "--as SP backup {file}", 0, {"file": str, "records": int, "head": HASH, "record": RECORD}),
    ("used", "--as SP recover --reason 'disk put back'", 0,
     {"record": RECORD, "skipped": [], "state": "recovering"}),
    ("used", "--as CU share", 0, {"share": HASH, "record": RECORD}),
    ("used", "status", 0, {"state": "active", "allocated": 1}),
    ("used", "verify", 0, {**VERDICT, "verdict": "intact-local"}),
    ("used", "checkpoint", 0, {"note": re.compile(r"allocator/\w+/[0-9a-f]{16}\n[0-9]+\n.*", re.S), "size": int}),
    ("used", "--as PH receipt P-001", 0, {"receipt": re.compile(r"c2sp\.org/tlog-proof@v1\n.*", re.S)}),
    ("used", "--as AU export {file}", 0, {"files": [str]}),
    ("used", "--as ST open", 1, {"error": {"code": "not-closed"}}),
    ("used", "--as AU review --from 2026-01-01 --to {now} --findings none", 0, {"record": RECORD}),
    ("used", "statement public", 0, {"statement": "public", "text": str, "sha256": HASH, "bound": {"head": HASH}}),
    ("used", "--as ST statement restricted", 0, {"statement": "restricted", "bound": {"design_commitment": HASH}}),
    ("used", "statement consort", 1, {"error": {"code": "not-closed"}}),
    ("used", "--as IN unblind P-001 --reason emergency", 0, ALLOCATION),
    *(("used", f"--as PH correct P-001 --what {what} --value {value} --reason found", 0, {"record": RECORD})
      for what, value in CORRECTED),
]  # fmt: skip


def faults(value: Any, shape: Any, place: str = "result") -> list[str]:
    """Where a value does not have the shape; a dictionary may hold more than its shape names."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return [f"{place} is no object"]
        return [f for k, s in shape.items() for f in faults(value.get(k, ...), s, f"{place}.{k}")]
    if isinstance(shape, list) and len(shape) == 1 and isinstance(value, list) and not isinstance(shape[0], str):
        return [f for i, item in enumerate(value) for f in faults(item, shape[0], f"{place}[{i}]")]
    if isinstance(shape, re.Pattern):
        return [] if isinstance(value, str) and shape.fullmatch(value) else [f"{place} = {value!r}"]
    if isinstance(shape, type):
        right = value is not ... and isinstance(value, shape) and (shape is not int or not isinstance(value, bool))
        return [] if right else [f"{place} = {value!r}"]
    return [] if value == shape else [f"{place} = {value!r}"]


@pytest.mark.parametrize(("stage", "line", "code", "shape"), RESULTS, ids=[line for _, line, _, _ in RESULTS])
def test_the_result_of_a_command(stage: str, line: str, code: int, shape: dict[str, Any], tmp_path: Path) -> None:
    site = site_at(tmp_path, stage)
    for name in ("P-001", "P-101"):
        line = line.replace(f"{{{name}}}", site.form(name))
    line = line.replace("{now}", datetime.now(UTC).isoformat()).replace("{file}", str(tmp_path / "backup.tar"))
    ran = site.typed(f"--json {line.replace('{NEW}', site.codes['NEW'])}", ALLOCATOR_NEW_PASSPHRASE="other")
    assert ran.code == code, ran.said
    assert faults(ran.result, shape) == []
    assert ran.err == ""


def test_activate_resume_and_decided_findings(tmp_path: Path) -> None:
    site = site_at(tmp_path, "granted")
    assert site.typed("--json --as SP activate --deposit file").result["error"]["code"] == "undecided"
    check = "--json check study.toml --registry registry.json"
    before = site.typed(check).result["blockers"]
    site.typed("--as SP decide K06 --reading 'One to one.' --reason agreed")
    after = site.typed(check).result
    assert after["blockers"] == before - 1
    assert [f["id"] for f in after["findings"] if f["decided"]] == ["K06"]
    assert site.typed("--json --as SP activate --deposit file").result["state"] == "active"
    site.typed("--as PH pause --reason 'a question'")
    assert site.typed("--json --as SP resume --reason answered").result["state"] == "active"


def test_log_prints_one_object_a_line(used: Site) -> None:
    ran = used.typed("--json log")
    records = [json.loads(line) for line in ran.out.splitlines()]
    assert [record["seq"] for record in records] == list(range(len(records)))
    assert all(HASH.fullmatch(record["hash"]) and record["kind"] and record["time"] for record in records)
    assert (ran.code, ran.err) == (0, "")


def test_log_filters(used: Site) -> None:
    def seqs(options: str) -> list[int]:
        return [json.loads(line)["seq"] for line in used.typed(f"--json log {options}").out.splitlines()]

    every = seqs("")
    assert 0 < len(seqs("--participant P-001")) < len(every)
    assert len(seqs("--kind allocated")) == 1
    assert set(seqs("--person SP")).isdisjoint(seqs("--person PH"))
    assert seqs("--since 2000-01-01") == every == seqs("--at 2999-01-01T00:00Z")
    assert seqs("--since 2999-01-01") == [] == seqs("--at 2000-01-01T00:00+08:00")


def test_a_dry_run_writes_nothing(used: Site) -> None:
    before = used.kinds()
    assert used.typed("--json --as PH reveal P-002 --dry-run").code == 0
    assert used.typed("--json --as PH reveal P-003 --dry-run").code == 1
    assert used.kinds() == before


@pytest.mark.requirement("C03")
@pytest.mark.parametrize(
    "line", ["status", "log", "show P-001", "--as PH show P-001", "person list", "verify", "statement public"]
)
def test_the_site_sees_no_position_block_or_list_length(line: str, used: Site) -> None:
    said = used.typed(f"--json {line}").said.lower() + used.typed(line).said.lower()
    for banned in ('"position"', "block_size", "block size", '"length"', '"release"', "design_commitment"):
        assert banned not in said


@pytest.mark.requirement("U01")
@pytest.mark.parametrize(
    "line", ["status", "log", "show P-001", "person list", "verify", "--json log", "--json show P-001"]
)
def test_no_arm_without_a_passphrase(line: str, used: Site) -> None:
    said = used.typed(line).said
    assert "GCV" not in said
    assert "anciclovir" not in said


def test_show_gives_the_history_to_those_who_see_no_arm(used: Site) -> None:
    ran = used.typed("--json --as AU show P-001")
    assert ran.code == 0
    assert "arm" not in ran.result


@pytest.mark.requirement("V03")
def test_every_arm_of_a_test_carries_the_notice(used: Site) -> None:
    for line in ("reveal P-001 --retype P-001", "show P-001", "unblind P-001 --reason emergency"):
        assert "TEST: NOT FOR A PATIENT" in used.typed(f"--as PH {line}").out
        assert used.typed(f"--json --as PH {line}").result["notice"] == "TEST: NOT FOR A PATIENT"


@pytest.mark.requirement("E09")
def test_the_summary_comes_before_the_arm(used: Site) -> None:
    ran = used.typed("--as PH reveal P-002 --retype P-002")
    for shown in (STUDY_ID, "test", str(used.home), "P-002", "age", "sex", "Stratum", "IN (Dr IN)"):
        assert shown in ran.err
    assert "GCV" not in ran.err.replace("Low-dose IL-2 and ganciclovir in cytomegalovirus infection", "")


@pytest.mark.requirement("S07")
def test_everybody_who_signs_is_in_the_list_of_people(used: Site) -> None:
    listed = {person["person"]: person for person in used.typed("--json person list").result["people"]}
    assert set(PEOPLE) < set(listed)
    assert [listed["PH"][key] for key in ("name", "roles", "state")] == ["Dr PH", ["pharmacist"], "active"]
    assert listed["NEW"]["state"] == "invited"
    assert used.typed("--as SP person deactivate PH --reason left").code == 0
    after = {person["person"]: person["state"] for person in used.typed("--json person list").result["people"]}
    assert after == {**{p: entry["state"] for p, entry in listed.items()}, "PH": "deactivated"}
    signed = {json.loads(line).get("person") for line in used.typed("--json log").out.splitlines()}
    assert signed <= set(listed)
    assert re.search(r"^PH +deactivated +pharmacist +Dr PH$", used.typed("person list").out, re.M)


@pytest.mark.requirement("A09")
@pytest.mark.requirement("S01")
def test_the_screen_of_an_allocation_is_a_receipt(used: Site) -> None:
    """Who signed, when, meaning what, and the record's whole hash, which is a head to keep outside."""
    ran = used.typed("--as PH reveal P-002 --retype P-002")
    record = json.loads(used.typed("--json log --kind allocated").out.splitlines()[-1])
    screen = dict(
        re.findall(r"^  (Participant|Randomization no\.|Signed by|Meaning|Record|Hash) +(.*)$", ran.out, re.M)
    )
    assert screen == {
        "Participant": "P-002",
        "Randomization no.": "2",
        "Signed by": "PH (Dr PH), pharmacist",
        "Meaning": record["meaning"],
        "Record": str(record["seq"]),
        "Hash": record["hash"],
    }
    there = datetime.fromisoformat(record["time"]).astimezone(support.study().zone)
    assert f"Allocated          {there:%Y-%m-%d %H:%M:%S} Asia/Shanghai" in ran.out
    assert used.typed(f"--json verify --head {screen['Hash']}").result["verdict"] == "intact"


# ---- exit codes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("--as PH reveal P-003 --retype P-003", 1, "not-confirmed"),
        ("--as IN reveal P-002 --retype P-002", 1, "not-permitted"),
        ("--as PH reveal P-002 --retype P-001", 1, "retype-differs"),
        ("--as PH reveal P-002", 2, "retype-missing"),
        ("--as PH reveal P-1x --retype P-1x", 2, "participant"),
        ("--as IN confirm P-003", 2, "no-answers"),
        ("--as IN confirm P-003 --answers gone.json", 2, "cannot-read"),
        ("--as IN confirm P-003 --answers a --rescreen --correcting 3", 2, "usage"),
        ("reveal P-002 --retype P-002", 2, "no-person"),
        ("reveal", 2, "usage"),
        ("--as", 2, "usage"),
        ("--nonsense status", 2, "usage"),
        ("status --nonsense", 2, "usage"),
        ("revael P-002", 2, "usage"),
        ("person ad", 2, "usage"),
        ("--study NCT0 status", 2, "no-study"),
        ("log --kind reveals", 2, "kind"),
        ("log --since yesterday", 2, "since"),
        ("verify --head 12", 2, "head"),
        ("--as XX reveal P-002 --retype P-002", 4, "unknown-person"),
        ("--as NEW reveal P-002 --retype P-002", 4, "not-enrolled"),
        ("--as NEW person enrol --code AAAA-AAAA-AAAA-AAAA-AAAA", 4, "wrong-code"),
    ],
)
def test_an_error_has_its_code_its_words_and_what_next(line: str, code: int, error: str, used: Site) -> None:
    ran = used.typed(f"--json {line}")
    assert (ran.code, ran.err) == (code, "")
    assert set(ran.result) == {"error"}
    assert set(ran.result["error"]) == {"code", "message", "hint", "details"}
    assert ran.result["error"]["code"] == error
    assert ran.result["error"]["message"]
    plain = used.typed(line)
    assert (plain.code, plain.out) == (code, "")
    assert re.search("^(Refused|Error): ", plain.err, re.MULTILINE)
    assert "Traceback" not in plain.err


def test_a_wrong_passphrase_is_4_and_recorded(used: Site) -> None:
    ran = used.typed("--json --as PH reveal P-002 --retype P-002", ALLOCATOR_PASSPHRASE="guess")
    assert (ran.code, ran.result["error"]["code"]) == (4, "wrong-passphrase")
    assert used.kinds()[-1] == "attempt-failed"


def test_enrolment_complete_is_a_refusal(tmp_path: Path) -> None:
    ran = site_at(tmp_path, "full").typed("--as PH reveal P-004 --retype P-004")
    assert ran.code == 1
    assert "Enrolment complete: 3 of 3" in ran.err


def test_broken_evidence_is_3_for_verify_and_for_every_act(used: Site) -> None:
    used.home.joinpath("schedules", STUDY_ID, "sealed.json").write_bytes(b"{}")
    verified = used.typed("--json verify")
    assert (verified.code, verified.result["verdict"]) == (3, "broken")
    assert verified.result["findings"]
    assert used.typed("--json --as PH reveal P-002 --retype P-002").code == 3


def test_a_busy_study_is_5_and_nothing_is_written(used: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = used.kinds()
    ticks = iter(range(0, 10_000, 5))
    monkeypatch.setattr("allocator.keys.time", SimpleNamespace(monotonic=lambda: next(ticks), sleep=lambda _: None))
    service = used.service()
    with service._keys.lock():
        ran = used.typed("--json --as PH reveal P-002 --retype P-002")
    service.close_files()
    assert (ran.code, ran.result["error"]["code"]) == (5, "busy")
    assert used.kinds() == before


def test_interrupted_is_130(used: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AllocationService, "reveal", mock.Mock(side_effect=KeyboardInterrupt))
    ran = used.typed("--json --as PH reveal P-002 --retype P-002")
    assert (ran.code, ran.result["error"]["code"]) == (130, "interrupted")
    assert used.typed("--as PH reveal P-002 --retype P-002").code == 130


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (RuntimeError("a fault"), 3),
        (RecursionError("deep"), 3),
        (MemoryError(), 5),
        (OSError(28, "No space left on device"), 5),
        (StorageError("busy", "busy"), 5),
        (EvidenceError("log-damaged", "damaged"), 3),
    ],
)
def test_no_traceback_reaches_a_user(raised: Exception, code: int, used: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AllocationService, "status", mock.Mock(side_effect=raised))
    ran = used.typed("status")
    assert ran.code == code
    assert "Traceback" not in ran.said
    assert used.typed("--json status").result["error"]["message"]


@pytest.mark.parametrize("option", ["--json", "--as", "--home", "--study"])
def test_an_option_behind_its_command_is_explained(option: str, used: Site) -> None:
    ran = used.typed(f"reveal P-002 {option} PH")
    assert ran.code == 2
    assert f"{option} stands before the command" in ran.err


def test_a_mistyped_command_names_the_right_one(used: Site) -> None:
    assert "Did you mean 'reveal'?" in used.typed("revael P-002").err


# ---- who, where, which ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["check study.toml", "status", "log", "show P-001", "verify"])
def test_looking_needs_no_person_and_no_passphrase(line: str, used: Site) -> None:
    assert used.spawned(line, ALLOCATOR_PASSPHRASE=None).code in (0, 1 if line.startswith("check") else 0)


def test_person_and_study_from_the_environment(used: Site) -> None:
    ran = used.typed("--json reveal P-001 --retype P-001", ALLOCATOR_PERSON="PH", ALLOCATOR_STUDY=STUDY_ID)
    assert ran.result["repeated"] is True
    assert used.typed("status", ALLOCATOR_STUDY="OTHER").code == 2


def test_the_home_is_found_upwards(used: Site) -> None:
    below = used.home / "schedules" / STUDY_ID
    done = subprocess.run(
        [PROGRAM, "--json", "status"], cwd=below, env=_bare_environment(), capture_output=True, check=False
    )
    assert json.loads(done.stdout)["study"] == STUDY_ID


def test_no_home_upwards_is_an_input_error(used: Site) -> None:
    assert used.spawned("--json status", ALLOCATOR_HOME=None).result["error"]["code"] == "no-home"


def test_one_of_several_studies_is_chosen(used: Site) -> None:
    other = used.desk.joinpath("study.toml").read_text().replace(f'id = "{STUDY_ID}"', 'id = "OTHER-1"')
    used.desk.joinpath("other.toml").write_text(other)
    assert used.typed("init other.toml --person SP --name Other --mode test").code == 0
    unclear = used.typed("status")
    assert (unclear.code, "OTHER-1" in unclear.err) == (2, True)
    assert used.typed("--json --study OTHER-1 status").result["study"] == "OTHER-1"
    assert used.typed(f"--json --study {STUDY_ID} status").result["allocated"] == 1


@pytest.mark.parametrize(("written", "code"), [("pw", 0), ("pw\n", 0), ("pw\n\n", 4), ("wrong\n", 4), (" pw", 4)])
def test_the_passphrase_from_a_file(written: str, code: int, used: Site) -> None:
    file = used.desk / "passphrase"
    file.write_text(written)
    ran = used.spawned("--passphrase-file passphrase --as PH show P-001", ALLOCATOR_PASSPHRASE=None)
    assert ran.code == code, ran.said


def test_the_environments_passphrase_comes_first(used: Site) -> None:
    used.desk.joinpath("passphrase").write_text("wrong")
    assert used.typed("--passphrase-file passphrase --as PH show P-001").code == 0


def test_colour_is_off_where_asked(used: Site) -> None:
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {}):
        assert "\x1b" not in used.typed("--help", **environment).out


# ---- without a terminal nothing waits -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("--as PH reveal P-002", 2, "retype-missing"),
        ("--as PH reveal P-002 --retype P-002", 4, "no-passphrase"),
        ("--as IN confirm P-003", 2, "no-answers"),
        ("--as NEW person enrol --code {NEW}", 4, "no-passphrase"),
        ("--as SP pause --reason question", 4, "no-passphrase"),
        ("--home fresh init study.toml --person SP --name Li --mode test", 4, "no-passphrase"),
    ],
)
def test_nothing_waits_for_an_answer_off_a_terminal(line: str, code: int, error: str, used: Site) -> None:
    ran = used.spawned(f"--json {line.replace('{NEW}', used.codes['NEW'])}", ALLOCATOR_PASSPHRASE=None)
    assert (ran.code, ran.result["error"]["code"]) == (code, error)


def test_closed_standard_streams_are_no_fault(used: Site) -> None:
    command = f"exec {shlex.quote(str(PROGRAM))} --as PH reveal P-002 <&- 2>&-"
    done = subprocess.run(
        ["sh", "-c", command], env={**_bare_environment(), **used._variables()}, stdout=subprocess.PIPE,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 2


def test_a_reader_that_goes_away_is_no_error(used: Site) -> None:
    command = f"{shlex.quote(str(PROGRAM))} log | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], env={**_bare_environment(), **used._variables()}, stderr=subprocess.PIPE,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")


# ---- the shell ------------------------------------------------------------------------------------------------------


def test_bash_completion(used: Site) -> None:
    source = used.spawned("", _ALLOCATOR_COMPLETE="bash_source")
    assert (source.code, "complete -o nosort -F" in source.out) == (0, True)
    words = used.spawned("", _ALLOCATOR_COMPLETE="bash_complete", COMP_WORDS="allocator re", COMP_CWORD="1")
    expected = ("reveal", "receipt", "reseal", "resume", "restore", "recover", "review")
    assert words.out.split() == [f"plain,{name}" for name in expected]
    options = used.spawned("", _ALLOCATOR_COMPLETE="bash_complete", COMP_WORDS="allocator reveal --", COMP_CWORD="2")
    assert "plain,--retype" in options.out.split()


def test_the_version(used: Site) -> None:
    assert re.fullmatch(r"allocator \d+\.\d+\.\d+\n", used.spawned("--version").out)


def test_what_the_terminal_cannot_print_is_escaped(used: Site) -> None:
    assert used.typed("--as SP person add WZ --name 张伟 --role auditor").code == 0
    ran = used.spawned("person list", PYTHONIOENCODING="latin-1:strict")
    assert ran.code == 0, ran.err
    assert "\\u5f20\\u4f1f" in ran.out
