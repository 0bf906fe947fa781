//! The feed, where it meets sockets, files and processes.

pub mod sink;
