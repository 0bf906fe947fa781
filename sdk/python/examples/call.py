"""Calls a service from the command line: call.py ADDRESS SERVICE PAYLOAD."""

import sys

import usherd


def ask(question: bytes) -> bytes:
    return input(question.decode()).encode()


def main() -> int:
    address, service, payload = sys.argv[1:]
    with usherd.Client(address) as client:
        try:
            answer = client.call(service, payload.encode(), deadline=5.0, ask=ask)
        except usherd.CallError as error:
            print(f"{error.name}: {error}", "(safe to try again)" if error.retry_is_safe else "", file=sys.stderr)
            return 1
    sys.stdout.buffer.write(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
