"""Define what an aggregator gets and promises."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from common.ids import PartyId
from common.payload.blocks import Array, BlockFile, Layout, from_doubles, to_doubles
from common.payload.encodings.decoder import DecodedFile
from common.payload.header import Content


class RebasedFile:
    """What an update changed, scaled and put upon another model; read like any file of tensors.

    Buffers are no changes to be added up, and a variance that is moved so may become negative: they are mixed with those of the other
    model instead, `(1 - scale) base + scale update`.

    Args:
        update: The trained model; closed with this.
        start: The model that training started from.
        base: The model to put the change upon.
        scale: By what the change is multiplied.
    """

    def __init__(self, update: BlockFile | DecodedFile, start: Content, base: Content, scale: float) -> None:
        with ExitStack() as stack:
            stack.callback(update.__exit__, None, None, None)
            self._update = update
            self._start = stack.enter_context(BlockFile(start))
            self._base = stack.enter_context(BlockFile(base))
            self._stack = stack.pop_all()
        self._scale = scale
        self.index = self._base.index
        self._buffers = self.index.buffers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def read(self, name: str, first: int, count: int) -> Array:
        """Return `count` elements of a tensor from element `first` on."""
        dtype = self.index[name].dtype
        origin = self._base if name in self._buffers else self._start
        update, start, base = (
            to_doubles(file.read(name, first, count), dtype) for file in (self._update, origin, self._base)
        )
        return from_doubles(base + self._scale * (update - start), dtype)


@dataclass(frozen=True, slots=True)
class Contribution:
    """One update that passed the gate: read with `open`, it has the names, shapes and dtypes of the base, and finite numbers.

    Attributes:
        node: Whose it is.
        content: Its safetensors, perhaps encoded: a file, or its bytes.
        samples_seen: Samples that took part in optimisation steps, counted each time; at least 1.
        samples_train: Samples in the training part of the data set.
        encoded: Whether the file holds changes of the model that training started from, in some encoding.
        start: That model, if it is an older one than the base.
        scale: By what the changes are to be scaled.
        steps: Optimisation steps; at least 1 if the aggregator requires them.
        lr_sum: Sum of the learning rates of these steps; greater than 0 if the aggregator requires it.
    """

    node: PartyId
    content: Content
    samples_seen: int
    samples_train: int
    encoded: bool = False
    start: Content | None = None
    scale: float = 1.0
    steps: int = 0
    lr_sum: float | None = None

    def open(
        self, base: Content, layout: Layout
    ) -> AbstractContextManager[BlockFile | DecodedFile | RebasedFile]:
        """Open the update for reading block by block, as if it had never been encoded and had started from the base.

        Args:
            base: The global model that the round started from.
            layout: Where the tensors of that model lie.
        """
        start = base if self.start is None else self.start
        update = DecodedFile(self.content, start) if self.encoded else BlockFile(self.content, layout)
        return update if self.start is None else RebasedFile(update, start, base, self.scale)


class Aggregator(Protocol):
    """A pure function from tensors to a file of tensors: the same input gives the same bytes."""

    def aggregate(self, base: Content, contributions: Sequence[Contribution], target: Path) -> None:
        """Write the new global model.

        Args:
            base: The global model that the round started from: a file, or its bytes; `BlockFile` reads both.
            contributions: At least one, in node order, whatever the order of arrival.
            target: Where to write; names, shapes and dtypes are those of the base.
        """
        ...
