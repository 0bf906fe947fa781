//! Where accounts and groups stand in a directory, and what their attributes are called: RFC 2307, RFC 2307bis (groups
//! hold the names of entries), or Active Directory.

use wire::nslcd::Map;

use crate::ask::template::Template;
use crate::ask::{Scope, filter};

/// Places in a filter of `authorize`, under the names nslcd's `pam_authz_search` has.
pub const AUTHORIZE_PLACES: [&str; 8] = ["username", "uid", "service", "ruser", "rhost", "tty", "hostname", "dn"];

/// Whose names are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Schema {
    /// RFC 2307: groups hold user names.
    Rfc2307,
    /// RFC 2307bis: groups hold the names of entries.
    Rfc2307bis,
    /// Active Directory.
    ActiveDirectory,
}

/// Where one map's entries are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Where {
    /// Searched in this order; of one entry only the first that has it.
    pub bases: Vec<String>,
    /// How far below.
    pub scope: Scope,
    /// What its entries have, encoded.
    pub filter: Vec<u8>,
}

/// What attributes are called; empty: there is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Names {
    /// A user's name.
    pub user: String,
    /// Its number; `objectSid` with [`Maps::sid`].
    pub uid: String,
    /// Its primary group's number.
    pub user_gid: String,
    /// The person's name; `cn` where an entry has none.
    pub gecos: String,
    /// Home directory.
    pub home: String,
    /// Shell.
    pub shell: String,
    /// A group's name.
    pub group: String,
    /// Its number; `objectSid` with [`Maps::sid`].
    pub gid: String,
    /// Names of members.
    pub member_name: String,
    /// Entries that are members.
    pub member: String,
}

/// Numbers made of the last part of a Windows security identifier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sid {
    /// The domain's identifier, as the directory stores it.
    pub domain: Vec<u8>,
    /// Added to the last part.
    pub offset: u32,
}

/// See the module. All of it is a listener's settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Maps {
    /// Whose names are the defaults.
    pub schema: Schema,
    /// Where each map's entries are.
    pub places: Vec<(Map, Where)>,
    /// What attributes are called.
    pub names: Names,
    /// Numbers from security identifiers.
    pub sid: Option<Sid>,
    /// Groups in groups are followed.
    pub nested: bool,
    /// Names are the same whatever their case.
    pub ignore_case: bool,
    /// Accounts with a smaller number are not seen.
    pub uid_min: u32,
    /// Groups with a smaller number are not seen.
    pub gid_min: u32,
    /// The home directory where an entry has none: `%u` is the name, `%U` the number.
    pub home_template: String,
    /// The shell where an entry has none.
    pub shell_default: String,
    /// All entries may be asked for at once.
    pub enumerate: bool,
    /// Of each of these there must be an entry, or the user is not let in.
    pub authorize: Vec<Template>,
    /// Root may give new passwords without the old one, under the daemon's own identity.
    pub root_changes_passwords: bool,
    /// This machine's name, for `$hostname`.
    pub hostname: String,
}

impl Maps {
    /// The defaults of a schema below `base`.
    pub fn new(schema: Schema, base: &str) -> Maps {
        let place = |map: Map| {
            let here = Where {
                bases: vec![base.to_owned()],
                scope: Scope::Subtree,
                filter: default_filter(schema, map),
            };
            (map, here)
        };
        Maps {
            schema,
            places: Map::ALL.map(place).to_vec(),
            names: default_names(schema),
            sid: None,
            nested: false,
            ignore_case: schema == Schema::ActiveDirectory,
            uid_min: 0,
            gid_min: 0,
            home_template: "/home/%u".to_owned(),
            shell_default: "/bin/sh".to_owned(),
            enumerate: true,
            authorize: Vec::new(),
            root_changes_passwords: false,
            hostname: String::new(),
        }
    }

    /// Numbers come from the security identifiers of this domain.
    pub fn set_sid(&mut self, sid: Sid) {
        self.sid = Some(sid);
        "objectSid".clone_into(&mut self.names.uid);
        "objectSid".clone_into(&mut self.names.gid);
        "primaryGroupID".clone_into(&mut self.names.user_gid);
        // Accounts of Windows have no POSIX attributes then.
        for (map, here) in &mut self.places {
            if matches!(map, Map::Passwd | Map::Shadow) {
                here.filter = windows_users();
            }
        }
    }

    /// Where a map's entries are.
    pub fn place(&self, map: Map) -> Option<&Where> {
        self.places.iter().find(|(of, _)| *of == map).map(|(_, here)| here)
    }

    /// The filter of a map's entries with a condition more.
    pub fn filter(&self, map: Map, condition: &[u8]) -> Vec<u8> {
        let own = self.place(map).map_or(filter::ANY, |here| &here.filter);
        filter::and([own, condition])
    }

    /// The home directory of an account that has none.
    pub fn home(&self, name: &[u8], uid: u32) -> Vec<u8> {
        let name = String::from_utf8_lossy(name);
        let filled = self.home_template.replace("%u", &name).replace("%U", &uid.to_string());
        filled.into_bytes()
    }
}

/// Whether these bytes can be a user's or group's name: what nslcd's `validnames` takes by default.
pub fn is_name(name: &[u8]) -> bool {
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"._@$()".contains(byte);
    let (Some(first), Some(last)) = (name.first(), name.last()) else {
        return false;
    };
    let middle = name.iter().all(|byte| inner(byte) || b" \\~-".contains(byte));
    name.len() <= 255 && inner(first) && middle && (inner(last) || b"~-".contains(last))
}

fn default_names(schema: Schema) -> Names {
    let own = |text: &str| text.to_owned();
    let windows = schema == Schema::ActiveDirectory;
    let choose = |posix: &str, other: &str| own(if windows { other } else { posix });
    Names {
        user: choose("uid", "sAMAccountName"),
        uid: own("uidNumber"),
        user_gid: own("gidNumber"),
        gecos: choose("gecos", "displayName"),
        home: choose("homeDirectory", "unixHomeDirectory"),
        shell: own("loginShell"),
        group: choose("cn", "sAMAccountName"),
        gid: own("gidNumber"),
        member_name: if windows { String::new() } else { own("memberUid") },
        member: if schema == Schema::Rfc2307 {
            String::new()
        } else {
            own("member")
        },
    }
}

fn default_filter(schema: Schema, map: Map) -> Vec<u8> {
    let class = |name: &str| filter::equal("objectClass", name.as_bytes());
    let windows = schema == Schema::ActiveDirectory;
    match map {
        Map::Passwd | Map::Shadow if windows => {
            let posix = filter::present("uidNumber");
            filter::and([windows_users().as_slice(), posix.as_slice()])
        }
        Map::Group if windows => class("group"),
        Map::Passwd => class("posixAccount"),
        Map::Shadow => class("shadowAccount"),
        Map::Group => class("posixGroup"),
        Map::Alias => class("nisMailAlias"),
        Map::Ether => class("ieee802Device"),
        Map::Host => class("ipHost"),
        Map::Netgroup => class("nisNetgroup"),
        Map::Network => class("ipNetwork"),
        Map::Protocol => class("ipProtocol"),
        Map::Rpc => class("oncRpc"),
        Map::Service => class("ipService"),
    }
}

/// `(&(objectClass=user)(!(objectClass=computer)))`
fn windows_users() -> Vec<u8> {
    let not = filter::not(&filter::equal("objectClass", b"computer"));
    filter::and([filter::equal("objectClass", b"user").as_slice(), not.as_slice()])
}

/// `S-1-5-21-1-2-3` as a directory stores it.
///
/// # Errors
/// It is none.
pub fn parse_sid(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.strip_prefix("S-1-")?.split('-');
    let authority: u64 = parts.next()?.parse().ok()?;
    let parts: Vec<u32> = parts.map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let count = u8::try_from(parts.len())
        .ok()
        .filter(|count| (1..=14).contains(count))?;
    let mut sid = vec![1, count];
    sid.extend(authority.to_be_bytes().get(2..)?);
    for part in parts {
        sid.extend(part.to_le_bytes());
    }
    Some(sid)
}

impl Sid {
    /// The number of an account or group with this identifier; none: of another domain.
    pub fn number(&self, sid: &[u8]) -> Option<u32> {
        let (last, front) = sid.split_last_chunk::<4>().map(|(front, last)| (last, front))?;
        let (own, theirs) = (self.domain.get(2..)?, front.get(2..)?);
        let one_more = self.domain.get(1)?.checked_add(1) == sid.get(1).copied();
        (one_more && own == theirs)
            .then(|| u32::from_le_bytes(*last).checked_add(self.offset))
            .flatten()
    }

    /// The identifier of an account or group with this number.
    pub fn identifier(&self, number: u32) -> Option<Vec<u8>> {
        let relative = number.checked_sub(self.offset)?;
        let mut sid = self.domain.clone();
        *sid.get_mut(1)? += 1;
        sid.extend(relative.to_le_bytes());
        Some(sid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_nslcd_takes() {
        for name in [
            "alice",
            "a",
            "DOM\\alice",
            "svc-1$",
            "a b",
            "x~",
            "j.doe@example.com",
            "A_b-",
        ] {
            assert!(is_name(name.as_bytes()), "{name}");
        }
        for name in ["", "-a", "~a", " a", "a ", "a/b", "a:b", "a\nb", "a*", "é", "a\0"] {
            assert!(!is_name(name.as_bytes()), "{name:?}");
        }
        assert!(!is_name(&[b'a'; 256]));
    }

    #[test]
    fn security_identifiers_are_numbers_and_back() {
        let domain = parse_sid("S-1-5-21-1-2-3").expect("a domain");
        assert_eq!(
            domain,
            b"\x01\x04\0\0\0\0\0\x05\x15\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0"
        );
        let sid = Sid {
            domain,
            offset: 100_000,
        };
        let user = parse_sid("S-1-5-21-1-2-3-1104").expect("a user");
        assert_eq!(sid.number(&user), Some(101_104));
        assert_eq!(sid.identifier(101_104), Some(user));
        assert_eq!(sid.identifier(5), None);
        let other = parse_sid("S-1-5-21-1-2-4-1104").expect("another domain's");
        assert_eq!(sid.number(&other), None);
        let longer = parse_sid("S-1-5-21-1-2-3-4-5").expect("no user's");
        assert_eq!(sid.number(&longer), None);
        assert_eq!(sid.number(b""), None);
        for text in ["", "S-1-5", "S-1-5-x", "S-2-5-21", "1-5-21"] {
            assert_eq!(parse_sid(text), None, "{text}");
        }
    }
}
