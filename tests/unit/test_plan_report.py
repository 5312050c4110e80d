"""What a reader of a plan is pointed to."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.plan_report import Concern, difference, report
from tests.support.nodes import ADD_ONE


def concerns(source):
    return {(remark.concern.value, remark.name) for remark in report(source)}


@pytest.mark.parametrize(
    ("line", "concern", "name"),
    [
        ("import torch", "imports", "torch"),
        ("from torch import nn", "imports", "torch.nn"),
        ("import os.path", "files", "os.path"),
        ("open('/etc/passwd')", "files", "open"),
        ("torch.load(x)", "files", "load"),
        ("from socket import create_connection", "network", "socket"),
        ("urllib.request.urlopen(x)", "network", "urlopen"),
        ("import subprocess", "processes", "subprocess"),
        ("os.system(x)", "processes", "system"),
        ("exec(x)", "dynamic code", "exec"),
        ("run = eval", "dynamic code", "eval"),
        ("__import__('os')", "dynamic code", "__import__"),
        ("import ctypes", "native code", "ctypes"),
        ("getattr(x, name)", "interpreter", "getattr"),
        ("().__class__.__subclasses__()", "interpreter", "__subclasses__"),
        ("f.__globals__", "interpreter", "__globals__"),
        ("x['__builtins__']", "interpreter", "'__builtins__'"),
        ("names = ['subprocess']", "interpreter", "'subprocess'"),
        ("def f(:", "unreadable", "it cannot be parsed"),
        ("x = '\\x00'\x00", "unreadable", "it cannot be parsed"),
    ],
)
def test_a_line_that_may_reach_outside_is_pointed_out(line, concern, name):
    assert (concern, name) in concerns(line)


def test_a_line_is_named_by_its_number():
    assert [(3, Concern.DYNAMIC_CODE, "exec")] == [
        (remark.line, remark.concern, remark.name) for remark in report("x = 1\n\nexec('y')\n")
    ]


def test_an_ordinary_plan_is_not_accused_of_anything_but_its_imports():
    assert {Concern.IMPORTS} == {remark.concern for remark in report(ADD_ONE)}
    assert set() == concerns("self.model().eval()\nre.compile\nx.compile()")


def test_nesting_without_end_is_reported_not_fatal():
    assert report("(" * 5000 + ")" * 5000)
    assert isinstance(report("-" * 20000 + "1"), tuple)


@given(st.text(max_size=300))
def test_any_text_gets_a_report(source):
    report(source)


@given(
    st.sampled_from(["import {0}", "x = {0}", "x.{0}", "f('{0}')"]),
    st.from_regex(r"[a-z_]{1,12}", fullmatch=True),
)
def test_any_program_gets_a_report(form, name):
    source = form.format(name)
    try:
        ast.parse(source)
    except SyntaxError:
        return
    assert all(remark.line == 1 for remark in report(source))


def test_two_versions_are_compared_line_by_line():
    assert ["--- a", "+++ b", "@@ -1,2 +1,2 @@", " x", "-y", "+z"] == difference(
        "x\ny\n", "x\nz\n", before_name="a", after_name="b"
    )
    assert [] == difference("x\n", "x\n", before_name="a", after_name="b")
