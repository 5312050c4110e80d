import pytest

from common.errors import AmbiguousPlanError, NoSuchPlanError, PlanHashError
from common.messages import PlanState
from common.training_plans.source import plan_hash
from node.approval import Approvals

SOURCE = "class HeartPlan:\n    pass\n"
HASH = plan_hash(SOURCE)


@pytest.fixture
def approvals(tmp_path):
    opened = Approvals(tmp_path / "registry.sqlite")
    yield opened
    opened.close()


def request(approvals, *, source=SOURCE, note="please"):
    return approvals.request(
        name="HeartPlan", announced=plan_hash(source), source=source, by="lab", note=note
    )


def test_a_plan_that_nobody_asked_for_is_unknown(approvals):
    assert PlanState.UNKNOWN is approvals.state(HASH)


def test_a_requested_plan_waits_for_a_decision(approvals):
    plan = request(approvals)
    assert (PlanState.PENDING, "lab", "please", SOURCE) == (
        plan.state,
        plan.requested_by,
        plan.request_note,
        plan.source,
    )


def test_a_source_that_does_not_have_its_hash_is_refused(approvals):
    with pytest.raises(PlanHashError):
        approvals.request(name="HeartPlan", announced=plan_hash("other"), source=SOURCE, by="lab")
    assert () == approvals.list()


@pytest.mark.parametrize("decision", [PlanState.APPROVED, PlanState.REJECTED])
def test_asking_again_does_not_change_a_decision(approvals, decision):
    request(approvals)
    decided = approvals.decide(HASH, decision, by="ann", note="seen")
    assert decided == request(approvals, note="really?")
    assert decision is approvals.state(HASH)


def test_a_decision_says_who_when_and_why(approvals):
    request(approvals)
    plan = approvals.decide(HASH, PlanState.REJECTED, by="ann", note="reads files")
    assert (PlanState.REJECTED, "ann", "reads files") == (plan.state, plan.decided_by, plan.decision_note)
    assert plan.decided_at >= plan.requested_at


def test_nothing_about_a_plan_is_forgotten(approvals):
    request(approvals)
    approvals.decide(HASH, PlanState.APPROVED, by="ann")
    approvals.decide(HASH, PlanState.REJECTED, by="bob", note="second thoughts")
    steps = [(event.state, event.actor, event.note) for event in approvals.history(HASH)]
    assert [
        (PlanState.PENDING, "lab", "please"),
        (PlanState.APPROVED, "ann", ""),
        (PlanState.REJECTED, "bob", "second thoughts"),
    ] == steps


def test_a_plan_that_is_not_known_cannot_be_decided(approvals):
    with pytest.raises(NoSuchPlanError):
        approvals.decide(HASH, PlanState.APPROVED, by="ann")
    assert () == approvals.history(HASH)


def test_layout_at_the_ends_of_lines_does_not_make_another_plan(approvals):
    approvals.approve_source(SOURCE.replace("\n", "  \r\n") + "\n\n", name="HeartPlan", by="ann")
    assert PlanState.APPROVED is approvals.state(HASH)


def test_another_source_is_another_plan(approvals):
    approvals.approve_source(SOURCE, name="HeartPlan", by="ann")
    assert PlanState.PENDING is request(approvals, source=SOURCE + "print()\n").state


def test_a_plan_is_found_by_the_beginning_of_its_hash(approvals):
    request(approvals)
    assert HASH == approvals.find(HASH[:6].upper()).plan_hash
    for unknown in ("", "zz", HASH + "0"):
        with pytest.raises(NoSuchPlanError):
            approvals.find(unknown)


def test_a_beginning_that_several_plans_share_is_refused_with_their_names(approvals):
    sources = [f"{SOURCE}# {number}\n" for number in range(17)]  # 16 first digits: two of 17 share one
    hashes = [request(approvals, source=source).plan_hash for source in sources]
    shared = next(
        digit for digit in "0123456789abcdef" if sum(found.startswith(digit) for found in hashes) > 1
    )
    with pytest.raises(AmbiguousPlanError) as caught:
        approvals.find(shared)
    assert all(found[:12] in str(caught.value) for found in hashes if found.startswith(shared))
