"""Define every message that crosses the wire, and the one way to write and read them."""

from common.messages.base import PROTOCOL_VERSION, ExperimentMessage, Message, Reply, TaskMessage
from common.messages.codec import AnyMessage, decode, encode
from common.messages.description import Column, DatasetDescription, NodeInfo
from common.messages.discovery import (
    ListReply,
    ListRequest,
    NodePresence,
    PingReply,
    PingRequest,
    RosterUpdate,
    SearchReply,
    SearchRequest,
)
from common.messages.figures import NodeFigures
from common.messages.payload import Chunk, ChunkRequest, PayloadManifest, PayloadReceipt
from common.messages.plan import (
    PlanApprovalReply,
    PlanApprovalRequest,
    PlanState,
    PlanStatusReply,
    PlanStatusRequest,
)
from common.messages.training import (
    Assignment,
    LossPoint,
    RunEnd,
    TaskCancel,
    TaskFailed,
    TaskProgress,
    TaskState,
    TaskTimings,
    TrainReply,
    TrainRequest,
    Validation,
)

__all__ = [
    "PROTOCOL_VERSION",
    "AnyMessage",
    "Assignment",
    "Chunk",
    "ChunkRequest",
    "Column",
    "DatasetDescription",
    "ExperimentMessage",
    "ListReply",
    "ListRequest",
    "LossPoint",
    "Message",
    "NodeFigures",
    "NodeInfo",
    "NodePresence",
    "PayloadManifest",
    "PayloadReceipt",
    "PingReply",
    "PingRequest",
    "PlanApprovalReply",
    "PlanApprovalRequest",
    "PlanState",
    "PlanStatusReply",
    "PlanStatusRequest",
    "Reply",
    "RosterUpdate",
    "RunEnd",
    "SearchReply",
    "SearchRequest",
    "TaskCancel",
    "TaskFailed",
    "TaskMessage",
    "TaskProgress",
    "TaskState",
    "TaskTimings",
    "TrainReply",
    "TrainRequest",
    "Validation",
    "decode",
    "encode",
]
