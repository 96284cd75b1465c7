"""From a configuration to a studio of edits: the tree, the images, the editor over a loaded generator, and what is remembered of it."""

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from audit_plugin.bank.asks import PHRASE, Asking, concept_nodes, with_nodes
from audit_plugin.bank.drafts import Drafting, EditSource, exact
from audit_plugin.bank.edit_store import edit_store
from audit_plugin.bank.judging import Judging
from audit_plugin.bank.panel import Panel
from audit_plugin.bank.pictures import storage
from audit_plugin.bank.pilot import Limit, Pilot, keep_pilot, known_pilot, pilot_key, run_pilot
from audit_plugin.bank.studio import Studio
from audit_plugin.concepts.default_tree import default_tree
from audit_plugin.concepts.phrasing import CaptionForms
from audit_plugin.concepts.questions import VisionAnswers
from audit_plugin.concepts.schema import ConceptSet
from audit_plugin.concepts.tree_io import read_tree
from audit_plugin.config import DiffexConfig, Loaded, ShortcutConfig
from audit_plugin.core.editing import EditAsk, EditedImages, Editor, Original
from audit_plugin.core.protocols import ConceptDetector, Images, Progress
from audit_plugin.core.seeds import digest
from audit_plugin.core.tree import ConceptTree, Node, NodeKind
from audit_plugin.discovered import discovered_file, phrasing_of_generator, with_probes
from audit_plugin.perception.image_text import ImageTextJudge, prompts_of
from audit_plugin.perception.image_text_models import open_image_text
from audit_plugin.perception.lpips import open_perceptual
from audit_plugin.perception.quality import QualityFilter
from audit_plugin.perception.safety import SafetyFilter
from audit_plugin.sources.images import read_image

LOCK_NAME = "tree.lock.json"
_KEPT_INVERSIONS = 256
"""Images whose inversions are held in memory."""

Lend = Callable[[], AbstractContextManager[Any]]
"""A pipeline for one thread, for as long as the context lasts."""


@dataclass(eq=False)
class PipelineEditor:
    """Edits by a loaded generator, on as many threads as it has pipelines.  Implements :class:`audit_plugin.core.editing.Editor`."""

    lend: Lend
    workers: int
    operator: str
    skip: float
    errors: Callable[[], AbstractContextManager[None]]
    """Maps what engines raise."""
    shelf: Path | None = None
    """Where inversions are kept for later runs; None: nowhere."""
    shelf_bytes: int = 0
    """Most that they take there."""
    _kept: "OrderedDict[str, Any]" = field(default_factory=OrderedDict, init=False)
    _lock: Lock = field(default_factory=Lock, init=False)
    _rows: int = field(default=0, init=False)

    @cached_property
    def _told(self) -> tuple[str, str]:
        with self.errors(), self.lend() as pipeline:
            editor = self._editor(pipeline)
            return editor.name, editor.fingerprint

    @property
    def name(self) -> str:
        """Of the operator that is used."""
        return self._told[0]

    @property
    def fingerprint(self) -> str:
        """Of weights, operator and settings."""
        return self._told[1]

    def refusal(self, node: Node) -> str:
        """Captions are what it is told."""
        return "" if node.operator == "diffusion" else "this generator is told captions, not attributes; give the node a prompt"

    def rows_spent(self) -> int:
        """Network rows evaluated so far."""
        return self._rows

    def null(self, originals: Sequence[Original], images: Images) -> Images:
        """The images through the editor, with nothing asked for."""

        def some(editor: Any, rows: slice) -> EditedImages:
            return self._made(editor, originals[rows], images[rows], [])

        return self._shared(len(originals), some).images

    def edit(self, originals: Sequence[Original], images: Images, asks: Sequence[Sequence[EditAsk]]) -> EditedImages:
        """Every image with its terms; strengths and signs are those of the first image's."""

        def some(editor: Any, rows: slice) -> EditedImages:
            return self._made(editor, originals[rows], images[rows], asks[rows])

        return self._shared(len(originals), some)

    def _shared(self, images: int, work: Callable[[Any, slice], EditedImages]) -> EditedImages:
        """The work in as many parts as there are pipelines, side by side."""
        count = min(self.workers, images)
        ends = np.linspace(0, images, count + 1).astype(int).tolist()

        def one(rows: slice) -> EditedImages:
            with self.errors(), self.lend() as pipeline:
                return work(self._editor(pipeline), rows)

        with ThreadPoolExecutor(count) as pool:
            parts = list(pool.map(one, [slice(a, b) for a, b in pairwise(ends)]))
        masks = [part.masks for part in parts if part.masks is not None]
        return EditedImages(np.concatenate([part.images for part in parts]), np.concatenate(masks) if masks else None)

    def _made(self, editor: Any, originals: Sequence[Original], images: Images, asks: Sequence[Sequence[EditAsk]]) -> EditedImages:
        from engines.editing.editor import NamedTerm

        kept = self._inverted(editor, originals, images)
        terms = [
            NamedTerm(
                wanted=[ask.target for ask in column], scale=column[0].scale, sign=column[0].sign, threshold=column[0].threshold
            )
            for column in zip(*asks, strict=True)
        ]
        made = editor.edit(kept, terms)
        with self._lock:
            self._rows += made.rows
        return EditedImages(made.images, made.masks.max(1) if made.masks.shape[1] else None)

    def _inverted(self, editor: Any, originals: Sequence[Original], images: Images) -> Any:
        """Inversions of these images; those that are held, in memory or on disk, are not made again."""
        from engines.editing.inversion import Inversion

        shape = "x".join(map(str, images.shape[1:]))
        keys = [digest(editor.fingerprint, one.sha256, str(one.seed), one.caption, shape) for one in originals]
        with self._lock:
            held = {key: self._kept.pop(key) for key in keys if key in self._kept}
            self._kept |= held  # those that were used last stand last
        shelf = self._shelf
        if shelf is not None:
            held |= {key: kept for key in dict.fromkeys(keys) if key not in held and (kept := shelf.get(key)) is not None}
        todo = [at for at, key in enumerate(keys) if key not in held and key not in keys[:at]]
        if todo:
            captions = [originals[at].caption for at in todo]
            source = captions if any(captions) else None
            made = editor.invert(images[todo], [originals[at].seed for at in todo], source)
            for place, at in enumerate(todo):
                held[keys[at]] = made[place : place + 1]
            if shelf is not None and isinstance(made, Inversion):
                for at in todo:
                    shelf.put(keys[at], held[keys[at]])
                shelf.collect()
        with self._lock:
            self._rows += len(todo) * editor.rows_per_inversion
            self._kept |= held
            while len(self._kept) > _KEPT_INVERSIONS:
                self._kept.popitem(last=False)
        first = held[keys[0]]
        return type(first).cat([held[key] for key in keys])

    @cached_property
    def _shelf(self) -> Any:
        from engines.editing.shelf import InversionShelf

        return None if self.shelf is None else InversionShelf(self.shelf, self.shelf_bytes)

    def _editor(self, pipeline: Any) -> Any:
        from engines.editing.editor import latent_editor

        return latent_editor(pipeline, self.operator, skip=self.skip)  # type: ignore[arg-type]  # checked by the configuration


@dataclass(eq=False)
class RememberedEditor:
    """An editor that is loaded when something must be drawn; until then what it was called is enough."""

    name: str
    fingerprint: str
    open: Callable[[], Editor]

    @cached_property
    def _editor(self) -> Editor:
        return self.open()

    def refusal(self, node: Node) -> str:
        """As the editors of captions say."""
        return PipelineEditor.refusal(self, node)  # type: ignore[arg-type]  # asks nothing of the object

    def rows_spent(self) -> int:
        """None, until it is loaded."""
        return self._editor.rows_spent() if "_editor" in self.__dict__ else 0

    def null(self, originals: Sequence[Original], images: Images) -> Images:
        """As the editor does."""
        return self._editor.null(originals, images)

    def edit(self, originals: Sequence[Original], images: Images, asks: Sequence[Sequence[EditAsk]]) -> EditedImages:
        """As the editor does."""
        return self._editor.edit(originals, images, asks)


def remembered_editor(note: Path, settings: str, open_editor: Callable[[], Editor]) -> Editor | None:
    """The editor that was used before with these settings, not loaded yet; None where there was none."""
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        same = found["settings"] == settings
        return RememberedEditor(str(found["name"]), str(found["fingerprint"]), open_editor) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def known_editor(note: Path, settings: str, open_editor: Callable[[], Editor]) -> Editor:
    """The editor that was used before with these settings, not loaded yet; a new one is loaded now and remembered.

    Raises BankError where that cannot be written.
    """
    if (found := remembered_editor(note, settings, open_editor)) is not None:
        return found
    editor = open_editor()
    told = {"settings": settings, "name": editor.name, "fingerprint": editor.fingerprint}
    with storage(str(note)):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return editor


def audited_tree(loaded: Loaded, classes: Sequence[str], *, generative: bool) -> ConceptTree:
    """The configured tree, the configured concepts as nodes of it, and the deterministic part of the default tree.

    Without an editor the generative nodes of the default tree are left out: a user's own stay, and are reported as untestable.
    """
    options = loaded.config.diffex
    if options is None:
        raise ValueError("no tree is asked about")
    empty = ConceptTree(domain=options.domain or loaded.config.audit, nodes=())
    tree = read_tree(Path(options.tree), domain=options.domain) if options.tree else empty
    concept_set = loaded.document.concept_set if loaded.described else None
    if options.concepts and concept_set is not None and generative:
        tree = with_nodes(tree, concept_nodes(concept_set))
    if options.default:
        default = default_tree(tree.domain, classes)
        holders = {part for node in default.nodes if exact(node) for part in _above(node.path)}
        tree = with_nodes(tree, [node for node in default.nodes if exact(node) or (node.path in holders and not node.editable)])
    if generative and (found := discovered_file(loaded)).is_file():
        tree = with_nodes(tree, read_tree(found).nodes)
    return tree


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def open_studio(
    loaded: Loaded,
    sources: Sequence[EditSource],
    classes: Sequence[str],
    *,
    editor: Editor | None,
    size: int | None,
    detector: ConceptDetector | None,
    progress: Progress,
) -> Studio:
    """The studio of an audit, its strengths found by a pilot or read from the lock file beside the bank."""
    studio = plain_studio(loaded, sources, classes, editor=editor, size=size, detector=detector, progress=progress)
    return piloted(loaded, studio, progress=progress)[0]


def plain_studio(
    loaded: Loaded,
    sources: Sequence[EditSource],
    classes: Sequence[str],
    *,
    editor: Editor | None,
    size: int | None,
    detector: ConceptDetector | None,
    progress: Progress,
    tasks: Sequence[Sequence[str]] = (),
) -> Studio:
    """The studio of an audit, before strengths are known; ``tasks``: the classes of every label column, all in one by default."""
    config, options = loaded.config, loaded.config.diffex
    if options is None:
        raise ValueError("no tree is asked about")
    concept_set: ConceptSet | None = loaded.document.concept_set if loaded.described else None
    tree = audited_tree(loaded, classes, generative=editor is not None)
    panel = open_panel(options, tree, tasks or [classes]) if editor is not None else Panel()
    detector, probed = with_probes(detector, loaded, tree) if editor is not None else (detector, {})
    own = {} if concept_set is None else {concept.name: concept.levels for concept in concept_set.concepts}
    placed = editor is not None and any(PHRASE in node.params for node in tree.editable)
    forms = phrasing_of_generator(loaded, ()) if placed else None
    asking = Asking(
        concept_set,
        tree.base_caption,
        readable={**own, **probed} if probed else None,
        sentences=panel.sentences is not None,
        questions=panel.questions is not None,
        forms=forms if isinstance(forms, CaptionForms) else None,
    )
    return Studio(
        drafting=Drafting(
            audit=config.audit,
            tree=tree,
            sources={source.image: source for source in sources},
            editor=editor,
            size=size,
            asking=asking,
            judged=detector is not None,
        ),
        judging=Judging(
            asking=asking,
            kinds=concept_kinds(concept_set),
            limits=options.validity,
            protected=tuple(node for node in tree.editable if node.kind is NodeKind.PROTECTED and not exact(node)),
            perceptual=panel.perceptual is not None,
        ),
        store=edit_store(config.bank.path, config.bank.images),
        detector=detector,
        panel=panel,
        quality=QualityFilter(None).reasons,
        batch=config.generator.batch if config.generator is not None else 16,
        progress=progress,
    )


def open_panel(options: DiffexConfig, tree: ConceptTree, tasks: Sequence[Sequence[str]]) -> Panel:
    """The judges that the configuration names, beside the detector.  Raises DetectorError where one cannot be used."""
    judge = options.judge
    sentences = (
        None
        if judge is None
        else ImageTextJudge(open_image_text(judge.path), prompts_of(tree, tasks, judge.class_text, judge.class_names))
    )
    return Panel(
        sentences=sentences,
        safety=SafetyFilter(options.safety) if options.safety else None,
        questions=None if options.vision is None else VisionAnswers(options.vision),
        perceptual=None if options.perceptual is None else open_perceptual(options.perceptual),
    )


def piloted(loaded: Loaded, studio: Studio, *, progress: Progress, limit: Limit = lambda _: "") -> tuple[Studio, str]:
    """The studio with strengths, found by a pilot or read from the lock file beside the bank; and which limit ended the pilot early."""
    options = loaded.config.diffex
    if options is None:
        raise ValueError("no tree is asked about")
    path, found = Path(loaded.config.bank.path) / LOCK_NAME, known_strengths(loaded, studio)
    if found is None:
        found = run_pilot(studio, pilot_images(loaded, studio), scales=options.scales, progress=progress, limit=limit)
        if not found.stopped:
            keep_pilot(path, found)
    return studio.settled(found.applied(studio.tree), found.strengths), found.stopped


def known_strengths(loaded: Loaded, studio: Studio) -> Pilot | None:
    """What a pilot of this studio has found; None where there was none."""
    scales = () if loaded.config.diffex is None else loaded.config.diffex.scales
    return known_pilot(Path(loaded.config.bank.path) / LOCK_NAME, pilot_key(studio, scales))


def pilot_images(loaded: Loaded, studio: Studio) -> list[str]:
    """Images on which strengths are found, by the audit's name."""
    count = 0 if loaded.config.diffex is None else loaded.config.diffex.pilot_images
    return sorted(studio.sources, key=lambda image: digest(studio.drafting.audit, "pilot", image))[:count]


@dataclass(frozen=True)
class PipelineFlips:
    """Flips by a loaded generator, guided by an ONNX classifier.  Implements :class:`audit_plugin.bank.flips.FlipMaker`."""

    lend: Lend
    guide: Path
    size: int
    """Side of the images that the guide reads."""
    asked: ShortcutConfig
    errors: Callable[[], AbstractContextManager[None]]
    """Maps what engines raise."""

    def flip(
        self, images: Images, seeds: Sequence[int], targets: Sequence[int], output: str, others: Sequence[str]
    ) -> tuple[Images, Any]:
        """As :meth:`engines.guided.flips.Flipper.flip`."""
        with self.errors(), self.lend() as pipeline:
            made: tuple[Images, Any] = self._flipper(pipeline).flip(images, seeds, targets, output, others)
            return made

    def floor(self, images: Images, seeds: Sequence[int]) -> Images:
        """As :meth:`engines.guided.flips.Flipper.floor`."""
        with self.errors(), self.lend() as pipeline:
            made: Images = self._flipper(pipeline).floor(images, seeds)
            return made

    def _flipper(self, pipeline: Any) -> Any:
        from engines.guided.flips import Flipper, FlipPlan

        plan = FlipPlan(kept=self.asked.kept, signal=self.asked.signal, scales=self.asked.scales, held=self.asked.held)
        return Flipper(pipeline=pipeline, guide=self.guide, size=self.size, plan=plan)


def concept_kinds(concept_set: ConceptSet | None) -> dict[str, NodeKind]:
    """Concept of the detector -> what it is to the task."""
    return {} if concept_set is None else {concept.name: NodeKind(concept.role.value) for concept in concept_set.concepts}


def sources_of(rows: Sequence[Any], shas: dict[str, str], *, described: bool) -> list[EditSource]:
    """The audited rows as images to edit; rows without an image are left out."""
    return [
        EditSource(
            image=row.id,
            sha256=shas[row.id],
            load=partial(read_image, row.image),
            values=row.values if described else None,
            rest=row.rest,
        )
        for row in rows
        if row.id in shas
    ]
