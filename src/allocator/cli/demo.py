"""`demo`: the whole story of the first study, told with the very commands its people would type."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from allocator.cli.call import Call, pass_call
from allocator.errors import InputError

STUDY = "NCT04225780"
PEOPLE = (
    ("STAT-1", "Wen Liu", "statistician", "draws and seals the list; never enrols"),
    ("CUST-1", "Ana Ortiz", "custodian", "outside the trial team; holds the other share of the seed"),
    ("INV-1", "Mei Zhang", "investigator", "confirms who is eligible"),
    ("PHAR-1", "Jun Chen", "pharmacist", "requests the next arm"),
    ("AUD-1", "Ruth Okafor", "auditor", "checks everything, trusts nobody"),
)
WIDTH = 92
COMMAND_LINE = click.core.ParameterSource.COMMANDLINE
VARIABLES = tuple(f"ALLOCATOR_{name}" for name in ("HOME", "STUDY", "PERSON", "PASSPHRASE", "STORE"))
READINGS = {
    "K01": "The protocol randomizes; the registry entry is to be corrected.",
    "K02": "Open label, no placebo: the comparator is ganciclovir alone.",
    "K03": "The comparator arm receives ganciclovir only.",
    "K04": "Both hold: CMV-DNA positive, and more than 1000 copies per mL.",
    "K05": "Copies per mL of plasma.",
    "K06": "One to one.",
}


@click.command()
@click.option(
    "--home", "folder", metavar="DIR", type=click.Path(path_type=Path), help="Keep the home here (a new folder)."
)
@pass_call
@click.pass_context
def demo(ctx: click.Context, call: Call, folder: Path | None) -> None:
    """Tell the whole story of NCT04225780 in a fresh home, in mode test, with invented participants."""
    # --home in front of `demo` counts too, but never ALLOCATOR_HOME: that is where real work lies
    if folder is None and call.home and ctx.parent and ctx.parent.get_parameter_source("home") == COMMAND_LINE:
        folder = Path(call.home)
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise InputError("not-empty", f"{folder} is not empty", "The demo needs a folder of its own.")
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="allocator-demo-")))
        story = Story(home=folder, files=first_study_files(), quiet=call.as_json)
        with _environment_kept():
            result = story.tell()
    if call.as_json:
        call.show(result, "")


@dataclass(kw_only=True)
class Story:
    """Runs commands as their people would and prints what they print."""

    home: Path
    files: dict[str, Path]
    quiet: bool
    refused: int = 0
    allocated: int = 0

    def tell(self) -> dict[str, Any]:
        """All chapters, in order; returns what `--json` prints."""
        self._protocol()
        self._people()
        self._list()
        self._first_participant()
        self._refusals()
        self._enrolment()
        verdict = self._evidence()
        self._tampering()
        self._opening()
        self._farewell()
        return {"allocated": self.allocated, "refused": self.refused, "verdict": verdict}

    # ---- chapters ---------------------------------------------------------------------------------------------

    def _protocol(self) -> None:
        self.say(
            "1. The protocol, held against its public registry record",
            "NCT04225780 compares low-dose IL-2 and ganciclovir with ganciclovir alone in cytomegalovirus infection: "
            "10 participants, two arms, open label. Before anything is drawn, the study file is held against the "
            "registry record. They contradict each other:",
        )
        study, registry = str(self.files["study"]), str(self.files["registry"])
        arguments = ("check", study, "--registry", registry)
        self.line(f"$ allocator {' '.join(_typed(a) for a in arguments)}")
        result = self.silently("", *arguments, expect=1)
        self.refused -= 1  # a check that finds blockers is no refusal
        for finding in result["findings"]:
            self._finding(finding)
        blockers = [f["id"] for f in result["findings"] if f["level"] == "block"]
        self.line(f"{len(result['findings'])} findings, {result['blockers']} of them block activation.\n")
        self.say(
            "",
            "The sponsor opens the study. Record 0 of the log holds the fingerprint of the study file and these "
            "findings, so that nobody can say later that they were not known.",
        )
        who = ("--person", "SPON-1", "--name", "Li Na")
        self.told("SPON-1", "init", study, *who, "--registry", registry, "--mode", "test")
        self.say("", "Each blocker needs a decision that a person signs:")
        for index, finding in enumerate(blockers):
            decision = (
                "decide",
                finding,
                "--reading",
                READINGS[finding],
                "--reason",
                "Agreed with the PI, protocol 1.0",
            )
            if index == 0:
                self.told("SPON-1", *decision)
            else:
                self.silently("SPON-1", *decision)
                self.line(f"  {finding} is decided by SPON-1: {READINGS[finding]}")

    def _finding(self, finding: dict[str, Any]) -> None:
        blocks = finding["level"] == "block"
        mark = {"block": "BLOCKS", "warn": "warns", "info": "notes"}[finding["level"]]
        message = finding["message"] if blocks else finding["message"].partition(" Proposed reading:")[0]
        first, *rest = textwrap.wrap(message, 80)
        self.line(f"  {finding['id']}  {mark:<7} {first}")
        for line in rest:
            self.line(" " * 15 + line)
        for quote in finding["quotes"][:2] if blocks else ():
            self.line(" " * 15 + f"| “{textwrap.shorten(quote, 84, placeholder=' …')}”")

    def _people(self) -> None:
        self.say(
            "2. People, each with keys of their own",
            "The sponsor invites; each person enrols with a one-time code and a passphrase of their own, so that "
            "nobody else ever had their keys. Who enrols or dispenses is never the one who knows the list.",
        )
        for index, (person, name, role, does) in enumerate(PEOPLE):
            self.line(f"  {person:<7} {name:<11} {role}: {does}")
            added = self.silently("SPON-1", "person", "add", person, "--name", name, "--role", role)
            enrol = (person, "person", "enrol", "--code", added["code"])
            if index == 0:
                self.told(*enrol)
            else:
                self.silently(*enrol)

    def _list(self) -> None:
        self.say(
            "3. The design: what it balances, and what it gives away",
            "In an open study everybody sees the past, and in blocks the past tells the future. Before the list is "
            "drawn, the statistician weighs two designs over the 10 participants, by exact figures:",
        )
        designs = (str(self.files["design"]), str(self.files["alternative"]))
        self.told("", "assess", *designs, "--enrollment", "10")
        self.say(
            "",
            "Blocks end balanced four times in five, and let a recruiter who keeps count guess two in three. Big stick "
            "gives up balance instead: its price is 6:4 in two studies of three. This study chooses the blocks, "
            "knowing the price.",
        )
        self.say(
            "4. The list: drawn, sealed, committed to",
            "The statistician draws the list in permuted blocks from 64 bytes of the system's entropy. Every entry is "
            "encrypted on its own and committed to; one 32-byte root fixes them all. No arm is shown to anybody, and "
            "the seed leaves in two sealed shares.",
        )
        self.told("STAT-1", "generate", str(self.files["design"]))
        sealed = json.loads((self.home / "schedules" / STUDY / "sealed.json").read_bytes())
        entry = sealed["strata"][0]["entries"][0]
        self.line(f"  What the disk holds of entry 1 of the list: {entry[:60]}…\n")
        checked = self.silently("STAT-1", "balance", "--sign")
        self.say(
            "",
            "The statistician opens the list in memory, which is a record, checks it against its design, and signs "
            f"that no fault was found (balance --sign, record {checked['signed']['record']['seq']}).",
        )
        self.say(
            "",
            "The key of each entry has two halves: the pharmacists' and the investigators'. Neither opens an entry "
            "alone. Then the sponsor activates, saying where the root was deposited outside.",
        )
        self.told("STAT-1", "grant", "PHAR-1")
        self.told("STAT-1", "grant", "INV-1")
        self.told("SPON-1", "activate", "--deposit", "Ethics committee file 2026-17, mailed to the registry")

    def _first_participant(self) -> None:
        self.say(
            "5. The first participant",
            "It is three in the morning. The pharmacist asks too early: nobody has confirmed eligibility yet. The "
            "refusal is a record too, and it uses up nothing.",
        )
        self.told("PHAR-1", "reveal", "P-001", "--retype", "P-001", expect=1)
        self.say(
            "",
            "The investigator gives the participant's eligibility form: 24 criteria, judged one by one. The "
            "confirmation binds the next entry of the list to this participant and carries the investigator's half "
            "of that one entry's key.",
        )
        self.told("INV-1", "confirm", "P-001", "--answers", self.form("P-001"))
        self.say("", "Now the pharmacist asks again and retypes the participant. Logged first, revealed second:")
        self._reveal("P-001", brief=False)
        self.say("", "The network failed, the pharmacist asks once more: the same allocation, never a second one.")
        self._reveal("P-001", brief=False, repeated=True)

    def _refusals(self) -> None:
        self.say("6. Not eligible", "Three participants with real numbers, and why each is refused:")
        for participant in ("P-101", "P-102", "P-103"):
            self.told("INV-1", "confirm", participant, "--answers", self.form(participant), expect=1)
        self.say("", "The pharmacist learns that there is no confirmation, never the medical reason:")
        self.told("PHAR-1", "reveal", "P-101", "--retype", "P-101", expect=1)
        self.say("", "And an investigator cannot reveal, whatever they type:")
        self.told("INV-1", "reveal", "P-001", "--retype", "P-001", expect=1)

    def _enrolment(self) -> None:
        self.say("7. Enrolment to ten", "Nine more participants are confirmed and allocated.")
        for number in range(2, 11):
            participant = f"P-{number:03d}"
            self.silently("INV-1", "confirm", participant, "--answers", self.form(participant))
            self._reveal(participant, brief=True)
        self.say("", "Ten is the approved number. The eleventh is eligible, and refused all the same:")
        self.silently("INV-1", "confirm", "P-011", "--answers", self.form("P-011"))
        self.told("PHAR-1", "reveal", "P-011", "--retype", "P-011", expect=1)

    def _evidence(self) -> str:
        self.say("8. The log", "Every reveal and every refusal is a record, signed and chained to the one before:")
        self.told("", "log", "--kind", "allocated")
        self.told("", "log", "--kind", "refused")
        self.say("", "One participant from first request to now:")
        self.told("", "show", "P-001")
        self.say(
            "9. The auditor",
            "The auditor needs no passphrase and no word of ours: the chain, each signature and role at its time, "
            "each form judged again, each revealed arm held to the commitment made before the first participant. "
            "The auditor kept the head of the log elsewhere:",
        )
        head = self.silently("", "status")["head"]
        self.told("", "verify", "--head", head)
        verdict = str(self.silently("", "verify", "--head", head)["verdict"])
        self.say(
            "",
            "Each reveal also left a receipt in the pharmacy file: the signed record, its place in the log, and the "
            "opened entry with its path to the root that was fixed before the first participant. One alone needs "
            "neither the log nor this home, only the hash that was printed when the arm was shown:",
        )
        receipt = str(self._receipt("000004-P-004"))
        shown = self.silently("PHAR-1", "show", "P-004")
        self.told("", "verify", receipt, "--head", shown["record"]["hash"])
        self.say("", "And a log is held to it, as to a head: one that lacks the record of a receipt is broken.")
        self.told("", "verify", "--receipt", receipt)
        return verdict

    def _receipt(self, name: str) -> Path:
        return self.home / "schedules" / STUDY / "receipts" / f"{name}.tlog-proof"

    def _tampering(self) -> None:
        self.say(
            "10. One byte",
            "Somebody changes one byte in a copy of the log: the fourth allocation gets another randomization number.",
        )
        with tempfile.TemporaryDirectory(prefix="allocator-demo-") as folder:
            copy = Path(folder) / "copy"
            shutil.copytree(self.home, copy)
            log = copy / "schedules" / STUDY / "log.sqlite3"
            data = log.read_bytes()
            if data.count(b'"number":4') != 1:
                raise RuntimeError("the byte to change is not where it was")
            log.write_bytes(data.replace(b'"number":4', b'"number":7'))
            home, self.home = self.home, copy
            self.told("", "verify", expect=3)
            self.home = home

    def _opening(self) -> None:
        self.say(
            "11. The end: the list is opened, and everything leaves the building",
            "All ten are allocated. The sponsor closes the study; then statistician and custodian each give their "
            "share of the seed. With both, anybody draws the whole list again and compares it with what was sealed.",
        )
        self.told("SPON-1", "close", "--reason", "all ten are allocated")
        self.told("STAT-1", "open")
        self.told("CUST-1", "open")
        export = self.home / "export"
        self.told("AUD-1", "export", str(export))
        self.say(
            "",
            "The export needs nothing of ours. A second program, in one file and written from the specification alone, "
            "follows the chain, judges every rule, draws the list again, and says the same:",
        )
        self._second_opinion(export)

    def _second_opinion(self, export: Path) -> None:
        """Run the export's own verifier as a stranger would: a plain Python, without our package."""
        self.line(f"$ python3 {_typed(str(export / 'verify.py'))} {_typed(str(export))}")
        command = [sys.executable, "-I", "-S", str(export / "verify.py"), str(export)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for line in (done.stdout + done.stderr).rstrip().splitlines():
            self.line("  " + line)
        self.line()
        if done.returncode != 0:
            raise RuntimeError(f"the second verifier ended with {done.returncode}: {done.stdout}{done.stderr}")

    def _farewell(self) -> None:
        self.line(
            f"That is the whole story: {self.allocated} allocated, {self.refused} refusals, all of them in the log."
        )

    # ---- telling ----------------------------------------------------------------------------------------------

    def _reveal(self, participant: str, *, brief: bool, repeated: bool = False) -> None:
        request = ("PHAR-1", "reveal", participant, "--retype", participant)
        if brief:
            result = self.silently(*request)
            code, number = result["arm"]["code"], result["number"]
            self.line(f"  {participant}   randomization no. {number:>2}   {code:<8}   {result['notice']}")
        else:
            self.told(*request)
        self.allocated += not repeated

    def form(self, participant: str) -> str:
        """The participant's form with its dates moved to these days, as a file beside the home."""
        from allocator.example_answers import redated

        today = datetime.now(UTC).astimezone(ZoneInfo("Asia/Shanghai")).date()
        folder = self.home / "forms"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{participant}.json"
        path.write_bytes(redated((self.files["answers"] / path.name).read_bytes(), today))
        return str(path)

    def told(self, person: str, *arguments: str, expect: int = 0) -> str:
        """Type a command, show it and all that it prints; returns what it printed."""
        self.line(f"$ allocator {f'--as {person} ' if person else ''}{' '.join(_typed(a) for a in arguments)}")
        code, output, talk = self._run(person, [], arguments)
        for text in (talk, output):
            for line in text.rstrip().splitlines():
                self.line("  " + line)
        self.line()
        self._expected(arguments, code, expect, output + talk)
        return output

    def silently(self, person: str, *arguments: str, expect: int = 0) -> dict[str, Any]:
        """Run a command with --json and show nothing of it; returns its result."""
        code, output, talk = self._run(person, ["--json"], arguments)
        self._expected(arguments, code, expect, output + talk)
        result: dict[str, Any] = json.loads(output)
        return result

    def _run(self, person: str, options: list[str], arguments: tuple[str, ...]) -> tuple[int, str, str]:
        from allocator.cli import run

        os.environ["ALLOCATOR_PASSPHRASE"] = f"demonstration {person}"
        command = ["--home", str(self.home), *(["--as", person] if person else []), *options, *arguments]
        output, talk = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(talk):
            code = run(command)
        return code, output.getvalue(), talk.getvalue()

    def _expected(self, arguments: tuple[str, ...], code: int, expect: int, said: str) -> None:
        if code != expect:
            raise RuntimeError(f"{' '.join(arguments)} ended with {code} where {expect} was expected: {said}")
        if code == 1:
            self.refused += 1

    def say(self, title: str, text: str) -> None:
        """A chapter's title and the words of the teller."""
        if title:
            self.line(f"\n{title}\n{'-' * len(title)}")
        for line in textwrap.wrap(text, WIDTH):
            self.line(line)
        self.line()

    def line(self, text: str = "") -> None:
        """One line of the story."""
        if not self.quiet:
            click.echo(text)


def _typed(argument: str) -> str:
    """An argument as a person would type it: quoted where it has spaces, files by their last two parts."""
    path = Path(argument)
    if path.is_absolute():
        return "/".join(path.parts[-2:])
    return f'"{argument}"' if " " in argument else argument


@contextlib.contextmanager
def _environment_kept() -> Iterator[None]:
    """The demo sets passphrases by the environment; nothing of it stays, and nothing of the caller's leaks in."""
    kept = {name: os.environ.pop(name, None) for name in VARIABLES}
    try:
        yield
    finally:
        for name, value in kept.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def first_study_files() -> dict[str, Path]:
    """The files of the first study: inside the installed package, or in the repository it is installed from."""
    package = Path(__file__).parent.parent
    installed, repository = package / "first_study", package.parent.parent
    if (installed / "study.toml").exists():
        study, examples = installed, installed / "examples"
    else:
        study, examples = repository / "schedules" / STUDY, repository / "examples" / STUDY
    return {
        "study": study / "study.toml",
        "registry": study / "registry.json",
        "design": examples / "design.toml",
        "alternative": examples / "big-stick.toml",
        "answers": examples / "answers",
    }
