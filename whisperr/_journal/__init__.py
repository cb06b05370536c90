"""Crash durability: what track() has returned from, on disk until it is settled."""
