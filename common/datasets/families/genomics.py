"""Look into folders of genotypes and people."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import JsonValue

from common.datasets.families.base import Inspection, each_readable
from common.datasets.genotypes import Cohort, GenotypeOptions, open_cohort
from common.datasets.inspection import inspect_tabular, read_columns
from common.datasets.variants import Variant, digest, first_repeated, matched
from common.errors import DataFileError
from common.messages import Column

_WHAT: Final = "a genomics folder"
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class GenomicsFamily:
    """Genotype files and a table of people in one folder."""

    options: type[GenotypeOptions] = GenotypeOptions

    def inspect(self, path: Path, options: GenotypeOptions) -> Inspection:
        """Read every genotype once.

        Raises:
            DataFileError: If it is no such folder, a file in it is damaged, people are incomplete or have no call at all and the rules
                refuse that, or a variant is there twice.
            UnknownVariantError: If a variant of the list that is offered is not there.
            UnknownColumnError: If the table lacks a column.
            MissingExtraError: If the library for the files is not installed.
        """
        cohort = open_cohort(path, options)
        for source in cohort.sources:
            source.check()
        people = cohort.complete
        everybody = len({*cohort.samples, *cohort.listed})
        if len(people) < everybody and options.incomplete == "refuse":
            reason = (
                f"{len(cohort.samples) - len(people)} people with genotypes are not in {cohort.table.name},"
                f" and {len(cohort.listed) - len(people)} in it have none; to leave them out say incomplete=leave_out"
            )
            raise DataFileError(path=path, data_type=_WHAT, reason=reason)
        table = inspect_tabular(cohort.table, options.table)
        found, missing, called = _look(cohort, people)
        if twice := first_repeated(found):
            raise DataFileError(
                path=path, data_type=_WHAT, reason=f"variant {twice} is there twice; keep one"
            )
        offered: Sequence[Variant] = found
        if cohort.panel is not None:
            offered = cohort.panel
            matched(offered, found)

        def have_calls(name: str) -> None:
            if not called[name]:
                raise DataFileError(path=path, data_type=_WHAT, reason="it has no call at all")

        whole, broken = each_readable(people, have_calls, path, options, _WHAT)
        sizes = Counter(one.chromosome for one in offered)
        return Inspection(
            samples=len(whole),
            shape=(len(whole), len(offered)),
            columns=(
                Column(
                    name="variants",
                    dtype=f"{options.field} of {len(offered)} variants, digest {digest(offered)}",
                    unit=options.build,
                ),
                *(
                    Column(name=f"chromosome {name}"[:200], dtype=f"{size} variants", missing=missing[name])
                    for name, size in sizes.items()
                ),
                *(
                    column.model_copy(update={"unit": options.units.get(column.name, "")})
                    for column in table.columns
                    if column.name != cohort.column
                ),
            ),
            broken=broken,
            left_out=everybody - len(whole) - len(broken),
        )

    def preview(self, path: Path, options: GenotypeOptions, count: int) -> list[dict[str, JsonValue]]:
        """Return rows of the table and dosages of the first variants of the first people.

        Raises:
            DataError: If they cannot be read.
        """
        cohort = open_cohort(path, options)
        people = cohort.complete[:count]
        rows = np.array([cohort.samples.index(name) for name in people], np.int64)
        shown = itertools.islice(cohort.blocks(rows, width=_SHOWN), 1)
        dosages = {str(name): block[:, place] for names, block in shown for place, name in enumerate(names)}
        known = [column.name for column in inspect_tabular(cohort.table, options.table).columns]
        frame = read_columns(cohort.table, known, options.table)
        by_person = dict(zip(cohort.listed, frame.drop(cohort.column).to_dicts(), strict=True))
        return [
            {"sample": name}
            | {column: _shown(value) for column, value in by_person[name].items()}
            | {name: None if found[place] < 0 else float(found[place]) for name, found in dosages.items()}
            for place, name in enumerate(people)
        ]


def _look(
    cohort: Cohort, people: Sequence[str]
) -> tuple[list[Variant], Mapping[str, int], Mapping[str, int]]:
    """Return all variants, missing calls by chromosome, and the calls of each person, after reading everything once."""
    chosen = frozenset(people)
    rows = np.array([row for row, name in enumerate(cohort.samples) if name in chosen], np.int64)
    found: list[Variant] = []
    missing: Counter[str] = Counter()
    called = np.zeros(len(rows), np.int64)
    for names, block in cohort.blocks(rows):
        found += names
        there = block >= 0
        called += there.sum(axis=1)
        for name, gaps in zip(names, (~there).sum(axis=0).tolist(), strict=True):
            missing[name.chromosome] += gaps
    return found, missing, dict(zip(people, called.tolist(), strict=True))


def _shown(value: object) -> JsonValue:
    return value if isinstance(value, bool | int | float | None) else str(value)


FAMILY: Final = GenomicsFamily()
