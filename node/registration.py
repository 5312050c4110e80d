"""Decide whether a data set can be registered: what people call it, and what is in it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from common.datasets.families import DATA_TYPES, family
from common.datasets.families.base import Inspection, parsed
from common.errors import DataFileError, InvalidDatasetError, TagsOverlapError, TooFewSamplesError
from node.fingerprint import Fingerprint, fingerprint, untouched

_LENGTHS: Final = {"name": (3, 200), "tag": (2, 100), "description": (3, 2000)}
"""Least and most characters."""
_MOST_TAGS: Final = 50


@dataclass(frozen=True, slots=True)
class Labels:
    """What people call a data set; trimmed, and with normalised tags."""

    name: str
    tags: tuple[str, ...]
    description: str

    @classmethod
    def of(cls, name: str, tags: Iterable[str], description: str, data_type: str) -> Labels:
        """Return the labels of a data set of some type, if all four keep every rule.

        Raises:
            InvalidDatasetError: If they break one; names every mistake.
        """
        labels = cls(name.strip(), normalised(tags), description.strip())
        texts = [
            ("name", labels.name),
            *(("tag", tag) for tag in labels.tags),
            ("description", labels.description),
        ]
        problems = [*_wrong_lengths(texts), *_wrong_count(labels.tags)]
        if data_type not in DATA_TYPES:
            problems.append(f"type {data_type!r} is none of {', '.join(DATA_TYPES)}")
        if problems:
            raise InvalidDatasetError(reason="; ".join(problems))
        return labels

    def tell_apart(self, other: Labels) -> None:
        """Make sure that two data sets of one node differ by name and by search.

        Raises:
            InvalidDatasetError: If they have the same name.
            TagsOverlapError: If the tags of one contain those of the other.
        """
        _tell_names_apart(self.name, other)
        _tell_tags_apart(self.tags, other)


def check_labels(
    others: Iterable[Labels],
    *,
    name: str | None = None,
    tags: Iterable[str] | None = None,
    description: str | None = None,
) -> None:
    """Make sure that some of the labels of a new data set keep the rules, before the others are known.

    Raises:
        InvalidDatasetError: If one breaks a rule or the name is taken; names every mistake.
        TagsOverlapError: If the tags contain, or are contained in, those of another set.
    """
    plain = None if tags is None else normalised(tags)
    texts = [("name", name), ("description", description)]
    given = [(what, text.strip()) for what, text in texts if text is not None]
    problems = _wrong_lengths([*given, *(("tag", tag) for tag in plain or ())])
    problems += [] if plain is None else _wrong_count(plain)
    if problems:
        raise InvalidDatasetError(reason="; ".join(problems))
    for other in others:
        if name is not None:
            _tell_names_apart(name.strip(), other)
        if plain is not None:
            _tell_tags_apart(plain, other)


def _tell_names_apart(name: str, other: Labels) -> None:
    if name == other.name:
        raise InvalidDatasetError(reason=f"the name {other.name!r} is taken")


def _tell_tags_apart(tags: tuple[str, ...], other: Labels) -> None:
    ours, theirs = set(tags), set(other.tags)
    if ours <= theirs or ours >= theirs:
        raise TagsOverlapError(tags=", ".join(tags), other=other.name, other_tags=", ".join(other.tags))


def _wrong_lengths(texts: Iterable[tuple[str, str]]) -> list[str]:
    return [
        f"{what} {text!r} needs {least} to {most} characters"
        for what, text in texts
        for least, most in [_LENGTHS[what]]
        if not least <= len(text) <= most
    ]


def _wrong_count(tags: tuple[str, ...]) -> list[str]:
    right = 1 <= len(tags) <= _MOST_TAGS
    return [] if right else [f"{len(tags)} tags were given, 1 to {_MOST_TAGS} are needed"]


@dataclass(frozen=True, slots=True)
class Content:
    """What was found in a data set.

    Attributes:
        inspection: What it holds.
        fingerprint: What its files looked like.
        parameters: Options as they were given, with what is left out because it is broken.
    """

    inspection: Inspection
    fingerprint: Fingerprint
    parameters: dict[str, JsonValue]


def looked_into(
    path: Path, data_type: str, parameters: Mapping[str, JsonValue], *, minimum_samples: int
) -> Content:
    """Read a data set once and return what is in it.

    Raises:
        InvalidDatasetError: If an option is wrong; names every mistake.
        DataError: If the data set is not of that type, or has too few samples.
        MissingExtraError: If the library for that type is not installed.
    """
    kind = family(data_type)
    given = {name: value for name, value in parameters.items() if name != "broken"}
    options = parsed(kind.options, given)
    looks = fingerprint(path)
    inspection = kind.inspect(path, options)
    if not untouched(path, looks):
        raise DataFileError(path=path, data_type=f"{data_type} data", reason="it changed while it was read")
    if inspection.samples < minimum_samples:
        raise TooFewSamplesError(samples=inspection.samples, minimum=minimum_samples)
    broken: dict[str, JsonValue] = {"broken": list(inspection.broken)} if inspection.broken else {}
    return Content(inspection, looks, given | broken)


def normalised(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags as they are compared: trimmed, in lower case and Unicode NFC, without duplicates, sorted."""
    plain = {unicodedata.normalize("NFC", tag.strip().lower()) for tag in tags}
    return tuple(sorted(plain - {""}))
