"""How much the audit may ask of a production server, and when it must not ask at all."""

from audit_plugin.target.load.guard import LoadGuard, guard_of, resume_all, stop_all, totals
from audit_plugin.target.load.options import LoadOptions

__all__ = ["LoadGuard", "LoadOptions", "guard_of", "resume_all", "stop_all", "totals"]
