//! Names of hosts: which are none, which need no resolver, and asking it.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// What the resolver answers.
pub(crate) type Addresses = io::Result<Vec<SocketAddr>>;

/// A question to the resolver; its answer may take its time, so another thread asks it.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// To the system's.
    System(String, u16),
    /// To a simulation's, which knows the answer beforehand.
    #[cfg(feature = "testing")]
    Simulated(Addresses),
}

impl Lookup {
    /// Asks, and waits for the answer.
    pub(crate) fn ask(self) -> Addresses {
        match self {
            Self::System(host, port) => (host.as_str(), port).to_socket_addrs().map(Iterator::collect),
            #[cfg(feature = "testing")]
            Self::Simulated(answer) => answer,
        }
    }
}

/// The address that `host` spells out, if it does: `192.0.2.1`, `2001:db8::1`, `[2001:db8::1]`, `fe80::1%eth0`.
///
/// # Errors
///
/// If it is no host at all.
pub(crate) fn literal(host: &str, port: u16) -> io::Result<Option<SocketAddr>> {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(Some(SocketAddr::new(ip, port)));
    }
    let text = inner.unwrap_or(host);
    if let Ok(ip) = text.parse::<Ipv6Addr>() {
        return Ok(Some(SocketAddr::new(ip.into(), port)));
    }
    if let Some((ip, _scope)) = text.split_once('%')
        && ip.parse::<Ipv6Addr>().is_ok()
    {
        // The resolver knows the names of scopes (RFC 4007 section 11), and asks nobody for them.
        let scoped = (text, port).to_socket_addrs();
        return match scoped.ok().and_then(|mut addresses| addresses.next()) {
            Some(address) => Ok(Some(address)),
            None => Err(unusable("there is no such scope")),
        };
    }
    if host.is_empty() {
        return Err(unusable("the host name is empty"));
    }
    if host.contains('\0') {
        return Err(unusable("the host name holds a NUL"));
    }
    if host.contains([':', '[', ']']) {
        return Err(unusable("the host is neither a name nor an IPv6 address"));
    }
    if host.strip_suffix('.').unwrap_or(host).len() > MOST_NAME {
        return Err(unusable("the host name is too long"));
    }
    Ok(None)
}

fn unusable(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Most bytes of a host name, without a dot at its end: 253, what fits into the 255 of RFC 1035 section 2.3.4 as they go
/// over the line.
const MOST_NAME: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_no_resolver() {
        for (host, address) in [
            ("192.0.2.1", "192.0.2.1:25"),
            ("2001:db8::1", "[2001:db8::1]:25"),
            ("[2001:db8::1]", "[2001:db8::1]:25"),
            ("fe80::1%7", "[fe80::1%7]:25"),
            ("[fe80::1%7]", "[fe80::1%7]:25"),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(literal(host, 25).unwrap(), Some(address), "{host}");
        }
        for host in ["mail.example", "mail.example.", "localhost", "1.2.3", "café.example"] {
            assert_eq!(literal(host, 25).unwrap(), None, "{host}");
        }
    }

    #[test]
    fn what_cannot_be_a_host_is_refused() {
        let longest = "a".repeat(MOST_NAME);
        for host in [&longest, &format!("{longest}.")] {
            assert!(literal(host, 25).is_ok_and(|address| address.is_none()));
        }
        let too_long = format!("{longest}a");
        for host in ["", "a\0b", "mail.example:25", "[192.0.2.1]", "[mail]", "::1::", "fe80::1%", &too_long] {
            assert!(literal(host, 25).is_err(), "{host:?}");
        }
    }
}
