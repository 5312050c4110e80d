"""Encodings err by no more than they say, and what they leave out is in the residual, whatever the numbers."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.payload.blocks import to_doubles
from common.payload.encodings.choice import Encoding
from common.payload.encodings.decoder import DecodedFile
from common.payload.encodings.forms import SPAN, BFloat16, Float16, Int8, TopK
from tests.support.encodings import Link

TINY = float(np.finfo(np.float32).tiny)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
slow = settings(quick, max_examples=15)


@st.composite
def numbers(draw, least=1, most=2 * SPAN + 500):
    """Return float64 numbers of all sorts: of any magnitude, heavy-tailed, sparse, or all alike."""
    elements = draw(st.integers(least, most))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    magnitude = 10.0 ** draw(st.integers(-30, 30))
    shape = draw(st.sampled_from(["normal", "cauchy", "sparse", "equal", "zero", "wide"]))
    values = {
        "normal": lambda: generator.standard_normal(elements),
        "cauchy": lambda: np.clip(generator.standard_cauchy(elements), -1e6, 1e6),
        "sparse": lambda: generator.standard_normal(elements) * (generator.random(elements) < 0.01),
        "equal": lambda: np.where(generator.random(elements) < 0.5, -1.0, 1.0),
        "zero": lambda: np.zeros(elements),
        "wide": lambda: generator.standard_normal(elements) * 10.0 ** generator.integers(-8, 1, elements),
    }[shape]()
    return magnitude * values


def passed_through(form, values):
    peak = float(np.abs(values).max())
    return form.unpack("w", form.pack(values, peak), len(values))


@quick
@given(values=numbers())
def test_bf16_errs_by_at_most_half_a_step_of_8_bits(values):
    errors = np.abs(passed_through(BFloat16(), values) - values)

    assert np.all(errors <= np.abs(values) * 2**-8 * (1 + 2**-20) + TINY)


@quick
@given(values=numbers())
def test_fp16_errs_by_at_most_half_a_step_of_11_bits(values):
    errors = np.abs(passed_through(Float16(), values) - values)

    peak = np.abs(values).max()
    assert np.all(errors <= np.maximum(np.abs(values) * 2**-11, peak * 2**-39) + TINY * 2**-24)


@quick
@given(values=numbers())
def test_int8_errs_by_at_most_half_a_step_of_the_tensor(values):
    scale = float(Int8().pack(values, float(np.abs(values).max()))[".scale"][0])
    errors = np.abs(passed_through(Int8(), values) - values)

    assert np.all(errors <= scale / 2 * (1 + 2**-16))
    assert scale <= max(np.abs(values).max() / 127 * (1 + 2**-23), TINY)


@quick
@given(values=numbers(), keep=st.integers(1, SPAN))
def test_topk_sends_the_largest_of_each_span_and_nothing_else(values, keep):
    form = TopK(keep)
    parts = form.pack(values, float(np.abs(values).max()))
    found = form.unpack("w", parts, len(values))

    (kept,) = form.kinds((), len(values))[".idx"][1]
    assert kept == len(parts[".idx"]) == len(parts[".val"])
    for first in range(0, len(values), SPAN):
        span, sent = values[first : first + SPAN], found[first : first + SPAN]
        share = -(-keep * len(span) // SPAN)
        least = np.sort(np.abs(span).astype(np.float32))[-share]
        assert np.count_nonzero(sent) <= share
        larger = np.abs(span).astype(np.float32) > least
        np.testing.assert_allclose(sent[larger], span[larger], rtol=2**-8 * 1.001, atol=TINY)


@quick
@given(values=numbers(), keep=st.integers(1, SPAN))
def test_topk_shrinks_the_error_by_the_share_that_it_keeps(values, keep):
    # the property that convergence under error feedback rests on (Stich et al., NeurIPS 2018, definition 2.1)
    errors = passed_through(TopK(keep), values) - values

    peak = np.abs(values).max() or 1.0
    before, after = np.sum((values / peak) ** 2), np.sum((errors / peak) ** 2)
    assert after <= (1 - keep / SPAN * (1 - 2**-15)) * before + 1e-9


models = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
        "shape": st.sampled_from([(1024,), (33, 50), (SPAN,), (3, 11, 1000), (2 * SPAN + 1,)]),
        "seed": st.integers(0, 2**32),
        "step": st.sampled_from([1e-6, 1e-3, 1.0]),
    }
)


def model(dtype, shape, seed, scale=1.0):
    values = np.random.default_rng(seed).standard_normal(shape) * scale
    return torch.from_numpy(values).to(dtype)


@slow
@given(facts=models, encoding=st.sampled_from(["int8", "topk:0.01", "topk:0.2"]), rounds=st.integers(1, 4))
def test_what_was_read_and_what_is_left_make_up_all_changes(tmp_path_factory, facts, encoding, rounds):
    dtype, shape, seed = facts["dtype"], facts["shape"], facts["seed"]
    link = Link(tmp_path_factory.mktemp("link"), encoding)
    base, read, wanted = model(dtype, shape, seed), torch.zeros(shape).double(), torch.zeros(shape).double()

    for number in range(rounds):
        trained = (base.double() + model(torch.float64, shape, seed + number + 1, facts["step"])).to(dtype)
        found = link.send({"w": trained}, {"w": base})["w"]
        wanted += trained.double() - base.double()
        read += found.double() - base.double()
        base = found

    left = link.left()["w"]
    precision = 2**-52 if dtype is torch.float64 else 2**-23
    assert left.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
    torch.testing.assert_close(
        read + left.double(), wanted, rtol=0, atol=rounds * precision * 8 * max(1.0, facts["step"])
    )


@slow
@given(facts=models, encoding=st.sampled_from(["fp16", "bf16", "int8", "topk:0.05"]), data=st.data())
def test_reading_a_run_gives_that_run_of_the_whole(tmp_path_factory, facts, encoding, data):
    dtype, shape, seed = facts["dtype"], facts["shape"], facts["seed"]
    link = Link(tmp_path_factory.mktemp("link"), encoding)
    base = model(dtype, shape, seed)
    whole = link.send({"w": model(dtype, shape, seed + 1)}, {"w": base})["w"].double().reshape(-1).numpy()
    first = data.draw(st.integers(0, len(whole)))
    count = data.draw(st.integers(0, len(whole) - first))

    with DecodedFile(link.update, link.folder / "base") as file:
        run = to_doubles(file.read("w", first, count), file.index["w"].dtype)

    np.testing.assert_array_equal(whole[first : first + count], run)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize("encoding", ["fp16", "bf16", "int8", "topk:0.01"])
def test_how_well_a_change_is_kept_does_not_depend_on_its_magnitude(tmp_path, encoding, scale):
    base, change = torch.zeros(5000), model(torch.float32, (5000,), 0)

    found = Link(tmp_path, encoding).send({"w": change * scale}, {"w": base})["w"] / scale

    kept = float(torch.linalg.vector_norm(found - change) / torch.linalg.vector_norm(change))
    assert kept <= {"fp16": 0.0003, "bf16": 0.002, "int8": 0.01, "topk:0.01": 0.97}[encoding]


@quick
@given(
    name=st.sampled_from(["raw", "fp16", "bf16", "int8"]),
    millionths=st.integers(1, 999_999),
    zstd=st.booleans(),
)
def test_every_encoding_can_be_written_down_and_read(name, millionths, zstd):
    for encoding in (Encoding(name, zstd=zstd), Encoding("topk", millionths / 1_000_000, zstd)):
        assert encoding == Encoding.parse(str(encoding))
