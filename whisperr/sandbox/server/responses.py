"""The two kinds of answer that the server gives: JSON, and none at all."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from whisperr.sandbox.server import strict_json


def reply(value: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(strict_json.dumps(value), status, media_type="application/json")


class NoAnswer(Response):
    """For a request whose connection is gone: nothing is sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        return None
