"""Edits of real images guided by the gradient of a classifier of ours, at clean estimates: the network that denoises gives no gradients."""

from engines.guided.chain import Chain, depth_at, kept_steps
from engines.guided.dvce import DvceOptions, dvce
from engines.guided.edits import Accept, GuidedEdits
from engines.guided.fastdime import fastdime, unguided
from engines.guided.judge import Judge, Likeness, OnnxJudge, judge_of, log_odds, runner_up, same_answers
from engines.guided.options import DIME, FastDimeOptions

__all__ = [
    "DIME",
    "Accept",
    "Chain",
    "DvceOptions",
    "FastDimeOptions",
    "GuidedEdits",
    "Judge",
    "Likeness",
    "OnnxJudge",
    "depth_at",
    "dvce",
    "fastdime",
    "judge_of",
    "kept_steps",
    "log_odds",
    "runner_up",
    "same_answers",
    "unguided",
]
