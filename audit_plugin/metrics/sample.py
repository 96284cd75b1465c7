"""One number of one metric."""

from collections.abc import Mapping
from dataclasses import dataclass

from audit_plugin.metrics.names import METRICS


@dataclass(frozen=True)
class Sample:
    """``metric`` is the short name in ``METRICS``, ``labels`` follow the order of its spec."""

    metric: str
    labels: tuple[str, ...]
    value: float

    @property
    def named_labels(self) -> Mapping[str, str]:
        """Label name -> value."""
        return dict(zip(METRICS[self.metric].labels, self.labels, strict=True))
