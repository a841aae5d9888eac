"""Rules that the service already asks before it writes, held on their own: the verifier has nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from allocator.case import Case
from allocator.errors import AllocatorError
from allocator.history import History
from allocator.kind_rules import RULE_OF_KIND
from allocator.log import Record
from support import Trial, TrialFactory


def broken_code(trial: Trial, kind: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> str:
    """The code of the refusal of the last record of this kind, with some fields changed; "" when the rule lets it."""
    record = next(record for record in reversed(trial.records) if record.kind == kind)
    before = trial.service.history
    history = History(_Before(before.store, record.seq))  # type: ignore[arg-type]
    changed = Record(prev=record.prev, body=record.body, fields=change(dict(record.fields)))
    case = Case(
        study=trial.service.study,
        history=history,
        sealed=None,
        record=changed,
        details=trial.store.details(record.seq),
    )
    try:
        RULE_OF_KIND[kind](case)
    except AllocatorError as error:
        return error.code
    return ""


class _Before:
    """A store as it was before a record."""

    def __init__(self, store: Any, seq: int) -> None:
        self._records = [record for record in store.records() if record.seq < seq]

    def record(self, seq: int) -> Record | None:
        return self._records[seq] if seq < len(self._records) else None

    def last(self) -> Record | None:
        return self._records[-1] if self._records else None

    def records(self, kinds: tuple[str, ...] = (), **_: Any) -> Any:
        return iter([record for record in self._records if not kinds or record.kind in kinds])

    def newest(self, kinds: tuple[str, ...], **_: Any) -> Record | None:
        return next((record for record in reversed(self._records) if record.kind in kinds), None)


@pytest.fixture
def sealed(trials: TrialFactory) -> Trial:
    return trials("granted")


def test_the_records_as_they_are_keep_the_rules(sealed: Trial) -> None:
    assert {broken_code(sealed, kind, dict) for kind in ("generated", "person-enrolled", "granted")} == {""}


@pytest.mark.requirement("G03")
def test_a_given_seed_in_production_breaks_a_rule(sealed: Trial) -> None:
    assert broken_code(sealed, "generated", lambda f: {**f, "seed_origin": "given", "mode": "test"}) == ""
    assert (
        broken_code(sealed, "generated", lambda f: {**f, "seed_origin": "given", "mode": "production"}) == "seed-given"
    )


@pytest.mark.requirement("C02")
@pytest.mark.parametrize("holder", ["PH", "IN", "SP", "NOBODY"])
def test_a_second_share_in_other_hands_than_a_custodians_breaks_a_rule(sealed: Trial, holder: str) -> None:
    assert broken_code(sealed, "generated", lambda f: {**f, "holders": [f["person"], holder]}) == "no-custodian"


@pytest.mark.requirement("S03")
def test_another_code_than_the_one_handed_over_breaks_a_rule(sealed: Trial) -> None:
    assert broken_code(sealed, "person-enrolled", lambda f: {**f, "code": "AAAA-AAAA-AAAA-AAAA-AAAA"}) == "wrong-code"


@pytest.mark.requirement("S03")
def test_keys_of_another_person_break_a_rule(sealed: Trial) -> None:
    others = sealed.service.history.people["SP"].sign_key.hex()
    assert broken_code(sealed, "person-enrolled", lambda f: {**f, "sign_key": others}) == "key-reused"


@pytest.mark.requirement("C02")
@pytest.mark.parametrize("grantee", ["ST", "SP", "AU"])
def test_a_half_for_somebody_else_breaks_a_rule(sealed: Trial, grantee: str) -> None:
    assert broken_code(sealed, "granted", lambda f: {**f, "grantee": grantee}) == "cannot-grant"
