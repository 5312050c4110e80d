"""Tell open pages what has changed, by server-sent events.

Whatever the agent, a command or another page does ends in a file of the home. The kernel tells of each write (inotify), so nothing is asked
for in vain, and a change by any process shows at once. A burst of writes is told as one change.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from asyncinotify import Event, Inotify, Mask
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from node.gui.visit import Visit
from node.home import NodeHome

BURST_S: Final = 0.4
"""Writes within this time are told together."""
BREATH_S: Final = 15.0
"""After so long without a change a comment is sent: it shows whether the browser is still there, and its session too."""
MOST: Final = 32
"""Pages that may listen at once; the kernel lets one user watch from 128 places."""

_KINDS: Final = (
    Mask.MODIFY | Mask.MOVED_TO
)  # not opening, closing or making files: pages that look do that, too
_listening = 0


def live(visit: Visit) -> Response:
    """Return a stream of `agent`, `tasks`, `registry`, `audit` and `policy`, each when that has changed, and `ended` with the session."""
    return StreamingResponse(_events(visit), media_type="text/event-stream")


async def changes(home: NodeHome) -> AsyncIterator[frozenset[str]]:
    """Yield what has changed in a home, as it happens: nothing at first, when no change is missed any more, and after a while without one."""
    home.audit_path.mkdir(mode=0o700, exist_ok=True)
    with Inotify() as kernel:
        for folder in (home.path, home.audit_path):
            kernel.add_watch(folder, _KINDS)
        yield frozenset()
        while True:
            topics: set[str | None] = set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BREATH_S):
                    topics.add(_topic(home, await kernel.get()))
                async with asyncio.timeout(BURST_S):
                    while True:
                        topics.add(_topic(home, await kernel.get()))
            yield frozenset(topic for topic in topics if topic is not None)


async def _events(visit: Visit) -> AsyncIterator[str]:
    global _listening  # noqa: PLW0603 - the limit is one of the process: the kernel counts so
    if _listening >= MOST:
        return
    _listening += 1
    try:
        async for topics in changes(visit.home):
            if await run_in_threadpool(visit.site.sessions.find, visit.cookie, present=False) is None:
                yield "event: ended\ndata:\n\n"
                return
            yield "".join(f"event: {topic}\ndata:\n\n" for topic in sorted(topics)) or ":\n\n"
    finally:
        _listening -= 1


def _topic(home: NodeHome, event: Event) -> str | None:
    """Return what a write to a file is about; None if no page shows it."""
    path = event.path
    if path is None:
        return None
    if path.parent == home.audit_path:
        return "audit"
    return _topics(home).get(path.name)


def _topics(home: NodeHome) -> dict[str, str]:
    databases: dict[Path, str] = {home.journal_path: "tasks", home.registry_path: "registry"}
    logs = {f"{path.name}-wal": topic for path, topic in databases.items()}  # every commit goes there first
    return logs | {home.status_path.name: "agent", home.settings_path.name: "policy"}
