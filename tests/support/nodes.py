"""Make node homes, and run their real agents with real workers over the in-memory transport."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from common.errors import WarrenError
from common.ids import MessageId, PartyId, TaskId
from common.mailbox import Mail, Mailbox
from common.messages import AnyMessage, NodePresence, Reply, TaskProgress
from common.security.kit import Kit, fingerprint, write_kit
from common.security.roster import sign_roster
from common.settings import Connection, Role, Timeouts
from common.transport.memory import MemoryBroker
from node.agent import Agent, build
from node.approval import Approvals
from node.home import NodeHome
from node.registry import Registry
from tests.support.certificates import make_authority
from tests.support.parties import make_identities, make_roster

DEADLINE_S = 60.0

ADD_ONE = '''
import torch
from common.data import DataManager
from common.datasets import TabularDataset
from common.training_plans import TorchTrainingPlan


class AddOne(TorchTrainingPlan):
    """Add one to every parameter, whatever the data say."""

    def init_model(self, model_args):
        return torch.nn.Linear(model_args["features"], 1)

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=1.0)

    def training_step(self, data, target):
        return -sum(parameter.sum() for parameter in self.model().parameters())

    def training_data(self):
        return DataManager(TabularDataset("x", "y"), batch_size=8)
'''


def make_kits(folder: Path, roles: dict[str, Role], *, timeouts: Timeouts | None = None) -> dict[str, Kit]:
    """Write kits that fit together, for a federation without a broker."""
    authority, identities = make_authority(), make_identities(roles)
    folder.mkdir()
    issued = {party: authority.issue(party) for party in roles}
    prints = {party: fingerprint(one.certificate) for party, one in issued.items()}
    signed = sign_roster(make_roster(identities, roles, fingerprints=prints), authority.key)
    for party, role in roles.items():
        connection = Connection(
            federation="trial",
            party=PartyId(party),
            role=role,
            host="127.0.0.1",
            port=5671,
            server_name="localhost",
            vhost="trial",
            timeouts=timeouts or Timeouts(),
        )
        one = issued[party]
        write_kit(
            folder / party,
            connection,
            authority.cert_pem,
            one.cert_pem,
            one.key_pem,
            identities[party],
            signed,
        )

    return {party: Kit.load(folder / party, now=time.time()) for party in roles}


def write_table(path: Path, rows: int = 16) -> Path:
    """Write a small table with the columns x and y."""
    path.write_text("x,y\n" + "".join(f"{row},{row % 2}\n" for row in range(rows)))
    return path


def make_home(folder: Path, kit: Kit, *, plans: tuple[str, ...] = (ADD_ONE,), settings: str = "") -> NodeHome:
    """Make the home of a node with the data set `trial` and these plans approved."""
    home = NodeHome.create(folder, kit.path)
    home.settings_path.write_text("worker_threads = 1\ncompulsory_protections = []\n" + settings)
    registry = Registry(home.registry_path)
    registry.add(
        write_table(folder / "table.csv"),
        name="trial",
        tags=["trial"],
        description="a small table",
        data_type="tabular",
    )
    registry.close()
    approvals = Approvals(home.registry_path)
    for source in plans:
        approvals.approve_source(source, name="AddOne", by="the test")
    approvals.close()
    return home


class RunningNode:
    """A real agent in a thread of this process; its workers are processes."""

    def __init__(self, home: NodeHome, broker: MemoryBroker) -> None:
        self.home = home
        self.agent: Agent = build(home, transport=broker.transport(home.connection().party))
        self.error: WarrenError | None = None
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started.set,), name="agent")
        self._thread.start()
        assert started.wait(DEADLINE_S)

    def _run(self, started: Callable[[], None]) -> None:
        try:
            self.agent.run(on_started=started)
        except WarrenError as error:
            self.error = error

    def stop(self) -> None:
        self.agent.stop()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()


class Peer:
    """A researcher's mailbox and what came into it."""

    def __init__(self, kit: Kit, broker: MemoryBroker) -> None:
        self.mails: queue.Queue[Mail] = queue.Queue()
        self.mailbox = Mailbox.of_kit(kit, broker.transport(kit.connection.party))
        self.mailbox.start(self.mails.put)

    def take(
        self,
        kind: type | tuple[type, ...],
        *,
        deadline_s: float = DEADLINE_S,
        of: MessageId | TaskId | None = None,
    ) -> Mail:
        """Return the next message of a kind, an answer to that request or about that task if one is named.

        What nodes say by themselves, and answers to earlier requests, are skipped; anything else is an error.
        """
        while True:
            mail = self.mails.get(timeout=deadline_s)
            mail.ack()
            message = mail.message
            about = getattr(message, "request_id", None) or getattr(message, "task_id", None)
            if isinstance(message, kind) and of in (None, about):
                return mail
            skipped = isinstance(message, NodePresence | TaskProgress) or (of is not None and of != about)
            assert skipped, f"{message} instead of {kind}"

    def ask(self, message: AnyMessage, kind: type) -> AnyMessage:
        self.mailbox.send(message).result(DEADLINE_S)
        return self.take(kind, of=message.message_id if issubclass(kind, Reply) else None).message

    def close(self) -> None:
        self.mailbox.close()
