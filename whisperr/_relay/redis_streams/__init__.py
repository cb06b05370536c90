"""A relay on a Redis: its streams, and the groups that share them."""
