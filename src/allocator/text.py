"""Which characters may stand in text that people write, and how text of unknown origin is shown safely.

Terminal escapes, bidirectional overrides and look-alike digits can make a screen say something else than the record
does; so text is checked when it comes in and escaped when it goes out (docs/spec.md §1.4).
"""

from __future__ import annotations

import re
import unicodedata

MAX_TEXT = 500  # characters of one free text, files.md

# Cc control, Cf format (bidi overrides, zero-width), Cs surrogates, Co private use, Cn unassigned, Zl/Zp separators
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_NUMBER = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,12})?", re.ASCII)
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", re.ASCII)


def text_fault(text: str, *, limit: int = MAX_TEXT) -> str:
    """Why this text cannot be taken, or "" when it can: blank, too long, or a character that would not be seen."""
    if not text.strip():
        return "is blank"
    if len(text) > limit:
        return f"has {len(text)} characters where at most {limit} fit"
    for index, character in enumerate(text):
        if unicodedata.category(character) in _HIDDEN:
            return f"holds the unprintable character U+{ord(character):04X} at place {index + 1}"
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
    return "".join(f"\\u{{{ord(c):x}}}" if unicodedata.category(c) in _HIDDEN else c for c in text)
