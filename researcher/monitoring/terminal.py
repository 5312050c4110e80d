"""SKELETON."""

from __future__ import annotations

from researcher.monitoring.events import Event


class TerminalView:
    """Show progress."""

    def on_event(self, event: Event) -> None:
        """Take note of an event."""
