"""Procedural scenes with known truth: 64x64 pictures from a seed and a vector of concepts."""

from audit_plugin.sources.scenes.law import SceneLaw, Tie, draw_values
from audit_plugin.sources.scenes.render import render, render_many
from audit_plugin.sources.scenes.world import CONCEPTS, PLACEBO_WORDS, SIZE, TEMPLATE, caption

__all__ = ["CONCEPTS", "PLACEBO_WORDS", "SIZE", "TEMPLATE", "SceneLaw", "Tie", "caption", "draw_values", "render", "render_many"]
