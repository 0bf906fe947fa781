"""Write a helper for usherd (`usherd.helper`), or call its services (`usherd.Client`, `usherd.aio.connect`)."""

from __future__ import annotations

from .client import Client, Reply
from .errors import (
    CallError,
    Canceled,
    ConnectionLost,
    Crashed,
    DeadlinePassed,
    Denied,
    Failed,
    NeedsInput,
    ProtocolError,
    QueueFull,
    QueueTimeout,
    ShuttingDown,
    TooLarge,
    Unavailable,
    UnknownService,
)

__all__ = [
    "CallError",
    "Canceled",
    "Client",
    "ConnectionLost",
    "Crashed",
    "DeadlinePassed",
    "Denied",
    "Failed",
    "NeedsInput",
    "ProtocolError",
    "QueueFull",
    "QueueTimeout",
    "Reply",
    "ShuttingDown",
    "TooLarge",
    "Unavailable",
    "UnknownService",
]
