"""Step the global model by an optimizer of the researcher: adaptive federated optimization (Reddi et al., ICLR 2021, algorithm 2).

What the optimizer remembers lies in a file for each round beside the ledger, so that a round can be made again, with the same bytes,
after a crash and at any later time.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np

from common.optimizers import Optimizer
from common.payload.blocks import BlockFile, blocks, from_doubles, to_doubles
from common.payload.encodings.writer import BlockWriter
from common.payload.header import Content
from researcher.memory import settle

_STEP: Final = "step"
_MODULES: Final = "modules"
_FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})


def server_step(
    optimizer: Optimizer, base: Content, proposal: Path, state: Path | None, target: Path, next_state: Path
) -> None:
    """Write the model that an optimizer makes of what an aggregator proposes, and what the optimizer must remember.

    The gradient is base minus proposal. Buffers, BatchNorm's running statistics for instance, and integers are no parameters: they are
    taken from the proposal as they are. Everything is computed in float64 and in a few blocks of memory; the same files give the same bytes.

    Args:
        optimizer: How to step.
        base: The global model that the round started from.
        proposal: What the aggregator made of the updates; names, shapes and dtypes are those of the base.
        state: What was remembered after the round before; None before the first step. That of other modules counts as none.
        target: Where to write the new model.
        next_state: Where to write what is to be remembered, float64; its folder is made if need be, and it is on disk afterwards.

    Raises:
        InvalidTensorsError: If the state is not that of this model.
        DiskFullError: If there is no space.
    """
    next_state.parent.mkdir(mode=0o700, exist_ok=True)
    with ExitStack() as stack:
        model, proposed = stack.enter_context(BlockFile(base)), stack.enter_context(BlockFile(proposal))
        modules = json.dumps([type(module).__name__ for module in optimizer.modules])
        known = None if state is None else stack.enter_context(BlockFile(state))
        if known is not None and known.index.metadata.get(_MODULES) != modules:
            known = None
        number = 1 + (int(known.index.metadata[_STEP]) if known else 0)
        buffers = model.index.buffers
        stepped = [
            name for name, entry in model.index.items() if entry.dtype in _FLOATS and name not in buffers
        ]
        kinds = {
            f"{memory}/{name}": ("F64", model.index[name].shape)
            for name in stepped
            for memory in optimizer.memory
        }
        memories = stack.enter_context(
            BlockWriter(next_state, kinds, {_STEP: str(number), _MODULES: modules})
        )
        out = stack.enter_context(target.open("wb"))
        out.write(model.layout.header)
        for name, entry in model.index.items():
            for first, count in blocks(entry):
                block = proposed.read(name, first, count)
                if name in stepped:
                    now = to_doubles(model.read(name, first, count), entry.dtype)
                    own = {
                        memory: np.full(count, start)
                        if known is None
                        else known.read(f"{memory}/{name}", first, count)
                        for memory, start in optimizer.memory.items()
                    }
                    gradient = now - to_doubles(block, entry.dtype)
                    block = from_doubles(optimizer.stepped(now, gradient, now, own, number), entry.dtype)
                    for memory, values in own.items():
                        memories.write(f"{memory}/{name}", first, values)
                out.write(block.data)
        memories.finish()
    settle(next_state)
