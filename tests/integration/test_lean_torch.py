"""Workers do without torch's compiler until a plan asks for it."""

import subprocess
import sys

import pytest

TRAIN = """
import sys, torch
from node.worker.lean_torch import spare_compiler
spare_compiler()
model = torch.nn.Linear(1, 1)
for optimizer in (torch.optim.SGD(model.parameters(), lr=0.1), torch.optim.Adam(model.parameters())):
    optimizer.zero_grad()
    torch.autograd.backward(model(torch.ones(1, 1)).sum())
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
loaded = "torch._dynamo.eval_frame" in sys.modules
"""


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", TRAIN + script], capture_output=True, text=True, timeout=100)
    assert 0 == done.returncode, done.stderr
    return done.stdout.strip()


def test_training_loads_no_compiler():
    assert "False" == run("print(loaded)")


def test_looking_up_the_source_of_something_loads_no_compiler():
    look = "import inspect; inspect.getmodule(object(), 'nowhere.py')"

    assert "False" == run(f"{look}; print('torch._dynamo.eval_frame' in sys.modules)")


@pytest.mark.parametrize(
    "use",
    [
        "import torch._dynamo.config; print(torch._dynamo.config.__name__)",
        "print(torch._dynamo.eval_frame.__name__.replace('eval_frame', 'config'))",
    ],
)
def test_a_plan_that_asks_for_the_compiler_gets_the_real_one(use):
    assert "torch._dynamo.config" == run(use)


def test_a_plan_can_compile():
    assert "[2.0, 2.0]" == run(
        "print(torch.compile(lambda x: x + 1, backend='eager')(torch.ones(2)).tolist())"
    )
