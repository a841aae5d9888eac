"""Every attack on ours, on a plain hash chain and on a published audit log: `python attacks/run.py [--write FILE]`.

Exits 1 when an attack is not named by the check and at the record that docs/spec.md says, or an untouched one is not
intact.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]

import library  # noqa: E402
from page import page  # noqa: E402
from scenes import Scenes, line_of, not_intact  # noqa: E402
from table import SECTIONS  # noqa: E402


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", type=Path, help="write the table as Markdown")
    given = parser.parse_args()
    if not library.installed():
        sys.exit("The published audit log is not installed: run `make attacks`.")
    with tempfile.TemporaryDirectory(prefix="allocator-attacks-") as folder:
        scenes = Scenes(Path(folder))
        wrong = not_intact(scenes)
        lines = {name: [line_of(scenes, attack) for attack in attacks] for name, attacks in SECTIONS.items()}
    wrong += [f"{line.attack.name}: {line.wrong}" for group in lines.values() for line in group if line.wrong]
    text = page(lines)
    print(text)
    for one in wrong:
        print(f"NOT AS IT MUST BE  {one}")
    if given.write:
        given.write.write_text(text, encoding="utf-8")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
