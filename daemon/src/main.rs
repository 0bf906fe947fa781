//! usherd stands between the programs that ask identity questions and whatever can answer them.

mod admin;
mod boot;
mod cli;
mod config;
mod log;
mod net {
    pub mod tls;
}

fn main() -> std::process::ExitCode {
    cli::main()
}
