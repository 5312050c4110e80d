"""What aggregation promises: the right numbers, the same bytes, little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from common.errors import InvalidSettingsError
from common.payload.blocks import BLOCK_ELEMENTS
from common.payload.tensors import load_tensors, save_tensors
from researcher.aggregators import Contribution, FedAverage, aggregator_config, aggregator_of


def contribution(folder, node, tensors, seen, train=None):
    path = folder / node
    save_tensors(path, tensors)
    return Contribution(node, path, samples_seen=seen, samples_train=train or seen)


def aggregated(folder, tensors, counts, aggregator=None, trains=None):
    """Return what becomes of the same-named tensors of several nodes."""
    trains = trains or counts
    parts = [
        contribution(folder, f"n{index}", one, seen, train)
        for index, (one, seen, train) in enumerate(zip(tensors, counts, trains, strict=True))
    ]
    save_tensors(folder / "base", tensors[0])
    (aggregator or FedAverage()).aggregate(folder / "base", parts, folder / "new")
    return load_tensors(folder / "new")


def test_updates_are_weighted_by_samples_seen(tmp_path):
    new = aggregated(tmp_path, [{"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([5.0, 6.0])}], (1, 3))

    assert [4.0, 5.0] == new["w"].tolist()


def test_updates_can_be_weighted_by_the_size_of_the_data_set(tmp_path):
    tensors = [{"w": torch.tensor([0.0])}, {"w": torch.tensor([4.0])}]

    new = aggregated(tmp_path, tensors, (1, 1), FedAverage(weights="dataset_size"), trains=(30, 10))

    assert [1.0] == new["w"].tolist()


def test_counters_become_a_rounded_mean(tmp_path):
    tensors = [{"seen": torch.tensor(10)}, {"seen": torch.tensor(15)}]

    new = aggregated(tmp_path, tensors, (1, 1))

    assert torch.int64 == new["seen"].dtype
    assert 12 == new["seen"].item()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_floats_are_summed_in_float64_and_rounded_once(tmp_path, dtype):
    rng = torch.Generator().manual_seed(3)
    tensors = [{"w": torch.randn(7, 11, generator=rng).to(dtype)} for _ in range(5)]
    counts = (3, 1, 4, 1, 5)

    new = aggregated(tmp_path, tensors, counts)

    total = np.zeros((7, 11))
    for one, count in zip(tensors, counts, strict=True):
        total += count / sum(counts) * one["w"].double().numpy()
    torch.testing.assert_close(torch.from_numpy(total).to(dtype), new["w"], rtol=0, atol=0)


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool]
)
def test_equal_updates_give_the_same_model_for_every_dtype(tmp_path, dtype):
    limits = [0, 1] if dtype is torch.bool else [torch.iinfo(dtype).min, 0, 1, torch.iinfo(dtype).max]
    value = torch.tensor(limits).to(dtype)
    if dtype is torch.int64:
        value = torch.tensor([-(2**52), 0, 2**52])

    new = aggregated(tmp_path, [{"w": value}] * 3, (1, 2, 4))

    torch.testing.assert_close(value, new["w"], rtol=0, atol=0)


def test_scalars_and_empty_tensors_pass(tmp_path):
    tensors = {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4)}

    new = aggregated(tmp_path, [tensors, tensors], (1, 1))

    assert 2.5 == new["scalar"].item()
    assert (0, 4) == tuple(new["empty"].shape)


def test_the_order_of_tensors_in_an_update_does_not_matter(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(3), "b": torch.zeros(2)}, tmp_path / "base")
    save_file({"a": torch.ones(3), "b": torch.zeros(2)}, tmp_path / "n0")
    (tmp_path / "n1").write_bytes(_reordered(b=[4.0, 4.0], a=[3.0, 3.0, 3.0]))
    parts = [Contribution(node, tmp_path / node, 1, 1) for node in ("n0", "n1")]

    FedAverage().aggregate(tmp_path / "base", parts, tmp_path / "new")

    new = load_tensors(tmp_path / "new")
    assert [2.0, 2.0, 2.0] == new["a"].tolist()
    assert [2.0, 2.0] == new["b"].tolist()


def _reordered(**tensors):
    import json

    header, data = {}, b""
    for name, values in tensors.items():
        raw = np.array(values, dtype="<f4").tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": [len(values)],
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_memory_is_a_few_blocks_whatever_the_model(tmp_path):
    big = {"w": torch.ones(6 * BLOCK_ELEMENTS + 17)}
    parts = [contribution(tmp_path, f"n{index}", big, 1) for index in range(4)]
    save_tensors(tmp_path / "base", big)

    tracemalloc.start()
    FedAverage().aggregate(tmp_path / "base", parts, tmp_path / "new")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 6 * 8 * BLOCK_ELEMENTS
    torch.testing.assert_close(big["w"], load_tensors(tmp_path / "new")["w"], rtol=0, atol=0)


def test_an_aggregator_survives_being_written_down():
    weighted = FedAverage(weights="dataset_size")

    assert weighted == aggregator_of(aggregator_config(weighted))


def test_unknown_weights_are_refused():
    with pytest.raises(InvalidSettingsError, match="weights"):
        FedAverage(weights="feelings")
