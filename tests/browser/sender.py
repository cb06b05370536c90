"""A sender that speaks as the SDK does, and can also be made to speak nonsense."""

from __future__ import annotations

import http.client
import json
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 20.0  # seconds


class Sender:
    """One connection to a sandbox."""

    def __init__(self, url: str, key: str) -> None:
        self.headers = {
            "X-API-Key": key,
            "User-Agent": "whisperr-python/1.2.3",
            "Content-Type": "application/json",
        }
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT)

    def send(self, *events: dict[str, Any]) -> int:
        return self.post("/v1/events/batch", json.dumps({"events": events}).encode())

    def identify(self, identity: dict[str, Any]) -> int:
        return self.post("/v1/identify", json.dumps(identity).encode())

    def post(self, path: str, body: bytes) -> int:
        """The status of the answer."""
        self._connection.request("POST", path, body, self.headers)
        response = self._connection.getresponse()
        response.read()
        return response.status

    def get(self, path: str) -> Any:
        self._connection.request("GET", path)
        return json.loads(self._connection.getresponse().read())

    def close(self) -> None:
        self._connection.close()


def event(message_id: str, context: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    now = datetime.now(timezone.utc)
    names = {"sdk_name": "whisperr-python", "sdk_version": "1.2.3"}
    return {
        "external_user_id": "user-1",
        "event_type": "order_paid",
        "occurred_at": now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z",
        "properties": {"amount": 12.5},
        "context": {**names, **(context or {}), "$message_id": message_id},
        **changes,
    }


def identity(user: str, **changes: Any) -> dict[str, Any]:
    return {"external_user_id": user, **changes}
