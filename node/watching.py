"""Hear from the kernel when files are touched."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from common.ids import DatasetId

log = logging.getLogger(__name__)

_KINDS: Final[list[type[FileSystemEvent]]] = [
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]
"""All but those that reading causes."""


class FileWatch(FileSystemEventHandler):
    """Watches the files of data sets; says once that a set was touched, until that was heard. Thread-safe."""

    def __init__(self, tell: Callable[[DatasetId], None]) -> None:
        """Watch nothing yet; `tell` is called on another thread."""
        self._tell = tell
        self._lock = threading.Lock()
        self._paths: dict[DatasetId, Path] = {}
        self._told: set[DatasetId] = set()
        self._observer = Observer()
        self._observer.start()

    def watch(self, paths: Mapping[DatasetId, Path]) -> None:
        """Watch these files and folders, and no others. What happened to them just before may not be told."""
        with self._lock:
            self._paths, self._told = dict(paths), set()
        self._observer.unschedule_all()
        for dataset_id, path in paths.items():
            try:
                self._observer.schedule(self, str(path.parent), event_filter=_KINDS)  # it may be replaced
                if path.is_dir():
                    self._observer.schedule(self, str(path), recursive=True, event_filter=_KINDS)
            except OSError as error:  # it is gone, or the kernel watches no more folders
                facts = {"action": "not_watched", "dataset": dataset_id, "error": error.strerror}
                log.warning("data set cannot be watched", extra=facts)

    def heard(self, dataset_id: DatasetId) -> None:
        """Take note that a touch was heard of: the next one is told again."""
        with self._lock:
            self._told.discard(dataset_id)

    def dispatch(self, event: FileSystemEvent) -> None:
        """Take an event from the observer."""
        places = [Path(str(place)) for place in (event.src_path, event.dest_path) if place]
        with self._lock:
            touched = [
                dataset_id
                for dataset_id, path in self._paths.items()
                if dataset_id not in self._told and any(place.is_relative_to(path) for place in places)
            ]
            self._told.update(touched)
        for dataset_id in touched:
            self._tell(dataset_id)

    def close(self) -> None:
        """Stop watching; idempotent."""
        self._observer.stop()
        self._observer.join()
