"""§10.1, §10.5 to §10.8: what may be recorded next, and which position a confirmation binds. One stratum, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass
class Attempt:
    """A `confirmed` or `screen-failed` record."""

    participant: str
    confirmed: bool
    time: datetime
    position: int | None = None
    withdrawn: bool = False


@dataclass
class Trial:
    """Each method answers None for a refusal; else it records the act."""

    enrollment: int
    hours: int
    length: int
    state: str = "active"
    attempts: list[Attempt] = field(default_factory=list)
    allocated: dict[str, int] = field(default_factory=dict)

    def latest(self, participant: str) -> Attempt | None:
        """The participant's latest attempt."""
        return next((a for a in reversed(self.attempts) if a.participant == participant), None)

    def holds(self, attempt: Attempt | None, now: datetime) -> bool:
        """§10.5."""
        if attempt is None or not attempt.confirmed or attempt.withdrawn:
            return False
        return attempt is self.latest(attempt.participant) and now - attempt.time <= timedelta(hours=self.hours)

    def taken(self, position: int, participant: str, now: datetime) -> bool:
        """§10.6."""
        if position in self.allocated.values():
            return True
        newest = next((a for a in reversed(self.attempts) if a.position == position), None)
        if newest is None or newest.participant == participant:
            return False
        return self.holds(newest, now) and newest.participant not in self.allocated

    def attempt(self, participant: str, kind: str, eligible: bool, now: datetime) -> str | None:
        """§10.5, §10.6: `screen-failed`, or the position bound."""
        before = self.latest(participant)
        if self.state != "active" or participant in self.allocated:
            return None
        if before is None:
            allowed = kind == "first"
        else:
            allowed = kind in ("rescreen", "correcting") or (kind == "again" and before.confirmed)
        if not allowed:
            return None
        if not eligible:
            self.attempts.append(Attempt(participant, False, now))
            return "screen-failed"
        for position in range(self.length):
            if not self.taken(position, participant, now):
                self.attempts.append(Attempt(participant, True, now, position))
                return f"confirmed {position}"
        return None

    def withdraw(self, participant: str) -> str | None:
        """§10.5."""
        attempt = self.latest(participant)
        if self.state != "active" or participant in self.allocated:
            return None
        if attempt is None or not attempt.confirmed or attempt.withdrawn:
            return None
        attempt.withdrawn = True
        return "confirmation-withdrawn"

    def request(self, participant: str, now: datetime) -> str | None:
        """§10.7: the position and number allocated, or `again`."""
        if participant in self.allocated:
            return "again" if self.state in ("active", "paused", "closed") else None
        attempt = self.latest(participant)
        if self.state != "active" or len(self.allocated) >= self.enrollment or attempt is None:
            return None
        if not self.holds(attempt, now) or attempt.position is None:
            return None
        self.allocated[participant] = attempt.position
        return f"allocated {attempt.position} as {len(self.allocated)}"

    def move(self, kind: str) -> str | None:
        """§10.1: pause, resume, close."""
        before, after = {
            "paused": (("active",), "paused"),
            "resumed": (("paused",), "active"),
            "closed": (("active", "paused"), "closed"),
        }[kind]
        if self.state not in before:
            return None
        self.state = after
        return kind
