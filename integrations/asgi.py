"""A pure ASGI middleware that delivers when the server shuts the application down. ::

    from whisperr.integrations.asgi import FlushOnShutdown

    app = FlushOnShutdown(app)

uvicorn ends by the signal it was sent, and then no exit handler of Python runs: what was tracked
has to be delivered before. Any application will do, also one that knows no lifespan (Django).
When the application has started, so do the senders: what a crash left in a journal is delivered
then, and not at the first event.
"""

from __future__ import annotations

from typing import Any, Awaitable, Callable, MutableMapping

from whisperr import lifecycle

__all__ = ["FlushOnShutdown"]

SHUTDOWN_TIMEOUT = 5.0  # seconds

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]  # frameworks differ in how they type messages


class FlushOnShutdown:
    """Delivers at ``lifespan.shutdown``, after the application's own shutdown.

    It belongs outside of all other middleware. Whatever is no lifespan passes through untouched.

    Args:
        app: The ASGI application, with or without a lifespan of its own.
        timeout: How long the delivery may take, in seconds, 0 or more. Then the clients are shut
            down: what is left is reported as lost, by count, or stays in the journal.
    """

    def __init__(self, app: App, timeout: float = SHUTDOWN_TIMEOUT) -> None:
        self._app = app
        self._timeout = timeout

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        lifespan = _Lifespan(receive, send, self._deliver)
        try:
            await self._app(scope, lifespan.receive, lifespan.send)
        except Exception:
            if lifespan.answered:  # it speaks lifespan, and failed
                await lifespan.abort()
                raise
        await lifespan.finish()  # what is left of it: all, if the application doesn't speak it

    async def _deliver(self) -> None:
        if not await lifecycle.aflush_all(self._timeout):
            await lifecycle.ashutdown_all(0)  # says what is lost: perhaps nothing runs after this


class _Lifespan:
    """One lifespan's two streams of messages, with the delivery before its last message."""

    def __init__(
        self, receive: Receive, send: Send, deliver: Callable[[], Awaitable[None]]
    ) -> None:
        self._receive = receive
        self._send = send
        self._deliver = deliver
        self._received = ""  # the type of the latest message from the server
        self._sent = ""  # and to it

    @property
    def answered(self) -> bool:
        return bool(self._sent)

    async def receive(self) -> Message:
        message = await self._receive()
        self._received = message["type"]
        return message

    async def send(self, message: Message) -> None:
        self._sent = message["type"]
        if self._is_over():
            await self._deliver()
        await self._send(message)
        if self._sent == "lifespan.startup.complete":
            lifecycle.start_all()

    async def abort(self) -> None:
        """The application raised: deliver, if that was its shutdown."""
        if self._received == "lifespan.shutdown" and not self._is_over():
            await self._deliver()

    async def finish(self) -> None:
        """Have the part of the conversation in which the application takes no part."""
        if not self._received:
            await self.receive()
        if not self.answered:
            await self.send({"type": "lifespan.startup.complete"})
        if self._sent != "lifespan.startup.complete":
            return
        if self._received != "lifespan.shutdown":
            await self.receive()
        await self.send({"type": "lifespan.shutdown.complete"})

    def _is_over(self) -> bool:
        return self._sent.startswith("lifespan.shutdown.")
