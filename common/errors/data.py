"""Errors WRN-4xx: data sets and their files."""

from common.errors.base import WarrenError


class DataError(WarrenError):
    """Base of the errors about data sets and their files."""


class DataFileError(DataError):
    """A data file cannot be read."""

    code = "WRN-401"
    text = "{path} cannot be read as {data_type}: {reason}"
    cause = "the file is missing, damaged, or of another format"
    remedy = "check the path and the format"


class DataFileGoneError(DataError):
    """A registered data file is gone or was changed."""

    code = "WRN-402"
    text = "the file of data set {name!r} {what} since it was registered"
    cause = "somebody moved, removed or edited it"
    remedy = (
        "put it back and run `warren-node dataset check`,"
        " or run `warren-node dataset update`, which makes it another data set"
    )


class UnknownColumnError(DataError):
    """A column does not exist in the data set."""

    code = "WRN-403"
    text = "no column {column!r}; there are {columns}"
    cause = "the plan names a column that this hospital does not have, or spells it otherwise"
    remedy = "compare the columns with `warren-researcher datasets --tags ...`"
    public = True


class NonNumericColumnError(DataError):
    """A column is not numeric."""

    code = "WRN-404"
    text = "column {column!r} is of type {dtype}, and a plan takes numbers"
    cause = "the column holds text"
    remedy = "leave the column out, or encode it before registering"
    public = True


class MissingValuesError(DataError):
    """A column has missing values."""

    code = "WRN-405"
    text = "column {column!r} has {count} missing values of {rows}"
    cause = "the file has empty cells"
    remedy = 'register a cleaned file, or choose `missing="drop"` or `"mean"` in the plan\'s TabularDataset'
    public = True


class TagsOverlapError(DataError):
    """The tags overlap those of another data set."""

    code = "WRN-406"
    text = "tags {tags} contain or are contained in those of {other!r}: {other_tags}"
    cause = "a search must find at most one data set of a node"
    remedy = "choose tags so that neither set contains the other"


class NoSuchDatasetError(DataError):
    """The data set is not registered."""

    code = "WRN-407"
    text = "no data set {dataset!r} is registered"
    cause = "it was removed, or the id is misspelt"
    remedy = "list them with `warren-node dataset list HOME`"


class TooFewSamplesError(DataError):
    """The data set has too few samples."""

    code = "WRN-408"
    text = "{samples} samples are fewer than the {minimum} that this node requires"
    cause = "the policy of the node protects small groups"
    remedy = "train on a larger set, or ask the node about its policy"
    public = True


class InvalidDatasetError(DataError):
    """The description of a data set is not valid."""

    code = "WRN-409"
    text = "data set cannot be registered: {reason}"
    cause = "a name, tag or description is missing or too short, or an option is unknown"
    remedy = "correct the option and try again"


class UnknownCategoryError(DataError):
    """A category is none of those that the plan names."""

    code = "WRN-410"
    text = "{count} samples of {column!r} are none of the categories that the plan names: {known}"
    cause = "this hospital writes its categories otherwise, or has others"
    remedy = "agree on the categories with the hospitals, and name all of them in the plan"
    public = True


class WrongDataTypeError(DataError):
    """The plan reads data sets of another type."""

    code = "WRN-411"
    text = "the plan reads {wanted} data sets, and this one is registered as {found}"
    cause = "the tags lead to another data set than the plan was written for"
    remedy = "compare types with `warren-researcher datasets --tags ...`"
    public = True


class IdentifiedPatientsError(DataError):
    """Files hold what identifies patients."""

    code = "WRN-412"
    text = "{count} or more files in {path} hold what identifies a patient: {tags}"
    cause = "they were not, or not fully, de-identified"
    remedy = "de-identify them, DICOM by the basic profile of PS3.15, or say --option identified=allow"


class InvalidLoadingPlanError(DataError):
    """A data-loading plan is not valid."""

    code = "WRN-421"
    text = "data-loading plan {name!r} cannot be saved: {reason}"
    cause = "a name is taken or too short, or an option does not belong into a plan"
    remedy = "choose another name, or correct the options"


class NoSuchLoadingPlanError(DataError):
    """The node has no data-loading plan of that name."""

    code = "WRN-422"
    text = "no data-loading plan {name!r} is saved"
    cause = "it was removed, or the name is misspelt"
    remedy = "list them with `warren-node loading list HOME`"


class LoadingPlanInUseError(DataError):
    """A data-loading plan is in use."""

    code = "WRN-423"
    text = "data-loading plan {name!r} made the options of {datasets}"
    cause = "a data set says by the name of its plan how it is read"
    remedy = "remove these data sets first, or update them with another plan"


class UnknownVariantError(DataError):
    """Variants that a plan names are not in the data set."""

    code = "WRN-424"
    text = "{count} of {wanted} variants are not in the data set: {variants}"
    cause = "they were not measured here, or the files are of another genome build, strand or way to write insertions and deletions"
    remedy = "agree on variants that all nodes have, and on one build; compare it with `warren-researcher datasets --tags ...`"
    public = True


class OtherVariantsError(DataError):
    """The variants of a data set are not those that a plan was written for."""

    code = "WRN-425"
    text = "the variants of the data set have the digest {found}, and the plan was written for {wanted}"
    cause = "this node offers other variants, or the same in another order"
    remedy = "register the data set with the list of variants that all nodes agreed on, or name the variants in the plan"
    public = True


class FetchError(DataError):
    """A public collection cannot be fetched."""

    code = "WRN-416"
    text = "{place} cannot be fetched: {reason}"
    cause = "the network or the server fails, or somebody changed the file"
    remedy = "try again; without the internet, carry the files to the node and say --from FOLDER"


class UnknownMomentsError(DataError):
    """The moments of a column are not among those of the federation."""

    code = "WRN-417"
    text = "no moments of column {column!r} were taken; there are {columns}"
    cause = "the plan takes other columns than it did when the federation was asked for moments"
    remedy = "begin another experiment, or name the column in all cases"
    public = True


class NotJoinableError(DataError):
    """Two data sets cannot be joined."""

    code = "WRN-418"
    text = "the two data sets cannot be joined: {reason}"
    cause = "a set names no subjects, or they are others"
    remedy = "register tables with --option id_column=..., and ask for joins of sets of the same subjects"
    public = True
