"""Define what every data set offers: a plan describes it, the node binds it to a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from common.messages import ColumnMoments

Rows = NDArray[np.int64]
"""Positions of samples in a data set, ascending."""


class Dataset(ABC):
    """A data set without its path: made in the plan, bound to the file of the node that runs it.

    Values are numpy; the loader turns them into what the plan's framework takes. Samples have ids that stay the same as long as
    the file does, whatever the plan drops.
    """

    data_types: ClassVar[frozenset[str]] = frozenset()
    """The families of registered data sets that it reads; none if it takes any."""

    @abstractmethod
    def bind(self, path: Path, parameters: Mapping[str, JsonValue]) -> None:
        """Read the file of this node.

        Args:
            path: The registered file or folder.
            parameters: What was registered with it.

        Raises:
            DataError: If the file is gone, cannot be read, or does not have what the plan asks for.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples."""

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return one sample: its input and its target, transformed."""

    @abstractmethod
    def sample_ids(self) -> NDArray[np.int64]:
        """Return the id of each sample, by which it goes to the training or the test part."""

    @property
    def lasting_ids(self) -> bool:
        """Tell whether ids stay with their samples when the file changes; several samples may then have one id."""
        return False

    def subjects(self) -> NDArray[np.int64] | None:
        """Return whose each sample is, as `stable_ids` makes it of names; none if nothing says so."""
        return self.sample_ids() if self.lasting_ids else None

    def test_rows(self) -> Rows | None:
        """Return the samples that the file itself marks for testing; none if it marks nothing."""
        return None

    def fit(self, train: Rows) -> None:  # noqa: B027 - most sets have nothing to learn
        """Learn means and the like from the training part alone, anew at each call."""

    def moments(self, train: Rows) -> tuple[ColumnMoments, ...]:  # noqa: ARG002 - most sets have nothing to learn
        """Return the moments of the columns that are to be filled or standardised with them, of the training part alone."""
        return ()

    def fit_with(self, train: Rows, moments: Mapping[str, ColumnMoments]) -> None:  # noqa: ARG002 - most sets use none
        """Learn as `fit` does, but take the moments of columns from those of the whole federation, by name."""
        self.fit(train)

    def fit_as(self, other: Dataset) -> None:  # noqa: B027 - most sets have nothing to learn
        """Take over what another set of the same plan learned, before this one is only validated on."""

    def arrays(self) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Return all inputs and targets if they are in memory and no sample needs a call of its own; else none."""
        return None
