"""Workers do without torch's compiler until a plan asks for it."""

import json
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


LOOK = "import inspect; inspect.getmodule(object(), 'nowhere.py')"

SCRIPTS = {
    "train": "print(loaded)",
    "look": f"{LOOK}; print('torch._dynamo.eval_frame' in sys.modules)",
    "import": "import torch._dynamo.config; print(torch._dynamo.config.__name__)",
    "attribute": "print(torch._dynamo.eval_frame.__name__.replace('eval_frame', 'config'))",
    "compile": "print(torch.compile(lambda x: x + 1, backend='eager')(torch.ones(2)).tolist())",
}

FORK = """
import json, os
for name, script in json.loads(sys.argv[1]).items():
    if (child := os.fork()) == 0:
        print(name, end=": ", flush=True)
        exec(script)
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
"""


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    """Return what each script prints: one process imports torch and trains, and each script goes on in a copy of it."""
    done = subprocess.run(
        [sys.executable, "-c", TRAIN + FORK, json.dumps(SCRIPTS)], capture_output=True, text=True, timeout=100
    )
    assert 0 == done.returncode, done.stderr
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


def test_training_loads_no_compiler(printed):
    assert "False" == printed["train"]


def test_looking_up_the_source_of_something_loads_no_compiler(printed):
    assert "False" == printed["look"]


@pytest.mark.parametrize("use", ["import", "attribute"])
def test_a_plan_that_asks_for_the_compiler_gets_the_real_one(printed, use):
    assert "torch._dynamo.config" == printed[use]


def test_a_plan_can_compile(printed):
    assert "[2.0, 2.0]" == printed["compile"]
