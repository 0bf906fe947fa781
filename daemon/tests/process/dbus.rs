//! Services over D-Bus: a private socket and a bus, with libdbus, busctl and dbus-monitor on the other side.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use crate::proc::{Folder, Process, require, run, shown, wait_for};
use crate::usherd::{Setup, Usherd};

const PYTHON: &str = "/usr/bin/python3";
const BUSCTL: &str = "/usr/bin/busctl";

const SERVICES: &str = "\
[service.upper]
helper = \"exec\"
program = [\"/usr/bin/tr\", \"a-z\", \"A-Z\"]

[service.cat]
helper = \"exec\"
program = [\"/bin/cat\"]

[service.slow]
helper = \"exec\"
program = [\"/bin/sleep\", \"0.5\"]
max = 1

[service.forever]
helper = \"exec\"
program = [\"/bin/sleep\", \"1000\"]

[service.no]
helper = \"exec\"
program = [\"/bin/sh\", \"-c\", \"echo never >&2; exit 3\"]
";

/// A client of a private socket. Arguments: the socket, then SERVICE PAYLOAD TIMEOUT; a payload `*N` is N bytes.
const CLIENT: &str = r#"
import sys, dbus, dbus.connection
c = dbus.connection.Connection('unix:path=' + sys.argv[1])
def ask(method, signature, *args, interface='org.usherd.Service1'):
    return c.call_blocking(None, '/org/usherd', interface, method, signature, args, timeout=60, byte_arrays=True)
what = sys.argv[2]
if what == 'list':
    print(sorted((str(name), str(how)) for name, how in ask('List', '')))
elif what == 'introspect':
    print(ask('Introspect', '', interface='org.freedesktop.DBus.Introspectable'))
else:
    payload = sys.argv[3].encode()
    if payload.startswith(b'*'):
        payload = bytes(n % 251 for n in range(int(payload[1:])))
    try:
        answer = bytes(ask('Call', 'sayu', what, dbus.ByteArray(payload), dbus.UInt32(int(sys.argv[4]))))
        print('same' if sys.argv[3].startswith('*') and answer == payload else answer)
    except dbus.DBusException as error:
        print(error.get_dbus_name(), error.get_dbus_message())
"#;

fn private() -> Usherd {
    Setup::new().listen("dbus", "unix:dbus", "").section(SERVICES).start()
}

fn ask(usherd: &Usherd, args: &[&str]) -> String {
    let socket = usherd.unix("dbus").display().to_string();
    let output = run(
        PYTHON,
        &[&["-c", CLIENT, &socket], args].concat(),
        Duration::from_secs(60),
    );
    assert!(
        output.status.success(),
        "these tests need python3-dbus (apt-get install python3-dbus): {}",
        shown(&output)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn children(usherd: &Usherd) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", usherd.process.pid())).expect("it runs");
    let of = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks.flatten().map(|task| of(task).split_whitespace().count()).sum()
}

#[test]
fn a_private_socket_answers_calls_and_names_each_error() {
    let usherd = private();
    assert_eq!(ask(&usherd, &["upper", "hello", "0"]), "b'HELLO'");
    assert_eq!(ask(&usherd, &["cat", "", "0"]), "b''");
    assert_eq!(ask(&usherd, &["cat", "*5000000", "0"]), "same");
    assert!(ask(&usherd, &["nobody", "x", "0"]).starts_with("org.usherd.Error.UnknownService "));
    let crashed = ask(&usherd, &["no", "x", "0"]);
    assert!(
        crashed.starts_with("org.usherd.Error.Crashed ") && crashed.contains("never") && crashed.contains("status 3"),
        "{crashed}"
    );
    let begun = Instant::now();
    assert!(ask(&usherd, &["forever", "x", "300"]).starts_with("org.usherd.Error.Deadline "));
    assert!(begun.elapsed() < Duration::from_secs(10));
    let services = ask(&usherd, &["list"]);
    for name in ["upper", "cat", "slow", "forever", "no"] {
        assert!(services.contains(&format!("('{name}', 'ready')")), "{services}");
    }
    let said = ask(&usherd, &["introspect"]);
    for part in [
        "org.usherd.Service1",
        "method name=\"Call\"",
        "method name=\"List\"",
        "signal name=\"Saturated\"",
        "signal name=\"Relieved\"",
        "type=\"a(ss)\"",
    ] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    usherd.stop();
}

#[test]
fn a_request_larger_than_allowed_is_refused_over_d_bus_too() {
    let usherd = Setup::new()
        .listen("dbus", "unix:dbus", "payload_bytes_max = \"64KiB\"")
        .section(SERVICES)
        .start();
    assert_eq!(ask(&usherd, &["cat", "*65536", "0"]), "same");
    assert!(ask(&usherd, &["cat", "*65537", "0"]).starts_with("org.usherd.Error.TooLarge "));
}

#[test]
fn a_caller_that_leaves_takes_its_program_with_it_and_leaves_nothing_behind() {
    let usherd = private();
    let log = usherd.folder.path().join("client");
    let socket = usherd.unix("dbus").display().to_string();
    let descriptors = || {
        std::fs::read_dir(format!("/proc/{}/fd", usherd.process.pid()))
            .expect("it runs")
            .count()
    };
    // The first connection makes the runtime's own.
    ask(&usherd, &["upper", "x", "0"]);
    let before = descriptors();
    let mut client = Process::start(PYTHON, &["-c", CLIENT, &socket, "forever", "x", "0"], &log);
    wait_for("the program runs", Duration::from_secs(20), || {
        (children(&usherd) == 1).then_some(())
    });
    assert_eq!(usherd.status()["clients"], 1, "a D-Bus client is a client");
    client.kill();
    wait_for("the program is gone", Duration::from_secs(10), || {
        (children(&usherd) == 0).then_some(())
    });
    wait_for("nothing is left", Duration::from_secs(10), || {
        (usherd.status()["clients"] == 0 && descriptors() <= before).then_some(())
    });
}

#[test]
fn a_drain_waits_for_a_call_over_d_bus() {
    let mut usherd = private();
    let log = usherd.folder.path().join("client");
    let socket = usherd.unix("dbus").display().to_string();
    let mut client = Process::start(PYTHON, &["-c", CLIENT, &socket, "slow", "x", "0"], &log);
    wait_for("the program runs", Duration::from_secs(20), || {
        (children(&usherd) == 1).then_some(())
    });
    usherd.terminate();
    let status = usherd.process.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{}", usherd.process.output());
    assert_eq!(
        client.wait(Duration::from_secs(10)).code(),
        Some(0),
        "{}",
        client.output()
    );
    assert_eq!(client.output().trim(), "b''", "it was answered");
}

/// A bus of our own.
fn bus(folder: &Folder) -> (Process, String) {
    require("/usr/bin/dbus-daemon");
    let path = folder.path().join("bus");
    let _ = std::fs::remove_file(&path);
    let address = format!("unix:path={}", path.display());
    let listen = format!("--address={address}");
    let process = Process::start(
        "/usr/bin/dbus-daemon",
        &["--session", "--nofork", "--nopidfile", "--nosyslog", &listen],
        &folder.path().join("bus.log"),
    );
    wait_for("the bus listens", Duration::from_secs(10), || {
        Path::new(&path).exists().then_some(())
    });
    (process, address)
}

fn busctl(address: &str, args: &[&str]) -> Output {
    require(BUSCTL);
    let address = format!("--address={address}");
    run(BUSCTL, &[&[address.as_str()], args].concat(), Duration::from_secs(30))
}

const CALL: [&str; 12] = [
    "call",
    "org.usherd",
    "/org/usherd",
    "org.usherd.Service1",
    "Call",
    "sayu",
    "upper",
    "2",
    "104",
    "105",
    "0",
    "--timeout=10",
];

#[test]
fn on_a_bus_services_are_called_saturation_is_told_and_the_name_comes_back_with_the_bus() {
    let folder = Folder::new("bus");
    let (mut daemon, address) = bus(&folder);
    let usherd = Setup::new()
        .section(&format!(
            "[[listen]]\nprotocol = \"dbus\"\nbus = \"{address}\"\n\n{SERVICES}"
        ))
        .start();
    let called = || busctl(&address, &CALL);
    let answered = |output: &Output| String::from_utf8_lossy(&output.stdout).trim() == "ay 2 72 73";
    wait_for("the name is on the bus", Duration::from_secs(20), || {
        answered(&called()).then_some(())
    });
    require("/usr/bin/dbus-monitor");
    let heard = folder.path().join("heard");
    let filter = "type='signal',interface='org.usherd.Service1'";
    let monitor = Process::start("/usr/bin/dbus-monitor", &["--address", &address, filter], &heard);
    wait_for("the monitor listens", Duration::from_secs(10), || {
        monitor.output().contains("NameAcquired").then_some(())
    });
    let slow = [
        "call",
        "org.usherd",
        "/org/usherd",
        "org.usherd.Service1",
        "Call",
        "sayu",
        "slow",
        "0",
        "0",
    ];
    let calls: Vec<_> = (0..2)
        .map(|number| {
            let at = format!("--address={address}");
            let args = [&[at.as_str()][..], &slow].concat();
            Process::start(BUSCTL, &args, &folder.path().join(format!("call{number}")))
        })
        .collect();
    for member in ["member=Saturated", "member=Relieved"] {
        wait_for("the pool's state is told", Duration::from_secs(20), || {
            let said = monitor.output();
            let told = said.split(member).nth(1)?;
            told.contains("string \"slow\"").then_some(())
        });
    }
    for mut call in calls {
        assert_eq!(call.wait(Duration::from_secs(20)).code(), Some(0), "{}", call.output());
    }
    drop(monitor);
    daemon.kill();
    drop(daemon);
    let (_daemon, again) = bus(&folder);
    assert_eq!(again, address);
    wait_for("the name comes back", Duration::from_secs(20), || {
        answered(&called()).then_some(())
    });
    usherd.stop();
}

#[test]
fn a_reload_offers_services_on_a_bus_and_takes_them_away() {
    let folder = Folder::new("bus");
    let (_daemon, address) = bus(&folder);
    let rpc = "[[listen]]\nprotocol = \"rpc\"\naddress = \"unix:rpc\"\n\n";
    let usherd = Setup::new().section(&format!("{rpc}{SERVICES}")).start();
    let there = || busctl(&address, &CALL).status.success();
    assert!(!there());
    usherd.rewrite(&format!(
        "{rpc}[[listen]]\nprotocol = \"dbus\"\nbus = \"{address}\"\n\n{SERVICES}"
    ));
    assert!(usherd.command(&["reload"]).status.success());
    wait_for("the name is on the bus", Duration::from_secs(20), || {
        there().then_some(())
    });
    usherd.rewrite(&format!("{rpc}{SERVICES}"));
    assert!(usherd.command(&["reload"]).status.success());
    wait_for("the name is gone", Duration::from_secs(20), || (!there()).then_some(()));
    usherd.stop();
}
