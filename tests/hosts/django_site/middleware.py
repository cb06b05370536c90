"""What the tests want to know of a request, as headers of its response.

X-Queries   queries of all databases, while everything inside ran
X-Hops      changes of thread that the event loop ordered meanwhile
X-Thread    the thread of this middleware
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Callable

from asgiref.sync import iscoroutinefunction
from django.db.backends.signals import connection_created
from django.utils.decorators import sync_and_async_middleware

queries: list[str] = []
hops: list[str] = []


def _watch(connection: Any, **kwargs: Any) -> None:
    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        queries.append(sql)
        return execute(sql, params, many, context)

    connection.execute_wrappers[:] = [note]


connection_created.connect(_watch, dispatch_uid="django_site")


def _watch_hops() -> None:
    loop: Any = asyncio.get_running_loop()
    order = loop.run_in_executor
    if not hasattr(loop, "watched"):

        def note(executor: Any, function: Any, *arguments: Any) -> Any:
            hops.append("to another thread")
            return order(executor, function, *arguments)

        loop.run_in_executor = note
        loop.watched = True


@sync_and_async_middleware
def observe(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def noted(response: Any, before: tuple[int, int]) -> Any:
        response["X-Queries"] = str(len(queries) - before[0])
        response["X-Hops"] = str(len(hops) - before[1])
        response["X-Thread"] = str(threading.get_ident())
        return response

    if iscoroutinefunction(get_response):

        async def asynchronous(request: Any) -> Any:
            _watch_hops()
            before = (len(queries), len(hops))
            response = await get_response(request)
            request.is_over = True
            return noted(response, before)

        return asynchronous

    def synchronous(request: Any) -> Any:
        before = (len(queries), len(hops))
        return noted(get_response(request), before)

    return synchronous
