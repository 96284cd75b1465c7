"""Small discoveries, for the tests of findings, metrics and report."""

from dataclasses import replace

from audit_plugin.core.discovery_results import (
    DiscoveredSubject,
    Discovery,
    DomainFit,
    FoundPrompt,
    FoundWord,
    Mode,
    ProposedNode,
    WordPart,
)
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.tree import NodeKind


def around(value, half=0.1):
    """An estimate with a symmetric interval."""
    return Estimate(value=value, low=value - half, high=value + half)


def word(name="ruler", low=0.3, *, causes=None, **changes):
    """A word whose effect on 100 pairs has its lower limit at ``low``; it is known to the tree as an artefact."""
    causes = low > 0 if causes is None else causes
    base = FoundWord(
        word=name, source="vocabulary", node=f"scene/{name}", known=False, kind=NodeKind.ARTEFACT, score=1.2, with_word=around(0.2 + low + 0.1),
        without=around(0.2), effect=around(low + 0.1), shift=around(1.1), p=0.0001 if causes else 0.6, q=0.0004 if causes else 0.8,
        causes=causes, pairs=100, lift=0.7, lift_q=0.01, part=WordPart.SPURIOUS, inside=around(0.1), part_by="segmentation",
    )  # fmt: skip
    return replace(base, **changes)


def idle(name="sofa", **changes):
    """A word that was tested and does nothing."""
    return word(name, -0.1, node="", kind=None, part=WordPart.UNKNOWN, inside=None, part_by="", lift=None, lift_q=None, **changes)


def subject(*words, name="malignant", **changes):
    """A class of the model "ham" with its words."""
    base = DiscoveredSubject(
        name=name, base_prompt="a photo of a thing", base=around(0.2, 0.05),
        prompts=(FoundPrompt(text="a photo of a thing with a ruler", how="composition", activation=around(0.75)),),
        words=words, object_absent=around(0.4), stability=0.8, queries=900,
    )  # fmt: skip
    return replace(base, **changes)


def discovery(*subjects, **changes):
    """What the model "ham" responds to."""
    base = Discovery(
        model="ham", version="1", mode=Mode.SCORES, mode_said="the server gives scores, and no file of the model is known", generator="tiny/4",
        words=120, contexts=4, fit=DomainFit(fits=True, said="drawn pictures reach 2 of 2 classes", classes_reached=2, classes=2),
        subjects=subjects, proposed=(
            ProposedNode(path="scene/ruler", word="ruler", subject="malignant", kind=NodeKind.ARTEFACT, accepted=True, evidence="effect +0.40"),
        ),
        queries=1800, network_rows=7200, seconds=60.0, made_at="2026-11-28T12:00:00Z",
    )  # fmt: skip
    return replace(base, **changes)


UNFIT = DomainFit(
    fits=False, said="drawn pictures reach 1 of 2 classes, and the model tells them from real ones (AUROC 0.99)", classes=2
)
