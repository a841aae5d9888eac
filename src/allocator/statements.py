"""What protocol and report say of randomization: the public text, the restricted one, the report after close. Pure.

SPIRIT 2025 items 21a, 22 and 23, with the public half of 21b (simple or restricted, strata), in the public statement;
the whole of 21b in the restricted one; CONSORT 2025 items 17a to 19 in the report. The public statement is made of
study and log alone: no design is given to it, so that it cannot tell one (ICH E9 2.3.2; P02).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from allocator import consort
from allocator.design import RandomizationDesign
from allocator.log_facts import LogFacts
from allocator.method_words import WORDS
from allocator.sequence_words import algorithm, arms, drawn, generation, in_public, lists, reference
from allocator.study import Study

KINDS = ("public", "restricted", "consort")
TEST_LINE = "TEST STUDY, NOT FOR A PATIENT: this text is not for a protocol, a registry or a journal."
_TITLES = {
    "public": "public statement",
    "restricted": "restricted document",
    "consort": "report after close",
}
_CONCEALMENT = (
    "The sequence is held by a central computer program. Every entry is encrypted separately, under a key in two "
    "halves. An investigator's signed confirmation that a participant is eligible releases one half for the next free "
    "entry only; the pharmacist who then requests the allocation holds the other. Neither half opens an entry alone. "
    "Each allocation is written to a tamper-evident (hash-chained) log before it is shown, and cannot be drawn again."
)
_COMMITTED = (
    " A cryptographic commitment to every entry (the root below) has been in the log since before the first "
    "allocation, and each allocation is checked against it."
)
_IMPLEMENTATION = (
    "Investigators enrol participants by a signed confirmation of every eligibility criterion; pharmacists assign "
    "participants to interventions by a signed request for the allocation. The program gives neither group access "
    "to the allocation sequence: it shows them an allocation only after it has been made and recorded. A statistician "
    "holds the keys to the sequence and one share of its seed, and a custodian holds the other share; the program "
    "admits neither role to enrolment or assignment."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One text with what it is bound to.

    Attributes:
        kind: one of `KINDS`.
        text: paragraphs, each one line, with an empty line between; ends with a newline.
        bound: study fingerprint, root, head and number of records, program; design commitment, but for the public text.
            None where no list is sealed.
    """

    kind: str
    text: str
    bound: dict[str, str | int | None]

    @property
    def sha256(self) -> str:
        """Of the text in UTF-8, as a file of it has, in hexadecimal."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()


def public_statement(study: Study, facts: LogFacts, program: str) -> Statement:
    """For protocol and registry: no block size, limit, length or anything else that helps to predict.

    Args:
        study: the study as its protocol states it.
        facts: of its log; a list may be sealed already or not.
        program: name and version of this program.
    """
    allocated = f"Participants are allocated at random to {arms(study)}."
    sequence = [allocated, generation(study, facts, "takes", person=False), *in_public(study, facts)]
    open_label = " The trial is open label, so that allocations already made can be known at the site."
    paragraphs = [
        f"Sequence generation (SPIRIT 2025 items 21a and 21b). {_joined(sequence)}",
        "Allocation concealment mechanism (SPIRIT 2025 item 22). "
        f"{_CONCEALMENT}{_COMMITTED if facts.generated else ''}",
        f"Implementation (SPIRIT 2025 item 23). {_IMPLEMENTATION}{open_label if study.masking == 'none' else ''}",
    ]
    return _statement("public", paragraphs, study, facts, program)


def restricted_statement(
    study: Study, design: RandomizationDesign, facts: LogFacts, program: str, *, compared: bool
) -> Statement:
    """The document of SPIRIT 2025 item 21b: everything, for nobody who enrols or assigns.

    Args:
        study: the study.
        design: with its ratio in the study's arm order.
        facts: of its log.
        program: name and version of this program.
        compared: the design was found to be the sealed one.
    """
    known = "The trial is open label: all earlier allocations can be known at the site." if _is_open(study) else ""
    strata = "All of this holds within each stratum." if study.factors else ""
    sequence = [generation(study, facts, "takes", person=True), lists(facts), algorithm(design, facts)]
    paragraphs = [
        "RESTRICTED: keep this document from everybody who enrols participants or assigns interventions.",
        f"Type of randomization and restriction (SPIRIT 2025 item 21b). {drawn(study, design, 'is')}",
        f"Sequence generation (SPIRIT 2025 item 21a). {_joined(sequence)}",
        f"Predictability. {_joined([known, WORDS[design.method].risk(design), strata])}",
        *reference(design),
        _comparison(facts, compared),
    ]
    return _statement("restricted", paragraphs, study, facts, program)


def consort_paragraph(study: Study, design: RandomizationDesign, facts: LogFacts, program: str) -> Statement:
    """For the report of the trial, after the close. RuntimeError before it, or without a list.

    Args:
        study: the study.
        design: found to be the sealed one, with its ratio in the study's arm order.
        facts: of its log.
        program: name and version of this program.
    """
    if facts.closed is None or facts.generated is None:
        raise RuntimeError("a report before the close")
    sequence = [generation(study, facts, "took", person=True), lists(facts), algorithm(design, facts)]
    paragraphs = [
        f"Sequence generation (CONSORT 2025 item 17a). {_joined(sequence)}",
        f"Type of randomization (CONSORT 2025 item 17b). {drawn(study, design, 'was')}",
        f"Allocation concealment mechanism (CONSORT 2025 item 18). {consort.CONCEALMENT}",
        f"Implementation (CONSORT 2025 item 19). {consort.access(study, facts)}",
        f"Allocations. {consort.allocations(study, facts)} {consort.deviations_text(study, facts)}",
        *reference(design),
    ]
    return _statement("consort", paragraphs, study, facts, program)


def _is_open(study: Study) -> bool:
    return study.masking == "none"


def _joined(sentences: Sequence[str]) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def _comparison(facts: LogFacts, compared: bool) -> str:
    if facts.generated is None:
        return "Sealed list. No list was sealed when this was written."
    if compared:
        return "Sealed list. This is the design of the sealed list: it was held to the design commitment below."
    return (
        "Sealed list. Whether this is the design of the sealed list was not checked: the design commitment below is "
        "salted, and only a holder of a share of the seed can open it."
    )


def _statement(kind: str, paragraphs: list[str], study: Study, facts: LogFacts, program: str) -> Statement:
    sealed = facts.generated.fields if facts.generated else {}
    bound: dict[str, str | int | None] = {
        "fingerprint": study.fingerprint.hex(),
        "root": sealed.get("root"),
        **({} if kind == "public" else {"design_commitment": sealed.get("design_commitment")}),
        "head": facts.head.hex(),
        "records": facts.records,
        "program": program,
    }
    ties = [
        f"study fingerprint {bound['fingerprint']}",
        *([f"root of the sealed list {bound['root']}"] if bound["root"] else []),
        *([f"design commitment {bound['design_commitment']}"] if bound.get("design_commitment") else []),
        f"head of the log {bound['head']} ({facts.records} records)",
    ]
    text = [
        f"Randomization of {study.id}, protocol version {study.protocol_version}: {_TITLES[kind]}",
        *([TEST_LINE] if facts.test else []),
        *paragraphs,
        f"Bound to: {'; '.join(ties)}. Written by {program}.",
    ]
    return Statement(kind=kind, text="\n\n".join(text) + "\n", bound=bound)
