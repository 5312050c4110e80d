"""Errors WRN-5xx: training plans and their approval."""

from common.errors.base import WarrenError


class PlanError(WarrenError):
    """Base of the errors about training plans and their approval."""


class PlanNotApprovedError(PlanError):
    """The training plan is not approved at the node."""

    code = "WRN-501"
    text = "plan {plan_hash} is {status} at {node}"
    cause = "each node runs only what its own people approved"
    remedy = (
        'ask with `exp.request_approval("why")` or `warren-researcher run FILE --request-approval NOTE`; '
        "then, at each node, a person decides: `warren-node plan approve HOME {plan_hash}`"
    )
    public = True


class PlanSourceError(PlanError):
    """The training plan's source cannot be used."""

    code = "WRN-502"
    text = "the source of {plan} cannot be used: {reason}"
    cause = "the class cannot be found as text, or uses names that are not in it"
    remedy = "keep the plan and what it uses in one file or notebook, and import the rest inside it"
    public = True


class PlanHashError(PlanError):
    """The plan's source does not have the hash that was announced."""

    code = "WRN-503"
    text = "plan source hashes to {actual}, announced was {expected}"
    cause = "the source was altered on the way"
    remedy = "nothing runs; tell the federation operator"
    public = True


class PlanFailedError(PlanError):
    """The training plan raised an error at the node."""

    code = "WRN-504"
    text = "{error_type} at line {line} of the plan, in {where}"
    cause = "the plan has a mistake or meets data that it does not expect"
    remedy = "look at that line; the message text stays in the log of the node"
    public = True


class NoSuchPlanError(PlanError):
    """The node does not know the plan."""

    code = "WRN-505"
    text = "no plan {plan} is known here"
    cause = "it was never requested, or the hash is misspelt"
    remedy = "list them with `warren-node plan list HOME`"


class PlanContractError(PlanError):
    """The training plan breaks its contract."""

    code = "WRN-506"
    text = "{plan}.{method} {problem}"
    cause = "a required method is missing or returns the wrong thing"
    remedy = "see docs/how-to/training-plans.md"
    public = True


class AmbiguousPlanError(PlanError):
    """Several plans start with these characters."""

    code = "WRN-507"
    text = "{prefix!r} could be any of {hashes}"
    cause = "the beginning of the hash is too short"
    remedy = "give more characters of the hash"


class ArgumentLimitError(PlanError):
    """An argument is outside of what the plan is approved for."""

    code = "WRN-508"
    text = "{node} approved the plan for {limit}, and {argument} is {value}"
    cause = "people of a node may approve a plan for certain arguments only"
    remedy = "keep to the limits that `exp.check_training_plan_status()` shows, or ask the people of the node for others"
    public = True


class InvalidLimitError(PlanError):
    """A limit on an argument is not valid."""

    code = "WRN-509"
    text = "{limit!r} is no limit: {reason}"
    cause = "it is misspelt"
    remedy = "write for instance --limit 'epochs<=5' --limit 'optimizer_args.lr<=0.1'"


class NoteTooLongError(PlanError):
    """A note about a plan is longer than a message may carry."""

    code = "WRN-512"
    text = "the note has {length} characters, at most {most} are told to researchers"
    cause = "it is meant for a sentence or two"
    remedy = "shorten it"


class PlanSettingsError(PlanError):
    """The experiment is not set up for its training plan."""

    code = "WRN-511"
    text = "{plan} needs {needed}, and the experiment has {given}"
    cause = "statistics that add up to a model cannot be averaged, rounded, or counted late; models cannot be added up"
    remedy = "leave the setting out, and the experiment takes what the plan needs"
    public = True


class TooManyPlansError(PlanError):
    """Too many plans of a researcher wait for a decision."""

    code = "WRN-510"
    text = "{pending} plans of {researcher} wait for a decision here, which is the most"
    cause = "every change of a plan makes another one to be read by a person"
    remedy = "wait until the people of the node have decided, or talk to them"
    public = True
