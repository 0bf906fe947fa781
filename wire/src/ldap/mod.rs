//! LDAP (RFC 4511): what a balancer must see of it, and encoders for what it says itself.
pub mod dn;
