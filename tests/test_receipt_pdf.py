"""The receipt on paper: all of it, on one page, as it stands, and the same bytes each time. Read back with poppler."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
import zlib
from dataclasses import dataclass, fields, replace
from importlib import resources
from pathlib import Path

import pytest
import segno
import typst
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.errors import InputError
from allocator.receipt_pdf import MAX_CHARACTERS, ReceiptPage, _typeset, render_pdf
from allocator.text import TEST_NOTICE, shown

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("pdfinfo", "pdftotext", "pdftoppm"))), reason="reads PDF with poppler-utils"
)

DAY = "2026-11-23 05:15:25 Asia/Shanghai (2026-11-22 21:15:25 UTC)"
ALLOCATED = ReceiptPage(
    study="NCT04225780",
    title="Low-dose IL-2 and ganciclovir in cytomegalovirus infection",
    protocol_version="1.0",
    mode="production",
    participant="P-001",
    number=1,
    arm_code="IL2-GCV",
    arm_label="Low-dose IL-2 and ganciclovir",
    interventions=("Low-dose IL-2", "Ganciclovir"),
    allocated=DAY,
    signed_by="PHAR-1 (Jun Chen), pharmacist",
    meaning="I request the allocation of this participant.",
    seq=22,
    hash="be012a5706bbc33767fc49d83b658d891ab453bc97d54aac0083c95b8b20251a",
    schedule_root="2375595824cf4b80fe426055a74c37ff3651d2b6b6c904a6d327c52caf4f8086",
    origin="allocator/NCT04225780/00008b91a39bdeb0",
    size=23,
    tree_root="viXAbVfJ9WW0Ek8Tmtp2W9jFzZk3yq0Wl1IO0oQq3mA=",
    file="000001-P-001.tlog-proof",
    timestamp=1795382125,
)
LATE = replace(
    ALLOCATED,
    stratum="site A, sex F",
    on_paper="2026-11-20 03:10:00 Asia/Shanghai (2026-11-19 19:10:00 UTC)",
    told="IL2-GCV",
    meaning="I enter an allocation that was made on paper at the time stated.",
)
ENTERED = replace(
    LATE,
    entered="2026-11-30 09:00:00 Asia/Shanghai (01:00:00 UTC)",
    entered_by="STAT-1 (Li Na), statistician",
    reassigned_to="P-007",
)
COPY = replace(ENTERED, copied="2026-12-01 09:00:00 Asia/Shanghai (01:00:00 UTC)", copied_by="AUD-1, auditor")


def filled(words: str, length: int) -> str:
    """A text of so many characters."""
    return (words * length)[: length - 1] + "."


LONG_NAME = f"{'P' * 40} ({filled('María de la Concepción ', 500)}), pharmacist"
LONGEST = replace(
    COPY,
    mode="test",
    study="S" * 40,
    title=filled("Low-dose interleukin two ", 500),
    protocol_version="v" * 40,
    participant="P" * 40,
    number=1_000_000,
    arm_code="W" * 40,
    arm_label=filled("Interleukin two ", 500),
    interventions=tuple(filled(f"Intervention {i} by mouth ", 500) for i in range(10)),
    stratum=", ".join(f"{'f' * 39}{i} {'l' * 40}" for i in range(10)),
    told="V" * 40,
    signed_by=LONG_NAME,
    entered_by=LONG_NAME,
    copied_by=LONG_NAME,
    reassigned_to="Q" * 40,
    origin=f"allocator/{'S' * 40}/{'0' * 16}",
    size=1 << 32,
    seq=(1 << 32) - 1,
    file=f"1000000-{'P' * 40}.tlog-proof",
)
WIDE = replace(
    ALLOCATED,
    number=9_999_999_999,
    arm_code="ABCDEFGHIJKLMNO",
    arm_label="W" * 23,
    interventions=("W" * 23,),
    title="W" * 23,
    signed_by="W" * 23,
)
UNBROKEN = replace(LONGEST, arm_label="x" * 500, interventions=("\u00a0y" * 250,) * 10, signed_by="z" * 560)


def poppler(tool: str, *arguments: str, pdf: bytes) -> bytes:
    """What one of poppler's tools says of a PDF."""
    return subprocess.run([tool, *arguments, "-", "-"], input=pdf, capture_output=True, check=True).stdout


def pages(pdf: bytes) -> int:
    said = subprocess.run(["pdfinfo", "-"], input=pdf, capture_output=True, check=True).stdout.decode()
    assert re.search(r"^Page size: .*\(A4\)$", said, re.M)
    return int(re.findall(r"^Pages: +([0-9]+)$", said, re.M)[0])


def squeezed(text: str) -> str:
    """Text without white space, for lines are broken where they must be."""
    return re.sub(r"[\s\u200b]", "", text)


def words(pdf: bytes) -> str:
    return squeezed(poppler("pdftotext", "-layout", pdf=pdf).decode("utf-8"))


def words_of(page: ReceiptPage) -> str:
    return words(render_pdf(page))


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A word and the place of its box on the paper, in points from the left upper corner."""

    text: str
    left: float
    top: float
    right: float
    bottom: float


def placed(pdf: bytes) -> list[Word]:
    found = re.findall(
        r'<word xMin="(.*?)" yMin="(.*?)" xMax="(.*?)" yMax="(.*?)">(.*?)</word>',
        poppler("pdftotext", "-bbox", pdf=pdf).decode("utf-8"),
    )
    assert found
    return [
        Word(text=text, left=float(left), top=float(top), right=float(right), bottom=float(bottom))
        for left, top, right, bottom, text in found
    ]


def is_inside(word: Word) -> bool:
    """Whether a word keeps a margin of 24 mm on the left, 14 on the right, 9 above and below."""
    left, top, right, bottom = (value * 25.4 / 72 for value in (word.left, word.top, word.right, word.bottom))
    return left > 24 and top > 9 and right < 210 - 14 and bottom < 297 - 9


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without fonts of its own."""
    bundled = typst.Fonts(include_system_fonts=False)
    monkeypatch.setattr(typst, "Fonts", lambda **_: bundled)


every_page = pytest.mark.parametrize(
    "page",
    [ALLOCATED, LATE, ENTERED, COPY, WIDE, LONGEST, UNBROKEN],
    ids=["allocated", "late", "entered", "copy", "wide", "longest", "unbroken"],
)


@pytest.mark.requirement("A09", "S01")
@every_page
def test_every_value_is_on_the_one_page(page: ReceiptPage) -> None:
    pdf = render_pdf(page)
    assert pages(pdf) == 1
    text = words(pdf)
    values = [getattr(page, field.name) for field in fields(page) if field.name not in {"interventions", "timestamp"}]
    for value in (*values, *page.interventions):
        assert value is None or squeezed(str(value)) in text, value


@pytest.mark.requirement("A09")
@every_page
def test_no_word_runs_off_the_paper_or_into_the_punched_holes(page: ReceiptPage) -> None:
    assert all(map(is_inside, placed(render_pdf(page))))


@pytest.mark.requirement("A09")
@pytest.mark.parametrize("page", [ALLOCATED, LONGEST], ids=["allocated", "longest"])
def test_the_arm_can_be_read_from_two_metres(page: ReceiptPage) -> None:
    """Capitals of 8 mm, 14 minutes of arc at two metres: in this font 0.729 of its size, which is a word's height."""
    written = [(squeezed(word.text), word) for word in placed(render_pdf(page))]
    code = [word for text, word in written if len(text) > 6 and text in page.arm_code]
    assert "".join(text for text, _ in written if text in page.arm_code and len(text) > 6) == page.arm_code
    assert all((word.bottom - word.top) * 0.729 * 25.4 / 72 > 8 for word in code)


@pytest.mark.requirement("A09")
def test_the_words_of_the_page() -> None:
    text = poppler("pdftotext", "-layout", pdf=render_pdf(ENTERED)).decode("utf-8")
    rows = [" ".join(line.split()) for line in text.splitlines()]
    for row in (
        "give: Low-dose IL-2 + Ganciclovir",
        "Stratum site A, sex F",
        f"Allocated on paper {ENTERED.on_paper}",
        "Told on paper IL2-GCV",
        f"Entered late {DAY}",
        "Signed by PHAR-1 (Jun Chen), pharmacist",
        "Meaning I enter an allocation that was made on paper at the time stated.",
        f"Entered from receipt {ENTERED.entered}",
        "Entered by STAT-1 (Li Na), statistician",
        "Reassigned to P-007",
    ):
        assert row in rows, row
    assert {"Dispensed by", "Checked by", "(second person)", "Name Signature Date and time"} <= set(rows)


@pytest.mark.requirement("A09")
def test_what_does_not_apply_is_not_on_the_page() -> None:
    text = words_of(ALLOCATED)
    for word in ("Stratum", "paper:", "late", "Enteredfrom", "Reassigned", "COPY", "TEST", "writtenout", "drawn"):
        assert word not in text, word


@pytest.mark.requirement("A11")
def test_an_arm_told_on_paper_that_is_not_the_allocations_is_said_to_be_none() -> None:
    assert "GCV,NOTthearmabove" in words_of(replace(LATE, told="GCV"))
    assert "NOTthearm" not in words_of(LATE)


def test_an_arm_without_interventions() -> None:
    assert "give:astheprotocolsays" in words_of(replace(ALLOCATED, interventions=()))


@pytest.mark.requirement("A10")
def test_a_copy_says_the_same_apart_from_its_stamp() -> None:
    stamp = squeezed(f"Copy made {COPY.copied} by {COPY.copied_by}")
    text = words_of(COPY)
    assert text.count(stamp) == text.count("COPY") == 1
    assert text.replace(stamp, "").replace("COPY", "") == words_of(ENTERED)


@pytest.mark.requirement("V03")
@pytest.mark.parametrize("mode", ["test", "training"])
def test_mode_test_is_told_above_below_and_at_the_arm(mode: str) -> None:
    page = replace(ALLOCATED, mode=mode)
    places = [word.top for word in placed(render_pdf(page)) if word.text == "TEST:"]
    arm = next(word.top for word in placed(render_pdf(page)) if word.text == page.arm_code)
    assert len(places) == 3
    assert places[0] < 60 < places[1] < arm < 700 < places[2]
    assert words_of(page).count(squeezed(TEST_NOTICE)) == 3
    assert TEST_NOTICE in page.code_text


@pytest.mark.requirement("V03")
def test_mode_production_has_no_notice() -> None:
    assert squeezed(TEST_NOTICE) not in words_of(ALLOCATED)
    assert TEST_NOTICE not in ALLOCATED.code_text


@pytest.mark.requirement("C03")
def test_nothing_of_the_list_can_be_put_on_the_page() -> None:
    assert {field.name for field in fields(ReceiptPage)}.isdisjoint({"position", "length", "remaining", "block_sizes"})


# ---- the QR code ----------------------------------------------------------------------------------------------------


def test_the_code_leads_to_the_record_and_tells_no_arm() -> None:
    assert ALLOCATED.code_text.splitlines() == [
        "allocator/NCT04225780/00008b91a39bdeb0",
        "participant P-001",
        "number 1",
        "record 22",
        f"hash {ALLOCATED.hash}",
    ]


@pytest.mark.parametrize("page", [ALLOCATED, LONGEST], ids=["allocated", "longest"])
def test_the_code_on_the_paper_is_the_one_of_its_text(page: ReceiptPage) -> None:
    """Each module of it, as a black and white printer of 300 dpi draws it."""
    pdf = render_pdf(page)
    top = next(word.top for word in placed(pdf) if word.text == "Record") - 8
    dpi = 300
    x, y, side = (round(value * dpi / 72) for value in ((210 - 15 - 36) / 25.4 * 72 - 1, top, 36 / 25.4 * 72 + 8))
    corner = ("-x", f"{x}", "-y", f"{y}", "-W", f"{side}", "-H", f"{side}")
    image = subprocess.run(
        ["pdftoppm", "-r", str(dpi), "-gray", *corner, "-"], input=pdf, capture_output=True, check=True
    ).stdout
    _, size, _, data = image.split(b"\n", 3)
    width, height = map(int, size.split())
    rows = [data[line * width : (line + 1) * width] for line in range(height)]
    lines = [number for number, row in enumerate(rows) if min(row) < 128]
    columns = [number for number in range(width) if min(row[number] for row in rows) < 128]
    matrix = segno.make(page.code_text, error="m", micro=False).matrix
    step = (columns[-1] + 1 - columns[0]) / len(matrix)
    assert step > 4  # a third of a millimetre at least
    drawn = [
        [
            rows[round(lines[0] + (i + 0.5) * step)][round(columns[0] + (j + 0.5) * step)] < 128
            for j in range(len(matrix))
        ]
        for i in range(len(matrix))
    ]
    assert drawn == [[bool(module) for module in row] for row in matrix]


# ---- the same bytes, and nothing from outside -----------------------------------------------------------------------


@pytest.mark.requirement("A10")
def test_the_same_values_give_the_same_bytes_anywhere(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from test_receipt_pdf import LATE, render_pdf\n"
        "sys.stdout.buffer.write(render_pdf(LATE))"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "TZ": "America/Lima",
        "HOME": str(tmp_path),
        "PYTHONHASHSEED": "7",
        "SOURCE_DATE_EPOCH": "1",
    }
    folder = Path(__file__).parent
    elsewhere = subprocess.run(
        [sys.executable, "-c", program, str(folder)], cwd=tmp_path, env=environment, capture_output=True, check=True
    )
    assert elsewhere.stdout == render_pdf(LATE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.requirement("R02")
def test_it_is_an_archivable_pdf_dated_by_its_record() -> None:
    pdf = render_pdf(ALLOCATED)
    assert b"<pdfaid:part>2</pdfaid:part>" in pdf
    assert b"<pdfaid:conformance>A</pdfaid:conformance>" in pdf
    assert b"<xmp:CreateDate>2026-11-22T21:15:25+00:00</xmp:CreateDate>" in pdf


def test_the_template_takes_nothing_but_its_data() -> None:
    template = resources.files("allocator").joinpath("receipt.typ").read_text(encoding="utf-8")
    code = re.sub(r"^//.*$", "", template, flags=re.M)
    assert re.findall(r"\b(?:read|eval|import|include|plugin|csv|toml|yaml|xml|cbor|datetime)\b|@", code) == []
    assert re.findall(r"(?:json|image)\((?!bytes\(sys\.inputs\.)", code) == []


def test_typst_reads_no_file(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("x", encoding="utf-8")
    for path in (tmp_path / "here", Path("../" * 12 + "etc/hostname"), Path("pyproject.toml")):
        with pytest.raises(typst.TypstError):
            _typeset(typst.Fonts(include_system_fonts=False), f'#read("{path.as_posix()}")'.encode(), {}, ["1.7"])


def test_the_libraries_are_loaded_only_for_a_page() -> None:
    program = "import sys, allocator.receipt_pdf; print({'typst', 'segno'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "set()\n"


@pytest.mark.parametrize("name", ["typst", "segno"])
def test_without_the_extra_it_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match="not installed") as caught:
        render_pdf(ALLOCATED)
    assert caught.value.code == "no-report"
    assert "pip install 'allocator[report]'" in caught.value.hint


# ---- text of any kind -----------------------------------------------------------------------------------------------

HOSTILE = [
    '#eval("1+1")',
    "#panic() #sys.inputs",
    "<b>bold</b> <label> @reference",
    "*bold* _it_ `raw` $x^2$ = heading",
    "https://example.org/x -- ... --- // /* no comment */",
    "- item + item / term: x",
    "\\u{202e} \\n \\ ~ 'quoted' \"quoted\"",
    '{"json": [1]} ]} #[x] #{y}',
    "ffi fl fi -> != 1/2 (c)",
]


@pytest.mark.requirement("A09")
@pytest.mark.parametrize("text", HOSTILE)
def test_markup_is_only_text(text: str) -> None:
    page = replace(ALLOCATED, title=text, arm_label=text, interventions=(text, text), signed_by=text)
    assert words_of(page).count(squeezed(text)) == 5


@pytest.mark.requirement("A09")
@pytest.mark.parametrize("code", [0x202E, 0x2066, 0x200B, 0xAD, 0x1B, 0xA, 0x34F, 0xFE0F, 0x3164, 0x2800, 0xE0100])
def test_a_character_that_paper_does_not_show_is_written_out(code: int) -> None:
    text = words_of(replace(ALLOCATED, arm_label=f"a{chr(code)}b"))
    assert f"a\\u{{{code:x}}}b" in text
    assert "arewrittenoutbynumber" in text


@pytest.mark.requirement("A09")
@pytest.mark.usefixtures("no_fonts")
def test_a_character_without_a_glyph_is_written_out() -> None:
    page = replace(ALLOCATED, arm_label="更昔洛韦 A", interventions=("更",), signed_by="PHAR-1 (陈军), pharmacist")
    text = words_of(page)
    assert r"\u{66f4}\u{6614}\u{6d1b}\u{97e6}A" in text
    assert r"give:\u{66f4}" in text
    assert r"PHAR-1(\u{9648}\u{519b}),pharmacist" in text
    assert "arewrittenoutbynumber" in text
    assert "ofthecomputer" not in text


@pytest.mark.requirement("A09")
def test_a_letter_and_accent_that_no_font_has_together_are_written_out() -> None:
    text = words_of(replace(ALLOCATED, arm_label="ж\u20d7"))
    assert r"\u{436}\u{20d7}" in text


# A TrueType font with one glyph, a square for 更; compressed, in base64.
ONE_GLYPH = (
    "eNqNUj1LA0EUnL2NlxjiR0BQsIlgkU6UIAiiGAQ7lfgD9Mx9pLjzQkzgBAuLFJaWKlZip63/wNLKP2BjEa0sYifE2b1TQkTwwb6dmX27O2/vIA"
    "BkcQKJwtbO3MLt0/0NIIpU96qBVUfO2yA/Iy95/pFbnC6dkz+ST9Ucy96/XLeJ7zgWaxTSWflG/MIxWwuakewQQZwymX5YtZDT/EHxwIrqSMEk"
    "z5AXDqzAeV+ZvCZX+/16eNikL4axrdahvHKsvS49744tf0DGpw+GbMu2mmAkglBa74pZ1dtcFQNbhFYMuolXjN+Hyg5fYYgV/4hMH15lAG7X7W"
    "pXdAJ7oLyQOMPP3arrCWah55SqYNbu3G6vF+eLkb4+cnGfSffcP5+fySv8eazeGptJrdBnf3eZTu5QFVLfK1LDVEz+EzE2MIrxBJtKL4dRxfFa"
    "vtVAGSEiVODAQws+LDTi7/V3fAF4RUiP"
)


@pytest.mark.requirement("A09")
def test_a_glyph_of_the_machine_is_used_and_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "one.ttf").write_bytes(zlib.decompress(base64.b64decode(ONE_GLYPH)))
    bundled = typst.Fonts(include_system_fonts=False)
    machine = typst.Fonts(include_system_fonts=False, font_paths=[str(tmp_path)])
    monkeypatch.setattr(
        typst, "Fonts", lambda *, include_system_fonts=True: machine if include_system_fonts else bundled
    )
    text = words_of(replace(ALLOCATED, arm_label="更昔 A"))
    assert r"更\u{6614}A" in text
    assert "arewrittenoutbynumber" in text
    assert "ofthecomputerthatmadethispage" in text
    assert "ofthecomputer" not in words_of(ALLOCATED)


LETTERS = st.characters(min_codepoint=0x20, max_codepoint=0x44F, categories=("L", "N", "P", "S", "Zs"))


@pytest.mark.requirement("A09")
@settings(max_examples=20, deadline=None)
@given(text=st.text(LETTERS, min_size=1, max_size=500))
def test_whatever_the_arm_is_called_it_stands_there_whole(text: str) -> None:
    pdf = render_pdf(replace(ALLOCATED, arm_label=text))
    assert pages(pdf) == 1
    assert squeezed(text) in words(pdf) or squeezed(shown(text)) in words(pdf)
    assert all(map(is_inside, placed(pdf)))


@settings(max_examples=20, deadline=None)
@given(text=st.text(min_size=1, max_size=60))
def test_no_text_brings_it_down(text: str) -> None:
    assert pages(render_pdf(replace(ALLOCATED, title=text, arm_label=text, interventions=(text,)))) == 1


@pytest.mark.usefixtures("no_fonts")
@pytest.mark.parametrize("regimen", ["x" * MAX_CHARACTERS, "更" * 6000, "WWW " * 7000], ids=["long", "glyphs", "words"])
def test_too_much_text_is_refused_and_not_cut(regimen: str) -> None:
    with pytest.raises(InputError, match="P-001 has too much text for one page") as caught:
        render_pdf(replace(ALLOCATED, interventions=(regimen,)))
    assert caught.value.code == "page-too-long"
