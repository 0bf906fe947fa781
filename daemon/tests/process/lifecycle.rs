//! Drains, reloads, and the end: nobody loses an answer that was on its way, and nobody is dropped without need.

use std::time::{Duration, Instant};

use crate::certificates::certificates;
use crate::client::{Client, Gone, Message, PATIENCE, Target};
use crate::ops::{self, present};
use crate::proc::shown;
use crate::slapd::{Slapd, USHERD, code_dn, password, user};
use crate::usherd::{Setup, Usherd, listener_tls, server};

fn slow(seconds: u32) -> Vec<u8> {
    ops::search(
        &code_dn(&format!("slow{seconds}")),
        ops::BASE,
        &present("objectClass"),
        &[],
    )
}

fn front(lines: &str) -> (Slapd, Usherd) {
    let slapd = Slapd::start();
    let usherd = Setup::corp("", &[server(&slapd.url(), "")]).server(lines).start();
    (slapd, usherd)
}

/// What a client with operation `id` under way is told by a drain: its result, then the notice.
fn drained(client: &mut Client, id: i64) {
    let said = client.until_closed(PATIENCE);
    let result = said.iter().position(|message| message.id == id && message.is_final());
    let notice = said.iter().position(Message::is_disconnection);
    assert!(
        result.is_some_and(|place| said[place].code() == 0),
        "its result: {said:?}"
    );
    assert!(notice > result, "then a notice of disconnection: {said:?}");
    assert_eq!(notice, Some(said.len() - 1), "and nothing after it: {said:?}");
}

#[test]
fn sigterm_lets_pending_operations_finish_tells_everyone_and_ends_with_0() {
    let (_slapd, mut usherd) = front("");
    let mut idle = Client::bound(&usherd.plain(0), &user(1), &password(1));
    let mut busy: Vec<Client> = (2..=4)
        .map(|number| Client::bound(&usherd.plain(0), &user(number), &password(number)))
        .collect();
    let ids: Vec<i64> = busy.iter_mut().map(|client| client.send(&slow(2))).collect();
    let target = usherd.plain(0);
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    usherd.terminate();
    let said = idle.until_closed(Duration::from_secs(1));
    assert!(
        matches!(said.as_slice(), [notice] if notice.is_disconnection()),
        "an idle client is told at once: {said:?}"
    );
    // New requests of a client that is still finishing are refused as LDAP refuses them, as soon as its worker has heard.
    let refused = (0..50).any(|_| {
        let asked = busy[0].send(&ops::whoami());
        let answer = busy[0].receive(Duration::from_secs(1)).expect("an answer");
        assert_eq!(answer.id, asked, "{answer:?}");
        std::thread::sleep(Duration::from_millis(10));
        matches!(answer.code(), 51 | 52)
    });
    assert!(refused, "requests are served during a drain");
    let newcomer = Client::try_connect(&target).map(|mut client| client.try_call(&ops::whoami()));
    assert!(
        !matches!(newcomer, Ok(Ok(_))),
        "a new client is served during a drain: {newcomer:?}"
    );
    for (client, id) in busy.iter_mut().zip(ids) {
        drained(client, id);
    }
    let status = usherd.process.wait(Duration::from_secs(3));
    assert_eq!(status.code(), Some(0), "{}", usherd.process.output());
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

/// Its last words would wait for the end of a handshake that never comes.
#[test]
fn a_client_that_leaves_in_the_middle_of_a_handshake_does_not_hold_up_the_end() {
    let slapd = Slapd::start();
    let port = crate::proc::free_port();
    let text = directory("corp", &server(&slapd.url(), ""), "")
        + &listener(port, "corp", &listener_tls()).replace("\"ldap\"", "\"ldaps\"");
    let mut usherd = Setup::new().section(&text).start();
    let shy = std::net::TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    usherd.until("the client is there", |status| status["clients"] == 1);
    usherd.terminate();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(usherd.process.ended(), None, "it waits for the client");
    let start = Instant::now();
    drop(shy);
    let status = usherd.process.wait(Duration::from_secs(5));
    assert_eq!(status.code(), Some(0), "{}", usherd.process.output());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn a_second_signal_gives_up_what_is_pending_with_a_result() {
    let (_slapd, mut usherd) = front("");
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    let id = client.send(&slow(6));
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    usherd.terminate();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(usherd.process.ended(), None, "it waits for the operation");
    usherd.process.signal("TERM");
    let said = client.until_closed(Duration::from_secs(6));
    let result = said.iter().find(|message| message.id == id && message.is_final());
    assert!(
        result.is_some_and(|result| matches!(result.code(), 52 | 51 | 11 | 80 | 118)),
        "{said:?}"
    );
    assert!(said.last().is_some_and(Message::is_disconnection), "{said:?}");
    let status = usherd.process.wait(Duration::from_secs(6));
    assert!(
        start.elapsed() < Duration::from_millis(5_500),
        "not sooner than the operation itself: {:?}",
        start.elapsed()
    );
    assert!(
        matches!(status.code(), Some(0 | 3)),
        "{status} {}",
        usherd.process.output()
    );
}

#[test]
fn a_third_signal_ends_at_once() {
    let (_slapd, mut usherd) = front("drain_firm = \"1h\"");
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    client.send(&slow(6));
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    for _ in 0..3 {
        if usherd.process.ended().is_none() {
            usherd.terminate();
        }
        std::thread::sleep(Duration::from_millis(150));
    }
    let status = usherd.process.wait(Duration::from_secs(2));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(matches!(status.code(), Some(0 | 3)), "{status}");
}

#[test]
fn past_its_deadline_a_drain_ends_with_3_or_0_and_each_operation_had_a_result() {
    let (_slapd, mut usherd) = front("drain_gentle = \"500ms\"\ndrain_firm = \"500ms\"");
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    let id = client.send(&slow(6));
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    usherd.terminate();
    let said = client.until_closed(Duration::from_secs(3));
    assert!(
        said.iter().any(|message| message.id == id && message.is_final()),
        "{said:?}"
    );
    let status = usherd.process.wait(Duration::from_secs(3));
    assert!(
        matches!(status.code(), Some(0 | 3)),
        "{status} {}",
        usherd.process.output()
    );
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn the_commands_drain_and_stop_do_what_the_signals_do() {
    let (_slapd, mut usherd) = front("");
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    let id = client.send(&slow(1));
    std::thread::sleep(Duration::from_millis(200));
    let output = usherd.command(&["drain"]);
    assert!(output.status.success(), "{}", shown(&output));
    drained(&mut client, id);
    assert_eq!(usherd.process.ended(), None, "a drain alone does not end the daemon");
    let output = usherd.command(&["stop"]);
    assert!(output.status.success(), "{}", shown(&output));
    usherd.expect_end();
    assert_eq!(
        usherd.process.wait(Duration::from_secs(5)).code(),
        Some(0),
        "{}",
        usherd.process.output()
    );
    let output = usherd.command(&["status"]);
    assert_eq!(output.status.code(), Some(1), "nobody is there: {}", shown(&output));
}

/// The configuration as text, to be changed by a test.
fn directory(name: &str, url: &str, lines: &str) -> String {
    format!(
        "[directory.{name}]\nidentity = \"proxied\"\nbind_dn = \"{}\"\nbind_password_file = \"usherd.secret\"\n{lines}\n\
         server = [{url}]\n",
        USHERD.0
    )
}

fn listener(port: u16, directory: &str, lines: &str) -> String {
    format!("[[listen]]\nprotocol = \"ldap\"\naddress = \"127.0.0.1:{port}\"\ndirectory = \"{directory}\"\n{lines}\n")
}

fn reload(usherd: &Usherd) {
    let output = usherd.command(&["reload"]);
    assert!(
        output.status.success(),
        "{}\n{}",
        shown(&output),
        usherd.process.output()
    );
}

fn which(target: &Target) -> String {
    Client::connect(target)
        .one(&ops::compare(&code_dn("which"), "cn", "x"))
        .diagnostic()
}

#[test]
fn a_reload_adds_and_removes_listeners_and_leaves_the_others_alone() {
    let slapd = Slapd::start();
    let (kept, other, added) = (
        crate::proc::free_port(),
        crate::proc::free_port(),
        crate::proc::free_port(),
    );
    let corp = directory("corp", &server(&slapd.url(), ""), "");
    let before = [corp.clone(), listener(kept, "corp", ""), listener(other, "corp", "")].concat();
    let usherd = Setup::new().section(&before).start();
    let mut stays = Client::bound(&Target::plain(kept), &user(1), &password(1));
    let pending = stays.send(&slow(2));
    let mut goes = Client::bound(&Target::plain(other), &user(2), &password(2));
    let last = goes.send(&slow(1));
    std::thread::sleep(Duration::from_millis(100));
    usherd.rewrite(&[corp, listener(added, "corp", ""), listener(kept, "corp", "")].concat());
    reload(&usherd);
    assert_eq!(
        Client::bound(&Target::plain(added), &user(3), &password(3)).whoami(),
        format!("dn:{}", user(3))
    );
    drained(&mut goes, last);
    assert!(
        Client::try_connect(&Target::plain(other)).is_err(),
        "the removed listener still listens"
    );
    assert_eq!(
        stays
            .collect(pending, PATIENCE)
            .map(|all| all.last().map(Message::code)),
        Ok(Some(0))
    );
    assert_eq!(
        stays.whoami(),
        format!("dn:{}", user(1)),
        "the same connection, the same identity"
    );
    usherd.stop();
}

#[test]
fn a_reload_adds_and_removes_servers_under_load_without_a_loss() {
    let _machine = crate::proc::alone();
    let (first, second) = (Slapd::start(), Slapd::start());
    let port = crate::proc::free_port();
    let entry = |slapd: &Slapd| server(&slapd.url(), "");
    let text = |servers: &[String]| directory("corp", &servers.join(", "), "") + &listener(port, "corp", "");
    let usherd = Setup::new().section(&text(&[entry(&first)])).start();
    let load = crate::load::Load {
        rest: Duration::from_millis(1),
        ..crate::load::Load::new(&[Target::plain(port)], 16, 4)
    };
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| load.run(u64::MAX, &stop));
        let steps = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for servers in [
                vec![entry(&first), entry(&second)],
                vec![entry(&second)],
                vec![entry(&second), entry(&first)],
            ] {
                std::thread::sleep(Duration::from_millis(400));
                usherd.rewrite(&text(&servers));
                reload(&usherd);
                usherd.until("all its servers are up", |status| {
                    let listed = status["directories"][0]["servers"].as_array();
                    listed.is_some_and(|all| all.len() == servers.len() && all.iter().all(|one| one["state"] == "up"))
                });
                if servers.len() == 1 {
                    std::thread::sleep(Duration::from_millis(200));
                    let own = second.url().rsplit(':').next().unwrap_or_default().to_owned();
                    (0..20).for_each(|_| assert_eq!(which(&Target::plain(port)), own));
                }
            }
        }));
        std::thread::sleep(Duration::from_millis(400));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let tally = running.join().expect("the load ran");
        if let Err(panic) = steps {
            std::panic::resume_unwind(panic);
        }
        tally.assert_untroubled();
    });
    usherd.stop();
}

#[test]
fn sighup_applies_a_changed_limit_to_connections_that_stay() {
    let slapd = Slapd::start();
    let port = crate::proc::free_port();
    let text = |limit: &str| directory("corp", &server(&slapd.url(), ""), limit) + &listener(port, "corp", "");
    let usherd = Setup::new().section(&text("")).start();
    let mut client = Client::bound(&Target::plain(port), &user(1), &password(1));
    assert_eq!(client.call(&slow(2)).last().map(Message::code), Some(0));
    usherd.rewrite(&text("search_timeout = \"500ms\""));
    usherd.process.signal("HUP");
    let start = Instant::now();
    while client.call(&slow(2)).last().map(Message::code) != Some(3) {
        assert!(
            start.elapsed() < Duration::from_secs(8),
            "the new limit is never applied\n{}",
            usherd.process.output()
        );
    }
    assert_eq!(client.whoami(), format!("dn:{}", user(1)));
    usherd.stop();
}

#[test]
fn a_reload_takes_up_a_new_certificate_and_keeps_tls_connections() {
    let slapd = Slapd::start();
    let port = crate::proc::free_port();
    let setup = Setup::new();
    let (certificate, key) = certificates().server();
    let copy = |from: &std::path::Path, name: &str, folder: &std::path::Path| {
        std::fs::copy(from, folder.join(name)).expect("a copy");
    };
    copy(&certificate, "tls.crt", setup.folder.path());
    copy(&key, "tls.key", setup.folder.path());
    let tls = "tls = { cert_file = \"tls.crt\", key_file = \"tls.key\" }";
    let text = directory("corp", &server(&slapd.url(), ""), "")
        + &listener(port, "corp", tls).replace("\"ldap\"", "\"ldaps\"");
    let usherd = setup.section(&text).start();
    let ldaps = Target::Ldaps(([127, 0, 0, 1], port).into(), certificates().ca());
    let mut old = Client::bound(&ldaps, &user(1), &password(1));
    let before = old.peer_certificate();
    let (certificate, key) = certificates().renewed();
    copy(&certificate, "tls.crt", usherd.folder.path());
    copy(&key, "tls.key", usherd.folder.path());
    reload(&usherd);
    let new = Client::connect(&ldaps);
    assert_ne!(new.peer_certificate(), before, "still the old certificate");
    assert_eq!(old.whoami(), format!("dn:{}", user(1)), "the old connection stays");
    usherd.stop();
}

#[test]
fn a_bad_file_changes_nothing_and_says_where_it_is_wrong() {
    let slapd = Slapd::start();
    let port = crate::proc::free_port();
    let good = directory("corp", &server(&slapd.url(), ""), "") + &listener(port, "corp", "");
    let usherd = Setup::new().section(&good).start();
    let mut client = Client::bound(&Target::plain(port), &user(1), &password(1));
    let bad = [
        (
            good.replace("identity = \"proxied\"", "identiti = \"proxied\""),
            "identity",
        ),
        (good.replace("directory = \"corp\"", "directory = \"crop\""), "crop"),
        (good.replace("[[listen]]", "[[listen]"), "usherd.toml"),
        (good.replace("usherd.secret", "nothing.secret"), "nothing.secret"),
    ];
    for (text, hint) in bad {
        usherd.rewrite(&text);
        let output = usherd.command(&["reload"]);
        assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
        let said = shown(&output);
        assert!(said.contains(hint), "no {hint:?} in: {said}");
        assert_eq!(client.whoami(), format!("dn:{}", user(1)));
        assert_eq!(
            Client::bound(&Target::plain(port), &user(2), &password(2)).whoami(),
            format!("dn:{}", user(2))
        );
    }
    usherd.rewrite(&good);
    reload(&usherd);
    assert_eq!(client.whoami(), format!("dn:{}", user(1)));
    usherd.stop();
}

#[test]
fn a_busy_port_and_a_second_daemon_are_failed_starts_that_say_so() {
    let slapd = Slapd::start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let folder = crate::proc::Folder::new("busy");
    crate::usherd::restrict(&folder.write("usherd.secret", USHERD.1));
    let text = format!(
        "[server]\ncontrol = \"control\"\n{}{}",
        directory("corp", &server(&slapd.url(), ""), ""),
        listener(port, "corp", "")
    );
    let file = folder.write("usherd.toml", text);
    let output = crate::proc::run(
        crate::usherd::BINARY,
        &["run", "-c", &file, "--log", "human"],
        Duration::from_secs(10),
    );
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    assert!(shown(&output).contains(&port.to_string()), "{}", shown(&output));
}

#[test]
fn an_unbound_server_connection_is_noticed_as_closed() {
    // The notice of disconnection that slapd sends when it goes down must not reach clients as an answer.
    let mut slapd = Slapd::start();
    let usherd = Setup::corp("retry_max = \"500ms\"", &[server(&slapd.url(), "")]).start();
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    // Only a server knows who it is, until it is asked.
    usherd.until("the client is named", |status| {
        status["directories"][0]["names_asked"] == 1
    });
    slapd.end();
    assert_eq!(client.receive(Duration::from_millis(500)).err(), Some(Gone::Timeout));
    slapd.revive();
    usherd.until("the server is back", |status| {
        status["directories"][0]["servers"][0]["state"] == "up"
    });
    assert_eq!(client.whoami(), format!("dn:{}", user(1)));
    usherd.stop();
}
