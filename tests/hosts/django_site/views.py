"""Each view tracks the number in its path, in its own way. ``a…`` are async."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any, AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model, login, logout
from django.http import HttpResponse, StreamingHttpResponse

VERSION = "1"
tasks: set[Any] = set()


def plain(request: Any) -> HttpResponse:
    return HttpResponse(f"{threading.get_ident()} {VERSION}")


def page(request: Any, number: int) -> HttpResponse:
    request.whisperr.track("page_seen", {"n": number})
    return HttpResponse("tracked")


def log_in(request: Any, name: str, number: int) -> HttpResponse:
    request.whisperr.track("came_anonymous", {"n": -1})
    login(request, _user(name))
    request.whisperr.track("logged_in", {"n": number})
    request.whisperr.identify(email=f"{name}@example.org")
    return HttpResponse("in")


def log_out(request: Any, number: int) -> HttpResponse:
    request.whisperr.track("left", {"n": number})
    logout(request)
    request.whisperr.track("is_gone", {"n": -1})
    return HttpResponse("out")


def stream(request: Any, number: int) -> StreamingHttpResponse:
    def body() -> Iterator[bytes]:
        yield b"one"
        request.whisperr.track("streamed", {"n": number})
        yield b"two"

    return StreamingHttpResponse(body())


async def aplain(request: Any) -> HttpResponse:
    return HttpResponse(f"{threading.get_ident()} {VERSION}")


async def apage(request: Any, number: int) -> HttpResponse:
    request.whisperr.track("page_seen", {"n": number})
    return HttpResponse("tracked")


async def alog_in(request: Any, name: str, number: int) -> HttpResponse:
    user = await sync_to_async(_user)(name)
    try:
        from django.contrib.auth import alogin
    except ImportError:  # before Django 5.0
        await sync_to_async(login)(request, user)
    else:
        await alogin(request, user)
    request.whisperr.track("logged_in", {"n": number})
    request.whisperr.identify(email=f"{name}@example.org")
    return HttpResponse("in")


async def alog_out(request: Any, number: int) -> HttpResponse:
    request.whisperr.track("left", {"n": number})
    try:
        from django.contrib.auth import alogout
    except ImportError:  # before Django 5.0
        await sync_to_async(logout)(request)
    else:
        await alogout(request)
    request.whisperr.track("is_gone", {"n": -1})
    return HttpResponse("out")


async def araise(request: Any, number: int) -> HttpResponse:
    request.whisperr.track("page_seen", {"n": number})
    raise RuntimeError("of the view")


async def astream(request: Any, number: int) -> StreamingHttpResponse:
    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        request.whisperr.track("streamed", {"n": number})
        await asyncio.sleep(0)
        request.whisperr.track("streamed", {"n": number + 1})
        yield b"two"

    return StreamingHttpResponse(body())


async def atask(request: Any, number: int) -> HttpResponse:
    """Tracks in a task that goes on when the response is under way."""

    async def later() -> None:
        while not hasattr(request, "is_over"):  # see middleware.observe
            await asyncio.sleep(0)
        request.whisperr.track("tracked_late", {"n": number})

    task = asyncio.get_running_loop().create_task(later())
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return HttpResponse("under way")


def on_error(error: Any) -> None:
    print("on_error", error.type, error.count, file=sys.stderr)


def _user(name: str) -> Any:
    return get_user_model().objects.get(username=name)
