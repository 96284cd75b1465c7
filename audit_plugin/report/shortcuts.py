"""Suspected shortcuts as the report shows them: the verdict in words, the controls beside the effect, pictures of flips."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from audit_plugin.core.results import AuditResult
from audit_plugin.core.shortcut_results import ShortcutPicture, ShortcutResult, ShortcutVerdict
from audit_plugin.report.pictures import Album, Triptych
from audit_plugin.report.words import interval

VERDICTS: Final = {
    ShortcutVerdict.SHORTCUT: ("▲", "a shortcut", "alert"),
    ShortcutVerdict.NONE: ("○", "no shortcut", "negligible"),
    ShortcutVerdict.INCONCLUSIVE: ("□", "inconclusive", "inconclusive"),
    ShortcutVerdict.INSUFFICIENT: ("–", "too few images", "not_assessable"),
}
"""Mark, words and style of a verdict."""


@dataclass(frozen=True, kw_only=True)
class ShownFlip:
    """One flip with its pictures: the image, the image flipped, their difference; and the image through the editor with no guide."""

    flip: ShortcutPicture
    pictures: Triptych
    floor: str | None


@dataclass(frozen=True, kw_only=True)
class ShortcutView:
    """One suspected concept of one model."""

    result: ShortcutResult
    figures: tuple[tuple[str, str], ...]
    """What was measured, and its value with the interval."""
    flips: tuple[ShownFlip, ...]


def shortcuts(results: Sequence[AuditResult], album: Album) -> tuple[tuple[ShortcutView, ...], ...]:
    """Per model its suspected concepts; empty where none was named."""
    return tuple(tuple(_view(one, album) for one in result.shortcuts) for result in results)


def _view(result: ShortcutResult, album: Album) -> ShortcutView:
    effects = result.effects
    known = (
        ("Mean change by the flip (MAD)", effects.mad),
        ("by the editor alone", effects.mad_floor),
        (f"by flipping {result.irrelevant}", effects.mad_irrelevant),
        ("MAD beyond the editor", effects.over_floor),
        (f"MAD beyond {result.irrelevant}", effects.over_irrelevant),
        ("Fall where it was there (MD, s = 1)", effects.md_with),
        ("Fall where it was not (MD, s = 0)", effects.md_without),
        ("MAD where it was there", effects.mad_with),
        ("MAD where it was not", effects.mad_without),
        ("Cosine of the scores before and after", effects.cosine),
        ("AUROC on the images", effects.auroc),
        ("AUROC on the flipped images", effects.auroc_flipped),
        ("Flips that the guide sees", result.flip_rate_guide),
        ("Flips that the independent detector sees", result.flip_rate_oracle),
        ("MAD over all images, as the released protocol has it", result.mad_as_released),
    )
    return ShortcutView(
        result=result,
        figures=tuple((what, interval(value)) for what, value in known if value is not None),
        flips=tuple(
            ShownFlip(
                flip=one,
                pictures=album.triptych(one.before_sha256, one.after_sha256),
                floor=album.triptych(one.floor_sha256, one.floor_sha256).before,
            )
            for one in result.pictures
        ),
    )
