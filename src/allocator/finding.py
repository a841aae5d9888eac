"""Finding: what the protocol check has to say about one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding: its id, level (block, warn, info), message, and the exact strings it is about."""

    id: str
    level: str
    message: str
    quotes: tuple[str, ...]

    def as_json(self, decided: bool = False) -> dict[str, Any]:
        """The object of `check`: ``{"id", "level", "message", "quotes", "decided"}``."""
        return {
            "id": self.id,
            "level": self.level,
            "message": self.message,
            "quotes": list(self.quotes),
            "decided": decided,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Finding:
        """Rebuild from `as_json`; whether it was decided stands elsewhere. Raises KeyError for a missing key."""
        return cls(id=value["id"], level=value["level"], message=value["message"], quotes=tuple(value["quotes"]))
