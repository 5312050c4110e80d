"""Change a running broker through its HTTP API, which listens on the loopback only."""

from __future__ import annotations

import base64
import http.client
import json
import logging
from typing import Any, Final
from urllib.parse import quote

from common.errors import BrokerAdminError
from common.settings import Timeouts
from deploy.definitions import Definitions, Names

_LOG: Final = logging.getLogger(__name__)
_GONE: Final = 404
_STUMBLES: Final = 4
"""How often a request is repeated that can meet something in the middle of ending."""


class Admin:
    """A client of the HTTP API of one broker, for one virtual host. Holds no connection, so it needs no closing."""

    def __init__(
        self, port: int, user: str, password: str, vhost: str, *, timeouts: Timeouts | None = None
    ) -> None:
        self._port = port
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        self._vhost = vhost
        self._timeout_s = (timeouts or Timeouts()).connect_s

    def import_definitions(self, definitions: Definitions) -> None:
        """Add and change what the definitions say; nothing is removed. Can be repeated.

        Raises:
            BrokerAdminError: If the broker cannot be reached or refuses; a part may have been imported.
        """
        self._call("POST", "definitions", body=definitions)

    def names(self) -> Names:
        """Return the users that may enter the virtual host, and its exchanges and queues.

        Raises:
            BrokerAdminError: If the broker cannot be reached or refuses.
        """
        return Names(
            users=tuple(entry["user"] for entry in self._call("GET", "vhosts", self._vhost, "permissions")),
            exchanges=self._list("exchanges"),
            queues=self._list("queues"),
        )

    def remove(self, names: Names) -> None:
        """Remove users, exchanges and queues. Can be repeated: what is gone already is no error.

        A user loses its permissions and its open connections at once, before its queues go. The user itself goes too,
        unless another virtual host knows it.

        Raises:
            BrokerAdminError: If the broker cannot be reached or refuses; a part may have been removed.
        """
        for user in names.users:
            self._call("DELETE", "permissions", self._vhost, user)
            if self._call("GET", "users", user, "permissions"):
                self.close_connections(user)
            else:
                self._call("DELETE", "users", user)  # closes its connections
            _LOG.info("user removed from broker", extra={"action": "user_removed", "party": user})
        for name in names.exchanges:
            self._call("DELETE", "exchanges", self._vhost, name)
        for name in names.queues:
            self._call("DELETE", "queues", self._vhost, name)

    def close_connections(self, user: str) -> None:
        """Close everything that this user holds open, in all virtual hosts: what it may keep, it will open again.

        Raises:
            BrokerAdminError: If the broker cannot be reached or refuses.
        """
        # RabbitMQ 3.10 answers 500 if one of them ends by itself meanwhile; the next time that one is gone
        self._call("DELETE", "connections", "username", user, stumbles=_STUMBLES)

    def depths(self) -> dict[str, int]:
        """Return how many messages each queue holds, waiting or unacknowledged, as last reported by the queue.

        Raises:
            BrokerAdminError: If the broker cannot be reached or refuses.
        """
        found = self._call("GET", "queues", self._vhost, query="columns=name,messages")
        return {entry["name"]: entry.get("messages", 0) for entry in found}

    def remove_vhost(self) -> None:
        """Remove the virtual host with all that is in it; its users stay.

        Raises:
            BrokerAdminError: If the broker cannot be reached or refuses.
        """
        self._call("DELETE", "vhosts", self._vhost)

    def _list(self, kind: str) -> tuple[str, ...]:
        found = self._call("GET", kind, self._vhost, query="columns=name&disable_stats=true")
        return tuple(entry["name"] for entry in found)

    def _call(
        self, method: str, *path: str, query: str = "", body: Definitions | None = None, stumbles: int = 0
    ) -> Any:
        """Return the answer to a request; one that the broker stumbles over (500) is repeated as often as told."""
        url = "/api/" + "/".join(quote(part, safe="") for part in path) + (f"?{query}" if query else "")
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._timeout_s)
        try:
            connection.request(method, url, None if body is None else json.dumps(body), self._headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise BrokerAdminError(reason=f"no answer on port {self._port}: {error}") from error
        finally:
            connection.close()
        if response.status == _GONE:
            return None
        if response.status == http.client.INTERNAL_SERVER_ERROR and stumbles:
            return self._call(method, *path, query=query, body=body, stumbles=stumbles - 1)
        if response.status >= http.client.BAD_REQUEST:
            raise BrokerAdminError(
                reason=f"{method} {url}: {response.status} {answer[:500].decode(errors='replace')}"
            )
        return json.loads(answer) if answer else None
