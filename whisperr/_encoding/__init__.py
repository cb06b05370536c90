"""What callers pass -> JSON, once; records -> the bodies of requests."""
