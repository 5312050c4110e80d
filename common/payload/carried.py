"""Carry tensors of an algorithm to the nodes beside a model, in one payload.

Their names begin with `warren.carried/`, so that no model's tensor can be taken for one. They are never encoded: what is exact at the
researcher is exact at the nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from common.payload.blocks import BlockFile, blocks
from common.payload.encodings.writer import BlockWriter
from common.payload.header import Content

PREFIX: Final = "warren.carried/"


def is_carried(name: str) -> bool:
    """Tell whether a tensor of a payload is no part of the model."""
    return name.startswith(PREFIX)


def combine(model: Content, carried: Path, target: Path) -> None:
    """Write a file with the tensors of a model, encoded or not, and others beside them; the metadata are the model's.

    Args:
        model: A safetensors file, or its bytes; stays.
        carried: Another, whose tensors get the prefix; stays.
        target: Where to write; the file appears whole or not at all.

    Raises:
        InvalidTensorsError: If a file is not valid safetensors, or there are too many tensors.
        DiskFullError: If there is no space.
    """
    with ExitStack() as stack:
        files = {
            "": stack.enter_context(BlockFile(model)),
            PREFIX: stack.enter_context(BlockFile(carried)),
        }
        sources = {prefix + name: (file, name) for prefix, file in files.items() for name in file.index}
        _write(stack, sources, files[""].index.metadata, target)


def model_alone(payload: Content, target: Path) -> Path:
    """Write a file with the model in a payload and nothing else, and return it.

    Raises:
        InvalidTensorsError: If the payload is not valid safetensors.
        DiskFullError: If there is no space.
    """
    with ExitStack() as stack:
        file = stack.enter_context(BlockFile(payload))
        sources = {name: (file, name) for name in file.index if not is_carried(name)}
        _write(stack, sources, file.index.metadata, target)
    return target


def _write(
    stack: ExitStack,
    sources: dict[str, tuple[BlockFile, str]],
    metadata: Mapping[str, str],
    target: Path,
) -> None:
    kinds = {}
    for name, (file, own) in sources.items():
        entry = file.index[own]
        kinds[name] = (entry.dtype, entry.shape)
    out = stack.enter_context(BlockWriter(target, kinds, metadata))
    for name, (file, own) in sources.items():
        for first, count in blocks(file.index[own]):
            out.write(name, first, file.read(own, first, count))
    out.finish()
