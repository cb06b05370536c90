from __future__ import annotations

from typing import Any

from django.urls import path

from django_site import views


def _routes(prefix: str) -> list[Any]:
    view = {name: getattr(views, prefix + name, None) for name in _ROUTES}
    routes = ((f"{prefix}{name}/{_ROUTES[name]}", view[name]) for name in _ROUTES)
    return [path(route, view) for route, view in routes if view]


_ROUTES = {
    "plain": "",
    "page": "<int:number>",
    "log_in": "<str:name>/<int:number>",
    "log_out": "<int:number>",
    "stream": "<int:number>",
    "raise": "<int:number>",
    "task": "<int:number>",
}
urlpatterns = [*_routes(""), *_routes("a")]
