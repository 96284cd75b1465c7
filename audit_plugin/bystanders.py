"""Who looks at counterfactuals beside the audited model: an independent classifier, feature networks, a perceptual distance."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_plugin.bank.edit_store import EditStore
from audit_plugin.bank.flips import answers
from audit_plugin.bank.shown import readings
from audit_plugin.config import ExplainConfig, WitnessOptions
from audit_plugin.core.errors import GradientError
from audit_plugin.core.protocols import Images, Progress, ScoreTable
from audit_plugin.core.seeds import digest
from audit_plugin.methods.counterfactuals.diversity import PLAIN, Distance
from audit_plugin.methods.counterfactuals.run import Further
from audit_plugin.methods.counterfactuals.sets import Networks
from audit_plugin.methods.counterfactuals.witness import Witness
from audit_plugin.perception.features import FeatureNetwork, FeatureOptions, chosen_output, file_features
from audit_plugin.perception.lpips import open_perceptual
from audit_plugin.target.features import ServedRows
from audit_plugin.target.one_class import Asked
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.triton import TritonClassifier


@dataclass(frozen=True, kw_only=True)
class Bystanders:
    """Opens those that are configured."""

    asked: ExplainConfig
    target: Asked
    """The audited model."""
    models: Sequence[TargetOptions]
    """How the models that are listed are asked."""
    store: EditStore
    scores: ScoreTable
    progress: Progress

    def further(self, opened: ExitStack) -> Further:
        """What is asked beside flips; connections are closed with ``opened``.  Raises DetectorError, TargetError, GradientError, ConfigError."""
        asked = self.asked
        networks = [self._network(options) for options in (asked.features, asked.faces, asked.likeness)]
        first, second, third = ("" if network is None else network.name for network in networks)
        return Further(
            paths=asked.paths,
            witness=None if asked.witness is None or self._itself(asked.witness) else self._witness(asked.witness, opened),
            networks=Networks(features=networks[0], faces=networks[1], likeness=networks[2], names=(first, second, third)),
            runs=asked.runs,
            distance=self._distance(),
        )

    def _distance(self) -> Distance:
        if self.asked.perceptual is None:
            return PLAIN
        found = open_perceptual(self.asked.perceptual)
        return Distance(name=found.name, between=found.between)

    def _network(self, options: FeatureOptions | None) -> FeatureNetwork | None:
        if options is None:
            return None
        if options.file:
            return file_features(options)
        served = ServedRows(self.target.wire, options.model)
        output = chosen_output(options, list(served.outputs), options.model)
        return FeatureNetwork(name=f"{options.model}:{output}", identity=served.identity, options=options, run=served.of(output))

    def _itself(self, options: WitnessOptions) -> bool:
        """Whether the audited model was named: where several are audited one may be the others' witness, but none is its own."""
        return options.model == self.target.info.model

    def _witness(self, options: WitnessOptions, opened: ExitStack) -> Witness:
        if options.file:
            return self._file_witness(Path(options.file))
        listed = next((one for one in self.models if one.model == options.model), None)
        own = replace(self.target.wire.options, model=options.model, version=None)
        other = opened.enter_context(TritonClassifier.connect(listed or own))

        def told(shas: Collection[str]) -> Mapping[str, NDArray[np.float64]]:
            return answers(other, self.scores, self.store.pictures.pixels, shas, sent=[0], progress=self.progress)

        return Witness(name=f"{other.info.model} version {other.info.version}", labels=other.info.labels, answers=told)

    def _file_witness(self, file: Path) -> Witness:
        from audit_plugin.target.gradients import read_network
        from audit_plugin.target.gradients.ladder import probabilities

        network: Any = read_network(file, self.target.contract)
        reader = _Classes(
            fingerprint=digest("witness", hashlib.sha256(file.read_bytes()).hexdigest(), self.target.info.scoring),
            classes=len(self.target.info.labels),
            file=file,
            network=network,
            ask=probabilities,
        )

        def told(shas: Collection[str]) -> Mapping[str, NDArray[np.float64]]:
            read = readings(self.store, reader, shas)
            return {sha: np.array(read[sha][_CLASSES]) for sha in shas}

        return Witness(name=file.name, labels=self.target.info.labels, answers=told)


_CLASSES = "classes"


@dataclass(frozen=True, eq=False, kw_only=True)
class _Classes:
    """A local classifier as a reader, so that what it says is kept beside the pictures."""

    fingerprint: str
    classes: int
    file: Path
    network: Any
    ask: Any

    def read(self, images: Images) -> Mapping[str, NDArray[np.float64]]:
        told: NDArray[np.float64] = self.ask(self.network, images)
        if told.shape[1] != self.classes:
            raise GradientError(
                f"witness {str(self.file)!r} answers {told.shape[1]} classes, the audited model {self.classes}; give a file with the same classes"
            )
        return {_CLASSES: told}
