"""Answers identity calls: the password says what becomes of an authentication."""
import json
import sys

call = json.load(sys.stdin)
do, name = call["do"], call.get("name")
known = name in (None, "dora") and call.get("uid", 30001) == 30001 and call.get("gid", 30000) == 30000
dora = {"name": "dora", "uid": 30001, "gid": 30000, "gecos": "Dora", "dir": "/home/dora", "shell": "/bin/bash"}
answer = {"status": "unsupported"}
if do == "group":
    if name in (None, "people") and known or name == "people":
        answer = {"status": "ok", "entries": [{"name": "people", "gid": 30000, "members": ["dora"]}]}
    else:
        answer = {"status": "not-found"}
elif not known:
    answer = {"status": "not-found"}
elif do == "passwd":
    answer = {"status": "ok", "entries": [dora]}
elif do == "initgroups":
    answer = {"status": "ok", "gids": [30000, 30007]}
elif do == "authenticate":
    if call["password"] == "crash":
        sys.exit(3)
    if call["password"] == "garbage":
        print("{")
        sys.exit(0)
    answer = {"status": call["password"], "name": "dora"}
elif do == "account":
    answer = {"status": "ok"}
json.dump(answer, sys.stdout)
