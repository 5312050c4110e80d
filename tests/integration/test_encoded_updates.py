"""A real node with a real worker reads encoded models and encodes its updates, whatever happens to its agent."""

import pytest
import torch

from common.errors import ForeignDatabaseError
from common.ids import RunId, new_uuid
from common.limits import INLINE_BYTES
from common.messages import Chunk, PayloadReceipt, PingReply, PingRequest, RunEnd, TaskProgress, TrainReply
from common.payload.encodings.choice import Encoding
from common.payload.encodings.compression import compress_file, decompress_file
from common.payload.encodings.decoder import decode_file
from common.payload.encodings.encoder import encode_update
from common.payload.store import PayloadStore
from common.payload.tensors import load_tensors, save_tensors
from researcher.parcels import Parcels
from tests.support.nodes import ADD_ONE
from tests.support.quick_workers import quick_workers  # noqa: F401 - a fixture
from tests.support.trial import LAB, NORTH, Trial

STEP = """
        model = self.model()
        ramp = torch.linspace(0.001, 1.0, model.weight.numel())
        return -(model.weight * ramp).sum() - model.bias.sum()
"""
RAMP = ADD_ONE.replace(
    "        return -sum(parameter.sum() for parameter in self.model().parameters())\n", STEP
)
SMALL, LARGE = 3000, 100_000  # the residual of one rides in the journal, that of the other is a file


class Encoded(Trial):
    """Asks for encoded updates, and does beside the node what it should do."""

    def __init__(self, tmp_path, features=SMALL):
        super().__init__(tmp_path, plans=(RAMP,))
        self.features = features
        weight = torch.linspace(-1, 1, features).reshape(1, features) / 3
        save_tensors(tmp_path / "draft", {"weight": weight, "bias": torch.zeros(1)})
        self.base = self.store.add(tmp_path / "draft")
        self.parcels = Parcels(self.store, tmp_path / "parcels")
        self.arrived = PayloadStore(tmp_path / "arrived")
        self.mirror = tmp_path / "mirror"
        self.mirror.mkdir()
        self.round = 0
        self.last = None

    def ask_for(self, encoding):
        """Ask for the update of the next round."""
        self.round += 1
        model = self.parcels.pack(self.base, Encoding.parse(encoding))
        request = self.request(
            source=RAMP,
            round_=self.round,
            features=self.features,
            model=model,
            encoding=encoding,
            state_of=self.last,
        )
        self.last = self.task
        self.send(request)
        self.asked = request

    def send(self, request):
        path, model = self.parcels.packed(request.model), request.model
        self.lab.mailbox.send(request, path.read_bytes() if model.inline else b"").result(20)
        if not model.inline:
            self.lab.mailbox.send_payload(path, model, [NORTH]).result(20)

    def update(self):
        """Return the next reply, and the file of its update."""
        whole, reply = set(), None
        while reply is None or not (reply.update.inline or reply.update.sha256 in whole):
            mail = self.lab.take((Chunk, TrainReply, TaskProgress))
            if isinstance(mail.message, TrainReply):
                reply = mail.message
                if reply.update.inline:
                    self.arrived.put(mail.payload)
            elif isinstance(mail.message, Chunk) and self.arrived.accept(mail.message, mail.payload):
                whole.add(mail.message.manifest.sha256)
        return reply, self.arrived.path(reply.update.sha256)

    def expected(self, encoding):
        """Return the update that the node should send, made here, with a residual of its own."""
        chosen = Encoding.parse(encoding)
        base, trained, target, left = (self.mirror / name for name in ("base", "trained", "update", "left"))
        decode_file(self._sent(), base)
        tensors = load_tensors(base)
        change = torch.linspace(0.001, 1.0, self.features).reshape(1, -1)
        save_tensors(trained, {"weight": tensors["weight"] + change, "bias": tensors["bias"] + 1})
        residual, after = self.mirror / "residual", left if chosen.feeds_back else None
        before = residual if residual.exists() else None
        encode_update(trained, target, chosen, base=base, residual=before, residual_to=after)
        if after is not None:
            after.replace(residual)
        if chosen.zstd:
            compress_file(target, self.mirror / "packed")
            target = self.mirror / "packed"
        return target.read_bytes()

    def _sent(self):
        manifest = self.asked.model
        path = self.parcels.packed(manifest)
        if manifest.decoded_bytes is not None:
            decompress_file(path, self.mirror / "unpacked", size_bytes=manifest.decoded_bytes)
            path = self.mirror / "unpacked"
        return path

    def states(self):
        """Return of how many tasks the node keeps something."""
        return self.node.agent._journal._db.execute("SELECT count(*) FROM state").fetchone()[0]

    def exchange(self, encoding):
        """Ask, and return what came beside what should have come."""
        self.ask_for(encoding)
        reply, path = self.update()
        return reply, path.read_bytes(), self.expected(encoding)


@pytest.fixture
def make(tmp_path):
    made = []

    def trial(features=SMALL):
        made.append(Encoded(tmp_path, features))
        return made[-1]

    yield trial
    made[0].close()


EVERY = ["raw", "fp16", "bf16", "int8", "topk:0.1", "topk:0.01"]


@pytest.mark.usefixtures("quick_workers")
@pytest.mark.parametrize("features", [SMALL, LARGE], ids=["inline", "chunks"])
def test_the_model_arrives_and_the_update_comes_back_in_every_encoding(make, features):
    trial = make(features)
    sizes = {}

    for encoding in [*EVERY, *(f"{one}+zstd" for one in EVERY)]:
        reply, came, expected = trial.exchange(encoding)

        assert expected == came, encoding
        assert (trial.asked.model.sha256, encoding) == (reply.base, reply.update.encoding)
        assert encoding.endswith("+zstd") == (reply.update.decoded_bytes is not None)
        assert (len(came), len(came) <= INLINE_BYTES) == (reply.update.size_bytes, reply.update.inline)
        sizes[encoding] = (trial.asked.model.size_bytes, reply.update.size_bytes)

    model, update = sizes["raw"]
    least = {"fp16": 1.8, "bf16": 1.8, "int8": 3.3, "topk:0.1": 7, "topk:0.01": 15}
    for encoding, ratio in least.items():
        assert update / sizes[encoding][1] > ratio, encoding
        assert sizes[f"{encoding}+zstd"][1] < sizes[encoding][1] + 200, encoding
    assert model / sizes["bf16"][0] > 1.8
    assert sizes["int8"][0] == model


@pytest.mark.usefixtures("quick_workers")
@pytest.mark.parametrize(("features", "encoding"), [(SMALL, "int8"), (LARGE, "topk:0.1+zstd")])
def test_a_restarted_agent_goes_on_from_what_the_last_update_left_out(make, features, encoding):
    trial = make(features)

    for _ in range(2):
        trial.exchange(encoding)
        trial.restart()
    _, came, expected = trial.exchange(encoding)

    assert expected == came


def test_a_task_that_is_done_again_after_a_crash_gives_the_same_bytes(make, monkeypatch):
    trial = make(LARGE)
    trial.exchange("topk:0.1")
    trial.ask_for("topk:0.1")

    def damaged(*_, **__):
        raise ForeignDatabaseError(path=trial.home.path, kind="journal", reason="the test says so")

    journal = trial.node.agent._journal
    monkeypatch.setattr(journal, "answer", damaged)  # the residual is on disk by now, and must not count
    trial.node._thread.join(60)
    assert isinstance(trial.node.error, ForeignDatabaseError)
    trial.restart()
    reply, path = trial.update()

    assert trial.asked.assignments[0].task_id == reply.task_id
    assert trial.expected("topk:0.1") == path.read_bytes()


@pytest.mark.usefixtures("quick_workers")
@pytest.mark.parametrize("features", [SMALL, LARGE], ids=["journal", "file"])
def test_a_node_keeps_the_state_of_two_tasks_at_most_and_across_runs(make, features):
    trial = make(features)
    for _ in range(3):
        reply, _, _ = trial.exchange("int8")
        received = PayloadReceipt(sender=LAB, recipients=(NORTH,), sha256=reply.update.sha256)
        trial.lab.mailbox.send(received).result(20)
    end = RunEnd(sender=LAB, recipients=(NORTH,), experiment_id=trial.experiment, run_id=trial.run)
    trial.lab.mailbox.send(end).result(20)
    trial.lab.ask(PingRequest(sender=LAB, recipients=(NORTH,)), PingReply)

    assert 2 == trial.states()
    assert (2 if features == LARGE else 0) == len(list((trial.home.path / "payloads").iterdir()))

    trial.run, trial.last = RunId(new_uuid()), None
    trial.ask_for("raw")
    trial.update()

    assert 0 == trial.states()


@pytest.mark.usefixtures("quick_workers")
def test_a_task_that_builds_on_a_state_that_is_gone_starts_afresh(make):
    trial = make()
    trial.exchange("int8")
    trial.node.agent._journal._db.execute("DELETE FROM state")
    (trial.mirror / "residual").unlink()

    _, second, expected = trial.exchange("int8")

    assert expected == second
