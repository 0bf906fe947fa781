//! Sinks against real peers and scripted ones.

mod files;
mod lease;
mod nats;
mod programs;
mod python;
mod tls;
mod webhook;

use std::path::PathBuf;
use std::time::Duration;

use engine::feed::event::{Attributes, Event, Op};

use super::{Batch, SinkKind, SinkPlan, Sinks, Timeouts};

/// A folder of a test; removed at the end.
pub(in crate::feed) struct Folder(PathBuf);

impl Folder {
    pub(in crate::feed) fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("usherd-sink-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    pub(in crate::feed) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let limited = async {
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .expect("the test hangs")
    };
    let done = runtime.block_on(limited);
    runtime.shutdown_background();
    done
}

fn plan(kind: SinkKind) -> SinkPlan {
    SinkPlan {
        timeouts: Timeouts {
            connect: Duration::from_secs(2),
            handshake: Duration::from_secs(2),
            deliver: Duration::from_secs(5),
            grace: Duration::from_millis(300),
        },
        kind,
    }
}

fn sinks(kind: SinkKind) -> Sinks {
    Sinks::new(plan(kind), "people")
}

/// One attribute as LDAP has it.
fn attribute(name: &str, values: &[&[u8]]) -> Vec<u8> {
    let element = |tag: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).unwrap();
        assert!(length < 128);
        [&[tag, length], content].concat()
    };
    let values: Vec<u8> = values.iter().flat_map(|value| element(4, value)).collect();
    element(0x30, &[element(4, name.as_bytes()), element(0x31, &values)].concat())
}

/// An add on this shard; its name and uuid are made of its number.
fn add(seq: u64, shard: u16, content: &'static [u8]) -> Event<'static> {
    let mut uuid = [0; 16];
    uuid[8..].copy_from_slice(&seq.to_be_bytes());
    let dn = Box::leak(format!("cn=p{seq},dc=example").into_boxed_str());
    let mut event = Event::new(Op::Add, uuid, dn, 1_700_000_000_000);
    (event.seq, event.shard) = (seq, shard);
    event.attributes = Attributes::new(content).unwrap();
    event
}

fn adds(range: std::ops::RangeInclusive<u64>, shard: u16) -> Vec<Event<'static>> {
    range.map(|seq| add(seq, shard, b"")).collect()
}

fn batch<'a>(events: &'a [Event<'a>]) -> Batch<'a> {
    Batch {
        events,
        cookie: b"rid=001",
    }
}
