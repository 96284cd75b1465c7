"""Which words make a classifier answer with a class: search over prompts, with nothing but the classifier's scores or labels.

After DiffExplainer (Pennisi et al., 2024) and its black-box relatives.  Here: the search over a low-dimensional space of prompts.
"""

from audit_plugin.methods.diffexplainer.nes import nes_search
from audit_plugin.methods.diffexplainer.objective import LabelObjective, Labels, Objective, SearchResult, label_objective
from audit_plugin.methods.diffexplainer.search import cma_search

__all__ = ["LabelObjective", "Labels", "Objective", "SearchResult", "cma_search", "label_objective", "nes_search"]
