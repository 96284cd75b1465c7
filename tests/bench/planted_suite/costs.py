"""What each approach takes for one task of one classifier: pictures that the classifier is asked about, pictures that must be drawn or edited."""

from collections.abc import Mapping
from dataclasses import dataclass

from audit_plugin.methods.depict.paper import PERMUTATIONS
from tests.bench.planted_suite import others
from tests.bench.planted_suite.site import Audited
from tests.bench.planted_suite.worlds import World


@dataclass(frozen=True, kw_only=True)
class Spent:
    """For one task."""

    queries: float
    """Pictures that the classifier was asked about, gradients counted as one each."""
    made: float
    """Pictures drawn or edited by a generator; the product's are made once for all classifiers of a world."""


def of_product(told: Audited) -> dict[str, list[Spent]]:
    """By the product's own account."""
    found: dict[str, list[Spent]] = {"DEPICT": [], "DiffEx": [], "counterfactuals": [], "DiffExplainer": []}
    for result in told.results:
        found["DEPICT"].append(Spent(queries=result.provenance.images, made=result.provenance.images))
        if (tree := result.diffex) is not None:
            found["DiffEx"].append(Spent(queries=2 * tree.edits, made=tree.edits))
        if (flips := result.counterfactuals) is not None and flips.figures.queries is not None:
            images = flips.figures.images
            found["counterfactuals"].append(
                Spent(queries=images * flips.figures.queries, made=images * (flips.figures.queries - 1))
            )
    found["DiffExplainer"] = [Spent(queries=one.queries, made=one.queries) for one in told.discoveries]
    means = {name: mean_of(some) for name, some in found.items() if some}
    whole = Spent(queries=sum(one.queries for one in means.values()), made=sum(one.made for one in means.values()))
    return {name: some for name, some in found.items() if some} | {"audit": [whole]}


def of_approaches(world: World, rows: int, *, lent: int = others.COMPARED) -> dict[str, list[Spent]]:
    """As the others are run here; what they are lent by the renderer is what a generator would have to draw."""
    levels, looked_at = [len(one.levels) for one in world.concepts], others.LOOKED_AT
    windows = (2 * 8 - 1) ** 2
    permuted = lent * (1 + PERMUTATIONS * len(levels))
    searched = 4 * lent * sum(levels)
    return {
        "integrated gradients": [Spent(queries=looked_at * 24, made=0)],
        "occlusion": [Spent(queries=looked_at * windows, made=0)],
        "differences of scores": [Spent(queries=rows, made=0)],
        "property and label in the data": [Spent(queries=0, made=0)],
        "words by margin (B2T)": [Spent(queries=rows, made=0)],
        "DEPICT as published": [Spent(queries=permuted, made=permuted)],
        "DiffEx as published": [Spent(queries=searched + lent, made=searched)],
    }


def mean_of(spent: list[Spent]) -> Spent:
    """Of several tasks."""
    return Spent(queries=sum(one.queries for one in spent) / len(spent), made=sum(one.made for one in spent) / len(spent))


def columns(spent: Mapping[str, list[Spent]], approach: str) -> dict[str, int | None]:
    """For the table."""
    found = spent.get(approach)
    mean = None if not found else mean_of(found)
    return {
        "queries a task": None if mean is None else round(mean.queries),
        "pictures made a task": None if mean is None else round(mean.made),
    }
