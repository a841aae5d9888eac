"""Why each surviving mutant is no fault, or none that can be seen: module, function, the line, what it became."""

from __future__ import annotations

EXPLAINED: dict[str, tuple[tuple[str, str, str, str], ...]] = {}
