"""What people import is a contract: a name that comes or goes is decided here, not by accident."""

import importlib
import inspect
import subprocess
import sys
from importlib.resources import files

import pytest

PUBLIC = {
    "researcher": [
        "Aggregator",
        "AllNodes",
        "AsyncStrategy",
        "Bulyan",
        "CoordinateMedian",
        "DefaultStrategy",
        "EarlyStopping",
        "Experiment",
        "FedAverage",
        "FedDyn",
        "FedNova",
        "Federation",
        "GeometricMedian",
        "History",
        "Krum",
        "MinimumStrategy",
        "NewtonStep",
        "NormClipping",
        "Observer",
        "OverSelectStrategy",
        "RandomSampling",
        "RoundRobinSampling",
        "Scaffold",
        "Strategy",
        "SumStatistics",
        "TerminalView",
        "TreeEnsemble",
        "TrimmedMean",
        "WeightedSampling",
    ],
    "researcher.aggregators": [
        "PLAN_BOUND",
        "Aggregator",
        "Bulyan",
        "Contribution",
        "CoordinateMedian",
        "FedAverage",
        "FedDyn",
        "FedNova",
        "GeometricMedian",
        "Krum",
        "NewtonStep",
        "NormClipping",
        "Recall",
        "Scaffold",
        "StatefulAggregator",
        "SumStatistics",
        "TreeEnsemble",
        "TrimmedMean",
        "aggregator_config",
        "aggregator_of",
    ],
    "researcher.monitoring": [
        "Event",
        "LinesView",
        "NodeChanged",
        "NodeProgress",
        "Observer",
        "RoundEnded",
        "RoundOpened",
        "RunEnded",
        "RunStarted",
        "StoppedEarly",
        "TaskLost",
        "TensorBoard",
        "TerminalView",
        "UpdateArrived",
    ],
    "researcher.strategies": [
        "AllNodes",
        "AnyStrategy",
        "Ask",
        "AsyncStrategy",
        "Close",
        "Decision",
        "DefaultStrategy",
        "Fail",
        "MinimumStrategy",
        "OverSelectStrategy",
        "RandomSampling",
        "RoundRobinSampling",
        "RoundView",
        "Sample",
        "Sampling",
        "SamplingStrategy",
        "Strategy",
        "Wait",
        "WeightedSampling",
        "strategy_config",
        "strategy_of",
    ],
    "common.data": ["DataManager", "Loader", "Parts", "Samples"],
    "common.datasets": [
        "CustomDataset",
        "Dataset",
        "GenotypeDataset",
        "ImageFolderDataset",
        "JoinedDataset",
        "MedNistDataset",
        "MedicalFolderDataset",
        "MnistDataset",
        "SignalDataset",
        "SurvivalDataset",
        "Table",
        "TabularDataset",
        "TextDataset",
        "inspect_tabular",
    ],
    "common.messages": [
        "PROTOCOL_VERSION",
        "AnyMessage",
        "Assignment",
        "CalibrationBin",
        "Chunk",
        "ChunkRequest",
        "ClassStatistics",
        "Column",
        "ColumnMoments",
        "ColumnSums",
        "Correction",
        "DatasetDescription",
        "ExperimentMessage",
        "FedDynCorrection",
        "GpuNotice",
        "ListReply",
        "ListRequest",
        "LossPoint",
        "Message",
        "NodeFigures",
        "NodeInfo",
        "NodePresence",
        "PayloadManifest",
        "PayloadReceipt",
        "PingReply",
        "PingRequest",
        "PlanApprovalReply",
        "PlanApprovalRequest",
        "PlanState",
        "PlanStatusReply",
        "PlanStatusRequest",
        "ProbabilitySums",
        "Reply",
        "RosterUpdate",
        "RunEnd",
        "ScaffoldCorrection",
        "SearchReply",
        "SearchRequest",
        "Statistics",
        "TaskCancel",
        "TaskFailed",
        "TaskMessage",
        "TaskProgress",
        "TaskState",
        "TaskTimings",
        "TrainReply",
        "TrainRequest",
        "Validation",
        "ValueStatistics",
        "by_name",
        "decode",
        "encode",
    ],
    "common.optimizers": [
        "AdaGradModule",
        "AdamModule",
        "EWMAModule",
        "FedProxRegularizer",
        "LassoRegularizer",
        "Module",
        "MomentumModule",
        "Optimizer",
        "RMSPropModule",
        "Regularizer",
        "RidgeRegularizer",
        "YogiModule",
        "optimizer_config",
        "optimizer_of",
    ],
    "common.training_args": ["Metric", "TrainingArgs"],
    "common.training_plans": [
        "FedBernoulliNB",
        "FedCoxPH",
        "FedGaussianNB",
        "FedLinearRegression",
        "FedLogisticRegression",
        "FedMLPClassifier",
        "FedPerceptron",
        "FedRidge",
        "FedSGDClassifier",
        "FedSGDRegressor",
        "FedXGBClassifier",
        "FedXGBRegressor",
        "ProcessTypes",
        "TorchTrainingPlan",
        "TrainingPlan",
    ],
}
"""Every public name. The errors are listed by their catalogue: see `tests/unit/test_errors.py`."""


@pytest.mark.parametrize("module", PUBLIC)
def test_the_public_names_are_these(module):
    assert PUBLIC[module] == importlib.import_module(module).__all__


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_can_be_imported_and_says_what_it_is(module):
    found = importlib.import_module(module)
    undocumented = [
        name
        for name in PUBLIC[module]
        if (inspect.isclass(value := getattr(found, name)) or inspect.isfunction(value)) and not value.__doc__
    ]

    assert [] == undocumented


@pytest.mark.parametrize("package", ["common", "node", "researcher", "deploy"])
def test_type_checkers_are_told_that_a_package_is_typed(package):
    assert files(package).joinpath("py.typed").is_file()


def test_looking_at_what_a_node_agent_needs_loads_no_framework():
    modules = "common.messages, common.datasets, common.training_args, common.training_plans, common.mailbox"
    program = f"import sys, {modules}; print(sorted({{'torch', 'sklearn', 'xgboost'}} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()
