"""The client with one encoder or another in it, whichever it has chosen by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

from whisperr import _client
from whisperr._encoding import call_filter, calls
from whisperr._encoding import values as rules
from whisperr._encoding.encoders import ENCODERS, JsonEncoder

NAMES = ("orjson", "msgspec", "json")
_TAKERS = (rules, calls, call_filter, _client)  # who has a name of the encoder's


@contextlib.contextmanager
def using(name: str) -> Iterator[None]:
    """With this one. ImportError: it is not installed."""
    with using_encoder(ENCODERS[name]()):
        yield


@contextlib.contextmanager
def using_encoder(encoder: JsonEncoder) -> Iterator[None]:
    names = {
        **{"write": encoder.write, "dumps": encoder.dumps, "OPTIONS": encoder.options},
        **{"is_tracked": encoder.is_tracked, "TAKES_MORE": encoder.takes_more},
        "is_plain": rules._look_closely if encoder.takes_more else rules._look,
    }
    with contextlib.ExitStack() as stack:
        for module in _TAKERS:
            known = {name: value for name, value in names.items() if hasattr(module, name)}
            assert known
            stack.enter_context(mock.patch.multiple(module, **known))
        yield
