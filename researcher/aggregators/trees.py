"""Put the trees that nodes grew in a round into one ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from common.errors import InvalidSettingsError, NotSolvableError
from common.payload.blocks import Array, BlockFile, from_doubles
from common.payload.header import Content
from researcher.aggregators.base import Contribution

_COUNT: Final = "trees"
_VALUE: Final = "value"


@dataclass(frozen=True, slots=True)
class TreeEnsemble:
    """Append the trees of all nodes in node order, the values of each weighted by its share of the training samples.

    The sum of the new trees is then the mean of what the nodes would have added (bagging, Breiman, Machine Learning 1996); a node alone in its round
    has the whole weight, which makes boosting go from node to node. The tensors are those of `common.training_plans.trees`.
    """

    def aggregate(self, base: Content, contributions: Sequence[Contribution], target: Path) -> None:
        """Write the longer ensemble; see `Aggregator.aggregate`. Memory is that of two models, whatever the number of nodes.

        Raises:
            NotSolvableError: If the model is not made of trees.
            InvalidSettingsError: If it has no room for all of the new ones.
        """
        with BlockFile(base) as model:
            if _COUNT not in model.index or _VALUE not in model.index:
                raise NotSolvableError(reason="the model is not made of trees")
            after = {name: _whole(model, name).copy() for name in model.index}
            room = model.index[_VALUE].shape[0]
            first = used = int(after[_COUNT][0])
            samples = sum(one.samples_train for one in contributions)
            for one in contributions:
                with one.open(base, model.layout) as file:
                    new = slice(first, min(max(int(file.read(_COUNT, 0, 1)[0]), first), room))
                    place = slice(used, used + new.stop - new.start)
                    if place.stop > room:
                        problem = f"  max_trees: {room} is too few for the trees of this round"
                        raise InvalidSettingsError(source="model_args", problems=problem)
                    for name in after.keys() - {_COUNT}:
                        entry = model.index[name]
                        rows = file.read(name, 0, entry.elements).reshape(entry.shape)[new]
                        if name == _VALUE:
                            rows = from_doubles(
                                rows.astype(np.float64) * (one.samples_train / samples), entry.dtype
                            )
                        after[name].reshape(entry.shape)[place] = rows
                used = place.stop
            after[_COUNT][0] = used
            with target.open("wb") as out:
                out.write(model.layout.header)
                for name in model.index:
                    out.write(np.ascontiguousarray(after[name]).data)


def _whole(model: BlockFile, name: str) -> Array:
    return model.read(name, 0, model.index[name].elements)
