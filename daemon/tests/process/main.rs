//! The daemon as a process, against real peers: slapd, ldap-utils, python-ldap, the
//! NSS and PAM modules of nss-pam-ldapd, Cyrus SASL, radclient, pyrad, scapy.
//!
//! Each test says in its name what must be so. A missing peer is a panic that names the Debian package. Longer runs by
//! environment: `USHERD_TEST_CRASHES`, `USHERD_TEST_KILLS`, `USHERD_TEST_OPERATIONS`, `USHERD_TEST_SECONDS`,
//! `USHERD_TEST_FREEZE_SECONDS`, `USHERD_TEST_READERS`, `USHERD_TEST_FLOODS`, `USHERD_TEST_IDLE`, `USHERD_TEST_TAKEOVERS`,
//! `USHERD_TEST_FEED_RUNS`, `USHERD_TEST_RELOADS`, `USHERD_TEST_UPGRADES` (see `defects.rs`);
//! `USHERD_TEST_KEEP=1` leaves the temporary folders, `USHERD_TEST_SLAPD_LOG=stats` makes slapd talk.

#![cfg(test)]

mod audit;
mod balance;
mod ber;
mod calls;
mod certificates;
mod client;
mod commands;
mod dbus;
mod deaths;
mod defects;
mod drain;
mod fake;
mod feed;
mod feed_churn;
mod feed_flood;
mod feed_local;
mod feed_nasty;
mod feed_replay;
mod feed_sinks;
mod feed_takeover;
mod feed_trouble;
mod feed_verify;
mod health;
mod helpers;
mod helpers_crash;
mod helpers_dbus;
mod helpers_pool;
mod helpers_process;
mod helpers_seen;
mod hostile;
mod identity;
mod identity_hostile;
mod identity_matrix;
mod identity_model;
mod import_lloadd;
mod kerberos;
mod ldap_bench;
mod leaving;
mod lifecycle;
mod limits;
mod limits_search;
mod lloadd;
mod load;
mod local;
mod local_sync;
mod local_write;
mod lockout;
#[path = "../../../helpers/tests/sql/mariadb.rs"]
mod mariadb;
mod monitor;
mod names;
mod naming;
mod notices;
mod nss;
mod ops;
mod own_bind;
mod own_bind_gssapi;
mod own_bind_gssapi_hostile;
mod own_bind_hostile;
mod pam;
mod pam_calls;
mod peer;
mod proc;
mod proxy_header;
mod radius;
mod radius_accounting;
mod radius_bench;
mod radius_blast;
mod radius_chains;
mod radius_clients;
mod radius_codec;
mod radius_commands;
mod radius_database;
mod radius_duplicates;
mod radius_hostile;
mod radius_import;
mod radius_methods;
mod radius_network;
mod radius_peer;
mod radius_policy;
mod radius_records;
mod radius_trial;
mod recorder;
mod remote;
mod resources;
mod revoked;
mod rules;
mod rules_route;
mod same_answers;
mod sasl;
mod sasl_ldap;
mod sdk;
mod services;
mod slapd;
mod sql;
mod systemd;
mod tcp_options;
mod tools;
mod unread;
mod upgrade;
mod upstreams;
mod usherd;
mod winbind;
mod winbind_calls;
mod winbind_daemon;
mod winbind_sids;
