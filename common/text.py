"""Show text that others sent."""

from __future__ import annotations

import unicodedata


def visible(text: str) -> str:
    """Return text in which nothing can hide: control, formatting and line characters are shown as escapes.

    Text that others sent may carry terminal sequences or change the direction of writing, and look like what it is not.
    """
    return text if text.isprintable() else "".join(_shown(character) for character in text)


def visible_lines(text: str) -> str:
    """Return the same of text of several lines, which stay lines."""
    return text if text.isprintable() else "\n".join(visible(line) for line in text.split("\n"))


def _shown(character: str) -> str:
    hidden = unicodedata.category(character)[0] == "C" or unicodedata.category(character) in {"Zl", "Zp"}
    return f"\\u{{{ord(character):x}}}" if hidden and character != "\t" else character
