"""Django: the published import path of ``whisperr.integrations.django``. ::

    WHISPERR_API_KEY = os.environ["WHISPERR_API_KEY"]
    MIDDLEWARE = [..., "whisperr.django.WhisperrMiddleware"]  # after the authentication

Then, in a view: ``request.whisperr.track("plan_upgraded", {"plan": "pro"})``; without a
request: ``get_client().track(user_id, "plan_upgraded")``.
"""

from whisperr.integrations.django import WhisperrMiddleware, get_client, track_on_commit

__all__ = ["WhisperrMiddleware", "get_client", "track_on_commit"]
