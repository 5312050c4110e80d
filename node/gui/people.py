"""Keep the accounts of the page: who they are, what they may do, how they prove who they are."""

from __future__ import annotations

import re
import sqlite3
import threading
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from common.clock import Clock
from common.errors import AccountError
from node.gui.database import Store

PASSWORD_LENGTH: Final = 12
"""Fewest characters of a password; see NIST SP 800-63B, which asks for length and not for kinds of characters."""

_LONGEST: Final = 200
_NAME: Final = re.compile(r"[a-z][a-z0-9._-]{1,31}")
_SIDE_BY_SIDE: Final = threading.BoundedSemaphore(2)
"""A hash takes 64 MiB on purpose; many at once must not take the memory of the machine."""


class Role(IntEnum):
    """What somebody may do; a higher one may all that a lower one may."""

    ANYONE = 0
    """Nobody known."""
    VIEWER = 1
    MANAGER = 2
    """Decides about data and plans."""
    ADMIN = 3
    """Decides about people, settings and the agent, too."""


@dataclass(frozen=True, slots=True)
class Person:
    """One account.

    Attributes:
        person_id: Its number, never used again.
        name: Its login, which the audit log names.
        role: What it may do.
        locked: Whether an admin keeps it out.
        joined: Whether it has a password.
        second_factor: Whether a login needs a code, too.
        made_at: Unix time at which it was made.
        seen_at: Unix time of the last login; None if there was none.
    """

    person_id: int
    name: str
    role: Role
    locked: bool
    joined: bool
    second_factor: bool
    made_at: float
    seen_at: float | None


class People:
    """The accounts of one node, on disk. Thread-safe."""

    def __init__(self, store: Store, clock: Clock, hasher: PasswordHasher | None = None) -> None:
        """Use these; `hasher` sets what a guess costs, by default what the argon2 library recommends."""
        self._store = store
        self._clock = clock
        self._hasher = hasher or PasswordHasher()

    def add(self, name: str, role: Role, password: str | None = None) -> Person:
        """Make an account; without a password nobody can log in to it yet.

        Raises:
            AccountError: If the name cannot be one, or is taken; or if the password is too weak.
        """
        self.check_name(name)
        hash_ = None if password is None else self._hash(name, password)
        with self._store.use() as db:
            self.check_name(name)
            row = db.execute(
                "INSERT INTO person (name, role, password, made_at) VALUES (?, ?, ?, ?) RETURNING person_id",
                (name, role.name, hash_, self._clock.now()),
            ).fetchone()
        return self.get(int(row["person_id"]))

    def check_name(self, name: str) -> None:
        """Make sure that a new account can have this name.

        Raises:
            AccountError: If not.
        """
        if not _NAME.fullmatch(name):
            reason = "a name has 2 to 32 of the characters a to z, 0 to 9, dot, dash and underscore, and begins with a letter"
            raise AccountError(name=name[:32], reason=reason)
        with self._store.read() as db:
            if db.execute("SELECT 1 FROM person WHERE name = ?", (name,)).fetchone():
                raise AccountError(name=name, reason="there is an account of this name")

    def get(self, person_id: int) -> Person:
        """Return one account.

        Raises:
            AccountError: If it is not there any more.
        """
        with self._store.read() as db:
            row = db.execute("SELECT * FROM person WHERE person_id = ?", (person_id,)).fetchone()
        if row is None:
            raise AccountError(name=f"number {person_id}", reason="there is no such account")
        return _person(row)

    def list(self) -> tuple[Person, ...]:
        """Return all accounts, in the order of their names."""
        with self._store.read() as db:
            return tuple(_person(row) for row in db.execute("SELECT * FROM person ORDER BY name").fetchall())

    def anybody(self) -> bool:
        """Tell whether an admin can log in, so that the page needs no set-up any more."""
        query = "SELECT 1 FROM person WHERE role = 'ADMIN' AND password IS NOT NULL AND NOT locked"
        with self._store.read() as db:
            return db.execute(query).fetchone() is not None

    def verified(self, name: str, password: str) -> Person | None:
        """Return the account with this name and password that is not locked; None takes as long, whatever is wrong."""
        with self._store.read() as db:
            row = db.execute("SELECT * FROM person WHERE name = ?", (name,)).fetchone()
        nobody = self._nobody  # made the first time, whoever that is about
        known = nobody if row is None or row["password"] is None else str(row["password"])
        if len(password) > _LONGEST or not self._matches(known, password) or known is nobody:
            return None
        person = _person(row)
        if person.locked:
            return None
        if self._hasher.check_needs_rehash(known):
            self._write(
                "UPDATE person SET password = ? WHERE person_id = ?",
                self._hash(name, password),
                row["person_id"],
            )
        return person

    def seen(self, person: Person) -> None:
        """Record a login."""
        self._write("UPDATE person SET seen_at = ? WHERE person_id = ?", self._clock.now(), person.person_id)

    def set_password(self, person: Person, password: str) -> None:
        """Give an account another password.

        Raises:
            AccountError: If it is too weak.
        """
        self._write(
            "UPDATE person SET password = ? WHERE person_id = ?",
            self._hash(person.name, password),
            person.person_id,
        )

    def set_role(self, person: Person, role: Role) -> None:
        """Let an account do more, or less.

        Raises:
            AccountError: If no admin would be left.
        """
        with self._store.use() as db:
            db.execute("UPDATE person SET role = ? WHERE person_id = ?", (role.name, person.person_id))
            self._keep_admin(person)

    def lock(self, person: Person, *, locked: bool) -> None:
        """Keep an account out, or let it in again.

        Raises:
            AccountError: If no admin would be left.
        """
        with self._store.use() as db:
            db.execute("UPDATE person SET locked = ? WHERE person_id = ?", (int(locked), person.person_id))
            self._keep_admin(person)

    def remove(self, person: Person) -> None:
        """Forget an account; what it did stays in the audit log.

        Raises:
            AccountError: If no admin would be left.
        """
        with self._store.use() as db:
            db.execute("DELETE FROM person WHERE person_id = ?", (person.person_id,))
            self._keep_admin(person)

    @cached_property
    def _nobody(self) -> str:
        """Return the hash that takes the place of one that is not there."""
        return self._hasher.hash("nobody has this password")

    def _keep_admin(self, person: Person) -> None:
        if not self.anybody():
            raise AccountError(name=person.name, reason="no admin would be left who can log in")

    @staticmethod
    def check_password(name: str, password: str) -> None:
        """Make sure that a password is not easy to guess.

        Raises:
            AccountError: If it is.
        """
        if not PASSWORD_LENGTH <= len(password) <= _LONGEST:
            reason = f"a password has {PASSWORD_LENGTH} to {_LONGEST} characters"
            raise AccountError(name=name, reason=reason)
        if name in password.lower() or len(set(password)) < 5:
            reason = "the password is too easy to guess: it repeats few characters, or contains the name"
            raise AccountError(name=name, reason=reason)

    def _hash(self, name: str, password: str) -> str:
        self.check_password(name, password)
        with _SIDE_BY_SIDE:
            return self._hasher.hash(password)

    def _matches(self, known: str, password: str) -> bool:
        try:
            with _SIDE_BY_SIDE:
                return self._hasher.verify(known, password)
        except (VerificationError, InvalidHashError):
            return False

    def _write(self, statement: str, *values: object) -> None:
        with self._store.use() as db:
            db.execute(statement, values)


def _person(row: sqlite3.Row) -> Person:
    return Person(
        person_id=row["person_id"],
        name=row["name"],
        role=Role[row["role"]],
        locked=bool(row["locked"]),
        joined=row["password"] is not None,
        second_factor=row["totp_secret"] is not None,
        made_at=row["made_at"],
        seen_at=row["seen_at"],
    )
