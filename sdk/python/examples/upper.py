"""The smallest helper: answers with its request in upper case.

    [service.upper]
    program = ["/usr/bin/python3", "/usr/local/lib/usherd/upper.py"]
"""

from usherd import helper


def upper(call: helper.Call) -> bytes:
    return call.payload.upper()


if __name__ == "__main__":
    helper.serve(upper, software="upper/1")
