"""The balance of a study as a page for a browser and as PDF: values in, bytes out (G07, C03).

The page asks for nothing: its plots and its style are in it, and its policy forbids all else. The same view gives the
same bytes. Needs the extra ``[report]``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module, resources
from typing import TYPE_CHECKING, Any

from allocator.balance import furthest_allowed
from allocator.balance_plot import Line, plot_arms, plot_cumulative, plot_difference
from allocator.balance_words import BlindedView, Section, stratum_words
from allocator.errors import InputError
from allocator.list_words import RestrictedView
from allocator.study import stratum_label
from allocator.text import shown

if TYPE_CHECKING:
    import typst

_NO_FOLDER = os.devnull  # typst reads files below its root only, and there is nothing below this
_WIDE = 24  # characters of a column that may give way to others


def require_page(*packages: str) -> None:
    """InputError when a package of the extra ``[report]`` is not installed."""
    try:
        for package in ("matplotlib", *packages):
            import_module(package)
    except ImportError as error:
        raise InputError(
            "no-report",
            f"a page needs the packages {', '.join(('matplotlib', *packages))}, which are not all installed here",
            "Install them: pip install 'allocator[report]'. The view on the terminal needs none of them.",
        ) from error


def figures(view: BlindedView) -> dict[str, bytes]:
    """The plots that the sections of a view name, as SVG."""
    drawn: dict[str, Callable[[], bytes]] = {"cumulative": lambda: _cumulative(view)}
    if isinstance(view, RestrictedView):
        drawn |= {"difference": lambda: _difference(view), "arms": lambda: _arms(view)}
    return {section.figure: drawn[section.figure]() for section in view.sections() if section.figure}


def render_html(view: BlindedView) -> bytes:
    """One page of HTML that is complete in itself; print it on A4, or read it on a screen."""
    require_page("jinja2")
    import jinja2

    style = _file("balance.css").decode("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=_shown)
    template = environment.from_string(_file("balance.html").decode("utf-8"))
    page = template.render(
        view=view,
        sections=view.sections(),
        figures={name: base64.b64encode(svg).decode("ascii") for name, svg in figures(view).items()},
        style=style,
        style_hash=f"sha256-{digest}",
    )
    return page.encode("utf-8")


def render_pdf(view: BlindedView) -> bytes:
    """The same as PDF/A-2a and PDF/UA-1, with the fonts that typst brings along.

    Characters that these lack are taken from the machine's fonts; what neither has is written out by number.
    """
    require_page("typst")
    import typst

    drawn = {name: svg.decode("utf-8") for name, svg in figures(view).items()}
    plain = _plain(view, view.sections())
    own = typst.Fonts(include_system_fonts=False)
    for text, fonts in ((plain, own), (plain, typst.Fonts()), (_in_ascii(plain), own)):
        try:
            return _typeset({"view": json.dumps(text), **drawn}, fonts, view.timestamp)
        except typst.TypstError as error:  # a glyph is missing, which PDF/A forbids
            failed = error
    raise RuntimeError(f"the template does not compile: {failed.message}")


def _typeset(inputs: dict[str, str], fonts: typst.Fonts, timestamp: int) -> bytes:
    import typst

    compiler = typst.Compiler(
        _file("balance.typ"),
        font_paths=fonts,
        ignore_system_fonts=True,  # beyond those in `fonts`
        root=_NO_FOLDER,
        package_path=_NO_FOLDER,
        package_cache_path=_NO_FOLDER,
        sys_inputs=inputs,
    )
    pdf = compiler.compile(format="pdf", pdf_standards=["a-2a", "ua-1"], timestamp=timestamp)
    if not isinstance(pdf, bytes):
        raise RuntimeError("typst gave no PDF")
    return pdf


def _plain(view: BlindedView, sections: list[Section]) -> dict[str, Any]:
    return {
        "study": view.study.id,
        "title": view.title,
        "kind": view.kind,
        "notice": view.notice,
        "facts": [[name, shown(text)] for name, text in view.facts()],
        "sections": [
            {
                "title": section.title,
                "words": [shown(words) for words in section.words],
                "figure": section.figure,
                "alt": section.alt,
                "table": _table(section),
            }
            for section in sections
        ],
    }


def _table(section: Section) -> dict[str, Any] | None:
    """The table, with the share of the width that each column takes; 0 for as much as it needs."""
    if (table := section.table) is None:
        return None
    widths = [max(len(row[column]) for row in (table.head, *table.rows)) for column in range(len(table.head))]
    shares = [width if width > _WIDE else 0 for width in widths]
    if not any(shares):
        shares = [max(width, 4) for width in widths]
    return {"head": table.head, "rows": table.rows, "left": table.left, "columns": shares}


def _cumulative(view: BlindedView) -> bytes:
    names = {stratum_label(stratum): stratum_words(stratum) for stratum in view.study.strata}
    until = datetime.fromtimestamp(view.timestamp, UTC)
    return plot_cumulative(view.seen, names, view.study.enrollment, view.study.zone, until=until)


def _difference(view: RestrictedView) -> bytes:
    """Of the whole list before activation, else of what was allocated."""
    lines = []
    for stratum in view.report.strata:
        label = stratum_label(stratum.stratum)
        told = [one.arm for one in view.seen if one.stratum == label]
        arms = _known(stratum.arms, view) if view.before_activation else told
        lines.append(Line(name=stratum_words(stratum.stratum), arms=arms))
    design = view.report.design
    along = "entries of the list" if view.before_activation else "participants, in the order of their allocation"
    codes, limit = [code for code, _ in design.ratio], furthest_allowed(design)
    return plot_difference(lines, codes, design.shares, limit, along=along)


def _arms(view: RestrictedView) -> bytes:
    design = view.report.design
    rows = [(stratum_words(stratum.stratum), stratum.counts) for stratum in view.report.strata]
    return plot_arms(rows, [code for code, _ in design.ratio], design.shares)


def _known(arms: bytes, view: RestrictedView) -> list[int]:
    return [arm for arm in arms if arm < len(view.report.design.ratio)]


def _shown(value: Any) -> Any:
    """Every text of a template, with what a reader would not see written out."""
    return shown(value) if type(value) is str else value


def _in_ascii(value: Any) -> Any:
    """The same values in letters that every font has."""
    if isinstance(value, str):
        return "".join(c if c.isascii() else f"\\u{{{ord(c):x}}}" for c in value)
    if isinstance(value, dict):
        return {name: _in_ascii(item) for name, item in value.items()}
    return [_in_ascii(item) for item in value] if isinstance(value, (list, tuple)) else value


def _file(name: str) -> bytes:
    return resources.files("allocator").joinpath(name).read_bytes()
