"""What a researcher's audit log says of an experiment."""

import pytest

from common.audit.record import Action
from common.audit.verify import read_records, verify
from tests.support.fake_node import Place, Trial
