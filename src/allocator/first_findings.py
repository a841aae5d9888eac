"""The findings of a verification, bounded: a log that is wrong at every record has millions (docs/spec.md §11.3)."""

from __future__ import annotations

from allocator.verdict import Finding

MOST_FINDINGS = 1_000  # that are kept and listed; the rest is counted


class FirstFindings:
    """The first findings in order of records and checks, whatever the order in which they come; the others counted."""

    def __init__(self, most: int = MOST_FINDINGS) -> None:
        self.count = 0
        self._most = most
        self._findings: list[Finding] = []

    def add(self, finding: Finding) -> None:
        """One more."""
        self.count += 1
        self._findings.append(finding)
        if len(self._findings) >= 2 * self._most:
            self._findings = self.first()

    def first(self) -> list[Finding]:
        """Those kept, in order; of no record first."""
        return sorted(self._findings, key=_place)[: self._most]

    @property
    def left_out(self) -> int:
        """How many there are beside the first ones."""
        return max(0, self.count - self._most)


def _place(finding: Finding) -> tuple[int, str]:
    return -1 if finding.seq is None else finding.seq, finding.check
