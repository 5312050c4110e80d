"""Keep what people have typed about data sets that they are about to register, step by step, until they are done."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from pydantic import Field, JsonValue

from common.clock import Clock
from common.settings import Settings
from node.gui.database import Store
from node.gui.errands import Typed

LIFE_S: Final = 14 * 86400.0
"""A draft is forgotten after this long without a change."""
MOST: Final = 20
"""Drafts of one person; the oldest is forgotten for another."""


class Draft(Settings):
    """A data set on its way.

    Attributes:
        draft_id: Its id.
        person_id: Whose it is.
        path: The file or folder; where it really is.
        detected: The family that it looks like; empty if that is not clear.
        data_type: The family that the person says it is.
        loading: Name of a data-loading plan whose options are taken; empty if none.
        typed: What was typed for each option.
        options: What that means.
        checked: Key of the errand that reads all of it.
        name: As the registry has it.
        tags: Separated by commas.
        description: As the registry has it.
        watched: Whether the agent is to look out for changes.
    """

    draft_id: str
    person_id: int
    path: Path
    detected: str = ""
    data_type: str = ""
    loading: str = ""
    typed: dict[str, Typed] = Field(default_factory=dict)
    options: dict[str, JsonValue] = Field(default_factory=dict)
    checked: str = ""
    name: str = ""
    tags: str = ""
    description: str = ""
    watched: bool = False


class Drafts:
    """The drafts of all people, on disk: they outlive a restart of the server. Thread-safe."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def new(self, person_id: int, path: Path, detected: str) -> Draft:
        """Begin a draft, and forget old ones."""
        made = Draft(
            draft_id=secrets.token_urlsafe(12),
            person_id=person_id,
            path=path,
            detected=detected,
            data_type=detected,
        )
        with self._store.use() as db:
            db.execute("DELETE FROM draft WHERE changed_at < ?", (self._clock.now() - LIFE_S,))
            db.execute(
                "DELETE FROM draft WHERE person_id = ? AND draft_id NOT IN"
                " (SELECT draft_id FROM draft WHERE person_id = ? ORDER BY changed_at DESC LIMIT ?)",
                (person_id, person_id, MOST - 1),
            )
        self.keep(made)
        return made

    def keep(self, draft: Draft) -> None:
        """Write down what a draft says now."""
        with self._store.use() as db:
            db.execute(
                "INSERT OR REPLACE INTO draft VALUES (?, ?, ?, ?)",
                (draft.draft_id, draft.person_id, draft.model_dump_json(), self._clock.now()),
            )

    def find(self, draft_id: str, person_id: int) -> Draft | None:
        """Return a draft of a person; None if there is none, or it is another's."""
        with self._store.read() as db:
            row = db.execute(
                "SELECT content FROM draft WHERE draft_id = ? AND person_id = ?", (draft_id, person_id)
            ).fetchone()
        return None if row is None else Draft.model_validate_json(row["content"])

    def of(self, person_id: int) -> tuple[Draft, ...]:
        """Return the drafts of a person, the latest first."""
        with self._store.read() as db:
            rows = db.execute(
                "SELECT content FROM draft WHERE person_id = ? ORDER BY changed_at DESC", (person_id,)
            ).fetchall()
        return tuple(Draft.model_validate_json(row["content"]) for row in rows)

    def forget(self, draft_id: str) -> None:
        """Forget a draft."""
        with self._store.use() as db:
            db.execute("DELETE FROM draft WHERE draft_id = ?", (draft_id,))
