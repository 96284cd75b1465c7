"""``init``: a table, a folder of images and a server become a configuration that can be checked and run."""

import pytest
import yaml

from audit_plugin.config import load
from tests.end_to_end.site import NOWHERE


def test_it_passes_the_check(run, leaves, tmp_path):
    """Without a server: paths are relative to the file, wherever it is written, and what is unknown is said."""
    (tmp_path / "etc").mkdir()
    out = tmp_path / "etc" / "audit.yaml"
    (tmp_path / "photos.zip").touch()
    answer = run("init", "--table", leaves, "--images", tmp_path / "photos.zip", "--model", "m", "--url", NOWHERE, "--out", out)
    assert answer.exit_code == 0, answer.stderr
    assert "labels and layout are not filled in" in answer.stderr
    assert run("config", "check", out).exit_code == 0
    loaded = load(out, {})
    assert loaded.config.source.table == str(out.parent / "../data/table.csv")
    assert yaml.safe_load(out.read_text())["source"]["images"] == "../photos.zip"
    assert loaded.document.concept_set.names == ("sick", "site", "weather_cond")
    assert loaded.config.source.where == {"split": "test"}
    assert loaded.config.detector.train is not None
    assert loaded.config.detector.train.where == {"split": "train"}


def test_the_table_is_read_as_configured(run, leaves, tmp_path):
    """Columns with odd names are found again under their concepts."""
    out = tmp_path / "audit.yaml"
    run("init", "--table", leaves, "--images", tmp_path, "--model", "m", "--url", NOWHERE, "--out", out)
    columns = {column.concept.name: column.column for column in load(out, {}).document.columns}
    assert columns["weather_cond"] == "weather cond."


def test_images_that_are_not_there_are_said_at_once(run, leaves, tmp_path):
    """Nothing is written that the first run would refuse."""
    answer = run(
        "init", "--table", leaves, "--images", tmp_path / "photoz", "--model", "m", "--url", NOWHERE, "--out", tmp_path / "a.yaml"
    )
    assert answer.exit_code == 2
    assert "photoz' is not there" in answer.stderr
    assert not (tmp_path / "a.yaml").exists()


@pytest.mark.triton
def test_the_server_is_asked(run, tmp_path, triton_server):
    """Class names come from the server, and the column that holds them is the label."""
    table = tmp_path / "t.csv"
    table.write_text("image,size,paint\n" + "".join(f"{at}.png,{at % 2},{('red', 'green')[at % 2]}\n" for at in range(8)))
    arguments = ("--images", tmp_path, "--model", "pixels", "--url", triton_server.grpc_url, "--out", tmp_path / "a.yaml")
    answer = run("init", "--table", table, *arguments)
    assert answer.exit_code == 0, answer.stderr
    (model,) = load(tmp_path / "a.yaml", {}).models
    assert (model.label, model.target.labels) == ("paint", ("red", "green", "blue", "grey"))
    assert model.target.preprocess.layout == "NHWC"
    assert "labels and layout are not filled in" not in answer.stderr


@pytest.mark.parametrize(
    "text",
    [
        'file,label,x\n1,a,"ö ""q"" {z}"\n2,b,A_b\n3,b,a b\n',
        "file,label,rest\n1,a,1.5\n2,b,2.5\n",
        "file,label,ünï cödé\n1,😀,yes\n2,null,no\n",
        "file,label,empty\n1,a,\n2,b,x\n",
    ],
)
def test_odd_tables(run, tmp_path, text):
    """Whatever stands in the cells, the file is a configuration that is accepted."""
    (tmp_path / "t.csv").write_text(text)
    out = tmp_path / "audit.yaml"
    run("init", "--table", tmp_path / "t.csv", "--images", tmp_path, "--model", "m", "--url", NOWHERE, "--out", out)
    answer = run("config", "check", out)
    assert answer.exit_code == 0, answer.stderr + out.read_text()


def test_a_file_that_is_there_is_kept(run, leaves, tmp_path):
    out = tmp_path / "audit.yaml"
    out.write_text("mine")
    answer = run("init", "--table", leaves, "--images", tmp_path, "--model", "m", "--url", NOWHERE, "--out", out)
    assert (answer.exit_code, out.read_text()) == (2, "mine")
    assert "is there already; give another --out" in answer.stderr


@pytest.mark.parametrize(
    ("text", "url", "message"),
    [
        ("file,id\n1,1\n2,2\n", NOWHERE, "no column with 2 to 6 different cells"),
        ("", NOWHERE, "needs a header and one line per image"),
        ("file,label\n1,a\n2,b\n", "http://triton:8000", "`url` must be the gRPC endpoint as host:port"),
    ],
)
def test_what_cannot_be_started_from(run, tmp_path, text, url, message):
    """The configuration is not written, and the reason is one line."""
    (tmp_path / "t.csv").write_text(text)
    out = tmp_path / "audit.yaml"
    answer = run("init", "--table", tmp_path / "t.csv", "--images", tmp_path, "--model", "m", "--url", url, "--out", out)
    assert answer.exit_code == 2
    assert message in answer.stderr
    assert not out.exists()
