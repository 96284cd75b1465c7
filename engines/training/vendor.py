"""Vendors' progress bars, log lines and warnings stay at the border."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet() -> Iterator[None]:
    """Within, diffusers and transformers draw no bars and say nothing below an error; settings are put back after."""
    import diffusers.utils.logging as diffusers_says
    import transformers.utils.logging as transformers_says

    speakers: tuple[Any, ...] = (diffusers_says, transformers_says)
    before = [(speaker, speaker.get_verbosity(), speaker.is_progress_bar_enabled()) for speaker in speakers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for speaker in speakers:
                speaker.set_verbosity(logging.ERROR)
                speaker.disable_progress_bar()
            yield
        finally:
            for speaker, level, bars in before:
                speaker.set_verbosity(level)
                (speaker.enable_progress_bar if bars else speaker.disable_progress_bar)()
