//! Who may ask: clients by address or network, and what is demanded of their packets.
//!
//! A packet is accepted or dropped without a word; an answer to somebody who does not know the secret would help only an
//! attacker. Against forged answers (BlastRADIUS, CVE-2024-3596) a Message-Authenticator is demanded of Access-Requests: always,
//! never, or once the client has sent a valid one; and a Proxy-State, which the attack needs, is not taken without one.
//! Independent of all settings: Status-Server has one (RFC 5997 section 3), EAP has one (RFC 3579 section 3.1), and a wrong one is
//! never accepted.

pub mod freeradius;
mod learned;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use foldhash::quality::FixedState;
use wire::radius::{Code, MessageAuthenticator, Packet, Secret, number};

pub use learned::Learned;

use super::Dropped;
use crate::core::time::Instant;

/// Whether something is demanded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Demand {
    /// Always.
    Yes,
    /// Never.
    No,
    /// Once the client has shown that it can.
    Auto,
}

impl Demand {
    /// `yes`, `no`, `auto`, and what else FreeRADIUS takes for those.
    ///
    /// # Errors
    /// What would be right.
    pub fn read(text: &str) -> Result<Demand, &'static str> {
        match text.to_ascii_lowercase().as_str() {
            "yes" | "true" | "on" | "1" => Ok(Demand::Yes),
            "no" | "false" | "off" | "0" => Ok(Demand::No),
            "auto" => Ok(Demand::Auto),
            _ => Err("one of yes, no, auto"),
        }
    }
}

/// How many packets a client may send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// In a second, over time; at least 1.
    pub per_sec: u32,
    /// At once; at least 1.
    pub burst: u32,
}

/// An address, or all addresses that begin like it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`, `*` (all of IPv4).
    ///
    /// # Errors
    /// What is wrong with it and what would be right.
    pub fn read(text: &str) -> Result<Network, String> {
        if text == "*" {
            return Network::read("0.0.0.0/0");
        }
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| format!("`{text}` is no address; right: 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"))?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix.map(str::parse::<u8>) {
            None => whole,
            Some(Ok(prefix)) if prefix <= whole => prefix,
            Some(_) => return Err(format!("`{text}` has no prefix length from 0 to {whole} behind its /")),
        };
        let network = Network { address, prefix };
        if network.key(address) != bits(address) {
            return Err(format!(
                "`{text}` has bits behind its prefix: write {network} for the network, or leave out the prefix",
                network = network.first()
            ));
        }
        Ok(network)
    }

    /// The network of this prefix length that an address is in. None: there is no prefix of that length.
    #[must_use]
    pub fn around(address: IpAddr, prefix: u8) -> Option<Network> {
        let whole = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= whole).then(|| Network { address, prefix }.first())
    }

    /// Whether only this machine itself is in it.
    #[must_use]
    pub fn is_loopback(self) -> bool {
        match self.address {
            IpAddr::V4(address) => address.is_loopback() && self.prefix >= 8,
            IpAddr::V6(address) => address.is_loopback() && self.prefix == 128,
        }
    }

    /// Its first address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Bits that all its addresses have in common.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether an address is one of its.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && self.key(address) == bits(self.address)
    }

    fn first(self) -> Network {
        let bits = self.key(self.address);
        let address = match self.address {
            IpAddr::V4(_) => IpAddr::from(u32::try_from(bits >> 96).unwrap_or(0).to_be_bytes()),
            IpAddr::V6(_) => IpAddr::from(bits.to_be_bytes()),
        };
        Network { address, ..self }
    }

    /// An address as far as the prefix goes.
    fn key(self, address: IpAddr) -> u128 {
        masked(bits(address), self.prefix)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.address.is_ipv4() { 32 } else { 128 };
        if self.prefix == whole {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.prefix)
        }
    }
}

/// An address's bits, from the left.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    }
}

fn masked(bits: u128, prefix: u8) -> u128 {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
    bits & mask
}

/// Who may ask.
#[derive(Debug)]
pub struct Client {
    /// Its name in logs, metrics and rules; no other client has it.
    pub name: String,
    /// What it shares with us.
    pub secret: Secret,
    /// Whether its Access-Requests must have a Message-Authenticator. `auto`: once it has sent a valid one.
    pub require_message_authenticator: Demand,
    /// Whether a Proxy-State is only taken with a Message-Authenticator. `auto`: unless the first Access-Request that it sends
    /// has a Proxy-State without one.
    pub limit_proxy_state: Demand,
    /// Packets that it may send; none: any number.
    pub rate: Option<Rate>,
    /// Groups of clients that rules can name.
    pub tags: Vec<String>,
    /// Where Disconnect- and CoA-Requests for its sessions go (RFC 5176); none: port 3799 of the address that it asks from.
    pub coa: Option<SocketAddr>,
    /// What is known of it by now; shared by all workers.
    pub learned: Learned,
}

impl Client {
    /// With the safe defaults: `require_message_authenticator = auto`, `limit_proxy_state = yes`, any rate.
    #[must_use]
    pub fn new(name: &str, secret: &[u8]) -> Client {
        Client {
            name: name.to_owned(),
            secret: Secret::new(secret),
            require_message_authenticator: Demand::Auto,
            limit_proxy_state: Demand::Yes,
            rate: None,
            tags: Vec::new(),
            coa: None,
            learned: Learned::default(),
        }
    }

    /// Whether its rate allows one packet more now.
    #[must_use]
    pub fn admits(&self, now: Instant) -> bool {
        self.rate.is_none_or(|rate| self.learned.admits(rate, now))
    }

    /// Whether a packet is this client's and is protected as demanded.
    ///
    /// # Errors
    /// Why it is to be dropped.
    pub fn verify(&self, packet: &Packet<'_>) -> Result<(), Dropped> {
        let code = packet.code();
        if !packet.check_request(&self.secret) {
            return Err(Dropped::WrongAuthenticator);
        }
        let protected = match packet.check_message_authenticator(&self.secret, None) {
            MessageAuthenticator::Invalid => return Err(Dropped::WrongMessageAuthenticator),
            MessageAuthenticator::Valid => true,
            MessageAuthenticator::Absent => false,
        };
        match code {
            Code::ACCESS_REQUEST if protected => {
                self.learned.protected();
                Ok(())
            }
            Code::ACCESS_REQUEST => self.unprotected(packet),
            Code::STATUS_SERVER if !protected => Err(Dropped::NoMessageAuthenticator),
            _ => Ok(()),
        }
    }

    fn unprotected(&self, packet: &Packet<'_>) -> Result<(), Dropped> {
        if packet.find(number::EAP_MESSAGE).is_some() {
            return Err(Dropped::EapUnprotected);
        }
        let required = match self.require_message_authenticator {
            Demand::Yes => true,
            Demand::No => false,
            Demand::Auto => self.learned.is_protected(),
        };
        if required {
            return Err(Dropped::NoMessageAuthenticator);
        }
        let proxied = packet.has_proxy_state();
        let limited = match self.limit_proxy_state {
            Demand::Yes => true,
            Demand::No => false,
            Demand::Auto => self.learned.limits_proxy_state(proxied),
        };
        if proxied && limited {
            return Err(Dropped::ProxyStateUnprotected);
        }
        Ok(())
    }
}

/// Names a client in one [`Clients`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ClientId(pub u32);

/// All clients, found by the longest prefix.
#[derive(Debug, Default)]
pub struct Clients {
    all: Vec<Client>,
    names: HashMap<String, ClientId, FixedState>,
    v4: Vec<Level>,
    v6: Vec<Level>,
}

/// Networks with prefixes of one length.
#[derive(Debug)]
struct Level {
    prefix: u8,
    networks: HashMap<u128, ClientId, FixedState>,
}

impl Clients {
    /// Adds a client. An address that is an IPv4 address in IPv6's clothes is the IPv4 address.
    ///
    /// # Errors
    /// Which name or network is another client's.
    pub fn add(&mut self, client: Client, networks: &[Network]) -> Result<ClientId, String> {
        if self.named(&client.name).is_some() {
            return Err(format!(
                "two clients are called `{}`: give one of them another name",
                client.name
            ));
        }
        for (at, network) in networks.iter().enumerate() {
            let other = self.owner(*network).map(|other| other.name.as_str());
            let twice = networks.iter().take(at).any(|earlier| earlier == network);
            if let Some(other) = other.or(twice.then_some(client.name.as_str())) {
                return Err(format!(
                    "`{network}` of client `{}` is there already, for `{other}`: remove one of the two",
                    client.name
                ));
            }
        }
        let id = ClientId(u32::try_from(self.all.len()).map_err(|_| "too many clients".to_owned())?);
        self.names.insert(client.name.clone(), id);
        self.all.push(client);
        for network in networks {
            let levels = if network.address.is_ipv4() {
                &mut self.v4
            } else {
                &mut self.v6
            };
            let at = match levels.binary_search_by(|level| network.prefix.cmp(&level.prefix)) {
                Ok(at) => at,
                Err(at) => {
                    levels.insert(
                        at,
                        Level {
                            prefix: network.prefix,
                            networks: HashMap::with_hasher(FixedState::with_seed(u64::from(network.prefix))),
                        },
                    );
                    at
                }
            };
            if let Some(level) = levels.get_mut(at) {
                level.networks.insert(network.key(network.address), id);
            }
        }
        Ok(id)
    }

    /// The client of an address: the one with the longest prefix.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Option<ClientId> {
        let address = address.to_canonical();
        let levels = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let bits = bits(address);
        levels
            .iter()
            .find_map(|level| level.networks.get(&masked(bits, level.prefix)).copied())
    }

    /// A client.
    #[must_use]
    pub fn get(&self, id: ClientId) -> Option<&Client> {
        self.all.get(id.0 as usize)
    }

    /// A client by its name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Client> {
        self.get(*self.names.get(name)?)
    }

    /// The address of a client that has one, and no network.
    #[must_use]
    pub fn only_address(&self, name: &str) -> Option<IpAddr> {
        let id = *self.names.get(name)?;
        let mut found = None;
        for (level, whole) in self
            .v4
            .iter()
            .map(|level| (level, 32))
            .chain(self.v6.iter().map(|level| (level, 128)))
        {
            for (bits, _) in level.networks.iter().filter(|(_, owner)| **owner == id) {
                if level.prefix != whole || found.is_some() {
                    return None;
                }
                found = Some(if whole == 32 {
                    IpAddr::from(u32::try_from(bits >> 96).unwrap_or(0).to_be_bytes())
                } else {
                    IpAddr::from(bits.to_be_bytes())
                });
            }
        }
        found
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ClientId, &Client)> {
        let id = |at| ClientId(u32::try_from(at).unwrap_or(u32::MAX));
        self.all.iter().enumerate().map(move |(at, client)| (id(at), client))
    }

    /// Takes over what the old clients of the same names have shown, where their secret is the same: a reload forgets nothing.
    pub fn inherit(&self, old: &Clients) {
        for client in &self.all {
            if let Some(before) = old.named(&client.name)
                && before.secret == client.secret
            {
                client.learned.inherit(&before.learned);
            }
        }
    }

    fn owner(&self, network: Network) -> Option<&Client> {
        let levels = if network.address.is_ipv4() { &self.v4 } else { &self.v6 };
        let level = levels.iter().find(|level| level.prefix == network.prefix)?;
        self.get(*level.networks.get(&network.key(network.address))?)
    }
}

#[cfg(test)]
mod tests;
