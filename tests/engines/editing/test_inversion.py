"""Inversion draws its images again exactly, by any rule and however the network is called; and survives a disk."""

import pytest
import torch

from engines.conditioning import Conditioning
from engines.editing.edit import EditTerm, edit, null
from engines.editing.grid import consistency_times, grid_at, skipping_times, turbo_times
from engines.editing.inversion import Inversion, invert
from engines.editing.predictor import Predictor
from engines.editing.steps import Consistency, EditFriendlyDdpm, SdeDpmSolver
from engines.editing.storage import InversionFileError, load_inversion, save_inversion
from tests.engines.editing.toys import LEVELS, SEEDS, images, predictor, words

RULES = [EditFriendlyDdpm(), SdeDpmSolver(), Consistency()]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def inverted(rule=RULES[1], steps=10, dtype=torch.float64, source=None, **options):
    which = predictor(**options)
    times = consistency_times(steps) if isinstance(rule, Consistency) else skipping_times(steps, 0.15)
    told = words(1) if source is None else source
    return which, invert(which, images(dtype), SEEDS, rule, grid_at(times, LEVELS), source=told)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("steps", [4, 10, 50])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_null_edit_is_exact(rule, steps, dtype, prediction):
    """In its own precision, asking the network for nothing."""
    which, inversion = inverted(rule, steps, dtype, prediction=prediction)
    spent = which.network.rows
    assert spent == 3 * steps
    again = null(which, inversion)
    assert again.dtype == dtype
    assert float((again - images(dtype)).abs().max()) <= TOLERANCE[dtype]
    assert which.network.rows == spent


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("steps", [4, 20])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("source", [0, 4])
def test_a_term_that_says_what_the_source_says_changes_nothing(rule, steps, dtype, source):
    """Through the network at every step, image by image: what one batch inverted another draws again.

    A consistency function jumps all the way, so that in single precision each jump from t = 999 enlarges a rounding error of this untrained
    network; null edits do not ask it.
    """
    rough = isinstance(rule, Consistency) and dtype == torch.float32
    which, inversion = inverted(rule, steps, dtype, words(source, source + 1, source + 2))
    for row in range(3):
        one = inversion[row : row + 1]
        edited = edit(which, one, [EditTerm(conditioning=one.source, scale=3.0, threshold=0.0)])
        assert edited.rows == 2 * steps - 1
        assert float((edited.latents - images(dtype)[row : row + 1]).abs().max()) <= (1e-3 if rough else TOLERANCE[dtype])


def test_rounded_paths_do_not_drift():
    """In half precision fifty steps are as exact as four."""
    for steps in (4, 50):
        which, inversion = inverted(RULES[0], steps, torch.bfloat16)
        assert float((null(which, inversion) - images(torch.bfloat16)).abs().max()) <= 0.1


def test_clipped_estimates_are_exact_as_well():
    which, inversion = inverted(clip=0.5)
    assert float((null(which, inversion) - images()).abs().max()) <= 1e-10


def test_terminal_noise_is_exact():
    """A cosine schedule's last level holds nothing of the data; a velocity needs no division by it."""
    from engines.precondition import noise_levels

    levels = noise_levels({"beta_schedule": "squaredcos_cap_v2"})
    for rule in RULES:
        which = predictor("v_prediction")
        inversion = invert(which, images(torch.float32), SEEDS, rule, grid_at([999, 759, 499, 259], levels), source=words(1))
        assert float((null(which, inversion) - images(torch.float32)).abs().max()) <= 1e-5


def test_noise_belongs_to_seed_and_step_alone():
    """Images alone or in another order, and whatever the source: the same states; no step shares another's draw."""
    _, together = inverted(source=words(1, 2, 3))
    _, other = inverted(source=words(4, 5, 6), seed=3)
    assert torch.equal(together.start, other.start)
    which = predictor()
    alone = invert(which, images()[2:], SEEDS[2:], RULES[1], together.grid, source=words(3))
    torch.testing.assert_close(alone.residuals, together.residuals[2:], atol=1e-12, rtol=0)
    drawn = [together.start - together.grid.alpha_bars[0] ** 0.5 * images()]
    x = together.start
    which, before = predictor(), None
    for k, t in enumerate(together.grid.times[:-1]):
        now = which.estimate(x, which.output(x, t, together.source), together.grid.alpha_bars[k])
        x, before = together.rule.mean(together.grid, k, x, now, before) + together.residuals[:, k], now.clean
        drawn.append(x - together.grid.alpha_bars[k + 1] ** 0.5 * images())
    noise = torch.stack([each / (1 - a) ** 0.5 for each, a in zip(drawn, together.grid.alpha_bars, strict=False)]).flatten(1)
    assert float((torch.corrcoef(noise) - torch.eye(len(noise))).abs().max()) < 0.15
    assert abs(float(noise.std()) - 1) < 0.05


def test_turbo_noise_statistics_and_norm():
    """States are noised as if a step earlier; the last residual is cut to its norm, and the miss is what was cut off."""
    grid, which = grid_at(turbo_times(4), LEVELS), predictor()
    earlier = grid_at([599, 399, 199, 0], LEVELS).alpha_bars[:-1]
    plain = invert(which, images(), SEEDS, RULES[0], grid, source=words(1))
    shifted = invert(which, images(), SEEDS, RULES[0], grid, source=words(1), noised_at=earlier)
    noise = (plain.start - grid.alpha_bars[0] ** 0.5 * images()) / (1 - grid.alpha_bars[0]) ** 0.5
    torch.testing.assert_close(shifted.start, earlier[0] ** 0.5 * images() + (1 - earlier[0]) ** 0.5 * noise)
    assert float((null(which, shifted) - images()).abs().max()) <= 1e-10
    norms = shifted.residuals[:, -1].flatten(1).norm(dim=1)
    most = float(norms.sort().values[1])
    cut = invert(which, images(), SEEDS, RULES[0], grid, source=words(1), noised_at=earlier, max_norm=most)
    found = cut.residuals[:, -1].flatten(1).norm(dim=1)
    torch.testing.assert_close(found, norms.clamp(max=most))
    missed = (null(which, cut) - images()).flatten(1).norm(dim=1)
    torch.testing.assert_close(missed, norms - found, atol=1e-9, rtol=0)


def test_rows_are_images():
    """Parts and wholes."""
    which, inversion = inverted(source=words(1, 2, 3))
    joined = Inversion.cat([inversion[:1], inversion[1:]])
    assert joined.seeds == SEEDS
    assert torch.equal(null(which, joined), null(which, inversion))
    with pytest.raises(ValueError, match="different grids"):
        Inversion.cat([inversion, inverted(steps=4)[1]])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_stored_inversion_is_the_same(tmp_path, dtype):
    which, inversion = inverted(RULES[2], 4, dtype, words(1, 2, 3))
    save_inversion(tmp_path / "deep/one.safetensors", inversion)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["one.safetensors"]
    again = load_inversion(tmp_path / "deep/one.safetensors")
    assert (again.grid, again.rule, again.seeds) == (inversion.grid, inversion.rule, inversion.seeds)
    term = EditTerm(conditioning=words(9))
    assert torch.equal(edit(which, again, [term]).latents, edit(which, inversion, [term]).latents)


def test_an_unconditional_source_is_stored(tmp_path):
    inversion = invert(
        Predictor(lambda x, *_: x / 2, "epsilon"), images(), SEEDS, RULES[0], grid_at([500, 1], LEVELS), source=Conditioning(rows=3)
    )
    save_inversion(tmp_path / "one", inversion)
    assert len(load_inversion(tmp_path / "one").source) == 3


@pytest.mark.parametrize("harm", ["cut", "flipped", "other", "gone", "text"])
def test_damaged_files_are_refused(tmp_path, harm):
    from safetensors.torch import save_file

    path = tmp_path / "one.safetensors"
    save_inversion(path, inverted()[1])
    content = bytearray(path.read_bytes())
    if harm == "cut":
        path.write_bytes(content[:-100])
    elif harm == "flipped":
        content[-100] ^= 1
        path.write_bytes(content)
    elif harm == "other":
        save_file({"x": torch.zeros(1)}, path, metadata={"format": "pt"})
    elif harm == "gone":
        path.unlink()
    else:
        path.write_text("nothing of the kind")
    with pytest.raises(InversionFileError, match="invert the images again"):
        load_inversion(path)


def test_files_that_cannot_be_written_are_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InversionFileError, match="cannot be written"):
        save_inversion(tmp_path / "file/one", inverted()[1])


def test_what_does_not_fit_is_refused():
    which, grid = predictor(), grid_at([500, 1], LEVELS)
    with pytest.raises(ValueError, match="one seed per image"):
        invert(which, images(), [1], RULES[0], grid, source=words(1))
    with pytest.raises(ValueError, match="each of 2 steps"):
        invert(which, images(), SEEDS, RULES[0], grid, source=words(1), noised_at=[0.5])
    with pytest.raises(ValueError, match="only one row"):
        invert(which, images(), SEEDS, RULES[0], grid, source=words(1, 2))
