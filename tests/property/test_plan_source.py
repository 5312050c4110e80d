"""The canonical form of a source is one form, and every line of it keeps its number."""

from hypothesis import given
from hypothesis import strategies as st

from common.training_plans.source import canonical_source, plan_hash

LINES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=12), max_size=8
)


@given(LINES)
def test_the_canonical_form_is_its_own_canonical_form(lines):
    form = canonical_source("\n".join(lines))

    assert canonical_source(form) == form
    assert form.endswith("\n")
    assert "\r" not in form


@given(LINES, st.sampled_from(["\n", "\r\n", "\r"]), st.text(" \t", max_size=3), st.integers(0, 3))
def test_line_ends_trailing_blanks_and_empty_lines_at_the_end_do_not_change_the_hash(
    lines, end, blanks, empty
):
    written = end.join([line + blanks for line in lines] + [""] * empty)

    assert plan_hash(written) == plan_hash("\n".join(lines))


@given(LINES)
def test_lines_keep_their_numbers_and_their_beginnings(lines):
    form = canonical_source("\n".join(lines)).split("\n")

    for number, line in enumerate(lines):
        assert (form + [""] * len(lines))[number] == line.rstrip(" \t")
