"""Give genotypes of people, and what a table says about them, to a training plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from common.datasets.base import Dataset, Rows
from common.datasets.columns import Moments
from common.datasets.families.base import parsed
from common.datasets.genotypes import Calls, Choice, GenotypeOptions, open_cohort
from common.datasets.inspection import TableOptions
from common.datasets.tabular import TabularDataset
from common.datasets.variants import parsed_region, parsed_variants
from common.errors import DataFileError, InvalidArgumentsError, MissingValuesError

MissingCalls = Literal["refuse", "drop", "mean", "indicator"] | float

_IN_MEMORY_BYTES: Final = 256 * 1024**2
"""Inputs that are held in memory; more are read person by person from a file in the worker's own folder."""
_EPSILON: Final = 1e-9
_BLOCK_BYTES: Final = 16 * 1024**2


class GenotypeDataset(Dataset):
    """People with their genotypes: copies of alleles as inputs, then the inputs of a table; the target is the table's.

    An input is float32: how many copies of `alt` a person has (0 to 2; imputed dosages between). The inputs are the same in the same order at
    every node, whatever its files hold: the plan names variants, each node finds them, and where a file counts the other allele the
    dosage is turned round. A variant that a node does not have is an error that names it. Everything about the table, such as
    missing values and categories, is said to the `TabularDataset` or `SurvivalDataset`.

    Args:
        variants: `chromosome:position:ref:alt`, in the order that the model takes them; or the digest that descriptions of the
            data sets tell, for all variants that the nodes offer, which are then the same.
        phenotypes: Columns of the table of people: inputs that follow the variants (none with `[]`), and targets.
        regions: Which of these variants to take: those in `chromosome:start-end` or in all of a `chromosome`, on the build of the files.
        missing: What to do about missing calls: "refuse" the set, "drop" people who miss one, put the "mean" of the variant in the training part, or a
            number, in their place; "indicator" puts the mean and adds an input for each variant, after all of them, that is 1 where
            the call is missing.
        min_frequency: A variant whose minor allele is rarer than this in this node's training part is 0 for everybody there. Its input stays
            where it is, because each node has other frequencies.
        standardize: Whether to take the mean of each variant from it and divide by its standard deviation (ddof 1, plus 1e-9), both of this
            node's training part; or the variants to be standardised with given (mean, deviation).
        transform: Applied to the inputs of each person.

    Raises:
        InvalidArgumentsError: If a variant or region is not written as such, or a number is out of range.
    """

    data_types = frozenset({"genomics"})

    def __init__(
        self,
        variants: Sequence[str] | str,
        phenotypes: TabularDataset,
        *,
        regions: Sequence[str] = (),
        missing: MissingCalls = "refuse",
        min_frequency: float = 0.0,
        standardize: bool | Mapping[str, Moments] = False,
        transform: Callable[[NDArray[np.float32]], Any] | None = None,
    ) -> None:
        if not 0 <= min_frequency <= 0.5:
            raise InvalidArgumentsError(problems="  min_frequency: must be between 0 and 0.5")
        if not isinstance(variants, str):
            parsed_variants(variants)
        given = standardize if isinstance(standardize, Mapping) else {}
        self._variants = variants
        self._phenotypes = phenotypes
        self._regions = [parsed_region(text) for text in regions]
        self._missing = missing
        self._min_frequency = min_frequency
        self._standardize = standardize is True
        self._given = dict(zip(parsed_variants(list(given)), given.values(), strict=True))
        self._transform = transform
        self._choice = Choice((), (), np.empty(0, np.bool_), None)
        self._calls = Calls(np.empty((0, 0), np.int8), np.empty(0, np.int64), np.empty(0, np.bool_))
        self._rows: Rows = np.empty(0, np.int64)
        self._ids: NDArray[np.int64] = np.empty(0, np.int64)
        self._in_memory = True
        self._inputs: NDArray[np.float32] | None = None
        self._filler: NDArray[np.float32] = np.empty(0, np.float32)
        self._shift: NDArray[np.float32] = np.empty(0, np.float32)
        self._scale: NDArray[np.float32] = np.empty(0, np.float32)

    def bind(self, path: Path, parameters: Mapping[str, JsonValue]) -> None:
        """Find people and variants, and read the dosages once.

        Raises:
            InvalidDatasetError: If what was registered with the folder cannot be understood.
            DataFileError: If a file cannot be read, nobody has all that is asked for, or there is too little room for the dosages.
            UnknownVariantError: If variants are not there.
            OtherVariantsError: If the set offers other variants than the digest names.
            DataError: What the table of people raises; see `TabularDataset.bind`.
            MissingValuesError: If calls are missing and `missing` does not provide for it.
        """
        options = parsed(GenotypeOptions, parameters)
        cohort = open_cohort(path, options)
        people = [name for name in cohort.complete if name not in options.unused]
        if not people:
            reason = "nobody in it has genotypes and a row of the table"
            raise DataFileError(path=path, data_type="a genomics folder", reason=reason)
        table = TableOptions(id_column=cohort.column, split_column=options.split_column)
        self._phenotypes.read(cohort.table, table, people)
        self._ids = self._phenotypes.sample_ids()
        self._choice = cohort.choose(self._variants, self._regions)
        self._in_memory = 4 * len(self._ids) * len(self.features) <= _IN_MEMORY_BYTES
        self._calls = cohort.calls(
            self._choice, cohort.rows(self._ids), in_memory=self._in_memory, exact=options.field == "DS"
        )
        self._rows = np.arange(len(self._ids), dtype=np.int64)
        if self._missing == "refuse" and self._calls.missing.any():
            self._refuse(int(np.flatnonzero(self._calls.missing)[0]))
        if self._missing == "drop":
            self._rows = np.flatnonzero(~self._calls.gaps).astype(np.int64)
            self._ids = self._ids[self._rows]
        self._inputs = None

    @property
    def features(self) -> list[str]:
        """Return the name of each input, once the set is bound to files."""
        names = [str(name) for name in self._choice.names]
        added = [f"{name} is missing" for name in names] if self._missing == "indicator" else []
        return names + added + self._phenotypes.features

    def fit(self, train: Rows) -> None:
        """Find means, deviations and frequencies of these people alone.

        Raises:
            MissingValuesError: If nobody of these has a call to make another from.
        """
        self._phenotypes.fit(self._rows[train])
        count, mean, deviation = self._moments(train)
        if (
            self._missing in ("mean", "indicator")
            and (lost := self._calls.missing.astype(bool) & (count == 0)).any()
        ):
            self._refuse(int(np.flatnonzero(lost)[0]))
        filler = np.full_like(mean, self._missing) if isinstance(self._missing, int | float) else mean
        shift, scale = np.zeros_like(mean), np.ones_like(mean)
        if self._standardize:
            shift, scale = mean, 1 / (deviation + _EPSILON)
        for place, name in enumerate(self._choice.names):
            if name in self._given:
                middle, width = self._given[name]
                shift[place], scale[place] = middle, 1 / (width + _EPSILON)
        scale[np.minimum(mean, 2 - mean) / 2 < self._min_frequency] = 0
        self._filler, self._shift, self._scale = (one.astype(np.float32) for one in (filler, shift, scale))
        self._make_inputs()

    def fit_as(self, other: Dataset) -> None:
        """Take over what another set of the same plan learned."""
        if isinstance(other, GenotypeDataset):
            self._phenotypes.fit_as(other._phenotypes)  # noqa: SLF001 - of this class
            self._filler, self._shift, self._scale = other._filler, other._shift, other._scale  # noqa: SLF001 - of this class
            self._make_inputs()

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        covariates, target = self._phenotypes[int(self._rows[index])]
        made = self._inputs[index] if self._inputs is not None else self._made(index)
        data = np.concatenate([made, covariates], dtype=np.float32)
        return self._transform(data) if self._transform else data, target

    def sample_ids(self) -> NDArray[np.int64]:
        """Return an id for each person that follows from the name of the sample."""
        return self._ids

    def test_rows(self) -> Rows | None:
        """Return the people that the registered split column, or the one of the table's plan, marks for testing."""
        marked = self._phenotypes.test_rows()
        return None if marked is None else np.flatnonzero(np.isin(self._rows, marked)).astype(np.int64)

    def arrays(self) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Return inputs and targets if they are in memory and nothing is to be done for each person."""
        table = self._phenotypes.arrays()
        if self._inputs is None or table is None or self._transform:
            return None
        covariates, targets = (array[self._rows] for array in table)
        return np.concatenate([self._inputs, covariates], axis=1, dtype=np.float32), targets

    def _refuse(self, place: int) -> None:
        name = str(self._choice.names[place])
        raise MissingValuesError(
            column=name, count=int(self._calls.missing[place]), rows=len(self._calls.values)
        )

    def _make_inputs(self) -> None:
        self._inputs = self._made(np.arange(len(self))) if self._in_memory else None

    def _made(self, rows: Rows | int) -> NDArray[np.float32]:
        """Return the inputs that genotypes make, of some people or of one."""
        found = self._calls.values[self._rows[rows]]
        gone = found < 0
        made = np.where(gone, self._filler, found)
        made -= self._shift
        made *= self._scale
        return (
            np.concatenate([made, gone], axis=-1, dtype=np.float32) if self._missing == "indicator" else made
        )

    def _moments(self, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return, for each variant, the calls, their mean and their standard deviation (ddof 1); 0 where there are none."""
        width = len(self._choice.names)
        count, total, squares = (np.zeros(width) for _ in range(3))
        step = max(_BLOCK_BYTES // (8 * max(width, 1)), 1)
        for start in range(0, len(rows), step):
            found = self._calls.values[self._rows[rows[start : start + step]]].astype(np.float64)
            there = found >= 0
            count += there.sum(axis=0)
            total += found.sum(axis=0, where=there)
            squares += np.square(found).sum(axis=0, where=there)
        mean = total / np.maximum(count, 1)
        variance = np.maximum(squares - count * mean**2, 0) / np.maximum(count - 1, 1)
        return count, mean, np.sqrt(variance)
