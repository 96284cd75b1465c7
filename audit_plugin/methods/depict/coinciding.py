"""What cannot be told apart in the audited rows, whatever is drawn: concepts that occur only together, or only with one label.

Where all photographs of a disease come from one site, a generator and a detector that learnt from such photographs change both at once, and a
model that is right is accused of using the site.  No figure of the audit can settle that; other rows can.
"""

import numpy as np

from audit_plugin.core.values import Role
from audit_plugin.methods.depict.assemble import Ints
from audit_plugin.methods.depict.study import Study

LABEL = "the label"
SHARE = 0.95
"""Share of the rows of every single level in which the other follows from it, both ways, from which on two things coincide."""


def coinciding(study: Study, name: str) -> tuple[str, ...]:
    """Other concepts that coincide with this one, and :data:`LABEL` where it does.

    What is core is the label's own matter and may coincide with it; what nobody blames is not held against it.  Where a core concept is listed,
    it stands for the label: one that it does not coincide with is changed while it is held.
    """
    arrays = study.arrays
    flip = arrays.flips[name]
    rows = flip.usable
    found = [other for other in arrays.names if other != name and coincide(flip.own[rows], arrays.values[other][rows])]
    blamed = flip.concept.role.alerts and (
        bool(found) or not any(arrays.concept(other).role is Role.CORE for other in arrays.names)
    )
    return (*found, *((LABEL,) if blamed and coincide(flip.own[rows], arrays.labels[rows]) else ()))


def coincide(first: Ints, second: Ints) -> bool:
    """Whether every level of one has a level of the other to itself, and both ways :data:`SHARE` of every level's rows follow it.

    Levels count one by one: two rare things share all the rows in which neither is, and do not coincide for that.

    >>> coincide(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])), coincide(np.array([0, 0, 1, 1]), np.array([1, 1, 1, 0]))
    (True, False)
    """
    if not len(first) or len(np.unique(first)) < 2 or len(np.unique(second)) < 2:
        return False
    counts = np.zeros((int(first.max()) + 1, int(second.max()) + 1))
    np.add.at(counts, (first, second), 1)
    counts = counts[counts.any(1)][:, counts.any(0)]
    to, back = counts.argmax(1), counts.argmax(0)
    if len(to) != len(back) or not np.array_equal(back[to], np.arange(len(to))):
        return False
    shares = np.concatenate([counts.max(1) / counts.sum(1), counts.max(0) / counts.sum(0)])
    return bool((shares >= SHARE).all())


def inseparable(names: tuple[str, ...]) -> str:
    """The words of gate, note and headline."""
    return f"coincides with {' and '.join(names)} in these rows, so that nothing here can separate them; audit rows that hold the other combinations too"
