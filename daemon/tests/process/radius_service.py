"""What a service of the tests knows (docs/radius-service.md): one request on standard input, the answer on standard output. It writes what it
is asked into FILE."""
import json, sys

asked = json.load(sys.stdin)
right = "Open-Sesame-42"
users = {
    "bob": {"password": right, "reply": {"Session-Timeout": 3600, "Tunnel-Private-Group-Id:1": "30", "Filter-Id": ["a", "b"]}},
    "hashed": {"nt_hash": "a250763e4b69c68bb8f3d077ff3899b6"},
    "salted": {"password": "{SSHA}EI2Hkvot+8nHYnU+/c6spRNA/NJzYWx0IG9mIGl0"},
    "unknown-attribute": {"password": right, "reply": {"Sesion-Timeout": 1}},
    "unfit-value": {"password": right, "reply": {"Session-Timeout": "soon"}},
    "denied": {"status": "denied", "message": "Not you."},
    "unavailable": {"status": "unavailable"},
    "judged": {"status": "ok" if asked["attributes"].get("User-Password") == right else "wrong-password"},
}
with open(sys.argv[1], "w") as file:
    json.dump(asked, file)
if asked["name"] == "crash":
    sys.exit(3)
if asked["name"] == "babble":
    sys.exit(print("yes"))
user = users.get(asked["name"])
json.dump({"status": "ok", **user} if user else {"status": "not-found"}, sys.stdout)
