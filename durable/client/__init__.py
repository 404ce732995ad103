"""Starting runs and asking about them, from any process."""

from durable.client.client import Client
from durable.client.handle import Handle

__all__ = ["Client", "Handle"]
