"""Ten thousand scenes in a minute of two cores."""

import time

import numpy as np

from audit_plugin.sources.scenes import SceneLaw, draw_values, render_many


def test_a_scene_costs_less_than_twelve_milliseconds_of_one_core():
    """Processor time, since a shared machine's clock says little."""
    values = draw_values(300, SceneLaw(), np.random.default_rng(0))
    started = time.process_time()
    render_many(range(300), values)
    assert (time.process_time() - started) / 300 < 0.012
