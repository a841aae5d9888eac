"""What the log shows of a closed trial, in sentences: CONSORT 2025 items 18 and 19, numbers, deviations. Pure.

What no record shows is not said: a person's word, a look at a screen, a list kept elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from allocator.log_facts import LogFacts, Reading
from allocator.method_words import number, one_of
from allocator.sequence_words import arm_name, day, in_words
from allocator.study import Study

CONCEALMENT = (
    "The sequence was held by a central computer program. Every entry was encrypted separately, under a key in two "
    "halves. An investigator's signed confirmation that a participant was eligible released one half for the next free "
    "entry only; the pharmacist who then requested the allocation held the other. Neither half opens an entry alone. "
    "Each allocation was written to a tamper-evident (hash-chained) log before it was shown, and could not be drawn "
    "again. A cryptographic commitment to every entry (the root below) was in the log before the first allocation, and "
    "each allocation was checked against it."
)
_PURPOSES = {
    "check": "to check it before activation",
    "balance": "to watch the balance",
    "export": "to export it",
}


def access(study: Study, facts: LogFacts) -> str:
    """Item 19: who enrolled, who assigned, who could read the sequence, and who did by the log."""
    if facts.generated is None or facts.sealing is None:
        raise RuntimeError("a report without a list")
    sealings = (facts.generated.fields, facts.sealing.fields)
    sealers = list(dict.fromkeys(fields["person"] for fields in sealings))
    others = list(dict.fromkeys(one for fields in sealings for one in fields["holders"] if one not in sealers))
    said = [
        f"Participants were enrolled by {_people(facts.enrolled_by, 'investigator')} and assigned to interventions by "
        f"{_people(facts.assigned_by, 'pharmacist')}. The program gave neither group access to the allocation "
        "sequence: it showed them an allocation only after it had been made and recorded.",
        f"The statistician who sealed the sequence ({one_of(sealers, 'and')}) held the keys to it and one share of its "
        f"seed, and a custodian ({one_of(others, 'and')}) held the other share; the program admits neither role to "
        "enrolment or assignment.",
        _readings(study, facts),
    ]
    imported = facts.generated.kind == "imported"
    if imported:
        said.append("Who knew the sequence before it was sealed is not in the log.")
    if facts.opened is not None:
        agreed = "disclosed with them" if imported else "drawn again from it"
        said.append(
            f"After the close, on {day(study, facts.opened)}, both shares of the seed were disclosed; the sequence "
            f"{agreed} agreed with the sealed one in every entry."
        )
    if study.masking == "none":
        said.append("The trial was open label, so that allocations already made could be known at the site.")
    return " ".join(said)


def _people(ids: Sequence[str], role: str) -> str:
    return f"{in_words(len(ids))} {role}{'' if len(ids) == 1 else 's'} ({', '.join(ids)})" if ids else f"no {role}"


def _readings(study: Study, facts: LogFacts) -> str:
    """Every recorded reading of the list; readings of lists that another one replaced are told apart."""
    own = [reading for reading in facts.readings if not reading.replaced]
    replaced = [reading for reading in facts.readings if reading.replaced]
    said = (
        f"According to the log, the sealed sequence was read {_gathered(study, own)}."
        if own
        else "The log records no reading of the sealed sequence."
    )
    if replaced:
        said += f" A list that was sealed earlier, and replaced by another, was read {_gathered(study, replaced)}."
    return said


def _gathered(study: Study, all_: Sequence[Reading]) -> str:
    """Readings by person and purpose."""
    gathered: dict[tuple[str, str], list[Reading]] = {}
    for reading in all_:
        gathered.setdefault((reading.person, reading.purpose), []).append(reading)
    items = []
    for (person, purpose), readings in gathered.items():
        dates = list(dict.fromkeys(day(study, reading.time) for reading in readings))
        when = f"on {dates[0]}" if len(dates) == 1 else f"between {dates[0]} and {dates[-1]}"
        times = "once" if len(readings) == 1 else f"{in_words(len(readings))} times"
        items.append(f"by {person} {_PURPOSES[purpose]} ({times}, {when})")
    return one_of(items, "and")


def allocations(study: Study, facts: LogFacts) -> str:
    """How many were allocated, by arm where that may be told, between which dates, by which program."""
    if not facts.total or facts.first is None or facts.last is None:
        return "No participant was allocated."
    first, last = day(study, facts.first), day(study, facts.last)
    when = f"On {first}" if first == last else f"Between {first} and {last}"
    were = "participant was" if facts.total == 1 else "participants were"
    said = f"{when}, {in_words(facts.total)} {were} allocated (planned: {in_words(study.enrollment)})"
    if by_arm(study, facts) is not None:
        counts = [
            f"{in_words(facts.allocated.get(index, 0))} to {arm_name(arm)}" for index, arm in enumerate(study.arms)
        ]
        said += f": {one_of(counts, 'and')}"
    return f"{said}. The allocations were made with {one_of(facts.programs, 'and')}."


def by_arm(study: Study, facts: LogFacts) -> list[dict[str, str | int]] | None:
    """Allocations by arm; None in a masked study whose list is not opened."""
    if study.masking != "none" and facts.state != "opened":
        return None
    return [
        {"code": arm.code, "label": arm.label, "allocated": facts.allocated.get(index, 0)}
        for index, arm in enumerate(study.arms)
    ]


def deviations(facts: LogFacts) -> dict[str, int]:
    """What did not go as the protocol has it, by count; zeros too."""
    return {
        "in_error": facts.corrected.get("in-error", 0),
        "ineligible": facts.corrected.get("ineligible", 0),
        "wrong_stratum": facts.corrected.get("stratum", 0),
        "other_treatment": facts.corrected.get("treatment", 0),
        "wrong_id": facts.counts.get("reassigned", 0),
        "late": facts.counts.get("late", 0),
        "told_otherwise": facts.told_otherwise,
        "from_receipts": facts.counts.get("receipt-entered", 0),
        "restored": facts.counts.get("restored", 0),
        "reserved": facts.reserved,
    }


# what is said of each: one, several, none
_DEVIATIONS = {
    "in_error": ("allocation was marked as made in error", "allocations were marked as made in error", "made in error"),
    "ineligible": (
        "participant was found to be ineligible after allocation",
        "participants were found to be ineligible after allocation",
        "of an ineligible participant",
    ),
    "wrong_stratum": (
        "participant was allocated in a stratum that was later corrected",
        "participants were allocated in a stratum that was later corrected",
        "in a wrong stratum",
    ),
    "other_treatment": (
        "participant was recorded as having received another treatment than allocated",
        "participants were recorded as having received another treatment than allocated",
        "followed by another treatment",
    ),
    "wrong_id": (
        "allocation was made under a wrong participant number and moved to the right one",
        "allocations were made under a wrong participant number and moved to the right one",
        "made under a wrong participant number",
    ),
    "late": (
        "allocation was made on paper while the program was down and entered afterwards",
        "allocations were made on paper while the program was down and entered afterwards",
        "made on paper",
    ),
}


def deviations_text(study: Study, facts: LogFacts) -> str:
    """The same in sentences. A correction stands beside its allocation, which is counted in its arm all the same."""
    counts = {what: count for what, count in deviations(facts).items() if what != "wrong_stratum" or study.factors}
    said, absent = [], []
    for what, (one, several, none) in _DEVIATIONS.items():
        if count := counts.get(what, 0):
            said.append(f"{_capital(in_words(count))} {one if count == 1 else several}.")
        elif what in counts:
            absent.append(none)
    if said:
        said.append("The numbers by arm include these.")
    if told := counts["told_otherwise"]:
        said.append(f"For {in_words(told)} of those made on paper, the paper had told another arm than the sequence.")
    if count := counts["from_receipts"]:
        were = "allocation was" if count == 1 else "allocations were"
        said.append(f"{_capital(in_words(count))} {were} lost from the log and entered again from receipts.")
    if count := counts["restored"]:
        times = "once" if count == 1 else f"{in_words(count)} times"
        reserved = number(counts["reserved"], "entry", "entries") if counts["reserved"] else "no entry"
        said.append(
            f"The log was put back to an earlier time {times}; {reserved} of the sequence had to be taken out of use "
            "for it."
        )
    if absent:
        said.append(f"The log records no allocation {one_of(absent)}.")
    return " ".join(said)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
