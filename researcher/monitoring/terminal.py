"""Show in a terminal, a notebook or a log file how an experiment goes."""

from __future__ import annotations

import datetime
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from common.ids import PartyId
from common.text import visible_lines
from researcher.history import Kind, RoundRecord, mean_loss
from researcher.monitoring.events import (
    Event,
    NodeChanged,
    NodeProgress,
    RoundEnded,
    RoundOpened,
    RunEnded,
    RunStarted,
    StoppedEarly,
    TaskLost,
    UpdateArrived,
)
from researcher.page import Sheet
from researcher.round import RoundState

_REDRAW_S: Final = 0.1
"""Shortest time between two redraws; rounds may be much shorter."""

_NOTES: Final = 20
"""So many of the last lines stand below the table in a notebook."""

_SPARKS: Final = 30
"""So many of the last losses are drawn."""

_BAR: Final = 16
"""Width of the bar, in characters."""

_COLOURS: Final = {
    "accepted": "green",
    "late": "yellow",
    "asked again": "yellow",
    "failed": "red",
    "refused": "red",
    "quarantined": "red",
}

_DOING: Final = {"validate": "validating", "measure": "taking moments of columns"}
_DONE: Final = {"validate": "validation", "measure": "moments of columns"}
"""What rounds of other kinds than training are called while they last, and afterwards."""
_BLOCKS: Final = "▁▂▃▄▅▆▇█"


@dataclass(slots=True)
class _Node:
    state: str = "waiting"
    loss: float | None = None
    samples: int = 0
    answered_s: float | None = None


@dataclass(slots=True)
class _Picture:
    """What is on the screen."""

    name: str = ""
    round: int = 0
    before: int = 0
    """Rounds that were finished when the run began."""
    last: int = 0
    kind: Kind = "train"
    nodes: dict[PartyId, _Node] = field(default_factory=dict)
    closed: int = 0
    total_s: float = 0.0
    samples: int = 0
    loss: float | None = None
    losses: list[float] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Rounds of the run that are closed, also those before somebody looked on."""
        return max(self.closed, self.round - self.before - 1)


class TerminalView:
    """A live table in a terminal and in the output of a notebook's cell, one line for each round elsewhere.

    An instance follows one experiment at a time.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        """Make a view.

        Args:
            console: Where to write; standard output if not given.
            quiet: Show only what went wrong, and the end.
        """
        self._console = console or Console(highlight=False)
        self._quiet = quiet
        self._picture = _Picture()
        self._live: Live | Sheet | None = None
        self._notes: deque[str] = deque(maxlen=_NOTES)
        self._drawn_at = 0.0

    def on_event(self, event: Event) -> None:
        """Take note of an event, and show it."""
        match event:
            case RunStarted():
                self._started(event)
            case RoundOpened(round=number, kind=kind, nodes=nodes, resumed=resumed):
                self._picture.round, self._picture.kind = number, kind
                for node in nodes:
                    known = self._picture.nodes.setdefault(node, _Node())
                    known.state = "asked"
                if resumed:
                    self._say(f"going on inside round {number}")
            case NodeProgress(node=node, state=state, losses=losses):
                shown = self._picture.nodes.setdefault(node, _Node())
                shown.state = state.value
                shown.loss = losses[-1].loss if losses else shown.loss
            case UpdateArrived(record=record):
                self._picture.nodes[record.node] = _Node(
                    record.outcome, record.loss, record.samples_seen, record.answered_s
                )
                if record.reason:
                    self._warn(f"{record.node}: update {record.outcome}, {record.reason}")
            case TaskLost(node=node, reason=reason, retried=retried):
                self._picture.nodes.setdefault(node, _Node()).state = "asked again" if retried else "failed"
                self._warn(f"{node}: {reason}" + (", asked again" if retried else ""))
            case NodeChanged(node=node, online=online):
                if node in self._picture.nodes:
                    self._warn(f"{node} is {'online' if online else 'offline'}")
            case RoundEnded(record=record):
                self._round_ended(record)
            case StoppedEarly(reason=reason):
                self._say(reason)
            case RunEnded():
                self._ended(event)
        self._draw()

    def _started(self, event: RunStarted) -> None:
        nodes = {node: _Node() for node in event.nodes}
        self._picture = _Picture(event.name, event.first, event.first - 1, event.last, nodes=nodes)
        self._notes.clear()
        if self._console.is_jupyter and not self._quiet:
            self._live = Sheet()
            self._live.start()
        self._say(f"{event.name}: rounds {event.first} to {event.last} at {', '.join(event.nodes)}")
        if self._console.is_terminal and not self._console.is_jupyter and not self._quiet:
            self._live = Live(self._render(), console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def _round_ended(self, record: RoundRecord) -> None:
        self._picture.closed += record.state is RoundState.CLOSED and record.kind == "train"
        self._picture.total_s += record.duration_s or 0.0
        if record.kind == "train":
            self._picture.loss = mean_loss(record)
            self._picture.samples += sum(node.samples_seen for node in record.nodes.values())
        if self._picture.loss is not None:
            self._picture.losses = [*self._picture.losses, self._picture.loss][-_SPARKS:]
        if self._live is None or record.state is not RoundState.CLOSED:
            self._say(_line(record, self._picture.last))

    def _ended(self, event: RunEnded) -> None:
        if isinstance(self._live, Live):
            self._live.stop()
            self._live = None
        loss = "" if self._picture.loss is None else f", loss {self._picture.loss:.4f}"
        rounds = "1 round" if event.rounds == 1 else f"{event.rounds} rounds"
        text = f"{self._picture.name}: {rounds} in {event.total_s:.2f} s{loss}"
        self._warn(f"{text}; {event.error}") if event.error else self._say(text)
        if self._live is not None:
            self._live.update(self._render(running=False), refresh=True)
            self._live = None

    def _draw(self) -> None:
        now = time.monotonic()
        if self._live is not None and now - self._drawn_at >= _REDRAW_S:
            self._drawn_at = now
            self._live.update(self._render(), refresh=True)

    def _render(self, *, running: bool = True) -> Group:
        picture = self._picture
        what = _DOING.get(picture.kind, f"round {picture.round} of {picture.last}")
        answers = sum(shown.state == "accepted" for shown in picture.nodes.values())
        head = Table.grid(padding=(0, 1))
        head.add_row(
            f"[bold]{escape(picture.name)}[/] · {what} · {answers} of {len(picture.nodes)} nodes",
            ProgressBar(total=max(1, picture.last - picture.before), completed=picture.done, width=_BAR),
            self._left() if running else "",
        )
        rows = Table(box=None, pad_edge=False)
        for column in ("node", "state", "loss", "samples", "answered after"):
            rows.add_column(column, justify="left" if column in ("node", "state") else "right")
        for node, shown in sorted(picture.nodes.items()):
            rows.add_row(
                escape(node),
                f"[{_COLOURS.get(shown.state, 'default')}]{shown.state}[/]",
                "" if shown.loss is None else f"{shown.loss:.4f}",
                str(shown.samples or ""),
                "" if shown.answered_s is None else f"{shown.answered_s:.3f} s",
            )
        return Group(head, *self._pace(), rows, *self._notes)

    def _left(self) -> str:
        """Return how long the rest will take, if it goes on as before."""
        picture = self._picture
        if not picture.closed or picture.kind != "train":
            return ""
        each_s = picture.total_s / picture.closed
        return f"{datetime.timedelta(seconds=round(each_s * (picture.last - picture.round + 1)))} left"

    def _pace(self) -> list[str]:
        """Return a line on how fast it goes and where the loss stands, once there is something to tell."""
        picture = self._picture
        parts = []
        if picture.closed and picture.total_s:
            parts.append(f"{picture.total_s / picture.closed:.3f} s a round")
            parts.append(f"{picture.samples / picture.total_s:.0f} samples/s")
        if picture.loss is not None:
            parts.append(f"loss {picture.loss:.4f} {spark(picture.losses)}")
        return [" · ".join(parts)] if parts else []

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._tell(escape(visible_lines(text)))

    def _warn(self, text: str) -> None:
        self._tell(f"[yellow]{escape(visible_lines(text))}[/]")

    def _tell(self, line: str) -> None:
        if isinstance(self._live, Sheet):
            self._notes.append(line)
        else:
            self._console.print(line, soft_wrap=True)


def spark(values: Sequence[float]) -> str:
    """Return one block for each value, as high as it stands between the least and the greatest."""
    least, range_ = min(values), max(values) - min(values)
    levels = [int((value - least) / range_ * (len(_BLOCKS) - 1)) if range_ else 0 for value in values]
    return "".join(_BLOCKS[level] for level in levels)


def _line(record: RoundRecord, last: int) -> str:
    """Return one line about a round."""
    answers = sum(node.outcome == "accepted" for node in record.nodes.values())
    parts = [
        _DONE.get(record.kind, f"round {record.round}/{last}"),
        record.state.value,
        f"{answers} of {len(record.nodes)} nodes",
    ]
    loss = mean_loss(record)
    if loss is not None:
        parts.append(f"loss {loss:.4f}")
    if record.duration_s is not None:
        parts.append(f"{record.duration_s:.3f} s")
    each = [f"{node.node} {node.loss:.4f}" for node in record.nodes.values() if node.loss is not None]
    if each:
        parts.append(", ".join(each))
    if record.reason:
        parts.append(record.reason)
    return " | ".join(parts)
