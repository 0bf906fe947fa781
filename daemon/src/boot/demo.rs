//! The demo: two local directories with believable people behind one balancer; every so often one of them dies and comes
//! back, and nobody notices. What is written to them is told on the terminal by a feed.

mod radius;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use engine::core::policy::Kind as Policy;
use engine::directory::Writing;

use crate::cli::Demo;
use crate::config::one_line::{self, DIRECTORY};
use crate::config::plan::{Address, Directory, Identity, LocalFile, Plan, Target};
use crate::config::{self, run_dir};
use crate::drive::Job;
use crate::worker::Worker;

const BASE: &str = "dc=example,dc=com";
/// Who may write, below the base; its password is [`ADMIN_PASSWORD`].
const ADMIN: &str = "cn=usherd,ou=services";
const ADMIN_PASSWORD: &str = "usherd-demo";
/// How much may be added, and how many changes are kept for who follows them.
const ENTRIES_MAX: usize = 100_000;
const BYTES_MAX: usize = 1 << 30;
const CHANGES_MAX: usize = 10_000;
/// The service that is offered.
const SERVICE: &str = "upper";
/// The feed, and the directory that it follows: what both have, and which does not die, so that the terminal stays quiet.
const FEED: &str = "changes";
const NAMES: [&str; 2] = ["north", "south"];
/// How long a directory is dead.
const DEAD_FOR: Duration = Duration::from_secs(3);

/// Runs the demo.
pub fn demo(args: &Demo) -> ExitCode {
    let state = match StateFolder::make() {
        Ok(state) => state,
        Err(error) => {
            tracing::error!("no private folder for the feed's state can be made: {error}");
            return ExitCode::from(super::NO_START);
        }
    };
    match plan(args, &state) {
        Ok(plan) => {
            let text = welcome(args, &plan);
            let mut play = Play::new(args.every);
            // The feed writes to standard output, too, and is not to be before this.
            let mut out = std::io::stdout().lock();
            let tell = move |_: &super::Daemon| {
                // Whoever started it into a closed pipe does not read it.
                let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            };
            super::run_with(plan, None, None, tell, move |workers| play.act(workers))
        }
        Err(why) => {
            tracing::error!("{why}");
            ExitCode::from(super::NO_START)
        }
    }
}

/// A private folder, which goes with the demo.
struct StateFolder(PathBuf);

impl StateFolder {
    fn make() -> std::io::Result<StateFolder> {
        let mut folder = run_dir::make()?;
        folder.pop();
        Ok(StateFolder(folder))
    }
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        // Nothing can be done about a failure, and nobody looks for what is in it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn plan(args: &Demo, state: &StateFolder) -> Result<Plan, String> {
    let line = one_line::Ldap {
        listen: vec![args.listen.clone()],
        // Placeholders of the right shape: what stands behind them is put in below.
        server: NAMES.iter().map(|name| format!("ldap://{name}.invalid")).collect(),
        policy: Some(Policy::RoundRobin),
        admin: Some(args.admin.clone()),
        workers: Some(args.workers),
        control: args.control.as_ref().map(|path| path.display().to_string()),
        ..one_line::Ldap::default()
    };
    let (mut plan, _) = one_line::ldap(&line).map_err(|found| config::render(&found, false))?;
    let people = usize::try_from(args.people).unwrap_or(usize::MAX);
    let text: Arc<str> = engine::directory::people::people(people, BASE, 1).into();
    let directory = plan.directories.get_mut(DIRECTORY).ok_or("the demo has no directory")?;
    let directory = Arc::make_mut(directory);
    directory.identity = Identity::Proxied;
    // The dead are back soon, and are to be noticed before the other one dies.
    directory.limits.retry_max = directory.limits.retry_min;
    // One and the same: what is written to one of them is in the other, as if they replicated.
    let target = Target::Local(LocalFile {
        file: PathBuf::from("(demo)"),
        stamp: (0, text.len() as u64),
        base: Some(BASE.to_owned()),
        text: Some(text),
        writing: Some(Writing {
            admins: vec![format!("{ADMIN},{BASE}")],
            entries_max: ENTRIES_MAX.max(people.saturating_mul(2)),
            bytes_max: BYTES_MAX,
            changes_max: CHANGES_MAX,
        }),
        write_back: false,
    });
    stand_in(directory, &NAMES, &target);
    follow(&mut plan, state, &target)?;
    offer(&mut plan)?;
    if !args.radius.is_empty() {
        let address = args.radius.parse().map_err(|_| {
            format!(
                "--radius: {:?} is not an address; write 127.0.0.1:11812, or \"\" for none",
                args.radius
            )
        })?;
        plan.listeners.push(Arc::new(radius::listener(address, BASE)?));
    }
    Ok(plan)
}

/// The demo's directory in the place of each server.
fn stand_in(directory: &mut Directory, names: &[&str], target: &Target) {
    for tier in &mut directory.tiers {
        for (server, name) in tier.servers.iter_mut().zip(names) {
            let server = Arc::make_mut(server);
            (*name).clone_into(&mut server.name);
            server.target = target.clone();
        }
    }
}

/// A feed beside them: each change is a line on the terminal. Who lives there to begin with is not told.
fn follow(plan: &mut Plan, state: &StateFolder, target: &Target) -> Result<(), String> {
    let line = one_line::Feed {
        server: vec!["ldap://feed.invalid".to_owned()],
        state: state.0.display().to_string(),
        name: FEED.to_owned(),
        base: Some(BASE.to_owned()),
        no_initial: true,
        ..one_line::Feed::default()
    };
    let (followed, _) = one_line::feed(&line).map_err(|found| config::render(&found, false))?;
    for directory in followed.directories.into_values() {
        let mut directory = Arc::unwrap_or_clone(directory);
        FEED.clone_into(&mut directory.name);
        stand_in(&mut directory, &[FEED], target);
        plan.directories.insert(FEED.to_owned(), Arc::new(directory));
    }
    for feed in followed.feeds.into_values() {
        let mut feed = Arc::unwrap_or_clone(feed);
        FEED.clone_into(&mut feed.directory);
        plan.feeds.insert(FEED.to_owned(), Arc::new(feed));
    }
    Ok(())
}

/// A service beside the directories: a program that needs nothing but what every system has.
fn offer(plan: &mut Plan) -> Result<(), String> {
    let line = one_line::Service {
        name: SERVICE.to_owned(),
        program: ["tr", "a-z", "A-Z"].map(str::to_owned).to_vec(),
        control: Some(plan.server.control.display().to_string()),
        ..one_line::Service::default()
    };
    let (service, _) = one_line::service(&line).map_err(|found| config::render(&found, false))?;
    plan.services.extend(service.services);
    plan.listeners.extend(service.listeners);
    Ok(())
}

/// Where the service is called.
fn service_address(plan: &Plan) -> String {
    let rpc = plan.listeners.iter().find_map(|listener| match &listener.address {
        Address::Unix(path, _) => Some(path),
        Address::Tcp(_) | Address::Udp(_) => None,
    });
    rpc.map(|path| format!("unix:{}", path.display())).unwrap_or_default()
}

fn welcome(args: &Demo, plan: &Plan) -> String {
    let someone = somebody(plan).unwrap_or_else(|| "nobody".to_owned());
    let bold = |text: &str| {
        if std::io::stdout().is_terminal() {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    };
    let url = format!("ldap://{}", args.listen.trim_start_matches("ldap://"));
    let radius = if args.radius.is_empty() {
        String::new()
    } else {
        format!(
            "radtest {someone} {someone}-demo {} 0 {}\n  ",
            args.radius,
            radius::SECRET
        )
    };
    let kills = if args.every.is_zero() {
        String::new()
    } else {
        format!(
            "Every {} s one of the two dies for {} s. Keep asking: nobody notices.\n",
            args.every.as_secs_f32(),
            DEAD_FOR.as_secs()
        )
    };
    format!(
        "\n{}\n{} people live in two directories, \"north\" and \"south\", behind one balancer at {url}\n{kills}\
         The service \"{SERVICE}\" is a program behind a queue, deadlines and limits.\n\
\
         A feed follows the directories: each change is a line of JSON below.\n\n\
         {}\n  ldapsearch -x -LLL -H {url} -b {BASE} '(sn=a*)' cn mail\n  \
         ldapsearch -x -LLL -H {url} -b {BASE} -s base '(objectClass=*)' '*' +\n  \
         ldapwhoami -x -H {url} -D uid={someone},ou=people,{BASE} -w {someone}-demo\n  \
         printf 'dn: uid={someone},ou=people,{BASE}\\nchangetype: modify\\nreplace: title\\ntitle: Head\\n' |\n    \
         ldapmodify -x -H {url} -D {ADMIN},{BASE} -w {ADMIN_PASSWORD}\n  \
         usherd bench ldap {url} --base {BASE} --filter '(uid=*a)' --duration 5s\n  \
         {radius}usherd call --connect {} {SERVICE} 'hello, world'\n  \
         usherd status --control {}\n  curl -s http://{}/metrics | grep usherd_\n\nCtrl-C ends it.\n",
        bold("usherd demo"),
        args.people,
        bold("Try:"),
        service_address(plan),
        plan.server.control.display(),
        args.admin,
    )
}

/// One of those who live in the directories.
fn somebody(plan: &Plan) -> Option<String> {
    let server = plan.directories.get(DIRECTORY)?.tiers.first()?.servers.first()?;
    let Target::Local(LocalFile { text: Some(text), .. }) = &server.target else {
        return None;
    };
    text.lines()
        .find_map(|line| line.strip_prefix("uid: "))
        .map(str::to_owned)
}

/// Who is dead, and who is next.
struct Play {
    every: Duration,
    turn: usize,
    dead: Option<&'static str>,
    begun: bool,
}

impl Play {
    fn new(every: Duration) -> Self {
        Play {
            every,
            turn: 0,
            dead: None,
            begun: false,
        }
    }

    fn act(&mut self, workers: &[Worker]) -> Option<Duration> {
        if self.every.is_zero() {
            return None;
        }
        if !std::mem::replace(&mut self.begun, true) {
            return Some(self.every);
        }
        match self.dead.take() {
            Some(name) => {
                tell(workers, name, true);
                Some(self.every)
            }
            None => {
                let name = if self.turn.is_multiple_of(2) {
                    NAMES[0]
                } else {
                    NAMES[1]
                };
                self.turn += 1;
                self.dead = Some(name);
                tell(workers, name, false);
                Some(DEAD_FOR)
            }
        }
    }
}

fn tell(workers: &[Worker], server: &str, alive: bool) {
    let word = if alive { "is back" } else { "is dead" };
    tracing::info!("{server} {word}");
    for worker in workers {
        let _ = worker.enqueue(Job::Alive {
            directory: DIRECTORY.to_owned(),
            server: server.to_owned(),
            alive,
        });
    }
}
