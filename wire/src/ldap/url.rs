//! LDAP URLs (RFC 4516) as people write them into a configuration: `ldap`, `ldaps`, and `ldapi` with a percent-encoded
//! socket path in the place of the host.
//!
//! A mistake is told with what was found and what would be right. [`Url`] is shown the way it is parsed, so what was
//! parsed, shown and parsed again is the same.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::grammar::Scope;

/// Characters of a URL taken at most.
pub const URL_BYTES_MAX: usize = 8192;

/// The transport.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    /// LDAP over TCP, which StartTLS may secure later.
    Ldap,
    /// LDAP over TLS from the first byte.
    Ldaps,
    /// LDAP over a unix socket.
    Ldapi,
}

impl Scheme {
    /// The port when none is given; `None` for a unix socket.
    #[must_use]
    pub fn default_port(self) -> Option<u16> {
        match self {
            Self::Ldap => Some(389),
            Self::Ldaps => Some(636),
            Self::Ldapi => None,
        }
    }

    /// As it stands in front of `://`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ldap => "ldap",
            Self::Ldaps => "ldaps",
            Self::Ldapi => "ldapi",
        }
    }
}

/// Whom to connect to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Host {
    /// An address; IPv6 stands in brackets.
    Address(IpAddr),
    /// A name for the resolver.
    Name(String),
}

/// One LDAP URL, decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Url {
    /// The transport.
    pub scheme: Scheme,
    /// The host; `None` when left out (the local machine, by custom) and with `ldapi`.
    pub host: Option<Host>,
    /// The port as given; see [`Url::port_or_default`].
    pub port: Option<u16>,
    /// The socket path of `ldapi`; `None` when left out, and with the other schemes.
    pub path: Option<String>,
    /// The name; empty when left out.
    pub dn: String,
    /// The attributes; empty when left out.
    pub attributes: Vec<String>,
    /// The scope; `base` is meant when left out.
    pub scope: Option<Scope>,
    /// The filter in the form of RFC 4515; `(objectClass=*)` is meant when left out. Not looked into here.
    pub filter: Option<String>,
    /// The extensions, in order.
    pub extensions: Vec<Extension>,
}

/// An extension of a URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extension {
    /// Whether the URL must not be used where the extension is not understood (`!`).
    pub critical: bool,
    /// Its type.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
}

/// What is wrong with a URL: a sentence for the person who wrote it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UrlError(String);

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UrlError {}

impl Url {
    /// The port to connect to; `None` for a unix socket.
    #[must_use]
    pub fn port_or_default(&self) -> Option<u16> {
        self.port.or(self.scheme.default_port())
    }

    /// Whether it says nothing beyond where to connect to.
    #[must_use]
    pub fn is_only_a_place(&self) -> bool {
        self.dn.is_empty()
            && self.attributes.is_empty()
            && self.scope.is_none()
            && self.filter.is_none()
            && self.extensions.is_empty()
    }
}

impl FromStr for Url {
    type Err = UrlError;

    /// Reads a URL.
    ///
    /// # Errors
    /// Says what was found and what would be right.
    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text.len() > URL_BYTES_MAX {
            return Err(UrlError(format!(
                "the URL has {} bytes; {URL_BYTES_MAX} are the most",
                text.len()
            )));
        }
        if let Some(odd) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
            return Err(UrlError(format!(
                "{odd:?} cannot stand in a URL; percent-encode it (a space is %20)"
            )));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(UrlError(format!(
                "\"{text}\" has no scheme; write ldap://{text}, ldaps://… or ldapi://…"
            )));
        };
        let scheme = self::scheme(scheme)?;
        let (place, rest) = split_at_any(rest, &['/', '?']);
        let mut url = Self {
            scheme,
            host: None,
            port: None,
            path: None,
            dn: String::new(),
            attributes: Vec::new(),
            scope: None,
            filter: None,
            extensions: Vec::new(),
        };
        if scheme == Scheme::Ldapi {
            url.path = (!place.is_empty()).then(|| socket_path(place)).transpose()?;
        } else {
            (url.host, url.port) = host_and_port(place)?;
        }
        url.read_query(rest.strip_prefix('/').unwrap_or(rest))?;
        Ok(url)
    }
}

impl Url {
    fn read_query(&mut self, query: &str) -> Result<(), UrlError> {
        let mut fields = query.split('?');
        self.dn = decode(fields.next().unwrap_or_default())?;
        let attributes = fields.next().unwrap_or_default();
        if !attributes.is_empty() {
            self.attributes = attributes
                .split(',')
                .map(|name| not_empty(name, "attribute"))
                .collect::<Result<_, _>>()?;
        }
        self.scope = match fields.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "" => None,
            "base" => Some(Scope::Base),
            "one" => Some(Scope::One),
            "sub" => Some(Scope::Subtree),
            // draft-sermersheim-ldap-subordinate-scope, spelled as OpenLDAP does.
            "subordinate" | "children" => Some(Scope::Subordinate),
            other => {
                return Err(UrlError(format!(
                    "\"{other}\" is no scope; write base, one, sub or subordinate"
                )));
            }
        };
        self.filter = match fields.next().unwrap_or_default() {
            "" => None,
            filter => Some(decode(filter)?),
        };
        let extensions = fields.next().unwrap_or_default();
        if !extensions.is_empty() {
            self.extensions = extensions.split(',').map(extension).collect::<Result<_, _>>()?;
        }
        match fields.next() {
            None => Ok(()),
            Some(more) => Err(UrlError(format!(
                "\"?{more}\" is one part too many; a URL ends with ?attributes?scope?filter?extensions"
            ))),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.as_str())?;
        if let Some(path) = &self.path {
            encode(f, path, &[])?;
        }
        if let Some(host) = &self.host {
            host.fmt(f)?;
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        // As many parts as are needed to reach the last one that is there.
        let parts = [
            !self.attributes.is_empty(),
            self.scope.is_some(),
            self.filter.is_some(),
            !self.extensions.is_empty(),
        ];
        let last = parts.iter().rposition(|there| *there).map_or(0, |at| at + 1);
        if last == 0 && self.dn.is_empty() {
            return Ok(());
        }
        f.write_str("/")?;
        encode(f, &self.dn, KEPT)?;
        for part in 1..=last {
            f.write_str("?")?;
            match part {
                1 => show_list(f, &self.attributes, |f, name| encode(f, name, KEPT_IN_LISTS))?,
                2 => f.write_str(self.scope.map_or("", scope_name))?,
                3 => encode(f, self.filter.as_deref().unwrap_or_default(), KEPT)?,
                _ => show_list(f, &self.extensions, show_extension)?,
            }
        }
        Ok(())
    }
}

/// What may stand unencoded beside letters, digits and `-._~` (RFC 3986), in a name or filter and in a list.
const KEPT: &[u8] = b"!$&'()*+,;=:@/";
const KEPT_IN_LISTS: &[u8] = b"$&'()*+;:@/";

fn scheme(found: &str) -> Result<Scheme, UrlError> {
    match found.to_ascii_lowercase().as_str() {
        "ldap" => Ok(Scheme::Ldap),
        "ldaps" => Ok(Scheme::Ldaps),
        "ldapi" => Ok(Scheme::Ldapi),
        _ => Err(UrlError(format!(
            "\"{found}\" is no scheme here; write ldap, ldaps or ldapi"
        ))),
    }
}

fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Base => "base",
        Scope::One => "one",
        Scope::Subtree => "sub",
        Scope::Subordinate => "subordinate",
    }
}

fn socket_path(place: &str) -> Result<String, UrlError> {
    let path = decode(place)?;
    if path.starts_with('/') {
        return Ok(path);
    }
    Err(UrlError(format!(
        "\"{path}\" is no absolute socket path; percent-encode the slashes: ldapi://%2Frun%2Fslapd%2Fldapi"
    )))
}

fn host_and_port(place: &str) -> Result<(Option<Host>, Option<u16>), UrlError> {
    if place.contains('@') {
        return Err(UrlError(
            "a URL carries no user or password; set bind_dn and bind_password_file".to_owned(),
        ));
    }
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let Some((address, rest)) = rest.split_once(']') else {
                return Err(UrlError(format!(
                    "\"{place}\" has no closing bracket; write [::1] or [::1]:389"
                )));
            };
            let address = Ipv6Addr::from_str(address)
                .map_err(|_| UrlError(format!("\"{address}\" in brackets is no IPv6 address, like ::1")))?;
            let port = match rest.strip_prefix(':') {
                Some(port) => Some(port),
                None if rest.is_empty() => None,
                None => return Err(UrlError(format!("\"{rest}\" follows the brackets; only :PORT may"))),
            };
            (Some(Host::Address(address.into())), port)
        }
        None => match place.split_once(':') {
            Some((_, rest)) if rest.contains(':') => {
                return Err(UrlError(format!(
                    "\"{place}\" looks like an IPv6 address; put it into brackets, like [::1]"
                )));
            }
            Some((host, port)) => (self::host(host)?, Some(port)),
            None => (host(place)?, None),
        },
    };
    Ok((host, port.map(self::port).transpose()?))
}

fn host(text: &str) -> Result<Option<Host>, UrlError> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Ok(address) = Ipv4Addr::from_str(text) {
        return Ok(Some(Host::Address(address.into())));
    }
    let labels = text.strip_suffix('.').unwrap_or(text);
    let is_name = labels.len() <= 253
        && labels.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
        });
    if !is_name {
        return Err(UrlError(format!(
            "\"{text}\" is no host name or address; names have letters, digits, - and dots"
        )));
    }
    // A last label of digits only makes it an address that was mistyped, never a name (RFC 1123 section 2.1).
    if labels
        .rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|c| c.is_ascii_digit()))
    {
        return Err(UrlError(format!(
            "\"{text}\" is no IPv4 address; it takes four numbers of 0 to 255"
        )));
    }
    Ok(Some(Host::Name(text.to_owned())))
}

fn port(text: &str) -> Result<u16, UrlError> {
    let digits_only = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|port| *port > 0 && digits_only)
        .ok_or_else(|| {
            UrlError(format!(
                "\"{text}\" is no port; write 1 to 65535, or leave the colon out"
            ))
        })
}

fn extension(text: &str) -> Result<Extension, UrlError> {
    let (critical, text) = match text.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(decode(value)?)),
        None => (text, None),
    };
    Ok(Extension {
        critical,
        name: not_empty(name, "extension")?,
        value,
    })
}

fn not_empty(text: &str, what: &str) -> Result<String, UrlError> {
    match decode(text)? {
        text if text.is_empty() => Err(UrlError(format!("an {what} is empty; there is a comma too many"))),
        text => Ok(text),
    }
}

fn split_at_any<'a>(text: &'a str, marks: &[char]) -> (&'a str, &'a str) {
    text.find(marks)
        .and_then(|at| text.split_at_checked(at))
        .unwrap_or((text, ""))
}

fn decode(text: &str) -> Result<String, UrlError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => break,
            [b'%', high, low, behind @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                decoded.push(hex(*high) << 4 | hex(*low));
                behind
            }
            [b'%', ..] => {
                return Err(UrlError(format!(
                    "\"{text}\" has a % without two hexadecimal digits behind it; % itself is %25"
                )));
            }
            [other, behind @ ..] => {
                decoded.push(*other);
                behind
            }
        };
    }
    match String::from_utf8(decoded) {
        Ok(decoded) if decoded.contains('\0') => Err(UrlError(format!("\"{text}\" has a %00, which cannot be meant"))),
        Ok(decoded) => Ok(decoded),
        Err(_) => Err(UrlError(format!("\"{text}\" is not UTF-8 when decoded"))),
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10) & 0x0F,
    }
}

fn encode(f: &mut fmt::Formatter<'_>, text: &str, kept: &[u8]) -> fmt::Result {
    for octet in text.bytes() {
        let plain = octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) || kept.contains(&octet);
        if plain {
            write!(f, "{}", char::from(octet))?
        } else {
            write!(f, "%{octet:02X}")?
        }
    }
    Ok(())
}

fn show_list<T>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    show: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            f.write_str(",")?;
        }
        show(f, item)?;
    }
    Ok(())
}

fn show_extension(f: &mut fmt::Formatter<'_>, extension: &Extension) -> fmt::Result {
    if extension.critical {
        f.write_str("!")?;
    }
    encode(f, &extension.name, KEPT_IN_LISTS)?;
    if let Some(value) = &extension.value {
        f.write_str("=")?;
        encode(f, value, KEPT_IN_LISTS)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn places() {
        assert_eq!(url("ldap://").port_or_default(), Some(389));
        assert_eq!(url("LDAPS://Dir.example.com").port_or_default(), Some(636));
        assert_eq!(
            url("ldap://127.0.0.1:1389/").host,
            Some(Host::Address(Ipv4Addr::LOCALHOST.into()))
        );
        let six = url("ldaps://[2001:db8::7]:6360");
        assert_eq!(
            (six.host, six.port),
            (Some(Host::Address("2001:db8::7".parse().unwrap())), Some(6360))
        );
        assert_eq!(url("ldapi:///").path, None);
        assert_eq!(url("ldapi://").port_or_default(), None);
        assert_eq!(
            url("ldapi://%2Frun%2Fslapd%2fldapi").path.as_deref(),
            Some("/run/slapd/ldapi")
        );
        assert!(url("ldap://h/").is_only_a_place());
        assert!(!url("ldap://h/dc=x").is_only_a_place());
    }

    /// The examples of RFC 4516 section 4.
    #[test]
    fn examples_of_the_rfc() {
        let one = url("ldap://ldap1.example.net/o=University%20of%20Michigan,c=US?postalAddress");
        assert_eq!(one.dn, "o=University of Michigan,c=US");
        assert_eq!(one.attributes, ["postalAddress"]);
        let two = url("ldap://ldap1.example.net:6666/o=University%20of%20Michigan,c=US??sub?(cn=Babs%20Jensen)");
        assert_eq!(
            (two.port, two.scope, two.filter.as_deref()),
            (Some(6666), Some(Scope::Subtree), Some("(cn=Babs Jensen)"))
        );
        assert_eq!(
            url("LDAP://ldap1.example.com/c=GB?objectClass?ONE").scope,
            Some(Scope::One)
        );
        assert_eq!(
            url("ldap://ldap2.example.com/o=Question%3f,c=US?mail").dn,
            "o=Question?,c=US"
        );
        assert_eq!(
            url(r"ldap://ldap3.example.com/o=Babsco,c=US???(four-octet=%5c00%5c00%5c00%5c04)")
                .filter
                .as_deref(),
            Some(r"(four-octet=\00\00\00\04)")
        );
        assert_eq!(
            url("ldap://ldap.example.com/o=An%20Example%5C2C%20Inc.,c=US").dn,
            r"o=An Example\2C Inc.,c=US"
        );
        let bind = url("ldap:///??sub??e-bindname=cn=Manager%2cdc=example%2cdc=com");
        assert_eq!(
            bind.extensions[0].value.as_deref(),
            Some("cn=Manager,dc=example,dc=com")
        );
        assert!(url("ldap:///??sub??!e-bindname=cn=Manager%2cdc=example%2cdc=com").extensions[0].critical);
    }

    #[test]
    fn mistakes_are_told() {
        for (text, part) in [
            ("dir.example.com", "write ldap://dir.example.com"),
            ("http://x", "write ldap, ldaps or ldapi"),
            ("ldap://a b", "%20"),
            ("ldap://::1", "brackets"),
            ("ldap://[::1", "closing bracket"),
            ("ldap://[::g]", "no IPv6 address"),
            ("ldap://[::1]389", "only :PORT"),
            ("ldap://h:", "leave the colon out"),
            ("ldap://h:0", "1 to 65535"),
            ("ldap://h:65536", "1 to 65535"),
            ("ldap://h:+5", "1 to 65535"),
            ("ldap://user:pw@h", "bind_password_file"),
            ("ldap://1.2.3.400", "no IPv4 address"),
            ("ldap://a..b", "no host name"),
            ("ldap://a%20b", "no host name"),
            ("ldapi://run/ldapi", "percent-encode the slashes"),
            ("ldap://h/%4", "two hexadecimal digits"),
            ("ldap://h/%ff", "UTF-8"),
            ("ldap://h/?a,,b", "comma too many"),
            ("ldap://h/??tree", "base, one, sub"),
            ("ldap://h/?????", "one part too many"),
        ] {
            let error = text.parse::<Url>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_parsed_again(
            dn in "[ -~äß?#]{0,20}", attributes in prop::collection::vec("[ -~é,?]{1,8}", 0..3), scope in 0..5i32,
            filter in proptest::option::of("[ -~?]{1,20}"), name in "[!-~]{1,5}", value in proptest::option::of("[ -~]{0,5}"),
            critical: bool, with_extension: bool, place in 0..4usize,
        ) {
            let mut url = url(["ldap://h.example:99", "ldaps://[::1]", "ldapi://%2Fa%20b%3F", "ldap://"][place]);
            url.dn = dn;
            url.attributes = attributes;
            url.scope = Scope::from_code(scope);
            url.filter = filter;
            if with_extension {
                url.extensions = vec![Extension { critical, name, value }];
            }
            prop_assert_eq!(url.to_string().parse::<Url>(), Ok(url));
        }

        #[test]
        fn any_text_is_answered(text in "(ldap[si]?://)?[a-z%0-9:\\[\\]/?,!=@é]{0,30}") {
            if let Ok(url) = text.parse::<Url>() {
                prop_assert_eq!(url.to_string().parse::<Url>(), Ok(url));
            }
        }
    }
}
