"""The server: reads requests, checks them, applies faults, counts, and answers the control API."""
