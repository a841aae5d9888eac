"""The findings of a verification, bounded: a log that is wrong at every record has millions (docs/spec.md §11.3)."""

from __future__ import annotations

from allocator.verdict import Finding

MOST_FINDINGS = 1_000  # that are kept and listed; all are counted


class FirstFindings:
    """The first findings in order of records and checks, whatever the order in which they come; the others counted."""

    def __init__(self) -> None:
        self._count = 0
        self._findings: list[Finding] = []

    def add(self, finding: Finding) -> None:
        """One more."""
        self._count += 1
        self._findings.append(finding)
        if len(self._findings) >= 2 * MOST_FINDINGS:
            self._findings = self.first()

    def first(self) -> list[Finding]:
        """Those kept, in order; those of no record first."""
        return sorted(self._findings, key=_place)[:MOST_FINDINGS]

    @property
    def left_out(self) -> int:
        """How many there are beside the first ones."""
        return max(0, self._count - MOST_FINDINGS)


def _place(finding: Finding) -> tuple[int, str]:
    return -1 if finding.seq is None else finding.seq, finding.check
