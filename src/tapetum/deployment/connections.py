"""Between uvicorn and the sockets: patience with slow clients has an end, and a server that stops breaks nobody's answer."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tapetum.deployment.limits import Limits
from tapetum.deployment.service import Service

# After a signal to stop: for so long whoever asks is told to ask no more on this connection, so that nobody is cut off.
_NOTICE_SECONDS = 0.5
# For so long a request that is on its way in may arrive after the door is closed.
_LAST_SECONDS = 1.0


def connection_class(limits: Limits) -> type[HttpToolsProtocol]:
    """The class of connections with these limits; uvicorn makes one of it for each."""
    return type("Connection", (_Connection,), {"limits": limits})


class _Connection(HttpToolsProtocol):
    """uvicorn's HTTP connection with bounds for what uvicorn leaves unbounded: slow and long heads, and unread answers.

    The time for a body is kept by `Guard`.
    """

    limits: Limits
    # Bytes of the head that is being read, or -1: none is.
    _head = 0
    _timer: asyncio.TimerHandle | None = None

    @property
    def arriving(self) -> bool:
        """Whether a request may be on its way in."""
        return self.cycle is None or self._head > 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.abort()
            return
        self._arm(self.limits.head_seconds)

    def data_received(self, data: bytes) -> None:
        if self._head >= 0:
            self._head += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._head > self.limits.head_bytes:
            self.send_400_response("The head of the request is too long.")
        elif self.cycle is not None and not self.cycle.response_complete:
            self._disarm()
        elif self._timer is None:  # a head that is not whole, or a body that nobody reads any more
            self._arm(self.limits.head_seconds)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = max(0, self._head)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._head = -1

    def on_message_complete(self) -> None:
        super().on_message_complete()
        # uvicorn reads no more where a large body waits to be fetched. This one is whole: read on, or nobody would notice that
        # who asked hangs up. Requests that wait behind another stay unread.
        if not self.pipeline and not self.transport.is_closing():
            self.flow.resume_reading()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # Closing waits until all is sent. A client that does not read must not keep us.
        self._disarm()
        if self.transport.is_closing():
            self._arm(self.limits.unread_seconds)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._arm(self.limits.unread_seconds)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._disarm()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._arm(self.limits.unread_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.scope["state"]["gone"] = True
        super().connection_lost(exc)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Server(uvicorn.Server):
    """uvicorn's server with another way to stop: first say so, then let in who stands at the door, then answer everybody."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at a signal; at a second Ctrl-C at once. Unlike uvicorn's own, the signal does not count as a failure."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Also stop if the service could not get ready."""
        return await super().on_tick(counter) or self._service.failed is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say that this server stops, then close the door, then finish what was begun."""
        self._service.draining = True
        if not self.force_exit:
            await asyncio.sleep(_NOTICE_SECONDS)
        # Connections that the system has accepted and we have not seen yet would break. No await comes before the closing.
        at_the_door = [connection for sock in sockets or [] for connection in _waiting_at(sock)]
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        loop = asyncio.get_running_loop()
        for connection in at_the_door:
            await loop.connect_accepted_socket(self._protocol, connection)
        end = loop.time() + _LAST_SECONDS
        while loop.time() < end and not self.force_exit and any(each.arriving for each in self.server_state.connections):  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


def _waiting_at(sock: socket.socket) -> Iterator[socket.socket]:
    with contextlib.suppress(OSError):  # BlockingIOError: that was all
        while True:
            connection, _ = sock.accept()
            connection.setblocking(False)
            yield connection
