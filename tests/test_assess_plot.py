"""The plot of `assess`: names apart and in the picture, the designs that none beats, the same bytes each time."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from allocator import assess_plot
from allocator.assess_plot import FORMATS, HEIGHT, WIDTH, PlotPoint, plot_designs, unbeaten
from allocator.errors import InputError
from allocator.name_places import place_names

# n = 10, 1:1: E|D| and share of right guesses
TWELVE = [
    PlotPoint(label=label, imbalance=imbalance, guesses=guesses, blind=0.5, exact=label != "urn 0, 1")
    for label, imbalance, guesses in [
        ("complete", 2.461, 0.500),
        ("blocks of 2", 0.000, 0.750),
        ("blocks of 4", 0.667, 0.683),
        ("blocks of 6", 0.800, 0.650),
        ("random allocation rule", 0.000, 0.653),
        ("blocks of 2, 4", 0.230, 0.715),
        ("blocks of 4, 6", 0.384, 0.679),
        ("blocks of 2, 4, 6", 0.382, 0.690),
        ("big stick 2", 1.000, 0.600),
        ("big stick 3", 1.332, 0.561),
        ("biased coin 2/3", 1.150, 0.611),
        ("urn 0, 1", 1.300, 0.619),
    ]
]
STARTS = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_points_give_the_same_bytes_and_no_date(kind: str) -> None:
    one, other = (plot_designs(TWELVE, 10, f".{kind.upper()}") for _ in range(2))
    assert one == other and one.startswith(STARTS[kind])
    assert not any(word in one for word in (b"CreationDate", b"dc:date", b"Matplotlib v"))


def test_other_points_give_another_picture() -> None:
    moved = [*TWELVE[:-1], replace(TWELVE[-1], exact=True)]
    assert plot_designs(TWELVE, 10) != plot_designs(moved, 10)


def drawn(points: list[PlotPoint]) -> Figure:
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=72)
    FigureCanvasAgg(figure)
    assess_plot._draw(figure, points, 10)
    return figure


@pytest.mark.parametrize("count", [1, 3, 12])
def test_every_name_stands_in_the_picture_and_on_no_other(count: int) -> None:
    figure = drawn(TWELVE[-count:])
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = {text.get_text(): text.get_window_extent(renderer) for text in figure.texts}
    for point in TWELVE[-count:]:
        assert point.label in boxes
        box = boxes[point.label]
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
    for (one, first), (other, second) in itertools.combinations(boxes.items(), 2):
        assert not first.overlaps(second), (one, other)


@pytest.mark.parametrize("name", ["$x_2$ \\frac", "Ω" * 60, "two\nlines", "<b>&", "word " * 40])
def test_any_name_is_drawn_as_text(name: str) -> None:
    figure = drawn([replace(TWELVE[0], label=name), *TWELVE[1:3]])
    [shown] = [text.get_text() for text in figure.texts if text.get_text()[:1] == name[:1]]
    assert shown.count("\n") < 3 and len(shown) < 100
    assert plot_designs([replace(TWELVE[0], label=name)], 10).startswith(b"<?xml")


def test_designs_that_no_other_beats() -> None:
    best = [point.label for point, strong in zip(TWELVE, unbeaten(TWELVE), strict=True) if strong]
    assert best == ["complete", "blocks of 6", "random allocation rule", "big stick 2", "big stick 3"]


def test_designs_alike_are_all_unbeaten() -> None:
    assert unbeaten([TWELVE[3], replace(TWELVE[3], label="another")]) == [True, True]
    assert unbeaten([TWELVE[3]]) == [True]


def test_blind_guesses_of_several_ratios_each_have_a_line() -> None:
    figure = drawn([TWELVE[0], replace(TWELVE[1], label="2:1", blind=2 / 3), TWELVE[2]])
    [axes] = figure.axes
    assert [text.get_text() for text in axes.texts] == ["without looking: 50 %", "without looking: 66.7 %"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(50, 450), st.floats(50, 250)), min_size=1, max_size=6))
def test_names_keep_apart_and_inside(points: list[tuple[float, float]]) -> None:
    placed = place_names(points, [(70.0, 12.0)] * len(points), (0.0, 0.0, 560.0, 320.0))
    centres = [name.centre for name in placed]
    assert all(35 <= x <= 525 and 6 <= y <= 314 for x, y in centres)
    for (x, y), (other_x, other_y) in itertools.combinations(centres, 2):
        assert abs(x - other_x) >= 70 or abs(y - other_y) >= 12
    for point, name in zip(points, placed, strict=True):
        assert not name.leader or name.leader[0] == point


def test_a_name_alone_stands_at_the_right_of_its_point_without_a_line() -> None:
    [name] = place_names([(100.0, 100.0)], [(50.0, 10.0)], (0.0, 0.0, 500.0, 300.0))
    assert name.centre == (133.0, 100.0) and not name.leader
    [name] = place_names([(480.0, 100.0)], [(50.0, 10.0)], (0.0, 0.0, 500.0, 300.0))
    assert name.centre[0] + 25 <= 500


def test_a_name_leaves_the_line_and_what_is_drawn_already_free() -> None:
    line = [(100.0, 100.0), (300.0, 100.0)]
    [name] = place_names([(100.0, 100.0)], [(50.0, 10.0)], (0.0, 0.0, 500.0, 300.0), (), line)
    assert abs(name.centre[1] - 100) > 5 or name.centre[0] < 100
    taken = (105.0, 0.0, 500.0, 300.0)
    [name] = place_names([(100.0, 100.0)], [(50.0, 10.0)], (0.0, 0.0, 500.0, 300.0), [taken])
    assert name.centre[0] + 25 <= 105


@pytest.mark.parametrize("suffix", [".jpg", "", ".svg.gz"])
def test_another_kind_of_file_is_refused(suffix: str) -> None:
    with pytest.raises(InputError, match="no picture we draw") as caught:
        plot_designs(TWELVE, 10, suffix)
    assert caught.value.exit_code == 2 and ".svg" in caught.value.hint


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match="matplotlib") as caught:
        plot_designs(TWELVE, 10)
    assert "allocator[statistics]" in caught.value.hint
