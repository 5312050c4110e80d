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
from common.datasets.split import test_part
from common.errors import InvalidArgumentsError, WrongDataTypeError

__all__ = ["DataManager", "Loader", "Parts", "Samples"]

_KNOWN_ARGS: Final = frozenset(inspect.signature(DataLoader).parameters) - {"dataset", "generator", "self"}


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
        generator: Draws the order of the training batches; seed it to repeat that order.
    """

    train: Loader
    test: Loader
    generator: torch.Generator


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
            wanted = self._dataset.data_types
            if data_type is not None and wanted and data_type not in wanted:
                raise WrongDataTypeError(wanted=" or ".join(sorted(wanted)), found=data_type)
            self._dataset.bind(path, parameters)

    def split(
        self,
        *,
        test_ratio: float,
        seed: int,
        loader_args: Mapping[str, Any] | None = None,
        test_batch_size: int | None = None,
    ) -> Parts:
        """Return loaders of both parts.

        Args:
            test_ratio: Share of the samples held back; a split that the file itself states wins.
            seed: The same seed and samples give the same parts.
            loader_args: Win over those given to the data manager.
            test_batch_size: None or 0 takes the whole test part at once.

        Raises:
            InvalidArgumentsError: If a loader argument is unknown or out of range.
            DataError: If the training part lacks what the data set has to learn from it.
        """
        arguments = _checked({**self._loader_args, **(loader_args or {})})
        test = self._test_rows(test_ratio, seed)
        train = np.setdiff1d(np.arange(len(self._dataset), dtype=np.int64), test, assume_unique=True)
        if isinstance(self._dataset, Dataset):
            self._dataset.fit(train)
        generator = torch.Generator()
        for_test = {**arguments, "batch_size": test_batch_size or None, "shuffle": False, "drop_last": False}
        return Parts(
            self._loader(train, arguments, generator),
            self._loader(test, for_test, torch.Generator()),
            generator,
        )

    def _test_rows(self, ratio: float, seed: int) -> Rows:
        if not isinstance(self._dataset, Dataset):
            return test_part(np.arange(len(self._dataset), dtype=np.int64), ratio, seed)
        marked = self._dataset.test_rows()
        return marked if marked is not None else test_part(self._dataset.sample_ids(), ratio, seed)

    def _loader(self, rows: Rows, arguments: Mapping[str, Any], generator: torch.Generator) -> Loader:
        arrays = self._dataset.arrays() if isinstance(self._dataset, Dataset) else None
        if arrays is not None:
            data, target = (torch.from_numpy(array[rows]) for array in arrays)
            return _TensorLoader(
                data,
                target,
                arguments["batch_size"],
                generator if arguments["shuffle"] else None,
                drop_last=arguments["drop_last"],
            )
        return _SampleLoader(self._dataset, rows, arguments, generator)


class _TensorLoader:
    """Batches of tensors that are in memory: two index operations each, none for a full batch."""

    def __init__(
        self,
        data: Tensor,
        target: Tensor,
        batch_size: int | None,
        generator: torch.Generator | None,
        *,
        drop_last: bool,
    ) -> None:
        self.samples = len(data)
        self._data = data
        self._target = target
        self._size = batch_size or max(self.samples, 1)
        self._generator = generator
        self._batches = self.samples // self._size if drop_last else -(-self.samples // self._size)

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self._batches == 1 and self._size >= self.samples:
            yield self._data, self._target
            return
        order = None if self._generator is None else torch.randperm(self.samples, generator=self._generator)
        for batch in range(self._batches):
            rows = slice(batch * self._size, (batch + 1) * self._size)
            chosen = rows if order is None else order[rows]
            yield self._data[chosen], self._target[chosen]


class _SampleLoader:
    """Batches of samples that are fetched one by one, through torch's DataLoader."""

    def __init__(
        self, dataset: Any, rows: Rows, arguments: Mapping[str, Any], generator: torch.Generator
    ) -> None:
        self.samples = len(rows)
        size = arguments["batch_size"] or max(self.samples, 1)
        # the sampler refuses to shuffle an empty set
        shuffle = arguments["shuffle"] and self.samples > 0
        part: Subset[Any] = Subset(dataset, rows.tolist())
        self._loader: DataLoader[Any] = DataLoader(
            part, generator=generator, **{**arguments, "batch_size": size, "shuffle": shuffle}
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._loader)


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
