"""A small Django project, as a user would write it; what it serves is in views.py."""
