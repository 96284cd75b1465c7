"""What a planted model responds to, with pictures to look at."""

import dataclasses

from audit_plugin.core.discovery_results import (
    DiscoveredSubject,
    Discovery,
    FoundPrompt,
    FoundWord,
    PromptPicture,
    ProposedNode,
    WordPair,
    WordPart,
)
from audit_plugin.core.tree import NodeKind
from tests.findings.found import around, discovery, idle, word
from tests.report import factory

PLAIN = {"lighting": "bright", "background": "plain", "size": "large", "colour": "blue", "shape": "circle", "tone": "a"}


def picture(gallery: factory.Gallery, seed: int, *, marked: bool) -> str:
    return gallery.add({**PLAIN, "watermark": "present" if marked else "absent"}, seed)


def pairs(gallery: factory.Gallery, name: str) -> tuple[WordPair, ...]:
    """Two seeds without the word and with it."""
    return tuple(
        WordPair(
            without_sha256=picture(gallery, seed, marked=False), with_sha256=picture(gallery, seed, marked=True),
            without_prompt="a scene", with_prompt=f"a scene with a {name}", before=0.12, after=0.91,
        )
        for seed in (1, 2)
    )  # fmt: skip


def prompts(gallery: factory.Gallery) -> tuple[FoundPrompt, ...]:
    shown = tuple(
        PromptPicture(sha256=picture(gallery, seed, marked=True), seed=seed, score=0.95 - seed / 40, taken=seed < 12)
        for seed in range(14)
    )
    return (
        FoundPrompt(text="a scene with a watermark on stripes", how="composition", activation=around(0.86, 0.06), pictures=shown),
        FoundPrompt(text="a ruler, white, label", how="soft prompt", activation=around(0.71, 0.09), pictures=shown[3:]),
    )


def words(gallery: factory.Gallery) -> tuple[FoundWord, ...]:
    """Four that act and three that do not."""
    return (
        word("watermark", 0.51, node="marks/watermark", known=True, source="tree", examples=pairs(gallery, "watermark")),
        word("square", 0.35, node="object/shape", known=True, kind=NodeKind.CORE, part=WordPart.CORE, part_by="tree",
             inside=around(0.8), examples=pairs(gallery, "square")),
        word("ruler", 0.22, node="marks/ruler", known=True, part_by="occlusion"),
        word("sticker", 0.05, node="marks/sticker", part=WordPart.UNKNOWN, part_by="", inside=None, source="prompt"),
        word("paper", 0.04, node="", kind=None, part=WordPart.MIXED, inside=around(0.4)),
        idle("sofa"), idle("fog"), idle("cat"),
    )  # fmt: skip


def subject(gallery: factory.Gallery, **changes: object) -> DiscoveredSubject:
    base = DiscoveredSubject(
        name="marked", base_prompt="a scene", base=around(0.18, 0.05), prompts=prompts(gallery), words=words(gallery),
        object_absent=around(0.63), stability=0.78, queries=4200, notes=("two of the words are synonyms",),
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def found(gallery: factory.Gallery, **changes: object) -> Discovery:
    """One class, and one unit that speaks for it."""
    unit = subject(
        gallery, name="head.fc1[7]", kind="unit", classes=(("marked", 0.62),), object_absent=None, stability=None, notes=()
    )
    node = ProposedNode(
        path="marks/sticker",
        word="sticker",
        subject="marked",
        kind=NodeKind.ARTEFACT,
        accepted=False,
        evidence="effect +0.15 [+0.05, +0.25]",
    )
    empty = subject(gallery, name="plain", words=(idle("sofa"),), prompts=(), object_absent=around(0.1), notes=())
    return dataclasses.replace(discovery(empty, subject(gallery), unit), **{"proposed": (node,), **changes})
