"""The engine of several nodes: events travel through Redis or Valkey, and are kept there."""
