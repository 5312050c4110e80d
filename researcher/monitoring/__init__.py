"""Show from outside what an experiment does."""

from researcher.monitoring.events import (
    Event,
    NodeChanged,
    NodeProgress,
    Observer,
    RoundEnded,
    RoundOpened,
    RunEnded,
    RunStarted,
    StoppedEarly,
    TaskLost,
    UpdateArrived,
)
from researcher.monitoring.lines import LinesView
from researcher.monitoring.tensorboard import TensorBoard
from researcher.monitoring.terminal import TerminalView

__all__ = [
    "Event",
    "LinesView",
    "NodeChanged",
    "NodeProgress",
    "Observer",
    "RoundEnded",
    "RoundOpened",
    "RunEnded",
    "RunStarted",
    "StoppedEarly",
    "TaskLost",
    "TensorBoard",
    "TerminalView",
    "UpdateArrived",
]
