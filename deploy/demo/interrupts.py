"""Let a person stop a program that has started others, without leaving any of them behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final, Self

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Turns the first SIGINT, SIGTERM or SIGHUP into a KeyboardInterrupt, at moments when nothing can be lost by it.

    It is raised inside `allowed` and outside `held`, and carries the number of the signal; a signal that comes at another
    moment is raised as soon as it may be. Later signals change nothing: whoever cleans up is not disturbed. For the main
    thread only. On exit the earlier handlers return.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._allowed = False
        self._raised = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Let signals interrupt the block."""
        try:
            self._allow()
            yield
        finally:
            self._allowed = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let signals wait until the end of the block; use within `allowed`."""
        self._allowed = False
        try:
            yield
        finally:
            self._allow()

    def _allow(self) -> None:
        for number in SIGNALS:
            # `import polars` puts a handler with SA_RESTART before Python's: a main thread that waits would not wake up
            signal.siginterrupt(number, True)
        self._allowed = True
        self._raise_if_due()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._received = self._received or number
        self._raise_if_due()

    def _raise_if_due(self) -> None:
        if self._received is not None and self._allowed and not self._raised:
            self._raised = True
            raise KeyboardInterrupt(self._received)
