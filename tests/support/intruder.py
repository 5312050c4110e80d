"""Be whoever operates the broker, and means harm: read every queue and every file, write into any queue in any name."""

from __future__ import annotations

import base64
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.admin import Admin

SPY = "spy"
DEADLINE_S = 30.0


@dataclass(frozen=True)
class Copy:
    """One message as it went over the broker."""

    exchange: str
    routing_keys: tuple[str, ...]
    properties: dict[str, Any]
    body: bytes


class Intruder:
    """A user of the broker that may do anything, in one virtual host; leaves no user behind when closed."""

    def __init__(self, admin: Admin, vhost: str) -> None:
        self._operator = admin
        self._vhost = vhost
        self.name, password = f"intruder-{secrets.token_hex(4)}", secrets.token_hex(16)
        user = {"password": password, "tags": "administrator,impersonator"}
        admin._call("PUT", "users", self.name, body=user)
        anything = {"configure": ".*", "write": ".*", "read": ".*"}
        admin._call("PUT", "permissions", vhost, self.name, body=anything)
        self._admin = Admin(admin._port, self.name, password, vhost)

    def _call(self, method: str, *path: str, body: dict[str, Any] | None = None) -> Any:
        return self._admin._call(method, *path, body=body)

    def spy(self) -> None:
        """Have a copy of every message that is published from now on."""
        self._call("PUT", "queues", self._vhost, SPY, body={"durable": True})
        for binding in self._call("GET", "bindings", self._vhost):
            if binding["source"].startswith("out."):
                place = ("bindings", self._vhost, "e", binding["source"], "q", SPY)
                self._call("POST", *place, body={"routing_key": binding["routing_key"]})

    def copies(self) -> list[Copy]:
        """Return every message that was copied so far, and leave them where they are."""
        return [
            Copy(
                found["exchange"],
                (found["routing_key"], *found["properties"].get("headers", {}).get("CC", ())),
                found["properties"],
                base64.b64decode(found["payload"]),
            )
            for found in self.read(SPY)
        ]

    def read(self, queue: str) -> list[dict[str, Any]]:
        """Return what waits in a queue, and leave it there."""
        wanted = {"count": 100_000, "ackmode": "ack_requeue_true", "encoding": "base64"}
        found: list[dict[str, Any]] = self._call("POST", "queues", self._vhost, queue, "get", body=wanted)
        return found

    def queues(self) -> list[str]:
        """Return the names of all queues."""
        return [queue["name"] for queue in self._call("GET", "queues", self._vhost)]

    def write(self, queue: str, body: bytes, *, user: str | None) -> None:
        """Put a body into any queue, in the name of any user, or of none."""
        properties: dict[str, Any] = {"delivery_mode": 2} | ({"user_id": user} if user else {})
        message = {
            "properties": properties,
            "routing_key": queue,
            "payload": base64.b64encode(body).decode(),
            "payload_encoding": "base64",
        }
        answer = self._call("POST", "exchanges", self._vhost, "amq.default", "publish", body=message)
        assert answer["routed"], queue

    def close(self) -> None:
        """Remove the user."""
        self._operator._call("DELETE", "users", self.name)


def files_with(folder: Path, marker: bytes) -> list[Path]:
    """Return the files below a folder that hold these bytes."""
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            if path.is_file() and marker in path.read_bytes():
                found.append(path)
        except FileNotFoundError:  # the broker lives
            continue
    return found


def eventually(condition: Callable[[], object]) -> None:
    """Wait until something that the broker does in its own time is so."""
    never, deadline = threading.Event(), time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "not so in time"
        never.wait(0.05)
