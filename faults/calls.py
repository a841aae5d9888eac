"""Every system call of an act that touches the home, failed once each, and killed before each: with strace."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from acts import Ran, Site, Sites
from promises import Outcome, judge

CALLS = (
    *("open", "openat", "creat", "write", "pwrite64", "writev", "fsync", "fdatasync", "ftruncate", "truncate"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "link", "linkat", "mkdir", "mkdirat", "flock"),
)
ERRORS = {
    "open": ("EIO", "ENOSPC", "EMFILE", "EINTR"),
    "sync": ("EIO", "ENOSPC", "EINTR"),
    "write": ("EIO", "ENOSPC", "EINTR"),
    "name": ("EIO", "ENOSPC"),
    "lock": ("EINTR", "ENOLCK"),
}
_LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)$")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One system call of an act: the nth of its name in the whole process, and the file of the home it touches."""

    name: str
    ordinal: int
    file: str
    writes: bool

    @property
    def sort(self) -> str:
        """open, write, sync, name or lock."""
        if self.name.startswith(("open", "creat")):
            return "open"
        if "sync" in self.name:
            return "sync"
        if "write" in self.name or "trunc" in self.name:
            return "write"
        return "lock" if self.name == "flock" else "name"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault, and what came of it."""

    act: str
    call: Call
    fault: str
    outcome: Outcome


def available() -> bool:
    """Whether strace is there and may trace."""
    return shutil.which("strace") is not None


def calls_of(site: Site, act: str) -> list[Call]:
    """The calls of an act on files of the home and on standard output, in order."""
    trace = site.home.parent / f"{site.home.name}.trace"
    site.run(act, under=("strace", "-f", "-y", "-qq", "-o", str(trace), "-e", f"trace={','.join(CALLS)}"))
    seen: Counter[str] = Counter()
    found = []
    for line in trace.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        name, rest = match.groups()
        seen[name] += 1
        at = rest.find(str(site.home))
        if at >= 0:
            file = re.split(r'[">]', rest[at + len(str(site.home)) + 1 :])[0]
            found.append(Call(name=name, ordinal=seen[name], file=_short(file), writes="O_RDONLY" not in rest))
        elif name == "write" and rest.startswith("1<"):
            found.append(Call(name=name, ordinal=seen[name], file="standard output", writes=True))
    return found


def _short(file: str) -> str:
    """The file's place without the study: log, journal, head, lock, …"""
    short = re.sub(r"(schedules|keys)/[^/]+/?", r"\1/", file) or "home"
    return re.sub(r"(/\.[^/]+)\.\d+$", r"\1.PROCESS", short)  # a name with the number of its process


def faults_of(call: Call) -> Iterator[str]:
    """What is injected into a call: errors, and a kill before it."""
    yield from ERRORS[call.sort]
    yield "KILL"


class Missed(RuntimeError):
    """The act made fewer calls this time than when they were counted: the fault met none."""


def inject(site: Site, act: str, call: Call, fault: str) -> Ran:
    """Run the act with one fault."""
    what = "signal=KILL" if fault == "KILL" else f"error={fault}"
    trace = site.home.parent / f"{site.home.name}.trace"
    options = (*("strace", "-f", "-qq", "-o", str(trace)), *("-e", f"trace={call.name}"))
    ran = site.run(act, under=(*options, "-e", f"inject={call.name}:{what}:when={call.ordinal}"))
    if "INJECTED" not in (text := trace.read_text(errors="replace")) and "SIGKILL" not in text:
        raise Missed(f"{fault} did not reach {call}: the act made other calls this time")
    return ran


def try_fault(sites: Sites, act: str, call: Call, fault: str, tries: int = 3) -> Row:
    """One fault on a home of its own; again on another one where it met no call."""
    site = sites.new()
    try:
        outcome = judge(site, act, inject(site, act, call, fault))
    except Missed:
        if tries == 1:
            raise
        return try_fault(sites, act, call, fault, tries - 1)
    finally:
        shutil.rmtree(site.home, ignore_errors=True)
        Path(f"{site.home}.trace").unlink(missing_ok=True)
    return Row(act=act, call=call, fault=fault, outcome=outcome)
