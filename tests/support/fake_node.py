"""A scripted node: real codec, real sealing, in-memory broker; no worker, no journal, no data."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from common.errors import TransportClosedError
from common.ids import DatasetId, Digest, PartyId, TaskId, derived_uuid
from common.mailbox import Mail, Mailbox
from common.messages import (
    AnyMessage,
    Assignment,
    Chunk,
    ChunkRequest,
    ColumnMoments,
    DatasetDescription,
    ListReply,
    ListRequest,
    LossPoint,
    NodeInfo,
    NodePresence,
    PayloadManifest,
    PayloadReceipt,
    PingReply,
    PingRequest,
    PlanApprovalReply,
    PlanApprovalRequest,
    PlanState,
    PlanStatusReply,
    PlanStatusRequest,
    RunEnd,
    SearchReply,
    SearchRequest,
    Statistics,
    TaskCancel,
    TaskFailed,
    TaskTimings,
    TrainReply,
    TrainRequest,
    Validation,
)
from common.payload.carried import is_carried
from common.payload.store import PayloadStore
from common.security.roster import Roster
from common.security.sealing import Sealer
from common.settings import Role
from common.transport.memory import MemoryBroker
from researcher import Federation
from tests.support.parties import make_identities, make_roster

DEADLINE_S = 30.0
Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Update:
    """Answer with these tensors, or with those of the model changed by a function."""

    change: Callable[[Tensors], Tensors] = lambda tensors: {
        name: value + 1 for name, value in tensors.items()
    }
    samples_seen: int = 10
    samples_train: int = 10
    steps: int = 1
    lr_sum: float | None = 0.1
    loss: float | None = 0.5
    raw: bytes | None = None
    """Bytes to send instead of tensors."""
    base: Digest | None = None
    chunk_bytes: int | None = None
    """Send in chunks of this size instead of inline."""
    lose: frozenset[int] = frozenset()
    """Chunks that do not arrive until they are asked for."""
    damaged: bool = False
    """Whether the chunks hold other bytes than the manifest says."""
    encoding: str | None = None
    """How the update claims to be encoded; as it was asked for if not given."""
    decoded_bytes: int | None = None
    """What it claims to be once decompressed."""
    metrics: Mapping[str, float | None] = field(default_factory=lambda: {"ACCURACY": 0.75})
    """Of the global model, on 5 samples."""
    statistics: Statistics | None = None
    moments: tuple[ColumnMoments, ...] | None = None
    """Told if they are asked for, and then nothing else."""


@dataclass(frozen=True)
class Failure:
    """Answer that the task came to nothing."""

    code: str = "WRN-504"
    text: str = "ValueError at line 3 of the plan, in training_step"
    final: bool = True


@dataclass(frozen=True)
class Silence:
    """Answer nothing until `FakeNode.release` is called."""

    then: Update | Failure = field(default_factory=Update)


Answer = Update | Failure | Silence
Script = Callable[[TrainRequest, Assignment], Answer]


def always(answer: Answer) -> Script:
    return lambda request, assignment: answer


def dataset(
    node: str, *, name: str = "heart", tags: tuple[str, ...] = ("heart",), samples: int = 100
) -> DatasetDescription:
    return DatasetDescription(
        dataset_id=DatasetId(derived_uuid("dataset", node, name)),
        name=name,
        data_type="tabular",
        tags=tags,
        description="made up",
        samples=samples,
        shape=(samples, 3),
    )


INFO = NodeInfo(
    version="0.1.0",
    python="3.11.7",
    started_at=1_700_000_000.0,
    max_workers=1,
    running=0,
    waiting=0,
    datasets=1,
    plan_approval=True,
)


class Trial:
    """A federation in memory: a broker, a researcher's mailbox, and as many fake nodes as are asked for."""

    def __init__(self, folder: Path, nodes: tuple[str, ...] = ("north", "south")) -> None:
        roles: dict[str, Role] = {"lab": "researcher"} | dict.fromkeys(nodes, "node")
        self.folder = folder
        self.roles = roles
        self.identities = make_identities(roles)
        self.roster = make_roster(self.identities, roles)
        self.broker = MemoryBroker([(PartyId(party), role) for party, role in roles.items()])
        self.nodes: dict[str, FakeNode] = {}

    def mailbox(self, party: str, **options: object) -> Mailbox:
        sealer = Sealer(self.identities[party], self.roster)
        transport = self.broker.transport(PartyId(party))
        return Mailbox(transport, sealer, self.roster, self.roles[party], **options)

    def without(self, *revoked: str) -> Roster:
        """Return the next roster, in which these parties are revoked."""
        return make_roster(self.identities, self.roles, serial=2, revoked=revoked)

    def start(self, node: str, script: Script | None = None, **options: object) -> FakeNode:
        fake = FakeNode(self.mailbox(node), self.folder / node, script or always(Update()), **options)
        self.nodes[node] = fake
        return fake

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()


class Place(Federation):
    """The researcher's place in a trial."""

    def __init__(
        self, trial: Trial, home: Path, *, mailbox: Mailbox | None = None, **options: object
    ) -> None:
        super().__init__(mailbox or trial.mailbox("lab"), home, **options)
        self._trial = trial

    def settle(self) -> None:
        """Wait until the nodes that run are online, and those that do not are known to be offline."""
        self.wait_for(list(self._trial.nodes), DEADLINE_S)
        for name in self.members:
            if name not in self._trial.nodes and self.hub.statuses()[name].online is not False:
                self._say_gone(name)

    def _say_gone(self, name: PartyId) -> None:
        mailbox = self._trial.mailbox(name)
        mailbox.start(lambda mail: None)
        mailbox.send(NodePresence(sender=name, recipients=(self.party,), info=INFO, leaving=True))
        assert self.hub.wait(lambda statuses: statuses[name].online is False, DEADLINE_S)
        mailbox.close()


class FakeNode:
    """A node that does as its script says, and answers a task that it knows with what it answered before."""

    def __init__(
        self,
        mailbox: Mailbox,
        folder: Path,
        script: Script,
        *,
        datasets: tuple[DatasetDescription, ...] | None = None,
        plan: PlanState = PlanState.APPROVED,
        required: bool = True,
    ) -> None:
        self.mailbox = mailbox
        self.script = script
        self.plan = plan
        self.received: list[AnyMessage] = []
        self._required = required
        self._datasets = (dataset(mailbox.party),) if datasets is None else datasets
        self._store = PayloadStore(folder)
        self._requests: dict[TaskId, TrainRequest] = {}
        self._held: dict[TaskId, Update | Failure] = {}
        self._done: dict[TaskId, Callable[[], object]] = {}
        self._manifests: dict[Digest, tuple[PayloadManifest, PartyId]] = {}
        self._changed = threading.Condition()
        mailbox.start(self._receive)
        self.say()

    @property
    def party(self) -> PartyId:
        return self.mailbox.party

    def say(self, *, leaving: bool = False) -> None:
        """Send presence to the researcher."""
        lab = tuple(party for party, role in self.mailbox.roster.parties() if role == "researcher")
        self.mailbox.send(NodePresence(sender=self.party, recipients=lab, info=INFO, leaving=leaving))

    def release(self) -> None:
        """Give the answers that were held back."""
        with self._changed:
            held, self._held = self._held, {}
        for task, answer in held.items():
            self._answer(task, answer)

    def repeat(self) -> None:
        """Give every answer once more."""
        for send in list(self._done.values()):
            send()

    def until(self, kind: type, count: int = 1) -> list[AnyMessage]:
        """Wait until so many messages of a kind have come, and return them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.of(kind)) >= count, DEADLINE_S), (
                f"{self.party} got {[type(one).__name__ for one in self.received]}"
            )
            return self.of(kind)

    def of(self, kind: type) -> list[AnyMessage]:
        return [one for one in self.received if isinstance(one, kind)]

    def close(self) -> None:
        self.mailbox.close()

    def _receive(self, mail: Mail) -> None:
        try:
            self._handle(mail)
        except TransportClosedError:
            return
        mail.ack()
        with self._changed:
            self.received.append(mail.message)
            self._changed.notify_all()

    def _handle(self, mail: Mail) -> None:
        message = mail.message
        match message:
            case PingRequest():
                self._reply(PingReply, message, info=INFO)
            case ListRequest():
                self._reply(ListReply, message, datasets=self._datasets)
            case SearchRequest(tags=tags):
                found = tuple(one for one in self._datasets if set(tags) <= set(one.tags))
                self._reply(SearchReply, message, datasets=found)
            case PlanStatusRequest(plan_hash=plan_hash):
                self._reply(
                    PlanStatusReply, message, plan_hash=plan_hash, state=self.plan, required=self._required
                )
            case PlanApprovalRequest(plan_hash=plan_hash):
                self._reply(PlanApprovalReply, message, plan_hash=plan_hash, state=self.plan)
            case Chunk() as chunk:
                if self._store.accept(chunk, mail.payload):
                    for request in list(self._requests.values()):
                        if request.model.sha256 == chunk.manifest.sha256:
                            self._work(request)
            case ChunkRequest(sha256=sha256, indices=indices):
                manifest, asker = self._manifests[sha256]
                self.mailbox.send_payload(self._store.path(sha256), manifest, [asker], indices)
            case TrainRequest() as request:
                share = self._share(request)
                self._requests[share.task_id] = request
                if request.model.inline:
                    self._store.put(mail.payload)
                if self._store.has(request.model.sha256):
                    self._work(request)
            case TaskCancel() | RunEnd() | PayloadReceipt():
                pass

    def _work(self, request: TrainRequest) -> None:
        share = self._share(request)
        if share.task_id in self._done:
            self._done[share.task_id]()
            return
        answer = self.script(request, share)
        if isinstance(answer, Silence):
            with self._changed:
                self._held[share.task_id] = answer.then
        else:
            self._answer(share.task_id, answer)

    def _answer(self, task: TaskId, answer: Update | Failure) -> None:
        request = self._requests[task]
        common: Mapping[str, object] = {
            "sender": self.party,
            "recipients": (request.sender,),
            "experiment_id": request.experiment_id,
            "run_id": request.run_id,
            "task_id": task,
            "round": request.round,
        }
        if isinstance(answer, Failure):
            failed = TaskFailed(**common, code=answer.code, text=answer.text, final=answer.final)
            self._done[task] = lambda: self.mailbox.send(failed)
        else:
            self._done[task] = self._update(request, answer, common)
        self._done[task]()

    def _update(
        self, request: TrainRequest, answer: Update, common: Mapping[str, object]
    ) -> Callable[[], object]:
        manifest, data = None, b""
        if request.train:
            sent = load(self._store.path(request.model.sha256).read_bytes())
            model = {name: value for name, value in sent.items() if not is_carried(name)}
            data = answer.raw if answer.raw is not None else save(answer.change(model))
            digest = self._store.put(data)
            manifest = PayloadManifest(
                sha256=digest,
                size_bytes=len(data),
                encoding=answer.encoding or request.encoding,
                decoded_bytes=answer.decoded_bytes,
                inline=answer.chunk_bytes is None,
            )
            if answer.chunk_bytes is not None:
                manifest = manifest.model_copy(update={"chunk_bytes": answer.chunk_bytes})
            if answer.damaged:
                self._store.path(digest).write_bytes(data[::-1])
            self._manifests[digest] = (manifest, request.sender)
        asked = request.training_args.test_on_global_updates or not request.train
        tests = asked and not request.measures
        reply = TrainReply(
            **common,
            dataset_id=self._share(request).dataset_id,
            plan_hash=request.plan_hash,
            base=answer.base or request.model.sha256,
            update=manifest,
            samples_seen=answer.samples_seen if request.train else 0,
            samples_train=answer.samples_train,
            samples_test=5 if tests else 0,
            steps=answer.steps if request.train else 0,
            lr_sum=answer.lr_sum,
            losses=(LossPoint(iteration=1, epoch=1, samples=answer.samples_seen, loss=answer.loss),),
            validations=(
                Validation(
                    on="global", samples=5, metrics=dict(answer.metrics), statistics=answer.statistics
                ),
            )
            if tests
            else (),
            moments=answer.moments if request.measures else None,
            timings=TaskTimings(
                received_at=1_700_000_000.0, waited_s=0, loaded_s=0, trained_s=0.1, validated_s=0, saved_s=0
            ),
        )

        def send() -> object:
            if manifest is None or manifest.inline:
                return self.mailbox.send(reply, data)
            kept = [index for index in range(manifest.chunks) if index not in answer.lose]
            sent = self.mailbox.send_payload(
                self._store.path(manifest.sha256), manifest, [request.sender], kept
            )
            sent.add_done_callback(lambda _: self.mailbox.send(reply))
            return sent

        return send

    def _share(self, request: TrainRequest) -> Assignment:
        return next(one for one in request.assignments if one.node == self.party)

    def _reply(self, kind: Callable[..., AnyMessage], message: AnyMessage, **content: object) -> None:
        self.mailbox.send(
            kind(
                sender=self.party,
                recipients=(message.sender,),
                request_id=message.message_id,
                **content,
            )
        )


def at_rounds(answers: Mapping[int, Answer], otherwise: Answer | None = None) -> Script:
    """Answer as told in some rounds, and with an update in all others."""
    return lambda request, assignment: answers.get(request.round, otherwise or Update())


def numbered(*answers: Answer) -> Script:
    """Answer each new task with the next of these, the last one again and again."""
    left = list(answers)
    return lambda request, assignment: left.pop(0) if len(left) > 1 else left[0]


def shifted(by: float, **options: object) -> Update:
    """An update that adds a number to every tensor."""
    return replace(
        Update(**options), change=lambda tensors: {k: v + v.dtype.type(by) for k, v in tensors.items()}
    )
