"""GPUs are for the node to offer, for the researcher to ask for, and for nobody else to open."""

from collections import namedtuple
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidSettingsError
from common.training_plans.device import moved, on_device, to_device
from node.gpus import Choice, choose_device, device_files, environment
from node.policy import Policy
from node.sandbox import SandboxPolicy
from node.worker.pool import Walls
from node.worker.session import Session
from tests.support.plans import LogisticPlan, prepared
from tests.support.tasks import Desk

DEV = [
    Path("/dev") / name
    for name in ("null", "nvidia-uvm", "nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-modeset", "sda")
]
Pair = namedtuple("Pair", "data target")


def names(offer, pinned=None, found=DEV):
    return [path.name for path in device_files(found, offer, pinned)]


# The decision


@pytest.mark.parametrize(
    ("offer", "asked", "found", "choice"),
    [
        ("none", False, 1, Choice("cpu")),
        ("none", True, 1, Choice("cpu", "gpu_not_offered")),
        ("offer", False, 1, Choice("cpu")),
        ("offer", True, 1, Choice("cuda")),
        ("offer", True, 0, Choice("cpu", "gpu_not_found")),
        ("only", False, 1, Choice("cuda")),
        ("only", True, 2, Choice("cuda")),
        ("only", False, 0, Choice("cpu", "gpu_not_found")),
    ],
)
def test_a_task_runs_where_node_and_researcher_agree(offer, asked, found, choice):
    assert choice == choose_device(offer, asked=asked, found=found)


@given(st.sampled_from(["none", "offer", "only"]), st.booleans(), st.integers(0, 8))
def test_a_gpu_is_used_only_if_it_is_offered_and_there(offer, asked, found):
    choice = choose_device(offer, asked=asked, found=found)

    assert choice.device == "cpu" or (offer != "none" and found > 0 and choice.notice is None)


def test_only_the_files_of_offered_gpus_are_let_through():
    assert [] == names("none")
    assert ["nvidia0", "nvidia1", "nvidia10", "nvidia-uvm", "nvidiactl"] == names("offer")
    assert ["nvidia1", "nvidia-uvm", "nvidiactl"] == names("only", pinned=1)
    assert [] == names("offer", pinned=7)
    assert [] == names("offer", found=[Path("/dev/nvidiactl")])


def test_workers_are_told_which_gpus_there_are():
    assert {"CUDA_VISIBLE_DEVICES": ""} == environment("none", 1)
    assert {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} == environment("offer", None)
    assert {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1"} == environment("only", 1)


def test_the_policy_of_a_node_offers_nothing_by_default(tmp_path):
    (tmp_path / "policy.toml").write_text('gpu = "offer"\ngpu_device = 1\n')

    assert ("none", None) == (Policy().gpu, Policy().gpu_device)
    assert ("offer", 1) == (
        Policy.load(tmp_path / "policy.toml").gpu,
        Policy.load(tmp_path / "policy.toml").gpu_device,
    )
    (tmp_path / "policy.toml").write_text('gpu = "sometimes"\ngpu_device = -1\n')
    with pytest.raises(InvalidSettingsError, match=r"(?s)gpu.*gpu_device"):
        Policy.load(tmp_path / "policy.toml")


def test_walls_let_no_device_through_by_default():
    assert () == SandboxPolicy(agent_pid=1, scratch=Path("/scratch")).devices
    assert "none" == Walls(Policy().worker_limits(), frozenset(), ()).gpu


# A task


@pytest.mark.parametrize(
    ("offer", "asked", "notice"),
    [
        ("none", False, None),
        ("none", True, "gpu_not_offered"),
        ("offer", True, "gpu_not_found"),
        ("only", False, "gpu_not_found"),
    ],
)
def test_without_a_gpu_a_task_is_done_on_the_cpu_and_says_why(tmp_path, monkeypatch, offer, asked, notice):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)  # whatever this machine has
    desk = Desk(tmp_path)
    desk.write_model()

    made = Session().run(desk.task(args={"use_gpu": asked}, gpu=offer), lambda progress: None)
    plain = Session().run(desk.task(), lambda progress: None)

    assert ("cpu", notice, None) == (made.done.device, made.done.notice, made.done.gpu_bytes)
    assert plain.update == made.update


# Moving


def test_tensors_are_moved_however_deep_they_lie():
    batch = (
        {"image": torch.ones(2, 3), "more": [torch.ones(1), ("name", 3)]},
        Pair(torch.zeros(2), None),
    )

    there = to_device(batch, "meta")

    assert {"meta"} == {str(one.device) for one in (there[0]["image"], there[0]["more"][0], there[1].data)}
    assert ("name", 3) == there[0]["more"][1]
    assert (Pair, None) == (type(there[1]), there[1].target)
    assert to_device(batch[0]["image"], "cpu") is batch[0]["image"]


class Loader:
    """One batch."""

    samples = 2

    def __len__(self):
        return 1

    def __iter__(self):
        return iter([(torch.ones(2, 3), torch.ones(2, 1))])


def test_a_loader_gives_its_batches_on_the_device():
    loader = Loader()

    there = moved(loader, "meta")

    assert loader is moved(loader, "cpu")
    assert (1, 2) == (len(there), there.samples)
    assert [["meta", "meta"]] * 2 == [[str(one.device) for one in batch] for _ in range(2) for batch in there]


def test_a_model_goes_to_the_device_and_comes_back():
    model = torch.nn.BatchNorm1d(3)
    weight = model.weight

    with pytest.raises(RuntimeError, match="while it is there"), on_device(model, "cpu"):
        raise RuntimeError("while it is there")
    with on_device(model, "cpu"):
        assert "cpu" == str(model.running_mean.device)

    assert model.weight is weight


def test_model_batches_and_optimizer_meet_on_the_device():
    """On `meta`, which computes shapes alone; a copy back from it is impossible, so that is where this ends."""
    seen = []

    class Looking(LogisticPlan):
        def training_step(self, data, target):
            seen.extend([str(data.device), str(self.model().weight.device), self.device_name()])
            raise StopIteration

    plan = prepared(Looking)
    plan.enter(node_id="north", round_=1, training_args=plan._training_args, device="meta")

    with pytest.raises(Exception, match="meta"):
        plan.train(Loader(), lambda point: None)

    assert ["meta"] * 3 == seen
