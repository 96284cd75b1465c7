"""Blends of a subject's best words (specification 7.1, 7.3, 7.4, 7.6): where in their span the subject answers most, by its answers alone.

What a generator is told of a base prompt is moved along what each word changes in it, in whitened coordinates; CMA-ES or NES looks for
the best place, and its mean, never the luckiest sample, is the answer.  It reads as weights of words: 1 is a word as it is said.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int

from audit_plugin.core.protocols import Progress
from audit_plugin.core.seeds import digest, seed
from audit_plugin.methods.diffexplainer.asking import Answers
from audit_plugin.methods.diffexplainer.nes import nes_search
from audit_plugin.methods.diffexplainer.objective import LabelObjective, Objective, SearchResult, label_objective
from audit_plugin.methods.diffexplainer.options import MOST_CMA, SubspaceSearch
from audit_plugin.methods.diffexplainer.search import cma_search
from audit_plugin.methods.diffexplainer.word_search import Contexts, Kept

BASES = 64
"""Contexts among which the one is looked for that leaves most to the words."""
DIGITS = 4
"""Coordinates are rounded to so many, so that what is kept of them is found again."""
FEWEST = 2
"""Words without which there is nothing to blend."""
LEAST, GENERATIONS = 500, 20
"""Queries, and generations, that a further run of CMA-ES must be worth."""
TOLD = 0.1
"""Smaller weights are not told."""


class NoSpanError(Exception):
    """Why prompts cannot be blended, as its only argument."""


class Span(Protocol):
    """Blends of some prompts with a base."""

    @property
    def concepts(self) -> tuple[int, ...]:
        """Which of the prompts span it, d of them; the others say nothing new."""
        ...

    @property
    def basis(self) -> Float[np.ndarray, "d d"]:
        """Weights of these prompts = basis · vector."""
        ...

    def ask(self, vectors: Float[np.ndarray, "n d"], seeds: Sequence[int], looks: Sequence[int], what: str) -> Answers:
        """Draws a picture per (vector, seed) and asks about it as it is (look 0), or a little moved and lit (looks from 1), each once.

        Raises LimitReachedError when a budget is spent; what was made stays.
        """
        ...


SpanOf = Callable[[str, Sequence[str]], Span]
"""Of a base and prompts.  Raises NoSpanError."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Searched:
    """Where a search ended, or why there was none."""

    how: str = ""
    """``CMA-ES`` or ``NES``; empty where there was none."""
    text: str = ""
    """Its weights, and the prompt that they are on top of."""
    answers: Answers | None = None
    """On fresh seeds."""
    seeds: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    """Those with weights above 0, first those whose weight times their score alone is highest: weights of words that do nothing wander."""
    note: str = ""
    """Why there was none."""


@dataclass(frozen=True, kw_only=True)
class Searcher:
    """Searches the span of a subject's best words.  The same arguments give the same result and the same queries."""

    span: SpanOf
    search: SubspaceSearch
    name: str
    """Of the audit: all seeds follow from it."""
    verify: int
    """Pictures of an activation score."""
    progress: Progress = lambda *_: None

    def __call__(self, subject: str, column: int, contexts: Contexts, kept: Kept, *, graded: bool) -> Searched:
        """Of a subject by name and column.  ``graded``: whether its answers say more than labels.  Raises LimitReachedError."""
        base, words, prompts = spanned(contexts, kept, self._most(graded=graded))
        try:
            span = self._opened(base, prompts)
        except NoSpanError as error:
            return Searched(note=f"words were not blended: {error}")
        by_cma = self.search.by_cma(len(span.concepts), graded=graded)
        how = "CMA-ES" if by_cma else "NES"
        asking = _Asking(span, column, f"{how} for {subject}", self._budget(graded=graded), self.progress)
        found = self._found(asking, by_cma=by_cma, graded=graded, seeded=seed(self.name, f"subspace {subject}") % 2**32)
        vector, seeds = found.vector.round(DIGITS), [one.seed for one in contexts.plain(self.verify, "verify")]
        answers = span.ask(np.tile(vector, (len(seeds), 1)), seeds, [0] * len(seeds), f"pictures of the best blend for {subject}")
        weights = dict(zip((words[at] for at in span.concepts), (span.basis @ vector).tolist(), strict=True))
        told = sorted((word for word in weights if abs(weights[word]) >= TOLD), key=lambda word: -abs(weights[word]))
        alone = dict(zip((word.word for word in kept.words), kept.score, strict=True))
        return Searched(
            how=how,
            text=f'{", ".join(f"{word} {weights[word]:.1f}" for word in told) or "nothing"}, on top of "{base}"',
            answers=answers,
            seeds=tuple(seeds),
            words=tuple(sorted((word for word in told if weights[word] > 0), key=lambda word: -weights[word] * alone[word])),
        )

    def _opened(self, base: str, prompts: Sequence[str]) -> Span:
        if len(prompts) < FEWEST:
            raise NoSpanError(f"fewer than {FEWEST} of the words that were kept fit one prompt")
        span = self.span(base, prompts)
        if len(span.concepts) < FEWEST:
            raise NoSpanError(f"fewer than {FEWEST} words change what the generator is told")
        return span

    def _most(self, *, graded: bool) -> int:
        return self.search.dim if graded else min(self.search.dim, MOST_CMA)

    def _budget(self, *, graded: bool) -> int:
        return self.search.budget if graded else self.search.labels_budget

    def _found(self, asking: "_Asking", *, by_cma: bool, graded: bool, seeded: int) -> SearchResult:
        search, dim, budget = self.search, len(asking.span.concepts), self._budget(graded=graded)
        objective: Objective | LabelObjective = asking.scores
        if not graded:
            objective = label_objective(asking.hits, seeds=search.label_seeds, augmentations=search.augmentations)
        cost, draws = (objective.cost, 1) if isinstance(objective, LabelObjective) else (1, search.draws)
        # from the best word: at the base labels, and scores that a model is sure of, tell nothing of where to go
        start = np.linalg.solve(asking.span.basis, np.eye(dim)[0]).clip(-search.box, search.box)
        if not by_cma:
            return nes_search(
                objective,
                dim,
                seed=seeded,
                budget=budget,
                start=start,
                pairs=search.pairs,
                box=search.box,
                penalty=search.penalty,
                draws=draws,
                final=1,
            )
        return cma_search(
            objective,
            dim,
            seed=seeded,
            budget=budget,
            start=start,
            population=search.population,
            box=search.box,
            penalty=search.penalty,
            restarts=search.restarts,
            draws=draws,
            final=1,
            least=max(LEAST, GENERATIONS * search.generation * draws * cost),
        )


@dataclass(eq=False)
class _Asking:
    """One search's questions, as its objective."""

    span: Span
    column: int
    what: str
    budget: int
    progress: Progress
    asked: int = 0

    def scores(self, vectors: Float[np.ndarray, "n d"], seeds: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """Of an :data:`Objective`."""
        return self._told(vectors, seeds, np.zeros_like(seeds)).score[:, self.column]

    def hits(
        self, vectors: Float[np.ndarray, "n d"], seeds: Int[np.ndarray, "n"], looks: Int[np.ndarray, "n"]
    ) -> Bool[np.ndarray, "n"]:
        """Of :data:`Labels`."""
        return self._told(vectors, seeds, looks).taken[:, self.column]

    def _told(self, vectors: Float[np.ndarray, "n d"], seeds: Int[np.ndarray, "n"], looks: Int[np.ndarray, "n"]) -> Answers:
        told = self.span.ask(vectors.round(DIGITS), seeds.tolist(), looks.tolist(), f"pictures of {self.what}")
        self.asked += len(seeds)
        self.progress(min(self.asked, self.budget), self.budget, self.what)
        return told


def spanned(contexts: Contexts, kept: Kept, most: int) -> tuple[str, list[str], list[str]]:
    """A base prompt, the best words that change it, and the prompts with each of them.

    The base is the context that takes the best word, of those the one that takes the next, and so on: what it says already no word can add.
    """
    phrasing, words = contexts.phrasing, [word.word for word in kept.words]
    some = sorted(set(phrasing.contexts), key=lambda one: digest("base", contexts.name, one))[:BASES]
    told = [[phrasing.add(base, [word]) for word in words] for base in some]
    at = max(range(len(some)), key=lambda at: [said is not None and said != some[at] for said in told[at]])
    fitting = [(word, said) for word, said in zip(words, told[at], strict=True) if said is not None and said != some[at]][:most]
    return some[at], [word for word, _ in fitting], [said for _, said in fitting]
