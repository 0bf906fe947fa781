//! The command line: what can be typed, and where each command goes.
//!
//! Exit codes: 0 clean, 1 could not start (or the daemon said no), 2 wrong usage, 3 drain deadline passed.

mod bench;
mod call;
mod check;
mod check_helpers;
mod client;
mod feed;
mod helper;
mod helper_sql;
mod import;
mod ldap;
mod lockout;
mod probe;
mod radius;
mod service;
mod status;
mod stop;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::values;
use crate::{boot, config, log, trampoline};

/// Where the configuration is, unless `-c` says something else.
pub const CONFIG_DEFAULT: &str = "/etc/usherd/usherd.toml";

const ABOUT: &str = "Stands between the programs that ask identity questions and whatever can answer them";

const LONG_ABOUT: &str = "\
usherd (read: \"ushered\") stands between the programs that ask identity questions and whatever can answer them: LDAP \
servers, programs of your own, a directory in a file. It never blocks, never lets a slow answerer hurt anyone else, and \
never delivers an answer twice or to the wrong asker.";

const STORY: &str = "\
How to begin:
  usherd demo                      everything at once, on this machine; prints what to try
  usherd ldap run --listen ldap://127.0.0.1:1389 --server ldap://ldap1 --server ldap://ldap2
                                   a balancer in one line
  usherd service run upper -- tr a-z A-Z
                                   a program as a service in one line; prints how to call it
  usherd feed run ldap://ldap1 --state people --base dc=example,dc=com
                                   every change of a directory as a line of JSON
  usherd check -c usherd.toml      is my file right? every mistake at once
  usherd run -c usherd.toml        the daemon
  usherd status                    what it is doing now

Exit codes: 0 clean, 1 could not start, 2 wrong usage, 3 drain deadline passed.";

/// Everything that can be typed.
#[derive(Debug, Parser)]
#[command(name = "usherd", bin_name = "usherd", version, about = ABOUT, long_about = LONG_ABOUT, after_help = STORY)]
#[command(
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What the log looks like; `auto`: for a person on a terminal, JSON otherwise
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        value_name = "FORMAT",
        help_heading = "Log"
    )]
    pub log: log::Format,
    /// What is logged: this level and what is worse
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "info",
        value_name = "LEVEL",
        help_heading = "Log"
    )]
    pub log_level: log::Level,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands, in the order in which a newcomer meets them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what usherd does: two directories behind one balancer, one of which keeps dying
    Demo(Demo),
    /// Run the daemon from a configuration file, in the foreground
    Run(ConfigFile),
    /// Find every mistake in a configuration file, and say what would be right
    Check(check::Check),
    /// Balance LDAP without a configuration file
    #[command(subcommand)]
    Ldap(LdapCommand),
    /// Offer a program as a service; size a pool of helpers
    #[command(subcommand)]
    Service(service::Service),
    /// Follow a directory's changes
    #[command(subcommand)]
    Feed(feed::Feed),
    /// Read and write RADIUS packets
    #[command(subcommand)]
    Radius(radius::Radius),
    /// Translate what another program has into files of usherd's
    #[command(subcommand)]
    Import(import::Import),
    /// Send one request to a service and print the answer
    Call(call::Call),
    /// Make load, and report rate, latencies, faults and the CPU time of a process
    Bench(bench::Args),
    /// Show listeners, servers and services of a running daemon
    Status(status::Status),
    /// Read the configuration again; connections that the change does not concern stay
    Reload(client::Target),
    /// Let clients finish and take no new ones
    Drain(Drain),
    /// Let a new process take the daemon's place, without a loss for clients
    Upgrade(Upgrade),
    /// Drain, then end the daemon
    Stop(stop::Stop),
    /// Show who is locked out after failed binds, or let somebody in again
    #[command(subcommand)]
    Lockout(lockout::Lockout),
    /// Run a built-in helper, as the daemon does for a service, or try it by hand
    #[command(subcommand)]
    Helper(helper::Helper),
    /// Become a service's program, as the daemon wants it: not for people
    #[command(name = trampoline::COMMAND, hide = true)]
    HelperExec {
        /// What the daemon asks for
        description: String,
    },
}

/// `usherd ldap …`.
#[derive(Debug, Subcommand)]
pub enum LdapCommand {
    /// Run a balancer in one line
    Run(Box<ldap::Run>),
}

/// `usherd demo`.
#[derive(Args, Clone, Debug)]
pub struct Demo {
    /// Where LDAP is served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:1389")]
    pub listen: String,
    /// Where /metrics, /healthz and /readyz are served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9389")]
    pub admin: String,
    /// Where RADIUS is answered, for clients on this machine; "": nowhere
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:11812")]
    pub radius: String,
    /// How many people live in the two directories
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub people: u32,
    /// How often one of the two directories is killed and comes back; 0: never
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub every: Duration,
    /// Threads: 0 is one per CPU, a negative number that many fewer
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub workers: i64,
    /// Control socket [default: in a private folder]
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
}

/// `-c FILE`.
#[derive(Args, Clone, Debug)]
pub struct ConfigFile {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = CONFIG_DEFAULT)]
    pub config: PathBuf,
}

/// `usherd drain`.
#[derive(Args, Debug)]
pub struct Drain {
    /// How hard: clients finish (gentle), pending operations are ended (firm), everything is closed (now)
    #[arg(value_enum, default_value = "gentle", value_name = "LEVEL")]
    pub level: DrainLevel,
    /// The daemon.
    #[command(flatten)]
    pub target: client::Target,
}

/// `usherd upgrade`.
#[derive(Args, Debug)]
pub struct Upgrade {
    /// The new program [default: what lies now where the daemon's own program was started from]
    #[arg(long, value_name = "PATH")]
    pub program: Option<PathBuf>,
    /// The daemon.
    #[command(flatten)]
    pub target: client::Target,
}

impl Upgrade {
    fn run(&self) -> Result<ExitCode, String> {
        let absolute =
            |path: &PathBuf| std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()));
        let program = self.program.as_ref().map(absolute).transpose()?;
        let request = serde_json::json!({ "command": "upgrade", "program": program });
        client::ask_for(&self.target, &request, client::UPGRADE_PATIENCE)?;
        print(b"upgraded\n")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// How hard to drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DrainLevel {
    /// No new clients; those there are finish their operations, within `drain_gentle`
    Gentle,
    /// Pending operations are ended with a result, everyone is told, within `drain_firm`
    Firm,
    /// Everything is closed
    Now,
}

impl DrainLevel {
    fn word(self) -> &'static str {
        match self {
            DrainLevel::Gentle => "gentle",
            DrainLevel::Firm => "firm",
            DrainLevel::Now => "now",
        }
    }
}

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    let Cli {
        log,
        log_level,
        command,
    } = Cli::parse();
    let result = match command {
        Command::Demo(demo) => {
            log::start(log, log_level);
            return boot::demo::demo(&demo);
        }
        Command::Run(file) => {
            log::start(log, log_level);
            return run(file.config);
        }
        Command::Ldap(LdapCommand::Run(args)) => {
            log::start(log, log_level);
            return ldap::run(&args);
        }
        Command::Service(service::Service::Run(args)) => {
            log::start(log, log_level);
            return service::run::run(&args);
        }
        Command::Feed(feed::Feed::Run(args)) => {
            log::start(log, log_level);
            return feed::run::run(&args);
        }
        Command::Feed(feed::Feed::Verify(verify)) => {
            // What is said is the report; the log is for when it cannot be told.
            log::start(log, log_level);
            verify.run()
        }
        Command::Radius(radius::Radius::Run(args)) => {
            log::start(log, log_level);
            return radius::run::run(&args);
        }
        Command::HelperExec { description } => return trampoline::run(&description),
        Command::Check(check) => return check::run(&check),
        Command::Service(service::Service::Size(size)) => service::size::run(&size),
        Command::Feed(command) => feed(&command),
        Command::Radius(command) => command.run(),
        Command::Import(command) => command.run(),
        Command::Call(call) => call::run(&call),
        Command::Bench(args) => bench::run(&args),
        Command::Status(status) => status::run(&status),
        Command::Lockout(command) => command.run(),
        Command::Helper(helper) => helper::run(&helper),
        Command::Reload(target) => client::tell(&target, &serde_json::json!({ "command": "reload" }), "reloaded"),
        Command::Drain(drain) => {
            let request = serde_json::json!({ "command": "drain", "level": drain.level.word() });
            client::tell(&drain.target, &request, "draining")
        }
        Command::Upgrade(upgrade) => upgrade.run(),
        Command::Stop(stop) => stop.run(),
    };
    match result {
        Ok(code) => code,
        Err(message) => {
            say(&format!("usherd: {message}"));
            ExitCode::FAILURE
        }
    }
}

fn feed(command: &feed::Feed) -> Result<ExitCode, String> {
    let nothing = serde_json::json!({});
    match command {
        feed::Feed::Run(args) => Ok(feed::run::run(args)),
        feed::Feed::Verify(verify) => verify.run(),
        feed::Feed::Status(status) => feed::status(status),
        feed::Feed::Reset(which) => feed::ask(which, "reset", &nothing),
        feed::Feed::Replay(replay) => replay.run(),
        feed::Feed::Dead(which) => feed::ask(which, "dead", &nothing),
        feed::Feed::Confirm(which) => feed::ask(which, "confirm", &nothing),
        feed::Feed::Reject(which) => feed::ask(which, "reject", &nothing),
        feed::Feed::Pause(which) => feed::ask(which, "pause", &nothing),
        feed::Feed::Resume(which) => feed::ask(which, "resume", &nothing),
    }
}

fn run(file: PathBuf) -> ExitCode {
    let early = boot::early();
    match config::load(&file) {
        Ok((plan, warnings)) => {
            show(&warnings);
            boot::run(plan, Some(file), early)
        }
        Err(found) => {
            show(&found);
            ExitCode::FAILURE
        }
    }
}

/// Shows diagnostics on standard error, with colours on a terminal.
fn show(found: &[config::Diagnostic]) {
    if !found.is_empty() {
        let colour = io::stderr().is_terminal() && log::colours_wanted();
        let _ = write!(io::stderr(), "{}", config::render(found, colour));
    }
}

/// One line to standard error. What goes wrong there cannot be told to anyone.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Text to standard output; a reader that has gone away (`| head`) is no error.
fn print(text: &[u8]) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("standard output: {error}")),
        _ => Ok(()),
    }
}

/// `10s`, `500ms`; `0` needs no unit.
fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        Ok(Duration::ZERO)
    } else {
        values::duration(text)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_reads_as_a_story() {
        let help = Cli::command().render_long_help().to_string();
        for word in [
            "usherd demo",
            "demo",
            "run",
            "check",
            "ldap",
            "service",
            "call",
            "status",
            "reload",
            "drain",
            "stop",
        ] {
            assert!(help.contains(word), "{word} in\n{help}");
        }
        assert!(help.find("demo").unwrap() < help.find("drain").unwrap());
    }

    #[test]
    fn the_commands_of_the_design_are_understood() {
        for line in [
            "usherd demo",
            "usherd demo --listen 127.0.0.1:2389 --every 0 --workers -1",
            "usherd run -c usherd.toml --log json --log-level warn",
            "usherd check -c usherd.toml --probe",
            "usherd ldap run --listen ldap://127.0.0.1:1389 --server ldap://a --server ldaps://b --policy best-of-two",
            "usherd ldap run --listen :389 --server ldap://a --starttls required --bind-dn cn=x --bind-password-file f",
            "usherd call upper hello",
            "usherd call --connect unix:/run/usherd/rpc.sock upper -",
            "usherd service size --rate 3000 --time 3ms --max-wait 1ms --helpers 8..16 --json",
            "usherd call --connect tls://localhost:4000 --ca-file ca.pem --token-file token upper -",
            "usherd service run upper -- tr a-z A-Z",
            "usherd service run w --helper --listen 127.0.0.1:0 --min 0 --max 4 --min-spare 1 --request-timeout 5s -- w.py",
            "usherd status --json --control /run/usherd/control.sock",
            "usherd drain firm",
            "usherd drain",
            "usherd reload",
            "usherd upgrade",
            "usherd upgrade --program /usr/bin/usherd.new",
            "usherd stop",
            "usherd stop --wait --control control",
            "usherd import freeradius --clients clients.conf --users users --out out --force",
            "usherd import lloadd lloadd.conf --listen ldap:/// --out usherd.toml --control control --force",
            "usherd helper winbind",
            "usherd helper winbind --domain CORP --use-default-domain --call -",
            "usherd helper pam --service=imap --allow=smtp",
        ] {
            if let Err(error) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}\n{error}");
            }
        }
        for line in [
            "usherd ldap run --listen :389",
            "usherd drain softly",
            "usherd service run upper",
            "usherd service run upper --max 0 -- tr",
            "usherd service run upper --request-timeout 0 -- tr",
            "usherd demo --people 0",
            "usherd fly",
            "usherd service size --rate 3000",
            "usherd service size --rate 0 --time 3ms",
            "usherd service size --rate 1 --time 3ms --helpers 9..8",
        ] {
            assert_eq!(
                Cli::try_parse_from(line.split(' ')).unwrap_err().exit_code(),
                2,
                "{line}"
            );
        }
    }

    /// `docs/commands.md` has a heading for every command and names every flag of it.
    #[test]
    fn every_command_and_flag_is_documented() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/commands.md");
        let text = std::fs::read_to_string(path).expect("docs/commands.md");
        let mut command = Cli::command();
        command.build();
        documented(&text, &command, "usherd");
    }

    fn documented(text: &str, command: &clap::Command, name: &str) {
        let mut below = command
            .get_subcommands()
            .filter(|below| !below.is_hide_set())
            .peekable();
        if below.peek().is_none() {
            let heading = format!("\n## {name}\n");
            let section = text
                .split(&heading)
                .nth(1)
                .unwrap_or_else(|| panic!("no heading `## {name}`"));
            let section = section.split("\n## ").next().unwrap();
            for arg in command
                .get_arguments()
                .filter(|arg| !arg.is_global_set() && arg.get_id() != "help")
            {
                let flag = match arg.get_long() {
                    Some(long) => format!("--{long}"),
                    None => arg.get_value_names().unwrap()[0].to_string(),
                };
                assert!(
                    section.contains(&format!("`{flag}")),
                    "`{flag}` of `{name}` is not documented"
                );
            }
        }
        for sub in below {
            documented(text, sub, &format!("{name} {}", sub.get_name()));
        }
    }
}
