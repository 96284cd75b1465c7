"""What a number of queries means for the server: requests, time and the load that is added, before anybody is asked."""

import math
from collections.abc import Mapping, Sequence

from audit_plugin.target.contract import DEFAULT_BATCH
from audit_plugin.target.load.options import LoadOptions
from audit_plugin.target.options import TargetOptions

_NO_BOUND = "as fast as answers come (`load: null`)"


def added_load(queries: int, targets: Sequence[TargetOptions]) -> Mapping[str, object]:
    """Of so many pictures, sent to models that share a budget: at most so many requests a second, for at least so long.

    ``requests_at_least`` is with full batches; a search that asks for few pictures at a time sends more, at the same rates.
    """
    batch = min(target.max_batch or DEFAULT_BATCH for target in targets)
    requests = math.ceil(queries / batch)
    budgets = [target.load for target in targets]
    bounds = [_slowest(budgets, "requests_per_second"), _slowest(budgets, "images_per_second")]
    seconds = max(amount / bound for amount, bound in zip((requests, queries), bounds, strict=True))
    rates = [_NO_BOUND if math.isinf(bound) else bound for bound in bounds]
    in_flight = max(min(target.concurrency, target.load.in_flight if target.load else target.concurrency) for target in targets)
    share = min((budget.busy_share for budget in budgets if budget), default=1.0)
    windows = sorted({window for budget in budgets if budget for window in budget.windows})
    return {
        "requests_at_least": requests,
        "requests_in_flight_at_most": in_flight,
        "added_requests_per_second_at_most": rates[0],
        "added_images_per_second_at_most": rates[1],
        "seconds_on_the_server_at_least": round(seconds, 1),
        "share_of_its_time_while_others_ask_at_most": share,
        "windows": ", ".join(windows) or "always",
    }


def _slowest(budgets: Sequence[LoadOptions | None], key: str) -> float:
    """The least rate of those that have one; infinite where none has."""
    return min((rate for budget in budgets if budget and (rate := float(getattr(budget, key)))), default=math.inf)
