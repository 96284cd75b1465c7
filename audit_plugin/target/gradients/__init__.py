"""How counterfactuals of a deployed model are guided: its own gradient where one can be had, and what to do where none can."""

from audit_plugin.target.gradients.agreement import QUANTISED, SAME, Agreement, Bound, agreement
from audit_plugin.target.gradients.hidden_units import UnitsReading, check_units, read_units
from audit_plugin.target.gradients.ladder import Guide, Pooled, guide
from audit_plugin.target.gradients.reading import Reading, read_network
from audit_plugin.target.gradients.served import SUFFIX, ServedGradients
from audit_plugin.target.gradients.shelf import Kept, StudentShelf
from audit_plugin.target.gradients.student import Lesson, Surrogate, Transfer, check_transfer, distil, examine, taught_again
from audit_plugin.target.gradients.watched import WatchedSurrogate
from audit_plugin.target.guidance import GradientOptions, Rung, StudentOptions

__all__ = [
    "QUANTISED",
    "SAME",
    "SUFFIX",
    "Agreement",
    "Bound",
    "GradientOptions",
    "Guide",
    "Kept",
    "Lesson",
    "Pooled",
    "Reading",
    "Rung",
    "ServedGradients",
    "StudentOptions",
    "StudentShelf",
    "Surrogate",
    "Transfer",
    "UnitsReading",
    "WatchedSurrogate",
    "agreement",
    "check_transfer",
    "check_units",
    "distil",
    "examine",
    "guide",
    "read_network",
    "read_units",
    "taught_again",
]
