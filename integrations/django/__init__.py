"""Django: the client from the settings, and ``request.whisperr`` for the request's user. ::

    WHISPERR_API_KEY = os.environ["WHISPERR_API_KEY"]
    MIDDLEWARE = [..., "whisperr.django.WhisperrMiddleware"]  # after the authentication
    INSTALLED_APPS = [..., "whisperr.integrations.django"]  # system checks, manage.py whisperr_test

The application adds checks and a command; the middleware works without it. Nothing here
starts a thread or asks the database before the first event of a request.
"""

from whisperr.integrations.django import _checks  # noqa: F401  (registers the system checks)
from whisperr.integrations.django._client import get_client
from whisperr.integrations.django._commit import track_on_commit
from whisperr.integrations.django._middleware import WhisperrMiddleware

__all__ = ["WhisperrMiddleware", "get_client", "track_on_commit"]
