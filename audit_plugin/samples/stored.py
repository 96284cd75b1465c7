"""The samples that a result itself names; of concepts, nodes and words these are chosen ones."""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Final

from audit_plugin.core.results import AuditResult
from audit_plugin.samples.sample import Kind, Sample, Samples

MOST_EXEMPLARS: Final = 20_000
"""Edits that are shown of a result whose tree has more."""
_CHOSEN: Final = {
    Kind.CONCEPT: "Of the concepts only the pairs that the result names are shown: some drawn by seed, some with the largest change.",
    Kind.NODE: "Of the tree only the edits that the result names are shown: those at the 10th, 50th and 90th percentile of the effect.",
    Kind.SHORTCUT: "Of the suspected concepts the flips at set percentiles of the change are shown; the result names no others.",
    Kind.WORD: "Of each word the pairs with the largest change are shown; the result names no others.",
}
"""What is left out, of experiments whose result names a choice."""


def stored_samples(result: AuditResult) -> Samples:
    """What can be shown without bank and table of edits."""
    edits = islice(exemplars(result), MOST_EXEMPLARS)
    items = (*pairs(result), *edits, *flips(result), *shortcuts(result), *words(result))
    return Samples(items=items, partial=partial(items))


def partial(items: Sequence[Sample], whole: Sequence[Kind] = ()) -> tuple[str, ...]:
    """What is told of the kinds of which these are a choice; ``whole`` are those of which they are all."""
    there = {one.kind for one in items}
    return tuple(said for kind, said in _CHOSEN.items() if kind in there and kind not in whole)


def pairs(result: AuditResult) -> Iterator[Sample]:
    """Concepts' pairs, row by row; a pair that was chosen twice is one."""
    seen = set()
    for pair in sorted(result.pairs, key=lambda pair: (pair.row, pair.concept)):
        key = (pair.row, pair.concept, pair.level_to)
        if key in seen:
            continue
        seen.add(key)
        yield Sample(
            kind=Kind.CONCEPT,
            image=pair.row,
            subject=pair.concept,
            change=f"{pair.level_from} → {pair.level_to}",
            before_sha256=pair.before_sha256,
            after_sha256=pair.after_sha256,
            of=result.classes[1] if len(result.classes) == 2 else "",
            before=pair.score_before,
            after=pair.score_after,
            decision_before=pair.decision_before,
            decision_after=pair.decision_after,
            flipped=pair.decision_before != pair.decision_after,
        )


def exemplars(result: AuditResult, wanted: Collection[tuple[str, str]] | None = None) -> Iterator[Sample]:
    """Edits of the tree, of all nodes or of those (class, node) that are wanted; what was said of each is in the table of edits alone."""
    classes = None if wanted is None else {name for name, _ in wanted}
    for told in result.diffex.classes if result.diffex else ():
        for node in told.nodes if classes is None or told.class_name in classes else ():
            if wanted is not None and (told.class_name, node.node) not in wanted:
                continue
            for one in node.exemplars:
                yield Sample(
                    kind=Kind.NODE,
                    image=one.image,
                    subject=node.node,
                    change="removed" if one.removed else "added",
                    before_sha256=one.before_sha256,
                    after_sha256=one.after_sha256,
                    of=told.class_name,
                )


def flips(result: AuditResult) -> Iterator[Sample]:
    """Counterfactuals: all of them, those that did not flip too."""
    for one in result.counterfactuals.items if result.counterfactuals else ():
        yield Sample(
            kind=Kind.COUNTERFACTUAL,
            image=one.image,
            subject=one.target,
            change=f"{one.original} → {one.target}, {one.changed:.0%} of the pixels changed",
            before_sha256=one.before_sha256,
            after_sha256=one.after_sha256,
            of=one.target,
            before=one.before,
            after=one.after,
            decision_before=one.original,
            decision_after=one.target if one.flipped else "",
            flipped=one.flipped,
            why_not=() if one.flipped else (f"not flipped in {one.attempts} tries; the best try is shown",),
        )


def shortcuts(result: AuditResult) -> Iterator[Sample]:
    """Flips of suspected concepts."""
    for told in result.shortcuts:
        for one in sorted(told.pictures, key=lambda one: one.image):
            level = told.level or told.concept
            yield Sample(
                kind=Kind.SHORTCUT,
                image=one.image,
                subject=told.concept,
                change=f"{level} {'removed' if one.had else 'added'}",
                before_sha256=one.before_sha256,
                after_sha256=one.after_sha256,
                of="positive",
                before=one.before,
                after=one.after,
            )


def words(result: AuditResult) -> Iterator[Sample]:
    """Pairs of prompts without and with a word."""
    for subject in result.discovery.subjects if result.discovery else ():
        for word in subject.words:
            for one in word.examples:
                yield Sample(
                    kind=Kind.WORD,
                    image=one.without_prompt,
                    subject=word.word,
                    change=f"“{word.word}” said: {one.with_prompt}",
                    before_sha256=one.without_sha256,
                    after_sha256=one.with_sha256,
                    of=subject.name,
                    before=one.before,
                    after=one.after,
                )
