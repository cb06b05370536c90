"""What a broker can have against a message. Their names are what reports and explanations go by."""

from __future__ import annotations


class BrokerError(Exception):
    """The broker has not taken it, or nobody knows whether it has. The base of all below."""


class BrokerUnreachable(BrokerError):
    """There is no connection, or it broke."""


class BrokerTimeout(BrokerError):
    """No answer in time."""


class BrokerLogin(BrokerError):
    """The user, the password or the user's rights do not do."""


class BrokerFull(BrokerError):
    """It has no memory left."""


class BrokerReadOnly(BrokerError):
    """It is a replica, or it can't write to its disk."""


class BrokerBusy(BrokerError):
    """It starts, and loads its data."""


class BrokerRefusal(BrokerError):
    """It is there, and will not do it: whatever else."""


class BrokerAlarm(BrokerError):
    """It has too little memory or disk, and takes nothing until that has changed."""


class NoQueue(BrokerError):
    """Nobody has declared the queue."""


class ComesAgain(BrokerError):
    """What shall be settled came over a connection that broke: the broker delivers it again."""


class NoGroup(BrokerError):
    """The stream, or its group of relays, is gone."""


class MessageTooLarge(BrokerError):
    """A smaller one may go."""
