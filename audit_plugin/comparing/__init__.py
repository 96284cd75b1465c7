"""Two audits against each other: paired on the same bank from stored answers, with no query to any server."""

from audit_plugin.comparing.choose import PREVIOUS, baseline, chosen, previous
from audit_plugin.comparing.compare import CompareOptions, compare

__all__ = ["PREVIOUS", "CompareOptions", "baseline", "chosen", "compare", "previous"]
