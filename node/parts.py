"""Put together what lives between the journal and the mailbox of an agent."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from common.audit.record import Entry
from common.clock import Clock
from common.mailbox import Mailbox
from common.messages import NodeInfo
from common.payload.store import PayloadStore
from common.settings import Timeouts
from node.admission import Admission
from node.approval import Approvals
from node.arrivals import Arrivals
from node.desk import Desk
from node.home import NodeHome
from node.journal import Journal
from node.outbox import Outbox, ReplyPublished
from node.policy import Policy
from node.registry import Registry
from node.sandbox import worker_user
from node.work import Work
from node.worker.folder import let_in
from node.worker.harvest import Bounds
from node.worker.pool import Walls, WorkerEvent, WorkerPool


class Parts(NamedTuple):
    """The parts that forget everything when an agent begins again from its journal."""

    pool: WorkerPool
    arrivals: Arrivals
    outbox: Outbox
    work: Work
    desk: Desk


def put_together(
    home: NodeHome,
    mailbox: Mailbox,
    journal: Journal,
    registry: Registry,
    approvals: Approvals,
    policy: Policy,
    *,
    post: Callable[[WorkerEvent | ReplyPublished], None],
    info: Callable[[], NodeInfo],
    record: Callable[[Entry], None],
    clock: Clock,
    timeouts: Timeouts,
) -> Parts:
    """Return new parts; scratch of workers that died with the last ones is removed.

    Args:
        home: The home.
        mailbox: What messages go through.
        journal: What survives.
        registry: The data sets of the node.
        approvals: What its people decided about plans.
        policy: What it allows.
        post: Called on other threads with what happened.
        info: Says how the node is doing.
        record: Takes what the audit log must say.
        clock: Tells the time.
        timeouts: When something counts as stuck.

    Raises:
        ProtectionMissingError: If the policy names a user for workers that cannot be used.
    """
    payloads = PayloadStore(home.payloads)
    pool = WorkerPool(
        home.work,
        home.log / "worker.log",
        post=post,
        max_idle=policy.max_workers,
        walls=_walls(home, policy),
        bounds=Bounds(policy.max_model_bytes, policy.max_update_norm),
        threads=policy.worker_threads or max(1, (os.cpu_count() or 1) // policy.max_workers),
    )
    arrivals = Arrivals(mailbox, payloads, limit_bytes=policy.max_model_bytes, clock=clock, timeouts=timeouts)
    outbox = Outbox(mailbox, journal, payloads, published=post, clock=clock, timeouts=timeouts)
    work = Work(
        mailbox,
        journal,
        payloads,
        arrivals,
        outbox,
        pool,
        Admission(mailbox.party, registry, approvals, policy, clock),
        policy,
        record=record,
        clock=clock,
        timeouts=timeouts,
    )
    return Parts(pool, arrivals, outbox, work, Desk(mailbox.party, registry, approvals, policy, info, record))


def _walls(home: NodeHome, policy: Policy) -> Walls:
    """Return what is put up around workers; lets their user, if they have one, on the way to the working folder.

    Raises:
        ProtectionMissingError: If the policy names a user for workers that cannot be used.
    """
    user = None if policy.worker_user is None else worker_user(policy.worker_user)
    databases = (home.registry_path, home.journal_path)
    if user is not None and os.geteuid() == 0:
        for path in databases:
            path.chmod(0o600)
        let_in(home.path, user)
    return Walls(
        limits=policy.worker_limits(),
        compulsory=frozenset(policy.compulsory_protections),
        hidden=(home.path, home.kit_path, *databases, home.payloads, home.work, home.log),
        user=user,
        gpu=policy.gpu,
        gpu_device=policy.gpu_device,
    )
