"""The plots of the balance pages as SVG: allocations over time, running difference, arms by stratum.

Colours are of Okabe & Ito's set for all kinds of colour vision (2008), and every line is named where it ends. The
same values give the same bytes. Needs the extra ``[report]`` or ``[statistics]``.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from allocator.balance import Enrolled, running_counts
from allocator.errors import InputError
from allocator.plot_style import INK, QUIET, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_ON = {"#E69F00": "#222222", "#56B4E9": "#222222"}  # what is read on the light ones
BAND = "#EDEDED"
WIDTH = 7.2  # inches
LEAST_SPAN = timedelta(days=10)  # of the axis of time: allocations are told apart by days
LEAST_ENTRIES = 10  # of the axis of a running difference
MOST_DOTS = 61  # entries drawn as dots, too
MOST_PANELS = 12  # strata drawn; the tables have them all


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The arms of one stratum, one after another: the list's own, or those allocated so far.

    Attributes:
        name: of the stratum, in words.
        arms: arm indices in order.
    """

    name: str
    arms: Sequence[int]


def require_plots() -> None:
    """InputError when matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError(
            "no-report",
            "plots need the package matplotlib, which is not installed here",
            "Install it: pip install 'allocator[report]'. The view on the terminal needs nothing.",
        ) from error


def plot_cumulative(
    seen: Sequence[Enrolled], names: dict[str, str], enrollment: int, zone: ZoneInfo, *, until: datetime
) -> bytes:
    """Allocations over time against the number planned; no arm can be seen in it.

    Args:
        seen: at least one allocation.
        names: of the strata in words, by label; where there are a few, each has a line of its own.
        enrollment: participants planned.
        zone: the dates are the study's.
        until: the lines go on to this moment.
    """
    with _figure(WIDTH, 2.9) as (figure, done):
        axes = figure.add_subplot()
        times = sorted(allocation.time for allocation in seen)
        end = max(times[-1], until)
        start = times[0] - max((end - times[0]) * 0.02, LEAST_SPAN / 20)
        lines = [("all", INK, times)]
        if 2 <= len(names) <= len(COLOURS):
            own = {label: sorted(s.time for s in seen if s.stratum == label) for label in names}
            lines += [(names[label], colour, own[label]) for label, colour in zip(names, COLOURS, strict=False)]
        ends = []
        for name, colour, moments in lines:
            steps = [start, *moments, end]
            heights = [0, *range(1, len(moments) + 1), len(moments)]
            axes.step(steps, heights, where="post", color=colour, linewidth=1.8 if name == "all" else 1.2)  # type: ignore[arg-type]
            ends.append((len(moments), f"{name} {len(moments)}" if len(lines) > 1 else str(len(moments)), colour))
        axes.axhline(enrollment, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.annotate(f"planned: {enrollment}", (0.005, enrollment), (0, 3), xycoords=axes.get_yaxis_transform(),
                      textcoords="offset points", color=QUIET, fontsize=8)  # fmt: skip
        axes.set_ylim(0, max(enrollment, len(times)) * 1.12)
        axes.set_xlim(start, max(end, start + LEAST_SPAN))  # type: ignore[arg-type]
        _whole_numbers(axes.yaxis)
        axes.set_ylabel("participants allocated")
        _dates(axes, zone)
        _end_labels(axes, end, ends, 0.075)
        return done()


def plot_difference(
    lines: Sequence[Line], arms: Sequence[str], shares: Sequence[int], limit: int | None, *, along: str
) -> bytes:
    """The running difference of each stratum, in its limits: restricted, for it is the list itself.

    Args:
        lines: the first `MOST_PANELS` are drawn.
        arms: codes in arm order.
        shares: the ratio.
        limit: the largest difference that the design gives; None for none.
        along: what is counted from left to right.
    """
    drawn = lines[:MOST_PANELS]
    columns = 1 if len(drawn) == 1 else 2
    rows = -(-len(drawn) // columns)
    with _figure(WIDTH, 0.55 + 1.75 * rows if columns == 2 else 2.7) as (figure, done):
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for panel in panels.flat[len(drawn) :]:
            panel.set_axis_off()
        curves = [_curves(line, arms, shares) for line in drawn]
        highest = max((abs(value) for own in curves for values, *_ in own for value in values), default=0.0)
        edge = _edge(limit, shares)
        for line, own, panel in zip(drawn, curves, panels.flat, strict=False):
            _difference_panel(panel, own, arms, edge)
            panel.set_ylim(*(side * max(highest, edge or 0.0, 1.0) * 1.35 for side in (-1, 1)))
            if len(lines) > 1:
                panel.set_title(line.name, loc="left", fontsize=9)
            if len(arms) > 2:
                _end_labels(
                    panel, len(own[0][0]) - 1, [(values[-1], name, colour) for values, colour, name in own], 0.13
                )
        for panel in panels[:, 0]:
            panel.set_ylabel("difference" if len(arms) == 2 else "more than its share")
        for panel in panels[-1]:
            panel.set_xlabel(along)
        return done()


def plot_arms(rows: Sequence[tuple[str, Sequence[int]]], arms: Sequence[str], shares: Sequence[int]) -> bytes:
    """How many of each arm every stratum has, as bars of equal length; the line is where the ratio divides them.

    Args:
        rows: a stratum in words, and its counts by arm.
        arms: codes in arm order.
        shares: the ratio.
    """
    drawn = [(name, counts) for name, counts in rows[:MOST_PANELS] if sum(counts)]
    with _figure(WIDTH, 0.62 + 0.36 * max(1, len(drawn))) as (figure, done):
        axes = figure.add_subplot()
        for row, (_, counts) in enumerate(drawn):
            left = 0.0
            for count, colour in zip(counts, COLOURS * len(counts), strict=False):
                width = count / sum(counts)
                axes.barh(row, width, 0.66, left, color=colour, edgecolor="white", linewidth=1.2)
                if width > 0.04:
                    axes.text(
                        left + width / 2,
                        row,
                        str(count),
                        ha="center",
                        va="center",
                        color=_ON.get(colour, "white"),
                        weight="bold",
                    )
                left += width
        at = 0.0
        for code, share, colour in zip(arms, shares, COLOURS * len(arms), strict=False):
            width = share / sum(shares)
            axes.text(at + width / 2, -0.58, code, ha="center", va="bottom", color=colour, weight="bold")
            at += width
            if at < 0.999:
                axes.plot([at, at], [-0.5, len(drawn) - 0.5], color=INK, linewidth=1.2, linestyle=(0, (2, 2)))
        axes.set_ylim(len(drawn) - 0.5, -0.95)
        axes.set_xlim(0, 1)
        axes.set_yticks(range(len(drawn)), [name for name, _ in drawn])
        axes.tick_params(left=False, bottom=False, labelbottom=False)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        return done()


def _curves(line: Line, arms: Sequence[str], shares: Sequence[int]) -> list[tuple[list[float], str, str]]:
    """Values, colour and name of each curve: the one difference of two arms, or of each arm what it has too many."""
    counts = list(running_counts(line.arms, len(arms)))
    in_shares = [[count[arm] / share for count in counts] for arm, share in enumerate(shares)]
    if len(arms) == 2:
        return [([first - second for first, second in zip(*in_shares, strict=True)], INK, "")]
    even = [sum(count) / sum(shares) for count in counts]
    return [
        ([value - middle for value, middle in zip(own, even, strict=True)], COLOURS[arm % len(COLOURS)], arms[arm])
        for arm, own in enumerate(in_shares)
    ]


def _edge(limit: int | None, shares: Sequence[int]) -> float | None:
    """How far a curve can go; with more than two arms, all others give what one has too many."""
    if limit is None or len(shares) == 2:
        return limit
    return limit * (1 - min(shares) / sum(shares))


def _difference_panel(
    axes: Axes, curves: Sequence[tuple[list[float], str, str]], arms: Sequence[str], edge: float | None
) -> None:
    length = len(curves[0][0])
    if edge is not None:
        axes.axhspan(-edge, edge, color=BAND, linewidth=0)
        axes.annotate(f"limit {edge:.3g}", (1, edge), (-2, 2), xycoords=axes.get_yaxis_transform(),
                      textcoords="offset points", ha="right", color=QUIET, fontsize=8)  # fmt: skip
    axes.axhline(0, color=QUIET, linewidth=0.6)
    for values, colour, _ in curves:
        dot = "o" if length <= MOST_DOTS else ""
        axes.plot(range(length), values, color=colour, linewidth=1.2, clip_on=False, marker=dot, markersize=2.6)
    axes.set_xlim(0, max(length - 1, LEAST_ENTRIES))
    _whole_numbers(axes.yaxis)
    _whole_numbers(axes.xaxis)
    if len(arms) == 2:
        for height, code, anchor in ((0.99, arms[0], "top"), (0.01, arms[1], "bottom")):
            axes.text(0.01, height, f"more {code}", transform=axes.transAxes, va=anchor, color=QUIET, fontsize=8)


def _end_labels(axes: Axes, right: float | datetime, ends: Sequence[tuple[float, str, str]], room: float) -> None:
    """A line's name at its right end, moved apart where two would overlap."""
    low, high = axes.get_ylim()
    apart = (high - low) * room
    at = low
    for height, name, colour in sorted(ends):
        at = max(height, at)
        axes.annotate(name, (right, at), (5, 0), textcoords="offset points",
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},  # over a line of the same height
                      va="center", color=colour, fontsize=8.5, annotation_clip=False)  # fmt: skip
        at += apart


def _dates(axes: Axes, zone: ZoneInfo) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=zone, minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))  # type: ignore[no-untyped-call]


def _whole_numbers(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=6, integer=True))


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Figure, Callable[[], bytes]]]:
    """A figure in our style whatever the machine's own settings are, and what gives its SVG."""
    require_plots()
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)  # type: ignore[arg-type]
        figure = Figure(figsize=(width, height), layout="constrained")

        def done() -> bytes:
            stream = io.BytesIO()
            figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
            return stream.getvalue()

        yield figure, done
