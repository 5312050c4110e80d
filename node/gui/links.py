"""Hand out links that work once: to set the page up, to join it, to choose another password."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from common.clock import Clock
from common.errors import LinkSpentError
from node.gui.database import Store, hashed, new_token
from node.gui.people import Person

LIFE_S: Final = 24 * 3600.0
"""How long a link can be used."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a link is for: the account that gets a password by it, or None for the first admin, who has no account yet."""

    person_id: int | None


class Links:
    """The links that can still be used. Only hashes of them are kept. Thread-safe."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def make(self, person: Person | None) -> str:
        """Return the token of a new link, which takes the place of earlier ones for the same account."""
        token = new_token()
        person_id = None if person is None else person.person_id
        with self._store.use() as db:
            db.execute(
                "DELETE FROM link WHERE person_id IS ? OR expires_at < ?", (person_id, self._clock.now())
            )
            db.execute(
                "INSERT INTO link VALUES (?, ?, ?)", (hashed(token), person_id, self._clock.now() + LIFE_S)
            )
        return token

    def look(self, token: str) -> Link:
        """Return what a link is for, and leave it as it is.

        Raises:
            LinkSpentError: If it was used, has expired, was replaced, or never was.
        """
        with self._store.read() as db:
            row = db.execute("SELECT * FROM link WHERE sha256 = ?", (hashed(token),)).fetchone()
        if row is None or row["expires_at"] < self._clock.now():
            raise LinkSpentError()
        return Link(row["person_id"])

    def spend(self, token: str) -> Link:
        """Return what a link is for; it works only for the first who asks.

        Raises:
            LinkSpentError: As `look` does.
        """
        with self._store.use() as db:
            row = db.execute("DELETE FROM link WHERE sha256 = ? RETURNING *", (hashed(token),)).fetchone()
        if row is None or row["expires_at"] < self._clock.now():
            raise LinkSpentError()
        return Link(row["person_id"])
