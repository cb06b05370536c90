"""The whole web application: the ingestion API, the control API and the page, on one database."""

from __future__ import annotations

from starlette.applications import Starlette

from whisperr.sandbox.page import routes as page
from whisperr.sandbox.server import control_api, ingestion
from whisperr.sandbox.server.accounts import AccountRegistry
from whisperr.sandbox.server.database import Database
from whisperr.sandbox.server.origin_guard import OriginGuard


def create_app(
    database: Database, guard: OriginGuard, *, read_timeout: float, numbered: bool = False
) -> Starlette:
    """A sandbox on a database. Each request needs its ``Connection`` in its state."""
    accounts = AccountRegistry(database, numbered=numbered)
    return Starlette(
        routes=[
            *ingestion.routes(accounts, guard, read_timeout),
            *control_api.routes(accounts, guard, ingestion.KEY_PREFIX),
            *page.routes(accounts, guard),
        ]
    )
