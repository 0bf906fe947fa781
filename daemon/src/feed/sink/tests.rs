//! Sinks against real peers and scripted ones.
