"""``audit-plugin engines export-hidden`` on an installation with a real server."""

import json

import pytest

from tests.end_to_end.site import ASSETS, make_site

pytestmark = pytest.mark.triton
MODEL = "shape_background_100"
FILE = ASSETS / "planted" / f"{MODEL}.onnx"


def test_hidden_units_are_listed_and_written_beside_the_classifier(planted, tmp_path):
    """The listing asks no server; what is wrong is one line."""
    site = make_site(tmp_path / "site", 8)
    asked = ("engines", "export-hidden", "--model", MODEL, "--file", str(FILE))
    listed = site.run(*asked, "--list", "-o", "json")
    assert listed.code == 0, listed.err
    assert [(row["tensor"], row["channels"]) for row in json.loads(listed.out)][3:5] == [("relu_3", 64), ("view", 1024)]
    site.change(server={"url": planted.grpc_url})
    repository = tmp_path / "models"
    answer = site.run(*asked, "--outputs", "relu_3,view", "--repo", str(repository))
    assert answer.code == 0, answer.err
    assert f"{MODEL}_hidden" in answer.out
    assert "on 11 images" in answer.err
    assert (repository / f"{MODEL}_hidden" / "1" / "model.onnx").stat().st_size > FILE.stat().st_size
    answer = site.run(*asked, "--outputs", "rellu_3", "--repo", str(repository))
    assert (answer.code, "no intermediate tensor 'rellu_3'; nearest are 'relu_3'" in answer.err) == (3, True)
    answer = site.run(*asked)
    assert (answer.code, "give --repo and --outputs, or --list" in answer.err) == (2, True)
    other = ("engines", "export-hidden", "--model", MODEL, "--file", str(ASSETS / "planted" / "colour_alone.onnx"))
    answer = site.run(*other, "--outputs", "view", "--repo", str(tmp_path / "none"))
    assert (answer.code, "the file is not the deployed model" in answer.err) == (3, True)
    assert not (tmp_path / "none").exists()
