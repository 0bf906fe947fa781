//! What one search of a client may bring, and how long it may take.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use engine::radius::clients::Network;

use super::{DN, Limits, lock};
use crate::lockouts::normal;

/// What one search may cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchCaps {
    /// Entries, over all its pages; 0: any number.
    pub entries_max: u32,
    /// From the request to the result; zero: no longer than any operation.
    pub time_max: Duration,
}

/// What an override says of it; what is none is as in general.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchOverride {
    /// See there.
    pub entries_max: Option<u32>,
    /// See there.
    pub time_max: Option<Duration>,
}

impl SearchOverride {
    fn over(self, general: SearchCaps) -> SearchCaps {
        SearchCaps {
            entries_max: self.entries_max.unwrap_or(general.entries_max),
            time_max: self.time_max.unwrap_or(general.time_max),
        }
    }
}

/// Whose searches may cost what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SearchPlan {
    /// Everybody's,
    pub general: SearchCaps,
    /// where no network says something else, of which the smallest counts,
    pub networks: Vec<(Network, SearchOverride)>,
    /// nor the name, as names are compared.
    pub names: BTreeMap<Vec<u8>, SearchOverride>,
}

impl SearchPlan {
    /// Whether it caps nobody's searches.
    pub fn is_unlimited(&self) -> bool {
        let caps = |one: &SearchOverride| one.over(SearchCaps::default()) != SearchCaps::default();
        let mut overrides = self.networks.iter().map(|(_, one)| one).chain(self.names.values());
        self.general == SearchCaps::default() && !overrides.any(caps)
    }

    /// Those of a client: `name` as names are compared, empty where it has none.
    pub fn caps(&self, ip: Option<IpAddr>, name: &[u8]) -> SearchCaps {
        let network = ip.and_then(|ip| self.networks.iter().find(|(network, _)| network.contains(ip)));
        let from_there = network.map_or(self.general, |(_, one)| one.over(self.general));
        let own = self.names.get(name).filter(|_| !name.is_empty());
        own.map_or(from_there, |own| own.over(from_there))
    }
}

impl Limits {
    /// What a search of this client may cost.
    pub fn search_caps(&self, peer: Option<SocketAddr>, authzid: &[u8]) -> SearchCaps {
        let ip = peer.map(|peer| peer.ip().to_canonical());
        let plan = lock(&self.plan);
        let name = if plan.search.names.is_empty() {
            Vec::new()
        } else {
            normal(authzid.strip_prefix(DN).unwrap_or(authzid))
        };
        plan.search.caps(ip, &name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_before_a_network_and_that_before_everybody_setting_by_setting() {
        let one = |entries_max, seconds: Option<u64>| SearchOverride {
            entries_max,
            time_max: seconds.map(Duration::from_secs),
        };
        let caps = |entries_max, seconds| SearchCaps {
            entries_max,
            time_max: Duration::from_secs(seconds),
        };
        let plan = SearchPlan {
            general: caps(100, 10),
            networks: vec![
                (Network::read("192.0.2.0/25").unwrap(), one(Some(7), None)),
                (Network::read("192.0.2.0/24").unwrap(), one(None, Some(20))),
            ],
            names: BTreeMap::from([(b"cn=sync".to_vec(), one(Some(0), None))]),
        };
        let of = |ip: &str, name: &[u8]| plan.caps(Some(ip.parse().unwrap()), name);
        assert_eq!(of("198.51.100.1", b"cn=x"), caps(100, 10));
        assert_eq!(of("192.0.2.1", b""), caps(7, 10));
        assert_eq!(of("192.0.2.200", b"cn=x"), caps(100, 20));
        assert_eq!(of("192.0.2.200", b"cn=sync"), caps(0, 20));
        assert_eq!(plan.caps(None, b"cn=sync"), caps(0, 10));
        assert!(!plan.is_unlimited() && SearchPlan::default().is_unlimited());
        let lifted = SearchPlan {
            general: SearchCaps::default(),
            networks: Vec::new(),
            names: plan.names.clone(),
        };
        assert!(lifted.is_unlimited(), "0 caps nothing");
    }
}
