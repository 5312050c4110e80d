"""Read dosages from VCF files with cyvcf2."""

from __future__ import annotations

import gzip
import warnings
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from common.datasets.extras import library
from common.datasets.variants import UNKNOWN, Region, Variant, chromosome
from common.errors import DataFileError

INDEXES: Final = (".tbi", ".csi")

_LONGEST_LINE: Final = 256 * 1024**2
"""Bytes of the longest line that is read: a site of two million people."""
_CHUNK: Final = 1024**2
_LAST_BLOCK: Final = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""What ends every file that bgzip made (SAM/BAM format specification, section 4.1.2)."""
_MISSING, _NO_ALLELE = -1, -2
"""How cyvcf2 writes alleles that were not called, and the second allele of a chromosome that is there once."""

Field = Literal["GT", "DS"]


@dataclass(frozen=True, slots=True)
class VcfFile:
    """A VCF file, plain or made by bgzip.

    Attributes:
        path: Where it is.
        samples: The people in it, in its order.
        field: Where dosages come from: called genotypes, or imputed dosages.
        split: Whether sites with several other alleles become one variant for each; else they are refused.
    """

    path: Path
    samples: tuple[str, ...]
    field: Field
    split: bool

    @classmethod
    def open(cls, path: Path, field: Field, *, split: bool) -> VcfFile:
        """Read the header of a file.

        Raises:
            DataFileError: If it has none, names somebody twice, or has no index though it was made by bgzip.
            MissingExtraError: If cyvcf2 is not installed.
        """
        names = _people(path)
        if twice := [name for name, times in Counter(names).items() if times > 1]:
            raise _error(path, f"sample {twice[0]!r} is in its header twice; give each person one name")
        if _packed(path) and not any(path.with_name(path.name + end).is_file() for end in INDEXES):
            reason = f"it has no index beside it; make one with `bcftools index {path.name}`"
            raise _error(path, reason)
        with _opened(path):
            return cls(path, names, field, split)

    def check(self) -> None:
        """Make sure that the file is whole, and that no line of it fills the memory.

        Raises:
            DataFileError: If not.
        """
        line, last = 0, b""
        try:
            with _stream(self.path) as file:
                while chunk := file.read(_CHUNK):
                    line += len(chunk.partition(b"\n")[0])
                    if line > _LONGEST_LINE:
                        raise _error(self.path, f"a line has more than {_LONGEST_LINE} bytes")
                    if b"\n" in chunk:
                        line = len(chunk) - chunk.rindex(b"\n") - 1
                    last = chunk[-1:]
            with self.path.open("rb") as file:
                file.seek(max(self.path.stat().st_size - len(_LAST_BLOCK), 0))
                end = file.read()
        except (OSError, EOFError, zlib.error) as error:
            raise _error(self.path, "it ends too early or is damaged; copy it again") from error
        if last != b"\n" or (_packed(self.path) and end != _LAST_BLOCK):
            raise _error(self.path, "it ends too early; copy it again, or pack it again with bgzip")

    def variants(self, parts: Sequence[Region] | None) -> Iterator[Variant]:
        """Yield the variants in these parts of the file, or all, in its order; those that reach into two parts twice.

        Raises:
            DataFileError: If a site cannot be read, or has several other alleles and these are not split.
        """
        for record in self._records(parts):
            yield from (variant for variant, _ in self._alleles(record))

    def dosages(
        self, wanted: Collection[Variant] | None, parts: Sequence[Region] | None, width: int
    ) -> Iterator[tuple[list[Variant], NDArray[np.float32]]]:
        """Yield dosages of some variants, or all: at most `width` variants, and float32 of the shape (people, variants), negative where missing.

        A chromosome that is there once, as X of a man, counts twice, as in PLINK. A call of which one half is missing is missing.

        Raises:
            DataFileError: If a site cannot be read or does not have the field.
        """
        found: list[Variant] = []
        columns: list[NDArray[np.float32]] = []
        for record in self._records(parts):
            for variant, number in self._alleles(record):
                if wanted is None or variant in wanted:
                    found.append(variant)
                    columns.append(self._values(record, variant, number))
                    if len(found) == width:
                        yield found, np.stack(columns, axis=1)
                        found, columns = [], []
        if found:
            yield found, np.stack(columns, axis=1)

    def _alleles(self, record: Any) -> list[tuple[Variant, int]]:
        """Return each other allele of a site, as a variant and by number."""
        others = record.ALT or [UNKNOWN]
        if len(others) > 1 and not self.split:
            site = f"{record.CHROM}:{record.POS}"
            reason = f"{site} has {len(others)} other alleles; split such sites with `bcftools norm -m -any`, or say multiallelic=split"
            raise _error(self.path, reason)
        place = (chromosome(record.CHROM), record.POS, record.REF.upper())
        return [(Variant(*place, alt.upper()), number) for number, alt in enumerate(others, 1)]

    def _values(self, record: Any, variant: Variant, number: int) -> NDArray[np.float32]:
        if self.field == "DS":
            found = record.format("DS") if "DS" in record.FORMAT else None
            if found is None or found.shape[1] < number:
                raise _error(self.path, f"{variant} has no DS; say field=GT, or leave the site out")
            values: NDArray[np.float32] = np.nan_to_num(found[:, number - 1].astype(np.float32), nan=_MISSING)
            if not (((values >= 0) & (values <= 2)) | (values == _MISSING)).all():
                raise _error(self.path, f"a dosage of {variant} is not between 0 and 2")
            return values
        if "GT" not in record.FORMAT:
            raise _error(self.path, f"{variant} has no GT; say field=DS, or leave the site out")
        alleles = record.genotype.array().T[:-1]  # the last row tells whether the call is phased
        if len(alleles) > 2 or alleles.max(initial=0) > max(len(record.ALT), 1):
            raise _error(
                self.path, f"a call of {variant} has more than two alleles, or one that is not there"
            )
        copies = (alleles != _NO_ALLELE).sum(axis=0)
        called = (copies > 0) & (alleles != _MISSING).all(axis=0)
        counted = (alleles == number).sum(axis=0) * 2 / np.maximum(copies, 1)
        return np.where(called, counted, _MISSING).astype(np.float32)

    def _records(self, parts: Sequence[Region] | None) -> Iterator[Any]:
        """Yield the sites in these parts, through the index where there is one."""
        with _opened(self.path) as reader:
            if parts is None or not _packed(self.path):
                yield from self._each(reader)
                return
            names = {chromosome(name): name for name in reader.seqnames}
            for part in parts:
                if part.chromosome in names:
                    place = f"{names[part.chromosome]}:{part.start}-{part.end}"
                    yield from self._each(reader(place))

    def _each(self, records: Iterator[Any]) -> Iterator[Any]:
        while True:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # that a region is empty
                    record = next(records, None)
            except Exception as error:
                raise _error(self.path, "a site is damaged, or has too many or too few samples") from error
            if record is None:
                return
            yield record


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield a reader of cyvcf2, of which only the header was read."""
    cyvcf2 = library("cyvcf2")
    cyvcf2.cyvcf2.set_htslib_log_level(0)  # what htslib prints becomes an error of ours
    try:
        reader = cyvcf2.VCF(str(path.absolute()))
    except Exception as error:
        raise _error(path, "its header is wrong") from error
    try:
        yield reader
    finally:
        reader.close()


def _people(path: Path) -> tuple[str, ...]:
    """Return the names in the line of a VCF header that begins with #CHROM."""
    try:
        with _stream(path) as file:
            while (line := file.readline(_LONGEST_LINE)).startswith(b"##"):
                pass
        names = line.decode().rstrip("\r\n").split("\t")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise _error(path, "its header is wrong") from error
    if names[0] != "#CHROM" or len(names) < 10:
        raise _error(path, "its header names no samples")
    return tuple(name.strip() for name in names[9:])


def _stream(path: Path) -> BufferedIOBase:
    return gzip.open(path) if _packed(path) else path.open("rb")


def _packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _error(path: Path, reason: str) -> DataFileError:
    return DataFileError(path=path, data_type="VCF", reason=reason)
