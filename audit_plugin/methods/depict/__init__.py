"""How much of a model's performance rests on each concept: concept-permutation importance by a flip table of generated pictures.

After DEPICT (Jabbour et al., ECCV 2024).  Followed: importance is the drop of a metric between generated pictures and generated pictures
of permuted captions, and validity checks come before it.  Changed: one flip per row and level stands for every permutation,
uncertainty is over rows, every figure carries a placebo and a smallest detectable effect, and gates decide what may be said.
"""

from audit_plugin.methods.depict.assemble import AuditArrays, assemble, check_task
from audit_plugin.methods.depict.audit import DepictOptions, DepictReport, audit
from audit_plugin.methods.depict.gates import GateOptions
from audit_plugin.methods.depict.paper import PaperImportance, PaperResult, paper_importance

__all__ = [
    "AuditArrays",
    "DepictOptions",
    "DepictReport",
    "GateOptions",
    "PaperImportance",
    "PaperResult",
    "assemble",
    "audit",
    "check_task",
    "paper_importance",
]
