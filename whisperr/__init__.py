"""whisperr: backend events and identities, delivered exactly once from any Python process.

from whisperr import Whisperr

w = Whisperr("wrk_…")
w.track("user_42", "payment_failed", {"amount": 12.5})
"""

from whisperr._client import Whisperr
from whisperr._errors import WhisperrError
from whisperr._version import SDK_NAME, __version__
from whisperr.billing import BillingEvent

__all__ = ["SDK_NAME", "BillingEvent", "Whisperr", "WhisperrError", "__version__"]
