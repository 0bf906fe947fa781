//! Leadership on the real server, and a take-over with what the new leader reads.

use std::time::{Duration, Instant};

use engine::feed::standby::State;

use super::nats::{Server, messages, nats};
use super::{adds, batch, plan, run};
use crate::feed::sink::takeover::Leadership;
use crate::feed::sink::{Failure, LeasePlan, SinkError, SinkKind, Sinks};

/// Long enough that a machine on which everything is tested at once does not lose a lease by being slow: a renewal is late
/// after three quarters of it.
const TTL: Duration = Duration::from_secs(5);

fn daemon(port: u16) -> Sinks {
    Sinks::new(plan(SinkKind::Nats(nats(port))), "people")
}

async fn open(sinks: &Sinks, ttl: Duration) -> Result<Leadership, SinkError> {
    let bucket = "leases".to_owned();
    sinks.leadership(&LeasePlan { bucket, ttl }).await
}

async fn leadership(sinks: &Sinks) -> Leadership {
    open(sinks, TTL).await.unwrap()
}

#[test]
fn one_leads_and_another_takes_over_when_it_falls_silent() {
    let server = Server::start("lease");
    run(async {
        let (a, b) = (daemon(server.port), daemon(server.port));
        let (mut a_leads, mut b_leads) = (leadership(&a).await, leadership(&b).await);
        assert!(a_leads.hold().await.unwrap() && a_leads.is_leader());
        assert!(!b_leads.hold().await.unwrap() && !b_leads.is_leader());
        let leader = b_leads.leader().await.unwrap().unwrap();
        assert!(leader.ends_with(&format!("/{}", std::process::id())), "{leader}");
        for _ in 0..5 {
            // Renewed for longer than the TTL: nobody else gets it.
            tokio::time::sleep(TTL / 4).await;
            assert!(a_leads.hold().await.unwrap());
            assert!(!b_leads.hold().await.unwrap());
        }
        let mut old = a.connect(0).await.unwrap();
        old.deliver(&batch(&adds(1..=3, 0))).await.unwrap();

        // A falls silent, as with kill -9.
        let silent = Instant::now();
        while !b_leads.hold().await.unwrap() {
            tokio::time::sleep(b_leads.ask_at() - Instant::now()).await;
        }
        assert!(silent.elapsed() < TTL * 3, "{:?}", silent.elapsed());
        assert!(!a_leads.is_leader(), "it stopped believing before");
        assert!(b_leads.is_leader());

        // B reads what A said, before it says anything.
        let end = b.end(1).await.unwrap().position;
        let mut follow = b.follow(0).await.unwrap();
        let mut position = 0;
        while position < end {
            let published = follow.next(Duration::from_secs(5)).await.unwrap().unwrap();
            let (uuid, said) = published.entry.unwrap();
            assert_eq!(
                (said.position, u64::from(uuid[15])),
                (published.position, published.seq)
            );
            let event = &adds(published.seq..=published.seq, 0)[0];
            assert_eq!((said.state, said.dn.as_str()), (State::of(event), event.dn));
            assert_eq!(published.cookie, b"rid=001");
            position = published.position;
        }
        let mut new = b.connect(0).await.unwrap();
        assert_eq!(new.last(), Some(3));
        new.deliver(&batch(&adds(4..=5, 0))).await.unwrap();
        // However long that took, B has renewed it since.
        assert!(b_leads.hold().await.unwrap());
        // A wakes up and believes that nothing happened.
        let error = old.deliver(&batch(&adds(4..=4, 0))).await.unwrap_err();
        assert_eq!(error.failure, Failure::Fenced);
        assert!(!a_leads.hold().await.unwrap());
        let seqs: Vec<u64> = messages(server.port).await.into_iter().map(|(_, seq)| seq).collect();
        assert_eq!(seqs, [1, 2, 3, 4, 5]);

        // B resigns, and A need not wait.
        b_leads.resign().await;
        assert!(a_leads.hold().await.unwrap());
    });
}

#[test]
fn a_bucket_with_another_ttl_is_for_a_person() {
    let server = Server::start("lease-ttl");
    run(async {
        leadership(&daemon(server.port)).await;
        let other = open(&daemon(server.port), TTL * 2).await;
        let error = other.err().unwrap();
        assert_eq!(error.failure, Failure::Setting);
        assert!(error.text.contains("all daemons need the same"), "{error}");
    });
}
