"""Turn a data set into batches of tensors, split into a training and a test part."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from common.datasets.base import Dataset, Rows
from common.datasets.joined import JoinedDataset
from common.datasets.split import fold_part, lasting_fold, lasting_part, test_part
from common.errors import InvalidArgumentsError, WrongDataTypeError
from common.messages import ColumnMoments
from common.passes import Passes

__all__ = ["DataManager", "Loader", "Parts", "Samples"]

_OURS: Final = frozenset({"dataset", "generator", "sampler", "batch_sampler", "self"})
"""The node itself draws the order, so that any process can take it up."""
_KNOWN_ARGS: Final = frozenset(inspect.signature(DataLoader).parameters) - _OURS


class Loader(Protocol):
    """Batches of one part of a data set; each iteration is one pass over it."""

    samples: int
    """Number of samples in the part."""

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int:
        """Return the number of batches in one pass."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """The two parts of a data set.

    Attributes:
        train: Batches to train on.
        test: Batches to validate on.
        passes: The order of the training batches, which can be taken up at any place.
    """

    train: Loader
    test: Loader
    passes: Passes


class Samples(Protocol):
    """Pairs of input and target by position, as torch's map-style data sets have them."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """Return one sample."""
        ...


class DataManager:
    """What `training_data` returns: a data set, and how to batch it.

    Args:
        dataset: A data set of `common.datasets`, or anything with `__len__` and `__getitem__` that gives pairs of input and
            target, such as a torch data set.
        batch_size: Samples in one batch; none takes the whole part at once.
        shuffle: Whether each pass takes the training part in another order.
        drop_last: Whether to leave out a last batch that is smaller.
        **loader_args: Further arguments of `torch.utils.data.DataLoader`, for data sets that are not in memory.
    """

    def __init__(
        self,
        dataset: Dataset | Samples,
        batch_size: int | None = 48,
        *,
        shuffle: bool = True,
        drop_last: bool = False,
        **loader_args: Any,
    ) -> None:
        self._dataset = dataset
        self._loader_args = {
            "batch_size": batch_size,
            "shuffle": shuffle,
            "drop_last": drop_last,
            **loader_args,
        }

    def bind(self, path: Path, parameters: Mapping[str, JsonValue], *, data_type: str | None = None) -> None:
        """Read the file of this node, if the data set is one of `common.datasets`.

        Args:
            path: The registered file or folder.
            parameters: What was registered with it.
            data_type: As what it was registered; anything if none.

        Raises:
            WrongDataTypeError: If the plan's class does not read sets of that type.
            DataError: If the file is gone, cannot be read, or does not have what the plan asks for.
        """
        if isinstance(self._dataset, Dataset):
            read_first = self._dataset.first if isinstance(self._dataset, JoinedDataset) else self._dataset
            _check_type(read_first, data_type)
            self._dataset.bind(path, parameters)

    @property
    def joins(self) -> bool:
        """Tell whether the data set needs a second one, which `join` reads."""
        return isinstance(self._dataset, JoinedDataset)

    def join(self, path: Path, parameters: Mapping[str, JsonValue], *, data_type: str | None = None) -> None:
        """Read the second set of this node, after `bind`; arguments and errors as there.

        Raises:
            NotJoinableError: If the sets have no subjects in common, or say not whose their samples are.
        """
        if isinstance(self._dataset, JoinedDataset):
            _check_type(self._dataset.second, data_type)
            self._dataset.join(path, parameters)

    def split(
        self,
        *,
        test_ratio: float,
        seed: int,
        fold: tuple[int, int] | None = None,
        loader_args: Mapping[str, Any] | None = None,
        test_batch_size: int | None = None,
        test_set: DataManager | None = None,
        moments: Mapping[str, ColumnMoments] | None = None,
    ) -> Parts:
        """Return loaders of both parts.

        Args:
            test_ratio: Share of the samples held back; a split that the file itself states wins.
            seed: The same seed and samples give the same parts.
            fold: Which of several test parts to hold back, from 0, and how many there are; in place of the ratio. Samples that the
                file marks for testing are in neither part then.
            loader_args: Win over those given to the data manager.
            test_batch_size: None or 0 takes the whole test part at once.
            test_set: What to validate on in place of a part of these samples; standardized and filled as these are.
            moments: Of the columns of the whole federation, by name; those of the training part if not given.

        Raises:
            InvalidArgumentsError: If a loader argument is unknown or out of range.
            DataError: If the training part lacks what the data set has to learn from it.
        """
        arguments = _checked({**self._loader_args, **(loader_args or {})})
        train, test = self._rows(test_ratio, seed, fold)
        if isinstance(self._dataset, Dataset):
            if moments is None:
                self._dataset.fit(train)
            else:
                self._dataset.fit_with(train, moments)
        for_test = {**arguments, "batch_size": test_batch_size or None, "shuffle": False, "drop_last": False}
        passes = _passes(train, arguments)
        return Parts(
            self._loader(train, arguments, passes),
            self._loader(test, for_test, _passes(test, for_test))
            if test_set is None
            else test_set.whole(self._dataset, for_test),
            passes,
        )

    def measure(
        self, *, test_ratio: float, seed: int, fold: tuple[int, int] | None = None
    ) -> tuple[tuple[ColumnMoments, ...], int, int]:
        """Return the moments of columns in the training part, and the samples of both parts; arguments as of `split`.

        Raises:
            DataError: If a column has none.
        """
        train, test = self._rows(test_ratio, seed, fold)
        found = self._dataset.moments(train) if isinstance(self._dataset, Dataset) else ()
        return found, len(train), len(test)

    def whole(self, like: Dataset | Samples, arguments: Mapping[str, Any]) -> Loader:
        """Return a loader of all samples, standardized and filled as those of another set are."""
        if isinstance(self._dataset, Dataset) and isinstance(like, Dataset):
            self._dataset.fit_as(like)
        rows = np.arange(len(self._dataset), dtype=np.int64)
        return self._loader(rows, arguments, _passes(rows, arguments))

    def _rows(self, ratio: float, seed: int, fold: tuple[int, int] | None) -> tuple[Rows, Rows]:
        """Return the rows to train and those to validate on."""
        every = np.arange(len(self._dataset), dtype=np.int64)
        marked, ids, lasting = None, every, False
        if isinstance(self._dataset, Dataset):
            marked, ids = self._dataset.test_rows(), self._dataset.sample_ids()
            lasting = self._dataset.lasting_ids
        if fold is not None:
            every = every if marked is None else np.setdiff1d(every, marked, assume_unique=True)
            test = every[(lasting_fold if lasting else fold_part)(ids[every], fold, seed)]
        elif marked is not None:
            test = marked
        else:
            test = (lasting_part if lasting else test_part)(ids, ratio, seed)
        held_in = np.zeros(len(self._dataset), np.bool_)
        held_in[every] = True
        held_in[test] = False
        return np.flatnonzero(held_in).astype(np.int64), test

    def _loader(self, rows: Rows, arguments: Mapping[str, Any], passes: Passes) -> Loader:
        arrays = self._dataset.arrays() if isinstance(self._dataset, Dataset) else None
        if arrays is not None:
            data, target = (torch.from_numpy(array[rows]) for array in arrays)
            return _TensorLoader(data, target, _batch_size(rows, arguments), passes)
        return _SampleLoader(self._dataset, rows, arguments, passes)


class _TensorLoader:
    """Batches of tensors that are in memory: two index operations each, none for a full batch."""

    def __init__(self, data: Tensor, target: Tensor, size: int, passes: Passes) -> None:
        self.samples = len(data)
        self._data = data
        self._target = target
        self._size = size
        self._passes = passes

    def __len__(self) -> int:
        return self._passes.batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if len(self) == 1 and self._size >= self.samples:
            yield self._data, self._target
            return
        rows = self._passes.take()
        for first in range(0, len(rows), self._size):
            chosen = rows[first : first + self._size]
            yield self._data[chosen], self._target[chosen]


class _SampleLoader:
    """Batches of samples that are fetched one by one, through torch's DataLoader."""

    def __init__(self, dataset: Any, rows: Rows, arguments: Mapping[str, Any], passes: Passes) -> None:
        self.samples = len(rows)
        self._passes = passes
        part: Subset[Any] = Subset(dataset, rows.tolist())
        ours = {"batch_size": _batch_size(rows, arguments), "shuffle": False, "sampler": passes}
        self._loader: DataLoader[Any] = DataLoader(part, generator=passes.generator, **{**arguments, **ours})

    def __len__(self) -> int:
        return self._passes.batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self._loader)


def _check_type(dataset: Dataset, data_type: str | None) -> None:
    wanted = dataset.data_types
    if data_type is not None and wanted and data_type not in wanted:
        raise WrongDataTypeError(wanted=" or ".join(sorted(wanted)), found=data_type)


def _batch_size(rows: Rows, arguments: Mapping[str, Any]) -> int:
    return arguments["batch_size"] or max(len(rows), 1)


def _passes(rows: Rows, arguments: Mapping[str, Any]) -> Passes:
    return Passes(
        len(rows),
        _batch_size(rows, arguments),
        shuffle=arguments["shuffle"],
        drop_last=arguments["drop_last"],
    )


def _checked(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return loader arguments if they make sense.

    Raises:
        InvalidArgumentsError: If not; names every mistake.
    """
    size = arguments["batch_size"]
    problems = [f"  loader_args.{name}: unknown" for name in sorted(arguments.keys() - _KNOWN_ARGS)]
    if size is not None and (type(size) is not int or size < 1):
        problems.append("  loader_args.batch_size: must be a whole number from 1, or none for the whole part")
    problems += [
        f"  loader_args.{name}: must be true or false"
        for name in ("shuffle", "drop_last")
        if not isinstance(arguments[name], bool)
    ]
    if problems:
        raise InvalidArgumentsError(problems="\n".join(problems))
    return arguments
