"""Errors WRN-6xx: work at a node."""

from common.errors.base import WarrenError


class TaskError(WarrenError):
    """Base of the errors about work at a node."""


class WorkerDiedError(TaskError):
    """The worker process ended before the task did."""

    code = "WRN-601"
    text = "the worker ended with {status} during {step}"
    cause = "it ran out of memory, was killed, or crashed in native code"
    remedy = "look at the log of the node; lower the batch size if memory was short"
    public = True


class WorkerStartError(TaskError):
    """The worker process did not start."""

    code = "WRN-602"
    text = "the worker did not start within {timeout_s} s: {reason}"
    cause = "the machine is overloaded or the installation is broken"
    remedy = "look at the log of the node: `warren-node logs HOME`, and `log/worker.log` in its home"
    public = True


class TaskExpiredError(TaskError):
    """The task came after its deadline."""

    code = "WRN-603"
    text = "task {task} was due {late_s} s ago"
    cause = "the node was offline or busy for longer than the round waits"
    remedy = "give the round a later deadline"
    public = True


class TaskSupersededError(TaskError):
    """The task belongs to an older run."""

    code = "WRN-604"
    text = "task {task} belongs to run {run}, which ended or was replaced"
    cause = "the experiment was started again or cancelled meanwhile"
    remedy = "nothing: stale work never runs"
    public = True


class TaskCancelledError(TaskError):
    """The task was cancelled."""

    code = "WRN-605"
    text = "task {task} was cancelled by {by}"
    cause = "the researcher or the node stopped it"
    remedy = "nothing"
    public = True


class TaskRefusedError(TaskError):
    """The node's policy refuses the task."""

    code = "WRN-606"
    text = "{node} refuses: {reason}"
    cause = "the policy of the node does not allow it"
    remedy = "talk to the people of the node"
    public = True


class DatasetNotOnNodeError(TaskError):
    """The node has no such data set any more."""

    code = "WRN-607"
    text = "{node} has no data set {dataset}"
    cause = "it was removed after the experiment chose it"
    remedy = "start the experiment again, so that it searches anew"
    public = True


class WorkerFaultError(TaskError):
    """The worker failed outside the plan."""

    code = "WRN-608"
    text = "the worker met {error_type} outside the plan"
    cause = "the machine is short of something, or Warren has a mistake"
    remedy = "look at the log of the node, and report it if nothing there explains it"
    public = True


class UpdateUnsoundError(TaskError):
    """What a task made is not fit to leave its node."""

    code = "WRN-610"
    text = "what the task made does not leave its node: {reason}"
    cause = "the plan diverges, or tries to let out more than a model and its metrics"
    remedy = "read the plan; lower the learning rate if numbers are not finite"
    public = True


class ProtectionMissingError(TaskError):
    """The node's policy requires a protection that this machine does not offer."""

    code = "WRN-609"
    text = "the protection {protection} does not stand on this machine: {reason}"
    cause = "the kernel is old, a container forbids it, or the agent lacks a right"
    remedy = "{advice}"


class NoSuchTaskError(TaskError):
    """The node is at work on no such task."""

    code = "WRN-612"
    text = "no task {task} is received, waiting or running here"
    cause = "it is done or cancelled already, or the id is misspelt"
    remedy = "list them with `warren-node task list HOME`"
