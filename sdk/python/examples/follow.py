"""Everything that a call can do. The request's first word says which."""

import os
import sys
import time
from collections.abc import Iterator
from typing import Union

from usherd import helper


def follow(call: helper.Call) -> Union[bytes, Iterator[bytes]]:
    word, _, rest = call.payload.decode().partition(" ")
    if word == "words":
        # The caller has each word as soon as it is there.
        return (f"{one}\n".encode() for one in rest.split(" "))
    if word == "ask":
        return b"you said " + call.ask(rest.encode())
    if word == "wait":
        # Blocks for a day. When nobody wants the answer any more, Interrupted is raised out of it.
        time.sleep(86400)
    if word == "bytes":
        return b"x" * int(rest)
    if word == "direct":
        descriptor = call.reply_to()
        if descriptor is None:
            return b"no descriptor came"
        with open(descriptor, "wb") as file:
            file.write(rest.encode())
        return b""
    if word == "remaining":
        return str(call.remaining).encode()
    if word == "exit":
        os._exit(int(rest))
    raise helper.Failure(2, f"no such word: {word!r}")


if __name__ == "__main__":
    helper.serve(follow, software="follow/1", threads=int(sys.argv[1]) if len(sys.argv) > 1 else 1)
