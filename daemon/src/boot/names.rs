//! Names that are looked up while the daemon runs: services, whose servers come and go with what DNS says of them, and names of
//! servers, whose connections leave addresses that the name does not have any more.
//!
//! The plan as it was written is kept ([`Names::base`]); the one in force has servers in place of services, and is made anew when
//! an answer differs from the last one. A look-up that fails changes nothing. What is asked again waits on the thread of DNS; the
//! main loop and the workers hear of it only where something has changed.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::limits::clients_max;
use super::{Daemon, Event, Lifecycle};
use crate::config::plan::{Directory, Plan, Target};
use crate::config::srv::{self, Answers};
use crate::drive::Job;
use crate::net::dns::{Counts, Dns, DnsPlan, Found};
use crate::net::resolve::Resolver;
use crate::worker::Inbox;

/// An address that so many look-ups in a row did not name is gone: some DNS servers name only some of many.
const SEEN: usize = 3;
/// Services that nothing is known of are asked for again so soon.
const UNKNOWN_AGAIN: Duration = Duration::from_secs(5);

/// What is told of a service.
pub(super) type Answer = Result<Vec<Found>, String>;

/// See the module.
pub(super) struct Names {
    resolver: Resolver,
    current: Current,
    tasks: Vec<AbortHandle>,
    inboxes: Vec<Arc<Inbox>>,
    to_main: Sender<Event>,
}

#[derive(Default)]
struct Current {
    asked: Option<DnsPlan>,
    dns: Option<Dns>,
    base: Option<Arc<Plan>>,
    answers: Answers,
}

/// A plan that can be put into force.
pub(super) struct Next {
    current: Current,
    /// With servers in place of services.
    pub(super) plan: Arc<Plan>,
}

impl Names {
    pub(super) fn new(resolver: Resolver, inboxes: Vec<Arc<Inbox>>, to_main: Sender<Event>) -> Names {
        Names {
            resolver,
            current: Current::default(),
            tasks: Vec::new(),
            inboxes,
            to_main,
        }
    }

    /// Looks up what a plan names and nobody has looked up yet; waits for it, for no longer than the look-ups may take.
    ///
    /// # Errors
    /// There is no thread for DNS.
    pub(super) fn prepare(&self, base: Plan) -> Result<Next, String> {
        let wanted = &base.server.dns;
        let before = &self.current;
        let same = before.asked.as_ref() == Some(wanted);
        let dns = match &before.dns {
            Some(dns) if same => Some(dns.clone()),
            _ if is_needed(&base) => Some(Dns::start(
                wanted,
                self.resolver.system().clone(),
                Arc::clone(self.resolver.counts()),
            )?),
            _ => None,
        };
        let services: BTreeSet<&str> = base
            .directories
            .values()
            .flat_map(|directory| srv::services(directory))
            .collect();
        let mut answers = before.answers.clone();
        answers.retain(|service, _| services.contains(&**service));
        let unknown: Vec<String> = services
            .into_iter()
            .filter(|service| !answers.contains_key(*service))
            .map(ToOwned::to_owned)
            .collect();
        if let Some(dns) = &dns {
            for (service, found) in ask_all(dns, unknown) {
                match found {
                    Ok(found) => _ = answers.insert(service, found),
                    Err(why) => tracing::warn!(service, why, "a service has no servers yet"),
                }
            }
        }
        let plan = Arc::new(srv::expand(&base, &answers));
        Ok(Next {
            current: Current {
                asked: Some(wanted.clone()),
                dns,
                base: Some(Arc::new(base)),
                answers,
            },
            plan,
        })
    }

    /// Prepares and takes.
    ///
    /// # Errors
    /// There is no thread for DNS.
    pub(super) fn begin(&mut self, base: Plan) -> Result<Arc<Plan>, String> {
        let next = self.prepare(base)?;
        let plan = Arc::clone(&next.plan);
        self.take(next);
        Ok(plan)
    }

    /// What is counted.
    pub(super) fn counts(&self) -> Arc<Counts> {
        Arc::clone(self.resolver.counts())
    }

    /// The plan is in force.
    pub(super) fn take(&mut self, next: Next) {
        self.current = next.current;
        self.resolver.ask(self.current.dns.clone());
        self.watch(&next.plan);
    }

    /// A service was looked up. The plan with its servers, where they are others than before.
    pub(super) fn learn(&mut self, service: &str, found: Answer) -> Option<Arc<Plan>> {
        let base = Arc::clone(self.current.base.as_ref()?);
        if !base
            .directories
            .values()
            .any(|directory| srv::services(directory).contains(service))
        {
            // Another configuration came meanwhile.
            return None;
        }
        let found = match found {
            Ok(found) => found,
            Err(why) => {
                tracing::warn!(
                    service,
                    why,
                    "a service could not be looked up; its servers stay as they are"
                );
                return None;
            }
        };
        if self.current.answers.get(service) == Some(&found) {
            tracing::info!(service, "a service is found again");
            return None;
        }
        let servers: Vec<String> = found.iter().map(|one| format!("{}:{}", one.host, one.port)).collect();
        tracing::info!(service, servers = servers.join(", "), "a service has other servers now");
        self.current.answers.insert(service.to_owned(), found);
        let plan = Arc::new(srv::expand(&base, &self.current.answers));
        self.watch(&plan);
        Some(plan)
    }

    /// Looks up again what is in this plan, from now on.
    fn watch(&mut self, plan: &Plan) {
        self.stop();
        let (Some(dns), Some(base)) = (&self.current.dns, &self.current.base) else {
            return;
        };
        for (name, directory) in &plan.directories {
            if directory.resolve_interval.is_zero() {
                continue;
            }
            let services = base.directories.get(name).map(|base| srv::services(base));
            let known = |service: &str| self.current.answers.get(service).cloned();
            let watch = Watch {
                dns: dns.clone(),
                directory: name.clone(),
                interval: directory.resolve_interval,
                services: services
                    .into_iter()
                    .flatten()
                    .map(|service| (service.to_owned(), known(service).map(Ok)))
                    .collect(),
                hosts: hosts(directory),
                inboxes: self.inboxes.clone(),
                to_main: self.to_main.clone(),
            };
            self.tasks.push(dns.handle().spawn(watch.run()).abort_handle());
        }
    }

    /// Looks nothing up again.
    pub(super) fn stop(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
    }
}

impl Daemon {
    /// A service was looked up again. What it changes is applied as a reload is: who stays is not touched.
    pub(super) fn service_found(&mut self, service: &str, found: Answer) {
        if !matches!(self.lifecycle(), Lifecycle::Running | Lifecycle::HandedOver) {
            return;
        }
        let Some(new) = self.names.learn(service, found) else {
            return;
        };
        for worker in &self.workers {
            worker.inbox().push_always(Job::Plan(Arc::clone(&new)));
        }
        self.acceptor.set_clients_max(clients_max(&new));
        self.state.lock().unwrap_or_else(PoisonError::into_inner).plan = new;
    }
}

/// Whether anything of a plan needs a thread for DNS.
fn is_needed(plan: &Plan) -> bool {
    let again = |directory: &Directory| !directory.resolve_interval.is_zero() && !hosts(directory).is_empty();
    !plan.server.dns.servers.is_empty()
        || plan
            .directories
            .values()
            .any(|directory| !srv::services(directory).is_empty() || again(directory))
}

/// Servers that are names.
fn hosts(directory: &Directory) -> Vec<Host> {
    let servers = directory.tiers.iter().flat_map(|tier| &tier.servers);
    servers
        .filter_map(|server| match &server.target {
            Target::Tcp { host, port, .. } if Resolver::literal(host, *port).is_none() => Some(Host {
                server: server.name.clone(),
                host: host.clone(),
                port: *port,
                seen: VecDeque::new(),
                told: BTreeSet::new(),
            }),
            _ => None,
        })
        .collect()
}

/// All at once.
fn ask_all(dns: &Dns, services: Vec<String>) -> Vec<(String, Answer)> {
    let asked: Vec<_> = services
        .into_iter()
        .map(|service| {
            let own = dns.clone();
            let name = service.clone();
            (service, dns.begin(async move { own.service(&name).await }))
        })
        .collect();
    let ended = asked.into_iter().map(|(service, answer)| {
        let answer = answer.recv().unwrap_or_else(|_| Err("it was not looked up".to_owned()));
        (service, answer)
    });
    ended.collect()
}

/// A server whose name is looked up again.
struct Host {
    server: String,
    host: String,
    port: u16,
    /// What the last look-ups found.
    seen: VecDeque<BTreeSet<IpAddr>>,
    /// What the workers know.
    told: BTreeSet<IpAddr>,
}

impl Host {
    /// The addresses that it has, where workers are to be told: it has lost some.
    fn learn(&mut self, found: BTreeSet<IpAddr>) -> Option<BTreeSet<IpAddr>> {
        if self.seen.len() == SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(found);
        let all: BTreeSet<IpAddr> = self.seen.iter().flatten().copied().collect();
        let first = self.told.is_empty() && self.seen.len() == SEEN;
        let lost = self.told.iter().any(|address| !all.contains(address));
        if !first && !lost {
            if !self.told.is_empty() {
                self.told = all;
            }
            return None;
        }
        self.told.clone_from(&all);
        Some(all)
    }
}

/// What is looked up again for one directory.
struct Watch {
    dns: Dns,
    directory: String,
    interval: Duration,
    /// Each with what was found last.
    services: Vec<(String, Option<Answer>)>,
    hosts: Vec<Host>,
    inboxes: Vec<Arc<Inbox>>,
    to_main: Sender<Event>,
}

impl Watch {
    async fn run(mut self) {
        loop {
            let pause = if self.services.iter().any(|(_, last)| last.is_none()) {
                self.interval.min(UNKNOWN_AGAIN)
            } else {
                self.interval
            };
            tokio::time::sleep(pause).await;
            for (service, last) in &mut self.services {
                let found = self.dns.service(service).await;
                if found.is_err() && last.is_none() || last.as_ref().is_some_and(|last| same(last, &found)) {
                    continue;
                }
                *last = Some(found.clone());
                if self.to_main.send(Event::Service(service.clone(), found)).is_err() {
                    return;
                }
            }
            for host in &mut self.hosts {
                let Ok(found) = self.dns.addresses(&host.host, host.port).await else {
                    continue;
                };
                if let Some(addresses) = host.learn(found.iter().map(|address| address.ip().to_canonical()).collect()) {
                    let addresses = Arc::new(addresses);
                    for inbox in &self.inboxes {
                        inbox.push_always(Job::Addresses {
                            directory: self.directory.clone(),
                            server: host.server.clone(),
                            addresses: Arc::clone(&addresses),
                        });
                    }
                }
            }
        }
    }
}

/// One failure is like another.
fn same(one: &Answer, two: &Answer) -> bool {
    match (one, two) {
        (Ok(one), Ok(two)) => one == two,
        (Err(_), Err(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(addresses: &[u8]) -> BTreeSet<IpAddr> {
        addresses.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect()
    }

    #[test]
    fn an_address_is_gone_when_three_look_ups_did_not_name_it() {
        let mut host = Host {
            server: "ldap://ldap".into(),
            host: "ldap".into(),
            port: 389,
            seen: VecDeque::new(),
            told: BTreeSet::new(),
        };
        assert_eq!(host.learn(set(&[1, 2])), None);
        assert_eq!(host.learn(set(&[2, 3])), None);
        assert_eq!(
            host.learn(set(&[1, 3])),
            Some(set(&[1, 2, 3])),
            "what came before is compared once"
        );
        for _ in 0..4 {
            assert_eq!(host.learn(set(&[1, 2])), None, "some of many, in turn");
            assert_eq!(host.learn(set(&[2, 3])), None);
            assert_eq!(host.learn(set(&[1, 3])), None);
        }
        assert_eq!([host.learn(set(&[1, 2])), host.learn(set(&[1, 2]))], [None, None]);
        assert_eq!(host.learn(set(&[1, 2])), Some(set(&[1, 2])), "3 has gone");
        assert_eq!(host.learn(set(&[1, 2, 4])), None, "a new one is nothing to leave");
    }
}
