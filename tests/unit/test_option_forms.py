"""Every option of every family can be asked for in a form, and comes back as it was typed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import FormData

from common.datasets.families import DATA_TYPES, family
from common.datasets.families.questions import questions
from common.errors import InvalidDatasetError
from node.gui import answers
from node.gui.errands import Asked

TABLE = Asked(name="units", meaning="", form="table", choices=(), entry="text", default={})
LIST = Asked(name="leave_out", meaning="", form="list", choices=(), entry="text", default=[])
YES = Asked(name="header", meaning="", form="yes or no", choices=(), entry="text", default=True)
plain = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20)


def asked_of(data_type):
    return tuple(
        Asked(name=one.name, meaning=one.meaning, form=one.form, choices=one.choices, entry=one.entry, default=one.default)
        for one in questions(family(data_type).options)
    )  # fmt: skip


def sent(fields):
    """Return what a browser sends for these fields, untouched."""
    form = {}
    for one in fields:
        name = f"o.{one.asked.name}"
        if one.asked.form == "table":
            for row, (key, value) in enumerate(one.pairs):
                form |= {f"{name}.key.{row}": key, f"{name}.value.{row}": value}
        elif not one.is_box or one.text == "yes":
            form[name] = one.text
    return FormData(form)


@pytest.mark.parametrize("data_type", DATA_TYPES)
def test_a_form_that_nobody_touched_says_the_defaults(data_type):
    asked = asked_of(data_type)
    typed = answers.from_form(asked, sent(answers.fields(asked, {}, {}, {})))
    kind = family(data_type).options
    found = [one for one in questions(kind) if not kind.model_fields[one.name].is_required()]

    assert {one.name: one.default for one in found} == {one.name: one.take(typed[one.name]) for one in found}


def test_an_option_without_a_default_must_be_said():
    question = next(one for one in questions(family("genomics").options) if one.name == "phenotypes")

    with pytest.raises(InvalidDatasetError, match="phenotypes"):
        question.take("")
    assert "people.csv" == question.take("people.csv")


def test_a_question_that_may_stay_open_is_no_box():
    open_ = YES.model_copy(update={"default": None})
    typed = [
        answers.from_form((open_,), FormData({"o.header": text}))["header"] for text in ("", "no", "yes")
    ]

    assert ["", "no", "yes"] == typed


@pytest.mark.parametrize("data_type", DATA_TYPES)
def test_every_option_says_what_it_is_for(data_type):
    assert [] == [one.name for one in asked_of(data_type) if not one.meaning]


@given(st.dictionaries(plain, plain, max_size=5), st.lists(plain, max_size=5), st.booleans())
def test_what_was_typed_is_shown_again(table, lines, header):
    asked = (TABLE, LIST, YES)
    typed = {"units": table, "leave_out": lines, "header": "yes" if header else "no"}

    assert typed == answers.from_form(asked, sent(answers.fields(asked, typed, {}, {})))


def test_values_that_are_set_are_shown():
    medical = asked_of("medical-folder")
    options = {"modalities": {"t1": ["T1", "T1_MPR"]}, "incomplete": "leave_out"}
    shown = {one.asked.name: one for one in answers.fields(medical, {}, options, {})}

    assert (("t1", "T1, T1_MPR"), ("", ""), ("", "")) == shown["modalities"].pairs
    assert "leave_out" == shown["incomplete"].text


def test_a_mapping_to_several_names_is_read_from_commas():
    question = next(one for one in questions(family("medical-folder").options) if one.name == "modalities")

    assert {"t1": ["T1", "T1_MPR"]} == question.take({"t1": "T1, T1_MPR"})


def test_a_mapping_to_choices_offers_them():
    question = next(one for one in questions(family("tabular").options) if one.name == "dtypes")

    assert ("choice", True) == (question.entry, "Int64" in question.choices)
    with pytest.raises(InvalidDatasetError, match="dtypes"):
        question.take({"age": "Number"})


def test_more_rows_are_there_when_they_are_asked_for():
    few, many = (answers.fields((TABLE,), {}, {}, {}, more)[0].pairs for more in ("", "units"))

    assert len(many) > len(few)


def test_a_form_asks_for_no_more_pairs_than_it_may_bring():
    typed = {"units": {str(key): "x" for key in range(500)}}

    assert answers.MOST_PAIRS == len(answers.fields((TABLE,), typed, {}, {})[0].pairs)


def test_only_what_differs_from_the_defaults_is_said():
    assert {"header": False} == answers.said(
        (TABLE, LIST, YES), {"units": {}, "leave_out": [], "header": False}
    )
