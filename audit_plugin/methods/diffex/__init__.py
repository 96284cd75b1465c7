"""Which human-readable attributes move a classifier when they alone are changed in real images, and by how much.

After DiffEx (Kazimi, Allada, Yanardag, CVPR 2025).  Followed: a tree of attributes, one text-guided edit at a time, the change of the
class's score.  Changed: many images with intervals and tests, the null edit and placebos as references, checked edits, a race over all
nodes instead of the gate at their parents, and images for the search that are never those of the numbers.  ``paper_search`` is the
released procedure.
"""

from audit_plugin.methods.diffex.assemble import class_effects
from audit_plugin.methods.diffex.audit import pool_of, run_diffex, split_images
from audit_plugin.methods.diffex.combine import CombineOptions
from audit_plugin.methods.diffex.controls import control_effects
from audit_plugin.methods.diffex.drift import drift, paired_rows
from audit_plugin.methods.diffex.effects import Effects, RowTable, quality
from audit_plugin.methods.diffex.estimate import ClassPlan, EstimateOptions, node_effects
from audit_plugin.methods.diffex.limits import Budget, DiffexLimits
from audit_plugin.methods.diffex.options import DiffexOptions
from audit_plugin.methods.diffex.paper import PaperOptions, paper_search
from audit_plugin.methods.diffex.price import MostEdits, most_edits
from audit_plugin.methods.diffex.racing import RaceOptions, parent_gated, racing, random_order
from audit_plugin.methods.diffex.row_file import row_file, row_file_name
from audit_plugin.methods.diffex.scores import ClassScores, class_scores
from audit_plugin.methods.diffex.spurious import spurious_hits

__all__ = [
    "Budget",
    "ClassPlan",
    "ClassScores",
    "CombineOptions",
    "DiffexLimits",
    "DiffexOptions",
    "Effects",
    "EstimateOptions",
    "MostEdits",
    "PaperOptions",
    "RaceOptions",
    "RowTable",
    "class_effects",
    "class_scores",
    "control_effects",
    "drift",
    "most_edits",
    "node_effects",
    "paired_rows",
    "paper_search",
    "parent_gated",
    "pool_of",
    "quality",
    "racing",
    "random_order",
    "row_file",
    "row_file_name",
    "run_diffex",
    "split_images",
    "spurious_hits",
]
