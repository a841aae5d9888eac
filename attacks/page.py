"""docs/attacks.md."""

from __future__ import annotations

import library
from scenes import Line

INTRO = """# Attacks

Made by `make attacks`: each attack is done to a copy of a real home, and `verify` must name it by the check stated
([spec.md §11.2](spec.md#112-the-numbered-checks)), at the record stated. Every cell is the outcome of a run.
Beside it the same attack on two other logs that hold the same records:

- **a plain hash chain**, honestly made (`attacks/chain.py`): SHA-256 over the previous hash and the record's JSON, in
  SQLite; the last hash lies beside it, as our head does;
- **{library}**, a published Python library, in its strictest use (`attacks/library.py`): each record signed with
  Ed25519 by the person who acts, every signature demanded, the true public keys given to its verifier from outside, a
  signed checkpoint beside the log. It takes a record of any person signed with any key it was given, and an unsigned
  checkpoint where a signed one lay. Whoever uses it for a trial would have to write the rules themselves.

**Not noticed** means that its verifier says that all is well. *Not applicable* means that it has nothing of the kind.
Both do what they promise: most of what they miss they never claimed to see.

Who could do it, in the words of [trust.md](trust.md): *whoever can write the files* has no key. *Past the program*:
with one's own key, one's own code and the files. *Kept* or *deposited*: somebody elsewhere has it and gives it to
`verify` (`--head`, `--checkpoint`, `--receipt`, `--trail`). *Fresh*: every hash from there on is computed anew, and
the head in the home moved. A line that begins with … goes on with the one above it.
"""
UNDETECTABLE = """
Run all the same, to show that `verify` says what it should: nothing. Why, and what helps:
[trust.md](trust.md#not-detectable-in-one-list). Most of these need a later head, checkpoint or receipt kept elsewhere.
"""
HEADER = f"| attack | who could do it | named by | at record | plain hash chain | {library.version()} |"


def page(lines: dict[str, list[Line]]) -> str:
    """The whole page."""
    text = [INTRO.format(library=library.version())]
    for name, group in lines.items():
        note = [UNDETECTABLE] if name == "Not detectable" else [""]
        text += [f"\n## {name}", *note, HEADER, "|---|---|---|---|---|---|", *map(row, group)]
    return "\n".join([*text, "", *totals(lines)]) + "\n"


def row(line: Line) -> str:
    """One line of a table."""
    attack = line.attack
    return f"| {attack.name} | {attack.who} | {line.named} | {line.at} | {line.chain} | {line.library} |"


def totals(lines: dict[str, list[Line]]) -> list[str]:
    """How many were named, of how many that could be tried."""
    every = [line for group in lines.values() for line in group]
    said = [f"{len(every)} attacks.", f"Named by `allocator verify`: {sum(bool(line.attack.check) for line in every)}."]
    for name, cells in (
        ("a plain hash chain", [line.chain for line in every]),
        (library.version(), [line.library for line in every]),
    ):
        tried = [cell for cell in cells if not cell.startswith("not applicable")]
        said.append(
            f"By {name}: {sum(cell.startswith('named') for cell in tried)} of {len(tried)} that could be tried."
        )
    return [" ".join(said)]
