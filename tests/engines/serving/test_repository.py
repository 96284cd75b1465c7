import stat

import pytest

from engines.errors import RepositoryError
from engines.serving.config import loop_config
from engines.serving.repository import WrittenModel, write_models


def model(name="audit_one", content="first"):
    config = loop_config(name, [], [], "cpu", instances=1, parameters={})
    return WrittenModel(name=name, config=config, files={"model.py": content, "package/part.py": b"part"})


def test_a_model_is_a_configuration_and_a_version(tmp_path):
    (written,) = write_models(tmp_path, [model()])
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["audit_one/1/model.py", "audit_one/1/package/part.py", "audit_one/config.pbtxt"]
    assert written == tmp_path / "audit_one"


def test_writing_again_replaces_everything(tmp_path):
    """Files of the former version do not stay."""
    (old,) = write_models(tmp_path, [model()])
    (old / "1" / "stale.onnx").write_bytes(b"")
    (new,) = write_models(tmp_path, [model(content="second")])
    assert (new / "1" / "model.py").read_text() == "second"
    assert not (new / "1" / "stale.onnx").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["audit_one"]


@pytest.mark.parametrize(
    "config", [None, 'name: "audit_two"\n', 'parameters: { key: "written_by", value: { string_value: "me" } }']
)
def test_models_of_others_are_left_alone(tmp_path, config):
    """Nothing is written then, the models that could be are not either."""
    (tmp_path / "audit_two").mkdir()
    if config is not None:
        (tmp_path / "audit_two" / "config.pbtxt").write_text(config)
    with pytest.raises(RepositoryError, match="audit_two was not written by audit-plugin"):
        write_models(tmp_path, [model(), model("audit_two")])
    assert [path.name for path in tmp_path.iterdir()] == ["audit_two"]


def test_a_failure_leaves_the_former_models(tmp_path):
    """The second model's weights are missing, so the first is not replaced."""
    write_models(tmp_path, [model()])
    broken = WrittenModel(name="audit_two", config="", files={"model.onnx": tmp_path / "absent"})
    with pytest.raises(RepositoryError, match="cannot write"):
        write_models(tmp_path, [model(content="second"), broken])
    assert (tmp_path / "audit_one" / "1" / "model.py").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["audit_one"]


def test_weights_are_not_copied_where_a_link_will_do(tmp_path):
    """They may be gigabytes; whoever serves them may read them."""
    weights = tmp_path / "cache" / "model.onnx"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    weights.chmod(0o600)
    written = WrittenModel(name="audit_one", config=model().config, files={"model.onnx": weights})
    (place,) = write_models(tmp_path / "repository", [written])
    served = place / "1" / "model.onnx"
    assert served.stat().st_ino == weights.stat().st_ino
    assert stat.S_IMODE(served.stat().st_mode) == 0o644
    assert stat.S_IMODE((place / "1").stat().st_mode) & 0o055 == 0o055
