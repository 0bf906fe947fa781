//! `usherd radius run`: a RADIUS server in one line.

use std::process::ExitCode;

use clap::Args;

use crate::boot;
use crate::config::one_line;

const EXAMPLES: &str = "\
Examples:
  usherd radius run --listen 127.0.0.1:1812 --clients clients.toml --users users.toml
  usherd radius run --listen :1812 --listen :1813 --clients /etc/freeradius/3.0/clients.conf --users /etc/freeradius/3.0/users

Files whose names end in .toml are in usherd's own form, others in FreeRADIUS's.";

/// The flags.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    /// Where to listen: 127.0.0.1:1812, :1812 for all addresses; may be given again. Each answers authentication and accounting
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub listen: Vec<String>,
    /// Who may ask, and the secret that each shares with this server
    #[arg(long, value_name = "FILE")]
    pub clients: String,
    /// Who is known: passwords, and what answers carry
    #[arg(long, value_name = "FILE")]
    pub users: String,
    /// A dictionary in the syntax of FreeRADIUS 3, on top of the one that is built in; may be given again
    #[arg(long, value_name = "FILE")]
    pub dictionary: Vec<String>,
    /// Threads: 0 is one per CPU, a negative number that many fewer
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub workers: Option<i64>,
    /// Control socket [default: in a private folder]
    #[arg(long, value_name = "PATH")]
    pub control: Option<String>,
    /// Where /metrics, /healthz and /readyz are served [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
}

/// Makes the plan and runs it; says where it listens, and how it is tried.
pub fn run(args: &Run) -> ExitCode {
    let flags = one_line::Radius {
        listen: args.listen.clone(),
        clients: args.clients.clone(),
        users: args.users.clone(),
        dictionary: args.dictionary.clone(),
        workers: args.workers,
        control: args.control.clone(),
        admin: args.admin.clone(),
    };
    match one_line::radius(&flags) {
        Ok((plan, warnings)) => {
            crate::cli::show(&warnings);
            let control = plan.server.control.display().to_string();
            boot::run_and_tell(plan, move |addresses| tell(addresses, &control))
        }
        Err(found) => {
            crate::cli::show(&found);
            ExitCode::from(2)
        }
    }
}

fn tell(addresses: &[String], control: &str) {
    let mut text = "\nRADIUS is answered. Try it:\n".to_owned();
    for address in addresses {
        let call = format!("  usherd radius ask --to {address} --secret-file FILE --user NAME --password-file FILE\n");
        text.push_str(&call);
    }
    text.push_str(&format!(
        "How it is:\n  usherd status --control {control}\n\nCtrl-C ends it.\n"
    ));
    // Whoever started it into a closed pipe does not read it.
    let _ = crate::cli::print(text.as_bytes());
}
