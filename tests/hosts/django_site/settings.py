"""Settings of the tests' project. What differs from run to run comes from the environment."""

from __future__ import annotations

import os

SECRET_KEY = "only for tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "django_site.urls"
WSGI_APPLICATION = "django_site.wsgi.application"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "whisperr.integrations.django",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_site.middleware.observe",
    "whisperr.django.WhisperrMiddleware",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SITE_DATABASE", ""),
        "OPTIONS": {"timeout": 30},
    },
}

WHISPERR_API_KEY = os.environ.get("SITE_KEY")
WHISPERR_BASE_URL = os.environ.get("SITE_URL")
WHISPERR_FLUSH_AT = 1_000_000  # nothing is delivered before the end of the process
WHISPERR_FLUSH_INTERVAL = 1_000_000

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}
