"""The balance pages: complete in themselves, the same bytes each time, nothing of the list in a blinded one."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from allocator.balance import Allocated, Enrolled, ListReport, list_report
from allocator.balance_page import _cumulative, figures, render_html, render_pdf
from allocator.balance_plot import MOST_PANELS, plot_arms, require_plots
from allocator.balance_words import MOST_ROWS, BlindedView
from allocator.design import RandomizationDesign
from allocator.errors import InputError
from allocator.list_words import RestrictedView
from allocator.schedule import generate_schedule
from allocator.study import Factor, Study, stratum_label
from support import START, study

pytest.importorskip("matplotlib")
MADE = START + timedelta(days=150)
THREE_ARMS = (("IL2-GCV", 1), ("GCV", 2), ("PLACEBO", 1))


def _study(strata: int = 1, *, arms: int = 2, title: str = "") -> Study:
    """The study with so many sites, arms, and another title."""
    plain = study()
    codes = (*plain.arms, replace(plain.arms[0], code="PLACEBO", label="Placebo"))[:arms]
    sites = (Factor(name="site", levels=tuple(f"S{number:02d}" for number in range(strata))),) if strata > 1 else ()
    return replace(plain, arms=codes, factors=sites, title=title or plain.title, enrollment=60)


def _report(of: Study, **given: Any) -> ListReport:
    ratio = tuple(THREE_ARMS[:3]) if len(of.arms) == 3 else (("IL2-GCV", 1), ("GCV", 1))
    taken = {"method": "permuted-block", "block_sizes": (4, 8), "length": 40, **given}
    design = RandomizationDesign(ratio=ratio, **taken).for_study(of)
    strata = generate_schedule(of, design, bytes(32), [bytes([1]) * 32, bytes(32)]).strata
    report = list_report(of, "00" * 16, "00" * 32, design, strata)
    return replace(report, faults=tuple(fault for fault in report.faults if fault.code != "root"))


def restricted(of: Study, *, state: str = "sealed", allocated: int = 0, **given: Any) -> RestrictedView:
    """The view of a list of this study, with so many allocations."""
    report, seen = _report(of, **given), []
    for number in range(allocated):
        stratum = of.strata[number % len(of.strata)]
        place = number // len(of.strata)
        seen.append(
            Allocated(
                number=number + 1,
                time=START + timedelta(days=3 * number),
                stratum=stratum_label(stratum),
                late=number == 4,
                in_error=number == 5,
                position=place,
                arm=report.strata[number % len(of.strata)].arms[place],
            )
        )
    return RestrictedView(
        **_frame(of, state), seen=tuple(seen), report=report, read="by ST, record 16", signed="", drawn_again=False
    )


def _frame(of: Study, state: str) -> dict[str, Any]:
    made, timestamp = "2027-04-19 12:00:00 Asia/Shanghai (04:00:00 UTC)", int(MADE.timestamp())
    return {"study": of, "mode": "test", "state": state, "made": made, "timestamp": timestamp}


def blinded(view: RestrictedView) -> BlindedView:
    """What everybody sees of it."""
    names = ("number", "time", "stratum", "late", "in_error")
    seen = tuple(Enrolled(**{name: getattr(one, name) for name in names}) for one in view.seen)
    return BlindedView(**_frame(view.study, view.state), seen=seen)


VIEWS = {
    "before activation": restricted(_study()),
    "three arms, strata": restricted(_study(4, arms=3), state="active", allocated=37),
    "one allocated": restricted(_study(), state="active", allocated=1),
    "no block": restricted(_study(), method="big-stick", block_sizes=(), limit=3),
    "blinded": blinded(restricted(_study(4), state="active", allocated=37)),
    "blinded, none": blinded(restricted(_study())),
}
every_view = pytest.mark.parametrize("name", VIEWS)


def words(page: bytes) -> str:
    """The text of a page."""
    body = re.sub("<style>.*?</style>|<img[^>]*>", "", page.decode("utf-8"), flags=re.S)
    return " ".join(unescape(re.sub("<[^>]*>", " ", body)).split())


@every_view
def test_a_page_is_the_same_each_time_and_asks_for_nothing(name: str) -> None:
    page = render_html(VIEWS[name])
    assert page == render_html(VIEWS[name])
    text = page.decode("utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    style = re.search("<style>(.*?)</style>", text, re.S)
    assert policy and style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert unescape(policy[1]) == f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'"
    assert re.findall(r"""(?:src|href)=["'](?!data:image/svg\+xml;base64,)""", text) == []
    assert "<script" not in text and "style=" not in text and "url(" not in text


@every_view
def test_plots_are_drawings_and_the_same_each_time(name: str) -> None:
    drawn = figures(VIEWS[name])
    assert drawn == figures(VIEWS[name])
    assert drawn.keys() == {section.figure for section in VIEWS[name].sections() if section.figure}
    for svg in drawn.values():
        assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert b"<dc:date>" not in svg and b"<script" not in svg


@every_view
def test_every_plot_says_what_it_shows(name: str) -> None:
    text = render_html(VIEWS[name]).decode("utf-8")
    alternatives = re.findall(r'<img alt="([^"]*)"', text)
    assert len(alternatives) == text.count("<img") and all(len(alt) > 30 for alt in alternatives)


@pytest.mark.requirement("C03")
@pytest.mark.parametrize("name", ["blinded", "blinded, none"])
def test_a_blinded_page_holds_nothing_of_the_list(name: str) -> None:
    said = words(render_html(VIEWS[name])).split("Made", 1)[1]
    assert re.findall(r"IL2-GCV|\bGCV\b|block|design|position|entr|\b40\b|RESTRICTED", said) == []
    assert figures(VIEWS[name]).keys() <= {"cumulative"}


@pytest.mark.requirement("C03")
def test_the_plot_of_allocations_is_the_same_for_all_arms() -> None:
    view = VIEWS["three arms, strata"]
    assert isinstance(view, RestrictedView)
    other = replace(view, seen=tuple(replace(one, arm=0, position=one.number) for one in view.seen))
    assert _cumulative(view) == _cumulative(other) == _cumulative(blinded(view))


@pytest.mark.requirement("C01")
def test_after_activation_nothing_to_come_is_drawn() -> None:
    """Two lists that agree in what was allocated, in their counts, and in nothing else give the same plots."""
    view = restricted(_study(), state="active", allocated=8)
    (stratum,) = view.report.strata
    arms = stratum.arms[:8] + stratum.arms[8:][::-1]
    assert arms != stratum.arms
    other = replace(view, report=replace(view.report, strata=(replace(stratum, arms=arms),)))
    assert figures(view) == figures(other)
    before, changed = replace(view, state="sealed"), replace(other, state="sealed")
    assert figures(before)["difference"] != figures(changed)["difference"]


def test_what_is_told_is_escaped_and_hidden_characters_are_written_out() -> None:
    title = "<script>alert(1)</script> & \u202e'x' \u738b"
    view = restricted(_study(title="a title"))
    of = _study(title="a title")
    object.__setattr__(of, "title", title)
    view = replace(view, study=of)
    text = render_html(view).decode("utf-8")
    assert "<script" not in text and "&lt;script&gt;alert(1)&lt;/script&gt; &amp;" in text
    assert "\\u{202e}" in text and "\u202e" not in text and "\u738b" in text


def test_many_strata_are_counted_where_they_are_not_shown() -> None:
    view = restricted(_study(MOST_ROWS + 3), state="active", length=8)
    said = words(render_html(view))
    assert "… and 3 more (--json)" in said and f"site S{MOST_ROWS + 2}" not in said
    svg = plot_arms([(f"S{number:02d}", (4, 4)) for number in range(MOST_PANELS + 9)], ["A", "B"], [1, 1])
    assert svg == plot_arms([(f"S{number:02d}", (4, 4)) for number in range(MOST_PANELS)], ["A", "B"], [1, 1])


def test_faults_stand_out() -> None:
    view = restricted(_study())
    (stratum,) = view.report.strata
    study_, design = view.study, view.report.design
    listed = generate_schedule(study_, design, bytes(32), [bytes([1]) * 32, bytes(32)]).strata[0]
    faulty = list_report(study_, "00" * 16, "00" * 32, design, (replace(listed, arms=bytes(40)),))
    page = render_html(replace(view, report=faulty)).decode("utf-8")
    assert page.count('class="fault"') == len(faulty.faults) > 1 and "faults found" in page
    assert "no fault found" in render_html(view).decode("utf-8") and stratum.counts != (40, 0)


def test_without_matplotlib_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, package, None)
    for act in (require_plots, lambda: render_html(VIEWS["blinded"])):
        with pytest.raises(InputError, match=r"packages? matplotlib"):
            act()


# ---- paper ----------------------------------------------------------------------------------------------------------

poppler = pytest.mark.skipif(
    not all(map(shutil.which, ("pdfinfo", "pdftotext"))), reason="reads PDF with poppler-utils"
)


def _read(pdf: bytes, folder: Path, *program: str) -> str:
    folder.joinpath("page.pdf").write_bytes(pdf)
    done = subprocess.run([*program, folder / "page.pdf", "-"], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@poppler
@pytest.mark.parametrize("name", ["before activation", "three arms, strata", "blinded"])
def test_the_paper_says_what_the_page_says(name: str, tmp_path: Path) -> None:
    pytest.importorskip("typst")
    view = VIEWS[name]
    pdf = render_pdf(view)
    assert pdf == render_pdf(view)
    said = "".join(_read(pdf, tmp_path, "pdftotext", "-layout").replace("\u200b", "").split())
    for section in view.sections():
        assert "".join(section.title.split()) in said
    for _, text in view.facts():
        assert "".join(text.split()) in said
    assert "TEST:NOTFORAPATIENT" in said and "".join(view.kind.split()) in said
    tmp_path.joinpath("page.pdf").write_bytes(pdf)
    facts = subprocess.run(["pdfinfo", "page.pdf"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "595.276 x 841.89" in facts and re.search(r"Tagged: +yes", facts)
    assert f"{datetime.fromtimestamp(view.timestamp, UTC):%Y}" in facts


@poppler
def test_a_character_without_a_glyph_is_written_out(tmp_path: Path) -> None:
    pytest.importorskip("typst")
    of = _study()
    object.__setattr__(of, "title", "about \U00013000 and \u0951")
    said = _read(render_pdf(replace(VIEWS["blinded, none"], study=of)), tmp_path, "pdftotext")
    assert "about" in said and ("13000" in said or "\U00013000" in said)
