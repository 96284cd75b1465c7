"""What ``doctor`` asks about counterfactuals: is every file that `explain` names there, and does it take the pictures it will be given?"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from audit_plugin.config import ExplainConfig, Loaded
from audit_plugin.core.errors import AuditError, ConfigError, GradientError
from audit_plugin.perception.features import FeatureOptions, file_features
from audit_plugin.perception.lpips import PerceptualOptions, open_perceptual
from audit_plugin.target.contract import Contract
from audit_plugin.target.one_class import contract_of
from audit_plugin.wiring import directory_digest, engine_errors, generator_directory

Works = Iterator[tuple[str, Callable[[], str]]]
"""What is checked, and who says how it went; raises AuditError."""
SIDE = 64
"""Of pictures that networks are tried on where the editor does not say its own."""
NETWORKS = ("features", "faces", "likeness")


def editor(loaded: Loaded, asked: ExplainConfig) -> str:
    """The directory that edits, in words."""
    directory = _directory(loaded, asked)
    with engine_errors():
        from engines.directory import picture_side

        return f"edits pictures of {picture_side(directory)} pixels, digest {directory_digest(directory)[:12]}"


def drawn_side(loaded: Loaded, asked: ExplainConfig) -> int:
    """Of the editor's pictures; of usual ones where it cannot be read."""
    try:
        with engine_errors():
            from engines.directory import picture_side

            return picture_side(_directory(loaded, asked))
    except AuditError:
        return SIDE


def networks(asked: ExplainConfig, side: int) -> Works:
    """Networks that compare pictures, whatever the model."""
    for name in NETWORKS:
        options: FeatureOptions | None = getattr(asked, name)
        if options is not None and options.file:
            yield name, partial(_features, options, side)
    if asked.perceptual is not None:
        yield "perceptual", partial(_perceptual, asked.perceptual, side)


def unknown_models(asked: ExplainConfig, models: tuple[str, ...]) -> Works:
    """Gradients of models that nobody audits."""
    for name in sorted(set(asked.gradients) - set(models)):
        yield "gradients", partial(_not_audited, name, models)


def classifiers(asked: ExplainConfig, model: str, contract: Contract | None, side: int) -> Works:
    """Files that stand for one audited model, or beside it; without a contract, as when the server is away, they are only looked for."""
    given = asked.gradients.get(model)
    if given is not None and given.of_class and contract is not None:
        yield "class", partial(_class, contract, given.of_class)
        contract = contract_of(contract, contract.info, given.of_class) if given.of_class in contract.info.labels else None
    if given is not None and given.file is not None:
        yield "gradients", partial(_classifier, given.file, contract, side, guides=True)
    if asked.robust:
        yield "robust", partial(_classifier, Path(asked.robust), contract, side, guides=True)
    if asked.witness is not None and asked.witness.file:
        yield "witness", partial(_classifier, Path(asked.witness.file), contract, side, guides=False)


def _directory(loaded: Loaded, asked: ExplainConfig) -> Path:
    return Path(asked.generator) if asked.generator else generator_directory(loaded)


def _features(options: FeatureOptions, side: int) -> str:
    (features,) = file_features(options).read(np.full((1, 3, side, side), 0.5, np.float32)).values()
    return f"{features.shape[1]} features a picture"


def _perceptual(options: PerceptualOptions, side: int) -> str:
    found = open_perceptual(options)
    grey = np.full((1, 3, side, side), 0.5, np.float32)
    return f"{found.name}, {float(found.between(grey, grey)[0]):.3g} between a picture and itself"


def _not_audited(name: str, models: tuple[str, ...]) -> str:
    raise ConfigError(f"explain.gradients: model {name!r} is not audited; audited are {', '.join(models)}")


def _class(contract: Contract, name: str) -> str:
    seen = contract_of(contract, contract.info, name)
    return f"{seen.info.labels[1]!r}, column {seen.column} of independent classes"


def _classifier(file: Path, contract: Contract | None, side: int, *, guides: bool) -> str:
    if not file.is_file():
        raise GradientError(
            f"there is no file {file}; give an ONNX, TorchScript or torch.export file, or correct the configuration"
        )
    if contract is None:
        return f"{file.name} is there; it is tried once the server says what the model takes"
    import torch

    from audit_plugin.target.gradients import read_network

    network, wanted = read_network(file, contract), len(contract.info.labels)
    picture = torch.full((1, 3, side, side), 0.5, requires_grad=guides)
    try:
        scores = network(picture)
        if guides:
            torch.autograd.grad(scores.sum(), picture)
    except RuntimeError as error:  # torch's, of sizes and of what has no derivative
        raise GradientError(f"{file} does not take the model's pictures: {str(error).strip().splitlines()[0]}") from error
    if scores.shape[1] != wanted:
        raise GradientError(f"{file} answers {scores.shape[1]} classes, the audited model {wanted}; give one of the same classes")
    return f"{file.name} answers {wanted} classes" + (", with a gradient" if guides else "")
