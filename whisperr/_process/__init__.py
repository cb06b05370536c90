"""Which process is this, how it ends, and what a fork needs to be told."""
