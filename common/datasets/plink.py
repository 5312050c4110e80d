"""Read dosages from PLINK's bed, bim and fam files with bed-reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.datasets.extras import library
from common.datasets.variants import Region, Variant, chromosome
from common.errors import DataFileError

_MAGIC: Final = b"\x6c\x1b"
_BY_PERSON, _BY_VARIANT = b"\x00", b"\x01"
_FIELDS: Final = 6
_LONGEST_LINE: Final = 100_000
_CODES: Final = {"23": "X", "24": "Y", "25": "X", "26": "MT", "XY": "X"}
"""PLINK's numbers of chromosomes; 25 is the part of X that Y has, too."""


@dataclass(frozen=True, slots=True)
class BedFile:
    """Three files of PLINK 1: dosages, variants and people.

    Attributes:
        path: The bed file; bim and fam lie beside it.
        samples: The people, by the second column of the fam file.
    """

    path: Path
    samples: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> BedFile:
        """Read the list of people.

        Raises:
            DataFileError: If it is damaged, or somebody is in it twice.
            MissingExtraError: If bed-reader is not installed.
        """
        library("bed_reader")
        people = path.with_suffix(".fam")
        names = tuple(line[1] for line in _lines(people))
        if twice := [name for name, times in Counter(names).items() if times > 1]:
            reason = f"sample {twice[0]!r} is in it twice; give each person an id of their own in its second column"
            raise DataFileError(path=people, data_type="PLINK fam", reason=reason)
        return cls(path, names)

    def check(self) -> None:
        """Make sure that the bed file is one, and fits the two others.

        Raises:
            DataFileError: If not.
        """
        try:
            with self.path.open("rb") as file:
                start = file.read(3)
            size = self.path.stat().st_size
        except OSError as error:
            raise _error(self.path, error.strerror or str(error)) from error
        if start[:2] != _MAGIC or start[2:] not in (_BY_PERSON, _BY_VARIANT):
            raise _error(self.path, "it does not begin as such files do")
        rows, columns = len(self._sites()), len(self.samples)
        if start[2:] == _BY_PERSON:
            rows, columns = columns, rows
        expected = 3 + rows * -(-columns // 4)
        if size != expected:
            reason = f"it has {size} bytes, and by its bim and fam files {expected}; put the three that belong together there"
            raise _error(self.path, reason)

    def variants(self, parts: Sequence[Region] | None) -> Iterator[Variant]:  # noqa: ARG002 - the bim file is read as a whole
        """Yield all variants, in the order of the bim file.

        Raises:
            DataFileError: If it is damaged.
        """
        yield from self._sites()

    def dosages(
        self,
        wanted: Collection[Variant] | None,
        parts: Sequence[Region] | None,  # noqa: ARG002 - bed files are read by variant
        width: int,
    ) -> Iterator[tuple[list[Variant], NDArray[np.float32]]]:
        """Yield dosages of some variants, or all: at most `width` variants, and float32 of the shape (people, variants), negative where missing.

        Copies of the first allele of the bim file count; the second one is `ref`.

        Raises:
            DataFileError: If a file is damaged.
        """
        chosen = [
            (position, site)
            for position, site in enumerate(self._sites())
            if wanted is None or site in wanted
        ]
        count = sum(1 for _ in _lines(self.path.with_suffix(".bim")))
        try:
            with library("bed_reader").open_bed(
                self.path, iid_count=len(self.samples), sid_count=count, num_threads=1
            ) as reader:
                for start in range(0, len(chosen), width):
                    part = chosen[start : start + width]
                    index = np.array([position for position, _ in part])
                    values = reader.read((slice(None), index), dtype="int8").astype(np.float32)
                    yield [site for _, site in part], values
        except (OSError, ValueError) as error:
            raise _error(self.path, "it ends too early or is damaged") from error

    def _sites(self) -> list[Variant]:
        path = self.path.with_suffix(".bim")
        found = []
        for line in _lines(path):
            try:
                name = chromosome(line[0])
                alt, ref = line[4].upper(), line[5].upper()
                found.append(Variant(_CODES.get(name, name), int(line[3]), ref, alt))
            except ValueError as error:
                reason = f"line {len(found) + 1} has no position"
                raise DataFileError(path=path, data_type="PLINK bim", reason=reason) from error
        return found


def _lines(path: Path) -> Iterator[list[str]]:
    """Yield the fields of each line of a bim or fam file."""
    what = f"PLINK {path.suffix[1:]}"
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), ""), 1):
                fields = line.split()
                if len(fields) != _FIELDS:
                    reason = f"line {number} has {len(fields)} fields, and {_FIELDS} are needed"
                    raise DataFileError(path=path, data_type=what, reason=reason)
                yield fields
    except FileNotFoundError as error:
        reason = "there is no such file; put it beside the bed file"
        raise DataFileError(path=path, data_type=what, reason=reason) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataFileError(path=path, data_type=what, reason="it is damaged") from error


def _error(path: Path, reason: str) -> DataFileError:
    return DataFileError(path=path, data_type="PLINK bed", reason=reason)
