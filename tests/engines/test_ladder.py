import pytest

from engines import pipeline
from engines.errors import BackendUnavailableError
from engines.pipeline import load_pipeline


@pytest.fixture
def asked(monkeypatch):
    """Precisions that were tried; numbers suffice in single precision only."""
    tried = []
    build = pipeline.build_networks

    def picky(parts, process, text, where):
        tried.append(where.precision)
        if where.precision != "fp32":
            raise BackendUnavailableError(where.backend, ["torch: its output differs"], uncertified=tried[0] != "tf32")
        return build(parts, process, text, where)

    monkeypatch.setattr(pipeline, "build_networks", picky)
    return tried


def test_numbers_that_do_not_suffice_are_made_in_the_next_precision(pipeline_directory, graphs, asked):
    """The pictures' fingerprint is that of the precision they are drawn in."""
    drawn = load_pipeline(pipeline_directory, precision="bf16", steps=2, cache=graphs, images=1)
    assert asked == ["bf16", "fp16", "tf32", "fp32"]
    assert drawn.precision == "fp32"
    assert drawn.fingerprint == load_pipeline(pipeline_directory, steps=2, cache=graphs, images=1).fingerprint


@pytest.mark.parametrize("settings", [{"backend": "torch", "precision": "bf16"}, {"precision": "tf32"}])
def test_what_was_named_or_cannot_be_had_is_not_replaced(pipeline_directory, graphs, asked, settings):
    """A pinned backend, or a precision that nobody offers here."""
    with pytest.raises(BackendUnavailableError):
        load_pipeline(pipeline_directory, cache=graphs, **settings)
    assert len(asked) == 1
