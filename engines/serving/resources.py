"""The files of this package that are copied into model repositories."""

from importlib.resources import files

_HERE = "engines.serving.models"
LOOP = "audit_loop"


def python_model(name: str) -> str:
    """Source of a ``model.py``: ``graph``, ``sampler`` or ``counterfactual``."""
    return (files(_HERE) / f"{name}_model.py").read_text(encoding="utf-8")


def loop_files() -> dict[str, str]:
    """The package that lies beside the ``model.py`` of a loop, by path."""
    modules = (each for each in (files(_HERE) / LOOP).iterdir() if each.name.endswith(".py"))
    return {f"{LOOP}/{each.name}": each.read_text(encoding="utf-8") for each in modules}
