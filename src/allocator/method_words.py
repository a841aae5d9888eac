"""Each method in the words of a methods section: how it draws, what can be foretold, and its paper. Pure.

For the restricted statement (SPIRIT 2025 item 21b) and the report after the close (CONSORT 2025 item 17b) only: nearly
every sentence here helps to predict. Papers are cited in the form of the ICMJE recommendations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from allocator.imported_list import NAME as IMPORTED
from allocator.method import Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodWords:
    """What can be said of one method.

    Attributes:
        how: a noun phrase that follows "the method was"; after a colon what holds of the method in general.
        risk: whole sentences on what somebody can foretell who knows all allocations made so far.
        paper: the reference, "" where there is none.
    """

    how: Callable[[Parameters], str]
    risk: Callable[[Parameters], str]
    paper: str


def number(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun, as in "1 participant" and "2 participants"."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def one_of(items: Sequence[object], word: str = "or") -> str:
    """Items as an English list: "4", "4 or 6", "4, 6 or 8"."""
    texts = [str(item) for item in items]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} {word} {texts[-1]}"


def is_cut(given: Parameters) -> bool:
    """Whether the last block of a list may be cut."""
    sizes = given.block_sizes
    return len(sizes) > 1 or (len(sizes) == 1 and given.length % sizes[0] != 0)


def _sizes(given: Parameters) -> str:
    if len(given.block_sizes) == 1:
        return f"a fixed block size of {given.block_sizes[0]}"
    chosen = "the size of each block being chosen at random with equal probability"
    return f"block sizes of {one_of(given.block_sizes, 'and')}, {chosen}"


def _guess(given: Parameters, left_in: str = "") -> str:
    """The best guess: for equal shares the arm that is behind, else the one of which most is left."""
    most = f"of which most is left in the {left_in}"
    arm = "with fewer allocations so far" if len(set(given.shares)) == 1 else most
    return f"The best guess at the next allocation is the arm {arm}"


def _block_risk(given: Parameters) -> str:
    guess = f"{_guess(given, 'block')}."
    if len(given.block_sizes) == 1:
        known = "The last allocation of every block is certain to anyone who knows the block size, and so is every"
        return f"{guess} {known} allocation from the point at which only one arm is left in the block."
    known = "The random sizes hide where a block ends, so that fewer allocations are certain than with one fixed size"
    return (
        f"{guess} {known}; but anyone who knows the possible sizes can still be certain of some of them, "
        "and a guess is right about as often as with fixed blocks of similar size."
    )


def _truncated(given: Parameters) -> str:
    whole = f" over the {given.length} entries of the list"
    within = f", applied within blocks with {_sizes(given)}" if given.block_sizes else whole
    half = "half of the block" if given.block_sizes else "half"
    fair = "each arm is equally likely until one has its"
    return f"the truncated binomial design{within}: {fair} {half}, and the rest go to the other arm"


def _truncated_risk(given: Parameters) -> str:
    end = "block" if given.block_sizes else "list"
    return (
        "No allocation can be foretold better than by chance until one arm has its half; from then on every allocation "
        f"to the end of the {end} is certain to anyone who knows its length."
    )


def _urn(given: Parameters) -> str:
    empty = "empty, so that each arm is equally likely at first"
    start = f"with {number(given.alpha, 'ball')} of each arm" if given.alpha else empty
    return (
        f"the urn design UD(\u03b1 = {given.alpha}, \u03b2 = {given.beta}): an urn starts {start}; each allocation "
        f"adds {number(given.beta or 0, 'ball')} of every other arm, and the balls of each arm give its probability"
    )


def _urn_risk(given: Parameters) -> str:
    if not given.beta:
        return "As no balls are added, no allocation can be foretold better than by chance."
    first = ""
    if not given.alpha:
        certain = "certain to be the other arm" if len(given.ratio) == 2 else "certain not to be the first arm again"
        first = f" As the urn starts empty, the second allocation is {certain}."
    return f"{_guess(given)}; its advantage is greatest among the first allocations and fades as more are made.{first}"


def _chen_how(given: Parameters) -> str:
    return (
        f"Chen's biased coin design with an imbalance tolerance of {given.limit}: the arm with fewer allocations has "
        f"probability {given.probability}, each arm has 1/2 when they are equal, and once one arm leads by "
        f"{given.limit} the next allocation goes to the other"
    )


def _chen_risk(given: Parameters) -> str:
    return (
        f"{_coin_risk(given)} When one arm leads by {given.limit}, the next allocation is certain to anyone who knows "
        "the tolerance."
    )


def _coin_risk(given: Parameters) -> str:
    return (
        f"{_guess(given)}: the guess is right with probability {given.probability} whenever the arms differ in number."
    )


def _efron_how(given: Parameters) -> str:
    return (
        "Efron's biased coin design: the arm with fewer allocations has probability "
        f"{given.probability}, and each arm has 1/2 when they are equal"
    )


def _big_stick_how(given: Parameters) -> str:
    return (
        f"the big stick design with an imbalance limit of {given.limit}: each arm is equally likely until one leads by "
        f"{given.limit}, and the next allocation then goes to the other"
    )


def _maximal_how(given: Parameters) -> str:
    return (
        f"the maximal procedure with an imbalance limit of {given.limit}: all sequences of {given.length} entries in "
        f"which the arms never differ by more than {given.limit} and which end balanced are equally likely"
    )


def _block_urn_how(given: Parameters) -> str:
    set_ = ":".join(map(str, given.shares))
    return (
        f"the block urn design with \u03bb = {given.lambda_}: balls are drawn without replacement from an urn that "
        f"starts with {number(given.lambda_ or 0, 'balanced set')} ({set_}), and a set goes back once all its balls "
        "have been drawn"
    )


WORDS: dict[str, MethodWords] = {
    "permuted-block": MethodWords(
        how=lambda given: f"permuted-block randomization with {_sizes(given)}",
        risk=_block_risk,
        paper="Matts JP, Lachin JM. Properties of permuted-block randomization in clinical trials. Control Clin "
        "Trials. 1988;9(4):327-344.",
    ),
    "complete": MethodWords(
        how=lambda _: "complete (simple, unrestricted) randomization: each allocation is independent of all others",
        risk=lambda _: (
            "No allocation can be foretold better than by the allocation ratio alone. In a small trial the "
            "numbers of participants by arm can differ considerably by chance."
        ),
        paper="Lachin JM. Properties of simple randomization in clinical trials. Control Clin Trials. "
        "1988;9(4):312-326.",
    ),
    "random-allocation-rule": MethodWords(
        how=lambda given: (
            f"the random allocation rule: all sequences of {given.length} entries that honour the "
            "allocation ratio exactly are equally likely"
        ),
        risk=lambda given: (
            f"{_guess(given, 'list')}, more so towards the end of the list. Once all "
            "entries of the other arms are used, the remaining allocations are certain to anyone who knows the length."
        ),
        paper="Lachin JM. Properties of simple randomization in clinical trials. Control Clin Trials. "
        "1988;9(4):312-326.",
    ),
    "big-stick": MethodWords(
        how=_big_stick_how,
        risk=lambda given: (
            f"When one arm leads by {given.limit}, the next allocation is certain to anyone who knows "
            "the limit. No other allocation can be foretold better than by chance."
        ),
        paper="Soares JF, Wu CFJ. Some restricted randomization rules in sequential designs. Commun Stat Theory "
        "Methods. 1983;12(17):2017-2034.",
    ),
    "biased-coin": MethodWords(
        how=_efron_how,
        risk=lambda given: f"{_coin_risk(given)} No allocation is certain.",
        paper="Efron B. Forcing a sequential experiment to be balanced. Biometrika. 1971;58(3):403-417.",
    ),
    "urn": MethodWords(
        how=_urn,
        risk=_urn_risk,
        paper="Wei LJ. An application of an urn model to the design of sequential controlled clinical trials. J Am "
        "Stat Assoc. 1978;73(363):559-563.",
    ),
    "truncated-binomial": MethodWords(
        how=_truncated,
        risk=_truncated_risk,
        paper="Blackwell D, Hodges JL Jr. Design for the control of selection bias. Ann Math Stat. 1957;28(2):449-460.",
    ),
    "chen": MethodWords(
        how=_chen_how,
        risk=_chen_risk,
        paper="Chen YP. Biased coin design with imbalance tolerance. Commun Stat Stoch Models. 1999;15(5):953-975.",
    ),
    "maximal-procedure": MethodWords(
        how=_maximal_how,
        risk=lambda given: (
            f"{_guess(given)}. The next allocation is certain to "
            f"anyone who knows the limit when one arm leads by {given.limit}, and near the end of the list whenever "
            "only one arm can still bring it to balance."
        ),
        paper="Berger VW, Ivanova A, Knoll MD. Minimizing predictability while retaining balance through the use of "
        "less restrictive randomization procedures. Stat Med. 2003;22(19):3017-3028.",
    ),
    "block-urn": MethodWords(
        how=_block_urn_how,
        risk=lambda _: (
            "The best guess at the next allocation is the arm with most balls left in the urn. An allocation is "
            "certain to anyone who knows \u03bb when balls of one arm only are left in the urn."
        ),
        paper="Zhao W, Weng Y. Block urn design: a new randomization algorithm for sequential trials with two or more "
        "treatments and balanced or unbalanced allocation. Contemp Clin Trials. 2011;32(6):953-961.",
    ),
    IMPORTED: MethodWords(
        how=lambda _: "that stated by those who prepared the list, which was sealed in the order received",
        risk=lambda _: "How far the list can be foretold depends on the method, which the program does not know.",
        paper="",
    ),
}
