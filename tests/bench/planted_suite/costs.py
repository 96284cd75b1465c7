"""What each approach takes for one task of one classifier: pictures that the classifier is asked about, pictures that must be drawn or edited."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audit_plugin.methods.depict.paper import PERMUTATIONS
from tests.bench.planted_suite import others
from tests.bench.planted_suite.judge import DISCOVERY, FLIPS
from tests.bench.planted_suite.site import Audited
from tests.bench.planted_suite.worlds import World


@dataclass(frozen=True, kw_only=True)
class Spent:
    """For one task."""

    queries: float
    """Pictures that the classifier was asked about, gradients of attribution counted as one each."""
    made: float
    """Pictures drawn or edited by a generator; the product's are made once for all classifiers of a world."""
    evaluations: float | None = None
    """Rows of the denoising network for them; None of pictures that the renderer lends."""


def of_product(told: Audited, rows: int) -> dict[str, list[Spent]]:
    """From what results tell, means over audits; edits and pictures of the bank count in full for every task that they are shown to."""
    found = dict[str, list[Spent]]()
    trees = [result.diffex for result in (*told.results, *told.again) if result.diffex is not None]
    for result in (*told.results, *told.again):
        drawn = result.provenance.images
        found.setdefault("DEPICT", []).append(
            Spent(queries=rows + drawn, made=drawn, evaluations=drawn * told.evaluations_per_picture)
        )
    for tree in trees:
        found.setdefault("DiffEx", []).append(Spent(queries=2 * tree.edits, made=tree.edits, evaluations=told.edit_evaluations))
    for one in told.flipped:
        flips = one.result.counterfactuals
        if flips is not None and flips.figures.queries is not None:
            images, asked, drawn = flips.figures.images, flips.figures.queries, flips.figures.network_rows
            spent = Spent(queries=images * asked, made=images * (asked - 1), evaluations=None if drawn is None else images * drawn)
            found.setdefault(FLIPS[one.method], []).append(spent)
    for some in told.discoveries:
        found.setdefault(DISCOVERY, []).append(
            Spent(queries=some.queries, made=some.queries, evaluations=some.queries * told.evaluations_per_picture)
        )
    means = [mean_of(some) for some in found.values()]
    whole = Spent(
        queries=sum(one.queries for one in means),
        made=sum(one.made for one in means),
        evaluations=sum(one.evaluations or 0.0 for one in means),
    )
    return found | {"audit": [whole]}


def of_approaches(
    world: World, rows: int, *, looked_at: int = others.LOOKED_AT, lent: int = others.COMPARED
) -> dict[str, list[Spent]]:
    """As the others are run here; pictures that they are lent by the renderer a generator would have to make, once for all classifiers."""
    levels = [len(one.levels) for one in world.concepts]
    windows = (2 * 8 - 1) ** 2
    permuted = lent * (1 + PERMUTATIONS * len(levels))
    searched = lent * sum(level - 1 for level in levels)
    return {
        "integrated gradients": [Spent(queries=looked_at * 24, made=0)],
        "occlusion": [Spent(queries=looked_at * windows, made=0)],
        "differences of scores": [Spent(queries=rows, made=0)],
        "property and label in the data": [Spent(queries=0, made=0)],
        "words by margin (B2T)": [Spent(queries=rows, made=0)],
        "DEPICT as published": [Spent(queries=permuted, made=permuted)],
        "DiffEx as published": [Spent(queries=searched + lent, made=searched)],
    }


def mean_of(spent: Sequence[Spent]) -> Spent:
    """Of several tasks."""
    drawn = [one.evaluations for one in spent if one.evaluations is not None]
    return Spent(
        queries=sum(one.queries for one in spent) / len(spent),
        made=sum(one.made for one in spent) / len(spent),
        evaluations=sum(drawn) / len(drawn) if drawn else None,
    )


def columns(spent: Mapping[str, Sequence[Spent]], approach: str) -> dict[str, int | None]:
    """For the table."""
    found = spent.get(approach)
    mean = None if not found else mean_of(found)
    return {
        "queries a task": None if mean is None else round(mean.queries),
        "pictures made a task": None if mean is None else round(mean.made),
        "network evaluations a task": None if mean is None or mean.evaluations is None else round(mean.evaluations),
    }
