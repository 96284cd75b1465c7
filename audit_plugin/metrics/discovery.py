"""Samples of what classes respond to: words that act, how often prompts are taken for the class, and whether its object is there.

Of classes alone; units are in the report.
"""

from collections.abc import Iterator

from audit_plugin.core.discovery_results import DiscoveredSubject, Discovery, FoundWord, WordPart
from audit_plugin.core.results import AuditResult, Finding
from audit_plugin.findings.discovery import CUE, OBJECT_ABSENT, absent_metric, cue_metric, is_cue, kind_of
from audit_plugin.metrics.sample import Sample

WORDS_PER_CLASS = 20
CLASSES = 50

Rank = tuple[bool, bool, float, str]
"""Breach first, then what may alert, then the largest lower limit; the name decides ties."""
Found = dict[tuple[str, str, str], Finding]


def discovery_samples(result: AuditResult) -> Iterator[Sample]:
    """What holds of the whole search."""
    told = result.discovery
    if told is None:
        return
    audit = (result.model, result.version, result.label)
    yield Sample("discovery_domain_fit", audit, told.fit.fits)
    yield Sample("discovery_queries", audit, told.queries)
    yield Sample("discovery_network_rows", audit, told.network_rows)
    acting = [word.part for subject in _classes(told) for word in subject.words if word.causes]
    for part in WordPart:
        yield Sample("discovered_words", (*audit, part.value), acting.count(part))


def discovery_bundles(result: AuditResult) -> Iterator[tuple[Rank, tuple[Sample, ...]]]:
    """The series of one class together, and those of one of its words: exported together or not at all."""
    told = result.discovery
    if told is None:
        return
    found = {(one.kind, one.concept, one.metric): one for one in result.findings if one.kind in {CUE, OBJECT_ABSENT}}
    accused = {one.metric for one in found.values()}
    in_breach_first = sorted(_classes(told), key=lambda one: not {cue_metric(one), absent_metric(one)} & accused)
    for subject in in_breach_first[:CLASSES]:
        absent = found.get((OBJECT_ABSENT, subject.name, absent_metric(subject)))
        low = 0.0 if subject.object_absent is None else subject.object_absent.low
        yield (absent is None, False, -low, subject.name), tuple(_class(result, subject, absent))
        for word in _exported(subject, found):
            finding = found.get((CUE, word.word, cue_metric(subject)))
            alerts = is_cue(kind_of(result, subject, word), word)
            rank = (finding is None, not alerts, -word.effect.low, f"{subject.name} {word.word}")
            yield rank, tuple(_word(result, subject, word, finding))


def _classes(told: Discovery) -> list[DiscoveredSubject]:
    return [subject for subject in told.subjects if subject.kind == "class"]


def _exported(subject: DiscoveredSubject, found: Found) -> list[FoundWord]:
    """Words that act, those in breach first, then by how sure and large their effect is."""
    acting = (word for word in subject.words if word.causes)
    metric = cue_metric(subject)
    return sorted(acting, key=lambda word: ((CUE, word.word, metric) not in found, -word.effect.low, word.word))[:WORDS_PER_CLASS]


def _class(result: AuditResult, subject: DiscoveredSubject, absent: Finding | None) -> Iterator[Sample]:
    labels = (result.model, result.version, result.label, subject.name)
    if subject.object_absent is not None:
        yield Sample("class_object_absent_ratio", labels, subject.object_absent.value)
        yield Sample("class_object_absent_low_ratio", labels, subject.object_absent.low)
        yield Sample("class_object_absent_breach", labels, absent is not None)
    best = subject.prompts[0].activation if subject.prompts else None
    for prompt, activation in (("base", subject.base), ("cue", best)):
        if activation is not None:
            yield Sample("activation_score_ratio", (*labels, prompt), activation.value)
            yield Sample("activation_score_low_ratio", (*labels, prompt), activation.low)
    if subject.stability is not None:
        yield Sample("discovery_stability_ratio", labels, subject.stability)


def _word(result: AuditResult, subject: DiscoveredSubject, word: FoundWord, finding: Finding | None) -> Iterator[Sample]:
    labels = (result.model, result.version, result.label, subject.name, word.word, word.part.value)
    yield Sample("cue_uplift_ratio", labels, word.effect.value)
    yield Sample("cue_uplift_low_ratio", labels, word.effect.low)
    yield Sample("discovered_cue_breach", labels, finding is not None)
