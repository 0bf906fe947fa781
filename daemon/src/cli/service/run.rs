//! `usherd service run`: a pool in one line.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::boot;
use crate::config::one_line;

const EXAMPLES: &str = "\
Examples:
  usherd service run upper -- tr a-z A-Z
  usherd service run upper --listen 127.0.0.1:0 --max 4 -- tr a-z A-Z
  usherd service run words --helper --min 4 --max 16 --min-spare 2 -- python3 words.py

Without --helper, PROGRAM is run for each call: the request on its standard input, the answer on its standard output. With it,
PROGRAM stays and speaks the helper protocol; with --dbus it stays and speaks D-Bus. No shell reads its words. It runs in this folder.";

/// The flags.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    /// The service's name, for those who call it
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where to listen: unix:/path, 127.0.0.1:4000 (port 0: any); may be given again [default: unix, in a private folder]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<String>,
    /// The program stays, and speaks the helper protocol
    #[arg(long)]
    pub helper: bool,
    /// The program stays, and speaks D-Bus without a bus
    #[arg(long, conflicts_with = "helper")]
    pub dbus: bool,
    /// Helpers kept running [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub min: Option<u32>,
    /// Helpers, or programs, at once [default: 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max: Option<u32>,
    /// Idle helpers kept beside the busy ones [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub min_spare: Option<u32>,
    /// A variable of this environment that the program is given; may be given again. It has PATH, and no other
    #[arg(long, value_name = "VARIABLE")]
    pub pass: Vec<String>,
    /// Deadline of a call; a caller may ask for less [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    pub request_timeout: Option<Duration>,
    /// The file of a token that callers have to show
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<String>,
    /// Certificate of the TCP listeners, PEM
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub cert_file: Option<String>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub key_file: Option<String>,
    /// Control socket [default: in a private folder]
    #[arg(long, value_name = "PATH")]
    pub control: Option<String>,
    /// Where /metrics, /healthz and /readyz are served [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub program: Vec<String>,
}

/// Makes the plan and runs it; says where it listens, and how it is called.
pub fn run(args: &Run) -> ExitCode {
    let count = |n: Option<u32>| n.and_then(|n| usize::try_from(n).ok());
    let flags = one_line::Service {
        name: args.name.clone(),
        listen: args.listen.clone(),
        helper: args.helper,
        dbus: args.dbus,
        program: args.program.clone(),
        min: count(args.min),
        max: count(args.max),
        min_spare: count(args.min_spare),
        pass: args.pass.clone(),
        // What is typed in a folder is meant there. One whose name cannot be written down is not.
        directory: std::env::current_dir()
            .ok()
            .and_then(|path| path.into_os_string().into_string().ok()),
        request_timeout: args.request_timeout,
        token_file: args.token_file.clone(),
        cert_file: args.cert_file.clone(),
        key_file: args.key_file.clone(),
        control: args.control.clone(),
        admin: args.admin.clone(),
    };
    match one_line::service(&flags) {
        Ok((plan, warnings)) => {
            crate::cli::show(&warnings);
            let control = plan.server.control.display().to_string();
            boot::run_and_tell(plan, move |addresses| tell(&flags, addresses, &control))
        }
        Err(found) => {
            crate::cli::show(&found);
            ExitCode::from(2)
        }
    }
}

fn tell(flags: &one_line::Service, addresses: &[String], control: &str) {
    let mut text = format!("\nThe service {} is offered. Call it:\n", flags.name);
    for address in addresses {
        let tls = flags.cert_file.is_some() && !address.starts_with("unix:");
        let scheme = if tls { "tls://" } else { "" };
        let token = flags
            .token_file
            .as_ref()
            .map_or_else(String::new, |file| format!(" --token-file {file}"));
        let call = format!(
            "  usherd call --connect {scheme}{address}{token} {} hello\n",
            flags.name
        );
        text.push_str(&call);
    }
    text.push_str(&format!(
        "How it is:\n  usherd status --control {control}\n\nCtrl-C ends it.\n"
    ));
    // Whoever started it into a closed pipe does not read it.
    let _ = crate::cli::print(text.as_bytes());
}

fn positive(text: &str) -> Result<Duration, String> {
    match crate::cli::duration(text)? {
        Duration::ZERO => Err("a call needs some time: write 500ms, 30s, 2m".to_owned()),
        length => Ok(length),
    }
}
