"""Find the genotypes of a folder, the people who have them, and what a table says about these."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from common.datasets.families.base import Options, Unit
from common.datasets.files import data_files, inside
from common.datasets.formats import BED, VCF
from common.datasets.inspection import PERSON, TableOptions, column_names, numbered_rows
from common.datasets.plink import BedFile
from common.datasets.split import stable_ids
from common.datasets.variants import Region, Variant, digest, matched, panel, parsed_variants, spans, within
from common.datasets.vcf import Field, VcfFile
from common.errors import DataFileError, InvalidArgumentsError, OtherVariantsError, UnknownColumnError

_WHAT: Final = "a genomics folder"
_BLOCK_BYTES: Final = 64 * 1024**2
"""Dosages that are held while they are put in order."""

Rows = NDArray[np.int64]


class GenotypeOptions(Options):
    """How a hospital keeps its genotypes: VCF or PLINK files and a table of people in one folder."""

    phenotypes: str
    """The table in the folder that says of each person what is known beside the genotypes."""
    sample_column: str | None = None
    """Its column of names of samples, as the genotype files have them; the first one if not given."""
    split_column: str | None = None
    """Its column of `train` and `test` that says which part each person belongs to; wins over the plan's."""
    genotypes: tuple[str, ...] = ()
    """The genotype files, one after the other, each with the same people; all of the folder if none are given."""
    variants: str | None = None
    """A file in the folder that lists the variants that are offered, and which allele counts; all if not given."""
    field: Field = "GT"
    """Where VCF files have dosages: called genotypes, or DS, imputed dosages."""
    multiallelic: Literal["refuse", "split"] = "refuse"
    """What to do about sites with several other alleles: refuse the set, or make a variant of each."""
    incomplete: Literal["refuse", "leave_out"] = "refuse"
    """What to do about people who are not in the table, or not in the genotype files."""
    build: Unit = ""
    """The genome build that positions are of, such as GRCh38."""

    @property
    def table(self) -> TableOptions:
        """Return how the table of people is to be read."""
        return TableOptions(split_column=self.split_column)


class Source(Protocol):
    """A file of genotypes."""

    @property
    def path(self) -> Path:
        """Where it is."""
        ...

    @property
    def samples(self) -> tuple[str, ...]:
        """Return the people in it."""
        ...

    def check(self) -> None:
        """Make sure that it is whole."""
        ...

    def variants(self, parts: Sequence[Region] | None) -> Iterator[Variant]:
        """Yield its variants in these parts, or a few more."""
        ...

    def dosages(
        self, wanted: Collection[Variant] | None, parts: Sequence[Region] | None, width: int
    ) -> Iterator[tuple[list[Variant], NDArray[np.float32]]]:
        """Yield dosages, float32 of the shape (people, variants), negative where missing."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """Variants of one plan at one node.

    Attributes:
        names: As the plan has them, in its order.
        local: What the files call each.
        swapped: Whether the files count the other allele.
        parts: Where they lie; none if everywhere.
    """

    names: tuple[Variant, ...]
    local: tuple[Variant, ...]
    swapped: NDArray[np.bool_]
    parts: list[Region] | None


@dataclass(frozen=True, slots=True)
class Calls:
    """Dosages of some people and variants.

    Attributes:
        values: int8 or float32 of the shape (people, variants), negative where missing; in memory, or in a file that has no name.
        missing: How many are missing of each variant.
        gaps: Whether something is missing of each person.
    """

    values: NDArray[Any]
    missing: NDArray[np.int64]
    gaps: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Cohort:
    """The people of a folder.

    Attributes:
        sources: The genotype files.
        samples: The people in them, in the order of the first.
        table: The table of people.
        column: Its column of samples.
        listed: The people in it.
        panel: The variants that are offered; none if all.
    """

    sources: tuple[Source, ...]
    samples: tuple[str, ...]
    table: Path
    column: str
    listed: tuple[str, ...]
    panel: tuple[Variant, ...] | None

    @property
    def complete(self) -> list[str]:
        """Return the people who are in the files and in the table, in the order of the files."""
        listed = frozenset(self.listed)
        return [name for name in self.samples if name in listed]

    def rows(self, ids: NDArray[np.int64]) -> Rows:
        """Return the positions in `samples` of people given by stable ids."""
        places = {one: place for place, one in enumerate(stable_ids(self.samples).tolist())}
        return np.array([places[one] for one in ids.tolist()], np.int64)

    def variants(self, parts: Sequence[Region] | None = None) -> Iterator[Variant]:
        """Yield the variants of all files in their order."""
        for source in self.sources:
            yield from source.variants(parts)

    def choose(self, wanted: Sequence[str] | str, regions: Sequence[Region]) -> Choice:
        """Return the variants that a plan asks for: by name, or by the digest of all that are offered.

        Raises:
            InvalidArgumentsError: If a name is none.
            OtherVariantsError: If the digest is another.
            UnknownVariantError: If some are not there.
            DataFileError: If a file cannot be read.
        """
        if isinstance(wanted, str):
            offered = tuple(self.variants()) if self.panel is None else self.panel
            if (found := digest(offered)) != wanted:
                raise OtherVariantsError(found=found, wanted=wanted)
            parts = spans(within(offered, regions)) if regions or self.panel is not None else None
        else:
            offered = parsed_variants(wanted)
            parts = spans(within(offered, regions))
            if self.panel is not None:
                matched(offered, self.panel)
        names = within(offered, regions)
        if not names:
            raise InvalidArgumentsError(problems="  variants: none are named, or none lies in the regions")
        local, swapped = matched(names, self.variants(parts))
        return Choice(names, local, swapped, parts)

    def calls(self, choice: Choice, rows: Rows, *, in_memory: bool, exact: bool) -> Calls:
        """Read dosages once, by variant, and put them in order by person.

        Args:
            choice: The variants.
            rows: The people, by their position in `samples`.
            in_memory: Whether to hold all of them; else they go into a file in the folder for temporary files.
            exact: Whether dosages can be no whole numbers.

        Raises:
            DataFileError: If a file cannot be read, or there is too little room.
        """
        columns: dict[Variant, list[int]] = {}
        for position, name in enumerate(choice.local):
            columns.setdefault(name, []).append(position)
        shape = (len(rows), len(choice.local))
        values = _room(shape, np.dtype(np.float32 if exact else np.int8), in_memory, self.table.parent)
        missing, gaps = np.zeros(shape[1], np.int64), np.zeros(shape[0], np.bool_)
        for found, block in self.blocks(rows, columns, choice.parts):
            taken = [(index, place) for index, name in enumerate(found) for place in columns[name]]
            part = block[:, [index for index, _ in taken]]
            places = np.array([place for _, place in taken])
            gone = part < 0
            values[:, places] = np.where(choice.swapped[places] & ~gone, 2 - part, part)
            missing[places] = gone.sum(axis=0)
            gaps |= gone.any(axis=1)
        return Calls(values, missing, gaps)

    def blocks(
        self,
        rows: Rows,
        wanted: Collection[Variant] | None = None,
        parts: Sequence[Region] | None = None,
        width: int | None = None,
    ) -> Iterator[tuple[list[Variant], NDArray[np.float32]]]:
        """Yield dosages of some people, file by file: some variants at once, as `Source.dosages` does."""
        width = width or max(_BLOCK_BYTES // (4 * len(self.samples)), 1)
        for source in self.sources:
            places = {name: place for place, name in enumerate(source.samples)}
            order = np.array([places[self.samples[row]] for row in rows], np.int64)
            for found, block in source.dosages(wanted, parts, width):
                yield found, block[order]


def open_cohort(root: Path, options: GenotypeOptions) -> Cohort:
    """Return the people of a folder; of the genotype files, only headers and lists of people are read.

    Raises:
        DataFileError: If it is no such folder, something in it leads out of it, a header is wrong, files have other people than
            the first, or a person is twice in one.
        UnknownColumnError: If the table lacks a column.
        MissingExtraError: If the library for the files is not installed.
    """
    if not root.is_dir():
        raise DataFileError(path=root, data_type=_WHAT, reason="it is no folder")
    names = [file.name for file in data_files(root) if file.name.endswith((*VCF, BED))]
    sources = tuple(_source(inside(root, name), options) for name in options.genotypes or names)
    if not sources:
        raise DataFileError(path=root, data_type=_WHAT, reason="there is no .vcf, .vcf.gz or .bed file in it")
    for source in sources:
        if set(source.samples) != set(sources[0].samples):
            reason = f"it has other samples than {sources[0].path.name}; name the files that belong together with the option genotypes"
            raise DataFileError(path=source.path, data_type=_WHAT, reason=reason)
    table = inside(root, options.phenotypes)
    known = column_names(table)
    column = known[0] if options.sample_column is None else options.sample_column
    if column not in known:
        raise UnknownColumnError(column=column, columns=", ".join(known))
    listed = tuple(numbered_rows(table, [column], TableOptions(), column)[PERSON].to_list())
    if twice := [name for name, times in Counter(listed).items() if times > 1]:
        reason = f"column {column!r} has sample {twice[0]!r} twice; keep one row for each person"
        raise DataFileError(path=table, data_type="a table of people", reason=reason)
    offered = None if options.variants is None else panel(inside(root, options.variants))
    return Cohort(sources, sources[0].samples, table, column, listed, offered)


def _source(path: Path, options: GenotypeOptions) -> Source:
    if path.name.endswith(BED):
        return BedFile.open(path)
    return VcfFile.open(path, options.field, split=options.multiallelic == "split")


def _room(shape: tuple[int, int], dtype: np.dtype[Any], in_memory: bool, root: Path) -> NDArray[Any]:  # noqa: FBT001 - one caller
    """Return an array: in memory, or in a file without a name, of which all blocks are reserved."""
    if in_memory:
        return np.empty(shape, dtype)
    size = shape[0] * shape[1] * dtype.itemsize
    with tempfile.TemporaryFile() as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            reason = (
                f"{size} bytes of dosages do not fit into {tempfile.gettempdir()}: {error.strerror};"
                " choose fewer variants, or give workers more room (worker_file_bytes)"
            )
            raise DataFileError(path=root, data_type=_WHAT, reason=reason) from error
        return np.memmap(file, dtype, "r+", shape=shape)
