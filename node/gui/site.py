"""Hold what all pages of one node share."""

from __future__ import annotations

from dataclasses import dataclass, field

from argon2 import PasswordHasher
from jinja2 import Environment

from common.clock import Clock, SystemClock
from common.ids import PartyId
from node.gui.database import Store
from node.gui.drafts import Drafts
from node.gui.links import Links
from node.gui.listen import Listen
from node.gui.people import People
from node.gui.runner import Runner
from node.gui.second_factor import SecondFactors
from node.gui.sessions import Sessions
from node.gui.throttle import Throttle
from node.gui.view import environment
from node.home import NodeHome

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})


@dataclass(frozen=True, slots=True)
class Site:
    """The page of one node.

    Attributes:
        home: The node.
        party: Its name.
        federation: That of its federation.
        clock: Tells the time.
        store: The database of people and sessions.
        people: The accounts.
        second_factors: Codes that a login may need too.
        sessions: Who has logged in.
        links: Invitations that can still be used.
        throttle: Slows down who guesses passwords.
        drafts: Data sets that somebody is about to register.
        runner: Does what needs the libraries of the data.
        secret: Key of the tokens in forms.
        hosts: Names by which the page may be called.
        tls: Whether it is served over TLS.
        beside: Where it is served, if the agent started it and it ends with the agent; else None.
        views: Renders the templates.
    """

    home: NodeHome
    party: PartyId
    federation: str
    clock: Clock
    store: Store
    people: People
    second_factors: SecondFactors
    sessions: Sessions
    links: Links
    throttle: Throttle
    drafts: Drafts
    runner: Runner
    secret: bytes
    hosts: frozenset[str] = LOOPBACK_NAMES
    tls: bool = False
    beside: Listen | None = None
    views: Environment = field(default_factory=environment)

    @classmethod
    def open(
        cls,
        home: NodeHome,
        *,
        hosts: frozenset[str] = LOOPBACK_NAMES,
        tls: bool = False,
        beside: Listen | None = None,
        clock: Clock | None = None,
        hasher: PasswordHasher | None = None,
    ) -> Site:
        """Open the database of the page in a home.

        Raises:
            InvalidSettingsError: If the connection settings of the node are wrong.
            StorageError: If the database cannot be used.
        """
        connection, clock, store = home.connection(), clock or SystemClock(), Store(home.gui_path)
        return cls(
            home=home,
            party=connection.party,
            federation=connection.federation,
            clock=clock,
            store=store,
            people=People(store, clock, hasher),
            second_factors=SecondFactors(store, clock),
            sessions=Sessions(store, clock),
            links=Links(store, clock),
            throttle=Throttle(clock),
            drafts=Drafts(store, clock),
            runner=Runner(home),
            secret=store.secret("forms"),
            hosts=hosts,
            tls=tls,
            beside=beside,
        )

    @property
    def cookie(self) -> str:
        """Return the name of the session cookie. It carries the node's name: cookies do not tell ports of one machine apart."""
        return f"{'__Host-' if self.tls else ''}warren-{self.party}"

    def close(self) -> None:
        """Give up errands and close the database; idempotent."""
        self.runner.close()
        self.store.close()
