"""Ratios against a peer or the bare machine, measured in one run: `python benchmarks/run.py [--quick] [NAME…]`.

Absolute figures differ between machines; ratios hardly do. Nothing here is a test: the goals are printed, and it is for
people to judge. Every row says what was measured, our time, the peer's, the ratio and the goal.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

from measure import Row  # noqa: E402


def main() -> None:
    """Print the table."""
    import assessing
    import drawing
    import postgres
    import processes
    import receipts
    import reveals
    import verifying

    parts: dict[str, Callable[[Path, bool], Iterator[Row]]] = {
        "process": processes.rows,
        "reveal": reveals.rows,
        "crowd": reveals.crowd_rows,
        "long": reveals.long_rows,
        "receipt": receipts.rows,
        "draw": drawing.draw_rows,
        "methods": drawing.method_rows,
        "seal": drawing.seal_rows,
        "verify": verifying.rows,
        "postgres": postgres.rows,
        "assess": assessing.rows,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*parts, []], help="what to measure; all by default")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer repeats")
    given = parser.parse_args()
    print(f"{'what':<78}{'ours':>12}{'peer':>12}{'ratio':>8}  goal")
    with tempfile.TemporaryDirectory(prefix="allocator-benchmarks-") as folder:
        for name in given.names or parts:
            home = Path(folder) / name
            home.mkdir()
            for row in parts[name](home, given.quick):
                print(row, flush=True)


if __name__ == "__main__":
    main()
