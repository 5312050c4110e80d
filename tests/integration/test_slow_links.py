"""Payloads over a slow, distant line that is cut again and again, through a real broker. Small and fast for the suite;
`make bench` does the same with 200 MiB over 20 Mbit/s."""

import pytest

from common.limits import SEND_WINDOW_CHUNKS
from tests.support.broker import FAST
from tests.support.slow import carry

SIZE = 3 * 1024 * 1024
CHUNK = 32 * 1024
LOST_PER_CUT = (SEND_WINDOW_CHUNKS + 1) * CHUNK
"""What was sent and not confirmed, or delivered and not acknowledged."""
BUFFERS = 256 * 1024
"""What the broker sends ahead into a line that is cut."""


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("cuts", [(0.9,), (0.2, 0.45, 0.9)], ids=["once at 90 percent", "three times"])
def test_a_payload_completes_over_a_slow_line_and_goes_on_after_each_cut(
    make_federation, tmp_path, way, cuts
):
    carried = carry(
        make_federation(),
        tmp_path,
        SIZE,
        way=way,
        rate=1.5e6,
        delay=0.02,
        cuts=cuts,
        chunk_bytes=CHUNK,
        timeouts=FAST,
    )

    assert carried.whole
    assert carried.duplicates <= len(cuts) * (SEND_WINDOW_CHUNKS + 1)
    assert carried.passed_bytes < 1.1 * SIZE + len(cuts) * (LOST_PER_CUT + BUFFERS)
