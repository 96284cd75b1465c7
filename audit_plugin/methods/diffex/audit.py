"""A whole DiffEx audit (specification 5.3): search on SELECT images, numbers from ESTIMATE images, state of knowledge where it stops.

Half of a class's images, by the hash of their id, serve the search and the other half the numbers; an image serves the same purpose in
every run.  Rows may be recorded as they are made (``sink``), and the result is a function of them and of what the search chose.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from audit_plugin.core.diffex_results import Chosen, ClassEffects, DiffexResult, SearchSummary, Untestable
from audit_plugin.core.edits import EditArms, EditCell, Split
from audit_plugin.core.protocols import Progress
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.core.tree import ConceptTree, Node, NodeKind
from audit_plugin.methods.diffex.assemble import class_effects
from audit_plugin.methods.diffex.combine import search_sets, with_subsets
from audit_plugin.methods.diffex.effects import Nodes, RowTable, quality
from audit_plugin.methods.diffex.estimate import ClassPlan, class_effect
from audit_plugin.methods.diffex.figures import counter_column, rng_of
from audit_plugin.methods.diffex.follow_up import FollowUp
from audit_plugin.methods.diffex.ledger import Ledger, Limit, Sink
from audit_plugin.methods.diffex.options import DiffexOptions
from audit_plugin.methods.diffex.racing import Race, parent_gated, racing, random_order, undecided
from audit_plugin.methods.diffex.subgroups import Attributes

DEFAULTS = DiffexOptions()


def split_images(images: Sequence[str], classes_of: Mapping[str, str]) -> dict[str, Split]:
    """Half of every class to search and half to estimate, by the hash of the image's id: neither order nor run matters."""
    groups: dict[str, list[str]] = {}
    for image in sorted(set(images), key=lambda image: seed_of("diffex split", image)):
        groups.setdefault(classes_of.get(image, ""), []).append(image)
    return {
        image: Split.SELECT if at < len(group) // 2 else Split.ESTIMATE
        for group in groups.values()
        for at, image in enumerate(group)
    }


def run_diffex(
    arms: EditArms,
    tree: ConceptTree,
    images: Sequence[str],
    classes: Sequence[str],
    *,
    labels: Sequence[str],
    classes_of: Mapping[str, str],
    attributes: Attributes | None = None,
    options: DiffexOptions = DEFAULTS,
    progress: Progress | None = None,
    limits: Sequence[Limit] = (),
    affordable: Callable[[int], int] = lambda wanted: wanted,
    sink: Sink = lambda _: None,
    seed: int = 0,
) -> DiffexResult:
    """Audit ``classes`` of one model version.

    ``labels``: all classes in the order of the scores.  ``classes_of``: image -> its class; a class is measured on its own images unless
    ``options.all_images``.  ``attributes``: what else is known of the images, for effects by subgroup.  ``limits`` are looked at between
    batches of edits, which are no larger than ``affordable`` says; where one speaks, the result is what is known by then, and nodes that
    were not reached are inconclusive, with the reason.  Raises ValueError for a class that is not a label.
    """
    unknown = [name for name in classes if name not in labels]
    if unknown:
        raise ValueError(f"classes {unknown} are not among the model's {len(labels)}; name them as the model does")
    pool = pool_of(images, classes_of, options.images_per_class)
    # Images beyond the pool take part in no search, so that the cues which it finds may be shown on them.
    ledger = Ledger(
        arms,
        dict.fromkeys(images, Split.ESTIMATE) | split_images(pool, classes_of),
        options.score,
        limits=limits,
        sink=sink,
        progress=progress,
        chunk=options.chunk,
        affordable=affordable,
    )
    run = _Run(
        ledger=ledger,
        tree=tree,
        labels=tuple(labels),
        options=options,
        seed=seed,
        classes_of=classes_of,
        attributes=attributes or {},
    )
    searches = [run.search(name, [i for i in pool if options.all_images or classes_of.get(i) == name]) for name in classes]
    # All classes' edits come first, so that what is told of one is a function of all rows even where classes share their images.
    cells = [run.complete(found) for found in searches]
    results = tuple(run.estimate(found, planned) for found, planned in zip(searches, cells, strict=True))
    return _result(run, results, searches)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Search:
    """What SELECT images decided for one class."""

    class_name: str
    select: tuple[str, ...]
    estimate: tuple[str, ...]
    chosen: Mapping[str, Chosen]
    sets: tuple[Nodes, ...]
    summary: SearchSummary
    counters: Mapping[str, tuple[int, int]]
    refused: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Run:
    """What the classes of one run share."""

    ledger: Ledger
    tree: ConceptTree
    labels: tuple[str, ...]
    options: DiffexOptions
    seed: int
    classes_of: Mapping[str, str]
    attributes: Attributes

    def search(self, name: str, images: Sequence[str]) -> _Search:
        """Stages 1 and 2 for one class."""
        order = sorted(images, key=lambda image: seed_of(f"diffex order {self.seed}", image))
        select, estimate = (tuple(i for i in order if self.ledger.splits[i] is split) for split in (Split.SELECT, Split.ESTIMATE))
        nodes, refused = self._testable(self.tree.for_class(name), select)
        column = self.labels.index(name)
        race = self._race(name, nodes, select, column)
        sampled = self._sample(name, race)
        sets, spent = self._sets(race, select, column)
        chosen = {path: _why(self.tree.node(path)) for path in race.kept} | dict.fromkeys(sampled, Chosen.SAMPLED)
        chosen |= dict.fromkeys(race.unfinished, Chosen.UNREACHED)
        summary = SearchSummary(
            mode=race.mode,
            candidates=len(nodes),
            edits=race.edits,
            rounds=race.rounds,
            kept=race.kept,
            sampled=sampled,
            combination_edits=spent,
        )
        return _Search(
            class_name=name,
            select=select,
            estimate=estimate,
            chosen=chosen,
            sets=sets,
            summary=summary,
            counters=self._counters(tuple(chosen), select, column),
            refused=refused,
        )

    def complete(self, found: _Search) -> list[EditCell]:
        """Edits of stage 3 for one class: those that are wanted, placebos left out."""
        singles, joint = [(path,) for path in found.chosen], with_subsets(found.sets)
        what = f"estimates of {found.class_name}"
        planned = self._cells(found.estimate, (*singles, *joint), range(self.options.seeds))
        self.ledger.complete([*self._placebos(found.estimate, joint), *planned], what)
        return planned + self._more_seeds(found, what)

    def estimate(self, found: _Search, planned: Sequence[EditCell]) -> ClassEffects:
        """Stages 3 and 4 for one class."""
        paths, joint = tuple(found.chosen), with_subsets(found.sets)
        cut = {cell.nodes for cell in planned if cell not in self.ledger.known}
        missing = any(cell not in self.ledger.known for cell in self._placebos(found.estimate, joint))
        unreached = {path for path, why in found.chosen.items() if why is Chosen.UNREACHED}
        plan = ClassPlan(
            class_name=found.class_name,
            labels=self.labels,
            images=found.estimate,
            chosen=found.chosen,
            counters=found.counters,
            incomplete=frozenset(path for path in paths if missing or path in unreached or (path,) in cut),
            stopped=self.ledger.stopped,
            attributes=self.attributes,
        )
        effects = class_effects(
            self.ledger.of(Split.ESTIMATE),
            self.tree,
            plan,
            kind=self.options.score,
            sets=found.sets,
            search=found.summary,
            options=self.options.estimate,
            flip_goal=self.options.combine.flip_goal,
            images_select=len(found.select),
            seed=self.seed,
        )
        inside = {*found.select, *found.estimate}
        more = FollowUp(
            ledger=self.ledger,
            tree=self.tree,
            options=self.options,
            plan=plan,
            others=self._others(found.class_name),
            refused=found.refused,
            spent=len([cell for cell in self.ledger.known if cell.image in inside]),
            seed=self.seed,
        )
        return more.told(effects)

    def _others(self, name: str) -> tuple[str, ...]:
        """Images of other classes that no search has seen."""
        unseen = [image for image, split in self.ledger.splits.items() if split is Split.ESTIMATE]
        others = [image for image in unseen if self.classes_of.get(image, name) not in {name, ""}]
        return tuple(sorted(others, key=lambda image: seed_of(f"diffex order {self.seed}", image)))

    def _testable(self, nodes: Sequence[Node], select: Sequence[str]) -> tuple[list[Node], dict[str, str]]:
        """Nodes that the arms do not refuse, as the first image tells; and why they refuse the others."""
        if not select:
            return list(nodes), {}
        first = select[0]
        self.ledger.complete(self._cells([first], [(node.path,) for node in nodes]), "first edits")
        refused = {node.path: why for node in nodes if (why := self.ledger.refusal(node.path, first))}
        return [node for node in nodes if node.path not in refused], refused

    def _race(self, name: str, nodes: Sequence[Node], select: Sequence[str], column: int) -> Race:
        def ask(paths: Sequence[str], images: Sequence[str]) -> np.ndarray:
            sets = [(path,) for path in paths]
            self.ledger.complete([*self._placebos(images), *self._cells(images, sets)], f"search for {name}")
            return self.ledger.matrix(sets, images, column)

        options = self.options.race
        if self.options.search == "racing":
            return racing(ask, nodes, select, options=options, halted=self.ledger.halted)
        if self.options.search == "parent_gated":
            found = parent_gated(ask, nodes, select, options=options)
        else:
            found = random_order(ask, nodes, select, rng_of(self.seed, name, "random order"), options=options)
        if self.ledger.stopped:
            found = undecided(found, [path for path in found.eliminated if not found.measured.get(path)])
        return _with_protected(found, nodes)

    def _sample(self, name: str, race: Race) -> tuple[str, ...]:
        """A random share of the eliminated, at least one."""
        if not race.eliminated or self.options.sample_eliminated <= 0:
            return ()
        count = max(1, round(self.options.sample_eliminated * len(race.eliminated)))
        drawn = rng_of(self.seed, name, "sample").choice(len(race.eliminated), size=count, replace=False)
        return tuple(race.eliminated[at] for at in sorted(drawn))

    def _sets(self, race: Race, select: Sequence[str], column: int) -> tuple[tuple[Nodes, ...], int]:
        def ask(sets: Sequence[Nodes], images: Sequence[str]) -> np.ndarray:
            self.ledger.complete([*self._placebos(images, sets), *self._cells(images, sets)], "joint edits")
            return self.ledger.matrix(sets, images, column)

        singles = {path: race.means[path] for path in race.kept if path in race.means}
        found = search_sets(ask, singles, self.tree.compatible, select, options=self.options.combine, halted=self.ledger.halted)
        return found.sets, found.edits

    def _counters(self, paths: Sequence[str], select: Sequence[str], column: int) -> dict[str, tuple[int, int]]:
        table = RowTable(rows=self.ledger.of(Split.SELECT), kind=self.options.score)
        effects = {path: class_effect(table, path, select) for path in paths}
        found = {path: counter_column(one, column) for path, one in effects.items() if one is not None}
        return {path: counter for path, counter in found.items() if counter is not None}

    def _more_seeds(self, found: _Search, what: str) -> list[EditCell]:
        """Second replicates: on the pilot images of every node, and on all images of nodes whose seeds vary."""
        pilot, extra = found.estimate[: self.options.seed_pilot], self.options.seeds
        if not pilot or self.ledger.halted():
            return []
        varying = [path for path in found.chosen if self.tree.node(path).operator != "deterministic"]
        self.ledger.complete(self._cells(pilot, [(path,) for path in varying], [extra]), what)
        table = RowTable(rows=self.ledger.of(Split.ESTIMATE), kind=self.options.score)
        column = self.labels.index(found.class_name)
        noisy = [path for path in varying if self._seeds_matter(table, path, found.estimate, column)]
        cells = self._cells(found.estimate, [(path,) for path in noisy], [extra])
        self.ledger.complete(cells, what)
        return cells

    def _seeds_matter(self, table: RowTable, path: str, images: Sequence[str], column: int) -> bool:
        effects = class_effect(table, path, images)
        if effects is None:
            return False
        values = effects.by_seed[:, :, column]
        paired = values[np.isfinite(values).sum(1) > 1]
        if len(paired) < 2 or len(effects.images) < 2:
            return False
        within = float(np.nanvar(paired, axis=1, ddof=1).mean())
        return within > self.options.seed_share * float(effects.log_odds[:, column].var(ddof=1))

    def _cells(self, images: Sequence[str], sets: Sequence[Nodes], seeds: Sequence[int] = (0,)) -> list[EditCell]:
        """Image by image, so that what is made once per image is made once."""
        return [EditCell(image=image, nodes=nodes, seed=seed) for image in images for nodes in sets for seed in seeds]

    def _placebos(self, images: Sequence[str], sets: Sequence[Nodes] = ()) -> list[EditCell]:
        """Single placebos on every image; of as many prompts as the sets have terms where that is asked for."""
        prompts = self.options.placebos
        names: list[Nodes] = [(prompt,) for prompt in prompts]
        if self.options.joint_placebos:
            sizes = sorted({len(nodes) for nodes in sets if len(nodes) > 1})
            names += [
                tuple(prompts[(at + step) % len(prompts)] for step in range(size)) for size in sizes for at in range(len(prompts))
            ]
        return [EditCell(image=image, nodes=name, placebo=True) for image in images for name in names]


def pool_of(images: Sequence[str], classes_of: Mapping[str, str], most: int) -> list[str]:
    """At most ``most`` images per class, by the hash of their id."""
    counts: dict[str, int] = {}
    pool = []
    for image in sorted(set(images), key=lambda image: seed_of("diffex pool", image)):
        name = classes_of.get(image, "")
        counts[name] = counts.get(name, 0) + 1
        if counts[name] <= most:
            pool.append(image)
    return pool


def _why(node: Node) -> Chosen:
    return Chosen.PROTECTED if node.kind is NodeKind.PROTECTED else Chosen.SURVIVOR


def _with_protected(race: Race, nodes: Sequence[Node]) -> Race:
    """Protected nodes are estimated whatever a search says."""
    extra = [node.path for node in nodes if node.kind is NodeKind.PROTECTED and node.path not in race.kept]
    return replace(
        race,
        kept=(*race.kept, *extra),
        eliminated=tuple(path for path in race.eliminated if path not in extra),
        unfinished=tuple(path for path in race.unfinished if path not in extra),
    )


def _result(run: _Run, results: tuple[ClassEffects, ...], searches: Sequence[_Search]) -> DiffexResult:
    tree, rows = run.tree, tuple(run.ledger.known.values())
    estimated = {node.node for result in results for node in result.nodes if node.images}
    return DiffexResult(
        tree_digest=tree.digest,
        domain=tree.domain,
        score=run.options.score,
        classes=results,
        untestable=_untestable(run, searches),
        tree_coverage=len(estimated) / len(tree.nodes) if tree.nodes else 0.0,
        editable_share=len(tree.editable) / len(tree.nodes) if tree.nodes else 0.0,
        quality=quality(rows),
        edits=len(rows),
        operators=tuple(sorted({row.operator for row in rows if row.after_sha256})),
        stopped=run.ledger.stopped,
        seed=run.seed,
        names={node.path: node.name for node in tree.nodes if node.name != node.path.rpartition("/")[2].replace("_", " ")},
    )


def _untestable(run: _Run, searches: Sequence[_Search]) -> tuple[Untestable, ...]:
    """Nodes that are not editable for a reason, that the arms refuse, or none of whose edits was valid."""
    found = {node.path: node.reason for node in run.tree.nodes if not node.editable and node.reason}
    for search in searches:
        found |= search.refused
    for (path, *others), rows in RowTable(rows=tuple(run.ledger.known.values()), kind=run.options.score).by_nodes.items():
        if others or path in found or any(row.usable for row in rows):
            continue
        why = ", ".join(sorted({reason for row in rows for reason in row.reasons}))
        found[path] = f"no valid edit on {len({row.cell.image for row in rows})} images{f': {why}' if why else ''}"
    return tuple(Untestable(node=path, reason=reason) for path, reason in sorted(found.items()))
