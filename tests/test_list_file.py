"""Lists from elsewhere, read back as they were written; and what is no list, or not this study's, refused."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from allocator.errors import FileProblems, InputError
from allocator.import_faults import LONG, orderly
from allocator.imported_list import MAX_ENTRIES
from allocator.list_file import ListFile, read_list_file
from allocator.list_layout import COLUMNS, LAYOUTS, Words, csv_text, parse_ratio, written_rows
from allocator.list_table import MAX_LIST
from allocator.study import Study
from allocator.toml_files import read_study
from support import study, study_bytes

PLAIN, SITES = study(), study(stratified=True)
CODES = [arm.code for arm in PLAIN.arms]
GOOD = "position,treatment\n" + "".join(f"{n},{CODES[n in (1, 4, 5, 8, 9)]}\n" for n in range(1, 11))


def words(
    arms: Sequence[str] = (), levels: Sequence[str] = (), columns: Sequence[str] = (), of: Study = SITES
) -> Words:
    """A file's own words."""
    return Words.parse(of, list(arms), list(levels), list(columns))


def read(data: str | bytes, of: Study = PLAIN, how: Words | None = None, **more: Any) -> ListFile:
    """A list of the study."""
    data = data.encode("utf-8") if isinstance(data, str) else data
    return read_list_file("list.csv", data, of, how or words(of=of), more.pop("shares", {}), **more)


def refused(data: str | bytes, of: Study = PLAIN, how: Words | None = None, **more: Any) -> list[str]:
    """What is wrong with a file, as it is told."""
    with pytest.raises(FileProblems) as error:
        read(data, of, how, **more)
    assert error.value.code == "list-file"
    return [str(problem) for problem in error.value.problems]


# ---- every layout is read back --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """A list in permuted blocks: of each stratum its blocks of arm indices."""

    blocks: tuple[tuple[tuple[int, ...], ...], ...]

    @property
    def of(self) -> Study:
        """The study it is of: one stratum, or two."""
        return PLAIN if len(self.blocks) == 1 else SITES

    @property
    def arms(self) -> tuple[bytes, ...]:
        """As it is sealed."""
        return tuple(bytes(arm for block in blocks for arm in block) for blocks in self.blocks)

    def rows(self) -> list[dict[str, str]]:
        """Every entry with all that any layout says of it."""
        found: list[dict[str, str]] = []
        for level, blocks in zip("AB", self.blocks, strict=False):
            within = 0
            for number, block in enumerate(blocks, 1):
                for place, arm in enumerate(block, 1):
                    within += 1
                    found.append(
                        {"through": str(len(found) + 1), "within": str(within), "site": level, "block": str(number)}
                        | {"size": str(len(block)), "place": str(place), "arm": CODES[arm]}
                    )
        return found


@st.composite
def lists(draw: st.DrawFn) -> Made:
    """One or two strata of the same length, each arm twice at least."""
    sizes = draw(st.lists(st.sampled_from([2, 4, 6]), min_size=2, max_size=5))
    strata = draw(st.sampled_from([1, 2]))
    permuted = [st.permutations([0, 1] * (size // 2)).map(tuple) for size in sizes]
    return Made(tuple(tuple(draw(block) for block in permuted) for _ in range(strata)))


Writer = Callable[[Made], list[list[str]]]


def _columns(**named: str) -> Writer:
    """A writer of these columns; a column of strata only where there are some."""

    def write(made: Made) -> list[list[str]]:
        kept = {name: of for name, of in named.items() if of != "site" or len(made.blocks) > 1}
        heads = {"block_id": "block.id", "block_size": "block.size", "block_size_": "Block size"}
        heads |= {"identifier": "block identifier", "size_of": "block size", "inside": "sequence within block"}
        return [[heads.get(name, name) for name in kept], *([row[of] for of in kept.values()] for row in made.rows())]

    return write


WRITERS: dict[str, Writer] = {
    "blockrand": _columns(id="through", stratum="site", block_id="block", block_size="size", treatment="arm"),
    "blockrand, strata bound together": _columns(
        id="within", stratum="site", block_id="block", block_size="size", treatment="arm"
    ),
    "Sealed Envelope": _columns(
        identifier="block", size_of="size", inside="place", treatment="arm", site="site", code="through"
    ),
    "Sealed Envelope, service": _columns(
        Sequence="through", Block="block", block_size_="size", Treatment="arm", site="site"
    ),
    "REDCap": _columns(redcap_randomization_group="arm", redcap_randomization_number="through", site="site"),
    "REDCap, no number": _columns(redcap_randomization_group="arm", site="site"),
    "SAS": _columns(SEQNO="within", site="site", TREATMENT="arm"),
    "numbered": _columns(position="through", stratum="site", arm="arm"),
}
WITH_BLOCKS = [name for name in WRITERS if name.startswith(("blockrand", "Sealed"))]
NUMBERED = [name for name in WRITERS if name != "REDCap, no number"]


def text_of(rows: Sequence[Sequence[str]], *, delimiter: str = ",", end: str = "\n", quoted: bool = False) -> str:
    """Rows as a program would write them."""
    stream = io.StringIO()
    dialect = {"quoting": csv.QUOTE_ALL} if quoted else {}
    csv.writer(stream, delimiter=delimiter, lineterminator=end, **dialect).writerows(rows)  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.mark.requirement("G07")
@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=25)
@given(
    made=lists(),
    delimiter=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n"]),
    quoted=st.booleans(),
    mark=st.booleans(),
    tail=st.sampled_from(["", "\n\n"]),
)
def test_a_list_of_any_layout_is_read_back(
    name: str, made: Made, delimiter: str, end: str, quoted: bool, mark: bool, tail: str
) -> None:
    text = text_of(WRITERS[name](made), delimiter=delimiter, end=end, quoted=quoted) + tail
    found = read(("\ufeff" if mark else "") + text, made.of)
    assert found.design.arms == made.arms
    assert (found.design.length, found.design.ratio) == (len(made.arms[0]), tuple((code, 1) for code in CODES))
    assert name.startswith((found.layout, "SAS", "numbered")) and not found.is_test


def test_row_names_and_prefixes_of_r() -> None:
    rows = ['"","id","block.id","block.size","treatment"']
    rows += [f'"{n}","X{n:02d}","B{(n + 3) // 4}",4,"{CODES[n % 4 < 2]}"' for n in range(1, 13)]
    assert read("\n".join(rows)).layout == "blockrand"
    rows[1:] = [line.replace("X", "10") for line in rows[1:]]
    assert read("\n".join(rows)).design.length == 12


def test_a_file_of_save_rand() -> None:
    made = [
        "This document was generated on Thu Nov 26 2026 at 10:00:00 .",
        "",
        "The randomizeR package of version 3",
        "",
    ]
    made += ["Randomization Method: PBR(4)", "", "N :\t12", "ratio :\t1, 1", "groups :\tIL2-GCV, GCV", "", "", ""]
    made += ['"Allocation"\t"Treatment"', *(f'{n}\t"{CODES[n % 4 < 2]}"' for n in range(1, 13))]
    found = read("\n".join(made))
    assert (found.layout, found.design.length, found.design.arms[0][0]) == ("randomizeR", 12, 1)


@pytest.mark.parametrize("columns", COLUMNS)
@settings(max_examples=25)
@given(made=lists(), block=st.booleans(), other=st.booleans())
def test_a_list_written_here_is_read_back(columns: str, made: Made, block: bool, other: bool) -> None:
    own = made.of
    levels = ["site:1=A", "site:2=B"] if columns == "redcap" else ["stratum:Site one=A", "stratum:Site two=B"]
    given_words = ["1=IL2-GCV", "2=GCV"] if other else []
    how = words(given_words, levels if other and own is SITES else [], of=own)
    size = 2 if block and all(len(b) == 2 for blocks in made.blocks for b in blocks) else None
    text = csv_text(written_rows(columns, own, made.arms, how, block=size, notice=""))
    assert read(text, own, how).design.arms == made.arms


def test_labels_of_arms_are_words_too() -> None:
    labels = [arm.label for arm in PLAIN.arms]
    text = GOOD
    for code, label in zip(CODES, labels, strict=True):
        text = text.replace(f",{code}\n", f',"{label}"\n')
    assert read(text).design.arms == read(GOOD).design.arms


def test_words_levels_and_columns_of_the_file() -> None:
    rows = [f"{n},{'12'[n % 2]},{7 + (n > 10)},x" for n in range(1, 21)]
    text = "\n".join(["SEQNO,TRT01P,redcap_data_access_group,note", *rows])
    how = words(
        ["1=GCV", "2=IL2-GCV"],
        ["site:7=B", "site:8=A"],
        ["TRT01P=treatment", "redcap_data_access_group=site", "note=-"],
    )
    found = read(text, SITES, how)
    assert found.layout == "numbered list" and found.design.arms == (bytes([0, 1] * 5),) * 2


def test_the_ratio_is_in_the_order_of_the_study() -> None:
    text = "position,arm\n" + "".join(f"{n},{CODES[n % 3 > 0]}\n" for n in range(1, 13))
    found = read(text, shares={"GCV": 2, "IL2-GCV": 1})
    assert found.design.ratio == (("IL2-GCV", 1), ("GCV", 2))
    assert found.design.arms == (bytes([1, 1, 0] * 4),)
    assert [doubt.message for doubt in found.doubts] == [
        "the list repeats its first 3 entries throughout: is it drawn at random?"
    ]


# ---- every fault is found -------------------------------------------------------------------------------------------


def caught(rows: list[list[str]], of: Study) -> bool:
    """Whether a list is refused, or taken for a reason only."""
    try:
        return bool(read(text_of(rows), of).doubts)
    except FileProblems as error:
        return all(problem.line and problem.column for problem in error.problems)


@pytest.mark.requirement("G07")
@pytest.mark.parametrize("name", NUMBERED)
@settings(max_examples=20, suppress_health_check=[HealthCheck.filter_too_much])
@given(made=lists(), data=st.data())
def test_a_row_lost_twice_or_moved_is_found(name: str, made: Made, data: st.DataObject) -> None:
    rows = WRITERS[name](made)
    last = len(rows) - 1
    assume(name != "REDCap" or last > LONG)  # its numbers may be any labels; only a long row of them is a sequence
    at = data.draw(st.integers(1, last - 1), label="row")
    lost, twice, moved = ([*rows] for _ in range(3))
    del lost[at]
    twice.insert(at, rows[at])
    moved[at], moved[last] = rows[last], rows[at]
    for changed in (lost, twice, moved):
        assert caught(changed, made.of)
    if name in WITH_BLOCKS or made.of is SITES:
        assert caught(rows[:-1], made.of)


@pytest.mark.requirement("G07")
@pytest.mark.parametrize("name", WITH_BLOCKS)
@settings(max_examples=20)
@given(made=lists(), data=st.data())
def test_arms_exchanged_between_blocks_are_found(name: str, made: Made, data: st.DataObject) -> None:
    rows = WRITERS[name](made)
    column = next(n for n, title in enumerate(rows[0]) if title.lower() == "treatment")
    at = data.draw(st.integers(1, len(rows) - 1), label="row")
    other = CODES[rows[at][column] == CODES[0]]
    rows[at] = [*rows[at][:column], other, *rows[at][column + 1 :]]
    assert caught(rows, made.of)


@pytest.mark.requirement("G07")
@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=15)
@given(made=lists(), data=st.data())
def test_a_cell_that_says_nothing_is_found_where_it_stands(name: str, made: Made, data: st.DataObject) -> None:
    rows = WRITERS[name](made)
    line, cell = data.draw(st.integers(1, len(rows) - 1)), data.draw(st.integers(0, len(rows[0]) - 1))
    bad = data.draw(st.sampled_from(["", " ", "=1+1", "@x", "\u202e1", "\x00", "x" * 501, " 1", "one"]))
    if bad == "one" and rows[0][cell] in ("code", "redcap_randomization_number"):
        return  # a label is any text
    rows[line] = [*rows[line][:cell], bad, *rows[line][cell + 1 :]]
    try:
        assert read(text_of(rows), made.of).doubts and bad == "one" and "lock" in rows[0][cell]  # blocks have any name
    except FileProblems as error:
        assert line + 1 in [problem.line for problem in error.problems]


FAULTS: list[tuple[str, str, str]] = [
    ("a gap", GOOD.replace("4,GCV\n", ""), "list.csv:5:1  position: 4 missing before '5'"),
    ("a gap of two", GOOD.replace("4,GCV\n5,GCV\n", ""), "list.csv:5:1  position: 4 to 5 missing before '6'"),
    ("twice", GOOD.replace("\n4,", "\n3,"), "list.csv:5:1  position: '3' stands in line 4 already"),
    ("far away", GOOD.replace("\n4,", "\n999999999,"), "list.csv:5:1  position: 4 to 999999998 missing before"),
    ("moved", GOOD.replace("3,IL2-GCV\n4,GCV\n", "4,GCV\n3,IL2-GCV\n"), "list.csv:4:1  position: '4' stands after 2"),
    ("out of order", GOOD.replace("\n4,", "\n1x,"), "list.csv:5:1  position: '1x' does not end in a number"),
    ("no first", GOOD.replace("1,GCV\n", "", 1), "list.csv:2:1  position: the first number is 2: are those before"),
    ("another prefix", GOOD.replace("\n4,", "\nA4,"), "list.csv:5:1  position: 'A4' begins otherwise"),
    ("unknown arm", GOOD.replace("5,GCV", "5,GVC"), "list.csv:6:3  treatment: 'GVC' is no arm; did you mean 'GCV'?"),
    ("case", GOOD.replace("5,GCV", "5,gcv"), "list.csv:6:3  treatment: 'gcv' is no arm"),
    ("one arm", GOOD.replace("IL2-GCV", "GCV"), "no row is of arm IL2-GCV"),
    ("a cell less", GOOD.replace("5,GCV", "5"), "list.csv:6:1  1 cells where the header has 2"),
    ("a cell more", GOOD.replace("5,GCV", "5,GCV,"), "list.csv:6:3  3 cells where the header has 2"),
    ("a blank line", GOOD.replace("5,GCV", ""), "list.csv:6:1  the line is blank"),
    ("an open quote", GOOD.replace("5,GCV", '5,"GCV'), "list.csv:6:1  no line of CSV"),
    ("lone returns", GOOD.replace("\n", "\r"), "list.csv:1:19  the unprintable character \\u{d}"),
    (
        "a header twice",
        "position,treatment,treatment\n1,GCV,GCV\n",
        "list.csv:1:20  treatment: stands twice in the header",
    ),
    ("two orders", "position,seqno,arm\n1,1,GCV\n", "list.csv:1:10  seqno: says position as 'position' does"),
    ("no header", "1,GCV\n2,IL2-GCV\n", "list.csv:1:1  no list that is known by its header; known: Sealed Envelope"),
    ("an unknown column", "position,arm,when\n1,GCV,now\n", "list.csv:1:14  when: what does this column say?"),
    ("no row", "position,arm\n", "list.csv:1:1  there is no row after it"),
    ("empty", "", "list.csv  it is empty"),
    ("strata", "position,stratum,arm\n1,A,GCV\n2,B,IL2-GCV\n", "list.csv:3:3  stratum: 'B' is another stratum"),
]


@pytest.mark.requirement("G07")
@pytest.mark.parametrize(("text", "said"), [case[1:] for case in FAULTS], ids=[case[0] for case in FAULTS])
def test_what_is_wrong_is_said_with_its_place(text: str, said: str) -> None:
    assert any(said in line for line in refused(text)), refused(text)


BLOCK = "id,block.id,block.size,treatment\n"
BLOCKS = [
    (
        "4 of 6",
        "1,1,6,GCV\n2,1,6,GCV\n3,1,6,IL2-GCV\n4,1,6,IL2-GCV\n5,2,2,GCV\n6,2,2,IL2-GCV\n",
        "block '1' has 4 entries",
    ),
    ("too long", "1,1,2,GCV\n2,1,2,IL2-GCV\n3,1,2,GCV\n", "block '1' has 3 entries, and its size is 2"),
    ("two sizes", "1,1,2,GCV\n2,1,4,IL2-GCV\n", "block '1' has another size in line 2"),
    ("in pieces", "1,1,2,GCV\n2,2,2,GCV\n3,1,2,IL2-GCV\n", "block '1' was left in line 2, and goes on"),
    ("no size", "1,1,two,GCV\n2,1,two,IL2-GCV\n", "'two' is no size from 1 to 10000"),
    ("a block lost", "1,1,2,GCV\n2,1,2,IL2-GCV\n3,3,2,GCV\n4,3,2,IL2-GCV\n", "2 missing before '3'"),
]


@pytest.mark.parametrize(("text", "said"), [case[1:] for case in BLOCKS], ids=[case[0] for case in BLOCKS])
def test_blocks_that_are_none(text: str, said: str) -> None:
    assert any(said in line for line in refused(BLOCK + text)), refused(BLOCK + text)


def test_all_faults_at_once_and_twenty_at_most() -> None:
    text = GOOD.replace("\n2,", "\n1,").replace("5,GCV", "5,X").replace("\n8,", "\n9,")
    assert [line.split()[0][9:] for line in refused(text)] == ["3:1", "4:1", "6:3", "9:1", "10:1"]
    many = refused("position,arm\n" + "".join(f"{2 * n},GCV\n" for n in range(1, 100)))
    assert len(many) == 21 and "there are more after it" in "\n".join(many)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xfep\x00", "UTF-16"),
        (GOOD.replace("5,GCV", "5,G\xdcV").encode("latin-1"), "list.csv:6:1  byte"),
        (b"x" * (MAX_LIST + 1), "at most"),
        (GOOD.replace("5,GCV", "5,G\x00V").encode(), "list.csv:6:4  the unprintable character \\u{0}"),
        (GOOD.replace("5,GCV", "5,G\u200bCV").encode(), "list.csv:6:4  the unprintable character \\u{200b}"),
        (GOOD.replace("5,GCV", "5,=HYPERLINK(1)").encode(), "list.csv:6:3  treatment: '=HYPERLINK(1)' would run"),
        (b"position,arm\n" + b"1,GCV\n" * (MAX_ENTRIES + 2), f"more than {MAX_ENTRIES} entries"),
    ],
    ids=["utf-16", "latin-1", "huge", "nul", "hidden", "formula", "too many"],
)
def test_hostile_files(data: bytes, said: str) -> None:
    assert any(said in line for line in refused(data)), refused(data)


@settings(max_examples=60)
@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
)
def test_any_bytes_are_refused_in_words(data: bytes) -> None:
    for prefix in (b"", b"position,treatment\n1,"):
        assert all(line.startswith("list.csv") for line in refused(prefix + data))


# ---- strata ---------------------------------------------------------------------------------------------------------


def sites(first: int, second: int, head: str = "position,site,arm") -> str:
    """A list of two sites with so many entries."""
    rows = [f"{n},A,{CODES[n % 2]}" for n in range(1, first + 1)] + [
        f"{n},B,{CODES[n % 2]}" for n in range(1, second + 1)
    ]
    return "\n".join([head, *rows])


def test_strata_have_one_length() -> None:
    assert "--length 10 takes" in refused(sites(12, 10), SITES)[0]
    assert "list.csv:23:" in refused(sites(12, 10), SITES)[0]
    assert read(sites(12, 10), SITES, length=10).design.length == 10
    assert read(sites(12, 10), SITES, length=8).design.arms == (bytes([1, 0] * 4),) * 2
    assert "--length asks for 11" in refused(sites(12, 10), SITES, length=11)[0]
    assert 'stratum {"site":"B"} has 0 entries' in refused(sites(12, 0), SITES)[0]


def test_strata_that_are_none_of_the_study() -> None:
    assert "no column gives the level of site" in refused(GOOD, SITES)[0]
    strange = refused(sites(12, 10).replace(",B,", ",C,"), SITES)
    assert len(strange) == 1 and "list.csv:14:3  site: 'C' is no level; levels: A, B" in strange[0]
    said = refused(sites(2, 2, "position,stratum,arm").replace(",B,", ",C,"), SITES)[0]
    assert "'C' is no stratum of the form site=LEVEL" in said
    how = words(levels=["stratum:C=B"])
    assert read(sites(12, 12, "position,stratum,arm").replace(",B,", ",C,"), SITES, how).design.length == 12
    assert read(sites(12, 12, "position,stratum,arm").replace(",B,", ",site=B,"), SITES).design.length == 12


def test_a_list_that_no_envelope_holds() -> None:
    """20,000 entries fit, but each stratum takes room as well."""
    levels = ", ".join(f'"{n:02d}"' for n in range(100))
    factors = "".join(f'\n[[factor]]\nname = "{name}"\nlevels = [{levels}]\n' for name in ("ward", "bed"))
    many = read_study("study.toml", study_bytes() + factors.encode())
    head = "redcap_randomization_group,ward,bed\n"
    rows = [f"{code},{ward:02d},{bed:02d}\n" for ward in range(100) for bed in range(100) for code in CODES]
    with pytest.raises(InputError) as error:
        read(head + "".join(rows), many)
    assert error.value.code == "list-too-long"


# ---- doubts ---------------------------------------------------------------------------------------------------------


def doubts(text: str, of: Study = PLAIN, **more: Any) -> str:
    """What is doubted of a list without a fault."""
    return "\n".join(str(doubt) for doubt in read(text, of, **more).doubts)


def numbered(arms: str) -> str:
    """A list of arms by their indices."""
    return "position,arm\n" + "".join(f"{n},{CODES[int(arm)]}\n" for n, arm in enumerate(arms, 1))


@pytest.mark.requirement("G07")
@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ("0110100110", ""),
        ("00000" + "11111", "is sorted by arm"),
        ("01" * 6, "repeats its first 2 entries throughout"),
        ("0110" * 4, "repeats its first 4 entries throughout"),
        ("0100100100", "7 IL2-GCV, 3 GCV, and the ratio is 1:1"),
        ("01100110", "8 entries in all, and 10 participants are planned"),
    ],
)
def test_a_list_that_may_be_wrong_is_doubted(arms: str, said: str) -> None:
    found = doubts(numbered(arms))
    assert found == "" if not said else said in found


def test_a_ratio_that_is_not_the_one_stated() -> None:
    assert doubts(GOOD) == ""
    assert "list.csv:2:3  treatment: stratum {}: 5 IL2-GCV, 5 GCV, and the ratio is 2:1" in doubts(
        GOOD, shares={"IL2-GCV": 2, "GCV": 1}
    )


def test_labels_that_are_nearly_all_in_sequence() -> None:
    rows = GOOD.replace("position,", "redcap_randomization_number,").replace("treatment", "redcap_randomization_group")
    assert doubts(rows) == ""
    assert "redcap_randomization_number: 4 to 39 missing before '40'" in doubts(rows.replace("\n4,", "\n40,"))
    drawn = iter((71, 13, 99, 45, 22, 87, 30, 64, 58, 16))
    lines = rows.splitlines()
    drawn_lines = [f"{next(drawn)},{line.partition(',')[2]}" for line in lines[1:]]
    assert doubts("\n".join([lines[0], *drawn_lines])) == ""


def test_one_list_in_all_strata() -> None:
    text = "position,site,arm\n" + "".join(
        f"{n},{site},{CODES[n in (1, 4, 5, 8, 9)]}\n" for site in "AB" for n in range(1, 11)
    )
    assert "has the same arms in the same order" in doubts(text, SITES)


def test_blocks_that_are_cut_or_not_in_balance() -> None:
    rows = [f"{n},{(n + 3) // 4},4,{CODES[n % 4 < 2]}" for n in range(1, 13)]
    assert "block" not in doubts(BLOCK + "\n".join(rows))
    assert "the last block, '3', is cut: 2 of its 4 entries" in doubts(BLOCK + "\n".join(rows[:10]))
    rows[0] = rows[0].replace(",GCV", ",IL2-GCV")
    assert "list.csv:2:7  treatment: block '1': 3 IL2-GCV, 1 GCV" in doubts(BLOCK + "\n".join(rows))


@given(st.lists(st.integers(0, 2), max_size=30).map(bytes))
def test_order_is_what_it_is_called(arms: bytes) -> None:
    said = orderly(arms)
    if said == "is sorted by arm":
        assert sum(a != b for a, b in pairwise(arms)) + 1 == len(set(arms)) > 1
    elif said.startswith("repeats"):
        period = int(said.split()[3])
        assert arms == (arms[:period] * len(arms))[: len(arms)]
    elif said:
        assert len(set(arms)) == 1
    else:
        assert len(arms) < 8 or sorted(arms) != list(arms) or len(set(arms)) == 0


# ---- what is typed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("arms", "A", "is not WORD=CODE"),
        ("arms", "=GCV", "is not WORD=CODE"),
        ("arms", "A=XYZ", "XYZ is no arm"),
        ("arms", "GCV=IL2-GCV", "GCV is GCV already"),
        ("levels", "A=B", "FACTOR:WORD=LEVEL"),
        ("levels", "sex:1=F", "factors: site, stratum"),
        ("levels", "site:1=C", "C is no level"),
        ("levels", "site:A=B", "A is a level itself"),
        ("levels", "stratum:x=C", "C is no stratum"),
        ("columns", "X=when", "is nothing a column says"),
        ("columns", "X", "is not NAME=ROLE"),
    ],
)
def test_words_that_say_nothing_clear(option: str, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        words(**{option: [text]})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="given twice"):
        words(arms=["A=GCV", "A=IL2-GCV"])


@pytest.mark.parametrize("text", ["GCV=x", "GCV=1.5", "GCV=-1", "GCV=\u0661", "GCV", "GCV=12345"])
def test_a_share_is_a_whole_number(text: str) -> None:
    with pytest.raises(InputError):
        parse_ratio([text])


@pytest.mark.parametrize("shares", [{"GCV": 1}, {"GCV": 1, "IL2-GCV": 1, "X": 1}, {"GCV": 0, "IL2-GCV": 1}])
def test_a_ratio_of_this_study(shares: dict[str, int]) -> None:
    with pytest.raises(InputError):
        read(GOOD, shares=shares)


def test_words_that_no_row_has_are_a_slip() -> None:
    assert "--map names 'A', which no row has" in refused(GOOD, how=words(["A=GCV"], of=PLAIN))[0]
    assert "--column names it, and the header does not" in refused(GOOD, how=words(columns=["x=-"], of=PLAIN))[0]


def test_every_layout_reads_a_treatment() -> None:
    assert all("treatment" in layout.needs and layout.name for layout in LAYOUTS)


def test_what_a_spreadsheet_would_run_is_written_as_text() -> None:
    rows = written_rows("blockrand", PLAIN, [b"\x00\x01"], words(["=1+1=GCV"], of=PLAIN), block=None, notice="=x")
    assert csv_text(rows).splitlines()[2] == "2,1,2,'=1+1,'=x"
