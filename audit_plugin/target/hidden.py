"""Hidden features of a deployed classifier: its file, once it proves to be what the server runs, with more outputs beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.errors import TargetError
from audit_plugin.core.protocols import Images, Scores
from audit_plugin.target.contract import Contract
from audit_plugin.target.preprocess import to_input
from audit_plugin.target.triton import TritonClassifier

if TYPE_CHECKING:  # ends in ONNX Runtime
    from engines.serving.config import Platform
    from engines.serving.hidden_model import HiddenModel

SUFFIX = "_hidden"
"""Of the name of the audit model, after the classifier's."""
IMAGES = 32
"""On which the file is compared with the server, and with what is written."""


def export_hidden(
    target: TritonClassifier,
    images: Images,
    file: Path,
    repository: Path,
    names: Sequence[str],
    *,
    platform: "Platform" = "python",
    batch: int = 16,
    maps: bool = False,
) -> "HiddenModel":
    """Write ``<model>_hidden`` into a model repository: the classifier with the tensors ``names`` of its ONNX file as further outputs, reduced over
    space and, where ``maps`` are asked for, as they are.

    Raises GradientError, with its numbers, for a file of another model, TargetError for one with other inputs or outputs, and the
    errors of :func:`engines.serving.hidden_model.export_hidden`; nothing is written then.
    """
    from audit_plugin.target.gradients.agreement import Bound, agreement
    from audit_plugin.target.guidance import GradientOptions
    from engines.serving.hidden_model import export_hidden as write

    contract, bound = target.contract, GradientOptions()
    sent = to_input(images, contract.preprocess)
    found = agreement(_scores(file, sent, contract), target.predict(images))
    Bound(top1=bound.top1, worst=bound.worst).check(found, "file")
    return write(
        file,
        repository,
        names,
        name=target.info.model + SUFFIX,
        images=sent,
        size=contract.preprocess.size,
        labels=target.info.labels if contract.merging is None else contract.merging.labels,
        platform=platform,
        batches=(batch,),
        maps=maps,
    )


def _scores(file: Path, sent: NDArray[np.generic], contract: Contract) -> Scores:
    """What the file says of images as the server takes them, read as the server's answer is."""
    from engines.serving.hidden_reading import answers, image_input, read_graph, serialised, shape_of

    model = read_graph(file)
    source, outputs = image_input(model.graph, file), [each.name for each in model.graph.output]
    if source.name != contract.input.name or contract.output.name not in outputs:
        raise TargetError(
            f"{file} takes {source.name!r} and answers {outputs}, model {contract.info.model!r} takes {contract.input.name!r} and answers "
            f"{contract.output.name!r}; give the file that the server runs"
        )
    step = 1 if shape_of(source)[0] == 1 else len(sent)
    plain = serialised(model, file)
    parts = [answers(plain, sent[at : at + step], file)[contract.output.name] for at in range(0, len(sent), step)]
    return contract.scores(np.concatenate(parts), len(sent))
