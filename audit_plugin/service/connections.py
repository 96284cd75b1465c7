"""Connections that are bounded in number, and in how long a request may take to say what it wants."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 256
"""Connections of one port; what comes beyond is closed at once, before the process runs out of descriptors."""
HEAD_SECONDS = 10.0
"""How long the head of a request may take to come, from its first byte or from the connection's beginning."""


class Bounded(H11Protocol):
    """uvicorn's protocol with both bounds."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """One more, if there is room."""
        if len(self.connections) >= MOST:
            transport.abort()
            return
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """The clock runs while a head is incomplete."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            if self._late is None:
                self._await_head()
        else:
            self._head_came()

    def on_response_complete(self) -> None:
        """From now on nothing but the keep-alive limit counts, until the next byte; which may have come with the request before."""
        self._head_came()
        super().on_response_complete()
        if self.cycle.response_complete and self.conn.trailing_data[0]:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._head_came()
        if hasattr(self, "transport") and self.transport is not None:
            super().connection_lost(exc)

    def _await_head(self) -> None:
        self._late = self.loop.call_later(HEAD_SECONDS, self._close)

    def _head_came(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _close(self) -> None:
        transport: Any = self.transport
        if transport is not None and not transport.is_closing():
            transport.abort()
