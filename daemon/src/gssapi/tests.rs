//! The queue: its bound, its threads, and who gets one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::*;

fn account(name: &str) -> Arc<Kerberos> {
    Arc::new(Kerberos {
        // There is none, so that every question ends with an error and nobody is asked.
        keytab: Some(PathBuf::from(format!("/nonexistent/{name}"))),
        ccache: None,
        principal: Some(name.into()),
        server: None,
    })
}

fn question(kerberos: &Arc<Kerberos>, wanted: &Arc<()>) -> Question {
    Question {
        kerberos: Arc::clone(kerberos),
        server: Arc::new(Server {
            service: "ldap".into(),
            host: "ldap.example.com".into(),
        }),
        session: None,
        request: Request::Initiate(None),
        wanted: Arc::downgrade(wanted),
    }
}

fn threads(threads_max: usize) -> Bounds {
    Bounds {
        threads_max,
        ..Bounds::default()
    }
}

fn nothing() -> Then {
    Box::new(|_| {})
}

#[test]
fn one_account_has_half_the_threads_and_others_go_before_it() {
    let (one, other, wanted) = (account("one"), account("other"), Arc::new(()));
    let mut queue = Queue {
        bounds: threads(4),
        ..Queue::default()
    };
    let push = |queue: &mut VecDeque<(Question, Then)>, who| queue.push_back((question(who, &wanted), nothing()));
    for who in [&one, &one, &one, &other] {
        push(&mut queue.waiting, who);
    }
    // The same settings again, as after a reload, are the same account.
    push(&mut queue.waiting, &account("one"));
    let mut next = || {
        queue
            .next()
            .map(|(question, _)| question.kerberos.principal.clone().unwrap())
    };
    let order: Vec<Option<String>> = (0..4).map(|_| next()).collect();
    assert_eq!(
        order,
        [Some("one".into()), Some("one".into()), Some("other".into()), None]
    );
    queue.running.swap_remove(0);
    assert!(queue.next().is_some(), "there is room for it again");
    assert!(queue.next().is_none());
}

#[test]
fn questions_are_answered_elsewhere_and_errors_say_why() {
    let (gss, wanted) = (Gss::new(threads(2)), Arc::new(()));
    let (to, from) = std::sync::mpsc::channel();
    let here = std::thread::current().id();
    for number in 0..20 {
        let to = to.clone();
        gss.ask(
            question(&account(&number.to_string()), &wanted),
            Box::new(move |outcome| {
                assert_ne!(std::thread::current().id(), here);
                to.send(outcome.err().unwrap()).unwrap();
            }),
        );
    }
    for _ in 0..20 {
        let why = from.recv_timeout(Duration::from_secs(20)).unwrap();
        // A machine without Kerberos says that, as does a build without.
        assert!(
            why.contains("/nonexistent/") || why.contains("cannot be loaded") || why == NOT_BUILT,
            "{why}"
        );
    }
    assert_eq!(gss.figures().failed, 20);
    assert!(gss.room.lock().threads <= 2);
}

#[test]
fn what_waits_is_bounded_and_what_nobody_wants_makes_room() {
    let bounds = Bounds {
        waiting_max: 40,
        ..threads(1)
    };
    let (gss, wanted) = (Gss::new(bounds), Arc::new(()));
    // The one thread is kept busy by an answer that is not taken.
    let (release, held) = std::sync::mpsc::channel::<()>();
    gss.ask(
        question(&account("held"), &wanted),
        Box::new(move |_| {
            let _ = held.recv_timeout(Duration::from_secs(20));
        }),
    );
    let begun = Instant::now();
    while gss.figures().failed == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(1));
    }
    let who = account("who");
    let mut kept = Arc::new(());
    for _ in 0..40 {
        gss.ask(question(&who, &kept), nothing());
    }
    assert_eq!((gss.figures().waiting, gss.figures().refused), (40, 0));
    let (to, from) = std::sync::mpsc::channel();
    let refused = move |outcome: Outcome| to.send(outcome.err().unwrap()).unwrap();
    gss.ask(question(&who, &kept), Box::new(refused.clone()));
    assert!(from.try_recv().unwrap().contains("gssapi_waiting_max"));
    assert_eq!(gss.figures().refused, 1);
    kept = Arc::new(());
    gss.ask(question(&who, &kept), Box::new(refused));
    assert_eq!((gss.figures().waiting, gss.figures().late), (1, 40));
    release.send(()).unwrap();
    let why = from.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(!why.contains("gssapi_waiting_max"), "{why}");
}

#[test]
fn a_token_that_is_too_long_is_not_asked_about() {
    let bounds = Bounds {
        token_bytes_max: 2048,
        ..threads(1)
    };
    let (gss, wanted) = (Gss::new(bounds), Arc::new(()));
    let said = |request: Request| {
        let (to, from) = std::sync::mpsc::channel();
        let asked = Question {
            request,
            ..question(&account("x"), &wanted)
        };
        gss.ask(asked, Box::new(move |outcome| to.send(outcome.err().unwrap()).unwrap()));
        from.recv_timeout(Duration::from_secs(20)).unwrap()
    };
    let is_refused = |why: &str| why.ends_with("longer than gssapi_token_bytes_max (2KiB)");
    for request in [Request::Initiate(Some(vec![0; 2049])), Request::Unwrap(vec![0; 2049])] {
        let why = said(request);
        assert!(is_refused(&why), "{why}");
    }
    // As long as may be, and ours, which the server has no part in.
    for request in [Request::Initiate(Some(vec![0; 2048])), Request::Wrap(vec![0; 2049])] {
        let why = said(request);
        assert!(!is_refused(&why), "{why}");
    }
    let figures = gss.figures();
    assert_eq!((figures.too_long, figures.failed), (2, 2));
}

#[test]
fn a_question_that_nobody_wants_is_not_asked() {
    let gss = Gss::new(threads(1));
    let (wanted, given_up) = (Arc::new(()), Arc::new(()));
    let (to, from) = std::sync::mpsc::channel();
    let (first, second) = (to.clone(), to);
    let unwanted = question(&account("gone"), &given_up);
    drop(given_up);
    gss.ask(unwanted, Box::new(move |_| first.send("gone").unwrap()));
    // There is one thread, which takes them in their order.
    gss.ask(
        question(&account("there"), &wanted),
        Box::new(move |_| second.send("there").unwrap()),
    );
    assert_eq!(from.recv_timeout(Duration::from_secs(20)), Ok("there"));
    assert_eq!((gss.figures().late, gss.figures().failed), (1, 1));
}

#[test]
fn threads_that_are_too_many_go() {
    let (gss, wanted) = (Gss::new(threads(8)), Arc::new(()));
    for number in 0..64 {
        gss.ask(question(&account(&number.to_string()), &wanted), nothing());
    }
    gss.bound(threads(1));
    let begun = Instant::now();
    while gss.room.lock().threads > 1 || gss.figures().failed < 64 {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_server_is_named_as_it_is_dialled_unless_it_is_said() {
    let mut kerberos = Kerberos::clone(&account("x"));
    let target = Target::Tcp {
        host: "ldap1.example.com".into(),
        port: 389,
        tls: crate::config::plan::UpstreamTls::None,
    };
    let named = |kerberos: &Kerberos, target| {
        kerberos
            .server(target)
            .map(|server| format!("{}@{}", server.service, server.host))
    };
    assert_eq!(named(&kerberos, &target).as_deref(), Some("ldap@ldap1.example.com"));
    let unix = Target::Unix(PathBuf::from("/run/ldapi"));
    assert_eq!(named(&kerberos, &unix), None);
    kerberos.server = Some(Server {
        service: "x".into(),
        host: "y".into(),
    });
    assert_eq!(named(&kerberos, &target).as_deref(), Some("x@y"));
    assert_eq!(named(&kerberos, &unix).as_deref(), Some("x@y"));
}
