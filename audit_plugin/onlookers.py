"""Who looks at drawn pictures beside the audited model, as a discovery is configured: who describes them, compares them with words, finds objects."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from audit_plugin.bank.pictures import PictureFolder
from audit_plugin.concepts.picture_captions import Captioner
from audit_plugin.config import DiscoverConfig, Loaded
from audit_plugin.perception.features import chosen_output
from audit_plugin.perception.image_text_models import ImageTextModel, open_image_text
from audit_plugin.perception.segmenters import Segmenter, SegmenterOptions, file_segmenter
from audit_plugin.target.features import ServedRows
from audit_plugin.target.wire import Wire


def captioner_of(loaded: Loaded, pictures: PictureFolder) -> Captioner | None:
    """Who describes pictures; what is said is kept beside the bank.  None where nobody is asked."""
    asked = (loaded.config.discover or DiscoverConfig()).captioner
    if asked is None:
        return None
    return Captioner(options=asked, file=Path(loaded.config.bank.path) / "captions.jsonl", load=pictures.pixels)


def image_text_of(loaded: Loaded) -> Callable[[], ImageTextModel] | None:
    """Opens the image-text model that edits are judged by, where there is one."""
    judge = None if loaded.config.diffex is None else loaded.config.diffex.judge
    return None if judge is None else partial(open_image_text, judge.path)


def segmenter_of(options: SegmenterOptions | None, wire: Wire, side: Callable[[], int]) -> Segmenter | None:
    """Who finds objects, once tried on a grey picture of the generator's ``side``.  Raises DetectorError, TargetError."""
    if options is None:
        return None
    if options.file:
        found = file_segmenter(options)
    else:
        served = ServedRows(wire, options.model)
        output = chosen_output(options.network, list(served.outputs), options.model)
        found = Segmenter(name=f"{options.model}:{output}", options=options, run=served.of(output))
    tried(found, side())
    return found


def tried(segmenter: Segmenter, side: int) -> str:
    """What it finds, in words, once it was asked about a grey picture.  Raises DetectorError where it does not fit."""
    words = list(segmenter.options.channels)
    segmenter.probabilities(np.full((1, 3, side, side), 0.5, np.float32), words)
    return f"finds {', '.join(words)}"
