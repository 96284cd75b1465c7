from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engines.errors import UnsupportedPipelineError
from engines.pipeline import load_pipeline
from engines.pipelines.replicas import replicas

CAPTIONS = ["a red circle", "a blue square on the green background", "a photo"]


@pytest.mark.parametrize("backend", ["torch", "torch-prepared", "ort"])
def test_threads_draw_what_one_draws(pipeline_directory, graphs, backend):
    """Each replica counts for itself; pictures are those of the original, whoever else draws at the time."""
    pipeline = load_pipeline(pipeline_directory, backend=backend, steps=3, guidance=3.0, batch=4, threads=1, cache=graphs)
    alone = pipeline.generate(CAPTIONS * 4, range(12))
    several = replicas(pipeline, 3)
    with ThreadPoolExecutor(3) as pool:
        parts = pool.map(lambda at: several[at].generate(CAPTIONS * 2, range(3 * at, 3 * at + 6)), range(3))
    for at, part in enumerate(parts):
        np.testing.assert_allclose(part, alone[3 * at : 3 * at + 6], atol=2e-5)
    assert [each.evaluations for each in several] == [6 * pipeline.evaluations_per_image] * 3


def test_a_gpu_has_workers_instead(pipeline_directory):
    from dataclasses import replace

    import torch

    pipeline = load_pipeline(pipeline_directory, backend="torch")
    with pytest.raises(UnsupportedPipelineError, match="pipeline_workers"):
        replicas(replace(pipeline, device=torch.device("cuda")), 2)
