"""Whatever tensors are written, the same are read."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.payload.header import read_header
from common.payload.tensors import DTYPES, load_tensors, save_tensors

NAMES = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20).filter(
    lambda name: name != "__metadata__"
)
SHAPES = st.lists(st.integers(0, 4), max_size=4)


@st.composite
def tensors(draw):
    dtype = draw(st.sampled_from(sorted(DTYPES, key=str)))
    shape = draw(SHAPES)
    seed = draw(st.integers(0, 1000))
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3).to(dtype)


@settings(max_examples=60)
@given(st.dictionaries(NAMES, tensors(), max_size=5), st.dictionaries(NAMES, st.text(max_size=9), max_size=3))
def test_tensors_and_metadata_survive(tmp_path_factory, model, metadata):
    path = tmp_path_factory.mktemp("tensors") / "model.safetensors"

    saved = save_tensors(path, model, metadata)
    found = load_tensors(path)

    index = read_header(path.read_bytes())
    assert (index.metadata, index.size_bytes) == (metadata, saved.size_bytes)
    assert found.keys() == model.keys()
    for name, expected in model.items():
        torch.testing.assert_close(found[name], expected, rtol=0, atol=0)
