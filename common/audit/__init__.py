"""Keep a log of who asked what, who decided what and what left, in which nothing can be changed unnoticed."""

from common.audit.anchor import Anchor
from common.audit.log import AuditLog
from common.audit.record import Action, Entry, Record
from common.audit.verify import Verdict, export, read_records, verify

__all__ = ["Action", "Anchor", "AuditLog", "Entry", "Record", "Verdict", "export", "read_records", "verify"]
