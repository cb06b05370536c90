from __future__ import annotations

from django_site.asgi import application as django
from whisperr.integrations.asgi import FlushOnShutdown

application = FlushOnShutdown(django)
