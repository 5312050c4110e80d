"""Register files that only a training plan understands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import ConfigDict, Field, JsonValue

from common.datasets.families.base import Inspection, Options
from common.datasets.files import data_files
from common.errors import InvalidDatasetError


class CustomOptions(Options):
    """What the people of a node know about files that nobody else reads; the plan sees all of it."""

    model_config = ConfigDict(extra="allow")

    samples: Annotated[int, Field(ge=1)] | None = None
    """How many samples there are; the number of files in a folder if not given."""


@dataclass(frozen=True, slots=True)
class CustomFamily:
    """A file or folder of any kind."""

    options: type[CustomOptions] = CustomOptions

    def inspect(self, path: Path, options: CustomOptions) -> Inspection:
        """Count the files, without looking into them.

        Raises:
            InvalidDatasetError: If it is a file, and nobody says how many samples are in it.
            DataFileError: If it cannot be read.
        """
        files = data_files(path)
        if options.samples is None and not path.is_dir():
            raise InvalidDatasetError(reason="the option samples must say how many samples the file holds")
        samples = options.samples or len(files)
        return Inspection(samples=samples, shape=(samples,))

    def preview(self, path: Path, options: CustomOptions, count: int) -> list[dict[str, JsonValue]]:  # noqa: ARG002 - of the protocol
        """Return name and size of the first files.

        Raises:
            DataFileError: If they cannot be read.
        """
        return [{"file": file.name, "bytes": file.size_bytes} for file in data_files(path)[:count]]


FAMILY: Final = CustomFamily()
