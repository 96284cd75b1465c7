"""The files of this package that are copied into model repositories."""

from importlib.resources import files

_HERE = "engines.serving.models"
LOOP = "audit_loop"


def python_model(name: str) -> str:
    """Source of a ``model.py``: ``graph``, ``sampler`` or ``counterfactual``."""
    return (files(_HERE) / f"{name}_model.py").read_text(encoding="utf-8")


def loop_files(*modules: str) -> dict[str, str]:
    """The package that lies beside the ``model.py`` of a loop, by path: these of its modules."""
    folder = files(_HERE) / LOOP
    return {f"{LOOP}/{each}.py": (folder / f"{each}.py").read_text(encoding="utf-8") for each in ("__init__", *modules)}
