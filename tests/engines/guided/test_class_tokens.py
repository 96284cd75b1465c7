"""Words are learned, and nothing but the words."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.errors import UnsupportedPipelineError
from engines.guided.class_tokens import learn_class, learn_look, show
from engines.guided.token_options import PAPER, TokenOptions
from engines.networks import state_digest
from engines.pipeline import load_pipeline

QUICK = TokenOptions(iterations=16, batch=4, micro=4, lr=0.1, media=("photo",), save_every=3)


IMAGES = np.random.default_rng(0).random((6, 3, 16, 16), np.float32)


@pytest.fixture(scope="module")
def pipeline(pipeline_directory):
    return load_pipeline(pipeline_directory, backend="torch", threads=1)


@pytest.fixture(scope="module")
def shown(pipeline):
    return show(pipeline, lambda: np.split(IMAGES, 3), len(IMAGES), "six")


def weights(pipeline):
    return [state_digest(table) for table in pipeline.wording.tables], state_digest(pipeline.codec.encoder)


def _fixed(pipeline, shown, rows):
    """The error on draws that nothing was learned from."""
    generator = torch.Generator().manual_seed(5)
    t = torch.randint(0, 1000, (64,), generator=generator)
    noise = torch.randn(64, 4, 8, 8, generator=generator)
    x = pipeline.diffusion.noised(shown.spread.mean[torch.arange(64) % shown.count], t, noise)
    with torch.no_grad():
        told = pipeline.wording.encode([QUICK.about_all("photo")], rows).expand(64)
        return float((pipeline.diffusion.eps(x, t, told) - noise).square().mean())


def test_learning_lowers_the_loss_and_changes_the_new_words_alone(pipeline, shown):
    before, start = weights(pipeline), pipeline.wording.words("photo", 3)
    look = learn_look(pipeline, shown, options=QUICK)
    kept = [row.clone() for row in look.rows]
    found = learn_class(pipeline, shown.some([0, 1]), look.rows, "red", options=QUICK)
    assert _fixed(pipeline, shown, look.rows) < _fixed(pipeline, shown, start)
    assert all((one != other).any() for one, other in zip(look.rows, start, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(look.rows, kept, strict=True))
    assert [row.shape for row in found.rows] == [(3, 32)]
    assert not torch.equal(found.rows[0], pipeline.wording.words("red", 3)[0])
    assert weights(pipeline) == before


def test_an_interrupted_course_goes_on_to_the_same_end(pipeline, shown, tmp_path):
    def stop(done, _total):
        if done == 5:
            raise KeyboardInterrupt

    short, file = replace(QUICK, iterations=7), tmp_path / "deep" / "look.safetensors"
    whole = learn_look(pipeline, shown, options=short)
    with pytest.raises(KeyboardInterrupt):
        learn_look(pipeline, shown, options=short, file=file, on_iteration=stop)
    done = []
    found = learn_look(pipeline, shown, options=short, file=file, on_iteration=lambda at, total: done.append((at, total)))
    assert done[0] == (4, 7)  # after the last saved state
    assert torch.equal(found.rows[0], whole.rows[0])
    assert found.losses == whole.losses
    done.clear()
    unread = replace(shown, read=lambda: pytest.fail("pictures are read although everything was learned"))
    again = learn_look(pipeline, unread, options=short, file=file, on_iteration=lambda at, total: done.append((at, total)))
    assert torch.equal(again.rows[0], whole.rows[0])
    assert done == []


def test_words_of_other_pictures_or_damaged_ones_are_not_taken(pipeline, shown, tmp_path, caplog):
    short, file = replace(QUICK, iterations=2), tmp_path / "look.safetensors"
    first = learn_look(pipeline, shown, options=short, file=file)
    other = learn_look(pipeline, shown.some([0, 1]), options=short, file=file)
    assert not torch.equal(first.rows[0], other.rows[0])
    assert "other pictures" in caplog.text
    file.write_bytes(file.read_bytes()[:100])
    again = learn_look(pipeline, shown, options=short, file=file)
    assert torch.equal(first.rows[0], again.rows[0])


def test_a_batch_in_parts_teaches_the_same(pipeline, shown):
    one, parts = (learn_look(pipeline, shown, options=replace(QUICK, iterations=2, micro=micro)) for micro in (4, 3))
    torch.testing.assert_close(one.rows[0], parts.rows[0], atol=1e-4, rtol=0)
    assert one.losses == pytest.approx(parts.losses, rel=1e-4)


def test_latents_are_spread_as_the_autoencoder_says(pipeline, shown):
    torch.testing.assert_close(shown.spread.mean, pipeline.codec.encode(2 * torch.from_numpy(IMAGES) - 1), atol=1e-5, rtol=1e-5)
    assert (shown.spread.std > 0).all()


def test_the_papers_settings():
    assert (PAPER.iterations, PAPER.batch, PAPER.lr, PAPER.betas, PAPER.eps, PAPER.decay, PAPER.tokens) == (
        3000, 64, 1e-4, (0.9, 0.999), 1e-9, 1e-4, 3,
    )  # fmt: skip
    assert PAPER.about_class("photo") == ("a", 0, 1, 2, "photo with a", 3, 4, 5)


@pytest.mark.parametrize("sentence", ["a {class} photo", "a {look} {class} {class}", "a {look} {class} {thing}"])
def test_sentences_have_a_place_for_every_word(sentence):
    assert TokenOptions(tokens=2, sentence="a {class} on {look} {medium}").about_class("view") == ("a", 2, 3, "on", 0, 1, "view")
    with pytest.raises(ValueError, match=r"holds \{look\} and \{class\} once each"):
        TokenOptions(sentence=sentence)


def test_nothing_is_learned_without_words_or_pictures(pipeline, shown, tmp_path):
    from tests.engines.pipelines import miniatures

    deaf = load_pipeline(miniatures.save(miniatures.ddpm, tmp_path), backend="torch", threads=1)
    with pytest.raises(
        UnsupportedPipelineError, match=r"ddpm pipeline takes none; use a text-to-image directory, or another method"
    ):
        learn_look(deaf, shown, options=QUICK)
    with pytest.raises(ValueError, match="at least one picture"):
        learn_look(pipeline, shown.some([]), options=QUICK)
    with pytest.raises(ValueError, match="at least 1"):
        TokenOptions(tokens=0)
