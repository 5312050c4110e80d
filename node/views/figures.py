"""Hold what is drawn of a data set; whoever shows it makes lines and bars of the numbers."""

from __future__ import annotations

from pydantic import JsonValue

from common.settings import Settings


class Trace(Settings):
    """A signal over time, in as many pieces as can be seen.

    Attributes:
        name: The channel.
        unit: Of its values.
        seconds: How long it is.
        low: The least value of each piece.
        high: The greatest value of each piece.
    """

    name: str
    unit: str
    seconds: float
    low: tuple[float, ...]
    high: tuple[float, ...]


class Glimpse(Settings):
    """The first samples of a data set.

    Attributes:
        rows: Facts and values of each.
        tiles: What the pictures on the sheet are of, from left to right and from top to bottom.
        sheet: The pictures, as one PNG in base64; none if there are none.
        traces: The signals of the first recording.
    """

    rows: tuple[dict[str, JsonValue], ...]
    tiles: tuple[str, ...] = ()
    sheet: str | None = None
    traces: tuple[Trace, ...] = ()


class Bars(Settings):
    """How often something occurs.

    Attributes:
        name: The column, or what is counted.
        labels: What each bar counts: a class, or the range of a number.
        counts: How often.
        missing: Samples without a value.
        others: Samples of further classes, which are not shown.
        ordered: Whether it is a histogram, whose bars lie side by side; else they are classes.
    """

    name: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    missing: int = 0
    others: int = 0
    ordered: bool = False


class Summary(Settings):
    """The whole of a data set in counts.

    Attributes:
        samples: How many samples or rows were counted.
        bars: Histograms of numbers, and balances of classes.
        columns_left_out: Columns beyond those that are drawn.
    """

    samples: int
    bars: tuple[Bars, ...]
    columns_left_out: int = 0
