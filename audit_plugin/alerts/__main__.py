"""``python -m audit_plugin.alerts DIRECTORY [RUNBOOK_URL_PREFIX]`` writes the rule files."""

import sys
from pathlib import Path

from audit_plugin.alerts.rules import write

if __name__ == "__main__":
    if len(sys.argv) not in {2, 3}:
        sys.exit(__doc__)
    write(Path(sys.argv[1]), *sys.argv[2:])
