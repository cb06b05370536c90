"""A decorator for the handler of an AWS Lambda function. ::

    from whisperr.integrations.aws_lambda import deliver

    @deliver
    def handler(event, context): ...

Lambda freezes the process when it has its answer, and may kill it then without a word. So what
was tracked leaves before the answer does. Importing this also registers the hooks of SnapStart,
where the runtime has them: events of the initialization leave before the snapshot, and each
restored copy has ids of its own.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
from typing import Any, AsyncIterator, Callable, Iterator, TypeVar, overload

from whisperr import lifecycle

__all__ = ["TIMEOUT", "deliver"]

#: How long a delivery may take at most, in seconds, where nothing else is said.
TIMEOUT = 2.0
MARGIN = 0.2  # seconds of an invocation that are left for the answer itself
SNAPSHOT_TIMEOUT = 5.0  # seconds; Lambda has ten for all hooks of a function

Handler = TypeVar("Handler", bound=Callable[..., Any])
Limit = Callable[["tuple[Any, ...]"], float]  # seconds, by the arguments of an invocation


@overload
def deliver(handler: Handler) -> Handler: ...


@overload
def deliver(*, timeout: float = TIMEOUT) -> Callable[[Handler], Handler]: ...


def deliver(handler: Any = None, *, timeout: float = TIMEOUT) -> Any:
    """Deliver when the handler is done, before Lambda has the answer; also when it raises.

    For functions, coroutine functions, and what answers in pieces: generators, asynchronous ones too,
    deliver after the last piece. What is left stays queued for the next invocation, if there is one.

    Args:
        handler: The function. Of its arguments only the context is looked at, for the time that
            Lambda still gives it.
        timeout: How long a delivery may take at most, in seconds, 0 or more.
    """
    if handler is None:
        return functools.partial(deliver, timeout=timeout)
    limit = functools.partial(_limit, timeout)
    if inspect.iscoroutinefunction(handler):
        answer = _of_coroutine(handler, limit)
    elif inspect.isasyncgenfunction(handler):
        answer = _of_async_generator(handler, limit)
    else:
        answer = _of_function(handler, limit)
    return functools.wraps(handler)(answer)


def _limit(timeout: float, arguments: tuple[Any, ...]) -> float:
    """Seconds that the delivery after this invocation may take."""
    return min(timeout, _time_left(arguments))


def _time_left(arguments: tuple[Any, ...]) -> float:
    """Seconds, by the context of the invocation; infinite without one."""
    for argument in arguments[1:]:
        ask = getattr(argument, "get_remaining_time_in_millis", None)
        left = ask() if callable(ask) else None
        if isinstance(left, (int, float)):
            return max(0.0, left / 1000 - MARGIN)
    return math.inf


def _of_function(handler: Callable[..., Any], limit: Limit) -> Callable[..., Any]:
    def answer(*arguments: Any, **options: Any) -> Any:
        try:
            given = handler(*arguments, **options)
            if inspect.isgenerator(given):
                return pieces(given, arguments)
        except BaseException:
            lifecycle.flush_all(limit(arguments))
            raise
        lifecycle.flush_all(limit(arguments))
        return given

    def pieces(given: Iterator[Any], arguments: Any) -> Iterator[Any]:
        try:
            yield from given
        finally:
            lifecycle.flush_all(limit(arguments))

    return answer


def _of_coroutine(handler: Callable[..., Any], limit: Limit) -> Callable[..., Any]:
    async def answer(*arguments: Any, **options: Any) -> Any:
        try:
            return await handler(*arguments, **options)
        finally:
            await lifecycle.aflush_all(limit(arguments))

    return answer


def _of_async_generator(handler: Callable[..., Any], limit: Limit) -> Callable[..., Any]:
    async def answer(*arguments: Any, **options: Any) -> AsyncIterator[Any]:
        try:
            async for piece in handler(*arguments, **options):
                yield piece
        finally:
            await lifecycle.aflush_all(limit(arguments))

    return answer


# --- SnapStart


def _before_snapshot() -> None:
    lifecycle.flush_all(SNAPSHOT_TIMEOUT)


def _install_hooks() -> None:
    try:
        hooks: Any = importlib.import_module("snapshot_restore_py")
    except ImportError:  # not in Lambda, or in a runtime without SnapStart
        return
    hooks.register_before_snapshot(_before_snapshot)
    hooks.register_after_restore(lifecycle.after_restore)


_install_hooks()
