//! Services: what the settings mean, and one mistake at a time.

use super::diagnostic::At;
use super::*;
use crate::config::plan::{Builtin, SandboxProfile, ServiceKind, Transport};

const RPC: &str = "[[listen]]\nprotocol = \"rpc\"\naddress = \"unix:rpc.sock\"\n";

/// The settings stand from line 5 on.
fn with(lines: &str) -> String {
    format!("{RPC}[service.upper]\n{lines}\n")
}

/// The same with a program that speaks the helper protocol in line 5.
fn stays(lines: &str) -> String {
    with(&format!("program = [\"tr\"]\n{lines}"))
}

#[track_caller]
fn each(fixture: &Fixture, around: fn(&str) -> String, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let text = around(text);
        let expected = expected.replace("FOLDER", &fixture.0.display().to_string());
        assert_eq!(fixture.found(&text), [expected], "in:\n{text}");
    }
}

#[test]
fn a_helper_of_which_only_the_program_is_written_has_the_documented_defaults() {
    let fixture = Fixture::new("helper");
    let plan = fixture.plan(&stays(""));
    let found = &plan.services["upper"];
    let expected = plan::Service {
        name: "upper".into(),
        environment: [("PATH".to_owned(), check_process::PATH_DEFAULT.to_owned())].into(),
        ..plan::Service::sample(
            ServiceKind::Helper {
                transport: Transport::Seqpacket,
                builtin: None,
            },
            &[&found.program[0]],
        )
    };
    assert!(found.program[0].ends_with("/tr"), "{:?}", found.program);
    assert_eq!(**found, expected);
    assert_eq!(fixture.plan(&stays("max = 1")).services["upper"].min, 1);
    assert_eq!(fixture.plan(&stays("min = 0")).services["upper"].min, 0);
}

#[test]
fn built_in_helpers_are_the_daemon_itself() {
    let fixture = Fixture::new("builtin");
    for (word, builtin) in [("winbind", Builtin::Winbind), ("pam", Builtin::Pam)] {
        let plan = fixture.plan(&with(&format!("helper = \"{word}\"")));
        let service = &plan.services["upper"];
        let own = std::env::current_exe().unwrap().display().to_string();
        assert_eq!(service.program, [own.as_str(), "helper", word]);
        let expected = ServiceKind::Helper {
            transport: Transport::Seqpacket,
            builtin: Some(builtin),
        };
        assert_eq!(service.kind, expected);
    }
}

#[test]
fn everything_that_can_be_written() {
    let fixture = Fixture::new("all-of-a-service");
    let text = stays(
        "transport = \"seqpacket\"\nmin = 2\nmax = 8\nmin_spare = 1\nidle_timeout = \"5m\"\nspawn_rate = 4\nstarting_max = 2
start_timeout = \"3s\"\nqueue_max = 5\nqueue_timeout = 2\nrequest_timeout = \"7s\"\ngrace = \"200ms\"\nrequests_max = 1000
lifetime = \"1h\"\nmemory_max = \"256MiB\"\ncrash_max = 3\ncrash_window = \"30s\"\nretry_min = \"1s\"\nretry_max = \"10s\"
concurrency = 4\nreply_bytes_max = \"1MiB\"\nslow_log = 0\ndirectory = \".\"
limits = { nofile = 64, address_space = \"1GiB\", cpu = \"1h\", core = 0, processes = 10, file_size = \"1MiB\" }
sandbox = { profile = \"strict\", read = [\"secret\"], write = [\"/tmp\"], network = true }
environment = { LANG = \"C\" }\nenvironment_pass = [\"PATH\", \"NOT_SET_ANYWHERE\"]",
    );
    let plan = fixture.plan(&text);
    let service = &plan.services["upper"];
    let expected = ServiceKind::Helper {
        transport: Transport::Seqpacket,
        builtin: None,
    };
    assert_eq!(service.kind, expected);
    assert_eq!(
        (service.min, service.max, service.min_spare, service.concurrency),
        (2, 8, 1, 4)
    );
    assert_eq!((service.spawn_rate, service.starting_max, service.queue_max), (4, 2, 5));
    assert_eq!(
        (service.requests_max, service.memory_max, service.crash_max),
        (1000, 256 << 20, 3)
    );
    assert_eq!(service.shared_memory, 0, "none for several calls at once");
    let seconds = [
        (service.idle_timeout, 300),
        (service.start_timeout, 3),
        (service.queue_timeout, 2),
        (service.request_timeout, 7),
        (service.lifetime, 3600),
        (service.crash_window, 30),
        (service.retry_min, 1),
        (service.retry_max, 10),
        (service.slow_log, 0),
    ];
    for (at, (found, expected)) in seconds.into_iter().enumerate() {
        assert_eq!(found.as_secs(), expected, "the duration {at}");
    }
    let limits = &service.limits;
    assert_eq!(
        (limits.nofile, limits.address_space, limits.core),
        (Some(64), Some(1 << 30), Some(0))
    );
    assert_eq!(
        (limits.cpu.unwrap().as_secs(), limits.processes, limits.file_size),
        (3600, Some(10), Some(1 << 20))
    );
    let sandbox = &service.sandbox;
    assert_eq!((sandbox.profile, sandbox.network), (SandboxProfile::Strict, true));
    assert_eq!(
        (&sandbox.read, &sandbox.write),
        (&vec![fixture.0.join("secret")], &vec!["/tmp".into()])
    );
    assert_eq!(service.environment["LANG"], "C");
    assert_eq!(service.environment["PATH"], std::env::var("PATH").unwrap());
    assert!(!service.environment.contains_key("NOT_SET_ANYWHERE"));
}

#[test]
fn mistakes_of_what_runs_a_service() {
    let fixture = Fixture::new("service");
    each(
        &fixture,
        with,
        &[
            ("", "4:10 the service `upper` has no program"),
            ("helper = \"exec\"", "4:10 the service `upper` has no program"),
            (
                "helper = \"winbnd\"\nprogram = [\"tr\"]",
                "5:10 unknown helper \"winbnd\" in [service.upper]",
            ),
            (
                "helper = \"winbind\"\nprogram = [\"tr\"]",
                "6:11 the helper `winbind` is built in",
            ),
            (
                "helper = \"pam\"\ntransport = \"dbus\"",
                "6:13 the helper `pam` does not speak D-Bus",
            ),
            ("program = []", "5:11 `program` is an empty list"),
            (
                "program = [\"no-such-program-anywhere\"]",
                "5:12 the program `no-such-program-anywhere` is not on PATH",
            ),
            (
                "program = [\"./none\"]",
                "5:12 the program FOLDER/./none cannot be found",
            ),
            (
                "program = [\"./script\"]",
                "5:12 the program FOLDER/./script is not executable",
            ),
            ("program = [\"/\"]", "5:12 the program / is not a file"),
            ("program = [\"tr a-z A-Z\"]", "5:12 `program` looks like a command line"),
            (
                "program = [\"tr\", 3]",
                "5:18 `program` in [service.upper] must be a list of texts",
            ),
        ],
    );
    let unserved = format!("{DIRECTORY}{LISTEN}[service.x]\nhelper = \"exec\"\nprogram = [\"tr\"]\n");
    assert_eq!(
        fixture.found(&unserved),
        ["7:10 warning: no listener serves the services"]
    );
}

#[test]
fn a_program_run_for_each_request_has_no_settings_of_helpers_that_stay() {
    let fixture = Fixture::new("exec");
    let exec = |lines: &str| with(&format!("helper = \"exec\"\nprogram = [\"tr\"]\n{lines}"));
    for line in [
        "transport = \"seqpacket\"",
        "min = 1",
        "min_spare = 1",
        "idle_timeout = 1",
        "spawn_rate = 1",
        "starting_max = 1",
        "start_timeout = 1",
        "requests_max = 1",
        "lifetime = 1",
        "memory_max = \"1MiB\"",
        "crash_max = 1",
        "crash_window = 1",
        "retry_min = 1",
        "retry_max = 1",
        "concurrency = 1",
        "shared_memory = 0",
    ] {
        let (key, before) = (line.split(' ').next().unwrap(), line.find("= ").unwrap() + 3);
        let expected = format!("7:{before} `{key}` is for helpers that stay");
        assert_eq!(fixture.found(&exec(line)), [expected]);
    }
    let kept = "max = 3\ngrace = 2\nslow_log = 1\nlimits = { nofile = 20 }\nsandbox = { profile = \"standard\" }";
    let plan = fixture.plan(&exec(kept));
    let service = &plan.services["upper"];
    assert_eq!(
        (service.kind, service.max, service.shared_memory),
        (ServiceKind::Exec, 3, 0)
    );
    assert!(!service.sandbox.network, "a sandbox has none unless it is given");
}

#[test]
fn mistakes_of_the_bounds_of_a_pool() {
    let fixture = Fixture::new("bounds");
    each(
        &fixture,
        stays,
        &[
            ("min = 17", "6:7 `min` is larger than `max`"),
            ("max = 2\nmin_spare = 3", "7:13 `min_spare` is larger than `max`"),
            ("max = 0", "6:7 `max` is out of bounds in [service.upper]"),
            ("min = -1", "6:7 `min` is out of bounds in [service.upper]"),
            (
                "spawn_rate = 0",
                "6:14 `spawn_rate` is out of bounds in [service.upper]",
            ),
            ("crash_max = 0", "6:13 `crash_max` is out of bounds in [service.upper]"),
            (
                "start_timeout = 0",
                "6:17 `start_timeout` is out of bounds in [service.upper]",
            ),
            ("minspare = 1", "6:1 unknown setting `minspare` in [service.upper]"),
            (
                "memory_max = \"4KiB\"",
                "6:14 `memory_max` is less than any process has",
            ),
            ("retry_min = \"1m\"", "6:13 `retry_min` is longer than `retry_max`"),
            ("retry_max = \"100ms\"", "6:13 `retry_min` is longer than `retry_max`"),
            (
                "queue_timeout = \"1m\"",
                "6:17 warning: `queue_timeout` is longer than `request_timeout`",
            ),
            (
                "transport = \"tcp\"",
                "6:13 unknown transport \"tcp\" in [service.upper]",
            ),
            (
                "transport = \"dbus\"\nshared_memory = \"64KiB\"",
                "7:17 `shared_memory` has no use here",
            ),
            (
                "concurrency = 2\nshared_memory = \"64KiB\"",
                "7:17 `shared_memory` has no use here",
            ),
            ("shared_memory = 100", "6:17 `shared_memory` is too small to be of use"),
            ("direct_reply = true", "6:1 `direct_reply` is not part of this version"),
        ],
    );
    assert_eq!(fixture.found(&stays("concurrency = 2\nshared_memory = 0")), [""; 0]);
}

#[test]
fn helpers_over_dbus_have_our_interface_or_a_method_of_their_own() {
    let fixture = Fixture::new("dbus-helper");
    let plan = fixture.plan(&stays("transport = \"dbus\"\nshared_memory = 0"));
    let service = &plan.services["upper"];
    assert_eq!((service.transport(), service.shared_memory), (Transport::Dbus, 0));
    assert_eq!(service.dbus, None);
    let table = |changes: &[(&str, &str)]| {
        let mut text = "transport = \"dbus\"\n[service.upper.dbus]\npath = \"/com/example/Upper\"\n\
                        interface = \"com.example.Upper\"\nmethod = \"Convert\"\npayload = \"text\""
            .to_owned();
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        text
    };
    let plan = fixture.plan(&stays(&table(&[])));
    let expected = plan::DbusMethod {
        path: "/com/example/Upper".into(),
        interface: "com.example.Upper".into(),
        method: "Convert".into(),
        text: true,
    };
    assert_eq!(plan.services["upper"].dbus.as_ref(), Some(&expected));
    let without = fixture.plan(&stays(&table(&[("payload = \"text\"", "")])));
    assert!(
        without.services["upper"]
            .dbus
            .as_ref()
            .is_some_and(|method| !method.text)
    );
    each(
        &fixture,
        stays,
        &[
            (
                &table(&[("/com/example/Upper", "com/example")]),
                "8:8 `path` is none that D-Bus allows",
            ),
            (
                &table(&[("com.example.Upper", "Upper")]),
                "9:13 `interface` is none that D-Bus allows",
            ),
            (
                &table(&[("Convert", "7up")]),
                "10:10 `method` is none that D-Bus allows",
            ),
            (
                &table(&[("\"text\"", "\"json\"")]),
                "11:11 unknown payload \"json\" in `dbus` of [service.upper]",
            ),
            (
                &table(&[("method = \"Convert\"", "")]),
                "7:1 the table `dbus` has no `method`",
            ),
            (
                &table(&[("transport = \"dbus\"", "")]),
                "7:1 the table `dbus` is for transport = \"dbus\"",
            ),
        ],
    );
    each(
        &fixture,
        with,
        &[(
            "helper = \"pam\"\ntransport = \"dbus\"",
            "6:13 the helper `pam` does not speak D-Bus",
        )],
    );
}

#[test]
fn mistakes_of_what_the_process_is_given() {
    let fixture = Fixture::new("process");
    each(
        &fixture,
        stays,
        &[
            ("user = \"no-such-user\"", "6:8 there is no user `no-such-user`"),
            ("user = \"4000000000\"", "6:8 there is no user `4000000000`"),
            ("user = 0", "6:8 `user` in [service.upper] must be text in quotes"),
            (
                "directory = \"none\"",
                "6:13 the working directory FOLDER/none cannot be used",
            ),
            (
                "environment = { \"A=B\" = \"x\" }",
                "6:17 `A=B` cannot be the name of a variable",
            ),
            ("environment_pass = [\"\"]", "6:21 `` cannot be the name of a variable"),
            (
                "environment = { USHERD_HELPER = \"2\" }",
                "6:17 `USHERD_HELPER` is set by usherd itself",
            ),
            (
                "environment = { USHERD_DBUS_FD = \"0\" }",
                "6:17 `USHERD_DBUS_FD` is set by usherd itself",
            ),
            (
                "limits = { nofiles = 10 }",
                "6:12 unknown setting `nofiles` in `limits` of [service.upper]",
            ),
            (
                "limits = { cpu = \"10ms\" }",
                "6:18 `cpu` is out of bounds in `limits` of [service.upper]",
            ),
            ("sandbox = {}", "6:11 `sandbox` without a profile"),
            (
                "sandbox = { profile = \"tight\" }",
                "6:23 unknown profile \"tight\" in `sandbox` of [service.upper]",
            ),
            (
                "sandbox = { profile = \"strict\", read = [\"none\"] }",
                "6:41 the path FOLDER/none of a sandbox cannot be used",
            ),
            (
                "sandbox = { profile = \"none\", write = [\"/tmp\"] }",
                "6:23 profile \"none\" forbids nothing",
            ),
        ],
    );
}

/// Who is root here need not be there: it is told.
#[test]
fn only_root_changes_users() {
    let place = |text: &str| At::new(text.to_owned(), Place::Nowhere);
    let mut raw = raw::Service::empty(Place::Nowhere);
    raw.user = Some(place("nobody"));
    raw.groups = Some(At::new(vec![place("0"), place("no-such-group")], Place::Nowhere));
    let messages = |root: bool| {
        let mut p = Problems::new(None);
        let account = check_process::account(&mut p, &raw, root);
        let found: Vec<String> = p.into_list().into_iter().map(|one| one.message).collect();
        (account, found)
    };
    let (account, found) = messages(true);
    assert_eq!(found, ["there is no group `no-such-group`"]);
    assert_eq!(account.groups, Some(vec![0]));
    let user = account.user.unwrap();
    assert_eq!((user.name.as_str(), user.uid), ("nobody", 65534));
    let (account, mut found) = messages(false);
    found.sort();
    assert_eq!(
        found,
        [
            "`groups` needs a daemon that runs as root",
            "`user` needs a daemon that runs as root",
            "there is no group `no-such-group`"
        ]
    );
    assert_eq!(account.user, None);
}

#[test]
fn what_winbind_and_pam_are_told_is_checked_and_becomes_their_arguments() {
    let fixture = Fixture::new("identity");
    let arguments = |text: &str| {
        let plan = fixture.plan(&with(text));
        plan.services["upper"].program[2..].to_vec()
    };
    assert_eq!(
        arguments(
            "helper = \"winbind\"\n[service.upper.winbind]\ndomain = \"CORP\"\nuse_default_domain = true\n\
             require_membership = [\"CORP\\\\vpn\", \"S-1-5-32-544\"]\npage_entries = 50\npassword_warning = \"3d\""
        ),
        [
            "winbind",
            "--domain=CORP",
            "--use-default-domain",
            "--require-membership=CORP\\vpn",
            "--require-membership=S-1-5-32-544",
            "--page-entries=50",
            "--password-warning=3d"
        ]
    );
    assert_eq!(
        arguments("helper = \"pam\"\n[service.upper.pam]\nservice = \"usherd\"\nservices = [\"imap\", \"smtp\"]"),
        ["pam", "--service=usherd", "--allow=imap", "--allow=smtp"]
    );
    for (text, said) in [
        (
            "helper = \"winbind\"\n[service.upper.winbind]\nuse_default_domain = true",
            "needs `domain`",
        ),
        (
            "helper = \"winbind\"\n[service.upper.winbind]\ndomain = \"CORP\\\\x\"",
            "no NetBIOS name",
        ),
        (
            "helper = \"winbind\"\n[service.upper.winbind]\nrequire_membership = [\"\"]",
            "a group has a name",
        ),
        (
            "helper = \"pam\"\n[service.upper.pam]\nservice = \"../x\"",
            "no name of a PAM service",
        ),
        (
            "helper = \"pam\"\n[service.upper.pam]\nservices = [\"\"]",
            "no name of a PAM service",
        ),
        (
            "helper = \"pam\"\n[service.upper.winbind]\ndomain = \"CORP\"",
            "the table `winbind` is for helper = \"winbind\"",
        ),
        (
            "helper = \"winbind\"\n[service.upper.pam]\nservice = \"x\"",
            "the table `pam` is for helper = \"pam\"",
        ),
    ] {
        let shown = fixture.found(&with(text)).join("\n");
        assert!(shown.contains(said), "{text}\n{shown}");
    }
}
