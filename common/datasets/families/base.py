"""Define what a node asks of a family of data sets when it registers one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol, TypeVar

from pydantic import ConfigDict, Field, JsonValue, ValidationError

from common.errors import DataError, DataFileError, InvalidDatasetError
from common.messages import Column
from common.messages.base import Name
from common.settings import Settings, describe

T = TypeVar("T")
OptionsT = TypeVar("OptionsT", bound="Options")

MOST_LEFT_OUT: Final = 10_000
"""Samples that can be left out for one reason."""

Unit = Annotated[str, Field(max_length=50)]


class Options(Settings):
    """What the people of a node say about a data set: every family has more of them, the worker reads the same ones."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    on_broken: Literal["refuse", "skip"] = "refuse"
    """What to do about samples that cannot be read: refuse the set, or leave them out and count them."""
    leave_out: Annotated[tuple[str, ...], Field(max_length=MOST_LEFT_OUT)] = ()
    """Names of samples that must not be used, as those of people who withdrew."""
    broken: Annotated[tuple[str, ...], Field(max_length=MOST_LEFT_OUT)] = ()
    """Names of samples that could not be read when the set was registered; filled in then."""
    units: dict[Name, Unit] = Field(default_factory=dict)
    """Units of columns, for people and for comparing nodes."""

    @property
    def unused(self) -> frozenset[str]:
        """Return the names of all samples that a training plan does not get."""
        return frozenset((*self.leave_out, *self.broken))


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a data set holds, without any value.

    Attributes:
        samples: Samples that can be used.
        shape: Samples first, then what they all have in common.
        columns: What each sample consists of.
        classes: Names of the classes, in the order of their numbers.
        broken: Names of samples that cannot be read, with the reason; they stay at the node.
        left_out: Samples that the options leave out.
        complete: Samples that lack no part, where samples have parts that may be missing; they may be left out or broken.
    """

    samples: int
    shape: tuple[int, ...]
    columns: tuple[Column, ...] = ()
    classes: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    left_out: int = 0
    complete: int | None = None


class Family(Protocol):
    """One kind of data set: how a node looks into it. Training plans read it with a class of `common.datasets`."""

    options: type[Options]

    def inspect(self, path: Path, options: Any) -> Inspection:
        """Return what a data set holds, after reading all of it once.

        Args:
            path: Its file or folder.
            options: Of the type in `options`.

        Raises:
            DataError: If it is not what the family reads; names files, never values.
            MissingExtraError: If the library of the family is not installed.
        """
        ...

    def preview(self, path: Path, options: Any, count: int) -> list[dict[str, JsonValue]]:
        """Return facts and values of the first samples, for eyes at the node only.

        Raises:
            DataError: If it cannot be read.
        """
        ...


def parsed(kind: type[OptionsT], parameters: Mapping[str, JsonValue]) -> OptionsT:
    """Return the options of a data set.

    Raises:
        InvalidDatasetError: If one is unknown or has a wrong value; names every mistake.
    """
    try:
        return kind.model_validate(dict(parameters))
    except ValidationError as error:
        raise InvalidDatasetError(reason=f"its options are wrong:\n{describe(error)}") from error


def each_readable(
    names: Iterable[str], read: Callable[[str], T], path: Path, options: Options, data_type: str
) -> tuple[dict[str, T], dict[str, str]]:
    """Read each sample that is not left out; return what was read, and why the others could not be.

    Raises:
        DataFileError: If samples are broken and the set's rule refuses that, if more are broken than can be left out, or if none
            is whole; names the first and tells how many there are.
    """
    whole: dict[str, T] = {}
    broken: dict[str, str] = {}
    left_out = frozenset(options.leave_out)
    for name in names:
        if name in left_out:
            continue
        try:
            whole[name] = read(name)
        except DataError as error:
            broken[name] = str(error.facts.get("reason", error))
    allowed = 0 if options.on_broken == "refuse" else MOST_LEFT_OUT
    if len(broken) > allowed or (broken and not whole):
        name, reason = next(iter(broken.items()))
        count = f"{len(broken)} of {len(whole) + len(broken)} samples cannot be read, the first is {name}: {reason}"
        raise DataFileError(path=path, data_type=data_type, reason=count)
    if not whole:
        raise DataFileError(path=path, data_type=data_type, reason="it has no samples")
    return whole, broken
