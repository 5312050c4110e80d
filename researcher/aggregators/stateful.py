"""Make the global model together with what must be remembered for the next round."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

import numpy as np

from common.messages import Correction
from common.payload.blocks import BlockFile, Doubles, blocks, from_doubles, to_doubles
from common.payload.encodings.writer import BlockWriter
from common.payload.header import BUFFERS, Content, TensorEntry
from researcher.aggregators.base import Contribution
from researcher.memory import settle

OWNER: Final = "aggregator"
"""Key of the metadata of a memory whose value is the name of the aggregator that it belongs to."""

_FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})

Told = Literal["steps", "lr_sum"]
"""What nodes must tell beside an update for some aggregators."""

Rule = Callable[[Doubles, list[Doubles], Doubles], tuple[Doubles, Doubles]]
"""Makes some numbers of the new model and of the new memory of: those of the model, weighted sums of their changes, those of the memory."""


@dataclass(frozen=True, slots=True)
class Recall:
    """What an aggregator needs beyond the updates of a round.

    Attributes:
        members: Nodes that take part in the experiment, asked in this round or not.
        before: File of what it remembered after the round before; None if there is none.
        after: Where to write what it must remember; on disk (fsync) afterwards.
    """

    members: int
    before: Path | None
    after: Path


class StatefulAggregator(ABC):
    """A pure function from updates and a memory to a model and the next memory: the same input gives the same bytes.

    A memory holds one tensor for each trainable parameter, of its name and shape: F64 where the parameter is, F32 otherwise. One that
    belongs to another aggregator counts as none; so does the memory of the experiment that one was branched from, as its nodes start afresh too.
    """

    requires: ClassVar[tuple[Told, ...]] = ()
    carries: ClassVar[bool] = False
    """Whether its memory goes to the nodes beside the model."""

    @abstractmethod
    def correction(self) -> Correction:
        """Return what nodes are to do beyond plain training."""

    @abstractmethod
    def aggregate(
        self, base: Content, contributions: Sequence[Contribution], target: Path, recall: Recall | None = None
    ) -> None:
        """Write the new global model and the new memory; see `Aggregator.aggregate`.

        Without a recall it is a first round in which every member took part, and nothing is remembered.
        """


def belongs(memory: Path | None, aggregator: object) -> bool:
    """Tell whether there is a memory and it is that of an aggregator."""
    if memory is None:
        return False
    with BlockFile(memory) as file:
        return file.index.metadata.get(OWNER) == type(aggregator).__name__


def fold(
    aggregator: object,
    base: Content,
    contributions: Sequence[Contribution],
    target: Path,
    *,
    shares: Sequence[float],
    weights: Sequence[Sequence[float]],
    rule: Rule,
    recall: Recall | None,
) -> None:
    """Write the model that a rule makes of sums of changes, and its memory; in float64, a block at a time, in node order.

    Args:
        aggregator: Whose memory it is.
        base: The global model that the round started from.
        contributions: The updates.
        target: Where to write the model.
        shares: Of each update in the mean that buffers and integers become.
        weights: Of each update, in each sum that the rule gets.
        rule: Makes the numbers of trainable parameters.
        recall: The memories; None if nothing is remembered.
    """
    with ExitStack() as stack:
        model = stack.enter_context(BlockFile(base))
        files = [stack.enter_context(one.open(base, model.layout)) for one in contributions]
        buffers = set(json.loads(model.index.metadata.get(BUFFERS, "[]")))
        kinds = {
            name: ("F64" if entry.dtype == "F64" else "F32", entry.shape)
            for name, entry in model.index.items()
            if entry.dtype in _FLOATS and name not in buffers
        }
        known = after = None
        if recall is not None:
            recall.after.parent.mkdir(mode=0o700, exist_ok=True)
            after = stack.enter_context(BlockWriter(recall.after, kinds, {OWNER: type(aggregator).__name__}))
            if recall.before is not None and belongs(recall.before, aggregator):
                known = stack.enter_context(BlockFile(recall.before))
        out = stack.enter_context(target.open("wb"))
        out.write(model.layout.header)

        def total(name: str, entry: TensorEntry, first: int, count: int, start: Doubles) -> list[Doubles]:
            changes = [to_doubles(file.read(name, first, count), entry.dtype) - start for file in files]
            return [
                sum((weight * change for weight, change in zip(row, changes, strict=True)), np.zeros(count))
                for row in weights
            ]

        for name, entry in model.index.items():
            for first, count in blocks(entry):
                if name not in kinds:
                    mean = np.zeros(count)
                    for share, file in zip(shares, files, strict=True):
                        mean += share * to_doubles(file.read(name, first, count), entry.dtype)
                    out.write(from_doubles(mean, entry.dtype).data)
                    continue
                start = to_doubles(model.read(name, first, count), entry.dtype)
                dtype = kinds[name][0]
                memory = to_doubles(known.read(name, first, count), dtype) if known else np.zeros(count)
                new, memory = rule(start, total(name, entry, first, count, start), memory)
                out.write(from_doubles(new, entry.dtype).data)
                if after is not None:
                    after.write(name, first, from_doubles(memory, dtype))
        if after is not None:
            after.finish()
    if recall is not None:
        settle(recall.after)
