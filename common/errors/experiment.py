"""Errors WRN-7xx: rounds, updates, models."""

from common.errors.base import WarrenError


class ExperimentError(WarrenError):
    """Base of the errors about rounds, updates, models."""


class NoDatasetError(ExperimentError):
    """No node has a data set with these tags."""

    code = "WRN-701"
    text = "there is no data set with the tags {tags} at {nodes}"
    cause = "the tags are misspelt, or nodes are offline"
    remedy = "see `warren-researcher nodes` and `warren-researcher datasets`"
    public = True


class AmbiguousDatasetError(ExperimentError):
    """A node has two data sets that match the tags."""

    code = "WRN-702"
    text = "{node} has {count} data sets with the tags {tags}: {names}"
    cause = "the tags are too general"
    remedy = "add a tag that only one of them has"
    public = True


class RoundFailedError(ExperimentError):
    """A round could not be completed."""

    code = "WRN-703"
    text = "round {round} failed: {reason}"
    cause = "too few nodes sent a usable update in time"
    remedy = (
        "see `exp.history()` for what each node said; the experiment can be run again from where it stands"
    )
    public = True


class UpdateRefusedError(ExperimentError):
    """An update was refused by the gate."""

    code = "WRN-704"
    text = "update of {node} in round {round} was refused: {reason}"
    cause = "the plan diverged on that data, or the node is faulty"
    remedy = "look at the losses of that node; lower the learning rate"
    public = True


class ModelMismatchError(ExperimentError):
    """Tensors do not fit the model."""

    code = "WRN-705"
    text = "{where}: {problem}"
    cause = "the plan builds another model than the one that the weights come from"
    remedy = "build the same architecture from the same model_args everywhere"
    public = True


class ExperimentCancelledError(ExperimentError):
    """The experiment was cancelled."""

    code = "WRN-706"
    text = "experiment {experiment} was cancelled in round {round}"
    cause = "somebody pressed Ctrl-C or called cancel()"
    remedy = "resume it with `Experiment.resume(dir)`"
    public = True


class NoSuchExperimentError(ExperimentError):
    """There is no experiment in this folder."""

    code = "WRN-707"
    text = "{path} holds no experiment: {reason}"
    cause = "the path is wrong"
    remedy = "list them with `warren-researcher experiments`"


class NotTrainedError(ExperimentError):
    """There is no model yet."""

    code = "WRN-708"
    text = "experiment {experiment} has finished no round"
    cause = "run() was not called, or its first round failed"
    remedy = "call run() first"
    public = True


class NoNodesError(ExperimentError):
    """No node was chosen for a round."""

    code = "WRN-709"
    text = "the strategy chose no node for round {round} out of {available}"
    cause = "the nodes are offline or were left out after failures"
    remedy = "see `warren-researcher nodes`"
    public = True


class ExperimentExistsError(ExperimentError):
    """There is an experiment in this folder already."""

    code = "WRN-710"
    text = "{path} holds an experiment already"
    cause = "the folder was used before"
    remedy = "go on with `Experiment.resume(dir)`, or choose another folder"


class ExperimentBusyError(ExperimentError):
    """The experiment is running already."""

    code = "WRN-711"
    text = "experiment {experiment} is running in another thread"
    cause = "run() was called twice at the same time"
    remedy = "wait for the first call, or stop it with cancel()"


class NodeSilentError(ExperimentError):
    """A node is connected and tells nothing about its task."""

    code = "WRN-712"
    text = "{node} is connected and has told nothing about its task for {silent_s} s"
    cause = "its agent hangs, or lost the task"
    remedy = "look at the log of that node and restart its agent"
    public = True


class NoSuchRoundError(ExperimentError):
    """The experiment has no finished round with this number."""

    code = "WRN-713"
    text = "experiment {experiment} has no finished training round {round}; it has finished {finished}"
    cause = "the number is wrong, or that round failed"
    remedy = "see `exp.history()`"
    public = True


class RoundNotKeptError(ExperimentError):
    """What is needed of a past round is not there any more."""

    code = "WRN-714"
    text = "round {round} cannot be used: {reason}"
    cause = "the retention of the experiment removed it, or files were deleted"
    remedy = "set `retention` so that more is kept, before the rounds are run"
    public = True


class NotRunningError(ExperimentError):
    """The experiment does not run."""

    code = "WRN-715"
    text = "experiment {experiment} does not run now"
    cause = "it has ended, or was never begun"
    remedy = "see `warren-researcher status`"
    public = True


class NotSolvableError(ExperimentError):
    """The statistics of a round determine no model."""

    code = "WRN-721"
    text = "the statistics of this round determine no model: {reason}"
    cause = "a column is constant or follows from others, a column tells the classes apart by itself, or there are too few samples"
    remedy = (
        "leave such columns out, or give a penalty (`alpha`, or `C` of logistic regression) in `model_args`"
    )
    public = True


class TooFewUpdatesError(ExperimentError):
    """An aggregator needs more updates than there are."""

    code = "WRN-720"
    text = "{aggregator} needs {needed} updates and has {count}"
    cause = "so few that it could not tell wrong ones from right ones"
    remedy = "ask more nodes, lower `byzantine`, or choose another aggregator; the round goes on from here with `resume`"
    public = True
