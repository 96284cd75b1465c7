"""Editing with loaded pipelines of every family."""

import numpy as np
import pytest
import torch

from engines.conditioning import Conditioning
from engines.editing.editor import NamedTerm, latent_editor
from engines.editing.flow import FlowPath
from engines.editing.inversion import Inversion
from engines.editing.operators import operator_of
from engines.errors import CaptionTooLongError, FeedError, UnsupportedPipelineError
from engines.pipeline import load_pipeline
from tests.engines.pipelines import miniatures

SEEDS = [5, 2**63 + 1, 7]
SOURCES, TARGETS = ["a red circle", "a blue square", "a photo"], ["a green circle", "a green square", "a green photo"]


def load(directory, **options):
    return load_pipeline(directory, **{"backend": "torch", "batch": 4, **options})


def pictures(size, count=3):
    return np.random.default_rng(0).random((count, 3, size, size), np.float32)


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    """One of each family, and of each kind of scheduler that matters."""
    root = tmp_path_factory.mktemp("families")
    makes = {
        "stable_diffusion": miniatures.stable_diffusion,
        "stable_diffusion_2": miniatures.stable_diffusion_2,
        "xl": miniatures.stable_diffusion_xl,
        "lcm": miniatures.latent_consistency,
        "sd3": miniatures.stable_diffusion_3,
        "dit": miniatures.dit,
        "unconditional": miniatures.ddpm,
        "classes": lambda: miniatures.ddpm(num_class_embeds=4),
    }
    return {name: miniatures.save(make, root / name) for name, make in makes.items()}


@pytest.fixture(scope="module")
def pipeline(directories):
    return load(directories["stable_diffusion"])


def coded(pipeline, images):
    """What the autoencoder makes of them."""
    with torch.no_grad():
        made = pipeline.codec.decode(pipeline.codec.encode(torch.from_numpy(images) * 2 - 1))
    return (made / 2 + 0.5).clamp(0, 1).numpy()


@pytest.mark.parametrize(
    ("family", "name", "wanted", "source"),
    [
        ("stable_diffusion", "sde20", TARGETS, SOURCES),
        ("stable_diffusion", "ddpm_ef50", "green", None),
        ("stable_diffusion_2", "sde20", "green", "a photo"),
        ("xl", "sde20", "green", None),
        ("lcm", "turbo4", TARGETS, SOURCES),
        ("sd3", "flowedit", TARGETS, SOURCES),
        ("dit", "sde20", [1, 2, 3], [4, 5, 6]),
        ("dit", "sde20", 7, None),
        ("classes", "sde20", 1, [0, 2, 3]),
    ],
)
def test_every_family_is_edited_and_drawn_again(directories, family, name, wanted, source):
    """The null edit is what coding leaves of the images; the edit is another; the rows are those that were promised."""
    ours = load(directories[family])
    editor = latent_editor(ours, "auto" if name in {"turbo4", "flowedit"} else name)
    assert editor.name == name
    images = pictures(ours.image_shape[1])
    kept = editor.invert(images, SEEDS, source)
    again = editor.null(kept)
    np.testing.assert_allclose(again, coded(ours, images), atol=2e-5)
    terms = [NamedTerm(wanted=wanted, threshold=0.5)]
    spent = ours.evaluations
    edited = editor.edit(kept, terms)
    assert edited.rows == ours.evaluations - spent == 3 * editor.rows_per_edit(terms)
    assert (edited.images.dtype, edited.images.shape) == (np.float32, images.shape)
    assert 0 <= edited.images.min() <= edited.images.max() <= 1
    assert np.abs(edited.images - again).max() > 1e-4
    assert edited.masks.shape == (3, 1, *images.shape[2:])
    assert 0 <= edited.masks.min() <= edited.masks.max() <= 1
    assert 0.3 < edited.masks.mean() < 0.7


def test_an_edit_does_not_depend_on_its_batch(directories):
    """Nor an inversion."""
    one, all_at_once = (latent_editor(load(directories["stable_diffusion"], batch=batch), "sde20") for batch in (1, 16))
    images, terms = pictures(16), [NamedTerm(wanted=TARGETS, scale=2.0, threshold=0.0, user_mask=np.ones((3, 16, 16)))]
    kept, other = (editor.invert(images, SEEDS, SOURCES) for editor in (one, all_at_once))
    torch.testing.assert_close(kept.residuals, other.residuals, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(one.edit(kept, terms).images, all_at_once.edit(other, terms).images, atol=1e-4)


def test_twenty_steps_cost_less_than_forty_rows(pipeline):
    editor = latent_editor(pipeline, "sde20")
    assert editor.rows_per_edit([NamedTerm(wanted="green")]) == 39
    assert editor.rows_per_edit([NamedTerm(wanted="green"), NamedTerm(wanted="red", negative="blue")]) == 79
    assert editor.rows_per_edit([]) == 0


def test_four_steps_cost_five_rows(directories):
    """A consistency model is taken from its second timestep on."""
    editor = latent_editor(load(directories["lcm"]))
    assert editor.operator.grid.times == (759, 499, 259)
    assert editor.rows_per_edit([NamedTerm(wanted="green")]) == 5


def test_no_scale_is_the_null_edit(pipeline):
    editor = latent_editor(pipeline, "sde20")
    kept = editor.invert(pictures(16), SEEDS, SOURCES)
    np.testing.assert_array_equal(editor.edit(kept, [NamedTerm(wanted="green", scale=0.0)]).images, editor.null(kept))


def test_a_user_mask_has_the_size_of_images(pipeline):
    editor = latent_editor(pipeline, "sde20")
    kept = editor.invert(pictures(16), SEEDS)
    mask = np.zeros((16, 16), np.float32)
    mask[:, :8] = 1
    edited = editor.edit(kept, [NamedTerm(wanted="green", user_mask=mask, threshold=0.0)])
    np.testing.assert_array_equal(edited.masks[:, 0], np.broadcast_to(mask, (3, 16, 16)))
    with pytest.raises(ValueError, match="user mask"):
        editor.edit(kept, [NamedTerm(wanted="green", user_mask=np.ones((8, 8)))])


def test_conditioning_is_taken_as_it_is(pipeline):
    """Attribute vectors, or whatever the network reads."""
    editor = latent_editor(pipeline, "sde20")
    kept = editor.invert(pictures(16), SEEDS)
    named, given = (editor.edit(kept, [NamedTerm(wanted=wanted)]).images for wanted in ("green", pipeline.told(["green"])))
    np.testing.assert_array_equal(named, given)


def test_the_fingerprint_follows_everything_that_decides_pixels(pipeline, directories):
    made = [latent_editor(pipeline, "sde20"), latent_editor(pipeline, "sde20", skip=0.25), latent_editor(pipeline, "ddpm_ef50")]
    made += [latent_editor(load(directories[name]), "sde20") for name in ("xl", "stable_diffusion_2")]
    assert len({editor.fingerprint for editor in made}) == len(made)
    assert latent_editor(load(directories["stable_diffusion"], batch=2)).fingerprint == latent_editor(pipeline).fingerprint


def test_few_step_directories_are_edited_as_turboedit_does(directories, tmp_path):
    """One that recommends few steps without guidance; noised too little, the last residual limited."""
    import shutil

    copy = shutil.copytree(directories["stable_diffusion"], tmp_path / "turbo")
    (copy / "audit.json").write_text('{"steps": 3, "guidance": 1.0}')
    editor = latent_editor(load(copy))
    assert editor.name == "turbo4"
    assert (editor.operator.grid.times, editor.operator.max_norm) == ((799, 599, 399, 199), 15.5)
    assert editor.operator.noised_at[:3] == editor.operator.grid.alpha_bars[1:4]
    images = pictures(16)
    kept = editor.invert(images, SEEDS, SOURCES)
    np.testing.assert_allclose(editor.null(kept), coded(editor.pipeline, images), atol=2e-5)


def test_what_a_family_cannot_do_is_said(directories, pipeline):
    """Before anything is drawn, with what to do instead."""
    for family, name, why in (
        ("unconditional", "auto", "cannot be told what to change"),
        ("sd3", "sde20", "is a flow; use flowedit"),
        ("stable_diffusion", "flowedit", "is no flow; use sde20"),
        ("stable_diffusion", "turbo4", "not distilled"),
    ):
        with pytest.raises(UnsupportedPipelineError, match=why):
            operator_of(load(directories[family]), name)
    classes = latent_editor(load(directories["classes"]), "sde20")
    with pytest.raises(UnsupportedPipelineError, match="name their source"):
        classes.invert(pictures(8), SEEDS)
    with pytest.raises(ValueError, match="is unknown"):
        operator_of(pipeline, "sde21")
    with pytest.raises(UnsupportedPipelineError, match="do not fit"):
        operator_of(pipeline, "sde20", skip=60.0)


def test_what_does_not_fit_is_refused(pipeline, directories):
    editor, limit = latent_editor(pipeline, "sde20"), "a photo of a large red circle on the green background"
    kept = editor.invert(pictures(16), SEEDS)
    with pytest.raises(CaptionTooLongError):
        editor.invert(pictures(16), SEEDS, limit)
    with pytest.raises(CaptionTooLongError):
        editor.edit(kept, [NamedTerm(wanted=limit)])
    with pytest.raises(ValueError, match="one seed for each"):
        editor.invert(pictures(16), SEEDS[:2])
    with pytest.raises(ValueError, match="need images"):
        editor.invert(pictures(8), SEEDS)
    with pytest.raises(ValueError, match="need one source"):
        editor.invert(pictures(16), SEEDS, SOURCES[:2])
    with pytest.raises(ValueError, match="one for each of 3 images"):
        editor.edit(kept, [NamedTerm(wanted=TARGETS[:2])])
    with pytest.raises(ValueError, match="another operator"):
        latent_editor(pipeline, "ddpm_ef50").edit(kept, [])
    flow = latent_editor(load(directories["sd3"]))
    path = flow.invert(pictures(16), SEEDS)
    assert isinstance(kept, Inversion)
    assert isinstance(path, FlowPath)
    with pytest.raises(ValueError, match="another operator"):
        editor.edit(path, [])
    with pytest.raises(ValueError, match="another operator"):
        flow.edit(kept, [])
    with pytest.raises(FeedError, match="has the inputs context"):
        editor.edit(kept, [NamedTerm(wanted=Conditioning.of(words=torch.zeros(1, 3)))])
