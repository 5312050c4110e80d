"""Identifiers."""

import re

import pytest

from common.errors import InvalidPartyIdError
from common.ids import UUID, derived_uuid, new_uuid, party_id, task_id


def test_fresh_ids_are_valid_distinct_and_sort_by_time():
    ids = [new_uuid() for _ in range(100)]

    assert all(re.fullmatch(UUID, one) for one in ids)
    assert 100 == len(set(ids))
    assert [one[:13] for one in ids] == sorted(one[:13] for one in ids)


def test_derived_ids_are_the_same_everywhere_and_do_not_run_together():
    assert "bfc8723f-188c-866f-bb3e-0b74d1fd8e3f" == derived_uuid("task", "run", 7)
    assert derived_uuid("a", "bc") != derived_uuid("ab", "c")


def test_another_attempt_is_another_task():
    run = new_uuid()

    assert task_id(run, 1, "north", 0) == task_id(run, 1, "north", 0)
    assert task_id(run, 1, "north", 0) != task_id(run, 1, "north", 1)


@pytest.mark.parametrize(
    "value", ["", "North", "north.1", "-north", "a" * 41, "north\n", "../north", "nørth"]
)
def test_a_party_id_that_is_no_slug_is_refused(value):
    with pytest.raises(InvalidPartyIdError):
        party_id(value)
