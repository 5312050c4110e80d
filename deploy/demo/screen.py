"""Show a person what the demo does while it does it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from researcher.monitoring import Observer


class Screen:
    """Prints steps with the seconds since the launch, and shows training live."""

    def __init__(self, launched_at: float, *, quiet: bool) -> None:
        """Show everything, or with `quiet` only what a person has to know.

        Args:
            launched_at: Unix time of the launch.
            quiet: Whether to leave out steps and live view.
        """
        self._launched_at = launched_at
        self._quiet = quiet
        self._console = Console(highlight=False, stderr=quiet)

    def step(self, text: str) -> None:
        """Say that something was done."""
        if not self._quiet:
            elapsed_s = time.time() - self._launched_at
            self._console.print(f"[dim]{elapsed_s:6.1f} s[/]  {escape(text)}", soft_wrap=True)

    def say(self, text: str) -> None:
        """Say what a person has to know in any case."""
        self._console.print(escape(text), soft_wrap=True)

    def observers(self) -> Sequence[Observer]:
        """Return who shows the rounds."""
        from researcher.monitoring import TerminalView

        return () if self._quiet else (TerminalView(),)
