"""A receipt on paper: one A4 page for the pharmacy file (docs/spec.md §17; A09, A10, S01).

The page says for the eye what the receipt's file proves. By itself it proves one thing: the record hash on it, once it
lies in a folder, is a head known from outside. Values in, bytes out; needs the extra ``[report]``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib import import_module, resources
from typing import TYPE_CHECKING, Any

from allocator.errors import InputError
from allocator.text import TEST_NOTICE, shown

if TYPE_CHECKING:
    import typst

MAX_CHARACTERS = 30_000  # more do not fit in print that can be read; ten interventions of full length are 5,000
_NO_FOLDER = os.devnull  # typst reads files below its root only, and there is nothing below this
_TOO_LONG = "too long"  # what the template panics with
_WRITTEN_OUT = "Characters that would not be seen, or that no font here has, are written out by number: \\u{…}."
_OTHER_FONTS = "Some characters are drawn with fonts of the computer that made this page."
# What is drawn as nothing (Default_Ignorable_Code_Point of Unicode) beyond the hidden characters of docs/spec.md §1.4,
# and the blank braille cell: on paper they would be gone without a trace.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptPage:
    """What stands on the page, in words ready to be read. Never a position, nor anything else of the list (C03).

    Attributes:
        study, title, protocol_version: of the study as it was opened.
        mode: anything but ``production`` puts the notice of mode test on the page.
        participant, number: whose allocation it is, and its randomization number.
        arm_code, arm_label, interventions: the arm in the study's words.
        stratum: as in ``site A, sex F``; None where the study has no factors.
        allocated: when the allocation was recorded, in the study's local time and in UTC.
        on_paper, told: of one entered late, when it was made on paper, and the arm told then where it was noted.
        signed_by, meaning: id, name and role of who signed, and what the signature means.
        entered, entered_by: when and by whom a lost allocation was entered from its receipt.
        reassigned_to: the participant whose it is since, where it was made under a wrong id.
        copied, copied_by: when and by whom this copy was made; None for the first receipt.
        seq, hash: of the allocation's record; 64 hexadecimal digits.
        schedule_root: 64 hexadecimal digits.
        origin, size, tree_root: the three lines of the checkpoint; the root in base64, as there.
        file: name of the receipt's file.
        timestamp: POSIX seconds, UTC; the creation date of the PDF.
    """

    study: str
    title: str
    protocol_version: str
    mode: str
    participant: str
    number: int
    arm_code: str
    arm_label: str
    interventions: tuple[str, ...]
    allocated: str
    signed_by: str
    meaning: str
    seq: int
    hash: str
    schedule_root: str
    origin: str
    size: int
    tree_root: str
    file: str
    timestamp: int
    stratum: str | None = None
    on_paper: str | None = None
    told: str | None = None
    entered: str | None = None
    entered_by: str | None = None
    reassigned_to: str | None = None
    copied: str | None = None
    copied_by: str | None = None

    @property
    def notice(self) -> str | None:
        """What stands above, below and at the arm, unless the mode is production (V03)."""
        return None if self.mode == "production" else TEST_NOTICE

    @property
    def code_text(self) -> str:
        """What the QR code holds: enough to find the record and hold it to the log. No arm: it is easily scanned."""
        lines = [
            self.origin,
            f"participant {self.participant}",
            f"number {self.number}",
            f"record {self.seq}",
            f"hash {self.hash}",
        ]
        return "\n".join([*lines, self.notice] if self.notice else lines)

    @property
    def text(self) -> str:
        """All words of the page in one."""
        values = asdict(self).values()
        return "".join([*(value for value in values if isinstance(value, str)), *self.interventions])

    def spelled(self, spell: Callable[[str], str]) -> ReceiptPage:
        """The same page, every text of it as `spell` writes it."""
        texts: dict[str, Any] = {name: spell(text) for name, text in asdict(self).items() if isinstance(text, str)}
        return replace(self, **texts, interventions=tuple(map(spell, self.interventions)))


def require_report() -> None:
    """InputError when the extra ``[report]`` is not installed."""
    try:
        for package in ("segno", "typst"):
            import_module(package)
    except ImportError as error:
        raise InputError(
            "no-report",
            "a PDF needs the packages typst and segno, which are not installed here",
            "Install them: pip install 'allocator[report]'. The receipt without --pdf needs neither.",
        ) from error


def render_pdf(page: ReceiptPage) -> bytes:
    """The page as PDF/A-2a and PDF/UA-1: one sheet of A4, however long its texts are.

    The fonts are those that typst brings along, so the same values give the same bytes on every machine. Only for
    characters that these lack are the machine's own fonts asked, and the page says so; what neither has is written
    out, as in ``\\u{738b}``. PDF/A forbids a missing glyph: none is left out unnoticed.

    Raises:
        InputError: the extra ``[report]`` is not installed, or there is too much text for one page.
    """
    require_report()
    import segno
    import typst

    code = segno.make(page.code_text, error="m", micro=False).svg_inline(border=2)
    for spelled in (_drawable, _in_ascii):  # a letter and its accent may each have a glyph while no font has both
        spelling = spelled(page)
        if len(spelling.page.text) > MAX_CHARACTERS:
            raise _too_long(page)
        try:
            return _compiled(spelling, code)
        except typst.TypstError as error:
            if _TOO_LONG in error.message:
                raise _too_long(page) from error
    raise RuntimeError("the template does not compile")


def _too_long(page: ReceiptPage) -> InputError:
    return InputError(
        "page-too-long",
        f"the receipt of {shown(page.participant)} has too much text for one page",
        "Use the receipt without --pdf. Text in a script that this computer has no font for takes the most room.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spelling:
    """A page, fonts that have a glyph for each character of it, and what the page says about that."""

    page: ReceiptPage
    fonts: typst.Fonts
    note: str | None


def _drawable(page: ReceiptPage) -> _Spelling:
    """The page as written, but for what would not be seen or has no glyph."""
    import typst

    seen = page.spelled(_seen)
    fonts, other = typst.Fonts(include_system_fonts=False), None
    lacking = _lacking(fonts, "".join(sorted(set(_NOT_ASCII.findall(seen.text)))))
    if lacking:
        machine = typst.Fonts()
        nowhere = _lacking(machine, lacking)
        if nowhere != lacking:
            fonts, other, lacking = machine, _OTHER_FONTS, nowhere
    spelled = seen.spelled(lambda text: "".join(_number(c) if c in lacking else c for c in text))
    notes = [_WRITTEN_OUT if spelled != page else None, other]
    return _Spelling(page=spelled, fonts=fonts, note=" ".join(filter(None, notes)) or None)


def _in_ascii(page: ReceiptPage) -> _Spelling:
    """The page in letters that every font has."""
    import typst

    spelled = page.spelled(lambda text: _NOT_ASCII.sub(lambda match: _number(match[0]), _seen(text)))
    return _Spelling(page=spelled, fonts=typst.Fonts(include_system_fonts=False), note=_WRITTEN_OUT)


def _seen(text: str) -> str:
    """The text with every character that paper would not show written out."""
    return _BLANK.sub(lambda match: _number(match[0]), shown(text))


def _number(character: str) -> str:
    return f"\\u{{{ord(character):x}}}"


def _lacking(fonts: typst.Fonts, characters: str) -> str:
    """Those of the characters that none of the fonts has a glyph for; found by halves, for mostly there are none."""
    import typst

    try:
        _typeset(fonts, b"#sys.inputs.text", {"text": " ".join(characters)}, ["a-2b"])
    except typst.TypstError:
        half = len(characters) // 2
        return characters if not half else _lacking(fonts, characters[:half]) + _lacking(fonts, characters[half:])
    return ""


def _compiled(spelling: _Spelling, code: str) -> bytes:
    page = spelling.page
    values = {**asdict(page), "notice": page.notice, "code_text": page.code_text, "note": spelling.note}
    template = resources.files("allocator").joinpath("receipt.typ").read_bytes()
    inputs = {"page": json.dumps(values), "code": code}
    return _typeset(spelling.fonts, template, inputs, ["a-2a", "ua-1"], page.timestamp)


def _typeset(
    fonts: typst.Fonts, source: bytes, inputs: dict[str, str], standards: list[typst.PDFStandard], timestamp: int = 0
) -> bytes:
    """Run typst, which gets to see nothing but these arguments; TypstError when a glyph is missing."""
    import typst

    compiler = typst.Compiler(
        source,
        font_paths=fonts,
        ignore_system_fonts=True,  # beyond those in `fonts`
        root=_NO_FOLDER,
        package_path=_NO_FOLDER,
        package_cache_path=_NO_FOLDER,
        sys_inputs=inputs,
    )
    pdf = compiler.compile(format="pdf", pdf_standards=standards, timestamp=timestamp)
    if not isinstance(pdf, bytes):
        raise RuntimeError("typst gave no PDF")
    return pdf
