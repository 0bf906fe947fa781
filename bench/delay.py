#!/usr/bin/env python3
"""A far server on this machine: passes TCP on, and everything that the server says so many milliseconds late.

    delay.py LISTEN_PORT SERVER_PORT MILLISECONDS
"""

import asyncio
import sys


async def there(reader, writer):
    """From the client, at once."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def back(reader, writer, seconds):
    """From the server, late. Timers of the same delay fire in the order in which they were set."""
    loop = asyncio.get_running_loop()
    while data := await reader.read(65536):
        loop.call_later(seconds, writer.write, data)
    loop.call_later(seconds, writer.close)


async def main(listen, server, milliseconds):
    async def joined(reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", server)
        except OSError:
            writer.close()
            return
        await asyncio.gather(
            there(reader, far_writer), back(far_reader, writer, milliseconds / 1000), return_exceptions=True
        )

    front = await asyncio.start_server(joined, "127.0.0.1", listen, backlog=1024)
    async with front:
        await front.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*(int(word) for word in sys.argv[1:])))
