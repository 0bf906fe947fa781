//! usherd: the binary.

mod config;
mod drive;
mod local_files;
mod metrics;
mod net;
mod shared;
mod worker;

fn main() {}
