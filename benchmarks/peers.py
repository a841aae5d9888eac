"""Drawing by R's packages beside ours, in one run and in turn: `python benchmarks/peers.py [--quick]`.

blockrand and randomizeR are measured where R has them. Where R or a package is not here, the run says so and ends with
success: nothing of the project needs R. The seconds of the packages are R's own (`system.time`), without its start.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

from measure import seconds  # noqa: E402

from allocator.design import RandomizationDesign  # noqa: E402
from allocator.methods import draw_stratum  # noqa: E402
from allocator.simulate import draw_many  # noqa: E402

RATIO = (("A", 1), ("B", 1))
KEY = bytes(32)
SECONDS = 900  # for one expression of R
HAS = "cat(all(vapply(c({names}), requireNamespace, logical(1), quietly = TRUE)))"
TIMED = 'suppressMessages(library({package})); invisible({work}); cat(system.time({work})[["elapsed"]])'
Draw = Callable[[], object]


def rscript() -> str | None:
    """Where R's interpreter for scripts is."""
    return shutil.which("Rscript")


def r(program: str, code: str) -> str:
    """What an expression of R prints; CalledProcessError when it fails."""
    command = [program, "--vanilla", "-e", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS).stdout.strip()


def has(program: str, package: str) -> bool:
    """True where R can load a package."""
    return r(program, HAS.format(names=f'"{package}"')) == "TRUE"


def one_list(method: str, length: int, **given: object) -> Draw:
    """A list by our generator."""
    how = RandomizationDesign(method=method, length=length, ratio=RATIO, **given)  # type: ignore[arg-type]
    return lambda: draw_stratum(how.method, how, KEY, "{}", 0)


def many_lists(method: str, length: int, lists: int, **given: object) -> Draw:
    """So many lists at once, as `assess` simulates them."""
    how = RandomizationDesign(method=method, length=length, ratio=RATIO, **given)  # type: ignore[arg-type]
    return lambda: draw_many(how.method, how, lists, length, KEY)


def cases(quick: bool) -> list[tuple[str, str, str, Draw, int]]:
    """Package, what is drawn, its expression in R, ours, and how many times as fast it should be."""
    length, lists = (10_000, 200) if quick else (100_000, 10_000)
    pbr = f"randomizeR::genSeq(randomizeR::pbrPar(rep(4, {length} / 4)), 1)"
    sequences = [
        ("permuted blocks of 4", "randomizeR::pbrPar(rep(4, 25))", "permuted-block", {"block_sizes": (4,)}),
        ("big stick 3", "randomizeR::bsdPar(100, 3)", "big-stick", {"limit": 3}),
        ("Efron 2/3", "randomizeR::ebcPar(100, 2 / 3)", "biased-coin", {"probability": Fraction(2, 3)}),
    ]
    blocks = one_list("permuted-block", length, block_sizes=(4,))
    return [
        (
            "blockrand",
            f"a list of {length:,}, blocks of 4",
            f'blockrand::blockrand({length}, levels = c("A", "B"), block.sizes = 2)',
            *(blocks, 1_000),
        ),
        ("randomizeR", f"a list of {length:,}, blocks of 4", pbr, blocks, 100),
        *(
            (
                "randomizeR",
                f"{lists:,} lists of 100, {name}",
                f"randomizeR::genSeq({parameters}, {lists})",
                *(many_lists(method, 100, lists, **given), 100),
            )
            for name, parameters, method, given in sequences
        ),
    ]


def main() -> int:
    """Print the table; 0 where R is not here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter lists, fewer of them")
    given = parser.parse_args()
    program = rscript()
    if program is None:
        print("R is not here: nothing to compare with. Ours alone is in `make bench`.")
        return 0
    missing = {package for package in ("blockrand", "randomizeR") if not has(program, package)}
    for package in sorted(missing):
        print(f"R has no {package} here: its rows are left out.")
    print(f"{'what':<56}{'ours, s':>10}{'peer, s':>10}{'times as fast':>16}  goal")
    for package, what, code, ours, goal in cases(given.quick):
        if package in missing:
            continue
        ours()
        theirs = float(r(program, TIMED.format(package=package, work=code)))
        own = statistics.median(seconds(ours) for _ in range(3))
        print(f"{what + ' / ' + package:<56}{own:>10.4f}{theirs:>10.3f}{theirs / own:>16,.0f}  >= {goal:,}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
