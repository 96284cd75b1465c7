"""What counterfactuals would take at most, from the configuration alone."""

from typing import Any

from audit_plugin.config import ExplainConfig
from audit_plugin.explaining import OWN_START, SIGNALS, TRIAL_IMAGES, plan_of
from audit_plugin.methods.counterfactuals.price import MostCounterfactuals, most_counterfactuals, targets_at_most
from audit_plugin.target.guidance import GradientOptions, Rung


def price_of(asked: ExplainConfig, model: str, *, images: int, classes: int) -> MostCounterfactuals:
    """What explaining one model would take at most; nothing is loaded, and nobody asked.

    Where ``auto`` is to choose, the dearer of what it may choose counts; with the file that the server runs that is guidance by its gradient, and
    a file that turns out to be another model's costs more.  A model that answers labels alone is asked eight times as often.
    """
    from engines.guided.price import most
    from engines.guided.text_inversion import TextInversionOptions

    plan, before, options = plan_of(asked), list[tuple[int, int]](), asked.gradients.get(model, GradientOptions())
    if asked.method == "time":
        rungs = len(TextInversionOptions().ladder)
        each = (rungs + 1, TextInversionOptions().network_rows(rungs))
        before.append((asked.references, 0))
    else:
        every = [most(plan, method, asked.free) for method in _methods(asked, options)]
        each = (max(one.queries for one in every), max(one.network_rows for one in every))
        if asked.signal is None and set(_methods(asked, options)) - set(OWN_START):
            before.append((TRIAL_IMAGES * (1 + len(SIGNALS)), TRIAL_IMAGES * len(SIGNALS) * asked.kept))
    if options.rung is Rung.SURROGATE:
        before.append((options.queries, options.queries * asked.kept))
    return most_counterfactuals(
        images=images,
        targets=targets_at_most(asked.targets or "runner_up", 2 if options.of_class else classes),
        runs=asked.runs,
        paths=asked.paths,
        each=each,
        before=before,
    )


def _methods(asked: ExplainConfig, options: GradientOptions) -> tuple[Any, ...]:
    """What may search.  Students may be given up for a search by scores."""
    if asked.method != "auto":
        return (asked.method,)
    if options.rung is Rung.FREE:
        return ("ensemble",)
    certain = options.rung in {Rung.TWIN, Rung.ENDPOINT} or (options.rung is None and options.file is not None)
    return ("polyak",) if certain else ("polyak", "ensemble")
