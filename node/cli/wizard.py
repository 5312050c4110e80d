"""Register a data set in a dialogue: one question after another, each answer checked at once, with a way back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from pydantic import JsonValue

from common.datasets.families import DATA_TYPES, family
from common.datasets.families.questions import Question, questions
from common.errors import DataError, InvalidDatasetError, SettingsError, StorageError
from node.registry import Dataset
from node.steward.datasets import Datasets, NewDataset

BACK: Final = ":back"
REST: Final = ":rest"
QUIT: Final = ":quit"

HELP: Final = f"Enter takes what is in brackets; {BACK} returns to the question before, {REST} takes what is in brackets for all options that are left, {QUIT} gives up."

_SHOWN: Final = 12
"""Columns that are shown of what was found; the rest is counted."""


class Terminal(Protocol):
    """Where the person is."""

    def ask(self, prompt: str, default: str) -> str:
        """Return what the person answers, the default if nothing."""
        ...

    def say(self, text: str) -> None:
        """Show a line."""
        ...


@dataclass(frozen=True, slots=True)
class _Step:
    """One question. `read` returns the answer, or raises a typed error that the person is shown before being asked again."""

    key: str
    prompt: str
    default: str
    read: Callable[[str], JsonValue]
    optional: bool = False


@dataclass(slots=True)
class Wizard:
    """The dialogue; `run` conducts it.

    Attributes:
        datasets: What checks and registers.
        terminal: Where the person is.
        given: What was said on the command line, in the place of defaults; only `path` may be missing.
        made: The registered data set, in the end.
    """

    datasets: Datasets
    terminal: Terminal
    given: Mapping[str, str]
    made: Dataset | None = None
    _answers: dict[str, JsonValue] = field(default_factory=dict)
    _detected: str = ""

    def run(self) -> Dataset | None:
        """Ask until the data set is registered; None if the person gives up."""
        self.terminal.say(HELP)
        position, rest = 0, False
        while position < len(steps := self._steps()):
            step = steps[position]
            rest = rest and step.optional
            text = step.default if rest else self.terminal.ask(step.prompt, step.default).strip()
            if text == QUIT:
                return None
            if text == BACK:
                position = max(0, position - 1)
                continue
            if text == REST:
                rest = step.optional
                continue
            try:
                self._answers[step.key] = step.read(text)
            except (DataError, SettingsError, StorageError) as error:
                rest = False
                self.terminal.say(str(error))
                continue
            position += 1
            if self._answers[step.key] is False and step.key == "register":
                return None
        return self.made

    def _steps(self) -> list[_Step]:
        """Return all questions, as far as the answers until now tell which they are."""
        steps = [_Step("path", "file or folder", self._before("path"), self._path)]
        if "path" not in self._answers:
            return steps
        steps.append(
            _Step("type", f"type ({', '.join(DATA_TYPES)})", self._before("type", self._detected), self._type)
        )
        if "type" not in self._answers:
            return steps
        steps += [self._option_step(question) for question in self._questions()]
        return [
            *steps,
            _Step("name", "name", self._before("name"), self._name),
            _Step("tags", "tags, separated by commas", self._before("tags"), self._tags),
            _Step("description", "description", self._before("description"), self._description),
            _Step("watch", "tell when its files change (yes or no)", self._before("watch", "no"), _yes_or_no),
            _Step("register", "register it (yes or no)", "yes", self._register),
        ]

    def _before(self, key: str, default: str = "") -> str:
        """Return what was answered before, on the command line, or by default."""
        answer = self._answers.get(key)
        if isinstance(answer, bool):
            return "yes" if answer else "no"
        return self.given.get(key, default) if answer is None else str(answer)

    def _path(self, text: str) -> JsonValue:
        if not text:
            raise InvalidDatasetError(reason="a path is needed")
        path = Path(text).expanduser()
        try:
            found = self.datasets.detect(path)
        except DataError:
            if not path.exists():
                raise
            found = ""  # the person says what it is
        if self._answers.get("path") != text:
            self._answers.pop("type", None)
        self._detected = found
        return text

    def _type(self, text: str) -> JsonValue:
        if text not in DATA_TYPES:
            raise InvalidDatasetError(reason=f"type {text!r} is none of {', '.join(DATA_TYPES)}")
        family(text)  # is its library installed
        if self._answers.get("type") != text:
            self._tell(text)
        return text

    def _tell(self, data_type: str) -> None:
        """Show what is in the files, or why that cannot be told before options are set."""
        try:
            found = self.datasets.look(Path(str(self._answers["path"])), data_type, {})
        except DataError as error:
            self.terminal.say(f"as it is, without options: {error}")
            return
        parts = ", ".join(f"{column.name} ({column.dtype})" for column in found.columns[:_SHOWN])
        more = len(found.columns) - _SHOWN
        self.terminal.say(f"found {found.samples} samples, {found.left_out + len(found.broken)} left out")
        if parts:
            self.terminal.say(f"each has {parts}" + (f" and {more} more" if more > 0 else ""))
        if found.classes:
            self.terminal.say(f"classes: {', '.join(found.classes[:_SHOWN])}, {len(found.classes)} in all")

    def _questions(self) -> tuple[Question, ...]:
        return questions(family(str(self._answers["type"])).options)

    def _option_step(self, question: Question) -> _Step:
        key = f"{self._answers['type']} {question.name}"
        value = self._answers.get(key, question.default)
        form = ", ".join(question.choices) if question.form == "choice" else question.form
        if question.form == "table":
            form = '{key = "value"}'
        prompt = f"{question.name}: {question.meaning}\n  {form}"
        return _Step(key, prompt, question.write(value), question.read, optional=True)

    def _options(self) -> dict[str, JsonValue]:
        """Return the options that are not what they are anyway."""
        said = {
            question.name: (self._answers.get(f"{self._answers['type']} {question.name}"), question.default)
            for question in self._questions()
        }
        return {name: value for name, (value, default) in said.items() if value != default}

    def _name(self, text: str) -> JsonValue:
        self.datasets.check_labels(name=text)
        return text

    def _tags(self, text: str) -> JsonValue:
        self.datasets.check_labels(tags=text.split(","))
        return text

    def _description(self, text: str) -> JsonValue:
        self.datasets.check_labels(description=text)
        answers = {**self._answers, "description": text}
        for key in ("path", "type", "name", "tags", "description"):
            self.terminal.say(f"{key}: {answers[key]}")
        for name, value in self._options().items():
            self.terminal.say(f"option {name}: {value}")
        return text

    def _register(self, text: str) -> JsonValue:
        if not _yes_or_no(text):
            return False
        said = {key: str(self._answers[key]) for key in ("path", "name", "tags", "description", "type")}
        self.made = self.datasets.add(
            NewDataset(
                path=Path(said["path"]),
                name=said["name"],
                tags=tuple(said["tags"].split(",")),
                description=said["description"],
                data_type=said["type"],
                options=self._options(),
                watched=bool(self._answers["watch"]),
            )
        )
        return True


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("yes", "y", "no", "n"):
        raise InvalidDatasetError(reason=f"{text!r} is neither yes nor no")
    return text.lower().startswith("y")
