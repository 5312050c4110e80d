"""Write the files with which somebody else's RabbitMQ becomes the broker of a federation."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Final

from common.errors import FederationExistsError
from common.security.files import write_atomic, write_private
from deploy.configuration import ENABLED_PLUGINS, BrokerPlaces, rabbitmq_conf
from deploy.definitions import Names, full, names_in, obsolete
from deploy.federation import Federation

HOME: Final = PurePosixPath("/etc/rabbitmq")
MANAGEMENT_PORT: Final = 15672
PROMETHEUS_PORT: Final = 15692
"""RabbitMQ's usual ones."""


def hand_over(
    federation: Federation,
    folder: Path,
    *,
    lazy: bool,
    metrics: str = "127.0.0.1",
    replicated: bool = False,
) -> tuple[Path, ...]:
    """Write all that a RabbitMQ needs, and a page that says what to do with it.

    Args:
        federation: The federation.
        folder: A new or empty folder; `server.key` in it is secret.
        lazy: Whether it is for a RabbitMQ 3.x.
        replicated: Whether it is a cluster, and its queues are kept on several servers.
        metrics: IP address on which it shows its metrics to whoever can reach it.

    Returns:
        The files written.

    Raises:
        FederationExistsError: If the folder holds something.
        DiskFullError: If the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FederationExistsError(path=str(folder))
    settings = federation.settings
    places = BrokerPlaces(
        "0.0.0.0",  # noqa: S104  parties dial in from outside
        settings.port,
        MANAGEMENT_PORT,
        PROMETHEUS_PORT,
        HOME,
        HOME / "definitions.json",
        prometheus_address=metrics,
    )
    definitions = full(federation.roster, settings.vhost, settings.limits, lazy=lazy, replicated=replicated)
    source = federation.path / "broker"
    write_private(folder / "server.key", (source / "server.key").read_bytes())
    texts = {
        "definitions.json": json.dumps(definitions, indent=1) + "\n",
        "rabbitmq.conf": rabbitmq_conf(places),
        "enabled_plugins": ENABLED_PLUGINS,
        "ca.pem": federation.authority.cert_pem.decode(),
        "server.pem": (source / "server.pem").read_text(encoding="utf-8"),
        "README.md": _readme(federation, names_of_revoked(federation), metrics),
    }
    for name, text in texts.items():
        write_atomic(folder / name, text.encode())
    return tuple(sorted(folder.iterdir()))


def names_of_revoked(federation: Federation) -> Names:
    """Return what a broker may still hold of parties that were revoked."""
    roster, settings = federation.roster, federation.settings
    before = roster.model_copy(
        update={"members": tuple(member.model_copy(update={"revoked_at": None}) for member in roster.members)}
    )
    return obsolete(roster, names_in(full(before, settings.vhost, settings.limits, lazy=False)))


def _readme(federation: Federation, gone: Names, metrics_address: str) -> str:
    settings = federation.settings
    page = f"""\
# Broker of the federation {federation.name}

For RabbitMQ 3.10 to 4.x that serves this federation alone: its users are known by certificates of this federation's
authority, so another authority's parties must not share it.

1. Copy `ca.pem`, `server.pem`, `server.key`, `rabbitmq.conf`, `enabled_plugins` and `definitions.json` to `{HOME}`. Only
   the user that runs RabbitMQ may read `server.key`.
2. Open port {settings.port} (TLS, AMQP) to the parties; they reach it as {", ".join(settings.server_names)}.
   Port {MANAGEMENT_PORT} stays on the loopback; {metrics_address}:{PROMETHEUS_PORT} shows metrics to Prometheus.
3. Allow RabbitMQ 65536 open files (`ulimit -n`) and 1 GB of memory.
4. Restart RabbitMQ. It imports `definitions.json` at each start; there is no user `guest`, and no password opens AMQP.
   Make yourself a user of the management page with `rabbitmqctl add_user` and `set_user_tags NAME administrator`.

After a party was added or revoked, write these files again, bring the new `definitions.json` to `{HOME}`, and on the
running broker:

    rabbitmqctl import_definitions {HOME}/definitions.json
"""
    if gone.users:
        commands = [f"rabbitmqctl delete_user {name}" for name in gone.users]
        commands += [f"rabbitmqctl --vhost {settings.vhost} delete_queue {name}" for name in gone.queues]
        page += (
            "\nAn import removes nothing. Parties that were revoked are cut off by these commands, of which those that\n"
            "find nothing may fail:\n\n" + "\n".join(f"    {command}" for command in commands) + "\n"
        )
    return page + (
        "\nThen tell the parties, from the machine that keeps the federation's folder:\n\n"
        f"    warren federation announce {federation.path}\n"
    )
