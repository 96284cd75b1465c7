"""What counterfactuals would take at most, from the configuration alone."""

from typing import Any

from audit_plugin.config import ExplainConfig
from audit_plugin.explaining import SIGNALS, TRIAL_IMAGES, plan_of
from audit_plugin.methods.counterfactuals.price import MostCounterfactuals, most_counterfactuals, targets_at_most
from audit_plugin.target.guidance import GradientOptions, Rung


def price_of(asked: ExplainConfig, model: str, *, images: int, classes: int) -> MostCounterfactuals:
    """What explaining one model would take at most; nothing is loaded, and nobody asked.

    Where ``auto`` is to choose, the dearer of what it may choose counts.  A model that answers labels alone is asked eight times as often.
    """
    from engines.guided.price import most
    from engines.guided.text_inversion import TextInversionOptions

    plan, before = plan_of(asked), list[tuple[int, int]]()
    if asked.method == "time":
        rungs = len(TextInversionOptions().ladder)
        each = (rungs + 1, TextInversionOptions().network_rows(rungs))
        before.append((asked.references, 0))
    else:
        methods: tuple[Any, ...] = ("polyak", "ensemble") if asked.method == "auto" else (asked.method,)
        every = [most(plan, method, asked.free) for method in methods]
        each = (max(one.queries for one in every), max(one.network_rows for one in every))
        if asked.signal is None:
            trial = min(images, TRIAL_IMAGES)
            before.append((trial * (1 + len(SIGNALS)), trial * len(SIGNALS) * asked.kept))
    options = asked.gradients.get(model, GradientOptions())
    if options.rung is Rung.SURROGATE:
        before.append((options.queries, options.queries * asked.kept))
    return most_counterfactuals(
        images=images,
        targets=targets_at_most(asked.targets or "runner_up", classes),
        runs=asked.runs,
        paths=asked.paths,
        each=each,
        before=before,
    )
