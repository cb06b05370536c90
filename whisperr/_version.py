"""The release and the name under which this SDK introduces itself on the wire."""

__version__ = "0.3.0"

SDK_NAME = "whisperr-python"
