"""Which characters may stand in text that people write, and how text of unknown origin is shown safely.

Terminal escapes, bidirectional overrides and look-alike digits can make a screen say something else than the record
does; so text is checked when it comes in and escaped when it goes out (docs/spec.md §1.4).
"""

from __future__ import annotations

import re

MAX_TEXT = 500  # characters of one free text, files.md
TEST_NOTICE = "TEST: NOT FOR A PATIENT"  # on every arm shown in mode test (files.md; V03)

# Characters a reader would not see or a terminal would obey: the general categories Cc, Cf, Cs, Co, Zl and Zp of
# Unicode 14, written out, so that a form judged today is judged the same under any later Unicode (docs/spec.md §1.4).
_RANGES = (
    "0-1F 7F-9F AD 600-605 61C 6DD 70F 890-891 8E2 180E 200B-200F 2028-202E 2060-206F D800-F8FF FEFF "
    "FFF9-FFFB 110BD 110CD 13430-13438 1BCA0-1BCA3 1D173-1D17A E0001 E0020-E007F F0000-FFFFD 100000-10FFFD"
)
_HIDDEN = re.compile(f"[{''.join('-'.join(chr(int(end, 16)) for end in item.split('-')) for item in _RANGES.split())}]")
_NUMBER = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,12})?", re.ASCII)
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", re.ASCII)


def text_fault(text: str, *, limit: int = MAX_TEXT) -> str:
    """Why this text cannot be taken, or "" when it can: blank, too long, or a character that would not be seen."""
    if not text.strip():
        return "is blank"
    if len(text) > limit:
        return f"has {len(text)} characters where at most {limit} fit"
    if match := _HIDDEN.search(text):
        return f"holds the unprintable character U+{ord(match[0]):04X} at place {match.start() + 1}"
    return ""


def is_identifier(text: str) -> bool:
    """True for the ids of persons, studies, arms, criteria: ASCII letters, digits, ``. _ -``, 40 at most."""
    return _IDENTIFIER.fullmatch(text) is not None


def is_number(text: str) -> bool:
    """True for ``-?[0-9]{1,12}(\\.[0-9]{1,12})?`` in ASCII: full-width and Arabic digits are no numbers here."""
    return _NUMBER.fullmatch(text) is not None


def shown(text: str) -> str:
    """The text with every character that a terminal would obey or hide written out, as in ``\\u{202e}``."""
    if text.isascii() and text.isprintable():
        return text
    return _HIDDEN.sub(lambda match: f"\\u{{{ord(match[0]):x}}}", text)


def shown_lines(text: str) -> str:
    """The same for what is printed as several lines; what was written out before stays as it is."""
    return "\n".join(shown(line) for line in text.split("\n"))
