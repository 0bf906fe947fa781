//! A worker with one RADIUS listener of a plan, for one request that a person tries. Nothing else listens, and nothing is
//! recorded.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use engine::core::time::Span;
use engine::radius::clients::{Client, Clients, Network};
use engine::radius::trace::Who;
use wire::radius::Dictionary;

use super::INBOX_MAX;
use crate::config::plan::{Behind, Face, Listener, Plan, Radius};
use crate::drive::{Drive, Job, WorkerReport, listener_id};
use crate::net::datagram;
use crate::net::resolve::Resolver;
use crate::shared::Shared;
use crate::worker::{Kill, Worker};

/// How long is waited for directories and services to be ready; then they are asked as they are.
const READY_MAX: Duration = Duration::from_secs(5);
/// Nobody is traced for longer.
const TRACE: Span = Span::from_secs(3600);

/// Which listener is tried, and who asks.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// As its address is written; none: the first that answers authentication.
    pub listener: Option<String>,
    /// The client's name; none: the first one of the file.
    pub client: Option<String>,
    /// What the trial and its client share.
    pub secret: Vec<u8>,
}

/// How often in a row nothing is being answered before there is no answer: one may just be on its way.
const IDLE_LOOKS: usize = 3;

/// Starts, lets `ask` ask at an address as a client of a name, as long as there may be an answer, and says the lines of the
/// trace.
///
/// # Errors
/// There is no such listener or client, or it cannot be started.
pub fn run(
    plan: Plan,
    wanted: &Wanted,
    ask: impl FnOnce(SocketAddr, &str, &mut dyn FnMut() -> bool) -> Result<(), String>,
) -> Result<Vec<String>, String> {
    // Whoever linked another provider: ours is there already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (mut plan, mut listener) = alone(plan, wanted)?;
    let radius = own(&mut listener).ok_or("the listener is in use")?;
    let client = only_client(radius, wanted)?;
    let shared = Arc::new(Shared::new(1, plan.server.outbox_bytes_total));
    let now = shared.clock.now();
    radius.plan.traces.add(Who::Client(client.clone()), now + TRACE, now);
    let settings = datagram::Settings {
        receive_buffer_bytes: 64 << 10,
        together: false,
    };
    let sockets = datagram::bind((Ipv4Addr::LOCALHOST, 0).into(), 1, settings);
    let mut sockets = sockets.map_err(|error| format!("no socket for the trial: {error}"))?;
    let socket = sockets.pop().ok_or("no socket for the trial")?;
    let address = socket.local_addr();
    plan.listeners = vec![Arc::clone(&listener)];
    super::verify(&plan).map_err(|why| why.join("; "))?;
    let plan = Arc::new(plan);
    let resolver = Resolver::start().map_err(|error| format!("no thread for look-ups: {error}"))?;
    let own = Arc::clone(&shared);
    let build = move |poll, inbox| Drive::new(0, poll, inbox, own, resolver);
    let mut worker =
        Worker::create(0, INBOX_MAX, build).map_err(|error| format!("no thread for the trial: {error}"))?;
    let inbox = worker.inbox();
    shared.introduce(vec![Arc::clone(&inbox)]);
    shared.sockets_come(1);
    inbox.push_always(Job::Plan(plan));
    inbox.push_always(Job::RadiusOpened {
        listener: listener_id(&listener),
        socket: Box::new(socket),
        records: None,
    });
    until_ready(&worker);
    let mut idle = 0;
    let mut may_be = || {
        idle = if is_answering(&worker) { 0 } else { idle + 1 };
        idle < IDLE_LOOKS
    };
    let asked = ask(address, &client, &mut may_be);
    let (lines, _, _) = shared.traces.from(0);
    worker.kill(Kill::Now);
    asked.map(|()| lines)
}

/// What the listener's attributes are called.
///
/// # Errors
/// There is no such listener.
pub fn dictionary(plan: &Plan, wanted: &Wanted) -> Result<Dictionary, String> {
    let found = plan.listeners.iter().find(|listener| wanted.is(listener));
    match found.map(|listener| &listener.face) {
        Some(Face::Radius(radius)) => Ok((*radius.plan.dictionary).clone()),
        _ => Err(wanted.missing(&plan.listeners)),
    }
}

impl Wanted {
    fn is(&self, listener: &Listener) -> bool {
        match (&listener.face, &self.listener) {
            (Face::Radius(radius), Some(name)) => radius.plan.listener == *name,
            (Face::Radius(radius), None) => !radius.plan.chains.is_empty(),
            _ => false,
        }
    }

    fn missing(&self, listeners: &[Arc<Listener>]) -> String {
        let known = listeners.iter().filter_map(|listener| match &listener.face {
            Face::Radius(radius) => Some(radius.plan.listener.as_str()),
            _ => None,
        });
        let known: Vec<&str> = known.collect();
        match (&self.listener, known.as_slice()) {
            (_, []) => "this configuration has no radius listener".to_owned(),
            (Some(name), known) => format!(
                "no radius listener has the address {name:?}; there are: {}",
                known.join(", ")
            ),
            (None, _) => "no radius listener of this configuration answers authentication".to_owned(),
        }
    }
}

/// The listener, taken out of its plan, of which only what it asks is left.
fn alone(mut plan: Plan, wanted: &Wanted) -> Result<(Plan, Arc<Listener>), String> {
    let listeners = std::mem::take(&mut plan.listeners);
    let text = wanted.missing(&listeners);
    let found = listeners.into_iter().find(|listener| wanted.is(listener));
    let listener = found.ok_or_else(|| text.clone())?;
    let Face::Radius(radius) = &listener.face else {
        return Err(text);
    };
    let asks = |behind: Behind| radius.targets.contains(&behind);
    plan.directories.retain(|name, _| asks(Behind::Directory(name.clone())));
    plan.services.retain(|name, _| asks(Behind::Service(name.clone())));
    plan.feeds.clear();
    plan.buses.clear();
    plan.server.workers = 1;
    plan.server.admin = None;
    Ok((plan, listener))
}

/// What it answers by, to be changed: it was just read, and nobody else has it.
fn own(listener: &mut Arc<Listener>) -> Option<&mut Radius> {
    match &mut Arc::get_mut(listener)?.face {
        Face::Radius(radius) => Arc::get_mut(radius),
        _ => None,
    }
}

/// The client that asks is known on this machine, by another secret; its name, for which rules are written, is its own.
fn only_client(radius: &mut Radius, wanted: &Wanted) -> Result<String, String> {
    let plan = Arc::get_mut(&mut radius.plan).ok_or("the plan is in use")?;
    let found = match &wanted.client {
        Some(name) => plan.clients.named(name).ok_or_else(|| {
            let names: Vec<&str> = plan
                .clients
                .iter()
                .map(|(_, client)| client.name.as_str())
                .take(20)
                .collect();
            format!("no client is called {name:?}; there are: {}", names.join(", "))
        })?,
        None => {
            let first = plan.clients.iter().next().map(|(_, client)| client);
            first.ok_or("the clients file has no client")?
        }
    };
    let mut client = Client::new(&found.name, &wanted.secret);
    client.tags.clone_from(&found.tags);
    let name = found.name.clone();
    let mut clients = Clients::default();
    clients.add(client, &[Network::read("127.0.0.1")?])?;
    plan.clients = Arc::new(clients);
    plan.settings.reject_delay = Span::ZERO;
    plan.accounting = engine::session::radius::plan::Accounting::Discard;
    radius.accounting = None;
    Ok(name)
}

fn report(worker: &Worker) -> Option<WorkerReport> {
    let (to, from) = sync_channel(1);
    worker.inbox().push_always(Job::Report(to));
    from.recv_timeout(READY_MAX).ok()
}

/// Whether a request has not come yet, or is being answered.
fn is_answering(worker: &Worker) -> bool {
    report(worker).is_some_and(|report| {
        let all = report.radius.iter();
        let mut busy = all.map(|one| one.waiting > 0 || one.duplicates.begun == 0 && one.dropped.is_empty());
        busy.next().unwrap_or(true)
    })
}

fn until_ready(worker: &Worker) {
    let until = Instant::now() + READY_MAX;
    while Instant::now() < until {
        let ready = report(worker).is_some_and(|report| {
            report.directories.iter().all(|one| one.ready) && report.services.iter().all(|one| one.populated)
        });
        if ready {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
