"""Commands about what the node allows: `policy.toml`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from common.cli import AsJson, emit, new_app, reported, table
from node.cli.options import Home, person

if TYPE_CHECKING:
    from node.policy import Policy
    from node.steward.policies import PolicyFile

app = new_app("Look at what the node allows, which policy.toml in its home says.")


@app.command()
@reported
def show(home: Home, as_json: AsJson = False) -> None:
    """Show every setting, also those that have their default."""
    policy = _policy(home).policy()
    document = policy.model_dump(mode="json")
    rows = [
        (
            name,
            "not set" if value is None else value,
            "policy.toml" if name in policy.model_fields_set else "default",
        )
        for name, value in document.items()
    ]
    emit(document, table("setting", "value", "from", rows=rows), as_json=as_json)


@app.command()
@reported
def check(home: Home, as_json: AsJson = False) -> None:
    """Check policy.toml without touching a running agent, which reads it when it starts."""
    policy = _policy(home)
    _tell(policy, policy.policy(), "is valid", as_json=as_json)


@app.command()
@reported
def replace(
    home: Home,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new text.")],
    as_json: AsJson = False,
) -> None:
    """Put another text in the place of policy.toml, if it is valid, and record that; a running agent reads it when it starts again."""
    from common.errors import InvalidSettingsError

    policy = _policy(home)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettingsError(source=file, problems=f"  {error}") from error
    made = policy.replace(text, seen=policy.read().sha256)
    _tell(policy, made, "was replaced", as_json=as_json)


def _policy(home: Path) -> PolicyFile:
    """Return the policy in the hands of the person at the keyboard."""
    from node.home import NodeHome
    from node.steward.policies import PolicyFile

    return PolicyFile(NodeHome.open(home), person())


def _tell(file: PolicyFile, policy: Policy, what: str, *, as_json: bool) -> None:
    path, changed = file.home.settings_path, sorted(policy.model_fields_set)
    emit(
        {"file": path, "changed": changed},
        escape(f"{path} {what}; it changes {', '.join(changed) or 'nothing'}"),
        as_json=as_json,
    )
