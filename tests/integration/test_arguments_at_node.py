"""What a request says about the stream, the GPU and the arguments reaches the worker through a real agent."""

import pytest
from safetensors.torch import load

from common.messages import TrainReply
from common.training_args import TrainingArgs
from tests.support.nodes import ADD_ONE
from tests.support.quick_workers import quick_workers  # noqa: F401 - a fixture
from tests.support.trial import Trial

STEP = "return -sum(parameter.sum() for parameter in self.model().parameters())"
ROWS = ADD_ONE.replace(STEP, "return -(self.model().weight * data.mean()).sum()")
ARGS = {"num_updates": 1, "loader_args": {"batch_size": 4, "shuffle": False}, "random_seed": 1}


@pytest.fixture
def trial(tmp_path):
    made = Trial(tmp_path, plans=(ROWS,), settings='gpu = "offer"\ngpu_device = 255\n')
    yield made
    made.close()


def done(trial, *, round_, updates_done=0, **args):
    """Return the reply to one task and the weight that it made of zero."""
    request = trial.request(source=ROWS, round_=round_, training_args=TrainingArgs.of(ARGS | args))
    shares = tuple(one.model_copy(update={"updates_done": updates_done}) for one in request.assignments)
    trial.send(request.model_copy(update={"assignments": shares}))
    mail = trial.answer(TrainReply)
    return mail.message, load(bytes(mail.payload))["weight"].item()


@pytest.mark.usefixtures("quick_workers")
def test_training_goes_on_behind_the_updates_that_count(trial):
    weights = [
        done(trial, round_=round_, updates_done=before)[1] for round_, before in ((1, 0), (2, 1), (3, 6))
    ]

    assert [1.5, 5.5, 9.5] == weights


def test_arguments_and_the_lack_of_a_gpu_are_seen_at_the_node(trial):
    schedule = {"kind": "exponential", "gamma": 0.5}
    asked, slower = done(trial, round_=3, use_gpu=True, lr_schedule=schedule, clip_grad_norm=1.0)
    plain, _ = done(trial, round_=4)

    assert ("cpu", "gpu_not_found") == (asked.device, asked.notice)
    assert ("cpu", None) == (plain.device, plain.notice)
    assert 0.25 == pytest.approx(slower)
