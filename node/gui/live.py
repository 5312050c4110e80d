"""Tell open pages what has changed, by server-sent events.

Whatever the agent, a command or another page does ends in a file of the home. The kernel tells of each write (inotify), so nothing is asked
for in vain, and a change by any process shows at once. A burst of writes is told as one change.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from watchdog.events import FileModifiedEvent, FileMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from node.gui.visit import Visit
from node.home import NodeHome

TOPICS: Final = frozenset({"agent", "tasks", "registry", "audit", "policy"})
"""What can change."""
BURST_S: Final = 0.4
"""Writes within this time are told together."""
BREATH_S: Final = 15.0
"""After so long without a change a comment is sent: it shows whether the browser is still there, and its session too."""
MOST: Final = 32
"""Pages that may listen at once; the kernel lets one user watch from 128 places."""

_KINDS: Final[list[type[FileSystemEvent]]] = [FileModifiedEvent, FileMovedEvent]
"""Not opening, closing or making files: pages that only look do that, too."""

_ENDING: Final = "ending"
_listeners: Final[set[asyncio.Queue[str]]] = set()
"""One for each open stream; touched by the thread of the server only."""


def live(visit: Visit) -> Response:
    """Return a stream of topics: all at first, then each when it has changed; and `ended` with the session."""
    return StreamingResponse(_events(visit), media_type="text/event-stream")


async def changes(home: NodeHome) -> AsyncGenerator[frozenset[str], None]:
    """Yield what has changed in a home, as it happens: nothing at first, when no change is missed any more, and after a while without one."""
    loop, heard = asyncio.get_running_loop(), asyncio.Queue[str]()
    _listeners.add(heard)
    home.audit_path.mkdir(mode=0o700, exist_ok=True)
    observer, ears = Observer(), _Ears(home, lambda topic: loop.call_soon_threadsafe(heard.put_nowait, topic))
    for folder in (home.path, home.audit_path):
        observer.schedule(ears, str(folder), event_filter=_KINDS)
    observer.start()
    try:
        yield frozenset()
        while True:
            topics: set[str] = set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BREATH_S):
                    topics.add(await heard.get())
                async with asyncio.timeout(BURST_S):
                    while True:
                        topics.add(await heard.get())
            if _ENDING in topics:
                return
            yield frozenset(topics)
    finally:
        _listeners.discard(heard)
        observer.stop()  # its threads end by themselves


def end_streams() -> None:
    """End all streams, for the server ends; on its thread."""
    for heard in _listeners:
        heard.put_nowait(_ENDING)


class _Ears(FileSystemEventHandler):
    """Tells the topic of each write that a page shows something of; on a thread of the observer."""

    def __init__(self, home: NodeHome, tell: Callable[[str], object]) -> None:
        self._audit = home.audit_path
        self._tell = tell
        # every commit goes to the log of its database first
        self._topics = {
            f"{home.journal_path.name}-wal": "tasks",
            f"{home.registry_path.name}-wal": "registry",
            home.status_path.name: "agent",
            home.settings_path.name: "policy",
        }

    def dispatch(self, event: FileSystemEvent) -> None:
        """Take an event from the observer."""
        path = Path(str(event.dest_path or event.src_path))
        topic = "audit" if path.parent == self._audit else self._topics.get(path.name)
        if topic is not None:
            self._tell(topic)


async def _events(visit: Visit) -> AsyncIterator[str]:
    if len(_listeners) >= MOST:
        return
    told = TOPICS  # at first all of them: something may have changed since the page was made, or since the stream broke off
    async with contextlib.aclosing(changes(visit.home)) as changing:
        async for topics in changing:
            if await run_in_threadpool(visit.site.sessions.find, visit.cookie, present=False) is None:
                yield "event: ended\ndata:\n\n"
                return
            yield "".join(f"event: {topic}\ndata:\n\n" for topic in sorted(told | topics)) or ":\n\n"
            told = frozenset()
