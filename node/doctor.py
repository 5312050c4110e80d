"""Find out whether a node has all that it needs on this machine, and say what to do where it has not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from common import doctor
from common.doctor import Finding, Health
from common.errors import DataError, FederationError, InvalidSettingsError, WarrenError
from common.security.kit import Kit
from node.gpus import device_files
from node.home import NodeHome
from node.policy import Policy
from node.registry import Registry
from node.sandbox import Protection, ProtectionName, detect, worker_user
from node.status import read_status

_SETTINGS: Final = {
    ProtectionName.OWN_USER: "worker_user",
    ProtectionName.MEMORY: "worker_memory_bytes",
    ProtectionName.CPU_TIME: "worker_cpu_s",
    ProtectionName.FILE_SIZE: "worker_file_bytes",
    ProtectionName.THREADS: "worker_thread_limit",
}


def examine(home: NodeHome) -> tuple[Finding, ...]:
    """Look at everything that a node needs; takes some seconds, and changes nothing.

    An agent that runs is not disturbed: what it says about its connection is believed.
    """
    policy, settings = _settings(home)
    kit, trust = _kit(home)
    return (
        doctor.versions(),
        settings,
        trust,
        *_found("broker", partial(_broker, home, kit)),
        doctor.clock(),
        *_found("data sets", partial(_datasets, home)),
        doctor.disk(home.path, policy.disk_floor_bytes, setting="disk_floor_bytes"),
        doctor.memory(),
        _gpu(policy),
        *_found("protections", partial(_protections, home, policy)),
    )


def _found(subject: str, look: Callable[[], Iterable[Finding]]) -> tuple[Finding, ...]:
    """Return what was found, or that nothing can be found out."""
    try:
        return tuple(look())
    except WarrenError as error:
        return (Finding.of(subject, error),)


def _settings(home: NodeHome) -> tuple[Policy, Finding]:
    """Return the policy of the node, or the default one if the file is wrong; and which of the two it is."""
    try:
        return home.policy(), Finding("settings", Health.OK, f"{home.settings_path} can be used")
    except InvalidSettingsError as error:
        return Policy(), Finding.of("settings", error)


def _kit(home: NodeHome) -> tuple[Kit | None, Finding]:
    """Return the kit, if it can be used; and how it is."""
    try:
        kit = home.kit(now=time.time())
    except (FederationError, InvalidSettingsError) as error:
        return None, Finding.of("kit", error)
    return kit, doctor.kit_finding(kit, f"warren-node init {home.path} --kit KIT")


def _broker(home: NodeHome, kit: Kit | None) -> Iterator[Finding]:
    """Go to the broker, unless an agent is there all the time."""
    if kit is None:
        return
    status = None if home.holder() is None else read_status(home.status_path)
    if status is None:
        yield from doctor.way_to_broker(kit)
        return
    health = Health.OK if status.connected else Health.WRONG
    advice = (
        "" if status.connected else "stop the agent and ask again: then each step of the way is looked at"
    )
    yield Finding("broker", health, f"the agent says: {status.detail}", advice)


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
                yield Finding.of(subject, error)
    finally:
        registry.close()


def _gpu(policy: Policy) -> Finding:
    """Look for device files; whether torch can use them is for the worker to find out, for the agent never imports torch."""
    if policy.gpu == "none":
        return Finding("gpu", Health.OK, "none is offered to plans: training runs on the processors")
    found = device_files(Path("/dev").iterdir(), policy.gpu, policy.gpu_device)
    if found:
        return Finding("gpu", Health.OK, f"workers may open {', '.join(map(str, found))}")
    advice = "install the driver, or look at gpu and gpu_device in policy.toml; until then tasks use the CPU"
    return Finding("gpu", Health.NOTE, "one is offered, and there is none", advice)


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
