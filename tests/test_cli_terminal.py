"""A person at a real terminal: what is asked, what is not echoed, what an interruption or a closed screen leaves."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import support
from allocator.answers_form import parse_form
from allocator.criterion import Criterion
from support import PASSPHRASE
from test_cli_contract import PROGRAM, SECONDS, Site, _bare_environment, site_at

FIELDS = {
    "Which (name it)": "text",
    "Specimen": "specimen",
    "Upper limit of normal": "uln",
    "Date of the result": "date",
}


RETYPE, PASSPHRASE_OF = "Retype the participant: ", "Passphrase of PH: "
REQUEST = {RETYPE: "P-002", PASSPHRASE_OF: PASSPHRASE}  # what a pharmacist types to allocate P-002


class Terminal:
    """A program on a pseudo-terminal of its own; `stdout` may lead elsewhere."""

    def __init__(self, site: Site, *arguments: str, stdout: int | None = None) -> None:
        self.screen, self._typed_at = "", 0
        self._reader, slave = pty.openpty()
        environment = {**_bare_environment(), "ALLOCATOR_HOME": str(site.home), "TERM": "dumb"}
        self._program = subprocess.Popen(
            [PROGRAM, *arguments], stdin=slave, stderr=slave, stdout=slave if stdout is None else stdout,
            cwd=site.desk, env=environment, start_new_session=True, preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(slave)

    def asked(self, *texts: str) -> str:
        """Wait until the screen says one of these after what was last typed; which one."""
        deadline = time.monotonic() + SECONDS
        while True:
            for text in texts:
                if text in self.screen[self._typed_at :]:
                    return text
            assert time.monotonic() < deadline, f"{texts} was never asked:\n{self.screen}"
            assert self._read(0.2), f"{texts} was never asked:\n{self.screen}"

    def answers(self, replies: dict[str, str], *, until: str = "") -> None:
        """Answer each of these prompts as it comes, in whatever order; stop in front of the prompt `until`."""
        open_ = dict(replies)
        while open_:
            prompt = self.asked(*open_)
            if prompt == until:
                return
            self.types(open_.pop(prompt))

    def types(self, text: str) -> None:
        """Type a line."""
        self._typed_at = len(self.screen)
        os.write(self._reader, text.encode() + b"\n")

    def presses(self, key: bytes) -> None:
        """Press a key, such as Ctrl-C, as late after the prompt as a person would: not in the very same moment."""
        time.sleep(0.3)
        self._typed_at = len(self.screen)
        os.write(self._reader, key)

    def echoes(self) -> bool:
        """Whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self._reader)[3] & termios.ECHO)

    def ends(self) -> int:
        """Wait for the end; the exit code."""
        deadline = time.monotonic() + SECONDS
        while self._read(0.2):
            assert time.monotonic() < deadline, f"it never ended:\n{self.screen}"
        code = self._program.wait(timeout=SECONDS)
        self.close()
        return code

    def close(self) -> None:
        """End the program if it still runs."""
        if self._program.poll() is None:
            self._program.kill()
            self._program.wait()
        if self._reader >= 0:
            os.close(self._reader)
            self._reader = -1

    def _read(self, seconds: float) -> bool:
        if select.select([self._reader], [], [], seconds)[0]:
            try:
                data = os.read(self._reader, 65_536)
            except OSError:  # EIO: the program has closed the terminal
                return False
            self.screen += data.decode("utf-8", "replace").replace("\r\n", "\n")
            return bool(data)
        return self._program.poll() is None


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return site_at(tmp_path, "used")


@pytest.fixture
def seat(site: Site) -> Iterator[type[Terminal]]:
    opened: list[Terminal] = []

    class Seat(Terminal):
        def __init__(self, *arguments: str, stdout: int | None = None) -> None:
            super().__init__(site, *arguments, stdout=stdout)
            opened.append(self)

    yield Seat
    for terminal in opened:
        terminal.close()


@pytest.mark.requirement("E09")
def test_reveal_asks_for_the_participant_and_the_passphrase_unseen(site: Site, seat: type[Terminal]) -> None:
    terminal = seat("--as", "PH", "reveal", "P-002")
    terminal.answers(REQUEST, until=PASSPHRASE_OF)
    assert not terminal.echoes()
    terminal.types(PASSPHRASE + "xyzzy")
    terminal.asked("does not open the key of PH; try again")
    assert terminal.asked(PASSPHRASE_OF)
    terminal.types(PASSPHRASE)
    if RETYPE not in terminal.screen:
        terminal.answers({RETYPE: "P-002"})
    assert terminal.ends() == 0
    assert "TEST: NOT FOR A PATIENT" in terminal.screen
    assert "Randomization no.  2" in terminal.screen
    assert terminal.screen.index("Eligibility  confirmed by IN") < terminal.screen.index(RETYPE)
    assert "xyzzy" not in terminal.screen
    assert site.kinds()[-2:] == ["attempt-failed", "allocated"]


def test_three_wrong_passphrases_end_with_4(site: Site, seat: type[Terminal]) -> None:
    terminal = seat("--as", "PH", "show", "P-001")
    for _ in range(3):
        terminal.asked(PASSPHRASE_OF)
        terminal.types("a guess")
    assert terminal.ends() == 4
    assert site.kinds()[-3:] == ["attempt-failed"] * 3


def test_a_wrong_retype_is_refused_and_allocates_nothing(site: Site, seat: type[Terminal]) -> None:
    terminal = seat("--as", "PH", "reveal", "P-002")
    terminal.answers({**REQUEST, RETYPE: "P-020"})
    assert terminal.ends() == 1
    assert site.kinds()[-1] == "refused"
    assert site.kinds().count("allocated") == 1


@pytest.mark.parametrize("prompt", [RETYPE, PASSPHRASE_OF])
@pytest.mark.parametrize("key", [b"\x03", b"\x04"], ids=["Ctrl-C", "Ctrl-D"])
def test_an_interrupted_reveal_records_nothing(prompt: str, key: bytes, site: Site, seat: type[Terminal]) -> None:
    before = site.kinds()
    terminal = seat("--as", "PH", "reveal", "P-002")
    terminal.answers(REQUEST, until=prompt)
    terminal.presses(key)
    assert terminal.ends() == 130
    assert "Interrupted: nothing further was done" in terminal.screen
    assert "Traceback" not in terminal.screen
    assert site.kinds() == before


@pytest.mark.requirement("E02")
@pytest.mark.parametrize(("name", "eligible"), [("P-003", True), ("P-101", False), ("P-102", False)])
def test_confirm_asks_each_criterion_in_the_protocols_words(
    name: str, eligible: bool, site: Site, seat: type[Terminal]
) -> None:
    form = parse_form(site.desk.joinpath(site.form(name)).read_bytes())
    terminal = seat("--as", "IN", "confirm", "P-003")
    terminal.asked("Passphrase of IN: ")
    terminal.types(PASSPHRASE)
    criteria = support.study().criteria
    for number, criterion in enumerate(criteria, start=1):
        terminal.asked(f"{number}/{len(criteria)}  {criterion.category}  {criterion.id}")
        terminal.asked(f"“{criterion.text}”")
        _answer(terminal, criterion, {k: v for k in ("value", "unit", "text", "specimen", "date", "uln")
                                      if (v := getattr(form.answers[criterion.id], k)) is not None})  # fmt: skip
    terminal.asked("Date and time of consent")
    terminal.types(form.consent)
    assert terminal.ends() == (0 if eligible else 1)

    from_file = site.typed(f"--json --as IN confirm P-004 --answers answers/{name}.json").result
    refused = re.findall(r"^  (\S+)\s+\S", terminal.screen.rpartition("is NOT eligible")[2], re.MULTILINE)
    assert from_file["eligible"] is eligible
    assert refused == [c["id"] for c in from_file["criteria"] if not c["met"]]


def _answer(terminal: Terminal, criterion: Criterion, fields: dict[str, str]) -> None:
    terminal.asked(criterion.datum)
    terminal.asked(": ")
    terminal.types(fields["value"])
    if len(criterion.units) > 1:
        terminal.asked("Unit (")
        terminal.types(fields["unit"])
    for need in criterion.needs:
        terminal.asked(next(words for words, field in FIELDS.items() if field == need))
        terminal.types(fields[need])


def test_a_blank_form_at_the_terminal_never_qualifies(site: Site, seat: type[Terminal]) -> None:
    terminal = seat("--as", "IN", "confirm", "P-003")
    terminal.asked("Passphrase of IN: ")
    terminal.types(PASSPHRASE)
    for criterion in support.study().criteria:
        terminal.asked(criterion.datum)
        terminal.types("")
    terminal.asked("Date and time of consent")
    terminal.types("")
    assert terminal.ends() == 1
    assert site.kinds()[-1] == "screen-failed"


def test_an_interrupted_form_records_nothing(site: Site, seat: type[Terminal]) -> None:
    before = site.kinds()
    terminal = seat("--as", "IN", "confirm", "P-003")
    terminal.asked("Passphrase of IN: ")
    terminal.types(PASSPHRASE)
    terminal.asked("age in years: ")
    terminal.types("45")
    terminal.asked("sex [F/M/U]: ")
    terminal.types("45")  # a slip of the finger is asked again, it is no refusal
    terminal.asked("45 is not an answer here: one of F, M, U.")
    terminal.asked("sex [F/M/U]: ")
    terminal.presses(b"\x03")
    assert terminal.ends() == 130
    assert site.kinds() == before


def test_nobody_answers_24_questions_before_hearing_that_they_are_nobody(seat: type[Terminal]) -> None:
    terminal = seat("confirm", "P-003")
    assert terminal.ends() == 2
    assert "Add --as PERSON" in terminal.screen


def test_enrol_asks_the_new_passphrase_twice(site: Site, seat: type[Terminal]) -> None:
    terminal = seat("--as", "NEW", "person", "enrol", "--code", site.codes["NEW"])
    terminal.asked("New passphrase of NEW: ")
    terminal.types("one passphrase")
    terminal.asked("Repeat for confirmation: ")
    terminal.types("another one")
    terminal.asked("New passphrase of NEW: ")
    for prompt in ("New passphrase of NEW: ", "Repeat for confirmation: "):
        terminal.asked(prompt)
        assert not terminal.echoes()
        terminal.types("one passphrase")
    assert terminal.ends() == 0
    assert "one passphrase" not in terminal.screen
    assert site.typed("--as NEW pause --reason question", ALLOCATOR_PASSPHRASE="one passphrase").code == 0


def test_the_terminal_echoes_again_after_an_interruption(seat: type[Terminal]) -> None:
    terminal = seat("--as", "PH", "show", "P-001")
    terminal.asked(PASSPHRASE_OF)
    terminal.presses(b"\x03")
    terminal.asked("Interrupted")
    assert terminal.echoes()
    assert terminal.ends() == 130


@pytest.mark.requirement("A05")
@pytest.mark.parametrize("json_option", [(), ("--json",)], ids=["words", "json"])
@pytest.mark.parametrize("screen", ["closed pipe", "full disk"])
def test_a_closed_screen_after_the_commit_loses_nothing(
    screen: str, json_option: tuple[str, ...], site: Site, seat: type[Terminal]
) -> None:
    if screen == "full disk":
        stdout = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, stdout = os.pipe()
        os.close(reader)
    terminal = seat(*json_option, "--as", "PH", "reveal", "P-002", stdout=stdout)
    os.close(stdout)
    terminal.answers(REQUEST)
    assert terminal.ends() == 0
    assert "the result could not be written out" in terminal.screen
    assert "Traceback" not in terminal.screen
    assert site.kinds()[-1] == "allocated"
    again = site.typed("--json --as PH show P-002").result
    assert (again["state"], again["number"]) == ("allocated", 2)
    assert site.verdict() == "intact-local"


def test_a_closed_error_screen_fails_no_reveal(site: Site) -> None:
    environment = {**_bare_environment(), **site._variables()}
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [PROGRAM, "--as", "PH", "reveal", "P-002", "--retype", "P-002"], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=full, env=environment, timeout=SECONDS, check=False,
        )  # fmt: skip
    assert done.returncode == 0
    assert b"Randomization no.  2" in done.stdout


def test_nothing_typed_at_a_prompt_becomes_json(seat: type[Terminal]) -> None:
    reader, stdout = os.pipe()
    terminal = seat("--json", "--as", "PH", "reveal", "P-002", stdout=stdout)
    os.close(stdout)
    terminal.answers(REQUEST)
    assert terminal.ends() == 0
    with os.fdopen(reader) as output:
        assert json.load(output)["number"] == 2


@pytest.mark.requirement("A07")
def test_nobody_fills_in_a_form_that_would_not_be_taken(site: Site, seat: type[Terminal]) -> None:
    terminal = seat("--as", "IN", "confirm", "P-001")  # allocated already
    terminal.asked("Passphrase of IN: ")
    terminal.types(PASSPHRASE)
    assert terminal.ends() == 1
    assert "P-001 is already allocated" in terminal.screen
    assert "1/24" not in terminal.screen
    assert site.kinds()[-1] == "refused"
