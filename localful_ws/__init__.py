"""The Localful WebSocket server: a real-time event server for the devices of a user."""

__version__ = "0.1.0"
