"""Errors WRN-3xx: kits, certificates, rosters, homes."""

from common.errors.base import WarrenError


class FederationError(WarrenError):
    """Base of the errors about kits, certificates, rosters, homes."""


class KitError(FederationError):
    """A kit is incomplete or inconsistent."""

    code = "WRN-301"
    text = "the kit at {path} cannot be used: {reason}"
    cause = "a file is missing or the folder belongs to another party"
    remedy = "ask the federation operator for the kit of this party again"


class KitVersionError(FederationError):
    """A kit was made by a newer Warren."""

    code = "WRN-321"
    text = "the kit is of version {theirs}, this Warren reads up to {ours}"
    cause = "the federation was upgraded and this side was not"
    remedy = "upgrade Warren here; the kit was not touched"


class CertificateExpiredError(FederationError):
    """A certificate has expired."""

    code = "WRN-302"
    text = "the certificate of {party} expired on {expired}"
    cause = "certificates last a limited time"
    remedy = "ask the federation operator for a new kit"


class UnknownAuthorityError(FederationError):
    """The broker's certificate was not signed by the federation."""

    code = "WRN-303"
    text = "the broker at {host}:{port} shows a certificate that the federation of this kit did not sign: {reason}"
    cause = "the kit is of another federation, or somebody stands between"
    remedy = "check host and port; compare the fingerprint of the authority with the operator"


class InvalidPartyIdError(FederationError):
    """A party id is not a valid slug."""

    code = "WRN-304"
    text = "{value!r} is not a party id: use 1 to 40 of a-z, 0-9 and -, starting with a letter or digit"
    cause = "ids name queues and users on the broker"
    remedy = "choose a short lower-case name such as cleveland"
    public = True


class PartyExistsError(FederationError):
    """The party exists already."""

    code = "WRN-305"
    text = "{party} is already in the federation {federation}"
    cause = "ids are unique within a federation, also those of revoked parties"
    remedy = "choose another id"
    public = True


class UnknownPartyError(FederationError):
    """The party is not in the federation."""

    code = "WRN-306"
    text = "{party} is not in the federation {federation}"
    cause = "the id is misspelt, or the party was never added"
    remedy = "list the parties with `warren federation show DIR`"
    public = True


class FederationExistsError(FederationError):
    """The folder holds something already."""

    code = "WRN-307"
    text = "{path} is not empty"
    cause = "a federation is made in a new folder"
    remedy = "choose another folder, or remove this one"


class NotAFederationError(FederationError):
    """The folder holds no federation."""

    code = "WRN-308"
    text = "{path} holds no federation: {reason}"
    cause = "the path is wrong, or `warren federation init` was never run there"
    remedy = "run `warren federation init {path}`"


class RosterError(FederationError):
    """A roster cannot be believed."""

    code = "WRN-309"
    text = "the roster was refused: {reason}"
    cause = "it is damaged, older than the one in use, or not signed by the federation"
    remedy = "ask the federation operator for the current roster"


class HomeInUseError(FederationError):
    """Another process uses this home."""

    code = "WRN-310"
    text = "{path} is in use by process {pid}"
    cause = "an agent or a researcher was started twice"
    remedy = "stop the other process first (`warren-node stop HOME`), or use another home"


class HomeError(FederationError):
    """The folder is not a usable home."""

    code = "WRN-311"
    text = "{path} cannot be used as a home: {reason}"
    cause = "the path is wrong, or the home was never made"
    remedy = "make it with `warren-node init HOME --kit KIT`, for a researcher with `warren-researcher init HOME --kit KIT`"


class BrokerMissingError(FederationError):
    """RabbitMQ is not installed."""

    code = "WRN-312"
    text = "no RabbitMQ server was found at {path}"
    cause = "the package is not installed"
    remedy = "install it (`apt-get install --no-install-recommends rabbitmq-server`) or run the demo with `--broker memory`"


class BrokerStartError(FederationError):
    """The private broker did not start."""

    code = "WRN-313"
    text = "RabbitMQ did not start: {reason}"
    cause = "a port was taken, memory or disk is short, or the data folder belongs to another broker"
    remedy = "read the log at {log}"


class BrokerAdminError(FederationError):
    """The running broker did not take the change."""

    code = "WRN-314"
    text = "the broker did not take the change: {reason}"
    cause = "the broker is down, or it is run by somebody else"
    remedy = "start it with `warren broker start DIR`, or import the written definitions yourself"


class AgentStartError(FederationError):
    """The node agent did not start."""

    code = "WRN-315"
    text = "the agent of {path} did not start: {reason}"
    cause = "it met an error before it was ready"
    remedy = "read {log}, or start it without --background and look"


class BrokerStoppedError(FederationError):
    """The private broker stopped by itself."""

    code = "WRN-316"
    text = "RabbitMQ stopped by itself with status {status}"
    cause = "memory or disk ran out, or somebody killed it"
    remedy = "read the log at {log}, then start it again: confirmed messages are on disk"


class BrokerRunningError(FederationError):
    """The federation's private broker runs already."""

    code = "WRN-317"
    text = "the broker of {path} runs already as process {pid}"
    cause = "it was started twice"
    remedy = "use the one that runs, or stop it first"


class PortTakenError(FederationError):
    """A TCP port cannot be used."""

    code = "WRN-318"
    text = "port {port} of {host} cannot be used: {reason}"
    cause = "another program listens there"
    remedy = "stop that program, or choose another port: `--port` of `warren federation init`, `metrics_port` in policy.toml, `WARREN_METRICS_PORT` of a researcher"


class EnrolmentError(FederationError):
    """An enrolment cannot go on."""

    code = "WRN-319"
    text = "the enrolment at {path} cannot go on: {reason}"
    cause = "a file is missing or was changed on the way, or it belongs to another party"
    remedy = "compare the fingerprints with the other side; begin anew with `warren-node enroll HOME --id PARTY --federation NAME`"


class FingerprintError(FederationError):
    """Two fingerprints differ."""

    code = "WRN-320"
    text = "the fingerprint is {actual}, not {expected}"
    cause = "the file is another one than the other person looks at, or somebody changed it on the way"
    remedy = "do not go on; ask the other person to read it again, and to send the file by another way"


class AccountError(FederationError):
    """An account of the web page cannot be that way."""

    code = "WRN-322"
    text = "account {name}: {reason}"
    cause = "a rule about names, passwords or admins says no"
    remedy = "choose differently, as the text above says"


class LinkSpentError(FederationError):
    """A link that works once cannot be used."""

    code = "WRN-323"
    text = "this link was used before, has expired, or was replaced by a newer one"
    cause = "links of the web page work once, and for a day"
    remedy = "ask an admin of the page for a new one; for the first set-up, start `warren-node gui HOME` again, which prints one"
