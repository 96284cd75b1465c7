"""Who is next?  Deficit round robin (Shreedhar and Varghese 1996) over clients whose work can be cut anywhere.

At each visit a client may send quantum * weight rows more; what it could not send is kept while it has work, so that over time
backlogged clients get rows in proportion to their weights, whatever the sizes of their requests.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

QUANTUM = 4
"""Rows per visit at weight 1: small against a batch, so that one batch already holds rows of several clients."""


@dataclass(frozen=True, eq=False)
class Slice(Generic[T]):
    """Rows start to stop of one item."""

    item: T
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(eq=False)
class _Waiting(Generic[T]):
    item: T
    rows: int
    taken: int = 0


@dataclass(eq=False)
class _Account(Generic[T]):
    weight: float
    items: deque[_Waiting[T]] = field(default_factory=deque)
    deficit: float = 0.0
    rows: int = 0

    def take(self, rows: int) -> list[Slice[T]]:
        slices: list[Slice[T]] = []
        self.rows -= rows
        while rows:
            head = self.items[0]
            count = min(rows, head.rows - head.taken)
            slices.append(Slice(head.item, head.taken, head.taken + count))
            head.taken += count
            rows -= count
            if head.taken == head.rows:
                self.items.popleft()
        return slices


class FairQueue(Generic[T]):
    """Items of many clients, each of some rows, handed out row by row.  Not thread safe."""

    def __init__(self, quantum: int = QUANTUM) -> None:
        self._quantum = quantum
        self._accounts: dict[str, _Account[T]] = {}
        self._turns: deque[_Account[T]] = deque()
        """Clients with work; the first is being visited when its deficit is 1 or more."""

    @property
    def rows(self) -> int:
        """That wait."""
        return sum(account.rows for account in self._turns)

    @property
    def heads(self) -> list[T]:
        """The oldest item of every client."""
        return [account.items[0].item for account in self._turns]

    @property
    def everyone(self) -> bool:
        """Whether all clients wait for something, so that nobody else can add to a batch."""
        return len(self._turns) == len(self._accounts)

    def __contains__(self, client: str) -> bool:
        return client in self._accounts

    def join(self, client: str, weight: float = 1.0) -> None:
        """A new client; one of weight 2 gets twice the rows of one of weight 1 while both have work."""
        if client in self._accounts:
            raise ValueError(f"client {client!r} is there already; choose another name")
        if not 0.01 <= weight <= 100:
            raise ValueError(f"the weight of client {client!r} must be in [0.01, 100], got {weight}")
        self._accounts[client] = _Account(weight)

    def leave(self, client: str) -> list[T]:
        """Forget a client; returns its items that were not taken completely."""
        account = self._accounts.pop(client, None)
        if account is None:
            return []
        if account in self._turns:
            self._turns.remove(account)
        return [waiting.item for waiting in account.items]

    def add(self, client: str, item: T, rows: int) -> None:
        """Work of one client; it gets its items back in this order."""
        account = self._accounts[client]
        account.items.append(_Waiting(item, rows))
        account.rows += rows
        if account not in self._turns:
            self._turns.append(account)

    def remove(self, client: str, item: T) -> None:
        """Forget what is left of an item."""
        account = self._accounts.get(client)
        for waiting in [each for each in account.items if each.item is item] if account else []:
            assert account is not None
            account.items.remove(waiting)
            account.rows -= waiting.rows - waiting.taken
            if not account.items:
                self._rest(account)

    def take(self, rows: int) -> list[Slice[T]]:
        """The next rows, at most so many."""
        slices: list[Slice[T]] = []
        while rows and self._turns:
            account = self._turns[0]
            if account.deficit < 1:
                account.deficit += self._quantum * account.weight
            count = min(int(account.deficit), rows, account.rows)
            slices += account.take(count)
            account.deficit -= count
            rows -= count
            if account.rows == 0:
                self._rest(account)
            elif account.deficit < 1:
                self._turns.rotate(-1)
        return _joined(slices)

    def drain(self) -> list[T]:
        """Take every client's items away."""
        items = [waiting.item for account in self._turns for waiting in account.items]
        for account in list(self._turns):
            account.items.clear()
            self._rest(account)
        return items

    def _rest(self, account: _Account[T]) -> None:
        """A client without work saves nothing up."""
        account.rows, account.deficit = 0, 0.0
        self._turns.remove(account)


def _joined(slices: list[Slice[T]]) -> list[Slice[T]]:
    """One slice per item: rows of an item are taken in order, so that those of several visits are neighbours."""
    joined: dict[int, Slice[T]] = {}
    for each in slices:
        before = joined.get(id(each.item))
        joined[id(each.item)] = each if before is None else Slice(each.item, before.start, each.stop)
    return list(joined.values())
