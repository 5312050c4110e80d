"""Remember who has logged in. Browsers hold a random token, the database only its hash."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from common.clock import Clock
from node.gui.database import Store, hashed, new_token
from node.gui.people import Person

IDLE_S: Final = 20 * 60.0
"""A session ends after this long without a request of its person."""
LIFE_S: Final = 10 * 3600.0
"""A session ends after this long, whatever happens."""
HALF_LIFE_S: Final = 5 * 60.0
"""Time to give the second factor after the password."""

_NOTE_EVERY_S: Final = 15.0
"""How exactly it is known when a session was used last; writing it down for each request would only wear the disk."""


@dataclass(frozen=True, slots=True)
class Session:
    """One login of one person, in one browser; `complete` once the second factor was given too, if one is needed."""

    key: str
    person_id: int
    complete: bool


class Sessions:
    """The sessions of the page, on disk: they outlive a restart of the server. Thread-safe."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def begin(self, person: Person, *, complete: bool) -> str:
        """Return the token of a new session; it was never seen before, so nobody can have planted it in a browser."""
        token, now = new_token(), self._clock.now()
        with self._store.use() as db:
            db.execute("DELETE FROM session WHERE made_at < ?", (now - LIFE_S,))
            db.execute(
                "INSERT INTO session (sha256, person_id, complete, made_at, seen_at) VALUES (?, ?, ?, ?, ?)",
                (hashed(token), person.person_id, int(complete), now, now),
            )
        return token

    def find(self, token: str, *, present: bool) -> Session | None:
        """Return the session of a token, or None if there is none or it has ended.

        Args:
            token: What a browser sent.
            present: Whether its person is there, and not only a page that watches.
        """
        with self._store.read() as db:
            row = db.execute("SELECT * FROM session WHERE sha256 = ?", (hashed(token),)).fetchone()
        if row is None:
            return None
        now = self._clock.now()
        if self._over(row, now):
            self.end(hashed(token))
            return None
        if present and now - row["seen_at"] >= _NOTE_EVERY_S:
            with self._store.use(durable=False) as db:
                db.execute("UPDATE session SET seen_at = ? WHERE sha256 = ?", (now, row["sha256"]))
        return Session(row["sha256"], row["person_id"], bool(row["complete"]))

    def end(self, key: str) -> None:
        """End one session."""
        with self._store.use() as db:
            db.execute("DELETE FROM session WHERE sha256 = ?", (key,))

    def end_all(self, person: Person, *, but: str | None = None) -> None:
        """End all sessions of a person, except one."""
        with self._store.use() as db:
            db.execute("DELETE FROM session WHERE person_id = ? AND sha256 IS NOT ?", (person.person_id, but))

    def say(self, key: str, text: str) -> None:
        """Let the next page of a session tell something."""
        with self._store.use(durable=False) as db:
            db.execute("UPDATE session SET said = ? WHERE sha256 = ?", (text, key))

    def hear(self, key: str) -> str:
        """Return what the next page is to tell, once; nothing if empty."""
        with self._store.read() as db:
            row = db.execute("SELECT said FROM session WHERE sha256 = ?", (key,)).fetchone()
        if row is None or not row["said"]:
            return ""
        self.say(key, "")
        return str(row["said"])

    def _over(self, row: sqlite3.Row, now: float) -> bool:
        life = LIFE_S if row["complete"] else HALF_LIFE_S
        return bool(now - row["made_at"] > life or now - row["seen_at"] > IDLE_S)
