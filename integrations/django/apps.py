"""``"whisperr.integrations.django"`` in INSTALLED_APPS."""

from __future__ import annotations

from django.apps import AppConfig


class WhisperrConfig(AppConfig):
    name = "whisperr.integrations.django"
    label = "whisperr"
    verbose_name = "Whisperr"
