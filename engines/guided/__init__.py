"""Edits of real images that a classifier guides: by its gradient, or by its scores alone; and prompts found by its gradient."""

from engines.guided.ace import AceOptions, ace
from engines.guided.chain import Chain, depth_at, kept_steps
from engines.guided.dvce import DvceOptions, dvce
from engines.guided.edits import Accept, GuidedEdits
from engines.guided.ensemble import EnsembleOptions, ensemble
from engines.guided.fastdime import fastdime, unguided
from engines.guided.gradient_path import PromptedGenerator
from engines.guided.judge import Judge, Likeness, OnnxJudge, judge_of, log_odds, runner_up, same_answers
from engines.guided.maskdime import MaskDimeOptions, maskdime
from engines.guided.options import DIME, FastDimeOptions
from engines.guided.particles import Editing, Found, Told, free_pass
from engines.guided.softprompt import of_class, soft_prompt
from engines.guided.softprompt_options import SoftPrompt, SoftPromptOptions

__all__ = [
    "DIME",
    "Accept",
    "AceOptions",
    "Chain",
    "DvceOptions",
    "Editing",
    "EnsembleOptions",
    "FastDimeOptions",
    "Found",
    "GuidedEdits",
    "Judge",
    "Likeness",
    "MaskDimeOptions",
    "OnnxJudge",
    "PromptedGenerator",
    "SoftPrompt",
    "SoftPromptOptions",
    "Told",
    "ace",
    "depth_at",
    "dvce",
    "ensemble",
    "fastdime",
    "free_pass",
    "judge_of",
    "kept_steps",
    "log_odds",
    "maskdime",
    "of_class",
    "runner_up",
    "same_answers",
    "soft_prompt",
    "unguided",
]
