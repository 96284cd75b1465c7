"""TIME with a loaded pipeline: images in, edited images out, by words that were learned for a deployed model's classes.

The model is asked what each image is, and then once per try.  Its labels are enough.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Int

from engines.conditioning import Conditioning
from engines.guided.asking import Ask, Counted
from engines.guided.canvas import Canvas, Pictures, whole_bytes
from engines.guided.class_tokens import speaking
from engines.guided.proposing import Proposal
from engines.guided.text_inversion import TextInversionOptions, text_inversion
from engines.guided.token_options import TokenOptions
from engines.pipeline import Pipeline
from engines.pipelines.wording import Rows


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassWords:
    """What was learned of one model: words for the look of all pictures, and for each class that it told apart."""

    look: Rows
    classes: Mapping[int, Rows]

    def of(self, column: int) -> Rows:
        """All words of a sentence about one class."""
        return tuple(torch.cat([look, own]) for look, own in zip(self.look, self.classes[column], strict=True))


@dataclass(frozen=True, eq=False, kw_only=True)
class TimeProposer:
    """A pipeline, and the words of one model's classes.  Not thread safe, as the pipeline is not."""

    pipeline: Pipeline
    learned: Callable[[frozenset[int]], ClassWords]
    """Words for some classes; those that too few pictures show may be missing."""
    sentences: TokenOptions = field(default_factory=TokenOptions)
    """As the words were learned."""
    options: TextInversionOptions = field(default_factory=TextInversionOptions)

    def propose(self, images: Pictures, targets: Sequence[int], ask: Ask) -> Proposal:
        """Edit images (RGB in [0, 1], of the pipeline's size) until the deployed model calls each its target.

        An image that has its target already, or whose class or target there are no words for, is left as it is; nothing is drawn at random.
        Raises UnsupportedPipelineError for a pipeline that takes no words.
        """
        speaking(self.pipeline)
        counted, goal = Counted(ask, len(images)), np.asarray(targets)
        rows = np.arange(len(images))
        whole = whole_bytes(images)
        np.add.at(counted.queries, rows, 1)
        given = ask(whole, rows).argmax(1) if len(images) else goal
        nothing = Proposal(
            images=whole,
            success=given == goal,
            free=np.zeros(len(images), bool),
            attempts=np.zeros(len(images), np.int64),
            network_rows=np.zeros(len(images), np.int64),
            queries=counted.queries,
            floor=whole,
        )
        todo = ~nothing.success
        if not todo.any():
            return nothing
        words = self.learned(frozenset(map(int, (*given[todo], *goal[todo]))))
        left = np.flatnonzero(todo & np.isin(given, list(words.classes)) & np.isin(goal, list(words.classes)))
        return self._edited(nothing, self._told(words), (given, goal), left, counted) if len(left) else nothing

    def _edited(
        self,
        found: Proposal,
        told: Mapping[int, Conditioning],
        classes: tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]],
        left: Int[np.ndarray, " m"],
        counted: Counted,
    ) -> Proposal:
        """``classes``: what the images are, and what they are to become; ``left``: which of them are edited."""
        canvas = Canvas(self.pipeline)
        made = text_inversion(
            self.pipeline.diffusion,
            canvas.encoded(found.images[left]),
            torch.from_numpy(classes[1][left]).to(self.pipeline.device),
            *(Conditioning.cat([told[column] for column in which[left].tolist()]) for which in classes),
            accept=counted.accept(left),
            decode=canvas.decoded if canvas.latent else None,
            options=self.options,
            batch=self.pipeline.batch,
        )
        images, success, attempts, network_rows = (
            each.copy() for each in (found.images, found.success, found.attempts, found.network_rows)
        )
        images[left], success[left] = made.images.cpu().numpy(), made.success.cpu().numpy()
        attempts[left] = made.attempts.cpu().numpy()
        network_rows[left] = [self.options.network_rows(int(each)) for each in attempts[left]]
        return replace(found, images=images, success=success, attempts=attempts, network_rows=network_rows, queries=counted.queries)

    def _told(self, words: ClassWords) -> dict[int, Conditioning]:
        """One sentence per class, each encoded alone, so that it does not depend on the others."""
        wording, sentence = speaking(self.pipeline), self.sentences.about_class(self.sentences.medium)
        with torch.no_grad():
            return {column: wording.encode([sentence], words.of(column)).to(self.pipeline.device) for column in words.classes}
