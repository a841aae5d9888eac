"""The plot of `assess`: balance against predictability, one named point for each design, as SVG, PNG or PDF.

Down and to the left is better in both. Designs that no other one shown beats in both are drawn strong and joined, the
rest quiet. Colours are of Okabe & Ito's set for all kinds of colour vision (2008); names stand at their points. The
same points give the same bytes. Needs the extra ``[statistics]`` or ``[report]``.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.errors import InputError
from allocator.name_places import Place, place_names
from allocator.plot_style import INK, QUIET, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("svg", "png", "pdf")
STRONG, LINE = "#0072B2", "#B8B8B8"
WIDTH, HEIGHT = 7.2, 4.6  # inches
NAME_WIDTH, NAME_LINES = 28, 3  # characters of a line of a name, and lines; longer names are cut
_STYLE = {**STYLE, "text.parse_math": False}
_METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlotPoint:
    """One design.

    Attributes:
        label: its name, as it shall be read.
        imbalance: expected final imbalance.
        guesses: expected share of right guesses, 0 to 1.
        blind: the share that is right without looking, 0 to 1.
        exact: False where the figures are simulated.
    """

    label: str
    imbalance: float
    guesses: float
    blind: float
    exact: bool


def plot_designs(points: Sequence[PlotPoint], n: int, suffix: str = ".svg") -> bytes:
    """The picture.

    Args:
        points: one at least.
        n: participants that the figures are for.
        suffix: .svg, .png or .pdf, as the file's name ends.

    Raises:
        InputError: another suffix; matplotlib is not installed.
    """
    kind = check_format(suffix)
    if not points:
        raise RuntimeError("a plot of no design")
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(
            "no-plots",
            "plots need the package matplotlib, which is not installed here",
            "Install it: pip install 'allocator[statistics]'. The table needs nothing.",
        ) from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)  # type: ignore[arg-type]
        figure = Figure(figsize=(WIDTH, HEIGHT), dpi=72)  # a pixel is a point until it is written
        FigureCanvasAgg(figure)
        _draw(figure, points, n)
        stream = io.BytesIO()
        figure.savefig(stream, format=kind, dpi=200, facecolor="white", metadata=_METADATA[kind])
    return stream.getvalue()


def check_format(suffix: str) -> str:
    """The kind of picture that a file of this suffix holds; InputError for another suffix."""
    kind = suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise InputError("plot-format", f"{suffix!r} is no picture we draw", "Name the file .svg, .png or .pdf.")
    return kind


def unbeaten(points: Sequence[PlotPoint]) -> list[bool]:
    """For each point whether no other is as good in both respects and better in one."""
    return [
        not any(
            other.imbalance <= point.imbalance + 1e-9
            and other.guesses <= point.guesses + 1e-9
            and (other.imbalance < point.imbalance - 1e-9 or other.guesses < point.guesses - 1e-9)
            for other in points
        )
        for point in points
    ]


def _draw(figure: Figure, points: Sequence[PlotPoint], n: int) -> None:
    figure.subplots_adjust(left=0.095, right=0.975, bottom=0.12, top=0.825)
    axes = figure.add_subplot()
    _scales(axes, points)
    said = ["Lower: less can be guessed. Further left: better balanced."]
    if len(points) > 1:
        said.append("Blue: no other design here is better in both.")
    if not all(point.exact for point in points):
        said[-1] += " Ring: simulated."
    figure.text(0.02, 0.965, f"Balance against predictability, {n} participants", fontsize=12, weight="bold", va="top")
    figure.text(0.02, 0.905, "\n".join(said), fontsize=8.5, color=QUIET, va="top", linespacing=1.3)
    strong = unbeaten(points)
    front = sorted((point.imbalance, 100 * point.guesses) for point, best in zip(points, strong, strict=True) if best)
    axes.plot(*zip(*front, strict=True), color=STRONG, linewidth=1.0, alpha=0.35, zorder=2)
    for point, best in zip(points, strong, strict=True):
        colour = STRONG if best else QUIET
        axes.plot(
            *([point.imbalance], [100 * point.guesses]),
            marker="o",
            markersize=7.5,
            markeredgewidth=1.6,
            color=colour,
            markerfacecolor=colour if point.exact else "white",
            clip_on=False,
            zorder=4,
        )
    _names(figure, axes, points, strong, front)


def _scales(axes: Axes, points: Sequence[PlotPoint]) -> None:
    """Both axes, with a line for each blind guess."""
    from matplotlib.ticker import MaxNLocator

    right = max(point.imbalance for point in points)
    low = 100 * min(min(point.guesses, point.blind) for point in points)
    high = 100 * max(max(point.guesses, point.blind) for point in points)
    room = max(high - low, 5)
    across = max(right * 1.15, 0.5)
    axes.set_xlim(-0.02 * across, across)
    axes.set_ylim(low - 0.09 * room, high + 0.12 * room)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.10g} %")
    axes.grid(visible=True, axis="both", color="#EDEDED", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=5)
    axes.set_xlabel("expected final imbalance (participants)")
    axes.set_ylabel("assignments guessed right")
    for blind in sorted({round(100 * point.blind, 6) for point in points}):
        axes.axhline(blind, color=LINE, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        where = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
        axes.annotate(f"without looking: {blind:.3g} %", (0, blind), (3, -3), ha="left", va="top", color=QUIET,
                      fontsize=7.5, **where)  # type: ignore[arg-type]  # fmt: skip


# ---- names ---------------------------------------------------------------------------------------------------------


def _names(
    figure: Figure, axes: Axes, points: Sequence[PlotPoint], strong: Sequence[bool], front: Sequence[Place]
) -> None:
    """Each name near its point, over no other name or point, with a thin line where it is not next to it."""
    from matplotlib.patheffects import withStroke

    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    at = [(float(x), float(y)) for x, y in axes.transData.transform([(p.imbalance, 100 * p.guesses) for p in points])]
    blind = [text.get_window_extent(renderer) for text in axes.texts]
    texts, sizes = [], []
    for point, best in zip(points, strong, strict=True):
        name = "\n".join(textwrap.wrap(point.label, NAME_WIDTH, max_lines=NAME_LINES, placeholder=" …"))
        text = figure.text(0, 0, name, fontsize=8.5, color=INK if best else QUIET, weight="bold" if best else "normal",
                           ha="center", va="center", linespacing=1.1, zorder=5)  # fmt: skip
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
        extent = text.get_window_extent(renderer)
        texts.append(text)
        sizes.append((extent.width, extent.height))
    inside = axes.get_window_extent(renderer)
    frame = (inside.x0 + 2, inside.y0 + 2, figure.bbox.x1 - 4, inside.y1 + 3)
    taken = [(box.x0, box.y0, box.x1, box.y1) for box in blind]
    line = [(float(x), float(y)) for x, y in axes.transData.transform(front)]
    for text, placed in zip(texts, place_names(at, sizes, frame, taken, line), strict=True):
        x, y = placed.centre
        text.set_position((x / figure.bbox.width, y / figure.bbox.height))
        if placed.leader:
            inverse = axes.transData.inverted()
            ends = inverse.transform(placed.leader)
            axes.plot(*zip(*ends, strict=True), color=LINE, linewidth=0.7, zorder=3, clip_on=False)
