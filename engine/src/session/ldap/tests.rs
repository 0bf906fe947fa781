//! Filled by the tests of the machines.
