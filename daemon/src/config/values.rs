//! What is written in a value: durations, sizes, URLs and addresses. Pure text in, values out; the message of an error
//! says what would be right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use wire::ldap::url::Scheme;
use wire::ldap::url::{Host, Url, UrlError};

/// Longest path of a unix socket on Linux: `sun_path` has 108 bytes and ends with a zero.
pub const UNIX_PATH_MAX: usize = 107;

/// Longest duration that may be written, 100 days: beyond it is a slip, not a wish.
pub const DURATION_MAX: Duration = Duration::from_secs(100 * 24 * 3600);

/// `"10s"`, `"500ms"`, `"5m"`, `"1h"`, `"2d"`, `"1.5s"`.
///
/// # Errors
/// What would be right.
pub fn duration(text: &str) -> Result<Duration, String> {
    const RIGHT: &str = "write a number and a unit: \"500ms\", \"10s\", \"5m\", \"1h\" or \"2d\"";
    let (number, unit) = number_and_unit(text).ok_or(RIGHT)?;
    let seconds = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        "" => {
            return Err(format!(
                "the unit is missing: write \"{text}s\" for seconds or \"{text}ms\""
            ));
        }
        other => return Err(format!("`{other}` is not a unit of time; {RIGHT}")),
    };
    Duration::try_from_secs_f64(number * seconds)
        .ok()
        .filter(|length| *length <= DURATION_MAX)
        .ok_or_else(|| "at most 100 days can be written".into())
}

/// `"64KiB"`, `"1MiB"`, `"2GiB"`, `"500B"`; `kB`, `MB`, `GB` are powers of ten.
///
/// # Errors
/// What would be right.
pub fn size(text: &str) -> Result<usize, String> {
    const RIGHT: &str = "write a number and a unit: \"64KiB\", \"1MiB\" or \"2GiB\", or bytes without quotes";
    let (number, unit) = number_and_unit(text).ok_or(RIGHT)?;
    let factor: f64 = match unit {
        "" | "B" => 1.0,
        "KiB" | "K" | "k" | "Ki" => 1024.0,
        "MiB" | "M" | "Mi" => 1024.0 * 1024.0,
        "GiB" | "G" | "Gi" => 1024.0 * 1024.0 * 1024.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        other => return Err(format!("`{other}` is not a unit of size; {RIGHT}")),
    };
    let bytes = (number * factor).round();
    // Bounded just above: an f64 holds whole numbers up to 2^53 exactly.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    if bytes <= 1_125_899_906_842_624.0 {
        Ok(bytes as usize)
    } else {
        Err("at most 1024 TiB can be written".into())
    }
}

/// A duration as a person writes it, for messages and documentation.
pub fn show_duration(length: Duration) -> String {
    let ms = length.as_millis();
    match ms {
        0 if length.is_zero() => "0s".into(),
        _ if ms.is_multiple_of(86_400_000) => format!("{}d", ms / 86_400_000),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        _ => format!("{ms}ms"),
    }
}

/// A size as a person writes it.
pub fn show_size(bytes: usize) -> String {
    match bytes {
        0 => "0".into(),
        _ if bytes.is_multiple_of(1 << 30) => format!("{}GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        _ => format!("{bytes}"),
    }
}

/// Number (decimal, not negative) and what follows it.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit.trim()))
}

/// What a listener's address says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// The scheme, where one was written: `ldap`, `ldaps` or `ldapi`.
    pub scheme: Option<Scheme>,
    /// Where.
    pub place: ListenPlace,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenPlace {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// `[::]:389`, `127.0.0.1:1389`, `:389` and `*:389` (every address), `unix:/path`, `ldap://127.0.0.1:1389`, `ldaps://`,
/// `ldapi://%2Frun%2Fusherd%2Fldapi`.
///
/// # Errors
/// What would be right.
pub fn listen_address(text: &str) -> Result<ListenAddress, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(ListenAddress {
            scheme: None,
            place: ListenPlace::Unix(unix_path(path)?),
        });
    }
    if text.starts_with('/') {
        return Err(format!("write \"unix:{text}\" for a unix socket"));
    }
    if !text.contains("://") {
        let place = ListenPlace::Tcp(socket_address(text)?);
        return Ok(ListenAddress { scheme: None, place });
    }
    // Port 0 is for listeners alone: the kernel chooses. In a URL it would be a mistake.
    let (text, chosen) = match text.trim_end_matches('/').strip_suffix(":0") {
        Some(before) => (before, Some(0)),
        None => (text, None),
    };
    let url = place_url(text)?;
    let place = match (url.path, chosen.or(url.port).or(url.scheme.default_port())) {
        (Some(path), _) => ListenPlace::Unix(unix_path(&path)?),
        (None, Some(port)) => {
            let ip = match url.host {
                None => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                Some(Host::Address(ip)) => ip,
                Some(Host::Name(name)) => own_address(&name)?,
            };
            ListenPlace::Tcp(SocketAddr::new(ip, port))
        }
        (None, None) => {
            return Err("the path of the socket is missing: write \"ldapi://%2Frun%2Fusherd%2Fldapi\"".into());
        }
    };
    Ok(ListenAddress {
        scheme: Some(url.scheme),
        place,
    })
}

/// An address with a port. Names are not looked up: a listener must not depend on DNS.
fn socket_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let Some((host, digits)) = text.rsplit_once(':').filter(|(host, _)| !host.ends_with(':')) else {
        return Err("the port is missing: write \"127.0.0.1:1389\", or \"[::]:389\" for every address".into());
    };
    let port = digits
        .parse()
        .map_err(|_| format!("`{digits}` is not a port (0 to 65535)"))?;
    let ip = if host.is_empty() || host == "*" {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        own_address(host)?
    };
    Ok(SocketAddr::new(ip, port))
}

fn own_address(host: &str) -> Result<IpAddr, String> {
    if host == "localhost" {
        return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    host.parse().map_err(|_| {
        format!(
            "`{host}` is not an address of this machine: write \"127.0.0.1:PORT\", or \"[::]:PORT\" for every address"
        )
    })
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// How.
    pub scheme: Scheme,
    /// Where.
    pub place: ServerPlace,
}

/// See [`ServerUrl`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerPlace {
    /// Name or address literal without brackets, and port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

/// `ldap://host`, `ldaps://host:636`, `ldapi://%2Fpath`: an LDAP URL (RFC 4516) that names a server and nothing in it.
///
/// # Errors
/// What would be right.
pub fn server_url(text: &str) -> Result<ServerUrl, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Err(format!(
            "write \"ldapi://{}\" for a server on a unix socket",
            path.replace('/', "%2F")
        ));
    }
    let url = place_url(text)?;
    let port = url.port.or(url.scheme.default_port());
    let place = match (url.path, url.host, port) {
        (Some(path), _, _) => ServerPlace::Unix(unix_path(&path)?),
        (None, Some(Host::Address(ip)), Some(port)) => ServerPlace::Tcp(ip.to_string(), port),
        (None, Some(Host::Name(name)), Some(port)) => ServerPlace::Tcp(name, port),
        (None, _, _) => return Err(format!("the host is missing: write \"{}://HOST\"", url.scheme.as_str())),
    };
    Ok(ServerUrl {
        scheme: url.scheme,
        place,
    })
}

/// An LDAP URL that names a place and nothing in it.
fn place_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error: UrlError| error.to_string())?;
    if url.is_only_a_place() {
        return Ok(url);
    }
    Err(
        "only a place is meant here: nothing may follow the host and port (the path of ldapi is written with %2F)"
            .into(),
    )
}

/// `HOST:PORT`, `ADDRESS:PORT`, `[ADDRESS]:PORT`; without a port where there is one to assume.
///
/// # Errors
/// What would be right.
pub fn host_and_port(text: &str, assumed: Option<u16>) -> Result<(String, u16), String> {
    if text.is_empty() || text.contains(['/', '?']) {
        return Err("a host and a port are meant here".into());
    }
    let url = place_url(&format!("ldap://{text}"))?;
    let port = url.port.or(assumed).ok_or("the port is missing")?;
    match url.host {
        Some(Host::Address(ip)) => Ok((ip.to_string(), port)),
        Some(Host::Name(name)) => Ok((name, port)),
        None => Err("the host is missing".into()),
    }
}

/// A path that a unix socket can have.
///
/// # Errors
/// What would be right.
pub fn unix_path(path: &str) -> Result<PathBuf, String> {
    if path.is_empty() {
        return Err("the path of the socket is missing".into());
    }
    if path.len() > UNIX_PATH_MAX {
        return Err(format!(
            "the path has {} bytes; a unix socket's may have {UNIX_PATH_MAX}",
            path.len()
        ));
    }
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("5 m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert!(duration("10").unwrap_err().contains("\"10s\""));
        assert!(duration("10 parsecs").unwrap_err().contains("parsecs"));
        assert!(duration("-1s").is_err() && duration("1.2.3s").is_err() && duration("99999d").is_err());
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert_eq!(size("1MB"), Ok(1_000_000));
        assert!(size("1 elephant").is_err() && size("1e99GiB").is_err());
        for text in ["0s", "500ms", "10s", "5m", "1h", "2d"] {
            assert_eq!(duration(text).map(show_duration).as_deref(), Ok(text));
        }
        for text in ["64KiB", "1MiB", "2GiB", "77"] {
            assert_eq!(size(text).map(show_size).as_deref(), Ok(text));
        }
    }

    #[test]
    fn listening_addresses() {
        let tcp = |text: &str| match listen_address(text).unwrap().place {
            ListenPlace::Tcp(address) => address.to_string(),
            ListenPlace::Unix(path) => panic!("{path:?}"),
        };
        assert_eq!(tcp("[::]:389"), "[::]:389");
        assert_eq!(tcp(":389"), "[::]:389");
        assert_eq!(tcp("*:389"), "[::]:389");
        assert_eq!(tcp("127.0.0.1:1389"), "127.0.0.1:1389");
        assert_eq!(tcp("ldap://127.0.0.1"), "127.0.0.1:389");
        assert_eq!(tcp("ldaps://"), "[::]:636");
        assert_eq!(tcp("ldap://[::1]:1389/"), "[::1]:1389");
        assert_eq!(tcp("ldap://[::1]"), "[::1]:389");
        assert_eq!(tcp("ldap://127.0.0.1:0"), "127.0.0.1:0");
        assert_eq!(tcp("ldaps://:0/"), "[::]:0");
        assert_eq!(tcp("localhost:1389"), "127.0.0.1:1389");
        let unix = ListenAddress {
            scheme: Some(Scheme::Ldapi),
            place: ListenPlace::Unix("/run/x".into()),
        };
        assert_eq!(listen_address("ldapi://%2Frun%2Fx"), Ok(unix));
        for (bad, why) in [
            ("127.0.0.1", "port is missing"),
            ("example.com:389", "not an address"),
            ("http://x", "no scheme here"),
            ("127.0.0.1:99999", "not a port"),
            ("/run/x", "\"unix:/run/x\""),
            ("ldapi:///run/x", "only a place"),
            ("ldapi://%2", "%"),
            ("unix:", "missing"),
        ] {
            let message = listen_address(bad).unwrap_err();
            assert!(message.contains(why), "{bad}: {message}");
        }
        assert!(
            listen_address(&format!("unix:/{}", "x".repeat(107)))
                .unwrap_err()
                .contains("108 bytes")
        );
    }

    #[test]
    fn server_urls() {
        let tcp = |host: &str, port| ServerPlace::Tcp(host.into(), port);
        assert_eq!(server_url("ldap://a.example").unwrap().place, tcp("a.example", 389));
        assert_eq!(server_url("ldaps://a.example/").unwrap().place, tcp("a.example", 636));
        assert_eq!(server_url("LDAP://[::1]:1389").unwrap().place, tcp("::1", 1389));
        assert_eq!(
            server_url("ldapi://%2Frun%2Fslapd").unwrap().place,
            ServerPlace::Unix("/run/slapd".into())
        );
        for (bad, why) in [
            ("a.example:389", "has no scheme"),
            ("unix:/run/slapd", "ldapi://%2Frun%2Fslapd"),
            ("ldap://", "host is missing"),
            ("ldap://::1", "brackets"),
            ("ldap://a/dc=x", "nothing may follow"),
            ("ldap://a b", "percent-encode"),
            ("ldap://a:b", "port"),
        ] {
            let message = server_url(bad).unwrap_err();
            assert!(message.contains(why), "{bad}: {message}");
        }
    }
}
