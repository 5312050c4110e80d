"""Hand over to the agent which tasks people of the node want to be stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.ids import TaskId
from common.sqlite import transaction
from node.database import open_registry


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Somebody at the node wants a task to be stopped."""

    task_id: TaskId


class StopWishes:
    """The wishes that the agent has not fulfilled yet, in the same file as data sets and plans.

    Several processes may use the file at once. One thread at a time may use an instance.
    """

    def __init__(self, path: Path) -> None:
        """Open the registry database, making it if there is none.

        Raises:
            StorageError: If the file cannot be used; see `common.sqlite.open_database`.
        """
        self._db = open_registry(path)

    def ask(self, task_id: TaskId, *, witness: Callable[[], None]) -> None:
        """Wish that a task be stopped; asking again changes nothing. Nothing is wished if the witness raises."""
        with transaction(self._db):
            self._db.execute("INSERT OR IGNORE INTO stop_wish VALUES (?)", (task_id,))
            witness()

    def open(self) -> tuple[TaskId, ...]:
        """Return the tasks that are to be stopped."""
        return tuple(TaskId(row["task_id"]) for row in self._db.execute("SELECT task_id FROM stop_wish"))

    def fulfil(self, task_id: TaskId) -> None:
        """Forget a wish."""
        with transaction(self._db):
            self._db.execute("DELETE FROM stop_wish WHERE task_id = ?", (task_id,))

    def close(self) -> None:
        """Close the database; idempotent."""
        self._db.close()
