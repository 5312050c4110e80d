"""Order the training part of a data set, pass after pass, so that any process can take the order up anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from common.training_plans.seeding import derived_seed

__all__ = ["Passes"]


class Passes:
    """The order of each pass, a pure function of a seed and the number of the pass.

    Each iteration is the next pass; the first one after `begin` may lack what was passed over before. So a node that trains for a
    number of updates goes on where it stopped the round before, without a trace of that being kept: the passes form one stream
    of batches, the last and smaller one of each pass included unless it is dropped.

    If the batch size or the samples were others before, the place in the stream is that which as many batches of today lead to.

    Args:
        samples: Samples in one pass.
        size: Samples in one batch.
        shuffle: Whether each pass has an order of its own.
        drop_last: Whether a last batch that is smaller is left out.
    """

    def __init__(self, samples: int, size: int, *, shuffle: bool, drop_last: bool) -> None:
        self.batches = samples // size if drop_last else -(-samples // size)
        self.generator = torch.Generator()
        """Seeds what fetches samples in processes of its own."""
        self._samples = samples
        self._size = size
        self._shuffle = shuffle
        self._kept = self.batches * size if drop_last else samples
        self.begin(0)

    def begin(self, seed: int, batches: int = 0) -> None:
        """Go to a place in the stream of a seed.

        Args:
            seed: Another seed gives another stream.
            batches: How many batches of it lie before.
        """
        self._seed = seed
        self._pass, first = divmod(batches, max(1, self.batches))
        self._skip = first * self._size
        self.generator.manual_seed(derived_seed("fetching", seed, batches))

    def take(self) -> Tensor:
        """Return the positions of the next pass, int64, and count it as taken."""
        rows = self._order()[self._skip : self._kept]
        self._pass, self._skip = self._pass + 1, 0
        return rows

    def __iter__(self) -> Iterator[int]:
        return iter(self.take().tolist())

    def __len__(self) -> int:
        return self._kept

    def _order(self) -> Tensor:
        if not self._shuffle:
            return torch.arange(self._samples)
        generator = torch.Generator()
        generator.manual_seed(derived_seed("pass", self._seed, self._pass))
        return torch.randperm(self._samples, generator=generator)
