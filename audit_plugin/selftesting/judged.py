"""Identity of what decides an audit's verdicts beside pictures, answers, detector and policy: a self-test speaks of audits that share it."""

import json
from collections.abc import Sequence

from audit_plugin.core.seeds import digest
from audit_plugin.core.values import Concept, Row
from audit_plugin.methods.depict import DepictOptions


def judged_digest(
    rows: Sequence[Row], concepts: Sequence[Concept], *, label: str, positive: str | None, audit: str, options: DepictOptions
) -> str:
    """Changes with the rows' values, labels and units, roles and levels of the concepts, the favourable class, the audit's name, which seeds all
    draws, metric, threshold, margin and gates; not with how often is resampled, nor with what is only shown.
    """
    told = sorted([row.id, list(row.values), row.labels.get(label, ""), row.unit] for row in rows)
    about = [[one.name, list(one.levels), one.role.value] for one in concepts]
    how = [options.metric, options.threshold, options.margin, repr(options.gates)]
    return digest("judged", json.dumps([told, about, label, positive, audit, how]))
