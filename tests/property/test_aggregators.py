"""Aggregation gives the same bytes whatever the order of arrival, and the numbers of a plain reference."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from researcher.aggregators import Contribution, FedAverage

FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)


@st.composite
def rounds(draw):
    nodes = draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6, unique=True))
    size = draw(st.integers(0, 9))
    return {
        node: (
            draw(st.lists(FLOATS, min_size=size, max_size=size)),
            draw(st.integers(-(2**31), 2**31 - 1)),
            draw(st.integers(1, 10**6)),
        )
        for node in nodes
    }


@settings(max_examples=40, deadline=None, derandomize=True)
@given(updates=rounds(), data=st.data())
def test_the_order_of_arrival_does_not_show_in_the_bytes(updates, data):
    order = data.draw(st.permutations(list(updates)))
    with TemporaryDirectory() as name:
        folder = Path(name)
        for node in order:
            values, counter, _ = updates[node]
            save_file(
                {"w": np.array(values, dtype="<f4"), "n": np.array(counter, dtype="<i8")}, folder / node
            )
        parts = {node: Contribution(node, folder / node, updates[node][2], 1) for node in order}
        arrived = [parts[node] for node in sorted(order)]

        FedAverage().aggregate(folder / order[0], arrived, folder / "first")
        FedAverage().aggregate(
            folder / order[-1], sorted(parts.values(), key=lambda one: one.node), folder / "second"
        )

        assert (folder / "first").read_bytes() == (folder / "second").read_bytes()
        total = sum(one.samples_seen for one in arrived)
        expected = np.zeros(len(updates[order[0]][0]))
        counter = 0.0
        for one in arrived:
            expected += one.samples_seen / total * np.array(updates[one.node][0], dtype=np.float64)
            counter += one.samples_seen / total * updates[one.node][1]
        result = load_file(folder / "first")
        np.testing.assert_array_equal(expected.astype(np.float32), result["w"])
        assert np.rint(counter) == result["n"]
