"""A preloading gunicorn. There is no hook in here, and none is needed."""

preload_app = True
workers = 4
loglevel = "warning"
