"""A plan becomes a text that runs anywhere, has one hash, and is what runs."""

import hashlib
import linecache
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import PlanContractError, PlanFailedError, PlanHashError, PlanSourceError
from common.limits import PLAN_SOURCE_BYTES
from common.training_plans import TorchTrainingPlan, TrainingPlan
from common.training_plans.source import canonical_source, load_plan, plan_hash, plan_source
from tests.support.plans import LogisticPlan, loaded, prepared, shipped

ROOT = Path(__file__).parents[2]

PLAN = """
from common.training_plans import TorchTrainingPlan


class Plan(TorchTrainingPlan):
    def init_model(self, model_args):
        {model}

    def training_step(self, data, target):
        return self.model()(data).sum()

    def training_data(self):
        raise AssertionError("a plan that is written down is not run")
"""


def script(tmp_path, text, *, name="Plan"):
    """Run a text as a file and return a class that it defines."""
    path = tmp_path / "script.py"
    path.write_text(text)
    namespace = {"__name__": "__main__", "__file__": str(path)}
    exec(compile(text, path, "exec"), namespace)  # noqa: S102 - as python does with a script
    return namespace[name]


def in_script(tmp_path, *, before="", model="return nn.Linear(2, 1)", after=""):
    """Return the plan of a script with more text around it."""
    return script(tmp_path, before + PLAN.format(model=model) + after)


def test_the_source_of_a_plan_runs_on_its_own_and_builds_the_same_model():
    here, there = prepared(LogisticPlan), prepared(shipped(LogisticPlan))

    assert there.model().weight.tolist() == here.model().weight.tolist()
    assert type(there).__module__.startswith("warren_plan_")


def test_the_source_has_what_the_class_uses_and_nothing_else():
    source = plan_source(LogisticPlan)

    head, _, _ = source.partition("class LogisticPlan")
    assert head.split("\n") == [
        "from __future__ import annotations",
        "import torch.optim",
        "from common.data import DataManager",
        "from common.datasets import TabularDataset",
        "from common.training_plans import TorchTrainingPlan",
        "from torch import nn",
        "",
        "COLUMNS = ['a', 'b', 'c']",
        "",
        "",
        "",
    ]
    assert "write_table" not in source


def test_functions_classes_and_constants_of_the_same_file_come_along_in_an_order_that_runs(tmp_path):
    plan = in_script(
        tmp_path,
        before="""
import functools
import xml.etree.ElementTree
import numpy as np
from math import pi
from torch import float32, sigmoid
from torch import nn as layers
SIZES = {"hidden": (3, 2.5, None, [True, "x"])}
UNUSED = object()

def deco(size):
    def inner(function):
        @functools.wraps(function)
        def wrapped(*args):
            return function(*args)
        return wrapped
    return inner

class Base(layers.Module):
    # kept
    width = SIZES["hidden"][0]

class Net(Base):
    def __init__(self):
        super().__init__()
        self.layer = layers.Linear(self.width, 1)

@deco(
    SIZES,
)
def build(net=None):
    return first(net or Net())

def first(net):
    return other(net) if pi < 3 else net

def other(net):
    return first(net)
""",
        model="np.zeros(1); sigmoid, float32, xml.etree.ElementTree.XML; return build()",
    )

    source = plan_source(plan)

    assert loaded(source)().init_model({}).layer.in_features == 3
    assert plan_source(plan) == source
    assert "    # kept\n" in source
    assert "UNUSED" not in source
    assert "import numpy as np\n" in source
    assert "from torch import float32\n" in source


def test_a_class_of_a_notebook_cell_is_found_with_what_other_cells_define():
    namespace = {"__name__": "__main__"}
    cells = {
        "<ipython-input-1>": "from torch import nn\nWIDTH = 4\n",
        "<ipython-input-2>": "class Net(nn.Linear):\n    def __init__(self):\n        super().__init__(WIDTH, 1)\n",
        "<ipython-input-3>": PLAN.format(model="return Net()"),
    }
    for name, text in cells.items():
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), namespace)  # noqa: S102 - as a notebook does with a cell

    source = plan_source(namespace["Plan"])

    assert loaded(source)().init_model({}).in_features == 4


def test_import_lines_of_init_dependencies_stand_for_names_that_the_file_lacks(tmp_path):
    plan = in_script(
        tmp_path,
        model="return nn.Linear(2, 1)",
        after="""
    def init_dependencies(self):
        return ["import torch", "from torch import nn, optim"]
""",
    )

    source = plan_source(plan)

    assert source.startswith(
        "import torch\nfrom torch import nn, optim\nfrom common.training_plans import TorchTrainingPlan\n"
    )
    assert loaded(source)().init_model({}).out_features == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"model": "return missing(1)"}, "'missing' is not defined"),
        ({"before": "thing = object()\n", "model": "return thing"}, "'thing' is a object"),
        (
            {"before": "import threading\nlock = threading.Lock()\n", "model": "return lock"},
            "'lock' is a lock",
        ),
        ({"before": "act = lambda x: x\n", "model": "return act"}, "'act' is another name of <lambda>"),
        ({"before": "nan = float('nan')\n", "model": "return nan"}, "'nan' is a float"),
        ({"before": "import tests.support.plans as p\n", "model": "return p"}, "no installed library"),
        (
            {"before": "from tests.support.plans import LogisticPlan\n", "model": "return LogisticPlan"},
            "no installed library",
        ),
        ({"after": "\n    def init_dependencies(self):\n        return ['print(1)']\n"}, "not an import"),
        (
            {"after": "\n    def init_dependencies(self):\n        return ['from os import *']\n"},
            "not an import",
        ),
        ({"after": "\n    def init_dependencies(self):\n        return ['no python']\n"}, "no import"),
        ({"model": f"return {'x' * PLAN_SOURCE_BYTES!r}"}, "bytes are more than"),
    ],
)
def test_what_cannot_be_written_down_is_named(tmp_path, options, reason):
    with pytest.raises(PlanSourceError, match=reason):
        plan_source(in_script(tmp_path, **options))


def test_a_plan_made_inside_a_function_is_refused():
    class Plan(LogisticPlan):
        pass

    with pytest.raises(PlanSourceError, match="made inside a function"):
        plan_source(Plan)


def test_something_else_than_a_plan_is_refused():
    with pytest.raises(PlanSourceError, match="no TrainingPlan"):
        plan_source(Path)


def test_a_plan_that_lacks_a_method_is_refused_at_both_ends():
    text = "from common.training_plans import TorchTrainingPlan\nclass Plan(TorchTrainingPlan):\n    pass\n"

    with pytest.raises(PlanContractError, match=r"Plan\.init_model is missing"):
        loaded(text)
    with pytest.raises(PlanContractError, match=r"is missing"):
        plan_source(TorchTrainingPlan)


def test_the_hash_ignores_line_ends_and_trailing_blanks_and_nothing_else():
    text = "a = 1\n\nb = 'é'\n"

    assert plan_hash("a = 1  \r\n\t\r\nb = 'é' \r\r\n\n") == plan_hash(text)
    assert plan_hash(text) == hashlib.sha256(text.encode()).hexdigest()
    assert plan_hash(" a = 1") != plan_hash("a = 1")
    assert plan_hash("e\u0301") != plan_hash("\u00e9")
    assert plan_hash("a\u2028b \x0c") == hashlib.sha256("a\u2028b \x0c\n".encode()).hexdigest()


def test_the_canonical_form_is_what_runs(tmp_path):
    text = PLAN.format(model='return """a  \n"""')

    assert loaded(text)().init_model({}) == "a\n"
    assert canonical_source(canonical_source(text)) == canonical_source(text)


def test_a_source_that_is_not_utf8_text_has_no_hash():
    with pytest.raises(PlanSourceError, match="surrogate"):
        plan_hash("\ud800")


def test_nothing_runs_if_the_hash_differs(tmp_path):
    path = tmp_path / "plan.py"
    path.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")

    with pytest.raises(PlanHashError):
        load_plan(path, "Plan", plan_hash("other"))

    assert not (tmp_path / "ran").exists()


def test_an_encoding_cookie_cannot_change_what_was_approved(tmp_path):
    path = tmp_path / "plan.py"
    text = "# coding: utf-7\n# +AAo-SystemExit()\n" + PLAN.format(model="return 1")
    path.write_text(text)

    assert load_plan(path, "Plan", plan_hash(text))().init_model({}) == 1


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("a = 1\nb = (\n", PlanSourceError, "line 2 is not Python"),
        ("a = '\0'\n", PlanSourceError, "not Python"),
        ("(" * 10_000, PlanSourceError, "not Python"),
        ("\n\n1 / 0\n", PlanFailedError, "ZeroDivisionError at line 3 of the plan, in the module itself"),
        ("raise SystemExit('secret')\n", PlanFailedError, "SystemExit at line 1"),
        ("import no_such_module_here\n", PlanFailedError, "ModuleNotFoundError at line 1"),
        (
            "def f(x):\n    raise SyntaxError(x)\nf('secret')\n",
            PlanFailedError,
            "SyntaxError at line 2 of the plan, in f",
        ),
        ("Plan = 3\n", PlanSourceError, "does not define a class"),
        ("class Other: pass\n", PlanSourceError, "does not define a class"),
        ("from pathlib import Path as Plan\n", PlanSourceError, "does not define a class"),
        ("class Plan: pass\n", PlanSourceError, "no TrainingPlan"),
    ],
)
def test_a_source_that_is_no_plan_is_refused_with_its_line(text, error, match):
    before = set(sys.modules)

    with pytest.raises(error, match=match) as raised:
        loaded(text)

    assert "secret" not in str(raised.value)
    assert error is PlanSourceError or set(sys.modules) == before


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "latin.py").write_bytes(b"a = '\xe9'\n")

    for name in ("latin.py", "none.py"):
        with pytest.raises(PlanSourceError, match="cannot be read"):
            load_plan(tmp_path / name, "Plan", plan_hash(""))


def test_hashing_a_plan_loads_no_learning_framework():
    code = (
        "import sys, common.training_plans.source, common.datasets, common.payload.header\n"
        "assert not {'torch', 'sklearn'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_both_plan_classes_are_found_in_the_package():
    assert issubclass(TorchTrainingPlan, TrainingPlan)
