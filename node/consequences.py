"""Keep what a step of the agent leads to, sorted by how much of the step must be safe before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Deed = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Consequences:
    """What is done after the step that is being handled.

    Attributes:
        journalled: Done when the journal has the step. A power cut may undo the step and leave the deed: workers get and lose tasks.
        synced: Done when the step is on disk, to which it is brought at once: what others see, such as answers.
        settled: Done when the step is on disk, which may take a moment: acks, since the broker keeps what has none.
    """

    journalled: list[Deed] = field(default_factory=list)
    synced: list[Deed] = field(default_factory=list)
    settled: list[Deed] = field(default_factory=list)
