//! What systemd is given and told: the unit of `packaging/`, and sd_notify(3) from start to stop. systemd itself is played by a
//! socket, since tests have no service manager.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt::set_socket_passcred};

use crate::client::{Client, Message};
use crate::proc::{Folder, run, shown, wait_for};
use crate::slapd::{Slapd, password, user};
use crate::upgrade::{Successor, is_there, slow};
use crate::usherd::{BINARY, Setup, server};

const ANALYZE: &str = "/usr/bin/systemd-analyze";

/// The unit, with the binary under test in the place of the installed one, and drop-ins beside it.
fn unit(folder: &Folder, drop_ins: &[&str]) -> String {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    let read = |name: &str| std::fs::read_to_string(packaging.join(name)).expect(name);
    let text = read("usherd.service");
    assert!(text.contains("/usr/bin/usherd run"));
    let beside = folder.path().join("usherd.service.d");
    std::fs::create_dir_all(&beside).expect("our own folder");
    for name in drop_ins {
        std::fs::write(beside.join(name), read(&format!("drop-in/{name}"))).expect("our own folder");
    }
    folder.write("usherd.service", text.replace("/usr/bin/usherd", BINARY))
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit_and_its_drop_ins() {
    crate::proc::require(ANALYZE);
    for drop_ins in [&[][..], &["strict.conf"], &["as-root.conf"]] {
        let folder = Folder::new("unit");
        let unit = unit(&folder, drop_ins);
        let output = run(ANALYZE, &["verify", "--man=no", &unit], Duration::from_secs(60));
        let said = shown(&output);
        // It speaks of the machine's own units, too.
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("usherd")).collect();
        assert!(output.status.success() && ours.is_empty(), "{drop_ins:?}: {said}");
    }
}

#[test]
fn the_unit_leaves_set_id_programs_their_bits_and_the_strict_drop_in_does_not() {
    let given = |drop_ins: &[&str]| {
        let folder = Folder::new("unit");
        let output = run(
            ANALYZE,
            &[
                "security",
                "--offline=yes",
                "--json=short",
                "--no-pager",
                &unit(&folder, drop_ins),
            ],
            Duration::from_secs(60),
        );
        let found: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", shown(&output)));
        found.as_array().expect("a list").clone()
    };
    let is_set = |found: &[serde_json::Value], name: &str| {
        let one = found
            .iter()
            .find(|one| one["json_field"] == name || one["name"] == name);
        one.unwrap_or_else(|| panic!("{name} of {found:?}"))["set"] == true
    };
    let (plain, strict) = (given(&[]), given(&["strict.conf"]));
    // Each of these would imply that no program gains anything by its set-id bits.
    for name in [
        "NoNewPrivileges=",
        "PrivateDevices=",
        "RestrictRealtime=",
        "LockPersonality=",
    ] {
        assert!(!is_set(&plain, name), "{name}");
        assert!(is_set(&strict, name), "{name}");
    }
    for name in ["PrivateTmp=", "ProtectSystem=", "ProtectHome="] {
        assert!(is_set(&plain, name) && is_set(&strict, name), "{name}");
    }
}

/// What came, and from which process.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        set_socket_passcred(&socket, true).expect("it says from whom");
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a timeout");
        Manager(socket)
    }

    fn hear(&self) -> (u64, String) {
        let mut buffer = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut buffer)],
            &mut control,
            RecvFlags::empty(),
        )
        .expect("a notification");
        let from = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(whose) => u64::try_from(whose.pid.as_raw_nonzero().get()).ok(),
            _ => None,
        });
        let text = String::from_utf8_lossy(&buffer[..got.bytes]).into_owned();
        (from.expect("from whom"), text)
    }

    /// Nothing has come that was not heard.
    fn is_silent(&self) -> bool {
        self.0.set_nonblocking(true).expect("it can be");
        self.0.recv(&mut [0; 1]).is_err()
    }
}

#[test]
fn systemd_is_told_of_start_reload_upgrade_and_stop_by_whom_it_believes() {
    let slapd = Slapd::start();
    let told = Folder::new("manager");
    let manager = Manager::at(&told.path().join("socket"));
    let variable = format!("NOTIFY_SOCKET={}", told.file("socket"));
    let mut usherd = Setup::corp("", &[server(&slapd.url(), "")])
        .under(&["/usr/bin/env", &variable])
        .start();
    usherd.expect_end();
    let successor = Successor(&usherd);
    let old = successor.pid();
    assert_eq!(manager.hear(), (old, "READY=1\n".to_owned()));
    let reload = |main: u64, ok: bool| {
        let output = usherd.command(&["reload"]);
        assert_eq!(output.status.success(), ok, "{}", shown(&output));
        let (from, said) = manager.hear();
        let since = said
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .and_then(|rest| rest.strip_suffix('\n'))
            .and_then(|rest| rest.parse::<u64>().ok());
        assert!(from == main && since.is_some_and(|since| since > 0), "{from}: {said}");
        // Done, or refused: it serves.
        assert_eq!(manager.hear(), (main, "READY=1\n".to_owned()));
    };
    reload(old, true);
    let good = std::fs::read_to_string(usherd.unix("usherd.toml")).expect("the configuration");
    usherd.folder.write("usherd.toml", "[server]\nworker = 2\n");
    reload(old, false);
    usherd.folder.write("usherd.toml", good);
    let client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    let new = successor.upgrade();
    let mut said = [manager.hear(), manager.hear()];
    said.sort_by_key(|(from, _)| *from != old);
    assert_eq!(said[0], (old, format!("MAINPID={new}\nREADY=1\n")));
    assert_eq!(said[1], (new, "READY=1\n".to_owned()));
    reload(new, true);
    // As ExecStop= of the unit: who is asked is the new one, and it is gone when the command comes back, not sooner than its
    // client has its answer.
    let mut last = Client::bound(&usherd.plain(0), &user(2), &password(2));
    let pending = last.send(&slow(1));
    let output = usherd.command(&["stop", "--wait"]);
    assert!(output.status.success(), "{}", shown(&output));
    assert!(!is_there(new), "process {new} is there still: {}", shown(&output));
    let found = last.collect(pending, Duration::from_secs(5)).expect("its answer");
    assert_eq!(found.last().map(Message::code), Some(0));
    assert_eq!(manager.hear(), (new, "STOPPING=1\n".to_owned()));
    // And what systemd does then: the old one, which has a client, ends by the signal and says nothing of the service.
    assert!(is_there(old), "it has a client");
    usherd.process.signal("TERM");
    wait_for("the old process ends", Duration::from_secs(20), || {
        (!is_there(old)).then_some(())
    });
    assert!(manager.is_silent());
    drop(client);
}
