import tomllib

import pytest

from common.errors import InvalidSettingsError, PlanNotApprovedError, TaskRefusedError, TooFewSamplesError
from common.ids import PartyId, new_uuid
from common.messages import Assignment, PayloadManifest, PlanState, TrainRequest
from common.training_args import TrainingArgs
from node.policy import Policy

NODE = PartyId("north")


def request(*, sender="lab", **model):
    described = {"size_bytes": 1024, "inline": True} | model
    return TrainRequest(
        sender=PartyId(sender),
        recipients=(NODE,),
        experiment_id=new_uuid(),
        run_id=new_uuid(),
        round=1,
        assignments=(Assignment(node=NODE, task_id=new_uuid(), dataset_id=new_uuid()),),
        plan_name="HeartPlan",
        plan_hash="a" * 64,
        source="class HeartPlan: ...",
        model_args={},
        training_args=TrainingArgs(epochs=1),
        seed=1,
        model=PayloadManifest(sha256="b" * 64, **described),
    )


def measuring(**args):
    """A request for the moments of columns."""
    wanted = TrainingArgs(epochs=1, moments="federation", **args)
    return request().model_copy(update={"train": False, "training_args": wanted})


def refusal(policy, asked=None, *, samples=100, plan=PlanState.APPROVED):
    return policy.refusal(asked or request(), node=NODE, samples=samples, plan=plan)


def test_what_was_approved_runs():
    assert refusal(Policy()) is None


@pytest.mark.parametrize("state", [PlanState.UNKNOWN, PlanState.PENDING, PlanState.REJECTED])
def test_nothing_runs_without_approval_by_default(state):
    error = refusal(Policy(), plan=state)
    assert isinstance(error, PlanNotApprovedError)
    assert (state, "north") == (error.facts["status"], error.facts["node"])


def test_a_node_may_run_plans_that_nobody_looked_at_but_never_a_rejected_one():
    policy = Policy(plan_approval=False)
    assert refusal(policy, plan=PlanState.UNKNOWN) is None
    assert isinstance(refusal(policy, plan=PlanState.REJECTED), PlanNotApprovedError)


def test_only_the_named_researchers_are_served():
    policy = Policy(allowed_researchers=("alice",))
    assert isinstance(refusal(policy, request(sender="mallory")), TaskRefusedError)
    assert refusal(policy, request(sender="alice")) is None


def test_a_model_over_the_limit_is_refused_with_both_sizes():
    error = refusal(Policy(max_model_bytes=2048), request(size_bytes=2049))
    assert isinstance(error, TaskRefusedError)
    assert "2049" in str(error)
    assert "2048" in str(error)


def test_a_model_counts_by_what_it_becomes_once_decompressed():
    small = request(encoding="raw+zstd", decoded_bytes=2048)
    bomb = request(encoding="raw+zstd", decoded_bytes=2049)

    assert refusal(Policy(max_model_bytes=2048), small) is None
    assert isinstance(refusal(Policy(max_model_bytes=2048), bomb), TaskRefusedError)


def test_a_small_data_set_is_not_trained_on():
    error = refusal(Policy(minimum_samples=50), samples=49)
    assert isinstance(error, TooFewSamplesError)
    assert refusal(Policy(minimum_samples=50), samples=50) is None


def test_a_wrong_file_is_refused_with_every_mistake(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text('max_workers = 0\nplan_aproval = true\nallowed_researchers = ["Not A Slug"]\n')
    with pytest.raises(InvalidSettingsError) as caught:
        Policy.load(path)
    for mistake in ("max_workers", "plan_aproval", "allowed_researchers.0"):
        assert mistake in str(caught.value)


def test_the_template_changes_nothing_until_lines_are_uncommented(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(Policy.template())
    assert Policy() == Policy.load(path)


def test_every_line_of_the_template_is_valid_once_uncommented():
    lines = [line.removeprefix("# ") for line in Policy.template().splitlines() if " = " in line]
    assert len(Policy.model_fields) == len(lines)
    Policy.model_validate(tomllib.loads("\n".join(lines)))


def test_every_setting_says_what_it_does():
    assert all(info.description for info in Policy.model_fields.values())


def test_only_the_allowed_kinds_of_requests_are_served():
    policy = Policy(allowed_requests=["validate", "list"])

    assert "WRN-606" == refusal(policy).code
    assert refusal(policy, request().model_copy(update={"train": False})) is None
    assert "WRN-606" == refusal(policy, measuring()).code
    assert policy.serves(PartyId("lab"), "list")
    assert not policy.serves(PartyId("lab"), "search")


def test_moments_are_of_a_training_part_that_is_large_enough():
    policy = Policy(minimum_samples=20)

    assert refusal(policy, measuring(test_ratio=0.8)) is None
    assert "WRN-408" == refusal(policy, measuring(test_ratio=0.81)).code


@pytest.mark.parametrize(("ratio", "runs"), [(0.0, True), (0.2, True), (0.1, False), (0.9, False)])
def test_each_part_of_a_split_has_enough_samples(ratio, runs):
    asked = request().model_copy(update={"training_args": TrainingArgs(epochs=1, test_ratio=ratio)})

    assert runs is (refusal(Policy(minimum_samples=20), asked, samples=100) is None)


@pytest.mark.parametrize("privacy", ["secure_aggregation", "differential_privacy"])
def test_a_node_that_requires_protected_updates_refuses_a_request_without(privacy):
    error = refusal(Policy(compulsory_privacy=[privacy]))

    assert "WRN-606" == error.code
    assert f"requires {privacy.replace('_', ' ')}, which the request does not use" in str(error)
