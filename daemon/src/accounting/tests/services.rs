//! Records as calls.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use wire::rpc::ErrorCode;

use super::super::plan::{ServicePlan, SinkPlan, Statement};
use super::super::service::judge;
use super::super::{Call, Outcome};
use super::{Folder, LONG, Running, all_done, of_session, settings};

/// A service that answers on threads of its own, after a while.
#[derive(Default)]
struct Fake {
    down: AtomicBool,
    refuses: AtomicBool,
    open: AtomicUsize,
    most: AtomicUsize,
    /// Numbers of the records that were taken, by session.
    taken: Mutex<BTreeMap<String, Vec<u64>>>,
}

impl Fake {
    fn call(self: &Arc<Self>) -> Call {
        let fake = Arc::clone(self);
        Arc::new(move |service, payload, _| {
            assert_eq!(service, "sql");
            let (answer, answered) = oneshot::channel();
            if fake.down.load(Ordering::SeqCst) {
                let _ = answer.send(Err((ErrorCode::Unavailable, "no helper runs".into())));
                return Some(answered);
            }
            let now = fake.open.fetch_add(1, Ordering::SeqCst) + 1;
            fake.most.fetch_max(now, Ordering::SeqCst);
            let fake = Arc::clone(&fake);
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(1));
                let reply = fake.answer(&payload);
                fake.open.fetch_sub(1, Ordering::SeqCst);
                let _ = answer.send(Ok(reply.as_bytes().to_vec()));
            });
            Some(answered)
        })
    }

    fn answer(&self, payload: &[u8]) -> &'static str {
        let call: Value = serde_json::from_slice(payload).unwrap();
        assert_eq!(call["do"], "account");
        let [session, number] = [&call["parameters"][0], &call["parameters"][1]];
        let (session, number) = (session.as_str().unwrap(), number.as_u64().unwrap());
        if session == "bad" && self.refuses.load(Ordering::SeqCst) {
            return "{\"status\":\"constraint\",\"message\":\"out of range\"}";
        }
        let mut taken = self.taken.lock().unwrap();
        taken.entry(session.to_owned()).or_default().push(number);
        "{\"status\":\"ok\",\"affected\":1}"
    }
}

fn plan() -> SinkPlan {
    SinkPlan::Service(ServicePlan {
        service: "sql".into(),
        statement: Some(Statement {
            name: "account".into(),
            parameters: vec!["session".into(), "Acct-Session-Time".into()],
        }),
        concurrency: 4,
        timeout: Duration::from_secs(5),
    })
}

#[test]
fn calls_are_several_at_once_and_in_order_for_each_session() {
    let fake = Arc::new(Fake::default());
    let running = Running::calling(settings(plan(), None), fake.call());
    for n in 0..400 {
        running.push(of_session(&format!("s{}", n % 20), n));
    }
    assert_eq!(running.told(400), all_done(400));
    let most = fake.most.load(Ordering::SeqCst);
    assert!((2..=4).contains(&most), "{most}");
    for (session, numbers) in &*fake.taken.lock().unwrap() {
        assert_eq!(numbers.len(), 20, "{session}");
        assert!(numbers.is_sorted(), "{session}: {numbers:?}");
    }
}

#[test]
fn a_service_that_is_down_and_back_gets_all_in_order() {
    let folder = Folder::new("service");
    let fake = Arc::new(Fake::default());
    let running = Running::calling(settings(plan(), Some(&folder.path("spool"))), fake.call());
    running.push(of_session("s0", 0));
    running.told(1);
    fake.down.store(true, Ordering::SeqCst);
    for n in 1..200 {
        running.push(of_session(&format!("s{}", n % 3), n));
    }
    running.told(199);
    let figures = running.until("a full spool", |figures| figures.spool_records == 199);
    assert!(figures.last_error.unwrap().contains("unavailable: no helper runs"));
    fake.down.store(false, Ordering::SeqCst);
    for n in 200..300 {
        running.push(of_session(&format!("s{}", n % 3), n));
    }
    running.told(100);
    running.until("an empty spool", |figures| figures.replayed + figures.written >= 300);
    for (session, numbers) in &*fake.taken.lock().unwrap() {
        assert_eq!(numbers.len(), 100, "{session}");
        assert!(numbers.is_sorted(), "{session}: {numbers:?}");
    }
}

#[test]
fn without_a_spool_a_service_that_is_down_is_told() {
    let fake = Arc::new(Fake::default());
    fake.down.store(true, Ordering::SeqCst);
    let running = Running::calling(settings(plan(), None), fake.call());
    running.push(of_session("s", 0));
    assert_eq!(running.told(1), [(0, false)]);
    let running = Running::calling(settings(plan(), None), Arc::new(|_, _, _| None));
    running.push(of_session("s", 0));
    assert_eq!(running.told(1), [(0, false)]);
    assert!(running.writer.figures().last_error.unwrap().contains("too much to do"));
}

#[test]
fn what_a_service_will_not_have_holds_up_nobody_and_is_tried_at_the_next_start() {
    let folder = Folder::new("refused");
    let spool = folder.path("spool");
    let fake = Arc::new(Fake::default());
    fake.refuses.store(true, Ordering::SeqCst);
    let running = Running::calling(settings(plan(), Some(&spool)), fake.call());
    running.push(of_session("good", 0));
    running.push(of_session("bad", 1));
    running.push(of_session("good", 2));
    assert_eq!(running.told(3), all_done(3));
    let figures = running.until("one set aside", |figures| {
        figures.set_aside == 1 && figures.spool_records == 0
    });
    assert_eq!(figures.refused, 0, "{figures:?}");
    assert_eq!(fake.taken.lock().unwrap()["good"], [0, 2]);
    assert!(running.writer.stop(LONG));
    drop(running);
    fake.refuses.store(false, Ordering::SeqCst);
    let running = Running::calling(settings(plan(), Some(&spool)), fake.call());
    running.until("a replay", |figures| figures.replayed == 1);
    assert_eq!(fake.taken.lock().unwrap()["bad"], [1]);
}

#[test]
fn answers_are_judged_by_their_status() {
    let of = |text: &str| judge(&Ok(text.as_bytes().to_vec())).0;
    assert_eq!(of("{\"status\":\"ok\"}"), Outcome::Done);
    assert_eq!(of("{\"status\":\"exists\"}"), Outcome::Done);
    assert_eq!(of("{\"status\":\"constraint\"}"), Outcome::Refused);
    for later in [
        "{\"status\":\"unavailable\"}",
        "{\"status\":\"prepare-error\"}",
        "{}",
        "ok",
        "",
        "[1]",
    ] {
        assert_eq!(of(later), Outcome::Later, "{later}");
    }
    assert_eq!(judge(&Err((ErrorCode::Deadline, String::new()))).0, Outcome::Later);
    assert_eq!(judge(&Err((ErrorCode::TooLarge, String::new()))).0, Outcome::Refused);
}
