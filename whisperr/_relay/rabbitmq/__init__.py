"""A relay on a RabbitMQ: a queue for each app, and one for dead letters."""
