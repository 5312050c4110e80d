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
        problems = [
            f"{what} {text!r} needs {least} to {most} characters"
            for what, text in texts
            for least, most in [_LENGTHS[what]]
            if not least <= len(text) <= most
        ]
        if not 1 <= len(labels.tags) <= _MOST_TAGS:
            problems.append(f"{len(labels.tags)} tags were given, 1 to {_MOST_TAGS} are needed")
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
        if self.name == other.name:
            raise InvalidDatasetError(reason=f"the name {other.name!r} is taken")
        ours, theirs = set(self.tags), set(other.tags)
        if ours <= theirs or ours >= theirs:
            raise TagsOverlapError(
                tags=", ".join(self.tags), other=other.name, other_tags=", ".join(other.tags)
            )


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
