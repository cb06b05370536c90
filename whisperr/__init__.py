"""whisperr: backend events and identities from any Python process, forked ones too.

Delivery is at least once; a repeat carries the same id. ::

    from whisperr import Whisperr

    w = Whisperr("wrk_…")
    w.track("user_42", "payment_failed", {"amount": 12.5})

Or, with WHISPERR_API_KEY in the environment, without making a client::

    import whisperr

    whisperr.track("user_42", "payment_failed", {"amount": 12.5})
"""

from whisperr._client import Whisperr
from whisperr._default import configure, flush, identify, track
from whisperr._delivery.answers import explain
from whisperr._encoding.values import snapshot
from whisperr._errors import WhisperrError
from whisperr._version import SDK_NAME, __version__
from whisperr.billing import BillingEvent

__all__ = [
    "SDK_NAME",
    "BillingEvent",
    "Whisperr",
    "WhisperrError",
    "__version__",
    "configure",
    "explain",
    "flush",
    "identify",
    "snapshot",
    "track",
]
