"""FlowEdit: nothing changes by itself, the published step, and its costs."""

from itertools import pairwise

import pytest
import torch

from engines.editing.edit import EditTerm
from engines.editing.flow import FlowPath, flow_edit, flow_rows_per_edit, trace
from engines.noise import step_noise
from tests.engines.editing.toys import SEEDS, SHAPE, Network, images, words

LEVELS = tuple(torch.linspace(0.8, 0, 9).tolist())
NULL = words(0)


def traced(dtype=torch.float64, source=None, **options):
    network = Network()
    return network, trace(network, images(dtype), SEEDS, LEVELS, source or words(1), null=NULL, **options)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_null_edit_is_the_image(dtype):
    """Without terms, and with the source as the target under the same guidance, bit for bit."""
    network, path = traced(dtype)
    assert torch.equal(flow_edit(network, path, ()).latents, images(dtype))
    same = EditTerm(conditioning=words(1), scale=3.5, threshold=0.0)
    assert torch.equal(flow_edit(network, path, [same], null=NULL).latents, images(dtype))
    nothing = EditTerm(conditioning=words(2), scale=0.0)
    assert torch.equal(flow_edit(network, path, [nothing], null=NULL).latents, images(dtype))


def test_a_plain_term_is_the_published_step():
    """Z += (s' - s) (v(Z + z_s - x; target, w_t) - v(z_s; source, w_s)), all written out."""
    network, path = traced()

    def guided(x, s, told, scale):
        at = x.new_full([3], s)
        base = network(x, at, NULL.expand(3))
        return base + scale * (network(x, at, told.expand(3)) - base)

    z = images()
    for k, (s, s_next) in enumerate(pairwise(LEVELS)):
        noised = (1 - s) * images() + s * step_noise(SEEDS, k, SHAPE).double()
        z = z + (s_next - s) * (guided(z + noised - images(), s, words(2), 13.5) - guided(noised, s, words(1), 3.5))
    found = flow_edit(network, path, [EditTerm(conditioning=words(2), scale=13.5, threshold=0.0)], null=NULL)
    torch.testing.assert_close(found.latents, z, atol=1e-10, rtol=0)
    assert torch.equal(found.masks[0], torch.ones(3, 8, 8, dtype=torch.float64))


def test_general_terms_agree_with_the_plain_one():
    """A user mask of ones takes the long way round, through the source's velocity at the edit's state."""
    network, path = traced()
    plain = flow_edit(network, path, [EditTerm(conditioning=words(2), scale=6.0, threshold=0.0)], null=NULL)
    general = EditTerm(conditioning=words(2), scale=6.0, threshold=0.0, user_mask=torch.ones(1, 8, 8))
    torch.testing.assert_close(flow_edit(network, path, [general], null=NULL).latents, plain.latents, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    "terms",
    [
        [],
        [EditTerm(conditioning=words(2), scale=6.0, threshold=0.0)],
        [EditTerm(conditioning=words(2), scale=1.0, threshold=0.0)],
        [EditTerm(conditioning=words(2)), EditTerm(conditioning=words(3), sign=-1, warm_up=2, cool_down=5)],
        [EditTerm(conditioning=words(2), threshold=0.5, cool_down=3)],
    ],
)
@pytest.mark.parametrize("guidance", [1.0, 3.5])
def test_rows_are_those_that_were_promised(terms, guidance):
    network, path = traced(guidance=guidance)
    assert network.rows == 3 * 8 * (1 if guidance == 1 else 2)
    spent = network.rows
    found = flow_edit(network, path, terms, null=NULL)
    assert found.rows == network.rows - spent == 3 * flow_rows_per_edit(terms, 8, guidance)


def test_the_published_edit_costs_two_rows_a_step():
    assert flow_rows_per_edit([EditTerm(conditioning=words(2), scale=13.5, threshold=0.0)], 33) == 66


def test_masks_and_batches():
    """A masked step changes as much as it says, and images do not know one another."""
    network, path = traced(source=words(1, 2, 3))
    term = EditTerm(conditioning=words(4), scale=6.0, threshold=0.75, warm_up=7)
    found = flow_edit(network, path, [term], null=NULL)
    changed = ((found.latents - images()).abs().amax(1) > 0).double()
    torch.testing.assert_close(changed, found.masks[0])
    assert float(changed.mean()) <= 0.25 + 1 / 64
    for row in range(3):
        alone = flow_edit(network, path[row : row + 1], [term], null=NULL)
        torch.testing.assert_close(alone.latents, found.latents[row : row + 1], atol=1e-12, rtol=0)
    assert torch.equal(FlowPath.cat([path[:1], path[1:]]).velocities, path.velocities)


def test_what_does_not_fit_is_refused():
    network, path = traced()
    for levels in ((0.5,), (0.5, 0.7, 0.0), (1.2, 0.0), (0.8, 0.1)):
        with pytest.raises(ValueError, match="levels go down"):
            trace(network, images(), SEEDS, levels, words(1), null=NULL)
    with pytest.raises(ValueError, match="null condition"):
        trace(network, images(), SEEDS, LEVELS, words(1))
    with pytest.raises(ValueError, match="one seed"):
        trace(network, images(), [1], LEVELS, words(1), null=NULL)
    with pytest.raises(ValueError, match="no negative"):
        flow_edit(network, path, [EditTerm(conditioning=words(2), negative=words(3))], null=NULL)
    with pytest.raises(ValueError, match="null condition"):
        flow_edit(network, path, [EditTerm(conditioning=words(2))])
    with pytest.raises(ValueError, match="different levels"):
        FlowPath.cat([path, traced(guidance=2.0)[1]])
