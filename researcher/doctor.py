"""Find out whether a researcher has all that is needed, and say what to do where not."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Final

from common import doctor
from common.doctor import Finding, Health
from common.errors import FederationError, HomeInUseError, InvalidSettingsError, WarrenError
from researcher.catalogue import experiments_of
from researcher.directory import NodeStatus
from researcher.federation import Federation
from researcher.home import Home, HomeLock

_FLOOR_BYTES: Final = 2 * 1024**3

_CLOCKS_DIFFER_S: Final = 5.0
"""With clocks further apart deadlines come too early or too late."""


def examine(home: Home) -> tuple[Finding, ...]:
    """Look at everything that a researcher needs; takes some seconds, and changes nothing."""
    return (doctor.versions(), *_federation(home), doctor.clock(), *_experiments(home), *_machine(home))


def _federation(home: Home) -> Iterator[Finding]:
    try:
        kit = home.load_kit()
    except (FederationError, InvalidSettingsError) as error:
        yield Finding.of("kit", error)
        return
    yield doctor.kit_finding(kit, f"warren-researcher init {home.path} --kit KIT")
    try:
        HomeLock.take(home).release()
    except HomeInUseError as error:
        yield Finding(
            "broker", Health.NOTE, f"not looked at: {error}", "ask again when that process has ended"
        )
        return
    steps = list(doctor.way_to_broker(kit))
    yield from steps
    if steps[-1].health is Health.OK:
        yield from _nodes(home)


def _nodes(home: Home) -> Iterator[Finding]:
    """Ask every node to speak, and look at its version and its clock."""
    try:
        with Federation.open(home.path) as federation:
            federation.nodes()
            answered, statuses = federation.ping(), federation.nodes()
    except WarrenError as error:
        yield Finding.of("nodes", error)
        return
    if not statuses:
        yield Finding(
            "nodes", Health.NOTE, "the federation has none", "ask the federation operator to add some"
        )
    for node, status in statuses.items():
        yield _node(answered.get(node), status)


def _node(answered: NodeStatus | None, known: NodeStatus) -> Finding:
    subject = f"node {known.node}"
    if answered is None or answered.info is None:
        return Finding(
            subject, Health.NOTE, "it does not answer", "ask its hospital for `warren-node doctor`"
        )
    ahead_s = answered.ahead_s or 0.0
    if abs(ahead_s) > _CLOCKS_DIFFER_S:
        text = f"its clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this one"
        return Finding(subject, Health.WRONG, text, "let chrony or systemd-timesyncd keep both clocks right")
    theirs, ours = answered.info.version, version("warren-fl")
    text = f"answers; version {theirs}, {answered.info.datasets} data sets"
    if theirs != ours:
        advice = "upgrade the older side when it suits; see CHANGELOG.md for what differs"
        return Finding(subject, Health.NOTE, f"{text}; here it is {ours}", advice)
    return Finding(subject, Health.OK, text)


def _experiments(home: Home) -> Iterator[Finding]:
    for one in experiments_of(home.experiments):
        if one["name"] is None:
            yield Finding(
                f"experiment {one['folder']}", Health.WRONG, one["state"], "restore it from a backup"
            )


def _machine(home: Home) -> Iterator[Finding]:
    if home.path.is_dir():
        yield doctor.disk(home.path, _FLOOR_BYTES)
    yield doctor.memory()
