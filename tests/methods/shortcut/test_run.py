"""The protocol on scenes: an editor that re-renders, a guide and an oracle that read without error, models whose use is known."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.bank.edit_store import edit_store
from audit_plugin.bank.flips import FlipStudio
from audit_plugin.core.shortcut_results import ShortcutVerdict
from audit_plugin.demo.renderer import SCENES
from audit_plugin.methods.shortcut import ShortcutOptions, run_shortcut
from audit_plugin.methods.shortcut.run import Known, Suspicion
from audit_plugin.sources.images import to_float, to_uint8
from tests.bank.edit_world import KINDS, NUMBERS, SceneJudge, scene, sources

MANY = 12
OPTIONS = ShortcutOptions(least=5, resamples=200)
SUSPICION = Suspicion(concept="ruler", level="present", control="lighting", control_level="dim")


class Renderer:
    """Flips by drawing the scene again; its own picture is off by one grey level, as an editor's is."""

    def __init__(self, drags=None):
        self.drags, self.made, self.calls = drags or {}, [], 0
        self.known = {scene(at, source.values).tobytes(): (at, source.values) for at, source in enumerate(sources(MANY).values())}
        for picture, values in ((scene(*known), known[1]) for known in self.known.values()):
            self.made.append((picture, values))

    def flip(self, images, _seeds, targets, output, others):
        self.calls += 1
        name = output.removeprefix("concept/")
        assert f"concept/{name}" not in others
        drawn = []
        for image, target in zip(to_uint8(images), targets, strict=True):
            at, values = self.known[image.tobytes()]
            changed = list(values)
            changed[NUMBERS[name]] = target
            if name in self.drags:
                other = NUMBERS[self.drags[name]]
                changed[other] = (changed[other] + 1) % len(SCENES.concepts[other].levels)
            drawn.append(self._kept(at, tuple(changed)))
        return to_float(drawn), np.ones(len(drawn), bool)

    def floor(self, images, _seeds):
        self.calls += 1
        return to_float([self._kept(*self.known[image.tobytes()]) for image in to_uint8(images)])

    def _kept(self, at, values):
        picture = scene(at, values)
        picture = np.where(picture < 255, picture + 1, picture).astype(np.uint8)
        self.made.append((picture, values))
        return picture


def studio(root, editor):
    return FlipStudio(
        audit="demo",
        key="renderer",
        sources=tuple(sources(MANY).values()),
        concepts=SCENES.concepts,
        kinds=KINDS,
        maker=lambda: editor,
        guide=SceneJudge(editor.made, fingerprint="guide"),
        oracle=SceneJudge(editor.made, fingerprint="oracle"),
        size=64,
        store=edit_store(root),
        batch=5,
    )


def asking(made, weights):
    """A model that adds up what it sees: concept -> weight of its last level."""

    def ask(made_by, shas):
        answers = {}
        for sha in shas:
            pixels = made_by.store.pictures.pixels(sha)
            (values,) = [values for picture, values in made if picture.tobytes() == pixels.tobytes()][:1]
            p = 0.2 + sum(weight * (values[NUMBERS[name]] == 1) for name, weight in weights.items())
            answers[sha] = np.array([1 - p, p])
        return answers

    return ask


def told(root, weights, editor=None, **changes):
    editor = editor or Renderer()
    place = studio(root, editor)
    ask = asking(editor.made, weights)
    return run_shortcut(
        place, lambda shas: ask(place, shas), SUSPICION, Known(column=1), seed="s", options=replace(OPTIONS, **changes)
    )


@pytest.mark.parametrize(("weight", "verdict"), [(0.5, ShortcutVerdict.SHORTCUT), (0.0, ShortcutVerdict.NONE)])
def test_a_planted_shortcut_is_found_and_no_other(tmp_path, weight, verdict):
    found = told(tmp_path, {"ruler": weight})
    assert found.verdict is verdict
    assert found.effects.mad.value == pytest.approx(weight)
    assert (found.counts.verified, found.counts.with_floor, found.counts.with_irrelevant) == (MANY, MANY, MANY)
    assert (found.concept, found.level, found.irrelevant) == ("ruler", "present", "lighting")


def test_both_directions_are_flipped(tmp_path):
    """Losing the ruler lowers the score, gaining it raises it."""
    found = told(tmp_path, {"ruler": 0.5})
    assert found.counts.with_shortcut == MANY // 2
    assert (found.effects.md_with.value, found.effects.md_without.value) == pytest.approx((0.5, -0.5))


def test_a_flip_that_drags_the_object_along_has_leaked(tmp_path):
    """The model looks at the shape alone; the ruler's flips change it as well, and so show nothing."""
    core = next(name for name, kind in KINDS.items() if kind == "core")
    found = told(tmp_path, {core: 0.5}, Renderer(drags={"ruler": core}))
    assert found.verdict is ShortcutVerdict.INSUFFICIENT
    assert (found.counts.leaked, found.counts.verified) == (MANY, 0)


def test_what_was_made_is_not_made_again(tmp_path):
    editor = Renderer()
    first = told(tmp_path, {"ruler": 0.5}, editor)
    calls = editor.calls
    assert calls == 9  # three kinds of picture, three batches each
    assert told(tmp_path, {"ruler": 0.5}, editor) == first
    assert editor.calls == calls


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    class Killed(Renderer):
        def flip(self, *args):
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().flip(*args)

    killed = Killed()
    with pytest.raises(KeyboardInterrupt):
        told(tmp_path, {"ruler": 0.5}, killed)
    editor = Renderer()
    editor.made.extend(killed.made)
    found = told(tmp_path, {"ruler": 0.5}, editor)
    assert editor.calls == 7
    assert found.verdict is ShortcutVerdict.SHORTCUT


def test_pictures_go_from_the_smallest_change_to_the_largest(tmp_path):
    found = told(tmp_path, {"ruler": 0.5})
    assert [one.percentile for one in found.pictures] == [0, 25, 50, 75, 90, 100]
    assert len({one.image for one in found.pictures}) == 6
    assert all(abs(abs(one.before - one.after) - 0.5) < 1e-9 and one.floor == one.before for one in found.pictures)
