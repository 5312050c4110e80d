"""Check the codes of an authenticator app (TOTP, RFC 6238), and the recovery codes for the day when the phone is gone."""

from __future__ import annotations

import hmac
from typing import Final

import pyotp

from common.clock import Clock
from node.gui.database import Store, hashed
from node.gui.people import Person

CODES: Final = 10
"""Recovery codes of one person."""

_STEP_S: Final = 30
_DRIFT: Final = (0, -1, 1)  # steps by which the clocks of a phone and of this machine may differ


def new_secret() -> str:
    """Return a secret for an app, 160 random bits in base 32."""
    return pyotp.random_base32()


def address(secret: str, *, account: str, issuer: str) -> str:
    """Return what the QR code says that an app reads."""
    return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=issuer)


class SecondFactors:
    """The second factors of all accounts, on disk. Thread-safe; a code works once."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def turn_on(self, person: Person, secret: str, code: str) -> tuple[str, ...]:
        """Ask this account for codes from now on, if the code shows that its app has the secret.

        Returns:
            The recovery codes, of which only hashes are kept; none if the code is wrong, and nothing was changed.
        """
        step = self._step(secret, code, after=0)
        if step is None:
            return ()
        codes = tuple(_recovery_code() for _ in range(CODES))
        with self._store.use() as db:
            self.turn_off(person)
            query = "UPDATE person SET totp_secret = ?, totp_step = ? WHERE person_id = ?"
            db.execute(query, (secret, step, person.person_id))
            rows = [(hashed(_plain(one)), person.person_id) for one in codes]
            db.executemany("INSERT INTO recovery_code VALUES (?, ?)", rows)
        return codes

    def turn_off(self, person: Person) -> None:
        """Ask this account for no codes any more."""
        with self._store.use() as db:
            db.execute("UPDATE person SET totp_secret = NULL WHERE person_id = ?", (person.person_id,))
            db.execute("DELETE FROM recovery_code WHERE person_id = ?", (person.person_id,))

    def passes(self, person: Person, code: str) -> bool:
        """Tell whether a code of the app, or a recovery code, is right and was not used before; it is used up then."""
        with self._store.use() as db:
            row = db.execute("SELECT * FROM person WHERE person_id = ?", (person.person_id,)).fetchone()
            if row is None or row["totp_secret"] is None:
                return False
            step = self._step(row["totp_secret"], code, after=row["totp_step"])
            if step is not None:
                db.execute("UPDATE person SET totp_step = ? WHERE person_id = ?", (step, person.person_id))
                return True
            query = "DELETE FROM recovery_code WHERE person_id = ? AND sha256 = ?"
            return bool(db.execute(query, (person.person_id, hashed(_plain(code)))).rowcount)

    def codes_left(self, person: Person) -> int:
        """Return how many recovery codes were not used yet."""
        with self._store.read() as db:
            query = "SELECT count(*) FROM recovery_code WHERE person_id = ?"
            return int(db.execute(query, (person.person_id,)).fetchone()[0])

    def _step(self, secret: str, code: str, *, after: int) -> int | None:
        """Return the step of time whose code this is, if it is later than the last one used; looks at all of them in any case."""
        given, now, found = _plain(code).encode(), int(self._clock.now()) // _STEP_S, None
        for step in (now + drift for drift in _DRIFT):
            right = hmac.compare_digest(pyotp.TOTP(secret).generate_otp(step).encode(), given)
            found = step if right and step > after else found
        return found


def _recovery_code() -> str:
    """Return 80 random bits, in groups that can be copied by hand."""
    text = pyotp.random_base32(32)[:16].lower()
    return "-".join(text[place : place + 4] for place in range(0, 16, 4))


def _plain(code: str) -> str:
    return "".join(code.split()).replace("-", "").lower()
