"""Errors WRN-8xx: journals, ledgers, disks."""

from common.errors.base import WarrenError


class StorageError(WarrenError):
    """Base of the errors about journals, ledgers, disks."""


class ForeignDatabaseError(StorageError):
    """A database is not what its name says."""

    code = "WRN-801"
    text = "{path} is not a {kind} of Warren: {reason}"
    cause = "the file is damaged or was made by something else"
    remedy = "restore it from a backup, or move it away; it was not touched"


class DatabaseVersionError(StorageError):
    """A database was written by a newer Warren."""

    code = "WRN-802"
    text = "{path} has schema {theirs}, this Warren knows up to {ours}"
    cause = "Warren was downgraded"
    remedy = "install the newer version again"


class DiskFullError(StorageError):
    """The disk is full."""

    code = "WRN-803"
    text = "no space left for {path}"
    cause = "the disk is full or a quota was reached"
    remedy = "free some space; what was accepted before is safe"


class PayloadMissingError(StorageError):
    """A payload is not on disk."""

    code = "WRN-804"
    text = "payload {digest} is not in {path}"
    cause = "it was removed by hand, or by the retention setting"
    remedy = "restore it, or run the round again"


class DatabaseBusyError(StorageError):
    """Another process holds a database."""

    code = "WRN-805"
    text = "{path} was held by another process for more than {timeout_s} s"
    cause = "a program that has it open hangs or was stopped in the middle of a change"
    remedy = "end that program; nothing was changed here"


class AuditBrokenError(StorageError):
    """An audit log is not as it was written."""

    code = "WRN-806"
    text = "the audit log {path} cannot be believed: {reason}"
    cause = "somebody changed it, or a part was restored from a backup or lost"
    remedy = "keep it as evidence and find out why; a folder that is moved away together with its anchor makes room for a new log"
