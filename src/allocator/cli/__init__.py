"""The `allocator` command. Thin: parse, call the service, print. Modules are imported when their command is used."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from allocator import __version__
from allocator.errors import AllocatorError, InputError

# name: (module, one line of help), in the order and groups of `--help`
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Pharmacist": {
        "reveal": ("pharmacist", "Allocate a participant and show the arm."),
        "show": ("pharmacist", "What became of a participant's request."),
        "unblind": ("pharmacist", "Show one participant's arm, with a reason."),
        "correct": ("pharmacist", "State a correction beside an allocation."),
        "late": ("continuity", "Enter an allocation made on paper while the system was down."),
        "receipt": ("publishing", "A participant's receipt again, marked COPY."),
    },
    "Investigator": {
        "confirm": ("investigator", "Confirm a participant's eligibility, criterion by criterion."),
        "withdraw": ("investigator", "Withdraw a confirmation before the allocation."),
    },
    "Statistician": {
        "assess": ("assess", "What designs balance, and what of them can be guessed; no study is needed."),
        "generate": ("statistician", "Draw, seal and commit to the list."),
        "import": ("lists", "Check and seal a list made elsewhere."),
        "list": ("lists", "The sealed list in plain, in REDCap's or blockrand's columns; recorded."),
        "grant": ("statistician", "Give a pharmacist or an investigator their half of the key."),
        "balance": ("balance", "The list checked and signed off; its balance, or a blinded view."),
        "share": ("continuity", "A paper copy of one's own share of the seed."),
        "reseal": ("continuity", "Seal the same list again from both shares of its seed."),
        "open": ("publishing", "After the close: give one's share, and open the list (custodian too)."),
    },
    "Sponsor": {
        "init": ("sponsor", "Open a study in a home."),
        "person": ("people", "Add, enrol, deactivate and list people."),
        "decide": ("sponsor", "Sign the decision on a finding of the protocol check."),
        "activate": ("sponsor", "Start allocation."),
        "pause": ("sponsor", "Pause allocation (any role)."),
        "resume": ("sponsor", "Resume allocation."),
        "close": ("sponsor", "Close allocation for good."),
        "backup": ("continuity", "A safe copy of the study, also while others write."),
        "restore": ("continuity", "Put a study back from a backup; recorded."),
        "move": ("moving", "Carry the log to PostgreSQL, or back to a file."),
        "recover": ("continuity", "After a loss: enter what receipts prove, reserve what may have been used."),
        "clock": ("continuity", "Let time go on after the clock was found behind the log."),
    },
    "Auditor and everybody": {
        "status": ("auditor", "State and counts of the study."),
        "log": ("auditor", "The log, readable."),
        "verify": ("verifying", "Check the log, the list and every rule, without any passphrase."),
        "checkpoint": ("publishing", "A signed head of the log, to be kept elsewhere."),
        "export": ("publishing", "All that a stranger needs to check the study, and two verifiers."),
        "review": ("publishing", "Sign that the trail of a period was reviewed."),
        "statement": ("statement", "What protocol and report say of randomization, in words to paste."),
        "self-test": ("self_test", "Qualify this installation: a drill of everything, with a report."),
        "check": ("protocol", "Hold a protocol against its registry record; writes nothing."),
        "demo": ("demo", "The whole story of one study in a fresh home, told step by step."),
    },
}
MODULES = {name: module for commands in GROUPS.values() for name, (module, _) in commands.items()}

_NAMES = {
    "log": "log_command",
    "self-test": "self_test",
    "open": "open_command",
    "import": "import_list_command",
    "list": "list_command",
}  # where the function cannot have the command's name
_PR_SET_DUMPABLE = 4  # linux/prctl.h
_TAKE_VALUE = ("--home", "--study", "--as", "--passphrase-file")
INTERRUPTED = AllocatorError(
    "interrupted", "nothing further was done", "`allocator show PARTICIPANT` and `allocator log` say what is recorded."
)


class LazyGroup(click.Group):
    """Knows every command by name and help; imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """All command names, for completion."""
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command."""
        if cmd_name not in MODULES:
            self._suggest(ctx, cmd_name)
            return None
        module = importlib.import_module(f"allocator.cli.{MODULES[cmd_name]}")
        command: click.Command = getattr(module, _NAMES.get(cmd_name, cmd_name))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Commands under the people who use them, without importing any."""
        for group, commands in GROUPS.items():
            with formatter.section(group):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()])

    def _suggest(self, ctx: click.Context, name: str) -> None:
        import difflib

        if close := difflib.get_close_matches(name, MODULES, n=1):
            raise click.UsageError(f"No such command {name!r}. Did you mean {close[0]!r}?", ctx)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="allocator %(version)s")
@click.option("--home", metavar="DIR", envvar="ALLOCATOR_HOME", help="Folder with schedules/ and keys/.")
@click.option("--study", metavar="ID", envvar="ALLOCATOR_STUDY", help="The study, where a home has several.")
@click.option("--as", "person", metavar="PERSON", envvar="ALLOCATOR_PERSON", help="Who acts and signs.")
@click.option("--passphrase-file", metavar="FILE", help="Read the passphrase from a file instead of asking.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output and nothing else there.")
@click.pass_context
def cli(
    ctx: click.Context,
    home: str | None,
    study: str | None,
    person: str | None,
    passphrase_file: str | None,
    as_json: bool,
) -> None:
    """Randomization and allocation of a clinical trial.

    \b
    Example: allocator --as PH-1 reveal P-001
    The passphrase is asked for, or taken from ALLOCATOR_PASSPHRASE or --passphrase-file.
    """
    from allocator.cli.call import Call

    ctx.obj = Call(home=home, study=study, person=person, passphrase_file=passphrase_file, as_json=as_json)
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and leave with its exit code."""
    keep_memory_private()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character never fails an act
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def keep_memory_private() -> None:
    """No core dump of this process, and no look into its memory or environment by others of the same account.

    It will hold a passphrase, keys, and for a moment an arm. RLIMIT_CORE alone does not stop a core that is piped to
    a program (core(5)); a process that is not dumpable has none, and its /proc/PID/mem and environ are root's
    (prctl(2), ptrace(2)). Where a system has neither, the act goes on.
    """
    import ctypes
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code. The only place where errors become words and codes."""
    as_json = _wants_json(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without UTF-8 must not fail what is already recorded
            stream.reconfigure(errors="backslashreplace")
    try:
        result = cli.main(args=list(arguments), prog_name="allocator", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except AllocatorError as error:
        return _complain(error, as_json)
    except (click.Abort, KeyboardInterrupt):
        return _complain(INTERRUPTED, as_json, exit_code=130)
    except click.ClickException as error:
        return _complain(InputError("usage", error.format_message(), _usage_hint(error)), as_json)
    except SystemExit:
        if "_ALLOCATOR_COMPLETE" in os.environ:  # click leaves so when it has completed a word,
            raise
        return 0  # and when nobody reads its output any more
    except (Exception, RecursionError) as error:
        return _complain(_fault(error), as_json)


def _usage_hint(error: click.ClickException) -> str:
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return ""
    misplaced = error.option_name if isinstance(error, click.NoSuchOption) else ""
    if misplaced in ("--json", *_TAKE_VALUE):
        return f"{misplaced} stands before the command: allocator {misplaced} … {error.ctx.info_name}"
    return f"See `{error.ctx.command_path} --help`."


def _fault(error: BaseException) -> AllocatorError:
    from allocator.errors import EvidenceError, StorageError
    from allocator.text import shown

    if isinstance(error, MemoryError):
        return StorageError("memory", "there is not enough memory", "Nothing was written. Close programs, ask again.")
    if isinstance(error, OSError):
        where = f": {shown(str(error.filename)[:200])}" if error.filename else ""
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR):
            return InputError("path", f"{error.strerror}{where}", "Check what was typed. Nothing was done.")
        return StorageError("unavailable", f"{error.strerror or type(error).__name__}{where}", "Ask again.")
    return EvidenceError(
        "fault",
        f"a fault in the program: {type(error).__name__}: {shown(str(error))[:300]}",
        "It is not known whether the act was recorded: look with `allocator show` or `allocator log`. Report this.",
    )


def _complain(error: AllocatorError, as_json: bool, *, exit_code: int | None = None) -> int:
    from allocator.cli.call import json_text, written
    from allocator.text import shown

    code = error.exit_code if exit_code is None else exit_code
    if as_json:
        written(json_text({"error": error.as_json()}))
    else:
        word = {1: "Refused", 130: "Interrupted"}.get(code, "Error")
        lines = "\n".join(shown(line) for line in error.message.split("\n"))
        written(f"{word}: {lines}", err=True)
        if error.hint:
            written(f"What next: {shown(error.hint)}", err=True)
    return code


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether --json stands before the command: known even when the call itself cannot be parsed."""
    items: Any = iter(arguments)
    for item in items:
        if item == "--json":
            return True
        if item in _TAKE_VALUE:
            next(items, None)
        elif not item.startswith("-"):
            return False
    return False
