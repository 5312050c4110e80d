"""Turn the options of a family into questions for people, so that no form or dialogue has a list of its own."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import JsonValue, TypeAdapter, ValidationError

from common.datasets.families.base import Options, parsed
from common.errors import InvalidDatasetError

Form = Literal["choice", "yes or no", "number", "list", "table", "text"]

_FILLED_IN: Final = frozenset({"broken"})
_BOOLEANS: Final = {"yes": True, "true": True, "no": False, "false": False}
_JSON: Final[TypeAdapter[JsonValue]] = TypeAdapter(JsonValue)


@dataclass(frozen=True, slots=True)
class Question:
    """One option, as a person is asked for it.

    Attributes:
        name: Of the option.
        meaning: What it is for, in a line or two.
        form: How an answer is written.
        choices: The answers that there are, if `form` or `entry` is `choice`.
        default: What holds if nobody says anything.
        kind: The options that it is one of.
        entry: How a value in a table is written; `text` if it is none.
    """

    name: str
    meaning: str
    form: Form
    choices: tuple[str, ...]
    default: JsonValue
    kind: type[Options]
    entry: Form = "text"

    def take(self, typed: str | list[str] | dict[str, str]) -> JsonValue:
        """Return an answer from a form that has a field for each entry of a list or table; an empty text stands for the default.

        Raises:
            InvalidDatasetError: If it is no value of this option.
        """
        if (
            isinstance(typed, str)
            and not typed.strip()
            and not self.kind.model_fields[self.name].is_required()
        ):
            return self.default
        if isinstance(typed, str):
            return self.read(typed)
        value: JsonValue = (
            [*typed]
            if isinstance(typed, list)
            else {key: _separated(text) if self.entry == "list" else text for key, text in typed.items()}
        )
        self._check(value)
        return value

    def read(self, text: str) -> JsonValue:
        """Return an answer as a value of the option: TOML, or plain text, or for a list what commas separate.

        Raises:
            InvalidDatasetError: If it is no value of this option.
        """
        value = self._value(text.strip())
        self._check(value)
        return value

    def _check(self, value: JsonValue) -> None:
        """Check one option alone; what others lack is another question.

        Raises:
            InvalidDatasetError: If it is no value of this option.
        """
        try:
            parsed(self.kind, {self.name: value})
        except InvalidDatasetError as error:
            first, *lines = str(error.facts["reason"]).splitlines()
            ours = [line for line in lines if line.strip().startswith((f"{self.name}:", f"{self.name}."))]
            if ours:
                raise InvalidDatasetError(reason="\n".join([first, *ours])) from error

    def write(self, value: JsonValue) -> str:
        """Return a value as `read` takes it."""
        if value is None:
            return ""
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, list):
            return ", ".join(map(str, value))
        if isinstance(value, dict):
            pairs = (f"{json.dumps(key)} = {json.dumps(one)}" for key, one in value.items())
            return f"{{{', '.join(pairs)}}}" if value else ""
        return str(value)

    def _value(self, text: str) -> JsonValue:
        if not text:
            empty: dict[Form, JsonValue] = {
                "list": [],
                "table": {},
                "text": "" if self.default == "" else None,
            }
            return empty.get(self.form)
        if self.form == "yes or no" and text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
        if self.form == "list" and not text.startswith("["):
            return _separated(text)
        return text if self.form in ("text", "choice") else toml_value(text)


def questions(kind: type[Options]) -> tuple[Question, ...]:
    """Return a question for each option of a family that a person can say something about, its own ones first."""
    names = [name for name in kind.model_fields if name not in Options.model_fields]
    names += [name for name in Options.model_fields if name not in _FILLED_IN]
    defaults = kind.model_construct().model_dump(mode="json")  # without what has no default
    return tuple(_question(kind, name, defaults.get(name)) for name in names)


def toml_value(text: str) -> JsonValue:
    """Return what a text says in TOML; the text itself if that is no number, list or table."""
    try:
        return _JSON.validate_python(tomllib.loads(f"value = {text}")["value"])
    except (tomllib.TOMLDecodeError, ValidationError):
        return text


def _question(kind: type[Options], name: str, default: JsonValue) -> Question:
    field = kind.model_fields[name]
    form, choices = _form(field.annotation)
    entry: Form = "text"
    if form == "table":
        entry, choices = _form(get_args(field.annotation)[1])
    meaning = " ".join((field.description or "").split())
    return Question(name, meaning, form, choices, default, kind, entry)


def _separated(text: str) -> list[JsonValue]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _form(annotation: Any) -> tuple[Form, tuple[str, ...]]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _form(arguments[0])
    if origin in (Union, UnionType):
        return _form(next(one for one in arguments if one is not NoneType))
    if origin is Literal:
        return "choice", tuple(map(str, arguments))
    if annotation is bool:
        return "yes or no", ()
    if annotation in (int, float):
        return "number", ()
    if origin in (tuple, list):
        return "list", ()
    return ("table", ()) if origin is dict else ("text", ())
