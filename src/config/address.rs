//! Addresses as people write them: one to listen on is an IP and a port, one to dial is any host and a port.

use std::net::{IpAddr, SocketAddr};

use super::value::{Wrong, quoted};

/// `127.0.0.1:7400`, `[::1]:7400` or `localhost:7400`. Port 0 takes any free one.
pub(super) fn listen(text: &str) -> Result<SocketAddr, Wrong> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
        return Ok(SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port));
    }
    if let Some(port) = text.strip_prefix(':') {
        return Err(format!(
            "is {}; write \"127.0.0.1:{port}\", or \"0.0.0.0:{port}\" for every address",
            quoted(text)
        ));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err(format!("is {}; the port is missing, as in \"127.0.0.1:7400\"", quoted(text)));
    }
    Err(format!("is {}; must be IP:PORT, as \"127.0.0.1:7400\" or \"[::1]:7400\"", quoted(text)))
}

/// `HOST:PORT` that somebody is to dial.
pub(crate) fn dial(text: &str) -> Result<String, Wrong> {
    let wrong = |why: &str| Err(format!("{} is no address; {why}", quoted(text)));
    let Some((host, port)) = text.rsplit_once(':') else {
        return wrong("must be HOST:PORT, as \"10.0.0.5:7401\"");
    };
    match port.parse::<u16>() {
        Ok(0) => return wrong("port 0 can't be dialed"),
        Ok(_) => {}
        Err(_) => return wrong("the port must be 1 to 65535"),
    }
    if let Some(inner) = host.strip_prefix('[') {
        let lawful =
            inner.strip_suffix(']').is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
        return if lawful {
            Ok(text.to_owned())
        } else {
            wrong("what is in brackets must be an IPv6 address")
        };
    }
    if host.contains(':') {
        return wrong("an IPv6 address stands in brackets, as \"[::1]:7401\"");
    }
    let lawful = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.is_empty() || 253 < host.len() || !host.chars().all(lawful) {
        return wrong("the host must be a name or an IP address");
    }
    Ok(text.to_owned())
}

/// As `dial`, where others are told it: 0.0.0.0 would lead nowhere.
pub(super) fn advertise(text: &str) -> Result<String, Wrong> {
    let unspecified = text.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_unspecified());
    if unspecified {
        return Err(format!(
            "is {}; nobody can dial that, name the address that others reach",
            quoted(text)
        ));
    }
    dial(text)
}

/// Does what is dialed stay on this host? A name other than `localhost` may lead anywhere.
pub(crate) fn is_near(dialed: &str) -> bool {
    let host = dialed.rsplit_once(':').map_or(dialed, |(host, _)| host);
    let ip = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || ip.parse().is_ok_and(is_loopback)
}

pub(super) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_stays_on_this_host_is_known() {
        for (dialed, is_near) in [
            ("127.0.0.1:7400", true),
            ("127.8.0.1:7400", true),
            ("[::1]:7400", true),
            ("[::ffff:127.0.0.1]:7400", true),
            ("localhost:7400", true),
            ("10.0.0.5:7400", false),
            ("[fe80::1]:7400", false),
            ("localhost.example.com:7400", false),
            ("a:7400", false),
        ] {
            assert_eq!(super::is_near(dialed), is_near, "{dialed}");
        }
    }
}
