"""Commands about what the node allows: `policy.toml`."""

from __future__ import annotations

from rich.markup import escape

from common.cli import AsJson, emit, new_app, reported, table
from node.cli.options import Home

app = new_app("Look at what the node allows, which policy.toml in its home says.")


@app.command()
@reported
def show(home: Home, as_json: AsJson = False) -> None:
    """Show every setting, also those that have their default."""
    from node.home import NodeHome

    policy = NodeHome.open(home).policy()
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
    from node.home import NodeHome

    node = NodeHome.open(home)
    changed = sorted(node.policy().model_fields_set)
    emit(
        {"file": node.settings_path, "changed": changed},
        escape(f"{node.settings_path} is valid; it changes {', '.join(changed) or 'nothing'}"),
        as_json=as_json,
    )
