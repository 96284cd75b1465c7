"""``python -m audit_plugin.dashboards DIRECTORY [RUNBOOK_URL_PREFIX [SERVICE_URL]]`` writes Grafana's dashboards."""

import sys
from pathlib import Path

from audit_plugin.dashboards.files import write

if __name__ == "__main__":
    if len(sys.argv) not in {2, 3, 4}:
        sys.exit(__doc__)
    write(Path(sys.argv[1]), *sys.argv[2:])
