"""A helper over D-Bus without a bus, made with GDBus; what it does wrong it does because a call, or its argument, says so.

Arguments: how many calls at once (default 1), or "own" for an interface of its own, or the name of a wrong beginning.
"""

import os
import signal
import sys
import threading
import time

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

PATH = "/org/usherd/Helper1"
INTERFACE = "org.usherd.Helper1"
OURS = """<node><interface name="org.usherd.Helper1">
  <method name="Call"><arg type="ay" direction="in"/><arg type="u" direction="in"/><arg type="ay" direction="out"/></method>
  <method name="Interrupt"><arg type="u" direction="in"/></method>
  <method name="Goodbye"/>
</interface></node>"""
OWN = """<node><interface name="com.example.Upper">
  <method name="Text"><arg type="s" direction="in"/><arg type="s" direction="out"/></method>
  <method name="Bytes"><arg type="ay" direction="in"/><arg type="ay" direction="out"/></method>
</interface></node>"""

loop = GLib.MainLoop()
interrupted = set()
changed = threading.Condition()


class Stopped(BaseException):
    """SIGINT has come."""


class Failed(Exception):
    """A D-Bus error: its name and text."""


busy = False  # a call is at work that a SIGINT may stop


def on_sigint(*_):
    global busy
    if busy:
        busy = False
        raise Stopped


def work(request, serial):
    """One call."""
    word, _, rest = request.partition(b":")
    if word == b"echo":
        return rest
    words = request.decode().split(" ")
    if words[0] == "sleep":
        time.sleep(float(words[1]))
        return b"rested"
    if words[0] == "wait":  # until it is interrupted by the message
        with changed:
            while serial not in interrupted:
                changed.wait()
        return b"nobody reads this"
    if words[0] == "deaf":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        while True:
            time.sleep(1)
    if words[0] == "size":
        return b"x" * int(words[1])
    if words[0] == "pid":
        return str(os.getpid()).encode()
    if words[0] == "deadline":
        return words[1].encode()
    if words[0] == "fail":
        raise Failed(words[1], " ".join(words[2:]))
    if words[0] == "exit":
        os._exit(int(words[1]))
    if words[0] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if words[0] == "write":  # past the library
        os.write(0, bytes.fromhex(words[1]))
        time.sleep(10)
    return b"?"


def as_bytes(variant):
    return variant.get_data_as_bytes().get_data() or b""


def bytes_reply(answer):
    value = GLib.Variant.new_from_bytes(GLib.VariantType("ay"), GLib.Bytes.new(answer), True)
    return GLib.Variant.new_tuple(value)


def answer(invocation, request, serial):
    global busy
    try:
        busy = True
        done = work(request, serial)
        busy = False
    except Stopped:
        return invocation.return_dbus_error("org.usherd.Error.Failed", "interrupted")
    except Failed as error:
        busy = False
        return invocation.return_dbus_error(*error.args)
    return invocation.return_value(bytes_reply(done))


def ours(concurrency):
    def called(_connection, _sender, _path, _interface, method, parameters, invocation):
        if method == "Call":
            request, serial = as_bytes(parameters.get_child_value(0)), invocation.get_message().get_serial()
            if request == b"deadline":
                request = b"deadline %d" % parameters.get_child_value(1).get_uint32()
            if concurrency == 1:
                answer(invocation, request, serial)
            else:
                threading.Thread(target=answer, args=(invocation, request, serial), daemon=True).start()
        elif method == "Interrupt":
            with changed:
                interrupted.add(parameters.get_child_value(0).get_uint32())
                changed.notify_all()
            invocation.return_value(None)
        else:
            loop.quit()

    return called


def own(_connection, _sender, _path, _interface, method, parameters, invocation):
    value = parameters.get_child_value(0)
    if method == "Text":
        text = value.get_string()
        if text == "sleep":
            time.sleep(0.7)
        if text == "hang":
            time.sleep(60)
        invocation.return_value(GLib.Variant("(s)", (text.upper(),)))
    else:
        invocation.return_value(bytes_reply(as_bytes(value).upper()))


def connect(flags=Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT):
    stream = Gio.Socket.new_from_fd(int(os.environ["USHERD_DBUS_FD"])).connection_factory_create_connection()
    flags |= Gio.DBusConnectionFlags.DELAY_MESSAGE_PROCESSING
    return Gio.DBusConnection.new_sync(stream, None, flags, None, None)


def serve(xml, path, called, ready=None):
    connection = connect()
    interface = Gio.DBusNodeInfo.new_for_xml(xml).interfaces[0]
    connection.register_object(path, interface, called, None, None)
    connection.start_message_processing()
    connection.connect("closed", lambda *_: loop.quit())
    if ready:
        connection.emit_signal(None, PATH, INTERFACE, "Ready", GLib.Variant("(usb)", ready))
    while True:
        try:
            loop.run()
            return
        except (Stopped, KeyboardInterrupt):
            pass


def main():
    how = sys.argv[1] if len(sys.argv) > 1 else "1"
    if how == "own":
        serve(OWN, "/com/example/Upper", own)
    elif how == "mute":
        time.sleep(60)
    elif how == "garbage":
        os.write(0, b"hello, this is no D-Bus\r\n")
        time.sleep(60)
    elif how == "silent":  # shakes hands and says nothing more
        connection = connect()
        connection.start_message_processing()
        time.sleep(60)
    elif how == "unable":
        connection = connect()
        connection.emit_signal(None, PATH, INTERFACE, "Unable", GLib.Variant("(s)", ("no database",)))
        connection.flush_sync(None)
        time.sleep(60)
    else:
        signal.signal(signal.SIGINT, on_sigint)
        concurrency = int(how)
        serve(OURS, PATH, ours(concurrency), (concurrency, "helper_dbus.py/1", concurrency == 1))


main()
