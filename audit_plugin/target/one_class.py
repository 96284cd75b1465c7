"""Of a deployed model of independent classes (sigmoid) one class, asked about as a model of two: is it there or not?

Such a model decides each class on its own, at one half.  Its likeliest class decides nothing, so that there is no flip, and no gradient of it.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from audit_plugin.core.errors import ConfigError
from audit_plugin.core.protocols import Images, Scores
from audit_plugin.core.seeds import digest
from audit_plugin.core.values import TargetInfo
from audit_plugin.target.contract import Contract
from audit_plugin.target.triton import TritonClassifier
from audit_plugin.target.wire import QueryCounts

ROUNDING = 0.02
"""By which scores of exclusive classes in half precision may miss a sum of 1."""


@dataclass(frozen=True, eq=False)
class OneClass:
    """Answers (not the class, the class) in place of all classes; what is asked of the server is the same."""

    whole: TritonClassifier
    name: str
    """One of its classes."""

    @cached_property
    def contract(self) -> Contract:
        """As the deployed model's, for two classes.  Raises ConfigError for a class that the model does not have."""
        return contract_of(self.whole.contract, self.whole.info, self.name)

    @property
    def info(self) -> TargetInfo:
        """Who answers; other scores than the whole model's, so another key for them."""
        return self.contract.info

    @property
    def labels_only(self) -> bool:
        """Whether the endpoint answers classes only."""
        return self.whole.labels_only

    @property
    def wire(self) -> Any:
        """The connection."""
        return self.whole.wire

    @property
    def counts(self) -> QueryCounts:
        """What has been asked so far."""
        return self.whole.counts

    def predict(self, images: Images) -> Scores:
        """Probabilities ``(n, 2)`` of absence and presence."""
        present = self.whole.predict(images)[:, self.contract.column]
        return np.stack([1 - present, present], axis=1)

    def label(self, label: str) -> str:
        """What the table's label says of the class; empty where it says nothing."""
        if label not in self.whole.info.labels:
            return ""
        return self.info.labels[int(label == self.name)]


Asked = TritonClassifier | OneClass
"""Who can be explained."""


def asked_about(classifier: TritonClassifier, of_class: str) -> Asked:
    """The model itself, or one class of it where one is named."""
    return OneClass(classifier, of_class) if of_class else classifier


def contract_of(contract: Contract, info: TargetInfo, name: str) -> Contract:
    """The contract of one class of a model.  Raises ConfigError for a class that the model does not have."""
    if name not in info.labels:
        raise ConfigError(f"of_class: model {info.model!r} has no class {name!r}; it has {', '.join(info.labels[:10])}")
    column = info.labels.index(name)
    seen = replace(info, labels=(f"not {name}", name), scoring=digest("one class", info.scoring, str(column)))
    return replace(contract, info=seen, column=column)


def independent(scores: Scores, step: float = 0.0) -> bool:
    """Whether scores (n k) in [0, 1], rounded to multiples of ``step``, are of independent classes: exclusive ones sum to 1.

    >>> independent(np.array([[0.9, 0.8, 0.1]])), independent(np.array([[0.7, 0.2, 0.1]]))
    (True, False)
    """
    if not scores.size or scores.min() < -ROUNDING or scores.max() > 1 + ROUNDING:
        return False
    return bool(np.abs(scores.sum(1) - 1).max() > ROUNDING + scores.shape[1] * step / 2)
