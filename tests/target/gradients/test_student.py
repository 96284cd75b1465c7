"""Students of a model that can only be asked: what they learn, and when they are refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from audit_plugin.core.errors import GradientError
from audit_plugin.target.gradients import StudentOptions, Surrogate, check_transfer, distil, examine

OPTIONS = StudentOptions(widths=(8, 16), epochs=12)


def pictures(n, seed):
    """Smooth random pictures."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((n, 3, 4, 4), np.float32))
    return torch.nn.functional.interpolate(coarse, (16, 16), mode="bilinear").numpy()


def deployed(images):
    """Redder at the top than at the bottom."""
    odds = 20 * (images[:, 0, :8].mean((1, 2)) - images[:, 0, 8:].mean((1, 2)))
    p = 1 / (1 + np.exp(-odds.astype(np.float64)))
    return np.stack([1 - p, p], 1)


@pytest.fixture(scope="module")
def taught():
    images = pictures(400, 0)
    return distil(images, deployed(images), drawn=np.arange(400) >= 300, options=OPTIONS, seed=3)


def test_students_stand_in_for_the_model(taught):
    """They agree on pictures they never saw, and their gradient moves the deployed score."""
    found = examine(taught, deployed, options=OPTIONS)
    check_transfer(found, OPTIONS)
    assert "of held-out images and" in str(found)
    leaf = torch.from_numpy(pictures(4, 2)).requires_grad_()
    (gradient,) = torch.autograd.grad(taught(leaf)[:, 1].sum(), leaf)
    top, bottom = gradient[:, 0, :8].mean(), gradient[:, 0, 8:].mean()
    assert top > 0 > bottom


def test_the_same_seed_teaches_the_same_students():
    images, x = pictures(60, 0), torch.from_numpy(pictures(3, 5))
    brief = StudentOptions(students=1, widths=(8,), epochs=1)
    one, again, other = (distil(images, deployed(images), options=brief, seed=seed)(x) for seed in (3, 3, 4))
    torch.testing.assert_close(one, again)
    assert not torch.allclose(one, other)


def test_students_of_another_model_are_refused(taught):
    """Gradients that point the wrong way are found out, with the numbers."""
    with pytest.raises(
        GradientError, match=r"does not stand in .*same class on .*raises the deployed score of .*without gradients"
    ):
        check_transfer(examine(taught, lambda images: deployed(images)[:, ::-1], options=OPTIONS), OPTIONS)


def test_real_and_drawn_pictures_are_judged_apart(taught):
    """Students that know all real pictures and no drawn one are refused, unless that is allowed; few real ones are judges, too."""
    lesson = taught.lesson()
    assert (len(lesson.held_out), int(lesson.drawn.sum())) == (60, 15)
    turned = replace(lesson, answers=np.where(lesson.drawn[:, None], lesson.answers[:, ::-1], lesson.answers))
    found = examine(Surrogate(taught.students, lambda: turned), deployed, options=OPTIONS)
    assert found.top1 >= 0.95
    assert found.top1_generated <= 0.1
    easy = replace(OPTIONS, rises=0.0, times_random=-100.0)
    with pytest.raises(GradientError, match=r"and \d+% of generated ones"):
        check_transfer(found, easy)
    check_transfer(found, replace(easy, top1_generated=0.0))
    images, brief = pictures(60, 0), StudentOptions(students=1, widths=(8,), epochs=1)
    few = distil(images, deployed(images), drawn=np.arange(60) >= 16, options=brief).lesson()
    assert int((~few.drawn).sum()) == 8


def test_too_few_pictures_are_refused():
    images = pictures(30, 0)
    with pytest.raises(GradientError, match="at least 54"):
        distil(images, deployed(images))


def test_progress_is_told():
    steps, images = [], pictures(60, 0)
    distil(
        images,
        deployed(images),
        options=StudentOptions(widths=(8,), epochs=2),
        on_step=lambda done, total: steps.append((done, total)),
    )
    assert steps[-1] == (4, 4)
    assert [done for done, _ in steps] == [1, 2, 3, 4]
