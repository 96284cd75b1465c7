"""What classes respond to, as the report shows it: prompts and their pictures, words with what saying them does, and what came of each cue."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from audit_plugin.core.discovery_results import (
    DiscoveredSubject,
    Discovery,
    FoundPrompt,
    FoundWord,
    Mode,
    PromptPicture,
    WordPair,
    WordPart,
)
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import AuditResult
from audit_plugin.findings.discovery import OBJECT_ABSENT, absent_metric
from audit_plugin.report.discovery_chain import Link, chain
from audit_plugin.report.pictures import Album, data_uri
from audit_plugin.report.words import number, p_value, thousands

PICTURES: Final = (12, 6, 6)
"""Shown of the best prompt, and of the next, which are folded away."""
PAIRS: Final = 8
"""Words whose first pair is shown at once; all other pairs lie in the bank."""
PICTURED: Final = 12
"""Subjects shown with pictures, those with cues first."""
OPEN: Final = 3
"""Subjects whose part is open at once."""
WIDTH, HEIGHT = 120, 14
"""Of the drawing of an effect, in its own units."""
MODES: Final = {
    Mode.GRADIENT: "by the gradient of the model's own file, with every number asked again of the server",
    Mode.SCORES: "by the server's scores alone",
    Mode.LABELS: "by the server's labels alone",
}
"""How prompts were searched for, in words."""
PARTS: Final = {
    WordPart.CORE: ("●", "core", "good"),
    WordPart.SPURIOUS: ("▲", "spurious", "alert"),
    WordPart.MIXED: ("◐", "partly core", "open"),
    WordPart.UNKNOWN: ("□", "unknown", "soft"),
}
"""Mark, word and style of whether a word belongs to the class."""
BLENDS: Final = frozenset({"CMA-ES", "NES"})
"""How prompts between words are found."""
DECIDERS: Final = {
    "segmentation": "by where the object is (segmentation)",
    "occlusion": "by hiding the object and hiding the rest",
    "masks": "by given masks",
    "tree": "by the concept tree",
    "person": "by a person",
}
"""What decided, in words."""


LIFTED: Final = {"prompts": "prompts", "generator": "the generator's own words", "captions": "captions"}
"""Who says a word of a picture, in words."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """An activation score of a prompt; per cent of full width."""

    text: str
    how: str
    estimate: Estimate
    low: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Dot:
    """An effect with its interval, in the drawing's own units."""

    low: float
    value: float
    high: float
    zero: float


@dataclass(frozen=True, kw_only=True)
class WordRow:
    """A word that acts."""

    word: FoundWord
    dot: Dot
    said: str
    """How much oftener it is said of the class's pictures, and how much closer it is to them; empty where nobody told."""


@dataclass(frozen=True, kw_only=True)
class ShownPair:
    """One seed without the word and with it; None where a picture is not available."""

    word: FoundWord
    pair: WordPair
    without: str | None
    with_word: str | None


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A prompt's pictures."""

    prompt: FoundPrompt
    pictures: tuple[tuple[PromptPicture, str | None], ...]


@dataclass(frozen=True, kw_only=True)
class SubjectView:
    """One class, or one unit."""

    subject: DiscoveredSubject
    open: bool
    bars: tuple[Bar, ...]
    grids: tuple[Grid, ...]
    """Best prompt first."""
    rows: tuple[WordRow, ...]
    said: str
    """What lifts and margins of the rows mean, in sentences; empty where there are none."""
    idle: tuple[FoundWord, ...]
    """Tested, and nothing came of them."""
    pairs: tuple[ShownPair, ...]
    links: tuple[Link, ...]
    absent_found: bool
    """Whether it is a finding that the object is not there."""
    pictured: bool

    @property
    def blended(self) -> bool:
        """Whether a prompt is none that text says."""
        return any(one.how in BLENDS for one in self.subject.prompts)


@dataclass(frozen=True, kw_only=True)
class DiscoveryView:
    """All that one model responds to."""

    result: Discovery
    said: str
    """How it was found, in a sentence."""
    subjects: tuple[SubjectView, ...]


def discoveries(results: Sequence[AuditResult], album: Album) -> tuple[DiscoveryView | None, ...]:
    """Per model what it responds to; None where nobody looked."""
    return tuple(_view(result, album) for result in results)


def how_found(told: Discovery) -> str:
    """Mode, generator, size of the bank and what it cost, in a sentence."""
    differentiated = f", {thousands(told.gradient_rows)} of them differentiated" if told.gradient_rows else ""
    return (
        f"Prompts were searched for {MODES[told.mode]}, over {thousands(told.words)} words in {thousands(told.contexts)} contexts, and drawn by the "
        f"generator {told.generator}: {thousands(told.queries)} pictures were shown to the server, and the denoising network evaluated "
        f"{thousands(told.network_rows)} rows{differentiated}"
    )


def scored(subject: DiscoveredSubject, value: float) -> str:
    """What the model says, as a probability or in standard deviations of a unit."""
    return number(value, 2) if subject.kind == "class" else f"{number(value, 1)} sd"


def _view(result: AuditResult, album: Album) -> DiscoveryView | None:
    told = result.discovery
    if told is None:
        return None
    ordered = sorted(told.subjects, key=lambda one: not any(word.causes for word in one.words))
    views = (_subject(result, one, album, at) for at, one in enumerate(ordered))
    return DiscoveryView(result=told, said=how_found(told), subjects=tuple(views))


def _subject(result: AuditResult, subject: DiscoveredSubject, album: Album, at: int) -> SubjectView:
    acting, pictured = [word for word in subject.words if word.causes], at < PICTURED
    limits = [0.2, *(word.effect.high for word in acting)]
    lowest = min([0.0, *(word.effect.low for word in acting)])
    drawn = [one for one in subject.prompts if one.pictures] if pictured else []
    shown = [(word, word.examples[0]) for word in acting if word.examples][:PAIRS] if pictured else []
    return SubjectView(
        subject=subject,
        open=at < OPEN,
        bars=(_bar("base", subject.base_prompt, subject.base), *(_prompt(one) for one in subject.prompts)),
        grids=tuple(
            Grid(prompt=one, pictures=tuple((picture, _uri(album, picture.sha256)) for picture in one.pictures[:most]))
            for one, most in zip(drawn, PICTURES, strict=False)
        ),
        rows=tuple(WordRow(word=word, dot=_dot(word.effect, lowest, max(limits)), said=_said(word)) for word in acting),
        said=_meaning(acting),
        idle=tuple(word for word in subject.words if not word.causes),
        pairs=tuple(
            ShownPair(word=word, pair=pair, without=_uri(album, pair.without_sha256), with_word=_uri(album, pair.with_sha256))
            for word, pair in shown
        ),
        links=chain(result, subject),
        absent_found=any(one.kind == OBJECT_ABSENT and one.metric == absent_metric(subject) for one in result.findings),
        pictured=pictured,
    )


def _said(word: FoundWord) -> str:
    lift = f"lift {word.lift:+.2f}" if word.lift is not None else ""
    by = f" in {LIFTED[word.lift_by]}" if lift and word.lift_by in LIFTED else ""
    q = f", q {p_value(word.lift_q)}" if lift and word.lift_q is not None else ""
    margin = f"margin {word.margin:+.3f}" if word.margin is not None else ""
    return "; ".join(part for part in (f"{lift}{by}{q}", margin) if part)


def _meaning(words: Sequence[FoundWord]) -> str:
    told = []
    if any(word.lift is not None for word in words):
        told.append(
            "Lift: ln of how much oftener a word is said of drawn pictures that are taken for the class than of others; it describes, and proves nothing."
        )
    if any(word.lift is not None and word.lift_by == "prompts" for word in words):
        told.append("In prompts means that the prompt says it: whether the picture shows it was not looked at.")
    if any(word.margin is not None for word in words):
        told.append(
            "Margin: mean cosine of word and pictures by the image-text model, pictures taken for the class less plain ones under the same seeds."
        )
    return " ".join(told)


def _uri(album: Album, sha256: str) -> str | None:
    pixels = album.pixels(sha256)
    return None if pixels is None else data_uri(pixels)


def _prompt(prompt: FoundPrompt) -> Bar:
    return _bar(prompt.how, prompt.text, prompt.activation)


def _bar(how: str, text: str, estimate: Estimate) -> Bar:
    low, high = (100 * max(0.0, min(1.0, limit)) for limit in (estimate.low, estimate.high))
    return Bar(text=text, how=how, estimate=estimate, low=round(low, 2), width=round(max(high - low, 0.6), 2))


def _dot(effect: Estimate, lowest: float, highest: float) -> Dot:
    """Places on a scale that all words of the subject share and that holds zero."""
    margin = 5.0
    low, value, high, zero = (
        round(margin + (WIDTH - 2 * margin) * (max(lowest, min(highest, x)) - lowest) / (highest - lowest), 1)
        for x in (effect.low, effect.value, effect.high, 0.0)
    )
    return Dot(low=low, value=value, high=high, zero=zero)
