"""A token bucket that holds little: so many tokens a second, spread evenly, because a burst is what a customer behind it feels."""

HELD_SECONDS = 0.05
"""What the bucket holds, in seconds of its rate; at least one token."""


class TokenBucket:
    """Says how long to wait; does not wait itself.  Not thread safe.

    Over any span of t seconds at most ``rate * t`` tokens are spent beside what the bucket held and one that costs more than that.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        """Tokens a second; 0: no limit."""
        self._holds = max(1.0, HELD_SECONDS * rate)
        self._tokens = self._holds
        self._at: float | None = None

    def wait(self, cost: float, now: float, *, pace: float = 1.0) -> float:
        """Seconds until so many may be spent; 0 when they may be now.  ``pace`` slows the bucket down, in (0, 1]."""
        rate = self.rate * pace
        if rate <= 0:
            return 0.0
        self._tokens = min(self._holds, self._tokens + rate * (now - (now if self._at is None else self._at)))
        self._at = now
        need = min(cost, self._holds)  # what costs more than the bucket holds takes all of it, and is paid for afterwards
        return max(0.0, (need - self._tokens) / rate)

    def spend(self, cost: float) -> None:
        """Take them out."""
        self._tokens -= cost
