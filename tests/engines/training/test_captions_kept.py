"""Captions beside the weights, for whoever asks later what a generator understands."""

import random

from engines.training.write import MOST_CAPTIONS, sample_captions


def test_different_captions_are_kept_once_in_alphabetical_order():
    assert sample_captions(["b  dog ", "a dog", "b dog", "", "  "]) == ["a dog", "b dog"]


def test_many_are_chosen_alike_in_any_order():
    """Every word of ten that captions end with is still there, though it stands at every tenth place."""
    every = [f"scene {at // 10:03} with {'abcdefghij'[at % 10]}" for at in range(5000)]
    kept = sample_captions(every)
    assert kept == sample_captions(random.Random(0).sample(every, len(every)))
    assert len(set(kept)) == MOST_CAPTIONS
    assert {caption[-1] for caption in kept} == set("abcdefghij")
    assert sample_captions(every, 3) == sorted(sample_captions(every, 3))
    assert set(sample_captions(every, 3)) <= set(kept)
