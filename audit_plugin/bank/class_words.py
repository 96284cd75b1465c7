"""Words for the classes of one deployed model, learned once per (editor, model version, class) and kept beside the bank's pictures.

The model sorts reference images, one query each, and is remembered to have done so.  No label but its own is needed.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from audit_plugin.bank.drafts import EditSource
from audit_plugin.bank.edit_store import EditStore
from audit_plugin.core.protocols import Images, Progress, Scores
from audit_plugin.core.seeds import digest
from audit_plugin.sources.images import square, to_float

LEAST_IMAGES = 4
"""Reference images of a class without which nothing is learned about it: images of such classes are left as they are."""
FOLDER = "words"
_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class ClassWordShelf:
    """The words of one model version."""

    store: EditStore
    editor: str
    """Fingerprint of who draws."""
    model: str
    """Name and version."""
    labels: Sequence[str]
    predict: Callable[[Images], Scores]
    sources: Sequence[EditSource]
    """The reference set."""
    size: int
    iterations: int
    sentence: str = "a {look} {medium} with a {class}"
    progress: Progress = field(default=lambda *_: None)

    @property
    def key(self) -> str:
        """Changes whenever other words would be learned; known without asking the model."""
        return digest(self._seen, self.model, self.sentence)

    @property
    def _seen(self) -> str:
        """Of what is learned from, whatever the model."""
        return digest(self.editor, str(self.size), str(self.iterations), *(source.sha256 for source in self.sources))

    @cached_property
    def given(self) -> tuple[int, ...]:
        """Class of each reference image as the model answers it; each is asked once per version."""
        judge, keys = f"class {self.model}", [digest("square", source.sha256, str(self.size)) for source in self.sources]
        known = self.store.readings(judge, keys)
        todo = [at for at, key in enumerate(keys) if key not in known]
        for start in range(0, len(todo), _AT_ONCE):
            some = todo[start : start + _AT_ONCE]
            told = self.predict(self._pictures([self.sources[at] for at in some])).argmax(1)
            new = {keys[at]: {"class": [float(column)]} for at, column in zip(some, told, strict=True)}
            self.store.add_readings(judge, new)
            known |= new
            self.progress(start + len(some), len(todo), "classes of reference images")
        return tuple(int(known[key]["class"][0]) for key in keys)

    def learned(self, pipeline: Any, columns: frozenset[int]) -> Any:
        """An :class:`engines.guided.proposing_time.ClassWords` for those of the classes that enough reference images show."""
        from engines.guided.class_tokens import learn_class, learn_look, show
        from engines.guided.proposing_time import ClassWords

        seen = Counter(self.given)
        shown = show(pipeline, self._batches, len(self.sources), self._seen)
        look = learn_look(
            pipeline, shown, options=self.options, file=self._file("look"), on_iteration=self._told("words for all images")
        )
        classes = {}
        for column in sorted(column for column in columns if seen[column] >= LEAST_IMAGES):
            label = self.labels[column]
            classes[column] = learn_class(
                pipeline,
                shown.some([at for at, given in enumerate(self.given) if given == column]),
                look.rows,
                label.replace("_", " "),
                options=self.options,
                file=self._file("class", self.model, label, self.sentence),
                on_iteration=self._told(f"words for class {label}"),
            ).rows
        return ClassWords(look=look.rows, classes=classes)

    @property
    def options(self) -> Any:
        """The :class:`engines.guided.token_options.TokenOptions`."""
        from engines.guided.token_options import TokenOptions

        return TokenOptions(iterations=self.iterations, sentence=self.sentence)

    def _file(self, *name: str) -> Path:
        return self.store.root / FOLDER / f"{digest(self._seen, *name)}.safetensors"

    def _told(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self.progress(done, total, what)

    def _batches(self) -> Iterator[Images]:
        return (self._pictures(self.sources[at : at + _AT_ONCE]) for at in range(0, len(self.sources), _AT_ONCE))

    def _pictures(self, sources: Sequence[EditSource]) -> Images:
        return to_float([square(source.load(), self.size) for source in sources])
