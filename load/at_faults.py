"""What was done and told at once (`at_once.py`), and whether it holds: each answer in the log, the log by `verify`."""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent)]

from at_work import SITES, opened  # noqa: E402

from allocator.evidence import read_evidence  # noqa: E402
from allocator.home import study_place  # noqa: E402
from allocator.verify import verify  # noqa: E402


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is done at once.

    Attributes:
        homes: one an application host, with the same studies and keys; the first is verified.
        studies: their ids; process n works on study n, and begins again where there are more processes.
        processes, each: how many, and how many participants each.
        pairs: participants for whom two ask at the same moment.
    """

    homes: tuple[Path, ...]
    studies: tuple[str, ...]
    processes: int
    each: int
    pairs: int


@dataclass(kw_only=True)
class Told:
    """What was told: a line an act, the turns of who looked on, and what they found not to hold."""

    acts: list[dict[str, Any]] = field(default_factory=list)
    turns: Counter[str] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)
    seconds: float = 0.0


def faults(load: Load, told: Told) -> list[str]:
    """Whatever does not hold: two of one, a gap, an answer that is not the log's, an error but busy."""
    found = list(told.found)
    if errors := {code for line in told.acts for code in line.get("errors", ())} - {"busy"}:
        found.append(f"errors {sorted(errors)}")
    expected = 2 * load.processes * load.each + 3 * load.pairs
    if len(told.acts) != expected:
        found.append(f"{len(told.acts)} acts were told, not {expected}")
    for study in load.studies:
        acts = [line for line in told.acts if line["study"] == study]
        found += [f"{study}: {fault}" for fault in _faults_of(load, study, acts)]
    return found


def _faults_of(load: Load, study: str, acts: list[dict[str, Any]]) -> Iterator[str]:
    for home in load.homes:
        with read_evidence(study_place(home, study)) as evidence:
            verdict = verify(evidence)
        if verdict.verdict != "intact-local" or verdict.findings:
            yield f"verdict {verdict.verdict} {verdict.findings[:3]}"
    service = opened(load.homes[0], study)
    records, arms = list(service.records()), [arm.code for arm in service.study.arms]
    service.close_files()
    allocated = [record for record in records if record.kind == "allocated"]
    if [record.fields["number"] for record in allocated] != list(range(1, len(allocated) + 1)):
        yield "numbers are not 1, 2, 3, …"
    for kind in ("confirmed", "allocated"):  # who was told "busy" had written nothing
        counted = Counter(record.fields["participant"] for record in records if record.kind == kind)
        if max(counted.values(), default=1) > 1:
            yield f"a participant was {kind} twice"
    for site in SITES:
        bound = [r.fields for r in records if r.kind == "confirmed" and r.fields["stratum"]["site"] == site]
        if sorted(fields["position"] for fields in bound) != list(range(len(bound))):
            yield f"a gap in stratum {site}"
    by_hash = {record.hash.hex(): record.fields for record in records}
    for line in acts:
        fields = by_hash.get(line["hash"], {}) if line.get("done") else line
        if fields.get("participant") != line["participant"] or fields.get("position") != line.get("position"):
            yield f"{line['participant']}: what was told of {line['act']} is not in the log"
        elif "number" in line and (line["number"], line["arm"]) != (fields["number"], arms[fields["arm"]]):
            yield f"{line['participant']} was told another number or arm than the log holds"
    yield from _wrong_repeats(acts)


def _wrong_repeats(acts: list[dict[str, Any]]) -> Iterator[str]:
    """Of each participant one answer is the first; another one only where two asked."""
    answers = dict[str, list[dict[str, Any]]]()
    for line in acts:
        if line["act"] == "reveal" and line.get("done"):
            answers.setdefault(line["participant"], []).append(line)
    for who, lines in answers.items():
        asked = sum(line["act"] == "reveal" and line["participant"] == who for line in acts) if len(lines) != 1 else 1
        if len(lines) == asked and sum(not line["repeated"] for line in lines) != 1:
            yield f"{who}: not exactly one of {len(lines)} answers is the first"
        if len({line["hash"] for line in lines}) != 1:
            yield f"{who}: two answers of two allocations"


def report(load: Load, told: Told) -> list[str]:
    """What the run was, in words and figures."""
    waits = sorted(line["seconds"] for line in told.acts)
    median, last = statistics.median(waits), waits[-1]
    busy = sum(line.get("errors", []).count("busy") for line in told.acts)
    hosts = f", {len(load.homes)} homes" if len(load.homes) > 1 else ""
    return [
        f"{len(told.acts)} acts by {load.processes} processes over {len(load.studies)} "
        f"{'study' if len(load.studies) == 1 else 'studies'}{hosts} in {told.seconds:.0f} s, "
        f"{len(told.acts) / told.seconds:.0f}/s; {load.pairs} participants asked for by two at once",
        f"waiting: median {median * 1e3:.0f} ms, 99 % {waits[int(len(waits) * 0.99)] * 1e3:.0f} ms, "
        f"longest {last * 1e3:.0f} ms = {last / median:.1f} times the median; told busy {busy} times",
        "beside: " + (", ".join(f"{kind} {turns}" for kind, turns in told.turns.items()) or "nothing"),
    ]
