"""The relay: takes what clients have published to a broker, and delivers it to the API."""
