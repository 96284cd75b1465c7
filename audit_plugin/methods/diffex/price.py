"""What an audit asks for at most, told before anything is made: nodes times images, as far as the search may go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audit_plugin.bank.edit_price import Wanted
from audit_plugin.core.edits import EditCell, Split
from audit_plugin.core.tree import ConceptTree, Node, NodeKind
from audit_plugin.methods.diffex.audit import pool_of, split_images
from audit_plugin.methods.diffex.options import DiffexOptions


@dataclass(frozen=True, kw_only=True)
class MostEdits:
    """Edits of one audit, at most."""

    images: int
    edits: tuple[Wanted, ...]
    """Of single nodes and by placebos, image by image."""
    further: int
    """Joint edits, and those of the strongest nodes once they are known."""

    @property
    def count(self) -> int:
        """Edits, the bank's with them."""
        return sum(min(len(some.cells), some.at_most) for some in self.edits) + self.further


def most_edits(
    nodes: Sequence[Node],
    tree: ConceptTree,
    images: Sequence[str],
    classes: Sequence[str],
    *,
    classes_of: Mapping[str, str],
    options: DiffexOptions,
    models: int = 1,
) -> MostEdits:
    """Of all edits that ``models`` models may need which are asked the same; ``nodes`` are those that can be tested."""
    pool = pool_of(images, classes_of, options.images_per_class)
    splits, testable = split_images(pool, classes_of), {node.path for node in nodes}
    edits, further = list[Wanted](), 0
    asked: dict[str, list[tuple[list[Node], int]]] = {}
    for name in classes:
        own = [node for node in tree.for_class(name) if node.path in testable]
        chosen = min(len(own), models * _estimated(own, options))
        here = [image for image in pool if options.all_images or classes_of.get(image) == name]
        for image in here:
            asked.setdefault(image, []).append((own, chosen))
        select = sum(splits[image] is Split.SELECT for image in here)
        joint = _joint(select, len(here) - select, options)
        follow_up = len(own) * select + chosen * (len(here) - select) if _follows_up(options) else 0
        further += models * (joint + follow_up)
    for image, wanted in asked.items():
        every = list(dict.fromkeys(node.path for own, _ in wanted for node in own))
        chosen = min(len(every), sum(count for _, count in wanted))
        placebos = tuple(EditCell(image=image, nodes=(name,), placebo=True) for name in options.placebos)
        edits.append(Wanted(cells=placebos, at_most=len(placebos)))
        searched = splits[image] is Split.SELECT
        for seed in range(1 if searched else options.seeds + bool(options.seed_pilot)):
            cells = tuple(EditCell(image=image, nodes=(path,), seed=seed) for path in every)
            edits.append(Wanted(cells=cells, at_most=len(every) if searched else chosen))
    return MostEdits(images=len(asked), edits=tuple(edits), further=further)


def _estimated(nodes: Sequence[Node], options: DiffexOptions) -> int:
    """Nodes of which effects are estimated: survivors, protected ones, and some of the eliminated."""
    protected = sum(node.kind is NodeKind.PROTECTED for node in nodes)
    sampled = max(1, round(options.sample_eliminated * len(nodes))) if options.sample_eliminated > 0 else 0
    return options.race.keep + protected + sampled


def _joint(select: int, estimate: int, options: DiffexOptions) -> int:
    """Searched on SELECT images; on ESTIMATE ones with every subset of two nodes or more."""
    search = options.combine
    searched = max(0, search.size - 1) * search.evaluate * min(select, search.images)
    subsets = 2**search.size - search.size - 1 if search.size > 1 else 0
    return searched + search.beam * subsets * estimate


def _follows_up(options: DiffexOptions) -> bool:
    return bool(options.dose_nodes or options.hit_nodes or options.agreement_images)
