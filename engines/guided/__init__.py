"""Edits of real images that a classifier guides: by its gradient, or by its scores alone; and prompts found by its gradient."""

from engines.guided.ace import AceOptions, ace
from engines.guided.breeding import EvolutionOptions
from engines.guided.chain import Chain, depth_at, kept_steps
from engines.guided.dvce import DvceOptions, dvce
from engines.guided.edits import Accept, GuidedEdits
from engines.guided.ensemble import EnsembleOptions, ensemble
from engines.guided.evolution import evolution
from engines.guided.fastdime import fastdime, unguided
from engines.guided.gradient_path import PromptedGenerator
from engines.guided.handles import Handle, LowFrequency, handle_evolution
from engines.guided.judge import Judge, Likeness, OnnxJudge, judge_of, log_odds, runner_up, same_answers
from engines.guided.ldce import LdceOptions, ldce
from engines.guided.maskdime import MaskDimeOptions, maskdime
from engines.guided.options import DIME, FastDimeOptions
from engines.guided.particles import Editing, Found, Told, free_pass
from engines.guided.softprompt import of_class, soft_prompt
from engines.guided.softprompt_options import SoftPrompt, SoftPromptOptions
from engines.guided.steering import SteeringOptions, feynman_kac, greedy
from engines.guided.text_inversion import TextInversionOptions, text_inversion

__all__ = [
    "DIME",
    "Accept",
    "AceOptions",
    "Chain",
    "DvceOptions",
    "Editing",
    "EnsembleOptions",
    "EvolutionOptions",
    "FastDimeOptions",
    "Found",
    "GuidedEdits",
    "Handle",
    "Judge",
    "LdceOptions",
    "Likeness",
    "LowFrequency",
    "MaskDimeOptions",
    "OnnxJudge",
    "PromptedGenerator",
    "SoftPrompt",
    "SoftPromptOptions",
    "SteeringOptions",
    "TextInversionOptions",
    "Told",
    "ace",
    "depth_at",
    "dvce",
    "ensemble",
    "evolution",
    "fastdime",
    "feynman_kac",
    "free_pass",
    "greedy",
    "handle_evolution",
    "judge_of",
    "kept_steps",
    "ldce",
    "log_odds",
    "maskdime",
    "of_class",
    "runner_up",
    "same_answers",
    "soft_prompt",
    "text_inversion",
    "unguided",
]
