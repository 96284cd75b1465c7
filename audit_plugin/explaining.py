"""From a configuration to counterfactuals of one deployed model: how it is guided, who edits, what the server says of the results."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_plugin.bank.counterfactuals import Ask, CounterfactualStudio, Proposed
from audit_plugin.bank.drafts import EditSource
from audit_plugin.bank.edit_store import EditStore
from audit_plugin.config import ExplainConfig
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.protocols import Images, Progress, Scores
from audit_plugin.core.seeds import digest, seed
from audit_plugin.sources.images import square, to_float
from audit_plugin.target.guidance import GradientOptions
from audit_plugin.target.triton import TritonClassifier

Lend = Callable[[], AbstractContextManager[Any]]
"""A pipeline for one thread, for as long as the context lasts."""

SIGNALS = (0.3, 0.45, 0.63, 0.78, 0.9)
"""Starts that are tried, deepest first."""
KEPT_CLASS = 0.95
_TRIAL_IMAGES = 16
_COPIES = 8
"""Slightly changed copies by which a model that answers labels alone is asked how sure it is."""


@dataclass(frozen=True, kw_only=True)
class Explaining:
    """Everything that explaining one model version needs."""

    audit: str
    asked: ExplainConfig
    target: TritonClassifier
    lend: Lend
    """The editor, loaded when it is first lent."""
    fingerprint: str
    """Of the editor and its settings, known without loading it."""
    sources: Sequence[EditSource]
    size: int
    batch: int
    store: EditStore
    errors: Callable[[], AbstractContextManager[None]]
    """Maps what engines raise."""
    progress: Progress

    @cached_property
    def guide(self) -> Any:
        """How the model's gradient is had; compared with the server on the images first."""
        from audit_plugin.target.gradients import guide

        options = self.asked.gradients.get(self.target.info.model, GradientOptions())
        shown = self._pictures(self.sources[:64])
        return guide(
            options,
            self.target,
            shown,
            pool=self._pool,
            on_step=lambda done, total: self.progress(done, total, "students of the model"),
        )

    def shown(self) -> Images:
        """Images that stand-ins are compared with the server on."""
        return self._pictures(self.sources[:64])

    @cached_property
    def method(self) -> str:
        """As configured, or what the guide allows.  Raises ConfigError for a method that needs a gradient where there is none."""
        free = self.guide.judge is None
        if self.asked.method == "auto":
            return "ensemble" if free else "fastdime"
        if free and self.asked.method != "ensemble":
            raise ConfigError(
                f"explain.method: {self.asked.method} needs the gradient of {self.target.info.model}, and there is none "
                f"({'; '.join(self.guide.passed_over)}); give `explain.gradients`, or use method ensemble"
            )
        return self.asked.method

    @cached_property
    def studio(self) -> CounterfactualStudio:
        """The pictures of this model version by this method."""
        info, plan = self.target.info, replace(self.asked, images=1, targets={}, paths=0, gradients={}, generator="")
        return CounterfactualStudio(
            audit=self.audit,
            key=digest("explain", info.id, self.method, self.guide.rung.value, self.fingerprint, repr(plan)),
            sources=self.sources,
            size=self.size,
            store=self.store,
            proposes=lambda: self._propose,
            batch=self.batch,
            progress=self.progress,
        )

    def ask(self, images: Images, _rows: NDArray[np.int64]) -> Scores:
        """What searches are told: probabilities; of a model that answers labels alone, the share of slightly changed copies with each."""
        if not self.target.labels_only:
            return self.target.predict(images)
        copies = np.stack([_jittered(images, at) for at in range(_COPIES)])
        told: Scores = self.target.predict(copies.reshape(-1, *images.shape[1:])).reshape(_COPIES, len(images), -1).mean(0)
        return told

    def _propose(self, images: Images, seeds: Sequence[int], targets: Sequence[int], ask: Ask) -> Proposed:
        method, guide = self.method, self.guide
        judge = None if method == "ensemble" else guide.judge
        with self.errors(), self.lend() as pipeline:
            made: Proposed = self._proposer(pipeline).propose(
                method, images, seeds, targets, ask, judge=judge, free=self.asked.free
            )
            return made

    def _proposer(self, pipeline: Any) -> Any:
        from engines.guided.proposing import ProposalPlan, Proposer

        asked = self.asked
        plan = ProposalPlan(
            kept=asked.kept, scales=asked.scales, bisections=asked.bisections, particles=asked.particles, steps=asked.steps
        )
        proposer = Proposer(pipeline=pipeline, plan=plan)
        return Proposer(pipeline=pipeline, plan=replace(plan, signal=self._signal(proposer)))

    def _signal(self, proposer: Any) -> float:
        """The configured start, or the deepest after which the model still gives 95 % of images the class it gave before."""
        if self.asked.signal is not None:
            return self.asked.signal
        judge, key = "start of counterfactuals", digest(self.target.info.id, proposer.fingerprint, repr(self.asked.kept))
        known = self.store.readings(judge, [key])
        if key not in known:
            known = {key: {"signal": [self._deepest(proposer)]}}
            self.store.add_readings(judge, known)
        return float(known[key]["signal"][0])

    def _deepest(self, proposer: Any) -> float:
        sources = sorted(self.sources, key=lambda source: digest(self.audit, "start", source.image))[:_TRIAL_IMAGES]
        images, seeds = self._pictures(sources), [seed(self.audit, source.image, 1) for source in sources]
        before = self.target.predict(images).argmax(1)
        for at, signal in enumerate(SIGNALS):
            self.progress(at, len(SIGNALS), "starts of counterfactuals")
            after = self.target.predict(proposer.kept_class(images, seeds, signal)).argmax(1)
            if float((before == after).mean()) >= KEPT_CLASS:
                return signal
        return SIGNALS[-1]

    def _pictures(self, sources: Sequence[EditSource]) -> Images:
        return to_float([square(source.load(), self.size) for source in sources])

    def _pool(self, most: int) -> Images:
        """What students are taught with: the images, and the same noised and denoised, as often as the budget allows."""
        images = self._pictures(self.sources)[:most]
        parts, left = [images], most - len(images)
        with self.errors(), self.lend() as pipeline:
            proposer = self._proposer(pipeline)
            for at, signal in enumerate((0.63, 0.78, 0.45, 0.9, 0.3)):
                if left <= 0:
                    break
                some = images[:left]
                seeds = [seed(self.audit, source.image, 100 + at) for source in self.sources[: len(some)]]
                parts.append(proposer.kept_class(some, seeds, signal))
                left -= len(some)
        return np.concatenate(parts)


def _jittered(images: Images, at: int) -> Images:
    """One of the slightly changed copies: moved by up to 4 %, with noise of 0.02."""
    if at == 0:
        return images
    rng = np.random.default_rng(at)
    most = max(1, round(0.04 * images.shape[3]))
    moved = np.roll(images, tuple(rng.integers(-most, most + 1, 2)), (2, 3))
    noisy: Images = np.clip(moved + 0.02 * rng.standard_normal(images.shape), 0, 1).astype(np.float32)
    return noisy


def export_vjp(
    target: TritonClassifier,
    images: Images,
    file: Path,
    repository: Path,
    *,
    platform: str,
    batches: Sequence[int],
    cache: Path | None,
) -> Path:
    """Write ``<model>_vjp`` into a model repository: the gradient of the file that the server runs; returns its directory.

    The file is compared with the server on ``images`` first, which also say what size of picture the gradient takes.  Raises GradientError.
    """
    from audit_plugin.target.gradients import SUFFIX, Bound, agreement, read_network
    from audit_plugin.target.gradients.ladder import probabilities
    from engines.serving.export import export_classifier

    network, options = read_network(file, target.contract), GradientOptions()
    found = agreement(probabilities(network, images), target.predict(images))
    Bound(top1=options.top1, worst=options.worst).check(found, "file")
    (folder,) = export_classifier(
        network,
        repository,
        image=(3, images.shape[2], images.shape[3]),
        platform=platform,  # type: ignore[arg-type]
        buckets=batches,
        cache=cache,
        name=target.info.model + SUFFIX,
    )
    return folder
