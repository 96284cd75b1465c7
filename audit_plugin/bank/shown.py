"""What studios of edits over real images share: the images at the editor's size, and what judges read in pictures; each is kept and read once."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from audit_plugin.bank.drafts import EditSource
from audit_plugin.bank.edit_store import EditStore, Reading, StoredEdit
from audit_plugin.core.protocols import ConceptDetector, Progress
from audit_plugin.core.seeds import digest
from audit_plugin.sources.images import encode_png, square, to_float

T = TypeVar("T")
READ = 64
"""Pictures that a judge or a classifier reads at once."""


def originals(store: EditStore, sources: Sequence[EditSource], size: int) -> list[str]:
    """sha256 of the images at the editor's size, stored as they are; in the order of ``sources``."""
    recipes = [digest("square", source.sha256, str(size)) for source in sources]
    known = store.sound(recipes)
    todo = {recipe: source for recipe, source in zip(recipes, sources, strict=True) if recipe not in known}
    for some in batched(todo.items(), READ):
        made = {
            recipe: StoredEdit(sha256=store.put(encode_png(square(source.load(), size), synthetic=False)), origin=source.sha256)
            for recipe, source in some
        }
        store.add(made)
        known |= made
    return [known[recipe].sha256 for recipe in recipes]


def readings(
    store: EditStore, judge: ConceptDetector, shas: Collection[str], progress: Progress = lambda *_: None
) -> dict[str, Reading]:
    """What an independent detector sees in stored pictures of one size; committed after every :data:`READ` of them."""
    found = store.readings(judge.fingerprint, shas)
    todo = sorted(set(shas) - found.keys())
    for at, some in enumerate(batched(todo, READ)):
        read = judge.read(to_float([store.pictures.pixels(sha) for sha in some]))
        new = {sha: {name: levels[at].tolist() for name, levels in read.items()} for at, sha in enumerate(some)}
        store.add_readings(judge.fingerprint, new)
        found |= new
        progress(min(len(todo), (at + 1) * READ), len(todo), "readings of pictures")
    return found


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in order, so many at a time."""
    left = iter(items)
    while some := list(islice(left, size)):
        yield some
