//! Records as calls to a service: several at once, those of one session one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use wire::radius::{Dictionary, Packet};
use wire::rpc::ErrorCode;

use super::plan::ServicePlan;
use super::{Item, Outcome, json};
use crate::drive::{Job, RemoteAnswer, RemoteCall};
use crate::worker::Inbox;

/// How a service is called: its name, the request, and how long it may take. None: the daemon has too much to do.
pub type Call = Arc<dyn Fn(&str, Vec<u8>, Duration) -> Option<oneshot::Receiver<RemoteAnswer>> + Send + Sync>;

/// Calls of one lane that are in one batch, about.
const LANE_CALLS: usize = 8;
/// How much longer than the call itself its answer is waited for.
const GRACE: Duration = Duration::from_secs(1);

/// Calls by the inbox of the worker on which services live.
pub fn calls(home: Arc<Inbox>) -> Call {
    /// The keys of other callers (`dbus`) have not this bit.
    const OURS: u32 = 1 << 31;
    static KEYS: AtomicU32 = AtomicU32::new(0);
    Arc::new(move |service: &str, payload: Vec<u8>, timeout: Duration| {
        let (answer, answered) = oneshot::channel();
        let call = RemoteCall {
            key: KEYS.fetch_add(1, Ordering::Relaxed) | OURS,
            service: service.to_owned(),
            payload,
            timeout: Some(timeout),
            answer,
        };
        home.push(Job::Call(Box::new(call))).ok()?;
        Some(answered)
    })
}

/// See the module.
pub(super) struct Service {
    plan: Arc<ServicePlan>,
    dictionary: Arc<Dictionary>,
    call: Call,
    runtime: Option<Runtime>,
}

/// What became of some records, by their places in the batch, and what went wrong.
type Said = (Vec<(usize, Outcome)>, Option<String>);

impl Service {
    pub(super) fn new(plan: ServicePlan, dictionary: Arc<Dictionary>, call: Call) -> Service {
        let runtime = Builder::new_current_thread().enable_time().build();
        if let Err(error) = &runtime {
            tracing::error!(%error, "the service of accounting cannot be called");
        }
        Service {
            plan: Arc::new(plan),
            dictionary,
            call,
            runtime: runtime.ok(),
        }
    }

    pub(super) fn batch_max(&self) -> usize {
        self.plan.concurrency.max(1) * LANE_CALLS
    }

    pub(super) fn write(&mut self, batch: &[Item]) -> (Vec<Outcome>, Option<String>) {
        let mut outcomes = vec![Outcome::Later; batch.len()];
        let mut wrong = None;
        let Some(runtime) = &self.runtime else {
            return (outcomes, Some("the service cannot be called".to_owned()));
        };
        let said = runtime.block_on(async {
            let mut lanes = JoinSet::new();
            for lane in self.lanes(batch) {
                lanes.spawn(run_lane(Arc::clone(&self.plan), Arc::clone(&self.call), lane));
            }
            lanes.join_all().await
        });
        for (told, why) in said {
            for (at, outcome) in told {
                outcomes.get_mut(at).into_iter().for_each(|place| *place = outcome);
            }
            wrong = wrong.or(why);
        }
        (outcomes, wrong)
    }

    /// What is called one after the other: records of one session are in one lane.
    fn lanes(&self, batch: &[Item]) -> Vec<Vec<(usize, Vec<u8>)>> {
        let mut lanes = vec![Vec::new(); self.plan.concurrency.max(1)];
        let count = lanes.len() as u64;
        for (at, item) in batch.iter().enumerate() {
            let key = Packet::parse(&item.record.packet).map(|packet| json::session_key(&packet, &item.record));
            let [a, b, c, d, ..] = key.unwrap_or_default();
            let lane = u64::from(u32::from_be_bytes([a, b, c, d])) % count;
            let mut request = Vec::new();
            match &self.plan.statement {
                Some(statement) => {
                    let (name, parameters) = (&statement.name, &statement.parameters);
                    json::write_call(&mut request, &self.dictionary, &item.record, name, parameters);
                }
                None => json::write(&mut request, &self.dictionary, &item.record),
            }
            let lane = usize::try_from(lane).ok().and_then(|lane| lanes.get_mut(lane));
            lane.into_iter()
                .for_each(|lane| lane.push((at, std::mem::take(&mut request))));
        }
        lanes.retain(|lane| !lane.is_empty());
        lanes
    }
}

/// Up to the first that is not taken now: what comes behind it may be of the same session.
async fn run_lane(plan: Arc<ServicePlan>, call: Call, lane: Vec<(usize, Vec<u8>)>) -> Said {
    let mut told = Vec::new();
    for (at, request) in lane {
        let Some(answered) = call(&plan.service, request, plan.timeout) else {
            return (told, Some("the daemon has too much to do".to_owned()));
        };
        let answer = match tokio::time::timeout(plan.timeout + GRACE, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err((ErrorCode::Unavailable, "the call was lost".to_owned())),
            Err(_) => Err((ErrorCode::Deadline, "there was no answer in time".to_owned())),
        };
        let (outcome, why) = judge(&answer);
        if outcome == Outcome::Later {
            let why = why.map(|why| format!("service {}: {why}", plan.service));
            return (told, why);
        }
        if let (Outcome::Refused, Some(why)) = (outcome, why) {
            tracing::warn!(service = plan.service, why, "an accounting record was refused");
        }
        told.push((at, outcome));
    }
    (told, None)
}

/// What an answer means for its record: the statuses of `docs/sql.md`, which other services may use, too.
pub(super) fn judge(answer: &RemoteAnswer) -> (Outcome, Option<String>) {
    let bytes = match answer {
        Ok(bytes) => bytes,
        Err((ErrorCode::TooLarge, text)) => return (Outcome::Refused, Some(text.clone())),
        Err((code, text)) => return (Outcome::Later, Some(format!("{}: {text}", code.name()))),
    };
    let answer: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let status = answer.get("status").and_then(Value::as_str).unwrap_or("no status");
    let message = answer.get("message").and_then(Value::as_str).unwrap_or_default();
    let why = || Some(format!("{status}: {message}"));
    match status {
        // It is there already: it was written before, and its answer was lost.
        "ok" | "exists" => (Outcome::Done, None),
        "constraint" | "bind-error" | "invalid" | "too-large" => (Outcome::Refused, why()),
        _ => (Outcome::Later, why()),
    }
}
