"""python-ldap with hundreds of operations outstanding, some abandoned; each answer is checked against what was asked.

Usage: outstanding.py URL DN PASSWORD OPERATIONS OUTSTANDING. Prints one JSON object; `wrong` lists what was not right.
"""

import json
import random
import sys

import ldap

PEOPLE = "ou=people,dc=example,dc=com"


def ask(connection, number):
    """Starts one operation about user `number`; gives its id and a check of its answer."""
    dn = f"uid=user{number},{PEOPLE}"
    token = f"token-{number}".encode()
    kind = random.choice(["search", "search", "search", "true", "false"])
    if kind == "search":
        filter_text = f"(uid=user{number})"
        message = connection.search(PEOPLE, ldap.SCOPE_SUBTREE, filter_text, ["description"])
        return message, lambda answer: answer == [(dn, {"description": [token]})]
    if kind == "true":
        return connection.compare(dn, "description", token), lambda answer: answer is True
    return connection.compare(dn, "description", b"token-0"), lambda answer: answer is False


def take(connection, waiting, wrong):
    """Takes one answer, whichever comes first."""
    try:
        kind, data, message, _ = connection.result3(ldap.RES_ANY, 1, 30)
        answer = data
    except (ldap.COMPARE_TRUE, ldap.COMPARE_FALSE) as result:
        message = result.args[0]["msgid"]
        answer = isinstance(result, ldap.COMPARE_TRUE)
    check = waiting.pop(message, None)
    if check is None:
        wrong.append(f"an answer for {message}, which is not outstanding: {answer!r}")
    elif not check(answer):
        wrong.append(f"for {message}: {answer!r}")


def main():
    url, dn, password, operations, outstanding = sys.argv[1:6]
    operations, outstanding = int(operations), int(outstanding)
    random.seed(1)
    connection = ldap.initialize(url)
    connection.set_option(ldap.OPT_REFERRALS, 0)
    connection.simple_bind_s(dn, password)
    waiting, wrong, abandoned, most = {}, [], 0, 0
    for _ in range(operations):
        while len(waiting) >= outstanding:
            take(connection, waiting, wrong)
        message, check = ask(connection, random.randint(1, 10000))
        if random.random() < 0.05:
            connection.abandon(message)
            abandoned += 1
        else:
            waiting[message] = check
        most = max(most, len(waiting))
    while waiting:
        take(connection, waiting, wrong)
    identity = connection.whoami_s()
    connection.unbind_s()
    print(json.dumps({"abandoned": abandoned, "most": most, "identity": identity, "wrong": wrong[:5]}))


main()
