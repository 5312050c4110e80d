"""Errors WRN-9xx: settings and arguments."""

from common.errors.base import WarrenError


class SettingsError(WarrenError):
    """Base of the errors about settings and arguments."""


class InvalidSettingsError(SettingsError):
    """Settings are not valid."""

    code = "WRN-901"
    text = "{source} is not valid:\n{problems}"
    cause = "a key is misspelt or a value is out of range"
    remedy = "correct each line named above"
    public = True


class InvalidArgumentsError(SettingsError):
    """Training arguments are not valid."""

    code = "WRN-902"
    text = "training_args are not valid:\n{problems}"
    cause = "a key is misspelt or a value is out of range"
    remedy = "correct each line named above; see docs/reference/training-args.md"
    public = True


class MissingExtraError(SettingsError):
    """An optional package is not installed."""

    code = "WRN-903"
    text = "{feature} needs the package {package}"
    cause = "it is an optional extra"
    remedy = 'install it: pip install "warren-fl[{extra}]"'
    public = True


class PolicyChangedError(SettingsError):
    """The policy was changed meanwhile."""

    code = "WRN-904"
    text = "{path} is not what it was when it was read"
    cause = "somebody else changed it meanwhile"
    remedy = "read it again, and make the change in what it says now"
