"""Write the pages of `docs/reference` that follow from the code."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from typer.core import TyperGroup

from common.errors import catalogue
from common.messages import PROTOCOL_VERSION
from common.messages.schema import schema_text
from common.security.files import write_atomic
from common.settings import Timeouts
from common.training_args import TrainingArgs
from deploy.errors_page import errors_page
from deploy.metrics_page import metrics_page

_TIMEOUTS: Final = """\
# Time limits

All of Warren's time limits. This page is generated from `common.settings.Timeouts`: `make docs`. A party changes
them for itself in `connection.toml` of its kit, for instance:

    [timeouts]
    reply_s = 10.0

The metric of a limit counts each time that it passes. The deadline of a round is not among them: it belongs to the strategy of
the experiment.

"""

_TRAINING_ARGS: Final = """\
# Training arguments

What `training_args` of an experiment may hold, by Fed-BioMed's names. This page is generated from
`common.training_args.TrainingArgs`: `make docs`. Unknown keys and values out of range are refused, all of them at once (WRN-902).
Give `epochs` or `num_updates`; with both, `num_updates` decides.

"""

_COMMANDS: Final = """\
# Commands

This page is generated from the command lines: `make docs`.

Every command takes `--json`: it then prints one JSON document on standard output and nothing else there. A failure is a document
too, `{"error": {"code", "text", "cause", "remedy"}}`, with exit code 1; without `--json` it goes to standard error, as text. So is the
end by Ctrl-C, `{"stopped": true}`, with exit code 130. A command line that cannot be understood is told on standard error, with exit code 2. Commands that run until they are stopped print
their document when they are ready.

`warren` and `warren-researcher` log what goes wrong to standard error: as words in a terminal, as lines of JSON elsewhere. With
`--verbose` before the command, as in `warren-researcher --verbose run heart.toml`, they log what happens, too. For a node that is
`warren-node start HOME --verbose` and `warren-node logs HOME --follow`.
"""


def reference_pages() -> dict[str, str]:
    """Return the text of every generated page, by its file name."""
    return {
        "commands.md": _commands_page(),
        "errors.md": errors_page(catalogue()),
        "metrics.md": metrics_page(),
        "timeouts.md": _TIMEOUTS + _timeouts_table(),
        "training-args.md": _TRAINING_ARGS + _training_args_table(),
        f"messages-{PROTOCOL_VERSION}.schema.json": schema_text(),
    }


def write_reference(folder: Path) -> list[Path]:
    """Write every generated page into a folder, and return the files.

    Raises:
        DiskFullError: If there is no space.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pages = {folder / name: text for name, text in reference_pages().items()}
    for path, text in pages.items():
        write_atomic(path, text.encode(), mode=0o644)
    return list(pages)


def attribute_docs(model: type[BaseModel]) -> dict[str, str]:
    """Return the text below each attribute of a class, by the attribute's name."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101  the source of a class is one
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in zip(definition.body, definition.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def commands(app: typer.Typer, name: str) -> Iterator[tuple[str, typer.core.TyperCommand]]:
    """Yield every command of an app, with all the words that call it."""

    def walk(command: Any, words: str) -> Iterator[tuple[str, typer.core.TyperCommand]]:
        if isinstance(command, TyperGroup):
            for word, inner in command.commands.items():
                yield from walk(inner, f"{words} {word}")
        else:
            yield words, command

    yield from walk(typer.main.get_command(app), name)


def command_lines() -> dict[str, typer.Typer]:
    """Return the three command lines, by the name of their program."""
    from deploy.cli import app as warren
    from node.cli import app as warren_node
    from researcher.cli import app as warren_researcher

    return {"warren": warren, "warren-node": warren_node, "warren-researcher": warren_researcher}


def _timeouts_table() -> str:
    docs = attribute_docs(Timeouts)
    rows = [
        (
            f"`{name}`",
            f"{info.default:g} s",
            _flat(docs[name]),
            f'`warren_timeouts_total{{timeout="{name}"}}`',
        )
        for name, info in Timeouts.model_fields.items()
    ]
    return _table(("name", "default", "meaning", "metric"), rows)


def _training_args_table() -> str:
    docs = attribute_docs(TrainingArgs)
    rows = [
        (f"`{name}`", _default(info.default), _kind(info.annotation), _flat(docs[name]))
        for name, info in TrainingArgs.model_fields.items()
    ]
    return _table(("name", "default", "type", "meaning"), rows)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _flat(text: str) -> str:
    return " ".join(text.split())


def _default(value: object) -> str:
    shown = {None: "none", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return f"`{shown[value]}`"
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def _kind(annotation: Any) -> str:
    """Return a type in words."""
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [_kind(one) for one in get_args(annotation) if one is not type(None)]
        return " or ".join(dict.fromkeys(kinds))
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{one}`" for one in get_args(annotation))
    if hasattr(annotation, "__metadata__"):
        return _kind(get_args(annotation)[0])
    words = {
        int: "whole number",
        float: "number",
        bool: "true or false",
        dict: "table",
        tuple: "list",
        BaseModel: "table",
    }
    kind = get_origin(annotation) or annotation
    return words[BaseModel if issubclass(kind, BaseModel) else kind]


def _commands_page() -> str:
    parts = [_COMMANDS]
    for program, app in command_lines().items():
        parts.append(f"## {program}\n\n{app.info.help}\n")
        parts.extend(
            _entry(words, command) for words, command in commands(app, program) if not command.hidden
        )
    return "\n".join(parts)


def _entry(words: str, command: typer.core.TyperCommand) -> str:
    shown = [parameter for parameter in command.params if parameter.name != "as_json"]
    needed = [_word(parameter) for parameter in shown if parameter.required]
    lines = [f"### {words}\n", f"`{' '.join([words, *needed])}`\n", f"{(command.help or '').strip()}\n"]
    for parameter in shown:
        default = parameter.default
        told = "" if parameter.required or default in (None, False, "") else f" Default: `{default}`."
        lines.append(f"- `{_word(parameter)}`: {getattr(parameter, 'help', '')}{told}")
    return "\n".join([*lines, ""] if shown else lines)


def _word(parameter: Any) -> str:
    """Return what a person types for a parameter."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name).upper()
    value = "" if parameter.is_flag else f" {parameter.metavar or str(parameter.name).upper()}"
    return f"{parameter.opts[0]}{value}"
