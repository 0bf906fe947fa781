"""Why a call has no answer, and whether it may be tried again."""

from __future__ import annotations

from typing import Optional


class CallError(Exception):
    """A call ended without an answer. Its subclasses say why; `str` of it is for people."""

    #: The name of the error in the protocol.
    name = "other"
    #: Whether no helper had the call, so that trying it again cannot do it twice.
    retry_is_safe = False

    def __init__(self, text: str = "", *, number: int = 0, detail: int = 0) -> None:
        super().__init__(text or self.name)
        #: What the service, or usherd, says about it.
        self.text = text
        #: The error's number in the protocol; 0 if it did not come from usherd.
        self.number = number
        #: A number that goes with it: of a crashed helper its status, of a failed call the helper's own code.
        self.detail = detail


class UnknownService(CallError):
    """No service has this name."""

    name = "unknown-service"
    retry_is_safe = True


class QueueFull(CallError):
    """Too many calls wait for this service."""

    name = "queue-full"
    retry_is_safe = True


class QueueTimeout(CallError):
    """The call waited in the queue as long as the service allows."""

    name = "queue-timeout"
    retry_is_safe = True


class DeadlinePassed(CallError):
    """There was no answer by the deadline."""

    name = "deadline"


class Crashed(CallError):
    """The helper ended while it had the call; `status` is its exit status, or minus the number of a signal."""

    name = "crashed"

    @property
    def status(self) -> int:
        return self.detail


class Unavailable(CallError):
    """No helper of the service runs."""

    name = "unavailable"
    retry_is_safe = True


class ShuttingDown(CallError):
    """The daemon stops."""

    name = "shutting-down"
    retry_is_safe = True


class Canceled(CallError):
    """The caller canceled the call."""

    name = "canceled"


class TooLarge(CallError):
    """The request or its answer is larger than allowed."""

    name = "too-large"


class ProtocolError(CallError):
    """A message was malformed or out of place."""

    name = "protocol"


class Failed(CallError):
    """The helper itself says that there is no answer; `code` is its own, and so is the text."""

    name = "failed"

    @property
    def code(self) -> int:
        return self.detail


class Denied(CallError):
    """The listener asks for a token, and it was missing or wrong."""

    name = "denied"
    retry_is_safe = True


class ConnectionLost(CallError):
    """The connection ended while the call was open; a helper may have had it."""

    name = "connection-lost"


class NeedsInput(CallError):
    """The service asked for more, and the call had no `ask`. It was canceled."""

    name = "needs-input"


_BY_NUMBER: dict[int, type[CallError]] = {
    1: UnknownService,
    2: QueueFull,
    3: QueueTimeout,
    4: DeadlinePassed,
    5: Crashed,
    6: Unavailable,
    7: ShuttingDown,
    8: Canceled,
    9: TooLarge,
    10: ProtocolError,
    11: Failed,
    12: Denied,
}


def from_numbers(number: int, detail: int, text: str) -> CallError:
    """The error with this number; one that a later version added is a plain `CallError`."""
    kind: Optional[type[CallError]] = _BY_NUMBER.get(number)
    return (kind or CallError)(text, number=number, detail=detail)
