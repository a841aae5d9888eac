"""One mutant and what became of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A fault made on purpose.

    Attributes:
        module: of the package, without its ending.
        function: where it is; "" for the module itself.
        status: ``killed``, ``timeout`` (it never ended, which a test notices), ``survived``, or another word of mutmut.
        before: the line as it is; "" for a killed one.
        after: the line as it was made.
    """

    module: str
    function: str
    status: str
    before: str
    after: str
    made_by: str = "mutmut"

    @property
    def found(self) -> bool:
        """A test failed or did not end."""
        return self.status in ("killed", "timeout")
