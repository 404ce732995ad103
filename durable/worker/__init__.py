"""Where engine and storage meet: claiming runs, driving them, running their steps, making it durable."""

from durable.worker.worker import Worker

__all__ = ["Worker"]
