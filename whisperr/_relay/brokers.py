"""The broker that a URL names. Opens nothing."""

from __future__ import annotations

from whisperr._relay.interfaces import Broker
from whisperr._settings import BrokerUrl


def broker_at(url: BrokerUrl, declare: str | None = None) -> Broker:
    """``declare``: make a RabbitMQ's queues, of this type; a Redis needs nothing made.

    ValueError: its package does not take this URL. ImportError: it is missing.
    """
    if url.is_amqp:
        from whisperr._relay.rabbitmq.broker import RabbitBroker

        return RabbitBroker(url, declare)
    from whisperr._relay.redis_streams.broker import RedisBroker

    return RedisBroker(url)
