"""Name every error that a person can meet, with a stable code, a cause and a remedy.

    WarrenError
    ├── MessageError      WRN-1xx  what arrived could not be read or believed
    ├── TransportError    WRN-2xx  the broker, or the way to it
    ├── FederationError   WRN-3xx  kits, certificates, rosters, homes
    ├── DataError         WRN-4xx  data sets and their files
    ├── PlanError         WRN-5xx  training plans and their approval
    ├── TaskError         WRN-6xx  work at a node
    ├── ExperimentError   WRN-7xx  rounds, updates, models
    ├── StorageError      WRN-8xx  journals, ledgers, disks
    └── SettingsError     WRN-9xx  settings and arguments

Each concrete class states its text once, as a template whose fields are the facts that callers must pass by name.
`docs/reference/errors.md` is generated from this package, and a test keeps codes, raisers and pages complete.
"""

from common.errors.base import WarrenError, catalogue
from common.errors.data import (
    DataError,
    DataFileError,
    DataFileGoneError,
    InvalidDatasetError,
    MissingValuesError,
    NonNumericColumnError,
    NoSuchDatasetError,
    TagsOverlapError,
    TooFewSamplesError,
    UnknownColumnError,
)
from common.errors.experiment import (
    AmbiguousDatasetError,
    ExperimentCancelledError,
    ExperimentError,
    ModelMismatchError,
    NoDatasetError,
    NoNodesError,
    NoSuchExperimentError,
    NotTrainedError,
    RoundFailedError,
    UpdateRefusedError,
)
from common.errors.federation import (
    AgentStartError,
    BrokerAdminError,
    BrokerMissingError,
    BrokerStartError,
    CertificateExpiredError,
    FederationError,
    FederationExistsError,
    HomeError,
    HomeInUseError,
    InvalidPartyIdError,
    KitError,
    NotAFederationError,
    PartyExistsError,
    RosterError,
    UnknownAuthorityError,
    UnknownPartyError,
)
from common.errors.message import (
    DigestMismatchError,
    InvalidTensorsError,
    MalformedMessageError,
    MessageError,
    MessageTooLargeError,
    ProtocolVersionError,
    SenderMismatchError,
    UnauthenticMessageError,
)
from common.errors.plan import (
    AmbiguousPlanError,
    NoSuchPlanError,
    PlanContractError,
    PlanError,
    PlanFailedError,
    PlanHashError,
    PlanNotApprovedError,
    PlanSourceError,
)
from common.errors.settings import (
    InvalidArgumentsError,
    InvalidSettingsError,
    MissingExtraError,
    SettingsError,
)
from common.errors.storage import (
    DatabaseBusyError,
    DatabaseVersionError,
    DiskFullError,
    ForeignDatabaseError,
    PayloadMissingError,
    StorageError,
)
from common.errors.task import (
    DatasetNotOnNodeError,
    TaskCancelledError,
    TaskError,
    TaskExpiredError,
    TaskRefusedError,
    TaskSupersededError,
    WorkerDiedError,
    WorkerStartError,
)
from common.errors.transport import (
    BrokerRefusedError,
    BrokerUnreachableError,
    QueueFullError,
    ReplyTimeoutError,
    TransportClosedError,
    TransportError,
    UnroutableError,
)

__all__ = [
    "AgentStartError",
    "AmbiguousDatasetError",
    "AmbiguousPlanError",
    "BrokerAdminError",
    "BrokerMissingError",
    "BrokerRefusedError",
    "BrokerStartError",
    "BrokerUnreachableError",
    "CertificateExpiredError",
    "DataError",
    "DataFileError",
    "DataFileGoneError",
    "DatabaseBusyError",
    "DatabaseVersionError",
    "DatasetNotOnNodeError",
    "DigestMismatchError",
    "DiskFullError",
    "ExperimentCancelledError",
    "ExperimentError",
    "FederationError",
    "FederationExistsError",
    "ForeignDatabaseError",
    "HomeError",
    "HomeInUseError",
    "InvalidArgumentsError",
    "InvalidDatasetError",
    "InvalidPartyIdError",
    "InvalidSettingsError",
    "InvalidTensorsError",
    "KitError",
    "MalformedMessageError",
    "MessageError",
    "MessageTooLargeError",
    "MissingExtraError",
    "MissingValuesError",
    "ModelMismatchError",
    "NoDatasetError",
    "NoNodesError",
    "NoSuchDatasetError",
    "NoSuchExperimentError",
    "NoSuchPlanError",
    "NonNumericColumnError",
    "NotAFederationError",
    "NotTrainedError",
    "PartyExistsError",
    "PayloadMissingError",
    "PlanContractError",
    "PlanError",
    "PlanFailedError",
    "PlanHashError",
    "PlanNotApprovedError",
    "PlanSourceError",
    "ProtocolVersionError",
    "QueueFullError",
    "ReplyTimeoutError",
    "RosterError",
    "RoundFailedError",
    "SenderMismatchError",
    "SettingsError",
    "StorageError",
    "TagsOverlapError",
    "TaskCancelledError",
    "TaskError",
    "TaskExpiredError",
    "TaskRefusedError",
    "TaskSupersededError",
    "TooFewSamplesError",
    "TransportClosedError",
    "TransportError",
    "UnauthenticMessageError",
    "UnknownAuthorityError",
    "UnknownColumnError",
    "UnknownPartyError",
    "UnroutableError",
    "UpdateRefusedError",
    "WarrenError",
    "WorkerDiedError",
    "WorkerStartError",
    "catalogue",
]
