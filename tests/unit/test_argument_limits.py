"""Limits that the people of a node bind an approval to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ArgumentLimitError, InvalidLimitError
from common.ids import PartyId, new_uuid
from common.messages import Assignment, PayloadManifest, TrainRequest
from common.training_args import TrainingArgs
from node.argument_limits import LIMITS, Limit, check_limits, parse_limits

NORTH = PartyId("north")


def request(*, round_=3, model_args=None, **training_args):
    return TrainRequest(
        sender="lab",
        recipients=("north",),
        experiment_id=new_uuid(),
        run_id=new_uuid(),
        round=round_,
        assignments=(Assignment(node="north", task_id=new_uuid(), dataset_id=new_uuid()),),
        plan_name="Plan",
        plan_hash="0" * 64,
        source="pass",
        model_args=model_args or {},
        training_args=TrainingArgs(**training_args),
        seed=1,
        model=PayloadManifest(sha256="0" * 64, size_bytes=8, inline=True),
    )


def broken(texts, asked):
    """Return the limit that a request breaks, or None."""
    try:
        check_limits(parse_limits(texts), asked, node=NORTH)
    except ArgumentLimitError as error:
        return error.facts["limit"]
    return None


@pytest.mark.parametrize(
    "text", ["epochs<=5", "num_updates<=1000", "round<=20", "optimizer_args.lr<=0.1", "model_args.layers>=2"]
)
def test_a_limit_is_shown_as_it_was_written(text):
    assert text == str(Limit.parse(text))
    assert Limit.parse(text) == Limit.parse(text.replace("<=", " <= "))


@pytest.mark.parametrize(
    "text",
    ["", "epochs", "epochs<5", "epochs=5", "epochs<=many", "epochs<=nan", "epochs<=1e9", "epoch<=5", "model_args<=3",
     "model_args.<=3", "epochs.x<=3", "dry_run<=1", "test_metric<=1", "epochs<=5;round<=3"],
)  # fmt: skip
def test_what_is_no_limit_is_refused(text):
    with pytest.raises(InvalidLimitError):
        Limit.parse(text)


def test_there_is_an_end_to_limits():
    with pytest.raises(InvalidLimitError):
        parse_limits(["epochs<=5"] * (LIMITS + 1))


@pytest.mark.parametrize(
    ("limits", "asked", "expected"),
    [
        (["epochs<=5"], request(epochs=5), None),
        (["epochs<=5"], request(epochs=6), "epochs<=5"),
        (["epochs<=5"], request(num_updates=10**6), "epochs<=5"),
        (["epochs<=5"], request(epochs=1, num_updates=10**6), None),
        (["epochs<=5", "num_updates<=1000"], request(num_updates=1000), None),
        (["epochs<=5", "num_updates<=1000"], request(num_updates=1001), "num_updates<=1000"),
        (["epochs<=5", "num_updates<=1000"], request(epochs=3), None),
        (["epochs<=5", "num_updates<=1000"], request(epochs=9, num_updates=10), "epochs<=5"),
        (["round<=3"], request(epochs=1), None),
        (["round<=2"], request(epochs=1), "round<=2"),
        (["model_args.layers<=4"], request(epochs=1, model_args={"layers": 4}), None),
        (["model_args.layers<=4"], request(epochs=1), "model_args.layers<=4"),
        (["model_args.layers<=4"], request(epochs=1, model_args={"layers": "4"}), "model_args.layers<=4"),
        (["model_args.layers<=4"], request(epochs=1, model_args={"layers": True}), "model_args.layers<=4"),
        (["model_args.a.b<=4"], request(epochs=1, model_args={"a": {"b": 4}}), None),
        (["optimizer_args.lr<=0.1"], request(epochs=1, optimizer_args={"lr": 0.1}), None),
        (["loader_args.batch_size>=16"], request(epochs=1, loader_args={"batch_size": 8}), "loader_args.batch_size>=16"),
        ([], request(epochs=10**9), None),
    ],
)  # fmt: skip
def test_a_request_keeps_to_every_limit_or_is_refused(limits, asked, expected):
    assert expected == broken(limits, asked)


@given(bound=st.integers(0, 1000), value=st.integers(0, 1000))
def test_a_bound_holds_exactly(bound, value):
    assert (value <= bound) is (broken([f"epochs<={bound}"], request(epochs=value)) is None)
    assert (value >= bound) is (broken([f"epochs>={bound}"], request(epochs=value)) is None)


def test_a_value_that_is_no_number_is_not_repeated_in_the_refusal():
    with pytest.raises(ArgumentLimitError) as caught:
        check_limits(
            parse_limits(["model_args.x<=1"]), request(epochs=1, model_args={"x": "secret"}), node=NORTH
        )
    assert "secret" not in caught.value.public_text
