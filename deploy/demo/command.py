"""Be the command `warren demo`."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import psutil
import typer
from rich.markup import escape

from common import logs
from common.cli import emit
from deploy.demo.interrupts import SIGNALS
from deploy.demo.run import Options, run_demo
from deploy.demo.screen import Screen
from deploy.demo.stages import BrokerKind
from deploy.demo.table import terminal_view

_SIGNALLED = 128
"""Added to the number of the signal that ended a program, as shells do."""


def demonstrate(out: Path, *, rounds: int, broker: BrokerKind, quiet: bool, as_json: bool) -> None:
    """Run the demo, show what comes of it, and say when a person stopped it."""
    if not logging.getLogger().isEnabledFor(logging.DEBUG):  # as `warren --verbose` wants it
        logs.configure(logging.ERROR)
    launched_at = psutil.Process().create_time()
    screen = Screen(launched_at, quiet=quiet or as_json)
    try:
        results, files = run_demo(Options(out, rounds, broker), screen, launched_at=launched_at)
    except KeyboardInterrupt as stop:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # all that is left is to end
        emit({"stopped": True}, "Stopped; nothing runs any more.", as_json=as_json)
        raise typer.Exit(_SIGNALLED + (stop.args[0] if stop.args else signal.SIGINT)) from stop
    emit(
        results.document() | {"files": [str(file) for file in files]},
        "",
        terminal_view(results),
        "",
        *(f"wrote [bold]{escape(str(file))}[/]" for file in files),
        as_json=as_json,
    )
