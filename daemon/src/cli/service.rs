//! `usherd service …`: what concerns one service.

pub mod run;
pub mod size;

use clap::Subcommand;

/// `usherd service …`.
#[derive(Debug, Subcommand)]
pub enum Service {
    /// Offer a program as a service, without a configuration file
    Run(Box<run::Run>),
    /// How many helpers a load needs, and how long its calls would wait
    Size(size::Size),
}
