//! What a client does not read: where it waits, and how much of it.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::ops::{self, present};
use crate::slapd::{ADMIN, BASE, PHOTO_BYTES, PHOTOS, Slapd};
use crate::usherd::{Setup, server};

/// Octets that the kernel holds to be sent from this port, over all its connections.
fn unsent(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("proc");
    let local = format!(":{port:04X}");
    let queued = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (sending, _) = columns.get(4)?.split_once(':')?;
        (columns.get(1)?.ends_with(&local)).then(|| usize::from_str_radix(sending, 16).expect("a number"))
    };
    table.lines().filter_map(queued).sum()
}

/// The most that the kernel held for one client that asked for 10 MB and read nothing.
fn held_for_who_does_not_read(setting: &str) -> usize {
    let slapd = Slapd::start();
    let usherd = Setup::new()
        .directory("corp", "", &[server(&slapd.url(), "")])
        .listen("ldap", "127.0.0.1:0", &format!("directory = \"corp\"\n{setting}"))
        .start();
    let port = usherd.port(0);
    let mut client = Client::connect(&usherd.plain(0));
    let base = format!("ou=photos,{BASE}");
    client.send(&ops::search(&base, ops::SUB, &present("jpegPhoto"), &["jpegPhoto"]));
    let mut most = 0;
    for _ in 0..60 {
        most = most.max(unsent(port));
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(client);
    usherd.stop();
    most
}

#[test]
fn what_a_client_does_not_read_takes_little_of_the_memory_that_the_kernel_has_for_everybody() {
    let (usual, wide) = (
        held_for_who_does_not_read(""),
        held_for_who_does_not_read("tcp_unsent_bytes_max = \"2MiB\""),
    );
    eprintln!(
        "of {} octets the kernel holds {usual}, and {wide} where it may hold more",
        PHOTOS * PHOTO_BYTES
    );
    assert!(usual > 0 && usual <= 384 * 1024, "{usual}");
    assert!(wide > 2 * usual, "{wide}");
}

/// Entries so long that the kernel does not take one whole: together `LONG * LONG_BYTES`.
const LONG: usize = 4;
const LONG_BYTES: usize = 1 << 20;

#[test]
fn a_hundred_clients_that_each_hold_one_long_entry_cannot_use_up_the_memory() {
    let slapd = Slapd::start();
    let people = format!("ou=long,{BASE}");
    let mut admin = Client::bound(&slapd.plain(), ADMIN.0, ADMIN.1);
    let long = "x".repeat(LONG_BYTES);
    let unit = [("objectClass", &["organizationalUnit"][..]), ("ou", &["long"])];
    assert_eq!(admin.one(&ops::add(&people, &unit)).code(), 0);
    for number in 0..LONG {
        let (dn, uid) = (format!("uid=long{number},{people}"), format!("long{number}"));
        let attributes = [
            ("objectClass", &["inetOrgPerson"][..]),
            ("uid", &[&uid]),
            ("cn", &["Long"]),
            ("sn", &["Long"]),
            ("description", &[&long]),
        ];
        assert_eq!(admin.one(&ops::add(&dn, &attributes)).code(), 0);
    }
    let usherd = Setup::new()
        .server("outbox_bytes_total = \"8MiB\"")
        .directory("corp", "", &[server(&slapd.url(), "")])
        .listen("ldap", "127.0.0.1:0", "directory = \"corp\"\nwrite_timeout = \"4s\"")
        .start();
    let search = ops::search(&people, ops::SUB, &present("description"), &["description"]);
    let all = |client: &mut Client| {
        let answers = client.call(&search);
        (answers.len(), answers.last().map(crate::client::Message::code))
    };
    let mut healthy = Client::connect(&usherd.plain(0));
    assert_eq!(all(&mut healthy), (LONG + 1, Some(0)), "nobody is stuck yet");
    let before = usherd.process.memory_kib("VmRSS");
    let begun = Instant::now();
    let stick = |many: usize| -> Vec<Client> {
        let one = |_| {
            let mut client = Client::connect(&usherd.plain(0));
            client.send(&search);
            client
        };
        (0..many).map(one).collect()
    };
    let stuck = stick(100);
    let mut most = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        most = most.max(usherd.process.memory_kib("VmRSS"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let more = most.saturating_sub(before) / 1024;
    eprintln!("100 clients that read nothing of {LONG} entries of 1 MiB took {more} MiB more");
    assert!(more < 40, "{more} MiB, where 8 MiB may wait");
    // Those that hold what others need make room for them; nobody has to wait until their time to write is over.
    assert_eq!(
        all(&mut healthy),
        (LONG + 1, Some(0)),
        "somebody who reads has all of it"
    );
    // Where nobody needs it, they are closed when that time is over.
    let others = stick(20);
    let waits = |status: &serde_json::Value| status["counters"]["outbox_bytes"].as_u64().unwrap_or_default();
    usherd.until("much waits again", |status| waits(status) > 6 << 20);
    usherd.until("it is forgotten", |status| waits(status) < 1 << 20);
    drop((stuck, others));
    usherd.stop();
}
