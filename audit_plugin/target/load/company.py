"""Is anybody else asking this server?  By its count of answered requests, less our own.

A customer notices an audit when a request of his comes while one of the audit's is computed.  Where customers come at random times the share of theirs
that do so is the share of time that the audit's requests take (Poisson arrivals see time averages; Wolff 1982), so a hundredth-slowest request of
theirs stays what it is while that share is well below a hundredth.
"""

from dataclasses import dataclass


@dataclass(eq=False)
class Company:
    """Others are believed to be there until ``calm_seconds`` went by in which the server answered nobody else."""

    calm_seconds: float
    _others: float = 0.0
    """Requests of others that are known of, since the server's count began."""
    _answered: float | None = None
    _start: float = 0.0
    _seen: float = float("-inf")
    """When somebody else's request was counted last."""

    def look(self, answered: float, own: float, under_way: int, now: float) -> None:
        """``answered``: the server's count; ``own``: requests of ours that were answered; ``under_way``: of ours that may or may not be counted."""
        if self._answered is None or answered < self._answered:  # the first look, or the server began anew
            self._start, self._others, self._seen = answered - own, 0.0, now
        self._answered = answered
        others = answered - own - self._start
        if others - under_way > self._others:
            self._others, self._seen = others - under_way, now

    def others(self, now: float) -> bool:
        """Whether somebody else may be asking now; yes while that is not known."""
        return self._answered is None or now - self._seen < self.calm_seconds
