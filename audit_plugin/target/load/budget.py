"""A token bucket: at most so many tokens a second, and a second's worth at once."""


class TokenBucket:
    """Says how long to wait; does not wait itself.  Not thread safe.

    Over any span of t seconds at most ``rate * t + max(rate, largest cost)`` tokens are spent.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        """Tokens a second; 0: no limit."""
        self._tokens = rate
        self._at: float | None = None

    def wait(self, cost: float, now: float, *, pace: float = 1.0) -> float:
        """Seconds until so many may be spent; 0 when they may be now.  ``pace`` slows the bucket down, in (0, 1]."""
        rate = self.rate * pace
        if rate <= 0:
            return 0.0
        self._tokens = min(rate, self._tokens + rate * (now - (now if self._at is None else self._at)))
        self._at = now
        need = min(cost, rate)  # what costs more than the bucket holds takes all of it, and is paid for afterwards
        return max(0.0, (need - self._tokens) / rate)

    def spend(self, cost: float) -> None:
        """Take them out."""
        self._tokens -= cost
