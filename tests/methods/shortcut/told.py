"""Results of the protocol, as other tests need them."""

from dataclasses import replace

import numpy as np

from audit_plugin.core.shortcut_results import ShortcutPicture
from audit_plugin.methods.shortcut import ShortcutOptions, ShortcutRow, shortcut_report


def judged(effect, *, images=40, pictures=()):
    """A model whose score falls by ``effect`` where the ruler goes, judged on so many images."""
    rng = np.random.default_rng(0)
    rows = [
        ShortcutRow(
            image=f"i{at}",
            has_concept=True,
            before=0.6,
            after=0.6 - effect + float(rng.normal(0, 0.01)),
            floor=0.6,
            irrelevant=0.6,
            flipped_by_guide=True,
            flipped_by_oracle=True,
            leaked=at == 0,
        )
        for at in range(images)
    ]
    found = shortcut_report(rows, concept="ruler", irrelevant="lighting", options=ShortcutOptions(resamples=100))
    return replace(found, level="present", pictures=tuple(pictures))


def picture(before, after, floor, **changes):
    """One flip by the digests of its pictures."""
    base = ShortcutPicture(
        image="i7", percentile=50, had=True, before_sha256=before, after_sha256=after, floor_sha256=floor, before=0.61, after=0.32, floor=0.59
    )  # fmt: skip
    return replace(base, **changes)
