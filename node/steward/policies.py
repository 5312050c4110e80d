"""What the people of a node do with its policy: read it, try another, put that in its place."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass

from common.audit.record import Action, Entry
from common.errors import InvalidSettingsError, PolicyChangedError
from common.ids import Digest
from common.security.files import write_atomic
from common.settings import validate
from common.sqlite import alone_in
from node.home import NodeHome
from node.policy import Policy


@dataclass(frozen=True, slots=True)
class PolicyText:
    """The policy as its file has it.

    Attributes:
        text: All of the file.
        sha256: Of the file; `PolicyFile.replace` takes it, so that nobody writes over what they have not seen.
        policy: What it says; None if it is wrong.
        problem: What is wrong; None if nothing is.
    """

    text: str
    sha256: Digest
    policy: Policy | None
    problem: InvalidSettingsError | None


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """The policy of a node, in the hands of one person.

    Attributes:
        home: The node.
        by: The name of the person, for the audit log.
    """

    home: NodeHome
    by: str

    def policy(self) -> Policy:
        """Return what the node allows.

        Raises:
            InvalidSettingsError: If the file is wrong; names every mistake.
        """
        return self.home.policy()

    def read(self) -> PolicyText:
        """Return the file, right or wrong."""
        content = self.home.settings_path.read_bytes()
        text, sha256 = content.decode("utf-8", "replace"), Digest(hashlib.sha256(content).hexdigest())
        try:
            return PolicyText(text, sha256, self.check(text), None)
        except InvalidSettingsError as error:
            return PolicyText(text, sha256, None, error)

    def check(self, text: str) -> Policy:
        """Return what another text would allow; nothing is changed.

        Raises:
            InvalidSettingsError: If it is wrong; names every mistake.
        """
        try:
            document = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidSettingsError(source="the policy", problems=f"  {error}") from error
        return validate(document, Policy, source="the policy")

    def replace(self, text: str, *, seen: Digest) -> Policy:
        """Put another text in the place of the policy; a running agent reads it when it starts again.

        Args:
            text: All of the new file.
            seen: The `sha256` of the text that the person saw and wants to be rid of.

        Raises:
            InvalidSettingsError: If the text is wrong; nothing was changed.
            PolicyChangedError: If the file is not what the person saw; nothing was changed.
            AuditBrokenError: If it cannot be recorded; nothing was changed.
            DiskFullError: If there is no space; nothing was changed.
        """
        policy, content = self.check(text), text.encode()
        path = self.home.settings_path
        with alone_in(self.home.path):
            if hashlib.sha256(path.read_bytes()).hexdigest() != seen:
                raise PolicyChangedError(path=path)
            entry = Entry(
                action=Action.POLICY_CHANGED,
                actor=f"person {self.by}",
                digest=Digest(hashlib.sha256(content).hexdigest()),
                bytes=len(content),
            )
            self.home.audit().append(entry)
            write_atomic(path, content)
        return policy
