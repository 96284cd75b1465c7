"""Means of nodes drawn towards those of their parents, for deciding which nodes stay in the search and for nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from audit_plugin.core.tree import Node


@dataclass(frozen=True, kw_only=True)
class NodeMean:
    """Mean effect of one node over the images that have one."""

    mean: float
    """0 without images."""
    variance: float
    """Of single images, ddof 1; 0 below two."""
    n: int


def node_mean(values: Float[np.ndarray, "n"]) -> NodeMean:
    """Of the values that are there; nan is missing."""
    known = values[np.isfinite(values)]
    return NodeMean(
        mean=float(known.mean()) if len(known) else 0.0,
        variance=float(known.var(ddof=1)) if len(known) > 1 else 0.0,
        n=len(known),
    )


def shrunk_means(nodes: Sequence[Node], means: Mapping[str, NodeMean]) -> dict[str, float]:
    """e_k = (tau^2 dbar_k + (v_k/n_k) e_parent) / (tau^2 + v_k/n_k), parents first; the root's prior mean is 0.

    v_k is the sample variance, at least the pooled one; tau^2 the variance between siblings beyond that of their errors (method of
    moments), one for the whole tree: effects are sparse, and a tau^2 per parent hides the one child in twenty that matters.  A node
    without values has its parent's.
    """
    counted = [found for found in means.values() if found.n > 1]
    pooled = (
        float(np.average([found.variance for found in counted], weights=[found.n - 1 for found in counted])) if counted else 0.0
    )
    errors = {path: max(found.variance, pooled) / found.n for path, found in means.items() if found.n}
    families: dict[str, list[str]] = {}
    for node in nodes:
        if node.path in errors:
            families.setdefault(node.parent, []).append(node.path)
    tau2 = _pooled(families, means, errors)
    shrunk: dict[str, float] = {}
    for node in sorted(nodes, key=lambda node: node.depth):
        prior = _inherited(node.parent, shrunk)
        error = errors.get(node.path)
        if error is None:
            shrunk[node.path] = prior
        elif tau2 + error == 0:
            shrunk[node.path] = means[node.path].mean
        else:
            shrunk[node.path] = (tau2 * means[node.path].mean + error * prior) / (tau2 + error)
    return shrunk


def _inherited(parent: str, shrunk: Mapping[str, float]) -> float:
    """The nearest ancestor that was tested; 0 above the top."""
    while parent and parent not in shrunk:
        parent = parent.rpartition("/")[0]
    return shrunk.get(parent, 0.0)


def _between(family: Sequence[str], means: Mapping[str, NodeMean], errors: Mapping[str, float]) -> float:
    values = np.array([means[path].mean for path in family])
    return max(0.0, float(values.var(ddof=1)) - float(np.mean([errors[path] for path in family])))


def _pooled(families: Mapping[str, Sequence[str]], means: Mapping[str, NodeMean], errors: Mapping[str, float]) -> float:
    """Over all families with two members or more, else over all nodes around 0."""
    parts = [(len(family) - 1, _between(family, means, errors)) for family in families.values() if len(family) > 1]
    if parts:
        return float(np.average([tau2 for _, tau2 in parts], weights=[weight for weight, _ in parts]))
    return max(0.0, float(np.mean([means[path].mean ** 2 - error for path, error in errors.items()]))) if errors else 0.0
