from dataclasses import replace

import pytest

from engines.spec import EngineSpec, Profile, TensorSpec

SPEC = EngineSpec(
    name="net",
    inputs=(TensorSpec("x", "float32", ("B", 4, 8, 8)),),
    outputs=(TensorSpec("y", "float32", ("B", 4, 8, 8)),),
    profile=Profile(1, 8, 32),
    model_hash="0" * 64,
)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"opset": 21},
        {"precision": "bf16"},
        {"model_hash": "1" * 64},
        {"profile": Profile(1, 8, 64)},
        {"recipe_version": 1},
    ],
)
def test_everything_a_graph_depends_on_changes_its_key(change):
    other = replace(SPEC, **change)
    assert other.fingerprint != SPEC.fingerprint
    assert other.key() != SPEC.key()


def test_compiled_artifacts_have_a_key_of_their_own():
    """Graphs are shared by machines, compiled plans are not."""
    assert len({SPEC.key(), SPEC.key({"device": "a"}), SPEC.key({"device": "b"})}) == 3


@pytest.mark.parametrize("shape", [("N", 4), (2, "B")])
def test_only_the_batch_may_be_symbolic(shape):
    with pytest.raises(ValueError, match="symbolic"):
        TensorSpec("x", "float32", shape)


@pytest.mark.parametrize("sizes", [(0, 1, 2), (2, 1, 3), (1, 4, 3)])
def test_profiles_are_ordered(sizes):
    with pytest.raises(ValueError, match="min_b"):
        Profile(*sizes)
