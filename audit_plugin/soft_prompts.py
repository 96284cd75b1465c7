"""Gradient mode of a discovery (specification 6): prompts that a class's own gradient asks for, what they say, and what their pictures show.

Everything here proposes: soft prompts by their nearest words, exchanges of words by first-order estimates, words that pictures of the class show
oftener than others.  What is told of them is measured on the server, by the same tests as words from elsewhere.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from audit_plugin.bank.prompted import PromptStudio
from audit_plugin.concepts.phrasing import CaptionForms, Phrasing
from audit_plugin.core.discovery_results import FoundPrompt
from audit_plugin.core.protocols import Images, Progress
from audit_plugin.core.seeds import digest, seed
from audit_plugin.hard_prompts import hard_prompts
from audit_plugin.methods.diffexplainer.asking import Answers
from audit_plugin.methods.diffexplainer.options import GradientSearch
from audit_plugin.methods.diffexplainer.run import Subject, pictures
from audit_plugin.methods.diffexplainer.units import Usual
from audit_plugin.methods.diffexplainer.word_bank import BankWord, plain
from audit_plugin.methods.diffexplainer.word_tests import estimate
from audit_plugin.statistics.words import PhraseLift, activation_score, phrase_lifts
from engines.guided.described import DescribeOptions, describe
from engines.guided.first_order import FirstOrderOptions, as_in, first_order
from engines.guided.gradient_path import picture
from engines.guided.hard_tokens import HardTokens
from engines.guided.hard_words import hard_prompt
from engines.guided.judge import Judge
from engines.guided.prompted import Prompted, prompted
from engines.guided.softprompt import Objective, of_class, soft_prompt
from engines.guided.softprompt_options import SoftPrompt, SoftPromptOptions

BATCH = 8
ENOUGH = 3
"""Updates in a row whose pictures are of the class."""
NEAR = 3
"""Words near every soft token that are proposed."""
NOISY = 0.65
"""Share of the timesteps from which on captions are compared: what a picture shows is decided where there is much noise."""
EXCHANGED = 4
"""Captions in which words are exchanged."""
EXCHANGE = FirstOrderOptions(glances=64, candidates=12, contexts=3)


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What pictures are to raise, by the model's own file."""

    objective: Objective
    enough: float
    """Its mean over an update's pictures, at which a search has arrived."""


def class_aim(judge: Judge, column: int, probability: float) -> Aim:
    """A class's log-probability."""
    return Aim(objective=of_class(judge, column), enough=math.log(probability))


def unit_aim(units: Judge, unit: int, usual: Usual, at: int) -> Aim:
    """A hidden unit's activation in standard deviations of what pictures usually give; ``at`` is its place in ``usual``."""
    mean, sd, high = (float(each[at]) for each in (usual.mean, usual.sd, usual.high))

    def objective(images: Tensor) -> Tensor:
        return (units(images)[:, unit] - mean) / sd

    return Aim(objective=objective, enough=(high - mean) / sd)


@dataclass(frozen=True, kw_only=True)
class SoftPrompts:
    """Looks for prompts of one model's classes and units."""

    audit: str
    lend: Callable[[], AbstractContextManager[Any]]
    errors: Callable[[], AbstractContextManager[None]]
    aims: Mapping[tuple[str, int], Aim]
    """Kind and column of a subject -> what the model's own file says of it, once that agreed with the server.  Others have no gradient."""
    phrasing: Phrasing
    studio: PromptStudio
    answers: Callable[[Sequence[str], str], Answers]
    """What the server says of stored pictures."""
    options: GradientSearch
    exclude: Sequence[str] = ()
    """Words that no gap is filled with: what would say the answer."""
    verify: int
    """Pictures of an activation score."""
    shown: int
    progress: Progress
    spent: dict[str, int] = field(default_factory=lambda: {"rows": 0, "gradients": 0})

    def hints(self, subject: Subject) -> Subject:
        """The subject with words and prompts that its gradient speaks for; as it is where there is none."""
        if (subject.kind, subject.column) not in self.aims:
            return subject
        with self.errors(), self.lend() as pipeline:
            # the one that is lent may be the only one: everything is drawn by it meanwhile
            here = replace(
                self, studio=replace(self.studio, draw=lambda: pipeline.generate), phrasing=subject.phrasing or self.phrasing
            )
            runs = [here.climbed(pipeline, subject, restart) for restart in range(self.options.restarts)]
            told, best = max(runs, key=lambda run: run[1].held_out)
            prompt, drawn = here.verified(told, best, subject)
            lifts = here.lifts(pipeline, drawn, subject)
            exchanged = here.exchanged(pipeline, subject)
            hard = here.hard(pipeline, subject)
            hard_prompts_told = [here.spoken(run.text, "hard tokens", subject) for run in hard]
        said = [word for run in runs for word in here.said(*run)]
        exchanged += [phrase for run in hard for word in run.words for phrase in here.phrases(word)]
        shown = [lift.phrase for lift in sorted(lifts, key=lambda one: -one.lift) if lift.found()]
        words = {plain(word): BankWord(word=word, source=source) for source, some in (("pictures", shown), ("prompt", [*exchanged, *said])) for word in reversed(some)}  # fmt: skip
        return replace(
            subject,
            hints=tuple(reversed(words.values())),
            prompts=(*subject.prompts, prompt, *hard_prompts_told),
            lifts={plain(lift.phrase): lift for lift in lifts},
        )

    def climbed(self, pipeline: Any, subject: Subject, restart: int) -> tuple[Prompted, SoftPrompt]:
        """One soft prompt, from the tokens of a caption where the generator understands captions, else from chance behind a prefix."""
        context, options = self._context(subject, restart), self.options
        if isinstance(self.phrasing, CaptionForms):
            told, start = prompted(pipeline, (0,)).caption(context)
        else:
            told, start = prompted(pipeline, (self._prefix(context), *range(options.soft_tokens))), None
        search = SoftPromptOptions(
            soft_tokens=told.slots,
            steps=options.steps,
            lr=options.lr,
            restarts=1,
            latents=options.latents,
            path=options.path,
            keep=options.keep,
            cutouts=options.cutouts,
            every=max(1, min(50, options.steps // 3)),
            verify=8,
        )

        counted = [0]
        reached, aim = deque[bool](maxlen=ENOUGH), self._aim(subject)

        def tell(update: Any) -> bool:
            self.spent["rows"] += update.network_rows - counted[0]
            self.spent["gradients"] += update.network_rows - counted[0]
            counted[0] = update.network_rows
            self.studio.allow(0)
            reached.append(update.activation > aim.enough)
            done = len(reached) == ENOUGH and all(reached)
            step = options.steps if done else update.step + 1
            self.progress(step, options.steps, f"soft prompt {restart + 1} of {options.restarts} for {subject.name}")
            return not done

        found = soft_prompt(
            told.generator,
            aim.objective,
            told.width,
            seed=seed(self.audit, f"soft {subject.name}", restart) % 2**32,
            table=told.vocabulary.table,
            start=start,
            options=search,
            go_on=tell,
        )
        self.spent["rows"] += found.network_rows - counted[0]
        self.spent["gradients"] += found.network_rows - counted[0]
        return told, found

    def _prefix(self, context: str) -> str:
        """What stands before soft tokens, where the phrasing puts words behind a context."""
        return (self.phrasing.add(context, ["thing"]) or context).removesuffix(" thing")

    def _aim(self, subject: Subject) -> Aim:
        return self.aims[subject.kind, subject.column]

    def _context(self, subject: Subject, restart: int) -> str:
        contexts = self.phrasing.contexts
        return contexts[int(digest("soft", self.audit, subject.name, str(restart))[:8], 16) % len(contexts)]

    def verified(self, told: Prompted, found: SoftPrompt, subject: Subject) -> tuple[FoundPrompt, "_Drawn"]:
        """The server's word on pictures of the soft prompt under fresh seeds; pictures are drawn once."""
        seeds = [seed(self.audit, "discovery verify", at) for at in range(self.verify)]
        name = digest("soft prompt", self.studio.fingerprint, repr(told.sentence), found.embeddings.numpy().tobytes().hex())
        recipes = [digest(name, str(one)) for one in seeds]
        known = self.studio.store.sound(recipes)
        todo = [at for at, recipe in enumerate(recipes) if recipe not in known]
        for start in range(0, len(todo), BATCH):
            self.studio.allow(0)
            rows = todo[start : start + BATCH]
            with torch.no_grad():
                made = picture(told.generator, found.embeddings, [seeds[at] for at in rows], count=self._count)
            known |= self.studio.keep(dict(zip([recipes[at] for at in rows], made.float().cpu().numpy(), strict=True)))
            self.progress(start + len(rows), len(todo), f"pictures of a soft prompt for {subject.name}")
        answers = self.answers([known[recipe].sha256 for recipe in recipes], "pictures of soft prompts")
        hard = hard_prompt(told, found.embeddings)
        return FoundPrompt(
            text=hard.text,
            how="soft prompt",
            activation=estimate(activation_score(answers.taken[:, subject.column])),
            pictures=pictures(answers, subject.column, seeds, self.shown),
        ), _Drawn(shas=answers.shas, taken=answers.taken[:, subject.column], seeds=tuple(seeds))

    def _count(self, rows: int) -> None:
        self.spent["rows"] += rows

    def said(self, told: Prompted, found: SoftPrompt) -> list[str]:
        """Phrases with a word near a soft token that is not the word the token began as."""
        begun = {piece for piece in told.sentence if isinstance(piece, str)}
        near = hard_prompt(told, found.embeddings, near=NEAR).near
        ranked = sorted((one for each in near for one in each if one.word not in begun), key=lambda one: -one.cosine)
        return [phrase for one in ranked for phrase in self.phrases(one.word)]

    def phrases(self, word: str) -> list[str]:
        """What says the word where prompts have a place for it."""
        if not isinstance(self.phrasing, CaptionForms):
            return [word]
        having = [phrase for phrase in self.phrasing.phrases if word in phrase.split()]
        return having if len(having) == 1 else [phrase for phrase in having if word == plain(phrase)]

    def exchanged(self, pipeline: Any, subject: Subject) -> list[str]:
        """Words that raise the class in the place of others, strongest first."""
        contexts = [self._context(subject, 100 + at) for at in range(EXCHANGED)]
        seeds = [seed(self.audit, "exchange", at) for at in range(3)]
        captions = list(
            dict.fromkeys(
                contexts if isinstance(self.phrasing, CaptionForms) else [f"{self._prefix(one)} a thing" for one in contexts]
            )
        )
        fits = as_in(self.phrasing.contexts) if isinstance(self.phrasing, CaptionForms) else None
        found = first_order(
            prompted(pipeline, (0,)),
            self._aim(subject).objective,
            captions,
            seeds,
            draw=lambda prompts, drawn: self._stored(prompts, drawn, subject),
            fits=fits,
            options=EXCHANGE,
            count=self._gradient,
        )
        return [phrase for one in found if one.gain > 0 for phrase in self.phrases(one.word)]

    def hard(self, pipeline: Any, subject: Subject) -> list[HardTokens]:
        """Runs that learn whole words; none unless they are asked for."""
        if not self.options.hard_tokens:
            return []
        return hard_prompts(
            pipeline,
            self._aim(subject).objective,
            self.phrasing,
            self._context(subject, 0),
            self.options,
            exclude=self.exclude,
            seed=seed(self.audit, f"hard {subject.name}") % 2**32,
            count=self._gradient,
            progress=lambda done, steps: self.progress(done, steps, f"hard tokens for {subject.name}"),
        )

    def spoken(self, text: str, how: str, subject: Subject) -> FoundPrompt:
        """The server's word on pictures of a text under fresh seeds."""
        seeds = [seed(self.audit, "discovery verify", at) for at in range(self.verify)]
        told = self.answers(
            self.studio.shas([text] * len(seeds), seeds, f"pictures of {how} for {subject.name}"), f"pictures of {how}"
        )
        return FoundPrompt(
            text=text,
            how=how,
            activation=estimate(activation_score(told.taken[:, subject.column])),
            pictures=pictures(told, subject.column, seeds, self.shown),
        )

    def _gradient(self, rows: int) -> None:
        self.studio.allow(0)
        self.spent["rows"] += rows
        self.spent["gradients"] += rows

    def _stored(self, prompts: Sequence[str], seeds: Sequence[int], subject: Subject) -> Images:
        return self.studio.images(self.studio.shas(prompts, seeds, f"exchanged words for {subject.name}"))

    def lifts(self, pipeline: Any, drawn: "_Drawn", subject: Subject) -> tuple[PhraseLift, ...]:
        """How much oftener pictures that the class is given to show a phrase than pictures of plain prompts under the same seeds."""
        accepted = [at for at, taken in enumerate(drawn.taken) if taken][: self.options.described]
        if not self.options.described or len(accepted) < 4:
            return ()
        contexts = self.phrasing.contexts
        plain_prompts = [contexts[int(digest("reference", self.audit, str(at))[:8], 16) % len(contexts)] for at in accepted]
        others = self.studio.shas(plain_prompts, [drawn.seeds[at] for at in accepted], "pictures of plain prompts")
        phrases, families = self._families()
        if not phrases:
            return ()
        shown = [
            self._presence(pipeline, self.studio.images(shas), phrases, families, f"what pictures of {subject.name} show")
            for shas in ([drawn.shas[at] for at in accepted], others)
        ]
        return phrase_lifts(phrases, shown[0], shown[1])

    def _families(self) -> tuple[list[str], list[tuple[list[str], list[int | None]]]]:
        """All phrases, and for each family that excludes one another its captions with the number of the phrase that each says (None: none)."""
        base, phrases, families = self.phrasing.contexts[0], list[str](), list[tuple[list[str], list[int | None]]]()
        forms = self.phrasing
        if not isinstance(forms, CaptionForms):
            return [], []
        for some in forms.exchanged:
            members = sorted(some)
            captions = [(one, said) for one in members if (said := forms.add(base, [one])) is not None]
            if len(captions) > 1:
                families.append(([said for _, said in captions], [len(phrases) + at for at in range(len(captions))]))
                phrases += [one for one, _ in captions]
        for one in sorted(forms.optional):
            without = forms.remove(base, one)
            said = forms.add(without, [one])
            if said is not None and said != without:
                families.append(([without, said], [None, len(phrases)]))
                phrases.append(one)
        return phrases, families

    def _presence(
        self,
        pipeline: Any,
        images: Images,
        phrases: Sequence[str],
        families: Sequence[tuple[list[str], list[int | None]]],
        what: str,
    ) -> Bool[np.ndarray, "n J"]:
        """Of each family the phrase whose caption explains the picture best."""
        found = np.zeros((len(images), len(phrases)), np.bool_)
        options = DescribeOptions(draws=self.options.looks, low=NOISY)
        for at, (captions, numbers) in enumerate(families):
            errors: Float[np.ndarray, "n k"] = describe(pipeline, images, captions, options=options)
            self._count(len(images) * options.network_rows(len(captions)))
            for row, best in enumerate(errors.argmin(1).tolist()):
                if (number := numbers[best]) is not None:
                    found[row, number] = True
            self.progress(at + 1, len(families), what)
        return found


@dataclass(frozen=True, eq=False, kw_only=True)
class _Drawn:
    """Pictures of a soft prompt."""

    shas: tuple[str, ...]
    taken: Bool[np.ndarray, "n"]
    seeds: tuple[int, ...]
