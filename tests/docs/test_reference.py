"""The reference shows every public name, and every public name has something to show."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

from support.pages import ROOT

MODULES = (
    "whisperr",
    "whisperr.lifecycle",
    "whisperr.testing",
    "whisperr.sandbox",
    "whisperr.integrations.asgi",
    "whisperr.integrations.aws_lambda",
    "whisperr.integrations.celery",
    "whisperr.integrations.django",
    "whisperr.integrations.gunicorn",
    "whisperr.integrations.mod_wsgi",
    "whisperr.integrations.rq",
    "whisperr.integrations.uwsgi",
)
PAGES = "".join(page.read_text("utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
_WHOLE = re.compile(r"^\.\. automodule:: (\S+)\n   :members:$", re.MULTILINE)
_SINGLE = re.compile(r"^\.\. auto(?:class|function):: (\S+)$", re.MULTILINE)
_VALUE = re.compile(r"^\.\. data:: (\S+)$", re.MULTILINE)
_MEMBER = re.compile(r"^   \.\. auto(?:method|property):: (\S+)$", re.MULTILINE)


@pytest.mark.parametrize("name", MODULES)
def test_the_names_of_a_module(name: str) -> None:
    """Each name of ``__all__`` stands in the reference, alone or with its module."""
    module = importlib.import_module(name)
    assert module.__all__
    assert inspect.getdoc(module)
    if name in _WHOLE.findall(PAGES):
        return
    shown = {*_SINGLE.findall(PAGES), *(f"whisperr.{value}" for value in _VALUE.findall(PAGES))}
    assert [it for it in module.__all__ if f"{name}.{it}" not in shown] == []


def test_the_members_of_the_client() -> None:
    """They are listed one by one, in the order in which a reader needs them, and none is missing."""
    from whisperr import Whisperr

    public = {name for name in vars(Whisperr) if not name.startswith("_")}
    assert sorted(_MEMBER.findall(PAGES)) == sorted(public)


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_documented(name: str) -> None:
    """Classes, functions and their public members have a docstring of their own."""
    module = importlib.import_module(name)
    for public in (getattr(module, it) for it in module.__all__):
        if not callable(public):
            continue
        assert public.__doc__, public
        if inspect.isclass(public):
            members = {it: value for it, value in vars(public).items() if not it.startswith("_")}
            bare = [
                it
                for it, value in members.items()
                if (inspect.isfunction(value) or isinstance(value, property)) and not value.__doc__
            ]
            assert bare == [], public
