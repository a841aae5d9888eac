"""What must hold after any fault: the log verifies, what was shown is in it, the same request is answered."""

from __future__ import annotations

from dataclasses import dataclass

from acts import Ran, Site

KIND = {"confirm": "confirmed", "reveal": "allocated"}
PARTICIPANT = {"confirm": "P-002", "reveal": "P-001"}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an act ended under a fault, in words for the table, and every promise that was broken."""

    seen: str
    logged: str
    after: str
    broken: tuple[str, ...]


def judge(site: Site, act: str, ran: Ran, *, again: bool = True) -> Outcome:
    """Hold what a fault left to the promises; then ask again, without a fault."""
    broken: list[str] = []
    if "Traceback" in ran.err + ran.out:
        broken.append("a traceback reached the user")
    broken += _verdict_faults(site, "after the fault")
    logged = _count(site, act)
    shown = _shown(act, ran)
    if shown and not logged:
        broken.append("something was shown that is not in the log")
    if _says_nothing_written(ran) and logged:
        broken.append('it says "nothing was written", and the record is in the log')
    if logged > 1:
        broken.append(f"{logged} records of one request")
    if ran.code == 0 and not logged:
        broken.append("it ended well, and nothing is in the log")
    after = "not asked"
    if again:
        repeat = site.run(act)
        after = _repeat_faults(site, act, shown, repeat, broken)
        broken += _verdict_faults(site, "after asking again")
    return Outcome(seen=_seen(act, ran), logged="recorded" if logged else "nothing", after=after, broken=tuple(broken))


def _repeat_faults(site: Site, act: str, shown: str, repeat: Ran, broken: list[str]) -> str:
    if repeat.code != 0:
        broken.append(f"asking again fails with {repeat.code}: {repeat.error.get('message', repeat.err[-200:])}")
        return f"exit {repeat.code}"
    answer = _shown(act, repeat)
    if shown and answer != shown:
        broken.append(f"asking again gives {answer}, not {shown}")
    records = [r for r in site.records() if r["kind"] == KIND[act] and r["participant"] == PARTICIPANT[act]]
    if act == "reveal" and [(r["position"], r["number"]) for r in records] != [(0, 1)]:
        broken.append("a position or a number was lost or used twice")
    if act == "confirm" and {r["position"] for r in records} != {1}:
        broken.append("another position was bound")
    return "shown again" if repeat.result.get("repeated") else "done"


def _verdict_faults(site: Site, when: str) -> list[str]:
    verdict, findings = site.verdict()
    return [] if verdict == "intact-local" else [f"{verdict} {when}: {'; '.join(findings[:2])}"]


def _count(site: Site, act: str) -> int:
    return sum(r["kind"] == KIND[act] and r["participant"] == PARTICIPANT[act] for r in site.records())


def _shown(act: str, ran: Ran) -> str:
    if act == "reveal":
        return str(ran.result.get("arm", {}).get("code", ""))
    return "eligible" if ran.result.get("eligible") else ""


def _says_nothing_written(ran: Ran) -> bool:
    text = (str(ran.error.get("hint", "")) + str(ran.error.get("message", "")) + ran.err).lower()
    return "nothing was written" in text


def _seen(act: str, ran: Ran) -> str:
    if ran.code is None:
        return "shown, then killed" if _shown(act, ran) else "killed"
    if ran.code == 0:
        warned = "warning" in ran.err.lower()
        said = "shown" if _shown(act, ran) else "done, the answer lost"
        return said + (", with a warning" if warned else "")
    return f"exit {ran.code} {ran.error.get('code', '')}".strip()
