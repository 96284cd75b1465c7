"""A table with images that no audit has seen, and the command line."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from audit_plugin.cli.app import app


@pytest.fixture
def run():
    """A command; what it raises on purpose is in its exit code."""

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


@pytest.fixture
def config() -> Path:
    """A configuration that is right, of an installation that is not there."""
    return Path(__file__).parents[1] / "broken_configs" / "base.yaml"


@pytest.fixture
def leaves(tmp_path) -> Path:
    """A table with a split, a label and two attributes."""
    lines = ["file,split,sick,site,weather cond.,photographer"]
    lines += [
        f"{at}.png,{'test' if at % 4 == 0 else 'train'},{'ny'[at % 2]},{['RS', 'GH'][at % 2]},{at % 3},p{at}" for at in range(24)
    ]
    (tmp_path / "data").mkdir()
    table = tmp_path / "data" / "table.csv"
    table.write_text("\n".join(lines) + "\n")
    return table
