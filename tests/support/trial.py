"""Ask one node for training by hand: a real agent with real workers, over the in-memory transport."""

import torch

from common.ids import ExperimentId, PartyId, RunId, new_uuid, task_id
from common.limits import INLINE_BYTES
from common.messages import (
    Assignment,
    PayloadManifest,
    SearchReply,
    SearchRequest,
    TrainReply,
    TrainRequest,
)
from common.payload.tensors import save_tensors
from common.training_args import TrainingArgs
from common.training_plans.source import plan_hash
from common.transport.memory import MemoryBroker
from tests.support.holdings import Files
from tests.support.nodes import ADD_ONE, Peer, RunningNode, make_home, make_kits

LAB, NORTH = PartyId("lab"), PartyId("north")


class Trial:
    """One node, one researcher, and what it takes to ask for training."""

    def __init__(self, tmp_path, *, plans=(ADD_ONE,), settings="", timeouts=None, limits=None):
        self.tmp_path = tmp_path
        roles = {"lab": "researcher", "north": "node"}
        self.kits = make_kits(tmp_path / "kits", roles, timeouts=timeouts)
        self.broker = MemoryBroker(self.kits["lab"].roster.parties(), limits=limits)
        self.home = make_home(tmp_path / "north", self.kits["north"], plans=plans, settings=settings)
        self.node = RunningNode(self.home, self.broker)
        self.lab = Peer(self.kits["lab"], self.broker)
        self.experiment, self.run = ExperimentId(new_uuid()), RunId(new_uuid())
        self.store = Files(tmp_path / "lab-payloads")

    def restart(self):
        self.node.stop()
        self.node = RunningNode(self.home, self.broker)

    def model(self, features=1):
        path = self.tmp_path / f"model-{features}"
        save_tensors(path, {"weight": torch.zeros(1, features), "bias": torch.zeros(1)})
        digest = self.store.add(path)
        size = self.store.path(digest).stat().st_size
        return PayloadManifest(sha256=digest, size_bytes=size, inline=size <= INLINE_BYTES)

    def request(
        self,
        *,
        source=ADD_ONE,
        round_=0,
        run=None,
        features=1,
        name="AddOne",
        dataset=None,
        state_of=None,
        **fields,
    ):
        found = self.lab.ask(SearchRequest(sender=LAB, recipients=(NORTH,), tags=("trial",)), SearchReply)
        run = run or self.run
        task = self.task = task_id(run, round_, NORTH, 0)
        share = Assignment(
            node=NORTH,
            task_id=task,
            dataset_id=dataset or found.datasets[0].dataset_id,
            state_of=state_of,
        )
        return TrainRequest(
            **{
                "sender": LAB,
                "recipients": (NORTH,),
                "experiment_id": self.experiment,
                "run_id": run,
                "round": round_,
                "assignments": (share,),
                "plan_name": name,
                "plan_hash": plan_hash(source),
                "source": source,
                "model_args": {"features": features},
                "training_args": TrainingArgs(num_updates=1),
                "seed": 1,
                "model": self.model(features),
            }
            | fields
        )

    def send(self, request):
        path = self.store.path(request.model.sha256)
        self.lab.mailbox.send(request, path.read_bytes() if request.model.inline else b"").result(20)
        if not request.model.inline:
            self.lab.mailbox.send_payload(path, request.model, [NORTH]).result(20)

    def answer(self, kind=TrainReply):
        return self.lab.take(kind, of=self.task)

    def close(self):
        self.node.stop()
        self.lab.close()
