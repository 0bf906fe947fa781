//! What OpenLDAP's own scripts for lloadd assert of its behaviour, in our words, through `packaging/lloadd` where a configuration of
//! lloadd's decides it. What other tests say already:
//!
//! | script | what it asserts | test |
//! |---|---|---|
//! | test000-rootdse | the root DSE and what is beside the data come through | `sasl_ldap::the_root_dse_names_what_works_here_and_nothing_else`, `same_answers` |
//! | test001-backend-issues | servers that fail leave the rest alone | here |
//! | test002-load | many clients of all kinds, few connections | here, `balance`, `load` |
//! | test003-cnconfig | servers and binds change while it runs | `lifecycle::a_reload_adds_and_removes_servers_under_load_without_a_loss`, `own_bind::a_wrong_password_and_a_missing_mechanism_are_told_apart_and_a_reload_mends_them` |
//! | test004-monitor | figures over LDAP | `monitor` |
//! | test005-tls | StartTLS and ldaps both ways, EXTERNAL by certificate | `upstreams`, `import_lloadd::the_adapter_takes_the_place_of_lloadd`, `sasl_ldap::external_over_tls_is_the_subject_of_the_clients_certificate` |
//! | test006-sasl | who may assert an identity; binds by SASL | here, `own_bind`, `sasl_ldap` |
//! | test007-coherence | refused controls, pages, write coherence, transactions | here, `rules`, `rules_route` |
//! | test008-nod | a notice of disconnection ends no operation; two in a chain follow the content | here, `rules_route::two_in_a_chain_pass_on_a_search_that_follows_the_content` |

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::ber::{elements, int, seq, take, text, tlv, value};
use crate::client::{Client, Message, PATIENCE, Target, message, with_controls};
use crate::fake::{entry, result};
use crate::import_lloadd::{Adapter, is_answered};
use crate::ops::{self, present};
use crate::proc::{Folder, free_port, wait_for};
use crate::recorder::scripted;
use crate::rules::{all_pages, title, transact};
use crate::rules_route::set_title;
use crate::slapd::{BASE, EDITOR, PEOPLE, Slapd, USHERD, password, user};
use crate::usherd::{Setup, server};

/// The adapter with a configuration of lloadd's that begins with the daemon's own bind.
fn adapter(folder: &Folder, lines: &str) -> (Adapter, Target) {
    let own = format!(
        "enable proxyauthz\nbindconf bindmethod=simple binddn=\"{}\" credentials=\"{}\"\n",
        USHERD.0, USHERD.1
    );
    let file = folder.write("lloadd.conf", format!("{own}{lines}"));
    let port = free_port();
    let urls = format!("ldap://127.0.0.1:{port}");
    let mut adapter = Adapter::start(folder, &["-s0", "-f", &file, "-h", &urls, "-d", "0x4105"]);
    wait_for("the adapter answers", PATIENCE, || {
        assert!(adapter.0.ended().is_none(), "{}", adapter.0.output());
        is_answered(port)
    });
    (adapter, Target::plain(port))
}

/// The answers to all of these, in whatever order they come.
fn answers(client: &mut Client, ids: &[i64]) -> HashMap<i64, Vec<Message>> {
    let mut all: HashMap<i64, Vec<Message>> = HashMap::new();
    let mut ended = 0;
    while ended < ids.len() {
        let answer = client.receive(PATIENCE).expect("an answer");
        assert!(ids.contains(&answer.id), "{answer:?}");
        ended += usize::from(answer.is_final());
        all.entry(answer.id).or_default().push(answer);
    }
    all
}

fn asserting(op: &[u8], identity: &str) -> Vec<u8> {
    with_controls(op, &[(ops::OID_PROXIED, true, Some(identity.as_bytes().to_vec()))])
}

#[test]
fn servers_that_refuse_the_bind_are_away_or_have_no_name_leave_the_rest_alone() {
    let slapd = Slapd::start();
    let given = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&given);
    let refuses = scripted(
        || (),
        move |(), id, tag, _, _| {
            if tag == 0x60 {
                return result(id, ops::BIND_RESPONSE, 49, "");
            }
            counted.fetch_add(1, Ordering::SeqCst);
            Vec::new()
        },
    );
    let folder = Folder::new("lloadd-issues");
    let servers = [
        (refuses, 10),
        (slapd.url(), 1),
        (format!("ldap://127.0.0.1:{}", free_port()), 0),
        ("ldap://does.not.resolve.invalid".to_owned(), 5),
    ];
    let lines = servers.map(|(url, weight)| {
        format!(
            "backend-server uri={url} numconns=3 bindconns=2 retry=500 max-pending-ops=5 conn-max-pending=3 weight={weight}\n"
        )
    });
    let (_adapter, target) = adapter(&folder, &format!("tier roundrobin\ntier weighted\n{}", lines.concat()));
    for n in 1..31 {
        let mut client = Client::bound(&target, &user(n), &password(n));
        assert_eq!(client.whoami(), format!("dn:{}", user(n)));
        let found = client.call(&ops::search(PEOPLE, ops::SUB, &ops::equal("uid", "user42"), &["uid"]));
        assert_eq!((found.len(), found[1].code()), (2, 0), "{found:?}");
    }
    assert_eq!(
        given.load(Ordering::SeqCst),
        0,
        "what came to a server that is not bound"
    );
}

#[test]
fn twenty_clients_of_every_kind_on_one_connection_hear_of_no_busy_server() {
    let slapds = [Slapd::start(), Slapd::start()];
    let folder = Folder::new("lloadd-load");
    let lines = slapds.each_ref().map(|slapd| {
        format!(
            "backend-server uri={} numconns=1 bindconns=1 retry=5000 max-pending-ops=2 conn-max-pending=1\n",
            slapd.url()
        )
    });
    let (_adapter, target) = adapter(&folder, &format!("tier bestof\n{}", lines.concat()));
    let clients: Vec<_> = (1..21)
        .map(|n| {
            let target = target.clone();
            thread::spawn(move || {
                let mut client = Client::connect(&target);
                for round in 0..20 {
                    client.bind(&user(n), &password(n));
                    let asked = [
                        ops::search(PEOPLE, ops::SUB, &ops::equal("uid", &format!("user{n}")), &[]),
                        ops::compare(&user(n), "uid", "nobody"),
                        ops::modify(&user(n), &[(ops::REPLACE, "title", &["worker"])]),
                    ];
                    // All at once: there is room for one of them.
                    let ids = asked.map(|op| client.send(&op));
                    let heard = answers(&mut client, &ids);
                    let codes = ids.map(|id| heard[&id].last().map(Message::code));
                    assert_eq!(codes, [Some(0), Some(5), Some(0)], "user{n}, round {round}");
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("nothing but its results");
    }
}

#[test]
fn who_is_bound_as_lloadd_itself_may_assert_an_identity_and_nobody_else_may() {
    let slapd = Slapd::start();
    let folder = Folder::new("lloadd-assert");
    let lines = format!(
        "tier bestof\nbackend-server uri={} numconns=1 conn-max-pending=1\n",
        slapd.url()
    );
    let (_adapter, target) = adapter(&folder, &lines);
    let secret = ops::search(&format!("ou=secret,{BASE}"), ops::BASE, &present("ou"), &[]);
    let as_one = format!("dn:{}", user(1));
    let mut own = Client::bound(&target, USHERD.0, USHERD.1);
    assert_eq!(
        own.call(&asserting(&secret, &as_one)).len(),
        2,
        "what only user1 may read"
    );
    assert_eq!(own.call(&secret).len(), 1, "without the control nobody else's rights");
    assert_eq!(own.call(&asserting(&secret, "")).len(), 1, "nor as nobody");
    // Asked all at once, where there is room for one: what waits is sent as whom it was asked.
    let ids: Vec<(i64, String)> = (0..60)
        .map(|n| match n % 3 {
            0 => (own.send(&asserting(&ops::whoami(), "")), String::new()),
            1 => (own.send(&ops::whoami()), format!("dn:{}", USHERD.0)),
            _ => {
                let who = format!("dn:{}", user(n));
                (own.send(&asserting(&ops::whoami(), &who)), who)
            }
        })
        .collect();
    let all: Vec<i64> = ids.iter().map(|(id, _)| *id).collect();
    let heard = answers(&mut own, &all);
    for (id, who) in ids {
        let answer = &heard[&id][0];
        let said = answer.response_value().unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(&said), who, "{answer:?}");
    }
    // The server judges as whom.
    let answer = own.one(&asserting(&ops::whoami(), "dn:cn=nobody,dc=elsewhere"));
    assert_eq!(answer.code(), 123, "{answer:?}");
    for (who, word) in [("", ""), (&*user(1), &*password(1)), (EDITOR.0, EDITOR.1)] {
        own.bind(who, word);
        for claim in [&*as_one, "", &*format!("dn:{}", USHERD.0)] {
            for op in [&ops::whoami(), &secret, &ops::delete(&user(9))] {
                let answer = own.one(&asserting(op, claim));
                assert_eq!(answer.code(), 2, "{who}: {answer:?}");
                assert_eq!(
                    answer.diagnostic(),
                    "proxy authorization control specified multiple times"
                );
            }
        }
    }
}

#[test]
fn restrictions_of_lloadd_hold_and_a_client_keeps_to_the_server_that_it_wrote_to() {
    let slapds = [Slapd::start(), Slapd::start()];
    let folder = Folder::new("lloadd-coherence");
    let [first, second] = slapds.each_ref().map(Slapd::url);
    let lines = format!(
        "write_coherence 2\nrestrict_exop 1.3.6.1.4.1.4203.1.11.1 write\nrestrict_exop 1.3.6.1.1.21.1 connection\n\
         restrict_exop 1.3.6.1.1.8 reject\nrestrict_control 1.3.6.1.1.12 backend\n\
         restrict_control 1.2.840.113556.1.4.319 connection\nrestrict_control 1.3.6.1.1.22 reject\n\
         tier roundrobin\nbackend-server uri={first} numconns=2 bindconns=2 conn-max-pending=3 max-pending-ops=5\n\
         backend-server uri={second} numconns=4 bindconns=5 conn-max-pending=3 max-pending-ops=5\n"
    );
    let (_adapter, target) = adapter(&folder, &lines);
    let mut direct = slapds
        .each_ref()
        .map(|slapd| Client::bound(&slapd.plain(), EDITOR.0, EDITOR.1));
    let no_copy = [("1.3.6.1.1.22", true, None)];
    let mut client = Client::connect(&target);
    let whole = ops::search(BASE, ops::BASE, &present("objectClass"), &[]);
    assert_eq!(client.one(&with_controls(&whole, &no_copy)).code(), 53);
    // Any other connection would not know the next page.
    assert_eq!(
        all_pages(&mut client, 1, &ops::pieces("uid", "user77*")),
        (111, all_pages(&mut direct[0], 50, &ops::pieces("uid", "user77*")).1)
    );
    // Each of two is asked in turn, but who has written keeps to one for a while.
    let mut writers: Vec<Client> = (0..8).map(|_| Client::bound(&target, EDITOR.0, EDITOR.1)).collect();
    let wrote = |direct: &mut [Client; 2], n: usize, wanted: &str| -> usize {
        let has = direct
            .each_mut()
            .map(|server| title(server, n).as_deref() == Some(wanted));
        assert!(has[0] != has[1], "user{n} at one of two: {has:?}");
        usize::from(has[1])
    };
    let mut at = Vec::new();
    for (n, writer) in writers.iter_mut().enumerate() {
        let (first, more) = (10 * (n + 1), [10 * (n + 1) + 1, 10 * (n + 1) + 2]);
        assert_eq!(
            writer
                .one(&ops::password_modify(Some(&user(first)), None, Some("another")))
                .code(),
            0
        );
        for of in more {
            assert_eq!(set_title(writer, of, "sticks"), 0);
            assert_eq!(title(writer, of).as_deref(), Some("sticks"), "it reads what it wrote");
        }
        let knows = slapds.each_ref().map(|slapd| {
            Client::connect(&slapd.plain())
                .one(&ops::bind(&user(first), "another"))
                .code()
        });
        let server = wrote(&mut direct, more[0], "sticks");
        assert_eq!(wrote(&mut direct, more[1], "sticks"), server);
        assert_eq!(knows[server], 0, "the password is there, too: {knows:?}");
        at.push(server);
    }
    thread::sleep(Duration::from_millis(2200));
    let (mut moved, mut another) = (0, Client::connect(&target));
    for (n, writer) in writers.iter_mut().enumerate() {
        let of = 10 * (n + 1) + 3;
        // Servers are taken in turn: somebody else's turn here and there.
        (0..n % 3).for_each(|_| assert_eq!(another.call(&whole).len(), 2));
        assert_eq!(set_title(writer, of, "free"), 0);
        moved += usize::from(wrote(&mut direct, of, "free") != at[n]);
    }
    assert!(moved > 0, "nobody moves when the time is over");
    for (n, commit) in [(300, false), (310, true)] {
        transact(&mut writers[0], n, "together", commit);
        let has = direct
            .each_mut()
            .map(|server| [2 * n, 2 * n + 1].map(|of| title(server, of).as_deref() == Some("together")));
        let both = has.iter().filter(|has| **has == [true, true]).count();
        let none = has.iter().filter(|has| **has == [false, false]).count();
        assert_eq!((both, none), if commit { (1, 1) } else { (0, 2) }, "{has:?}");
    }
}

/// A server that answers at once, but searches of `cn=late`; on which of its connections, the entries say.
#[derive(Default)]
struct Leaving {
    connections: AtomicUsize,
    late: Mutex<Option<(i64, TcpStream)>>,
    /// Connections that were closed, by their number.
    closed: Mutex<Vec<usize>>,
}

impl Leaving {
    fn start() -> (String, Arc<Self>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("ldap://{}", listener.local_addr().expect("an address"));
        let all = Arc::new(Self::default());
        let shared = Arc::clone(&all);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.serve(stream, number);
                    shared.closed.lock().expect("no panic").push(number);
                });
            }
        });
        (url, all)
    }

    fn serve(&self, mut stream: TcpStream, number: usize) {
        let (mut inbox, mut chunk) = (Vec::new(), [0; 4096]);
        while let Ok(read @ 1..) = stream.read(&mut chunk) {
            inbox.extend_from_slice(&chunk[..read]);
            while let Some((_, content, used)) = take(&inbox) {
                let parts = elements(content);
                let (id, (tag, op)) = (value(parts[0].1), parts[1]);
                let answer = match tag {
                    0x60 => result(id, ops::BIND_RESPONSE, 0, ""),
                    0x63 if op.windows(7).any(|some| some == b"cn=late") => {
                        let copy = stream.try_clone().expect("a copy");
                        *self.late.lock().expect("no panic") = Some((id, copy));
                        Vec::new()
                    }
                    0x63 => [entry(id, &format!("user{number}")), result(id, ops::SEARCH_DONE, 0, "")].concat(),
                    _ => Vec::new(),
                };
                let _ = stream.write_all(&answer);
                inbox.drain(..used);
            }
        }
    }

    fn say(&self, what: impl Fn(i64) -> Vec<u8>) {
        let late = self.late.lock().expect("no panic");
        let (id, stream) = late.as_ref().expect("it was asked");
        let mut stream = stream;
        stream.write_all(&what(*id)).expect("open");
    }
}

#[test]
fn a_servers_notice_of_disconnection_ends_no_operation_and_moves_what_is_new() {
    let (url, all) = Leaving::start();
    let lines = "connections = 1, connections_max = 2, ";
    let usherd = Setup::corp("", &[server(&url, lines)]).server("workers = 1").start();
    let asked = |name: &str| ops::search(&format!("{name},{BASE}"), ops::BASE, &present("objectClass"), &[]);
    let mut follower = Client::connect(&usherd.plain(0));
    let id = follower.send(&asked("cn=late"));
    wait_for("the server is asked", PATIENCE, || {
        all.late.lock().expect("no panic").is_some().then_some(())
    });
    let notice = seq(
        ops::EXTENDED_RESPONSE,
        &[
            int(0x0A, 52),
            text(""),
            text(""),
            tlv(0x8A, ops::OID_DISCONNECTION.as_bytes()),
        ],
    );
    let mut other = Client::connect(&usherd.plain(0));
    let before = other.call(&asked("cn=x"))[0].values("description");
    all.say(|_| message(0, &notice));
    // Whoever asks from now on is answered on another connection.
    wait_for("another connection", PATIENCE, || {
        let answers = other.call(&asked("cn=x"));
        assert_eq!(answers.last().map(Message::code), Some(0), "{answers:?}");
        (answers[0].values("description") != before).then_some(())
    });
    // What was asked before goes on, and its client has heard nothing of it all.
    for n in [1, 2] {
        all.say(|id| entry(id, &format!("user{n}")));
        let heard = follower.receive(PATIENCE).expect("an entry");
        assert_eq!(
            (heard.id, heard.values("description")),
            (id, vec![format!("token-{n}")])
        );
    }
    assert_eq!(
        *all.closed.lock().expect("no panic"),
        [0_usize; 0],
        "while something is pending there"
    );
    all.say(|id| result(id, ops::SEARCH_DONE, 0, ""));
    assert_eq!(follower.collect(id, PATIENCE).expect("its end")[0].code(), 0);
    wait_for("the connection is closed", PATIENCE, || {
        (!all.closed.lock().expect("no panic").is_empty()).then_some(())
    });
    assert_eq!(follower.call(&asked("cn=x")).len(), 2);
    usherd.stop();
}
