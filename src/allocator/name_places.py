"""Where the names of points in a picture go: near their points, apart from each other. Pure.

Each name takes in turn the cheapest of the places around its point while the others stay, until none moves (in the
manner of Christensen, Marks & Shieber, An empirical study of algorithms for point-feature label placement, 1995).
All lengths are in the picture's points, y upwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

Place = tuple[float, float]
Box = tuple[float, float, float, float]  # left, bottom, right, top
DOT = 5.0  # half of what a point takes up
_NEXT_TO = 11.0  # a name nearer than this needs no line to its point
_DISTANCES = (8.0, 11.0, 16.0, 24.0, 34.0, 46.0, 60.0, 76.0, 94.0, 120.0, 150.0)
_DIRECTIONS = 16
_ROUNDS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One name.

    Attributes:
        centre: of its text.
        leader: the ends of a line from the point to the name; empty where none is needed.
    """

    centre: Place
    leader: tuple[Place, ...] = ()


def place_names(
    points: Sequence[Place],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    taken: Sequence[Box] = (),
    line: Sequence[Place] = (),
) -> list[Placed]:
    """A place for every name.

    Args:
        points: (x, y) of each point.
        sizes: (width, height) of each name.
        frame: names stay in it.
        taken: what is drawn already.
        line: corners of a line that names had better not stand on.
    """
    import numpy as np

    at = np.array(points)
    around = [_around(*point, *size) for point, size in zip(points, sizes, strict=True)]
    centres, near = (np.stack(part) for part in zip(*around, strict=True))  # (names, choices, 2), (names, choices)
    half = np.array(sizes)[:, None, :] / 2 + (2, 1)
    boxes = np.concatenate((centres - half, centres + half), axis=2)  # (names, choices, 4)
    dots = np.concatenate((at - DOT, at + DOT), axis=1)
    on_line = [
        (ax + (bx - ax) * k / 16, ay + (by - ay) * k / 16) for (ax, ay), (bx, by) in pairwise(line) for k in range(17)
    ]
    cost = near + 1e6 * _outside(boxes, frame)
    for box in (*dots, *taken):
        cost += 10 * _overlap(boxes, np.array(box))
    for place in on_line:
        cost += 4 * (_apart(boxes, np.array(place)) == 0)
    cost += 15 * np.stack([_strangers(own, at, of_name) for own, of_name in zip(at, boxes, strict=True)])
    chosen = _settle(at, centres, boxes, cost)
    return [_placed(at, index, centres[index, choice], boxes[index, choice]) for index, choice in enumerate(chosen)]


def _around(x: float, y: float, width: float, height: float) -> tuple[Numbers, Numbers]:
    """The centres that a name may have, and what each costs: far is worse, and to the right is best."""
    import numpy as np

    turns = (2 * math.pi * k / _DIRECTIONS for k in range(_DIRECTIONS))
    choices = list(product(_DISTANCES, turns))
    centres = [
        (x + math.cos(turn) * (far + width / 2), y + math.sin(turn) * (far + height / 2)) for far, turn in choices
    ]
    costs = [far + 3 * (1 - math.cos(turn)) + 2 * abs(math.sin(turn)) for far, turn in choices]
    return np.array(centres), np.array(costs)


def _settle(at: Numbers, centres: Numbers, boxes: Numbers, cost: Numbers) -> list[int]:
    """The choice of each name."""
    chosen: list[int] = [-1] * len(at)
    for _ in range(_ROUNDS):
        before = list(chosen)
        for index in range(len(at)):
            total = cost[index].copy()
            for other, choice in enumerate(chosen):
                if choice >= 0 and other != index:
                    total += 20 * _overlap(boxes[index], boxes[other, choice])
                    total += 60 * _crosses(at[index], centres[index], at[other], centres[other, choice])
            chosen[index] = int(total.argmin())
        if chosen == before:
            break
    return chosen


def _placed(at: Numbers, index: int, centre: Numbers, box: Numbers) -> Placed:
    import numpy as np

    (x, y), place = at[index].tolist(), (float(centre[0]), float(centre[1]))
    nearest = (float(np.clip(x, box[0], box[2])), float(np.clip(y, box[1], box[3])))
    if _apart(box, at[index]) > _NEXT_TO or _strangers(at[index], at, box) > 0:
        return Placed(centre=place, leader=((x, y), nearest))
    return Placed(centre=place)


# ---- boxes of shape (…, 4) against one box or place ----------------------------------------------------------------


def _overlap(boxes: Numbers, other: Numbers) -> Numbers:
    """The area that both cover, and a little for touching."""
    import numpy as np

    width = np.minimum(boxes[..., 2], other[2]) - np.maximum(boxes[..., 0], other[0])
    height = np.minimum(boxes[..., 3], other[3]) - np.maximum(boxes[..., 1], other[1])
    return np.where((width > 0) & (height > 0), width * height + 5, 0.0)


def _outside(boxes: Numbers, frame: Box) -> Numbers:
    """How far they reach beyond the frame."""
    import numpy as np

    low, high = np.array(frame[:2]) - boxes[..., :2], boxes[..., 2:] - np.array(frame[2:])
    beyond: Numbers = low.clip(0).sum(axis=-1) + high.clip(0).sum(axis=-1)
    return beyond


def _apart(boxes: Numbers, place: Numbers) -> Numbers:
    """The distance from a place, 0 inside."""
    import numpy as np

    off = np.maximum(0, np.maximum(boxes[..., :2] - place, place - boxes[..., 2:]))
    return np.hypot(off[..., 0], off[..., 1])


def _strangers(own: Numbers, at: Numbers, boxes: Numbers) -> Numbers:
    """How many other points they are as near to as to their own."""
    import numpy as np

    nearest = _apart(boxes, own) + 4
    strangers: Numbers = np.zeros(boxes.shape[:-1])
    for other in at:
        if (other != own).any():
            strangers += _apart(boxes, other) < nearest
    return strangers


def _crosses(a: Numbers, centres: Numbers, c: Numbers, d: Numbers) -> NDArray[np.bool]:
    """Whether lines from a to each of these centres cross the line from c to d."""

    def side(p: Numbers, q: Numbers, r: Numbers) -> Numbers:
        turn: Numbers = (q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1]) - (q[..., 1] - p[..., 1]) * (
            r[..., 0] - p[..., 0]
        )
        return turn

    crossed: NDArray[np.bool] = (side(a, centres, c) * side(a, centres, d) < 0) & (
        side(c, d, a) * side(c, d, centres) < 0
    )
    return crossed
