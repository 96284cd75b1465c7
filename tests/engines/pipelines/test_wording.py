"""Words of our own among a text encoder's: they mean what their embeddings mean, and leave everything else as it was."""

import threading

import pytest
import torch

from engines.errors import CaptionTooLongError
from engines.networks import state_digest
from engines.pipeline import load_pipeline


@pytest.fixture(scope="module", params=["stable_diffusion", "stable_diffusion_xl"])
def pipeline(request, family_directory):
    return load_pipeline(family_directory(request.param), backend="torch", threads=1)


def test_a_word_put_in_by_its_own_embedding_is_that_word(pipeline):
    """Also beside a sentence with another word in the same batch, and after other pads and ends (SDXL has two encoders)."""
    red, blue = (pipeline.wording.words(word, 1) for word in ("red", "blue"))
    rows = tuple(torch.cat(both) for both in zip(red, blue, strict=True))
    with torch.no_grad():
        found = pipeline.wording.encode([("a", 0, "circle"), ("a", 1, "circle")], rows)
    for at, caption in enumerate(["a red circle", "a blue circle"]):
        wanted = pipeline.told([caption])
        assert found.tensors.keys() == wanted.tensors.keys()
        for name, value in wanted.tensors.items():
            torch.testing.assert_close(found.tensors[name][at : at + 1], value, atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_words_and_nothing_stays_behind(pipeline):
    before = [state_digest(table) for table in pipeline.wording.tables]
    rows = tuple(row.requires_grad_() for row in pipeline.wording.words("red", 2))
    told = pipeline.wording.encode([("a", 0, "circle", 1)], rows)
    gradients = torch.autograd.grad(sum(value.sin().sum() for value in told.tensors.values() if value.requires_grad), rows)
    assert all((gradient.abs().sum(1) > 0).all() for gradient in gradients)
    assert [state_digest(table) for table in pipeline.wording.tables] == before
    assert not any(table._forward_hooks for table in pipeline.wording.tables)


def test_other_threads_read_the_words_that_are_there(pipeline):
    """While one thread has words of its own put in, another encodes the same tokens."""
    wording, found = pipeline.wording, []
    wanted = wording.encode([("a", "circle")], wording.words("red", 0))
    rows, barrier = tuple(row + 5 for row in wording.words("red", 1)), threading.Barrier(2)

    def other():
        barrier.wait()
        with torch.no_grad():
            found.append([wording.encode([("a", "circle")], wording.words("red", 0)) for _ in range(5)])

    thread = threading.Thread(target=other)
    thread.start()
    barrier.wait()
    for _ in range(5):
        wording.encode([(0, "circle")], rows)
    thread.join()
    for one in found[0]:
        torch.testing.assert_close(one.tensors["context"], wanted.tensors["context"])


def test_sentences_that_would_be_cut_are_refused(pipeline):
    with pytest.raises(CaptionTooLongError, match=r"caption 'a <0> photo.*has 14 tokens, the text encoder reads 12"):
        pipeline.wording.encode([("a", 0, *["photo"] * 10)], pipeline.wording.words("red", 1))


def test_pipelines_without_words_have_no_wording(family_directory):
    assert load_pipeline(family_directory("ddpm"), backend="torch", threads=1).wording is None
