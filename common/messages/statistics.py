"""Define the counts and sums of a validation: what several nodes tell of them adds up to metrics over all their samples."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from common.messages.base import Count, Part

CLASSES: Final = 64
"""Most classes of a confusion matrix; two of this size and the losses of a task fit one message."""
COLUMNS: Final = 100
"""Most columns of values."""
CALIBRATION_BINS: Final = 10
"""Bins of equal width for confidences from 0 to 1."""
SCORE_BINS: Final = 256
"""Bins of equal width for log-odds from -8 to 8; the outermost also hold what lies beyond."""
SCORE_LIMIT: Final = 8.0

Real = Annotated[float, Field(allow_inf_nan=False)]
Sum = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Histogram = Annotated[tuple[Count, ...], Field(min_length=SCORE_BINS, max_length=SCORE_BINS)]


class CalibrationBin(Part):
    """The cases of which the model was about equally sure."""

    cases: Count
    confidence: Sum
    """Sum of the probabilities: of class 1 if there are two classes, else of the class that was predicted."""
    hits: Count
    """Cases in which that class was the right one."""


class ProbabilitySums(Part):
    """What the probabilities of a classification add up to."""

    log_loss: Sum
    brier: Sum
    """Squared differences: of the probability of class 1 if there are two classes, else over all classes."""
    calibration: Annotated[
        tuple[CalibrationBin, ...], Field(min_length=CALIBRATION_BINS, max_length=CALIBRATION_BINS)
    ]
    scores: tuple[Histogram, Histogram] | None
    """Of two classes: how many cases of class 0, and of class 1, have log-odds in each bin."""


class ClassStatistics(Part):
    """The counts of a classification; a case is a sample, or a pixel of one."""

    kind: Literal["classes"] = "classes"
    confusion: Annotated[
        tuple[Annotated[tuple[Count, ...], Field(max_length=CLASSES)], ...],
        Field(min_length=2, max_length=CLASSES),
    ]
    """Cases by their true class (row) and the predicted one (column)."""
    probabilities: ProbabilitySums | None

    @property
    def cases(self) -> int:
        """Return the number of cases."""
        return sum(map(sum, self.confusion))

    @model_validator(mode="after")
    def _adds_up(self) -> ClassStatistics:
        if any(len(row) != len(self.confusion) for row in self.confusion):
            raise ValueError("a confusion matrix is square")
        known = self.probabilities
        if known is None:
            return self
        if sum(one.cases for one in known.calibration) != self.cases or any(
            one.hits > one.cases or one.confidence > one.cases + 1e-6 for one in known.calibration
        ):
            raise ValueError("the calibration is not of these cases")
        if known.scores is not None and [sum(one) for one in known.scores] != [
            sum(row) for row in self.confusion
        ]:
            raise ValueError("the scores are not of these cases")
        return self


class ColumnSums(Part):
    """What one column of values and its predictions add up to."""

    cases: Count
    target_mean: Real
    target_spread: Sum
    """Sum of squared differences from that mean."""
    error_mean: Real
    """Mean of target minus prediction."""
    error_spread: Sum
    absolute_error: Sum
    """Sum of the sizes of errors."""


class ValueStatistics(Part):
    """The sums of a regression."""

    kind: Literal["values"] = "values"
    columns: Annotated[tuple[ColumnSums, ...], Field(min_length=1, max_length=COLUMNS)]

    @property
    def cases(self) -> int:
        """Return the number of rows."""
        return self.columns[0].cases

    @model_validator(mode="after")
    def _adds_up(self) -> ValueStatistics:
        if any(one.cases != self.cases for one in self.columns):
            raise ValueError("columns are of one length")
        return self


Statistics = Annotated[ClassStatistics | ValueStatistics, Field(discriminator="kind")]
