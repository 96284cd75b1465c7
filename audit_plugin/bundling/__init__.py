"""Evidence of one run as a directory or zip file that anyone can check without this program: written, and verified."""

from audit_plugin.bundling.contents import Contents, evidence
from audit_plugin.bundling.verify import Verified, verify
from audit_plugin.bundling.write import Sealed, write_bundle

__all__ = ["Contents", "Sealed", "Verified", "evidence", "verify", "write_bundle"]
