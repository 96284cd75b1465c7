"""Does a model use a concept as a shortcut?  Real images with that concept flipped, scored before and after.

After FastDiME's protocol (Weng et al., ECCV 2024, section 3.4).  Followed: a classifier of ours guides the edits and the audited model is
only asked for scores; MAD, MD_s1, MD_s0.  Changed: flips count when guide and an independent oracle both see them, what matters is the effect
beyond the editor's floor and beyond flips of an irrelevant concept, every figure has an interval over units, and there is a verdict.
"""

from audit_plugin.methods.shortcut.report import ShortcutOptions, shortcut_report
from audit_plugin.methods.shortcut.rows import ShortcutRow
from audit_plugin.methods.shortcut.run import Known, Suspicion, run_shortcut

__all__ = ["Known", "ShortcutOptions", "ShortcutRow", "Suspicion", "run_shortcut", "shortcut_report"]
