"""Do one errand, and end: `python -P -m node.gui.errand_process HOME`; the errand comes on stdin, its answer goes to stdout, as JSON.

This process loads the libraries that the data need. What it prints on stderr could hold values, so nobody keeps that.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import assert_never

from pydantic import JsonValue

from common.datasets.families import family
from common.datasets.families.questions import questions
from common.errors import DataError, InvalidDatasetError, WarrenError
from node.gui import errands
from node.gui.errands import Reply, Wish
from node.home import NodeHome
from node.sandbox.limits import limit_memory
from node.steward.datasets import Changes, Datasets, NewDataset
from node.steward.loading import Loading
from node.steward.looks import Looks, Subject


def answer(home: NodeHome, by: str, errand: errands.AnyErrand) -> errands.AnyAnswer:
    """Do an errand.

    Raises:
        WarrenError: As the core does.
    """
    datasets, looks = Datasets(home, by), Looks(home, by)
    match errand:
        case errands.AskOptions():
            return _asked(errand.data_type)
        case errands.ReadOptions():
            return _read(errand.data_type, errand.typed)
        case errands.Look():
            return _look(datasets, errand.subject)
        case errands.ShowFirst():
            from node.views.looking import glimpse  # numpy, which other errands may not need

            return glimpse(looks, _subject(errand.subject), rows=errands.ROWS, columns=errands.COLUMNS)
        case errands.Summarise():
            from node.views.looking import summary

            return summary(looks, _subject(errand.subject))
        case errands.Register():
            return _register(datasets, errand)
        case errands.Change():
            changes = Changes(
                name=errand.name,
                tags=errand.tags,
                description=errand.description,
                options=errand.options,
                watched=errand.watched,
            )
            made = datasets.update(errand.which, changes)
            one = made.dataset
            return errands.Registered(dataset_id=one.dataset_id, name=one.name, is_another=made.is_another)
        case errands.Check():
            return _check(datasets, errand.which)
        case errands.Keep():
            plan = Loading(home, by).save_of(errand.name, errand.which, description=errand.description)
            return errands.Kept(name=plan.name)
        case _:
            assert_never(errand)


def _asked(data_type: str) -> errands.Questions:
    found = questions(family(data_type).options)
    return errands.Questions(
        asked=tuple(
            errands.Asked(
                name=one.name,
                meaning=one.meaning,
                form=one.form,
                choices=one.choices,
                entry=one.entry,
                default=one.default,
            )
            for one in found
        )
    )


def _read(data_type: str, typed: dict[str, errands.Typed]) -> errands.Told:
    values, problems = {}, {}
    for question in questions(family(data_type).options):
        if question.name not in typed:
            continue
        try:
            values[question.name] = question.take(typed[question.name])
        except InvalidDatasetError as error:
            lines = str(error.facts["reason"]).partition("\n")[2].strip()
            problems[question.name] = lines.removeprefix(f"{question.name}: ")
    return errands.Told(values=values, problems=problems)


def _look(datasets: Datasets, subject: errands.Subject) -> errands.Looked:
    """Look with broken samples left out, so that all of them are named and not only the first."""
    options = subject.options | {"on_broken": "skip"}
    found = datasets.look(subject.path, subject.data_type, options)
    refused = bool(found.broken) and subject.options.get("on_broken", "refuse") == "refuse"
    return errands.Looked(inspection=found, refused=refused)


def _register(datasets: Datasets, errand: errands.Register) -> errands.Registered:
    made = datasets.add(
        NewDataset(
            path=errand.subject.path,
            name=errand.name,
            tags=errand.tags,
            description=errand.description,
            data_type=errand.subject.data_type,
            options=errand.subject.options,
            loading=errand.loading,
            watched=errand.watched,
        )
    )
    return errands.Registered(dataset_id=made.dataset_id, name=made.name)


def _check(datasets: Datasets, which: str) -> errands.Checked:
    found = datasets.check_one(which, thorough=True)
    if found.problem is None:
        return errands.Checked(problem=None)
    one = found.dataset
    try:
        now = datasets.look(one.path, one.data_type, {**one.parameters, "on_broken": "skip"})
    except DataError:  # then there is nothing to compare with
        return errands.Checked(problem=str(found.problem))
    return errands.Checked(problem=str(found.problem), now=now)


def _subject(subject: errands.Subject) -> Subject:
    return Subject(subject.path, subject.data_type, subject.options, subject.dataset_id)


def _done(home: NodeHome, wish: Wish) -> Reply:
    try:
        return Reply(answer=answer(home, wish.by, wish.errand).model_dump(mode="json"))
    except WarrenError as error:
        facts: dict[str, JsonValue] = {
            name: fact if isinstance(fact, int | float) else str(fact) for name, fact in error.facts.items()
        }
        return Reply(failed=errands.Failed(code=error.code, facts=facts))


def _main(path: Path) -> None:
    home = NodeHome.open(path)
    if memory_bytes := home.policy().worker_limits().memory_bytes:
        limit_memory(memory_bytes)
    wish = Wish.model_validate_json(sys.stdin.buffer.read())
    sys.stdout.write(_done(home, wish).model_dump_json())


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
