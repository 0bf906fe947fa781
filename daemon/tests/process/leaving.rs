//! Clients that leave while they are not read: it is noticed at once, and what they had under way is given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Client, Target, message};
use crate::fake;
use crate::ops::{self, present};
use crate::proc::wait_for;
use crate::recorder::scripted;
use crate::slapd::user;
use crate::usherd::{Setup, Usherd, listener_tls, server};

/// Far below the operation timeout, at the end of which everything is noticed.
const AT_ONCE: Duration = Duration::from_secs(2);
const PENDING: usize = 10;

/// What a server that answers nobody but the daemon was asked and told.
#[derive(Default)]
struct Heard {
    searches: AtomicUsize,
    binds: AtomicUsize,
    abandons: AtomicUsize,
}

impl Heard {
    fn until(&self, what: &str, count: impl Fn(&Heard) -> &AtomicUsize, wanted: usize) {
        wait_for(what, Duration::from_secs(10), || {
            (count(self).load(Ordering::Relaxed) >= wanted).then_some(())
        });
    }
}

/// A server that answers no search and no bind of a user.
fn mute() -> (String, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let counts = Arc::clone(&heard);
    let url = scripted(String::new, move |who, id, tag, op, _| {
        let of_user = String::from_utf8_lossy(op).contains("uid=user");
        let count = match tag {
            0x63 if of_user => &counts.searches,
            0x60 if of_user => &counts.binds,
            0x50 => &counts.abandons,
            // The daemon looks whether the server lives.
            0x63 => return fake::result(id, ops::SEARCH_DONE, 0, ""),
            _ => return fake::answer(id, tag, op, who),
        };
        count.fetch_add(1, Ordering::Relaxed);
        Vec::new()
    });
    (url, heard)
}

fn searches(many: usize) -> Vec<u8> {
    let op = ops::search(&user(1), ops::BASE, &present("uid"), &["description"]);
    (1..=many)
        .flat_map(|id| message(i64::try_from(id).expect("small"), &op))
        .collect()
}

fn until_gone(usherd: &Usherd, what: &str) {
    let left = Instant::now();
    usherd.until(what, |status| status["clients"] == 0);
    assert!(left.elapsed() < AT_ONCE, "{what}: noticed after {:?}", left.elapsed());
}

#[test]
fn a_client_that_leaves_while_it_is_not_read_is_noticed_at_once_and_its_operations_are_abandoned() {
    let (url, heard) = mute();
    let tls = listener_tls();
    let usherd = Setup::corp(&format!("client_pending_max = {PENDING}"), &[server(&url, "")])
        .listen("ldaps", "127.0.0.1:0", &format!("directory = \"corp\"\n{tls}"))
        .listen("ldap", "unix:ldapi", "directory = \"corp\"")
        .start();
    let mut pending = 0;
    for target in [usherd.plain(0), usherd.ldaps(1), Target::Unix(usherd.unix("ldapi"))] {
        // It waits for a while, or is gone before its last request is looked at; an unbind that is not read says nothing.
        for (lingers, unbinds) in [(true, false), (false, false), (true, true)] {
            let mut client = Client::connect(&target);
            let mut requests = searches(PENDING * 2);
            if unbinds {
                requests.extend(message(1_000, &ops::unbind()));
            }
            client.send_raw(&requests).expect("sent");
            pending += PENDING;
            if lingers {
                heard.until("its first requests are sent on", |heard| &heard.searches, pending);
            }
            drop(client);
            until_gone(&usherd, &format!("{target:?}, lingers {lingers}, unbinds {unbinds}"));
        }
    }
    let asked = heard.searches.load(Ordering::Relaxed);
    heard.until("what was asked is abandoned", |heard| &heard.abandons, asked);
    assert!(asked <= pending, "what was not read is not asked: {asked} of {pending}");
    usherd.stop();
}

#[test]
fn a_client_that_leaves_behind_its_own_bind_is_noticed_at_once() {
    let (url, heard) = mute();
    let usherd = Setup::corp("", &[server(&url, "")]).start();
    for (number, lingers) in [(1, true), (2, false)] {
        let mut client = Client::connect(&usherd.plain(0));
        let bind = message(1_000, &ops::bind(&user(1), "x"));
        client.send_raw(&[bind, searches(3)].concat()).expect("sent");
        if lingers {
            heard.until("its bind is sent on", |heard| &heard.binds, number);
        }
        drop(client);
        until_gone(&usherd, &format!("lingers {lingers}"));
    }
    assert_eq!(
        heard.searches.load(Ordering::Relaxed),
        0,
        "nothing is asked after the bind"
    );
    usherd.stop();
}
