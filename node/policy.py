"""State what a node allows: read from `policy.toml`, decided by its own people."""

from __future__ import annotations

import json
import os
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import ConfigDict, Field, IPvAnyAddress, StringConstraints, model_validator

from common.audit.syslog import TARGET as SYSLOG
from common.errors import PlanNotApprovedError, TaskRefusedError, TooFewSamplesError, WarrenError
from common.exporter import LOOPBACK, ExporterSettings
from common.ids import PartyId
from common.limits import PAYLOAD_BYTES, UPDATE_NORM
from common.messages import PlanState, TrainRequest
from common.messages.base import Name
from common.settings import Settings, load_toml
from node.gpus import GpuOffer
from node.hours import HOURS
from node.sandbox import Limits, ProtectionName

_HEADER: Final = """\
# How this node behaves. Each line shows a default or an example; remove its # to change the setting.
# A running agent reads this file when it starts.
"""

_LEAST_MEMORY_BYTES: Final = 2 * 1024**3
"""With less than this, importing torch and ordinary training may fail."""

STATISTICS: Final = "STATISTICS"
"""Stands for counts and sums of validations in a list of metrics."""

Privacy = Literal["secure_aggregation", "differential_privacy"]
RequestKind = Literal["train", "validate", "list", "search", "approval"]


class Policy(Settings):
    """What the people of a node allow, and how much of the machine it may use."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    plan_approval: bool = True
    """Run only training plans that the people of this node approved."""
    allowed_researchers: tuple[PartyId, ...] | None = Field(default=None, examples=[["alice", "bob"]])
    """Work for these researchers only; for all of the federation if not set."""
    minimum_samples: Annotated[int, Field(ge=0, lt=2**53)] = 0
    """Neither register a data set with fewer samples, nor train on one whose training or test part has fewer."""
    max_model_bytes: Annotated[int, Field(ge=1024, le=PAYLOAD_BYTES)] = 8 * 1024**3
    """Largest model that is taken in, largest update that goes out, and most that is kept of a task for the next, in bytes."""
    max_update_norm: Annotated[float, Field(gt=0, le=UPDATE_NORM)] = UPDATE_NORM
    """Largest Euclidean norm of what one update changes in the model; a larger one does not leave."""
    allowed_requests: tuple[RequestKind, ...] = get_args(RequestKind)
    """What researchers may ask for at all."""
    allowed_metrics: tuple[Name, ...] | None = Field(default=None, examples=[["loss", "ACCURACY"]])
    """Metrics that validations may report; all that the plan's source names if not set. `STATISTICS` in it lets out counts and sums."""
    losses_per_s: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Losses of one task that leave each second while it runs; beyond a burst of 1000, the others are dropped."""
    max_workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Tasks that run side by side."""
    working_hours: tuple[Annotated[str, StringConstraints(pattern=HOURS)], ...] | None = Field(
        default=None, examples=[["Mon-Fri 19:00-07:00", "Sat-Sun 00:00-24:00"]]
    )
    """Hours in which tasks begin, by the clock of this machine; others wait until then. Always if not set."""
    worker_threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(default=None, examples=[4])
    """CPU threads of each worker; the CPUs of the machine shared out evenly if not set."""
    compulsory_protections: tuple[ProtectionName, ...] = (ProtectionName.SYSTEM_CALLS, ProtectionName.FILES)
    """Walls around workers without which no task runs; `warren-node doctor` lists those that stand on this machine."""
    compulsory_privacy: tuple[Privacy, ...] = ()
    """Protections of updates without which no task runs; no request has them in this version, so with any of them all are refused."""
    worker_user: str | None = Field(default=None, examples=["warren-worker"])
    """Account that workers run as, if the agent is root; it must be able to read the installation and the data."""
    gpu: GpuOffer = "none"
    """Whether tasks may use a GPU: `none`, `offer` to those that ask for it, or `only`: all tasks use it, asked or not."""
    gpu_device: Annotated[int, Field(ge=0, le=255)] | None = Field(default=None, examples=[0])
    """Number of the one GPU that tasks may use, if `gpu` offers any; all of the machine if not set."""
    worker_memory_bytes: Annotated[int, Field(ge=_LEAST_MEMORY_BYTES, lt=2**63)] | None = Field(
        default=None, examples=[8 * 1024**3]
    )
    """Memory of each worker, in bytes; the memory of the machine shared out evenly if not set."""
    worker_cpu_s: Annotated[int, Field(ge=1, lt=2**31)] | None = Field(default=None, examples=[86400])
    """CPU seconds of each worker, over all tasks of a run and all of its threads; no bound if not set."""
    worker_file_bytes: Annotated[int, Field(ge=1024**2, lt=2**63)] = PAYLOAD_BYTES
    """Largest file that a worker may write, in bytes."""
    worker_thread_limit: Annotated[int, Field(ge=64, le=2**20)] = 4096
    """Threads of any kind that a worker may have; far above what `worker_threads` lets it compute with."""
    disk_floor_bytes: Annotated[int, Field(ge=0, lt=2**53)] = 1024**3
    """Space that must stay free on the disk of the home, in bytes; tasks that leave less are stopped."""
    syslog: Annotated[str, StringConstraints(pattern=SYSLOG)] | None = Field(
        default=None, examples=["/dev/log", "udp://loghost:514"]
    )
    """Socket of this machine, or host, that is told each record of the audit log; nobody if not set."""
    telemetry: bool = True
    """Tell researchers how the node works: tasks, bytes, processor time, memory and disk, never anything about data."""
    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(default=None, examples=[9108])
    """Port on which Prometheus may read the node's metrics; none if not set."""
    metrics_address: IPvAnyAddress = IPv4Address(LOOPBACK)
    """Address of that port; one that others can reach needs `metrics_login`."""
    metrics_login: Path | None = Field(default=None, examples=["/etc/warren/metrics.login"])
    """File with the `name:password` that a reader of the metrics must give; nothing is asked for if not set."""
    metrics_certificate: Path | None = Field(default=None, examples=["/etc/warren/metrics.pem"])
    """File with the certificate for TLS on that port; plain HTTP if not set."""
    metrics_key: Path | None = Field(default=None, examples=["/etc/warren/metrics.key"])
    """File with its key."""

    @model_validator(mode="after")
    def _exporter_fits(self) -> Self:
        self.exporter()
        return self

    @classmethod
    def load(cls, path: Path) -> Policy:
        """Read the policy in a TOML file.

        Raises:
            InvalidSettingsError: If the file is missing or wrong; names every mistake.
        """
        return load_toml(path, cls)

    @classmethod
    def template(cls) -> str:
        """Return a TOML file in which every setting is explained and commented out."""
        blocks = [_HEADER]
        for name, info in cls.model_fields.items():
            shown = info.examples[0] if info.examples else info.default
            blocks.append(f"# {info.description}\n# {name} = {json.dumps(shown, default=str)}\n")
        return "\n".join(blocks)

    def worker_limits(self) -> Limits:
        """Return what one worker may use up on this machine."""
        share = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // self.max_workers
        return Limits(
            memory_bytes=self.worker_memory_bytes or max(share, _LEAST_MEMORY_BYTES),
            cpu_s=self.worker_cpu_s,
            file_bytes=self.worker_file_bytes,
            threads=self.worker_thread_limit,
        )

    def exporter(self) -> ExporterSettings | None:
        """Return where the metrics can be read; None if nowhere."""
        if self.metrics_port is None:
            return None
        return ExporterSettings(
            port=self.metrics_port,
            address=self.metrics_address,
            login=self.metrics_login,
            certificate=self.metrics_certificate,
            key=self.metrics_key,
        )

    def admits(self, researcher: PartyId) -> bool:
        """Return whether this node works for a researcher."""
        return self.allowed_researchers is None or researcher in self.allowed_researchers

    def serves(self, researcher: PartyId, kind: RequestKind) -> bool:
        """Return whether this node answers requests of a kind for a researcher."""
        return self.admits(researcher) and kind in self.allowed_requests

    def refusal(
        self, request: TrainRequest, *, node: PartyId, samples: int, plan: PlanState
    ) -> WarrenError | None:
        """Return why this node does not do what a researcher asks, or None if it does.

        A rejected plan is refused even where approval is not required.

        Args:
            request: What is asked.
            node: The party that is asked.
            samples: Rows of the data set that it is asked to train on.
            plan: What the people of the node decided about the plan.
        """
        if not self.admits(request.sender):
            return TaskRefusedError(node=node, reason=f"it does not work for {request.sender}")
        if self.compulsory_privacy:
            wanted = " and ".join(self.compulsory_privacy).replace("_", " ")
            return TaskRefusedError(node=node, reason=f"it requires {wanted}, which the request does not use")
        kind: RequestKind = "train" if request.train or request.measures else "validate"
        if kind not in self.allowed_requests:
            return TaskRefusedError(node=node, reason=f"it does not {kind}")
        if plan is PlanState.REJECTED or (self.plan_approval and plan is not PlanState.APPROVED):
            return PlanNotApprovedError(plan_hash=request.plan_hash, status=plan, node=node)
        model_bytes = max(request.model.size_bytes, request.model.decoded_bytes or 0)
        if model_bytes > self.max_model_bytes:
            return TaskRefusedError(
                node=node,
                reason=f"a model of {model_bytes} bytes exceeds its limit of {self.max_model_bytes}",
            )
        held_back = request.training_args.held_back(samples)
        parts = [
            samples,
            *([samples - held_back] if kind == "train" else []),
            *([held_back] if held_back else []),
        ]
        if min(parts) < self.minimum_samples:
            return TooFewSamplesError(samples=min(parts), minimum=self.minimum_samples)
        return None
