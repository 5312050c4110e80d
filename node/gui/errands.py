"""Say what the page wants of data, and what it gets: each errand is done by a process of its own, which loads the libraries and ends."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, JsonValue, TypeAdapter

from common.datasets.families.base import Inspection
from common.datasets.families.questions import Form
from common.ids import DatasetId
from common.settings import Settings
from node.views.figures import Glimpse, Summary

Typed = str | list[str] | dict[str, str]
"""What a person typed for one option: a text, the entries of a list, or those of a table."""

ROWS: Final = 10
COLUMNS: Final = 60


class Asked(Settings):
    """One option of a family, as a form shows it; see `common.datasets.families.questions.Question`."""

    name: str
    meaning: str
    form: Form
    choices: tuple[str, ...]
    entry: Form
    default: JsonValue


class Told(Settings):
    """What became of what was typed: values, and what is wrong with the others, by the names of the options."""

    values: dict[str, JsonValue]
    problems: dict[str, str]


class Looked(Settings):
    """What a dry run found.

    Attributes:
        inspection: What would be registered if broken samples were left out.
        refused: Whether the set is refused as it is, because broken samples are not to be left out.
    """

    inspection: Inspection
    refused: bool


class Registered(Settings):
    """A data set as it is registered now, and whether its content or options changed."""

    dataset_id: DatasetId
    name: str
    is_another: bool = False


class Checked(Settings):
    """What a look at the files of a registered set found.

    Attributes:
        problem: What is wrong; none if it is as registered.
        now: What is in the files now, if they changed and can be read.
    """

    problem: str | None
    now: Inspection | None = None


class Subject(Settings):
    """What is looked at; see `node.steward.looks.Subject`."""

    path: Path
    data_type: str
    options: dict[str, JsonValue]
    dataset_id: DatasetId | None = None


class AskOptions(Settings):
    """Which options does a family have?"""

    kind: Literal["ask"] = "ask"
    data_type: str


class ReadOptions(Settings):
    """Which values are these texts?"""

    kind: Literal["read"] = "read"
    data_type: str
    typed: dict[str, Typed]


class Look(Settings):
    """Read all of it, and change nothing."""

    kind: Literal["look"] = "look"
    subject: Subject


class ShowFirst(Settings):
    """Show the first samples."""

    kind: Literal["first"] = "first"
    subject: Subject


class Summarise(Settings):
    """Count all samples."""

    kind: Literal["summarise"] = "summarise"
    subject: Subject


class Register(Settings):
    """Register a new set."""

    kind: Literal["register"] = "register"
    subject: Subject
    name: str
    tags: tuple[str, ...]
    description: str
    loading: str | None
    watched: bool


class Change(Settings):
    """Look into a registered set again, and register it as it is now."""

    kind: Literal["change"] = "change"
    which: DatasetId
    name: str | None = None
    tags: tuple[str, ...] | None = None
    description: str | None = None
    options: dict[str, JsonValue] | None = None
    watched: bool | None = None


class Check(Settings):
    """Are the files of a registered set as they were?"""

    kind: Literal["check"] = "check"
    which: DatasetId


class Keep(Settings):
    """Keep the options of a registered set under a name."""

    kind: Literal["keep"] = "keep"
    which: DatasetId
    name: str
    description: str


AnyErrand = Annotated[
    AskOptions | ReadOptions | Look | ShowFirst | Summarise | Register | Change | Check | Keep,
    Field(discriminator="kind"),
]
ERRAND: Final[TypeAdapter[AnyErrand]] = TypeAdapter(AnyErrand)


class Wish(Settings):
    """An errand, and for whom."""

    by: str
    errand: AnyErrand


class Failed(Settings):
    """The error that an errand ended with; the page raises it again."""

    code: str
    facts: dict[str, JsonValue]


class Kept(Settings):
    """The name of a data-loading plan that was kept."""

    name: str


class Questions(Settings):
    """The options of a family."""

    asked: tuple[Asked, ...]


class Reply(Settings):
    """What came of an errand: an answer as JSON, or an error."""

    answer: JsonValue = None
    failed: Failed | None = None


AnyAnswer = Questions | Told | Looked | Glimpse | Summary | Registered | Checked | Kept
