"""Show the source of plans, so that it is easy to read and nothing in it can hide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Final

from markupsafe import Markup, escape
from pygments.lexers.python import PythonLexer
from pygments.token import Token, _TokenType

from common.text import visible

_LOOKS: Final = (
    (Token.Comment, "comment"),
    (Token.Literal.String, "string"),
    (Token.Literal.Number, "number"),
    (Token.Keyword, "keyword"),
    (Token.Operator.Word, "keyword"),
    (Token.Name.Decorator, "named"),
    (Token.Name.Class, "named"),
    (Token.Name.Function, "named"),
    (Token.Name.Builtin, "builtin"),
    (Token.Error, "error"),
)
"""What a kind of token looks like, as a class of the style sheet."""
MARKED_LENGTH: Final = 40_000
MARKED_LINE: Final = 1_000
"""A longer source, or one with a longer line, is not taken apart: that may take seconds if it is made to be slow."""
_SIGNS: Final = {"+": "added", "-": "removed", "@": "place", " ": "same"}


@dataclass(frozen=True, slots=True)
class DiffLine:
    """One line of a difference: `heading`, `place`, `added`, `removed` or `same`, its sign and its text."""

    kind: str
    sign: str
    text: Markup


def source_lines(source: str) -> tuple[Markup, ...]:
    """Return the lines of a Python source with its parts marked; what hides is shown as an escape, and marked.

    A very long source, or one with a very long line, is shown without its parts.
    """
    lines: list[list[str]] = [[]]
    for look, run in groupby(_tokens(source), key=lambda one: one[0]):
        text = "".join(piece for _, piece in run)
        for number, piece in enumerate(text.split("\n")):
            if number:
                lines.append([])
            if piece:
                lines[-1].append(f'<span class="{look}">{marked(piece)}</span>' if look else marked(piece))
    if not lines[-1]:
        lines.pop()  # the end of the last line begins no other
    return tuple(Markup("".join(line)) for line in lines)  # noqa: S704 - made of escaped parts


def _tokens(source: str) -> Iterator[tuple[str, str]]:
    """Yield all of a source in pieces, each with what it looks like."""
    if len(source) > MARKED_LENGTH or max(map(len, source.split("\n"))) > MARKED_LINE:
        yield "", source
        return
    # not `get_tokens`, which takes characters away before it looks
    for _, kind, text in PythonLexer().get_tokens_unprocessed(source):
        yield _look(kind), text


@cache
def _look(kind: _TokenType) -> str:
    return next((name for family, name in _LOOKS if kind in family), "")


def diff_lines(lines: Iterable[str]) -> Iterator[DiffLine]:
    """Yield the lines of a unified difference for people; the first two name what was compared."""
    for number, line in enumerate(lines):
        if number < 2:
            yield DiffLine("heading", line[:3], marked(line[4:]))
        else:
            yield DiffLine(
                _SIGNS.get(line[:1], "same"), line[:1], marked(line if line[0] == "@" else line[1:])
            )


def marked(text: str) -> Markup:
    """Return text as it is, but characters that hide as escapes with a mark around them."""
    if text.isprintable():
        return escape(text)
    runs = groupby(text, key=lambda one: visible(one) != one)
    return Markup("").join(
        Markup('<mark class="hidden">{}</mark>').format(visible("".join(run)))
        if hides
        else escape("".join(run))
        for hides, run in runs
    )
