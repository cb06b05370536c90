"""The way through a broker: its connection, and the messages that go over it."""
