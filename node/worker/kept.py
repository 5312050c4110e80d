"""Keep at the node what one task leaves for those that build on it: tensors in sections, in one file that never leaves.

A task reads the file of the task before it and writes another, so that one that is repeated after a crash starts from the same state and
gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from common.payload.header import Content
from common.payload.tensors import open_tensors, write_tensors
from node.worker.protocol import HANDED_BYTES

Section = Literal["residual", "scaffold", "feddyn", "plan", "ditto", "optimizer"]
"""What an encoding left out, the control variate of SCAFFOLD, the gradient of FedDyn, persistent tensors of the plan, a personal model,
what the optimizer remembers."""


class Kept:
    """What was kept of an earlier task.

    Args:
        content: Its file; None if there is none, which is as good as an empty one.
    """

    def __init__(self, content: Content | None) -> None:
        self._content = content

    def section(self, section: Section) -> dict[str, Tensor]:
        """Return the tensors of a section by name; they are read from the file when they are used.

        Raises:
            InvalidTensorsError: If the file is damaged.
        """
        if self._content is None:
            return {}
        with open_tensors(self._content) as file:
            prefix = f"{section}/"
            return {name.removeprefix(prefix): file[name] for name in file if name.startswith(prefix)}


def keep(path: str, sections: Mapping[Section, Mapping[str, Tensor]]) -> Content | None:
    """Return what is to be kept, written to this path if it is large; none if there is nothing.

    Raises:
        InvalidTensorsError: If a tensor cannot be written.
        DiskFullError: If there is no space.
    """
    tensors = {f"{section}/{name}": value for section, own in sections.items() for name, value in own.items()}
    return write_tensors(path, tensors, few_bytes=HANDED_BYTES) if tensors else None
