"""The loop: what is found without data becomes nodes of the concept tree, is confirmed, and is tested on real images by the next audit."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from audit_plugin.bank.edit_store import edit_store
from audit_plugin.bank.prompted import PromptStudio
from audit_plugin.concepts.phrasing import Phrasing
from audit_plugin.concepts.tree_io import read_tree, tree_to_yaml
from audit_plugin.config import AuditedModel, DiscoverConfig, ExplainConfig
from audit_plugin.core.diffex_results import ScoreKind
from audit_plugin.core.discovery_results import Discovery, Mode, ProposedNode
from audit_plugin.core.errors import AuditError, ConfigError, GradientError, UnknownModelError
from audit_plugin.core.protocols import Images, Scores, ScoreTable
from audit_plugin.core.seeds import digest, seed
from audit_plugin.core.tree import ConceptTree, Node
from audit_plugin.discovered import (
    discovered_file,
    keep_discovery,
    known_discovery,
    lines_of,
    phrasing_of_generator,
    probe_concept,
    probe_folder,
)
from audit_plugin.discovering import Discovering, budgeted
from audit_plugin.methods.diffexplainer.asking import Answers
from audit_plugin.methods.diffexplainer.lifts import MOST
from audit_plugin.methods.diffexplainer.nodes import chosen, pointed, proposals, with_probe, with_proposals
from audit_plugin.methods.diffexplainer.subspace import SpanOf
from audit_plugin.methods.diffexplainer.units import UnitReader, activations, usual
from audit_plugin.methods.diffexplainer.word_bank import word_bank
from audit_plugin.methods.diffexplainer.word_search import Contexts
from audit_plugin.onlookers import captioner_of, image_text_of, segmenter_of
from audit_plugin.perception.probes import LEVELS, reads, train_probe
from audit_plugin.report.document import write_whole
from audit_plugin.sources.images import square, to_float
from audit_plugin.studios import audited_tree, sources_of
from audit_plugin.target.features import ServedRows
from audit_plugin.target.guidance import GradientOptions, Rung
from audit_plugin.target.hidden import SUFFIX
from audit_plugin.target.options import PreprocessOptions
from audit_plugin.target.preprocess import to_input
from audit_plugin.target.triton import TritonClassifier
from audit_plugin.wiring import Installation, engine_errors, generator_digest

if TYPE_CHECKING:  # ends in torch
    from audit_plugin.soft_prompts import Aim

LOG = structlog.get_logger(__name__)
REAL = 256
"""Real images that say what units usually answer, and whether the generator's domain fits."""
CALIBRATING = 64
"""Real images of a class that a segmenter's threshold is calibrated on."""
PROBE_PAIRS = 150
"""Seeds with and without a word that its probe is taught by and judged on."""
Confirm = Callable[[ProposedNode], bool]


@dataclass(frozen=True)
class DiscoveryLoop:
    """Of one configuration."""

    installation: Installation
    scores: ScoreTable

    def discover(self, *, only: str | None = None, confirm: Confirm) -> Iterator[Discovery | AuditError]:
        """Every model's discovery, kept beside the bank; confirmed nodes are written into the tree.

        A model that cannot be asked does not keep the others from it: its error comes in place of its discovery.
        """
        for model in self.installation.models(only):
            try:
                yield self._kept(self._found(model), confirm)
            except AuditError as error:
                yield error

    def _found(self, model: AuditedModel) -> Discovery:
        with TritonClassifier.connect(model.target) as classifier:
            return self.discovering(classifier).run()

    def _kept(self, found: Discovery, confirm: Confirm) -> Discovery:
        """With its proposals, of which the confirmed ones are in the tree now."""
        tree = self.tree
        proposed = proposals(found.subjects, tree, self.phrasing) if found.fit.fits else ()
        decided = chosen(proposed, confirm)
        nodes = [self._probed(node) for node, told in decided if told.accepted]
        whole = replace(
            found, subjects=pointed(found.subjects, nodes), proposed=(*self._accepted_before(found), *(told for _, told in decided))
        )
        before = known_discovery(self.installation.loaded, found.model, found.version)
        if found.stopped and before is not None and not before.stopped:
            LOG.warning(
                "a discovery that a limit ended does not replace the whole one from before", model=found.model, whole=before.made_at
            )
        else:
            keep_discovery(self.installation.loaded, whole)
        self._write(nodes)
        return whole

    def _probed(self, node: Node) -> Node:
        """With a detector that tells whether an edit of it worked, where the generator draws it plainly enough to teach one."""
        installation = self.installation
        concept, file = probe_concept(node.path), probe_folder(installation.loaded) / f"{node.path.rpartition('/')[2]}.onnx"
        studio = self._studio
        pairs = Contexts(self.phrasing, installation.loaded.config.audit).pairs(node.prompt_add, PROBE_PAIRS, "probe")
        without, said = (
            studio.images(
                studio.shas([pair[at].prompt for pair in pairs], [pair[at].seed for pair in pairs], f"pictures of {node.name}")
            )
            for at in (0, 1)
        )
        card = train_probe(without, said, concept, file, seed=seed(concept, "probe") % 2**31, progress=installation.progress)
        return with_probe(node, concept, LEVELS[1]) if reads(card) else node

    def _accepted_before(self, found: Discovery) -> tuple[ProposedNode, ...]:
        """Proposals of an earlier round for this version that stand in the tree; a second round does not propose them again."""
        before = known_discovery(self.installation.loaded, found.model, found.version)
        have = {node.path for node in self.tree.nodes}
        return () if before is None else tuple(one for one in before.proposed if one.accepted and one.path in have)

    def _write(self, nodes: Sequence[Node]) -> None:
        if not nodes:
            return
        file = discovered_file(self.installation.loaded)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, tree_to_yaml(with_proposals(self._accepted, nodes)))

    def price(self, *, only: str | None = None) -> dict[str, object]:
        """Pictures and rows that every model's discovery takes at most; pictures are shared by models and kept."""
        asked, models = self.asked.options, self.installation.models(only)
        words = word_bank(
            self.phrasing,
            tree=self.tree,
            own=lines_of(Path(self.asked.words), "discover.words") if self.asked.words else (),
            vocabulary=() if self.phrasing.phrases else self._vocabulary(),
            most=asked.words,
        )
        subjects = len(self.asked.classes) or max(
            2, len({row.labels.get(models[0].label, "") for row in self.installation.source.rows})
        )
        each = asked.shortlist * asked.again_seeds + asked.keep * asked.pairs + asked.pairs
        each += (1 + 2 * (asked.depth - 1)) * asked.beam * asked.compose_seeds + 3 * asked.verify
        units, named = sum(map(len, self.asked.units.values())), 2 if self.asked.named else 1
        pictures = named * len(words) * asked.seeds_of(len(words)) + (named * subjects + units) * min(
            each, len(words) * (asked.again_seeds + asked.pairs) + each
        )
        blended, blends = self.asked.subspace, (named * subjects + units) * len(models)
        own = 0 if blended is None else blends * (blended.budget + 2 * asked.verify)
        by_labels = 0 if blended is None else blends * (blended.labels_budget - blended.budget)
        looked = MOST * blends if self.asked.captioner is not None or image_text_of(self.installation.loaded) is not None else 0
        return {
            "words": len(words),
            "classes": subjects,
            **({"units": units} if units else {}),
            "pictures_at_most": pictures + own + looked,
            "classifier_queries_at_most": pictures * len(models) + own,
            **({} if self.asked.captioner is None else {"captions_at_most": 2 * looked}),
            **({} if blended is None else {"more_if_labels_alone": max(0, by_labels)}),
            "network_rows_limit": self.asked.limits.network_rows or "none",
            "not_checked": "whether server and generator have what is named; nobody was asked",
        }

    def discovering(self, classifier: TritonClassifier) -> Discovering:
        """One connected model's: the generator is loaded when something must be drawn."""
        installation, asked = self.installation, self.asked
        config, drawn, spent = installation.loaded.config, [0], {"rows": 0, "gradients": 0}
        rows = lambda: installation.generator.evaluations_per_image  # noqa: E731  # asked for only once something was drawn
        studio = replace(self._studio, drawn=drawn, allow=budgeted(asked, drawn, rows, spent))
        concepts = installation.loaded.document.concept_set.concepts if installation.loaded.described else ()
        discovering = Discovering(
            audit=config.audit,
            asked=asked,
            target=classifier,
            studio=studio,
            scores=self.scores,
            phrasing=self.phrasing,
            vocabulary=self._vocabulary,
            generator=studio.fingerprint,
            rows_per_picture=rows,
            spent=spent,
            tree=self.tree,
            concepts=concepts,
            detector=installation.detector if concepts and Path(config.detector.path).exists() else None,
            real=self._real,
            real_of=lambda name: self._real(CALIBRATING, labelled=(self._label_of(classifier.info.model), name)),
            captioner=captioner_of(installation.loaded, studio.store.pictures),
            image_text=image_text_of(installation.loaded),
            segmenter=segmenter_of(asked.segmenter, classifier.wire, installation.picture_size),
            units=self._units(classifier),
            spans=None if asked.subspace is None else self._spans(studio),
            independent=config.diffex is not None and config.diffex.options.score is ScoreKind.SIGMOID,
            progress=installation.progress,
        )
        return discovering if asked.mode == "scores" else self._by_gradient(discovering)

    def _spans(self, studio: PromptStudio) -> Callable[[Callable[[Sequence[str], str], Answers]], SpanOf]:
        """Blends of prompts, drawn by the generator; it is loaded when one is missing."""
        from audit_plugin.blends import Blends

        def spans(answers: Callable[[Sequence[str], str], Answers]) -> SpanOf:
            return Blends(
                lend=lambda: self.installation.generator.lend(),  # noqa: PLW0108  # the generator is loaded when it is first lent
                errors=engine_errors,
                studio=studio,
                answers=answers,
                workers=lambda: self.installation.generator.workers,
            ).span

        return spans

    def _by_gradient(self, discovering: Discovering) -> Discovering:
        """With soft prompts, where the model's gradient can be had.  Raises ConfigError where it cannot and nothing else was asked for."""
        from audit_plugin.soft_prompts import SoftPrompts
        from audit_plugin.target.gradients import guide

        installation, asked, target = self.installation, self.asked, discovering.target
        explain = installation.loaded.config.explain or ExplainConfig()
        options = explain.gradients.get(target.info.model, GradientOptions())
        images = self._real(REAL)
        found = None if options.rung in {Rung.SURROGATE, Rung.FREE} or not len(images) else guide(options, target, images)
        if found is None or found.judge is None:
            if asked.mode == "auto":
                return discovering
            why = "; ".join(found.passed_over) if found is not None else "no file is named"
            raise ConfigError(
                f"discover.mode: gradient needs the gradient of {target.info.model}, and there is none ({why}); give "
                f"`explain.gradients.{target.info.model}.file`, or use mode scores"
            )
        aims, units_said = self._aims(discovering, found.judge, options, images)
        soft = SoftPrompts(
            audit=discovering.audit,
            lend=installation.generator.lend,
            errors=engine_errors,
            aims=aims,
            exclude=[part for label in target.info.labels for part in label.replace("_", " ").split()],
            phrasing=discovering.phrasing,
            studio=discovering.studio,
            answers=discovering.answers,
            options=asked.gradient if asked.captioner is None else replace(asked.gradient, described=0),  # captions say it better
            verify=asked.options.verify,
            shown=asked.options.pictures,
            progress=installation.progress,
            spent=discovering.spent,
        )
        return replace(
            discovering,
            mode=Mode.GRADIENT,
            mode_said="; ".join([f"soft prompts by the gradient of the {found.rung.value}: {found.said}", *units_said]),
            prepare=soft.hints,
        )

    def _aims(
        self, discovering: Discovering, judge: Any, options: GradientOptions, images: Images
    ) -> tuple[dict[tuple[str, int], "Aim"], list[str]]:
        """What every class and unit is climbed by, and what is said of the units' file.  Units without one are asked by their answers alone."""
        from audit_plugin.soft_prompts import class_aim, unit_aim
        from audit_plugin.target.gradients import check_units, read_units

        target = discovering.target
        column = len(target.info.labels)
        aims = {("class", at): class_aim(judge, at, self.asked.gradient.enough) for at in range(column)}
        said = list[str]()
        for reader in discovering.units:
            columns, column = range(column, column + len(reader.units)), column + len(reader.units)
            if options.file is None:
                said.append(f"{reader.output} by answers alone: no file is named")
                continue
            try:
                units = read_units(options.file, target.contract, reader.output)
                said.append(f"{reader.output}: {check_units(units, images, reader.ask(images), reader.units, reader.usual.sd)}")
            except GradientError as error:
                said.append(f"{reader.output} by answers alone: {error}")
                continue
            aims |= {
                ("unit", at): unit_aim(units, unit, reader.usual, place)
                for place, (at, unit) in enumerate(zip(columns, reader.units, strict=True))
            }
        return aims, said

    @cached_property
    def _studio(self) -> PromptStudio:
        config = self.installation.loaded.config
        return PromptStudio(
            fingerprint=generator_digest(self.installation.loaded),
            draw=lambda: self._draw,
            store=edit_store(config.bank.path, config.bank.images),
            batch=2 * self.installation.loaded.generator.batch,
            progress=self.installation.progress,
        )

    @property
    def asked(self) -> DiscoverConfig:
        """As configured, or the defaults."""
        return self.installation.loaded.config.discover or DiscoverConfig()

    @property
    def tree(self) -> ConceptTree:
        """What is known already, what was accepted before with it."""
        installation = self.installation
        if installation.loaded.config.diffex is None:
            return self._accepted
        classes = sorted({name for row in installation.source.rows for name in row.labels.values()})
        return audited_tree(installation.loaded, classes, generative=True)

    @property
    def _accepted(self) -> ConceptTree:
        """What was accepted before, alone."""
        file, name = discovered_file(self.installation.loaded), self.installation.loaded.config.audit
        return read_tree(file) if file.is_file() else ConceptTree(domain=name, nodes=())

    @cached_property
    def phrasing(self) -> Phrasing:
        """How words enter this generator's prompts."""
        return phrasing_of_generator(self.installation.loaded, self.installation.source.rows)

    def _draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> Images:
        """As many threads draw as the generator has workers."""
        generator = self.installation.generator
        ends = np.linspace(0, len(prompts), min(generator.workers, len(prompts)) + 1).astype(int).tolist()
        parts = [slice(a, b) for a, b in pairwise(ends)]

        def some(rows: slice) -> Images:
            try:
                return generator.generate(prompts[rows], seeds[rows])
            except ValueError as error:
                raise ConfigError(f"generator.path: a discovery takes a generator that draws what prompts say: {error}") from error

        with ThreadPoolExecutor(len(parts)) as pool:
            return np.concatenate(list(pool.map(some, parts)))

    def _vocabulary(self) -> Sequence[str]:
        with engine_errors():
            from engines.pipelines.vocabulary import whole_words

            return whole_words(Path(self.installation.loaded.generator.path))

    def _label_of(self, model: str) -> str:
        """Column of the table with the classes that a model answers."""
        return next((one.label for one in self.installation.loaded.models if one.target.model == model), "")

    def _real(self, count: int, labelled: tuple[str, str] | None = None) -> Images:
        """So many real images, of one class by its column and name where that is given."""
        installation = self.installation
        rows = [row for row in installation.source.rows if labelled is None or row.labels.get(labelled[0]) == labelled[1]]
        sources = sources_of(rows, dict(installation.real.by_row), described=installation.loaded.described)
        some = sorted(sources, key=lambda one: digest(installation.loaded.config.audit, "discover", one.image))[:count]
        if not some:
            return np.zeros((0, 3, 1, 1), np.float32)
        return to_float([square(source.load(), installation.picture_size()) for source in some])

    def _units(self, classifier: TritonClassifier) -> list[UnitReader]:
        """Hidden units that are configured, with what real images usually give.  Raises ConfigError, TargetError."""
        if not self.asked.units:
            return []
        name, real = classifier.info.model + SUFFIX, self._real(REAL)
        try:
            served = ServedRows(classifier.wire, name)
        except UnknownModelError as error:
            raise ConfigError(
                f"discover.units: the server has no {name!r}, which shows the units of {classifier.info.model}; write it with "
                "`audit-plugin engines export-hidden` and have it loaded"
            ) from error
        if len(real) < 8:
            raise ConfigError("discover.units: what units usually answer is measured on real images, and there are fewer than 8")
        _same(classifier, served, name, real)
        readers = []
        for output, units in self.asked.units.items():
            if output not in served.outputs:
                raise ConfigError(
                    f"discover.units: {classifier.info.model}{SUFFIX} has no output {output!r}; it has {', '.join(served.outputs)}"
                )
            told = _asking(served.of(output), classifier)
            shown = told(real)
            values = activations(shown, output)
            whole = f"{output.removesuffix('_mean')}_map"
            maps = told if shown.ndim == 4 else _asking(served.of(whole), classifier) if whole in served.outputs else None
            if strange := [unit for unit in units if not 0 <= unit < values.shape[1]]:
                raise ConfigError(f"discover.units: {output} has units 0 to {values.shape[1] - 1}, not {strange[0]}")
            readers.append(
                UnitReader(
                    output=output,
                    units=tuple(units),
                    ask=_each(told, output),
                    usual=usual(values[:, list(units)]),
                    maps=maps,
                    table=self.scores,
                    key=digest("units", classifier.info.id, served.identity, output),
                    seen=_seen(classifier.contract.preprocess),
                )
            )
        return readers


def _same(classifier: TritonClassifier, served: ServedRows, name: str, real: Images) -> None:
    """Raises ConfigError where the model that shows hidden units answers otherwise than the audited one: it is of another classifier."""
    from audit_plugin.target.gradients import Bound, agreement

    contract = classifier.contract
    if contract.output.name not in served.outputs:
        raise ConfigError(
            f"discover.units: {name} does not answer {contract.output.name!r} as the audited model does; export it again"
        )
    told = _asking(served.of(contract.output.name), classifier)(real)
    ours = contract.scores(told, len(real))
    bound = GradientOptions()
    try:
        Bound(top1=bound.top1, worst=bound.worst).check(agreement(ours, classifier.predict(real)), name)
    except GradientError as error:
        raise ConfigError(
            f"discover.units: {name} is not of this version of {classifier.info.model}: {error}; export it again from the file that the server runs"
        ) from error


def _seen(preprocess: PreprocessOptions) -> float:
    """Share of a square picture's side that is left when it is cropped."""
    cut = preprocess.shorter_px is not None and preprocess.size is not None
    return max(preprocess.size or (1,)) / (preprocess.shorter_px or 1) if cut else 1.0


def _each(told: Callable[[Images], Scores], output: str) -> Callable[[Images], Scores]:
    """One number a unit."""
    return lambda images: activations(told(images), output)


def _asking(run: Callable[[Images], Scores], classifier: TritonClassifier) -> Callable[[Images], Scores]:
    """Of pictures as the auditor holds them, made to what the model takes."""
    return lambda images: run(np.asarray(to_input(images, classifier.contract.preprocess), np.float32))
