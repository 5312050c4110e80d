"""People are told in time that a certificate expires."""

import logging

from common import metrics
from common.clock import ManualClock
from common.security.expiry import WARN_DAYS, Expiry

DAY_S = 86400.0


def test_the_log_says_it_once_a_day_from_thirty_days_before(caplog):
    clock = ManualClock()
    expiry = Expiry(clock.now() + 33 * DAY_S, clock)
    said = []
    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            for _ in range(6):
                expiry.remind()
                clock.advance(DAY_S / 6)
            said.append(len(caplog.records))
            caplog.clear()

    assert WARN_DAYS == 30
    assert [0] * 3 == said[:3]
    assert {1} == set(said[4:])


def test_prometheus_is_told_when():
    clock = ManualClock()
    Expiry(clock.now() + DAY_S, clock)

    assert clock.now() + DAY_S == metrics.CERTIFICATE_EXPIRES._value.get()
