"""The protocol held against itself, its registry record and its design: what must be decided before it starts.

Pure. Each rule is one short function that returns a finding or None; `_RULES` is the whole list. What only a reader
of this one protocol can see stands as `[[question]]` in study.toml and becomes a finding with its own id.

Never store the findings that a design gave where those who enrol can read them: they tell about block sizes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from allocator.boundary import boundary_conflict
from allocator.criterion import Criterion
from allocator.design import RandomizationDesign
from allocator.design_check import check_design
from allocator.errors import InputError
from allocator.finding import Finding
from allocator.registry_record import (
    RegistryArm,
    field_of,
    parse_registry,
    registry_arms,
    registry_id,
    sentences_with,
    strings_of,
)
from allocator.study import LEVELS, Study

__all__ = ["Finding", "check_protocol", "parse_registry"]

_ENDED = ("WITHDRAWN", "TERMINATED", "SUSPENDED", "COMPLETED", "NO_LONGER_AVAILABLE", "WITHHELD")
_RANDOM = r"(?<!non-)(?<!non )\brandom"
# "1:1", or the word in a sentence about who is allocated where; a hazard ratio or a titre of 1:80 states none
_RATIO = (
    r"(?<![0-9:.])[1-9]\s*:\s*[1-9](?![0-9:])"
    r"|(?=.*\b(?:random|alloc|assign))(?:.*\b(?:ratio\b|equal))"
)
_FILLERS = frozenset(re.findall(r"\w+", "a an and arm dose drug for group in of on or plus the therapy treatment with"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What the rules look at; each takes it whole."""

    study: Study
    registry: dict[str, Any]
    arms: tuple[RegistryArm, ...]


def check_protocol(
    study: Study, registry: dict[str, Any] | None, design: RandomizationDesign | None
) -> tuple[Finding, ...]:
    """All findings, blockers first, then by id; each id stands at most once.

    Args:
        study: the study definition.
        registry: its record as `parse_registry` gave it; None leaves the registry rules out, and K27 says so.
        design: its restricted design; None leaves the rules about the list out.

    Raises:
        InputError: the record is another study's (``registry-mismatch``), a question carries the id of a general
            rule (``question-id``), or the design names other arms (``design-not-for-study``).
    """
    for question in study.questions:
        if question.id in _RULE_IDS:
            raise InputError(
                "question-id",
                f"question {question.id} carries the id of a general rule",
                "Give the question an id that no general rule has, such as Q01.",
            )
    findings = [_k05(study, registry), _k24(study), _k25(study, design)]
    if registry is None:
        findings.append(_k27(study))
    else:
        _require_same_study(study, registry)
        case = _Case(study=study, registry=registry, arms=registry_arms(registry))
        findings += [rule(case) for rule in _REGISTRY_RULES]
    if design is not None:
        fitted = design.for_study(study)
        findings += check_design(study, fitted)
    findings += [
        Finding(id=q.id, level=q.level, message=f"{q.message} Proposed reading: {q.reading}", quotes=q.quotes)
        for q in study.questions
    ]
    kept = [finding for finding in findings if finding is not None]
    return tuple(sorted(kept, key=lambda f: (LEVELS.index(f.level), f.id)))


def _require_same_study(study: Study, registry: dict[str, Any]) -> None:
    if (named := registry_id(registry)) != study.id:
        raise InputError(
            "registry-mismatch",
            f"the registry record is of {named}, the study file of {study.id}",
            "Give the registry record of this study.",
        )


# ------------------------------------------------------------------------------------- against the registry record


def _k01(case: _Case) -> Finding | None:
    """The registry's allocation against a study that randomizes."""
    stated = field_of(case.registry, "designModule.designInfo.allocation")
    if stated not in ("NON_RANDOMIZED", "NA"):
        return None
    quotes = (stated, *sentences_with(case.registry, _RANDOM)[:1])
    message = f"The registry states the allocation {stated}, but participants are allocated at random."
    return Finding(id="K01", level="block", message=message, quotes=quotes)


def _k02(case: _Case) -> Finding | None:
    """A placebo arm where nothing is masked and no placebo is given."""
    placebo = [arm for arm in case.arms if arm.type == "PLACEBO_COMPARATOR"]
    masking = field_of(case.registry, "designModule.designInfo.maskingInfo.masking") or case.study.masking.upper()
    given = [name for arm in case.arms for name in arm.interventions]
    given += [name for arm in case.study.arms for name in arm.interventions]
    if not placebo or masking != "NONE" or any("placebo" in name.lower() for name in given):
        return None
    names = ", ".join(arm.label for arm in placebo)
    message = f"The registry calls {names} a placebo comparator, but nobody is masked and no placebo is given."
    return Finding(
        id="K02", level="block", message=message, quotes=(*(a.label for a in placebo), "PLACEBO_COMPARATOR", masking)
    )


def _k03(case: _Case) -> Finding | None:
    """An arm whose intervention holds agents of another arm that its own label lacks."""
    wrong: list[RegistryArm] = []
    for arm in case.arms:
        own = _agents(arm.label)
        others = {word for other in case.arms if other is not arm for word in _agents(other.label)}
        given = {word for name in arm.interventions for word in _agents(name.partition(": ")[2] or name)}
        # a label that names none of its agents, such as "Control", claims nothing
        if own & given and (given - own) & others:
            wrong.append(arm)
    if not wrong:
        return None
    facts = "; ".join(f"{arm.label}: {', '.join(arm.interventions)}" for arm in wrong)
    quotes = tuple(dict.fromkeys(text for arm in wrong for text in (arm.label, *arm.interventions)))
    message = f"The registry gives an arm an intervention that belongs to another arm ({facts})."
    return Finding(id="K03", level="block", message=message, quotes=quotes)


def _agents(text: str) -> set[str]:
    return {word for word in re.findall(r"[a-z0-9][a-z0-9-]*", text.lower()) if word not in _FILLERS}


def _k05(study: Study, registry: dict[str, Any] | None) -> Finding | None:
    """A limit per something, where the protocol's words give an amount of nothing in particular."""
    bare = [criterion for criterion in study.criteria if _lacks_denominator(criterion, registry)]
    if not bare:
        return None
    facts = "; ".join(f"{c.id} is typed per {c.units[0].partition('/')[2]}" for c in bare)
    message = f"The protocol's words give an amount without saying per what, and the study file had to choose: {facts}."
    return Finding(id="K05", level="block", message=message, quotes=tuple(dict.fromkeys(c.text for c in bare)))


def _lacks_denominator(criterion: Criterion, registry: dict[str, Any] | None) -> bool:
    if criterion.type != "quantity" or not all("/" in unit for unit in criterion.units):
        return False
    counted = re.escape(criterion.units[0].partition("/")[0].strip("{}"))
    if not counted or not re.search(rf"[0-9]\s*{counted}\b", criterion.text, re.IGNORECASE):
        return False
    said = [criterion.text, *(strings_of(registry) if registry is not None else ())]
    per = re.compile(rf"[0-9]\s*{counted}\s*(?:/|per\b)", re.IGNORECASE)
    return not any(per.search(text) for text in said)


def _k06(case: _Case) -> Finding | None:
    """No allocation ratio anywhere in the record."""
    if sentences_with(case.registry, _RATIO):
        return None
    quotes = sentences_with(case.registry, _RANDOM)[:1] or tuple(a.label for a in case.arms)
    message = (
        f"The registry record states no allocation ratio for its {len(case.arms)} arms; "
        "whatever ratio is used is an assumption until it is signed."
    )
    return Finding(id="K06", level="block", message=message, quotes=quotes)


def _k10(case: _Case) -> Finding | None:
    """One list of interventions for arms that differ."""
    for index, arm in enumerate(case.arms):
        for other in case.arms[index + 1 :]:
            if arm.interventions and set(arm.interventions) == set(other.interventions):
                message = "The registry describes different arms by one and the same intervention."
                quotes = (*arm.interventions, arm.label, other.label)
                return Finding(id="K10", level="warn", message=message, quotes=quotes)
    return None


def _k16(case: _Case) -> Finding | None:
    """A registry status under which nothing should start."""
    status = field_of(case.registry, "statusModule.overallStatus")
    if status != "UNKNOWN" and status not in _ENDED:
        return None
    message = f"The registry gives the status {status}; a study about to allocate should be verified there first."
    return Finding(id="K16", level="info" if status == "UNKNOWN" else "block", message=message, quotes=(status,))


def _k26(case: _Case) -> Finding | None:
    """Quotes of the study's questions that the record does not hold."""
    strings = tuple(strings_of(case.registry))
    missing = [
        (question.id, quote)
        for question in case.study.questions
        for quote in question.quotes
        if not any(quote in text for text in strings)
    ]
    if not missing:
        return None
    names = ", ".join(dict.fromkeys(name for name, _ in missing))
    message = f"The study file quotes words that the registry record does not hold (question {names})."
    return Finding(id="K26", level="block", message=message, quotes=tuple(quote for _, quote in missing))


def _k27(study: Study) -> Finding:
    """No record: say so, rather than look clean."""
    message = (
        f"No registry record was given, so nothing of {study.id} was held against the registry: "
        "allocation, arms, interventions, ratio, status, enrollment, and the quotes of the questions."
    )
    return Finding(id="K27", level="info", message=message, quotes=())


def _k28(case: _Case) -> Finding | None:
    """Plain facts in which record and study file differ."""
    facts = [
        f"{name}: {stated} in the registry, {typed} in the study file"
        for name, stated, typed in _plain_facts(case)
        if stated is not None and typed is not None and stated != typed
    ]
    if not facts:
        return None
    message = f"The registry record and the study file differ ({'; '.join(facts)})."
    return Finding(id="K28", level="warn", message=message, quotes=())


def _plain_facts(case: _Case) -> list[tuple[str, object, object]]:
    """(name, what the registry states, what the study types), in one form on both sides; None where it is silent."""
    study, record = case.study, case.registry
    sourced = {c.id: c for c in study.criteria if c.category == "inclusion"}.values()
    ages = [limit for c in sourced if "Age" in c.source and c.units == ("a",) for limit in c.limits]
    sex = next((c.passing_codes for c in sourced if c.source == "sex" and c.type == "code"), None)
    healthy = next((c for c in sourced if c.source == "healthyVolunteers" and c.type == "yes-no"), None)
    return [
        ("enrollment", field_of(record, "designModule.enrollmentInfo.count"), study.enrollment),
        ("number of arms", len(case.arms) or None, len(study.arms)),
        ("minimum age", field_of(record, "eligibilityModule.minimumAge"), _years(ages, (">", ">="))),
        ("maximum age", field_of(record, "eligibilityModule.maximumAge"), _years(ages, ("<", "<="))),
        ("sex", field_of(record, "eligibilityModule.sex"), None if sex is None else _sex(sex)),
        (
            "healthy volunteers",
            {True: "accepted", False: "not accepted"}.get(field_of(record, "eligibilityModule.healthyVolunteers")),
            None if healthy is None else "not accepted" if healthy.pass_rule == "N" else "accepted",
        ),
    ]


def _years(limits: list[tuple[str, Any]], signs: tuple[str, ...]) -> str | None:
    return next((f"{number:f} Years" for sign, number in limits if sign in signs), None)


def _sex(passing: tuple[str, ...]) -> str:
    return {(True, False): "FEMALE", (False, True): "MALE"}.get(("F" in passing, "M" in passing), "ALL")


# ------------------------------------------------------------------------------------ the study file and the design


def _k24(study: Study) -> Finding | None:
    """Words and typed limit that draw different lines."""
    conflicts = [(c, text) for c in study.criteria if (text := boundary_conflict(c))]
    if not conflicts:
        return None
    facts = "; ".join(f"{c.id}: {text}" for c, text in conflicts)
    message = f"A criterion's words and its typed limit draw different lines ({facts})."
    return Finding(id="K24", level="block", message=message, quotes=tuple(c.text for c, _ in conflicts))


def _k25(study: Study, design: RandomizationDesign | None) -> Finding | None:
    """More strata than so few participants can fill."""
    strata = len(study.strata)
    least = 2 * max(design.block_sizes) if design and design.block_sizes else 4
    if strata == 1 or study.enrollment >= strata * least:
        return None
    message = (
        f"{strata} strata for {study.enrollment} participants: fewer than {least} in each on average, so most strata "
        "end inside a block and the arms drift apart. Use fewer strata, or none."
    )
    return Finding(id="K25", level="warn", message=message, quotes=())


_REGISTRY_RULES: tuple[Callable[[_Case], Finding | None], ...] = (
    _k01, _k02, _k03, _k06, _k10, _k16, _k26, _k28,
)  # fmt: skip
_RULE_IDS = frozenset(
    ["K01", "K02", "K03", "K05", "K06", "K10", "K16", "K21", "K22", "K23", "K24", "K25", "K26", "K27", "K28"]
)  # fmt: skip
