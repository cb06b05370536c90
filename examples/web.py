"""A Django project in one file: a view that tracks one event, for the user of the request."""

from __future__ import annotations

from functools import partial

from accounts import Accounts
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    MIDDLEWARE=["whisperr.django.WhisperrMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a demonstration",
    USE_TZ=True,
    WHISPERR_RESOLVE_USER=f"{__name__}.customer",
)

accounts = Accounts("web")


def customer(request: HttpRequest) -> str:
    return request.GET.get("customer", "user_42")


def pay(request: HttpRequest) -> HttpResponse:
    accounts.track(request.whisperr.track, "payment_failed")  # type: ignore[attr-defined]
    return HttpResponse("ok\n", content_type="text/plain")


urlpatterns = [path("", pay)]
application = get_wsgi_application()

from whisperr.django import get_client  # noqa: E402  (Django has to be set up first)

# With preload_app this is in the master, before any fork.
accounts.track(partial(get_client().track, "user_42"), "application_loaded")
