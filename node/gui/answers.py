"""Turn options into fields of a form, and what was typed there back; for all families, after their own questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue
from starlette.datastructures import FormData

from node.gui.errands import Asked, Typed

MOST_PAIRS: Final = 60
"""Entries of one table that a form shows; a form has a limit of fields."""
_EMPTY_PAIRS: Final = 2
_YES: Final = "yes"
_NO: Final = "no"


@dataclass(frozen=True, slots=True)
class Field:
    """One option in a form.

    Attributes:
        asked: The option.
        text: What its field shows; of a list, an entry on each line.
        pairs: What the fields of a table show: its entries, and some empty ones.
        default: Its default, for people.
        problem: What is wrong with what was typed; empty if nothing is.
    """

    asked: Asked
    text: str
    pairs: tuple[tuple[str, str], ...]
    default: str
    problem: str

    @property
    def is_box(self) -> bool:
        """Tell whether it is a box to tick."""
        return is_box(self.asked)

    @property
    def choices(self) -> tuple[str, ...]:
        """Return what can be chosen; nothing if it is typed."""
        return (_YES, _NO) if self.asked.form == "yes or no" else self.asked.choices

    @property
    def label(self) -> str:
        """Return its name, for people."""
        return self.asked.name.replace("_", " ").capitalize()


def fields(
    asked: tuple[Asked, ...],
    typed: Mapping[str, Typed],
    values: Mapping[str, JsonValue],
    problems: Mapping[str, str],
    more: str = "",
) -> tuple[Field, ...]:
    """Return the fields of a form: what was typed, else the values that are set, else the defaults.

    Args:
        asked: The options.
        typed: What was typed for them.
        values: What they are.
        problems: What is wrong, by their names.
        more: The option whose table is to have more empty entries.
    """
    made = []
    for one in asked:
        content = typed.get(one.name, as_typed(one, values.get(one.name, one.default)))
        made.append(
            Field(
                asked=one,
                text="\n".join(content)
                if isinstance(content, list)
                else content
                if isinstance(content, str)
                else "",
                pairs=_pairs(content, more=one.name == more) if isinstance(content, dict) else (),
                default=_shown(one, one.default),
                problem=problems.get(one.name, ""),
            )
        )
    return tuple(made)


def as_typed(asked: Asked, value: JsonValue) -> Typed:
    """Return a value as a person would type it."""
    if isinstance(value, dict):
        return {key: _text(one) for key, one in value.items()}
    if asked.form == "table":
        return {}
    if isinstance(value, list):
        return [_text(one) for one in value]
    return [] if asked.form == "list" else _text(value)


def from_form(asked: tuple[Asked, ...], form: FormData) -> dict[str, Typed]:
    """Return what was typed into the fields of these options; whatever else the form brings is not looked at."""
    return {one.name: _typed(one, form) for one in asked}


def said(asked: tuple[Asked, ...], values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the values that differ from their defaults."""
    defaults = {one.name: one.default for one in asked}
    return {name: value for name, value in values.items() if value != defaults.get(name)}


def _typed(asked: Asked, form: FormData) -> Typed:
    name = f"o.{asked.name}"
    if asked.form == "table":
        pairs = (
            (_one(form, f"{name}.key.{row}"), _one(form, f"{name}.value.{row}")) for row in range(MOST_PAIRS)
        )
        return {key: value for key, value in pairs if key or value}
    text = _one(form, name)
    if asked.form == "list":
        return [line.strip() for line in text.splitlines() if line.strip()]
    return (_YES if text else _NO) if is_box(asked) else text


def is_box(asked: Asked) -> bool:
    """Tell whether an option is a box to tick: yes or no, and never neither."""
    return asked.form == "yes or no" and asked.default is not None


def _one(form: FormData, name: str) -> str:
    value = form.get(name, "")
    return value.strip() if isinstance(value, str) else ""


def _pairs(content: dict[str, str], *, more: bool) -> tuple[tuple[str, str], ...]:
    empty = _EMPTY_PAIRS * (4 if more else 1)
    return tuple([*content.items(), *[("", "")] * empty][:MOST_PAIRS])


def _text(value: JsonValue) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return _YES if value else _NO
    return ", ".join(map(_text, value)) if isinstance(value, list) else str(value)


def _shown(asked: Asked, default: JsonValue) -> str:
    content = as_typed(asked, default)
    return ", ".join(content) if isinstance(content, list) else content if isinstance(content, str) else ""
