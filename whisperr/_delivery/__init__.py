"""From the call to the request: engine, queue, sender thread, delivery pass, transport."""
