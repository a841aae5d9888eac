"""Measuring two things in turn, so that both meet the same machine; and the memory of a command with its processes."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: ours and the peer's, in seconds or in MB, and what their ratio should be."""

    what: str
    ours: float
    peer: float
    goal: str
    unit: str = "s"

    def __str__(self) -> str:
        ours, peer = (_shown(value, self.unit) for value in (self.ours, self.peer))
        return f"{self.what:<78}{ours:>12}{peer:>12}{self.ours / self.peer:>8.2f}  {self.goal}"


def compare(what: str, ours: Work, peer: Work, *, goal: str, repeats: int) -> Row:
    """Medians of `repeats` runs of each, taken in turn after one run of each that does not count."""
    ours(), peer()
    pairs = [(seconds(ours), seconds(peer)) for _ in range(repeats)]
    return Row(
        what=what,
        ours=statistics.median(pair[0] for pair in pairs),
        peer=statistics.median(pair[1] for pair in pairs),
        goal=goal,
    )


def seconds(work: Work) -> float:
    """How long one run takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _shown(value: float, unit: str) -> str:
    if unit != "s":
        return f"{value:.0f} {unit}"
    return f"{value * 1000:.2f} ms" if value < 1 else f"{value:.2f} s"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a command needed: seconds; MB of its largest process at its peak; MB of all its processes together.

    Pages that processes share are counted once in the sum (proportional set size), and whole in the largest.
    """

    seconds: float
    largest: float
    together: float


def run(command: list[str], pause: float = 0.1) -> Run:
    """Run a command to its end and watch it in /proc. AssertionError when it fails."""
    peaks: dict[int, int] = {}
    together, start = 0, time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            own = list(_tree(process.pid))
            for pid in own:
                peaks[pid] = max(peaks.get(pid, 0), _kilobytes(pid, "status", "VmHWM:"))
            together = max(together, sum(_kilobytes(pid, "smaps_rollup", "Pss:") for pid in own))
            time.sleep(pause)
        assert process.returncode == 0, command
    return Run(seconds=time.perf_counter() - start, largest=max(peaks.values()) / 1024, together=together / 1024)


def _tree(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    with suppress(OSError):  # it has ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _tree(int(child))


def _kilobytes(pid: int, file: str, name: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0
