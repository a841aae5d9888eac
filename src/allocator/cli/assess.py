"""`assess`: what a design balances and what of it can be guessed, side by side with others; no study is needed."""

from __future__ import annotations

import math
import shutil
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from allocator.cli.call import Call, check_new_file, pass_call
from allocator.errors import InputError

if TYPE_CHECKING:
    from allocator.design import RandomizationDesign
    from allocator.design_report import DesignReport
    from allocator.simulate import Estimate

MAX_SHIFT = 10  # standard deviations
_WORDS = 38  # columns for the words of a row
_BIAS = (
    "eta: prognosis is shifted by {eta:g} SD with the arm that a recruiter guesses; trend: it drifts by\n"
    "{trend:g} SD from the first participant to the last. No arm has any effect.\n"
)
Row = tuple[str, Callable[["DesignReport"], str]]


@click.command()
@click.argument("design_files", metavar="DESIGN.toml...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--enrollment", type=int, metavar="N", help="The first N entries only; all of the list without it.")
@click.option("--strata", metavar="N,N...", help="Participants in each stratum: each stratum, and the study whole.")
@click.option("--eta", default=1.0, show_default=True, help="Selection bias: SD by which a guess shifts prognosis.")
@click.option("--trend", default=1.0, show_default=True, help="Time trend: SD from the first participant to the last.")
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Balance against predictability: .svg, .png, .pdf."
)
@pass_call
def assess(
    call: Call,
    design_files: tuple[Path, ...],
    enrollment: int | None,
    strata: str | None,
    eta: float,
    trend: float,
    plot: Path | None,
) -> None:
    """Properties of designs, exact wherever that can be: predictability, imbalance, entropy, bias.

    \b
    Example: allocator assess design.toml big-stick.toml --enrollment 10
    """
    from allocator.design_report import report_on
    from allocator.method import DesignError

    if not all(map(math.isfinite, (eta, trend))) or max(abs(eta), abs(trend)) > MAX_SHIFT:
        raise InputError("bias", f"--eta and --trend are numbers of standard deviations up to {MAX_SHIFT}")
    check_new_file(plot)
    if plot is not None:
        from allocator.assess_plot import check_format

        check_format(plot.suffix)
    parts = _parts(strata, enrollment)
    reports = []
    for file in design_files:
        design = _read(file)
        n = sum(parts) or (design.length if enrollment is None else enrollment)
        try:
            reports.append(report_on(design, n, parts, eta=eta, trend=trend))
        except DesignError as error:
            _refuse(file, error)
    if plot is not None:
        _write_plot(plot, reports)
    call.show({"designs": [report.as_json() for report in reports]}, report_text(reports))


def _refuse(file: Path, error: Exception) -> NoReturn:
    hint = "Give --enrollment or --strata with numbers that the list has entries for, or a longer list."
    raise InputError("not-assessed", f"{file.name}: {error}", hint) from error


def _read(file: Path) -> RandomizationDesign:
    from allocator.home import read_input
    from allocator.study import MAX_FILE
    from allocator.toml_files import read_design

    return read_design(file.name, read_input(file, limit=MAX_FILE))


def _parts(strata: str | None, enrollment: int | None) -> tuple[int, ...]:
    if strata is None:
        return ()
    texts = strata.split(",")
    if not all(text.strip().isascii() and text.strip().isdigit() and len(text) < 8 for text in texts):
        raise InputError("strata", f"--strata {strata!r} is no list of whole numbers", "For example --strata 5,5.")
    parts = tuple(int(text) for text in texts)
    if min(parts) < 1 or len(parts) > 50:
        raise InputError("strata", "--strata takes up to 50 numbers, each at least 1")
    if enrollment not in (None, sum(parts)):
        raise InputError("strata", f"--strata sums to {sum(parts)}, --enrollment is {enrollment}", "Leave one away.")
    return parts


def _write_plot(file: Path, reports: Sequence[DesignReport]) -> None:
    from allocator.assess_plot import PlotPoint, plot_designs
    from allocator.home import write_durably

    points = []
    for report in reports:
        if report.exact:
            final, guesses = report.exact.expected_final_imbalance, report.exact.correct_guesses
            blind = report.exact.blind_guess
        elif report.rough:
            final, guesses = report.rough.final_imbalance.value, report.rough.guesses.value
            blind = max(report.design.shares) / report.design.ratio_sum
        else:
            continue
        points.append(
            PlotPoint(
                label=report.design.label, imbalance=final, guesses=guesses, blind=blind, exact=report.exact is not None
            )
        )
    if not points:
        raise InputError("nothing-to-plot", "no design here has figures to draw", "Give fewer participants or strata.")
    write_durably(file, plot_designs(points, reports[0].n, file.suffix))


# ---- for the eye ---------------------------------------------------------------------------------------------------


def report_text(reports: Sequence[DesignReport]) -> str:
    """A table with a column for each design, and what is good and bad about each in words."""
    from allocator.assess_words import words_about

    width = max(80, min(120, shutil.get_terminal_size((100, 24)).columns))
    column = max(len(part) for report in reports for part in (*report.design.label.split(" "), " " * 12)) + 2
    at_once = max(1, (width - _WORDS) // column)
    blocks = [_table(reports[start : start + at_once], column) for start in range(0, len(reports), at_once)]
    lines = [_heading(reports), "", *"\n\n".join(blocks).splitlines()]
    for report in reports:
        lines += ["", report.design.label]
        for mark, words in words_about(report):
            indent = " " * 8
            lines += textwrap.wrap(words, width - 2, initial_indent=f"  {mark:<6}", subsequent_indent=indent)
    eta, trend = reports[0].bias.eta, reports[0].bias.trend
    if any(report.bias.difference for report in reports):
        lines.insert(2 + sum(block.count("\n") + 2 for block in blocks), _BIAS.format(eta=eta, trend=trend))
    return "\n".join(lines)


def _heading(reports: Sequence[DesignReport]) -> str:
    first = reports[0]
    ratios = {report.design.shares for report in reports}
    ratio = f", ratio {':'.join(map(str, first.design.shares))}" if len(ratios) == 1 else ""
    entries = {report.n for report in reports}
    what = f"The first {first.n} entries" if len(entries) == 1 else "All entries of each list"
    if first.parts:
        what = f"{len(first.parts)} strata of {', '.join(str(part.n) for part in first.parts)} participants"
    biases = [b for r in reports for b in (r.bias.difference, r.bias.selection_size, r.bias.trend_size) if b]
    exact = all(report.exact for report in reports) and all(bias.exact for bias in biases)
    return f"{what}{ratio}. {'Exact.' if exact else 'Exact where nothing else is said; ~ is simulated.'}"


def _table(reports: Sequence[DesignReport], column: int) -> str:
    names = [report.design.label.partition(" ") for report in reports]
    lines = [" " * _WORDS + "".join(f"{method:>{column}}" for method, _, _ in names)]
    if any(values for _, _, values in names):
        lines.append(" " * _WORDS + "".join(f"{values:>{column}}" for _, _, values in names).rstrip())
    for words, cell in _rows(reports):
        cells = [cell(report) for report in reports]
        if any(cells):
            lines.append(f"{words:<{_WORDS}}" + "".join(f"{text:>{column}}" for text in cells).rstrip())
    return "\n".join(lines)


def _rows(reports: Sequence[DesignReport]) -> list[Row]:
    imbalances = sorted({value for report in reports if report.exact for value, _ in report.exact.final_imbalance})
    shown = imbalances if len(imbalances) <= 6 else []
    eta, trend = reports[0].bias.eta, reports[0].bias.trend
    rows: list[Row] = [
        ("guessed by one who sees the past", lambda r: _either(r, "correct_guesses", "guesses", _percent)),
        ("  above the blind guess", lambda r: f"+{_percent(r.exact.excess_guesses)}" if r.exact else ""),
        ("certain in advance", lambda r: _percent(r.exact.certain) if r.exact else ""),
        ("final imbalance, expected", lambda r: _either(r, "expected_final_imbalance", "final_imbalance", _plain)),
        ("  balanced", lambda r: _percent(r.exact.probability_balanced) if r.exact else ""),
        *((f"  imbalance {value:g}", _chance_of(value)) for value in shown[1:]),
        ("largest on the way, expected", lambda r: _either(r, "expected_max_imbalance", "max_imbalance", _plain)),
        ("  at most", lambda r: f"{r.exact.max_imbalance:g}" if r.exact and r.exact.max_imbalance is not None else ""),
        ("information lost to imbalance", lambda r: _percent(r.exact.loss) if r.exact else ""),
        (
            "entropy",
            lambda r: f"{r.exact.entropy_bits:.1f} bits" if r.exact and r.exact.entropy_bits is not None else "",
        ),
        ("possible sequences", lambda r: _many(r.exact.sequences) if r.exact else ""),
        ("smallest p of a randomization test", lambda r: _p(r.exact.log10_smallest_p) if r.exact else ""),
        (f"bias of the difference, eta {eta:g}", lambda r: _estimate(r.bias.difference, lambda v: f"{v:.2f} SD")),
        (f"size of a 5% t-test, eta {eta:g}", lambda r: _estimate(r.bias.selection_size, _percent)),
        (f"size of a 5% t-test, trend {trend:g}", lambda r: _estimate(r.bias.trend_size, _percent)),
    ]
    return rows


def _chance_of(value: float) -> Callable[[DesignReport], str]:
    return lambda r: _percent(dict(r.exact.final_imbalance).get(value, 0.0)) if r.exact else ""


def _either(report: DesignReport, exact: str, rough: str, show: Callable[[float], str]) -> str:
    if report.exact:
        value = getattr(report.exact, exact)
        return "" if value is None else show(value)
    return _estimate(getattr(report.rough, rough), show) if report.rough else ""


def _estimate(estimate: Estimate | None, show: Callable[[float], str]) -> str:
    if estimate is None or math.isnan(estimate.value):
        return ""
    return f"{'' if estimate.exact else '~'}{show(estimate.value)}"


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _plain(value: float) -> str:
    return f"{value:.3f}"


def _many(count: int | None) -> str:
    if count is None:
        return ""
    if count < 10**7:
        return str(count)
    power = math.floor(math.log10(count))  # of any length: Python writes no integer of more than 4,300 digits
    leading = f"{count / 10**power:.1f}"
    return f"{leading}e{power}" if leading != "10.0" else f"1.0e{power + 1}"


def _p(log10: float | None) -> str:
    if log10 is None:
        return ""
    power = math.floor(log10)
    return f"{10**log10:.5f}" if power >= -4 else f"{10 ** (log10 - power):.1f}e{power}"
