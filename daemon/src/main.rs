//! usherd stands between the programs that ask identity questions and whatever can answer them.

mod accounting;
mod admin;
mod audit;
mod boot;
mod cli;
mod config;
mod dbus;
mod drive;
mod feed;
mod gssapi;
mod limits;
mod local_files;
mod lockouts;
mod log;
mod metrics;
mod monitor;
mod net;
mod pages;
mod passwords;
mod rotation;
mod shared;
mod spawner;
mod traces;
mod trampoline;
mod upgrade;
mod worker;

fn main() -> std::process::ExitCode {
    cli::main()
}
