"""Commands about the audit log of a node."""

from __future__ import annotations

from pathlib import Path

from common.audit.cli import audit_app


def _folder(home: Path) -> Path:
    from node.home import NodeHome

    return NodeHome.open(home).audit_path


app = audit_app(_folder)
