"""What every command needs: the home, the study, the person, the passphrase, and one way to print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allocator.errors import CredentialError, InputError, StorageError
from allocator.text import shown, shown_lines

if TYPE_CHECKING:
    from allocator.home import StudyPlace
    from allocator.service import AllocationService
    from allocator.writer import Actor

TRIES = 3  # of a passphrase typed on a terminal, before the command gives up


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The options in front of the command."""

    home: str | None
    study: str | None
    person: str | None
    passphrase_file: str | None
    as_json: bool

    def home_folder(self) -> Path:
        """The home given, or the nearest one upwards. InputError when there is none."""
        from allocator.home import find_home

        return Path(self.home) if self.home else find_home(Path.cwd())

    def place(self) -> StudyPlace:
        """Where the study lies."""
        from allocator.home import study_place

        return study_place(self.home_folder(), self.study)

    def place_unchecked(self) -> StudyPlace:
        """Where the study lies, for the verifier, who reports what is wrong with it instead of refusing."""
        from allocator.evidence import place_of

        return place_of(self.home_folder(), self.study)

    @contextmanager
    def service(self) -> Iterator[AllocationService]:
        """The study, opened; closed afterwards."""
        from allocator.service import AllocationService

        service = AllocationService.open(self.place(), notify=self.warn)
        try:
            yield service
        finally:
            service.close_files()

    def required_person(self) -> str:
        """Who acts. InputError without --as."""
        if not self.person:
            raise InputError("no-person", "who acts is not given", "Add --as PERSON, or set ALLOCATOR_PERSON.")
        return self.person

    def actor(self, service: AllocationService, action: str) -> Actor:
        """The person who acts, with their passphrase; mistyped on a terminal, it is asked for again."""
        person = self.required_person()
        tries = 1 if self.given_passphrase() or not on_terminal() else TRIES
        for left in reversed(range(tries)):
            try:
                return service.authenticate(person, lambda: self.passphrase(f"Passphrase of {person}"), action)
            except CredentialError as error:
                if error.code != "wrong-passphrase" or not left:
                    raise
                self.warn(f"{error.message}; try again")
        raise RuntimeError("no try was made")

    def passphrase(self, prompt: str, *, twice: bool = False) -> str:
        """From ALLOCATOR_PASSPHRASE, --passphrase-file, or asked without echo; CredentialError off a terminal."""
        return self.given_passphrase() or ask_passphrase(prompt, twice=twice)

    def given_passphrase(self) -> str | None:
        """The passphrase of ALLOCATOR_PASSPHRASE or --passphrase-file, None when neither has one."""
        return given_passphrase("ALLOCATOR_PASSPHRASE", self.passphrase_file)

    def talk(self, text: str = "") -> None:
        """Say something beside the result: standard error, and nothing with --json."""
        if not self.as_json:
            written(text, err=True)

    def warn(self, text: str) -> None:
        """A warning: the act stands, something beside it did not work."""
        written(f"Warning: {shown(text)}", err=True)

    def show(self, result: dict[str, Any], text: str) -> None:
        """The result: JSON or words, on standard output. What is recorded stands, whether or not it can be shown."""
        if fault := written(json_text(result) if self.as_json else text):
            self.warn(f"the result could not be written out ({fault}); `allocator show` and `allocator log` have it")


def json_text(result: dict[str, Any]) -> str:
    """A result as one line of printable ASCII: no terminal obeys what stands in it."""
    return json.dumps(result, ensure_ascii=True).replace("\x7f", "\\u007f")  # the one control that json leaves


def written(text: str, *, err: bool = False) -> str:
    """Write lines to standard output or error; why they could not be, or "". Nobody may be reading any more.

    The one way out of nearly all that is printed, so the last place to hold back what a terminal would obey.
    """
    try:
        click.echo(shown_lines(text), err=err)
    except OSError as error:
        nowhere = open(os.devnull, "w")  # noqa: PTH123, SIM115 (so that the interpreter does not try again at exit)
        if err:
            sys.stderr = nowhere
        else:
            sys.stdout = nowhere
        return error.strerror or type(error).__name__
    return ""


def check_new_file(file: Path | None) -> None:
    """InputError, before anything is done or recorded, unless a file of this name can be made."""
    if file is not None and (file.exists() or file.is_symlink()):
        raise InputError("file-exists", f"{shown(str(file))} is there already", "Give another name.")
    if file is not None and not file.parent.is_dir():
        raise InputError("no-folder", f"{shown(str(file.parent))} is no folder", "Make it first.")


def check_secret_file(place: StudyPlace, file: Path, what: str) -> None:
    """InputError unless a file of this name can be made where what helps to predict may lie: no home, no work tree."""
    from allocator.home import inside_git

    check_new_file(file)
    parent = file.parent.resolve()
    if parent.is_relative_to(place.home.resolve()):
        said = f"{what} has no place in the home: everybody there reads it, and backups keep it"
        raise InputError("inside-home", said, "Give a folder that nobody who enrols can read.")
    if inside_git(parent):
        said = f"{what} has no place in a git work tree: what is committed once stays"
        raise InputError("inside-git", said, "Give a folder that nobody who enrols can read.")


def write_after_record(file: Path, data: bytes, *, mode: int) -> None:
    """Write a file that the log already tells of. StorageError: it could not be written, and the record stands."""
    from allocator.home import write_durably

    try:
        write_durably(file, data, mode=mode)
    except StorageError as error:
        error.hint = "What was recorded stands. Make room, or name another folder, and ask again."
        raise


def on_terminal() -> bool:
    """True when a person can be asked."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def given_passphrase(variable: str, file: str | None) -> str | None:
    """A passphrase from the environment or a file (one trailing newline dropped), None when neither has one."""
    if (value := os.environ.get(variable)) is not None:
        return value
    if file is None:
        return None
    from allocator.home import read_input

    try:
        text = read_input(Path(file), limit=4096).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CredentialError("passphrase-file", "the passphrase file is not UTF-8 text") from error
    return text[:-1] if text.endswith("\n") else text


def ask_passphrase(prompt: str, *, twice: bool = False) -> str:
    """Ask without echo; CredentialError where there is no terminal to ask on."""
    if not on_terminal():
        raise CredentialError(
            "no-passphrase",
            "a passphrase is needed and there is no terminal to ask on",
            "Set ALLOCATOR_PASSPHRASE or give --passphrase-file FILE.",
        )
    answer: str = click.prompt(shown(prompt), hide_input=True, confirmation_prompt=twice, err=True)
    return answer


def hex_32(text: str, code: str, message: str) -> bytes:
    """32 bytes from 64 hexadecimal digits; InputError with this code and message otherwise."""
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 32:
        raise InputError(code, message)
    return value


def record_json(record: Any) -> dict[str, Any]:
    """The `{"seq","hash"}` of a record."""
    return {"seq": record.seq, "hash": record.hash.hex()}


pass_call = click.make_pass_decorator(Call)
