"""Which rows of a large table are audited: chosen by seed, each cell of the design keeping its share."""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

from audit_plugin.core.seeds import seed as hashed


def stratified(ids: Sequence[str], cells: Sequence[Hashable], n: int, *, seed: str, balance: float = 0.0) -> list[int]:
    """Positions of ``n`` rows (all, if there are no more), in the order of the table.

    Every cell gets its share of ``n`` by largest remainder.  ``balance`` moves the shares from the cells' own (0) towards equal
    ones (1), as far as a cell has rows, so that rare levels can be judged.  Within a cell the rows whose (seed, id) hash lowest are
    taken: adding rows to the table changes few choices.

    >>> stratified(list("abcdefgh"), [0, 0, 0, 0, 0, 0, 1, 1], 4, seed="s")  # three of the first cell, one of the second
    [2, 4, 5, 7]
    """
    if not 0 <= balance <= 1:
        raise ValueError(f"balance must lie in [0, 1], got {balance}")
    if n >= len(ids):
        return list(range(len(ids)))
    members: dict[Hashable, list[int]] = defaultdict(list)
    for position in sorted(range(len(ids)), key=lambda i: (hashed(seed, ids[i]), ids[i])):
        members[cells[position]].append(position)
    order = sorted(members, key=repr)
    sizes = [len(members[cell]) for cell in order]
    wanted = [(1 - balance) * size / len(ids) + balance / len(order) for size in sizes]
    quota = allocate(wanted, sizes, n)
    return sorted(position for cell, count in zip(order, quota, strict=True) for position in members[cell][:count])


def allocate(shares: Sequence[float], limits: Sequence[int], n: int) -> list[int]:
    """``n`` split by shares, none above its limit, the excess spread over the others; largest remainders are rounded up.

    >>> allocate([0.5, 0.5], [10, 2], 8)
    [6, 2]
    """
    if n > sum(limits):
        raise ValueError(f"cannot take {n} of {sum(limits)}")
    amount = [0.0] * len(shares)
    free = [i for i, limit in enumerate(limits) if limit and shares[i] > 0]
    left = float(n)
    while free:
        total = sum(shares[i] for i in free)
        full = [i for i in free if left * shares[i] / total >= limits[i]]
        for i in full or free:
            amount[i] = limits[i] if full else left * shares[i] / total
        left -= sum(amount[i] for i in full)
        free = [i for i in free if i not in full] if full else []
    counts = [math.floor(a + 1e-9) for a in amount]
    for i in sorted(range(len(shares)), key=lambda i: (counts[i] - amount[i], i)):
        if sum(counts) == n:
            break
        counts[i] += counts[i] < limits[i]
    return counts
