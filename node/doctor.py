"""Find out whether a node has all that it needs on this machine, and say what to do where it has not."""

from __future__ import annotations

import platform
import queue
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

from common.errors import DataError, FederationError, InvalidSettingsError, WarrenError
from common.security.expiry import WARN_DAYS
from common.security.kit import Kit
from common.transport.amqp import AmqpTransport
from node.gpus import device_files
from node.home import NodeHome
from node.policy import Policy
from node.registry import Registry
from node.sandbox import Protection, ProtectionName, detect, worker_user
from node.status import read_status

_GIB: Final = 1024**3
_SETTINGS: Final = {
    ProtectionName.OWN_USER: "worker_user",
    ProtectionName.MEMORY: "worker_memory_bytes",
    ProtectionName.CPU_TIME: "worker_cpu_s",
    ProtectionName.FILE_SIZE: "worker_file_bytes",
    ProtectionName.THREADS: "worker_thread_limit",
}


class Health(StrEnum):
    """How something is."""

    OK = "ok"
    NOTE = "note"
    """The node works without it."""
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one thing.

    Attributes:
        subject: What was looked at.
        health: How it is.
        text: What was found.
        advice: What to do; empty if nothing is to be done.
    """

    subject: str
    health: Health
    text: str
    advice: str = ""


def examine(home: NodeHome) -> tuple[Finding, ...]:
    """Look at everything that a node needs; takes some seconds, and changes nothing.

    An agent that runs is not disturbed: what it says about its connection is believed.
    """
    policy, settings = _settings(home)
    kit, trust = _kit(home)
    return (
        _versions(),
        settings,
        trust,
        *_found("broker", partial(_broker, home, kit)),
        *_found("data sets", partial(_datasets, home)),
        _disk(home, policy),
        *_gpus(policy),
        *_found("protections", partial(_protections, home, policy)),
    )


def _found(subject: str, look: Callable[[], Iterable[Finding]]) -> tuple[Finding, ...]:
    """Return what was found, or that nothing can be found out."""
    try:
        return tuple(look())
    except WarrenError as error:
        return (_wrong(subject, error),)


def _wrong(subject: str, error: WarrenError) -> Finding:
    return Finding(subject, Health.WRONG, str(error), error.advice)


def _versions() -> Finding:
    packages = (f"{name} {version(name)}" for name in ("warren-fl", "torch"))
    system = f"{platform.system()} {platform.release()} on {platform.machine()}"
    return Finding(
        "versions", Health.OK, ", ".join([*packages, f"python {platform.python_version()}", system])
    )


def _settings(home: NodeHome) -> tuple[Policy, Finding]:
    """Return the policy of the node, or the default one if the file is wrong; and which of the two it is."""
    try:
        return home.policy(), Finding("settings", Health.OK, f"{home.settings_path} can be used")
    except InvalidSettingsError as error:
        return Policy(), _wrong("settings", error)


def _kit(home: NodeHome) -> tuple[Kit | None, Finding]:
    """Return the kit, if it can be used; and how it is."""
    now = time.time()
    try:
        kit = home.kit(now=now)
    except (FederationError, InvalidSettingsError) as error:
        return None, _wrong("kit", error)
    days = kit.days_left(now)
    text = f"{kit.connection.party} of {kit.connection.federation}, valid for {days:.0f} days"
    if days >= WARN_DAYS:
        return kit, Finding("kit", Health.OK, text)
    advice = f"ask the federation operator for a renewed kit, then: warren-node init {home.path} --kit KIT"
    return kit, Finding("kit", Health.NOTE, text, advice)


def _broker(home: NodeHome, kit: Kit | None) -> Iterator[Finding]:
    """Log in at the broker, unless an agent does so all the time."""
    if kit is None:
        return
    connection = kit.connection
    status = None if home.holder() is None else read_status(home.status_path)
    if status is not None:
        connected, detail = status.connected, f"the agent says: {status.detail}"
    else:
        changes: queue.SimpleQueue[tuple[bool, str]] = queue.SimpleQueue()
        transport = AmqpTransport(connection, kit.ssl_context())
        wait_s = 2 * connection.timeouts.connect_s  # it opens two connections
        try:
            transport.start(lambda _: None, (), lambda *change: changes.put(change))
            connected, detail = changes.get(timeout=wait_s)
        except queue.Empty:
            connected, detail = False, f"no answer within {wait_s:g} s"
        finally:
            transport.close()
    advice = f"see that this machine may reach {connection.host}:{connection.port}, and ask the federation operator"
    yield Finding("broker", Health.OK if connected else Health.WRONG, detail, "" if connected else advice)


def _datasets(home: NodeHome) -> Iterator[Finding]:
    registry = Registry(home.registry_path)
    try:
        datasets = registry.list()
        if not datasets:
            yield Finding(
                "data sets", Health.NOTE, "none is registered", f"warren-node dataset add {home.path}"
            )
        for dataset in datasets:
            subject = f"data set {dataset.name}"
            try:
                registry.check(dataset)
                yield Finding(subject, Health.OK, f"{dataset.samples} samples, as they were registered")
            except DataError as error:
                yield _wrong(subject, error)
    finally:
        registry.close()


def _disk(home: NodeHome, policy: Policy) -> Finding:
    free = shutil.disk_usage(home.path).free
    text = f"{free / _GIB:.1f} GiB free"
    if free >= policy.disk_floor_bytes:
        return Finding("disk", Health.OK, text)
    text += f", less than disk_floor_bytes, which is {policy.disk_floor_bytes / _GIB:.1f} GiB"
    return Finding("disk", Health.WRONG, text, "free some space: until then all tasks are stopped")


def _gpus(policy: Policy) -> Iterator[Finding]:
    if policy.gpu == "none":
        return
    found = device_files(Path("/dev").iterdir(), policy.gpu, policy.gpu_device)
    if found:
        yield Finding("gpu", Health.OK, f"workers may open {', '.join(map(str, found))}")
    else:
        advice = (
            "install the driver, or look at gpu and gpu_device in policy.toml; until then tasks use the CPU"
        )
        yield Finding("gpu", Health.NOTE, "one is offered, and there is none", advice)


def _protections(home: NodeHome, policy: Policy) -> Iterator[Finding]:
    registry = Registry(home.registry_path)
    try:
        paths = tuple(dataset.path for dataset in registry.list() if dataset.path.exists())
    finally:
        registry.close()
    user = None if policy.worker_user is None else worker_user(policy.worker_user)
    stands = detect(limits=policy.worker_limits(), user=user, read_only=paths)
    for wall in stands.items:
        yield _wall(wall, compulsory=wall.name in policy.compulsory_protections)


def _wall(wall: Protection, *, compulsory: bool) -> Finding:
    subject = f"protection {wall.name}"
    if wall.active:
        return Finding(subject, Health.OK, wall.detail)
    setting = _SETTINGS.get(wall.name)
    advice = f"{wall.remedy} ({setting} in policy.toml)" if setting else wall.remedy
    if compulsory:
        return Finding(subject, Health.WRONG, f"compulsory, but: {wall.detail}", advice)
    return Finding(subject, Health.NOTE, wall.detail, advice)
