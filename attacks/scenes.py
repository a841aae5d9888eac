"""One attack on each of the three: who is attacked, what is kept elsewhere, and what the verifiers say."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import library
from chain import Chain
from ours import EXPORTED, untouched
from table import SECTIONS, Attack
from victim import NotApplicable, Outcome, Victim, plain

from support import TrialFactory

INTACT = {"intact", "intact-local", "OK"}
OURS, CHAIN, LIBRARY = "ours", "chain", "library"


class Scenes:
    """Hands out victims: copies of untouched ones, each made once."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._copies = folder, count()
        self._factories = [TrialFactory(folder / f"stages-{n}", folder / f"told-{n}", {}) for n in (0, 1)]
        self._untouched: dict[tuple[str, str, int], Victim] = {}

    def victim(self, kind: str, base: str, anew: int = 0) -> Victim:
        """A copy to be ruined; with `anew` of the one that others made."""
        key = (kind, base, anew)
        if key not in self._untouched:
            self._untouched[key] = (
                untouched(base, self._factories[anew]) if kind == OURS else self._rival(kind, base, anew)
            )
        made = self._untouched[key].copy_to(self._folder / f"{next(self._copies)}")
        made.stranger = lambda: self.victim(kind, base, 1)
        return made

    def _rival(self, kind: str, base: str, anew: int) -> Victim:
        folder = self._folder / f"{kind}-{base}-{anew}"
        folder.mkdir()

        def source() -> Victim:
            return self.victim(OURS, base, anew)

        made = Chain(folder, source) if kind == CHAIN else library.Library(folder, source, library.Keys())
        made.write(map(plain, source().rows()))
        return made


@dataclass(frozen=True, kw_only=True)
class Line:
    """What came of an attack; `wrong` says what should not have."""

    attack: Attack
    named: str
    at: str
    chain: str
    library: str
    wrong: str


def line_of(scenes: Scenes, attack: Attack) -> Line:
    """Try one attack on all three."""
    home = scenes.victim(OURS, attack.base)
    outcome, at = attempt(home, attack)
    return Line(
        attack=attack,
        named=next((check for check, _ in outcome.findings if check[:2] == attack.check), f"none: `{outcome.verdict}`"),
        at="–" if at is None or not attack.check else _record(home, at),
        chain=cell(scenes, CHAIN, attack),
        library=cell(scenes, LIBRARY, attack) if library.installed() else "",
        wrong=_wrong(home, attack, outcome, at),
    )


def attempt(victim: Victim, attack: Attack) -> tuple[Outcome, int | None]:
    """The verdict after the attack, and the record where it must be named."""
    for what in attack.kept:
        victim.keep(what)
    at = attack.act(victim)
    victim.close()
    return victim.verdict(), at


def _record(home: Victim, at: int) -> str:
    rows = home.rows()
    if at >= len(rows):
        return f"{at}, not there"
    kind = rows[at].fields.get("kind")
    return f"{at} {kind}" if isinstance(kind, str) else str(at)


def _wrong(home: Victim, attack: Attack, outcome: Outcome, at: int | None) -> str:
    named = {(check[:2], seq) for check, seq in outcome.findings}
    if outcome.verdict != attack.verdict:
        return f"the verdict is {outcome.verdict}"
    if attack.check and (attack.check, at) not in named:
        return f"named by {sorted(named, key=str)}, not by {attack.check} at {at}"
    return "a terminal would obey what is printed" if attack.shown and obeyed(home.screen()) else ""


def cell(scenes: Scenes, kind: str, attack: Attack) -> str:
    """What another log's verifier says of the same attack."""
    try:
        if attack.lacks:
            raise NotApplicable(attack.lacks)
        victim = scenes.victim(kind, attack.base)
        outcome, _ = attempt(victim, attack)
        if attack.shown and obeyed(victim.screen()):
            return "**obeyed by a terminal**"
    except NotApplicable as lack:
        return f"not applicable: {lack}"
    if not outcome.findings:
        return "**not noticed**"
    ((reason, seq),) = outcome.findings
    return f"named: {reason}" + (f", record {seq}" if seq is not None else "")


def obeyed(text: str) -> bool:
    """Whether a terminal would obey or hide a character."""
    return any(c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") for c in text)


def _kinds(base: str) -> tuple[str, ...]:
    return (OURS,) if base in EXPORTED else (OURS, CHAIN, *([LIBRARY] if library.installed() else []))


def not_intact(scenes: Scenes) -> list[str]:
    """Which of the untouched ones are not intact, with all that is kept of them elsewhere: there must be none."""
    wrong = []
    used = {(attack.base, attack.kept) for attacks in SECTIONS.values() for attack in attacks}
    for base, kept in sorted(used):
        for kind in _kinds(base):
            victim = scenes.victim(kind, base)
            try:
                for what in kept:
                    victim.keep(what)
            except NotApplicable:
                continue
            if (outcome := victim.verdict()).verdict not in INTACT:
                wrong.append(f"untouched {base}, {kind}, kept {kept}: {outcome}")
    return wrong
