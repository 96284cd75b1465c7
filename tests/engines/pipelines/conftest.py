"""One directory per family, shared by all tests: read only."""

import json
import shutil
from pathlib import Path

import pytest

from tests.engines.pipelines import exported, miniatures


@pytest.fixture(scope="session")
def family_directory(tmp_path_factory):
    """Directory of a miniature by the name of its maker; made when it is first asked for."""
    made = {}

    def get(name, **options):
        key = (name, repr(sorted(options.items())))
        if key not in made:
            folder = tmp_path_factory.mktemp(name)
            made[key] = (
                exported.save(folder) if name == "exported" else miniatures.save(getattr(miniatures, name), folder, **options)
            )
        return made[key]

    return get


@pytest.fixture
def pipeline_like(tmp_path):
    """A copy of a directory with another scheduler configuration, and another index where that is asked for."""
    count = iter(range(100))

    def copy(directory, *, index=None, **scheduler):
        made = Path(shutil.copytree(directory, tmp_path / f"like{next(count)}"))
        if "_class_name" in scheduler:
            index = {"scheduler": ["diffusers", scheduler["_class_name"]], **(index or {})}
        for path, changes in ((made / "scheduler/scheduler_config.json", scheduler), (made / "model_index.json", index)):
            if changes:
                path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        return made

    return copy
