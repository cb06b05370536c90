"""Django in the process of the tests, with a database of its own, and the project to serve."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test.utils import override_settings
from django_site import settings as site

from support.django_project import Project
from whisperr.sandbox import Sandbox


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sets Django up, once; a migrated database with the users ada and bob."""
    import django
    from django.core.management import call_command
    from django.db import connections

    path = tmp_path_factory.mktemp("database") / "site.sqlite3"
    options: dict[str, Any] = {name: getattr(site, name) for name in dir(site) if name.isupper()}
    options["DATABASES"] = {"default": {**site.DATABASES["default"], "NAME": str(path)}}
    options["DATABASES"]["other"] = {**options["DATABASES"]["default"]}
    options["WHISPERR_DISABLED"] = True  # until a test says where to
    if not settings.configured:
        settings.configure(**options)
        django.setup()
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User

    for name in ("ada", "bob"):
        User.objects.create_user(name)
    connections.close_all()
    return path


@pytest.fixture
def django(database: Path, server: Sandbox, key: str) -> Iterator[None]:
    """Django in this process, its client bound to this test's key."""
    from django.db import connections

    logger = logging.getLogger("whisperr")
    level, handlers = logger.level, logger.handlers[:]
    chosen = {"WHISPERR_DISABLED": False, "WHISPERR_API_KEY": key}
    with override_settings(**chosen, WHISPERR_BASE_URL=server.url):
        yield
    logger.setLevel(level)  # WHISPERR_DEBUG is for good
    logger.handlers[:] = handlers
    connections.close_all()


@pytest.fixture
def project(tmp_path: Path, database: Path, server: Sandbox, key: str) -> Project:
    """The project in a folder of its own, to be served by processes of its own."""
    return Project(tmp_path, database, server, key)
