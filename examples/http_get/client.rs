//! [`Client`]: looks names up, tries each address, follows redirects, and minds the time.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use asynchat::AsyncChat;
use asyncore::Map;

use super::fetch::{Exchange, Fetch};
use super::head::Head;
use super::{Failure, Url};

/// Gets addresses, and writes what they hold to `W`.
#[derive(Debug)]
pub(crate) struct Client<W> {
    exchange: Exchange<W>,
    time: Duration,
}

impl<W: Write + 'static> Client<W> {
    /// A client that takes at most `max_bytes` of body and `time` for all of it.
    pub(crate) const fn new(out: W, max_bytes: u64, time: Duration) -> Self {
        Self { exchange: Exchange { out, room: max_bytes, follows: false, outcome: None }, time }
    }

    /// Gets `url`, following at most so many redirects.
    pub(crate) fn get(&mut self, mut url: Url, redirects: u32) -> Result<(), Failure> {
        let deadline = Instant::now() + self.time;
        // Whoever runs the program may ask anybody; a server may not send it closer to home.
        let mut nearest = Scope::Loopback;
        let mut left = redirects;
        loop {
            self.exchange.follows = left > 0;
            let (head, reached) = self.ask(&url, nearest, deadline)?;
            let Some(location) = head.redirect() else {
                return if matches!(head.status, 200..=299) {
                    Ok(())
                } else {
                    Err(Failure::Status(head.status))
                };
            };
            if left == 0 {
                return Err(Failure::Redirect(format!("it leads to {location:?}")));
            }
            left -= 1;
            url = url.join(location).map_err(|error| Failure::Redirect(format!("{location:?}: {error}")))?;
            nearest = Scope::of(reached.ip());
        }
    }

    /// Asks the first address of the host that can be reached, none of them nearer than `nearest`.
    fn ask(&mut self, url: &Url, nearest: Scope, deadline: Instant) -> Result<(Head, SocketAddr), Failure> {
        let addresses =
            (&*url.host, url.port).to_socket_addrs().map_err(|error| Failure::Connect(error.to_string()))?;
        let mut failure = Failure::Connect(format!("{} has no address", url.host));
        for address in addresses {
            if Scope::of(address.ip()) > nearest {
                return Err(Failure::Redirect(format!(
                    "{address} is closer to home than where it comes from"
                )));
            }
            match self.exchange(url, address, deadline) {
                Ok(head) => return Ok((head, address)),
                Err(unreached @ Failure::Connect(_)) => failure = unreached,
                Err(other) => return Err(other),
            }
        }
        Err(failure)
    }

    /// Asks one address.
    fn exchange(&mut self, url: &Url, at: SocketAddr, deadline: Instant) -> Result<Head, Failure> {
        let broken = |error: asyncore::Error| Failure::Connect(error.to_string());
        let mut map = Map::new().map_err(broken)?;
        let chat = AsyncChat::new(Fetch::new(url)).terminator(b"\r\n\r\n");
        let id = map.connect(at, chat).map_err(broken)?;
        map.set_timer(id, deadline.saturating_duration_since(Instant::now()));
        map.run(&mut self.exchange).map_err(broken)?;
        self.exchange.outcome.take().unwrap_or(Err(Failure::Truncated))
    }
}

/// How near an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Public,
    /// This network only.
    Private,
    /// This machine only.
    Loopback,
}

impl Scope {
    fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        if address.is_loopback() || address.is_unspecified() {
            return Self::Loopback;
        }
        let is_private = match address {
            IpAddr::V4(v4) => {
                // 100.64.0.0/10 is shared by a provider's customers (RFC 6598).
                let is_shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
                v4.is_private() || v4.is_link_local() || is_shared
            }
            IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
        };
        if is_private { Self::Private } else { Self::Public }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_know_how_near_they_are() {
        let table = [
            (Scope::Loopback, &["127.0.0.1", "127.8.8.8", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"][..]),
            (
                Scope::Private,
                &[
                    "10.1.2.3",
                    "172.16.0.1",
                    "192.168.1.1",
                    "169.254.169.254",
                    "100.64.0.1",
                    "fd00::1",
                    "fe80::1",
                ],
            ),
            (Scope::Public, &["192.0.2.1", "8.8.8.8", "100.128.0.1", "2001:db8::1", "::ffff:8.8.8.8"]),
        ];
        for (scope, addresses) in table {
            for address in addresses {
                assert_eq!(Scope::of(address.parse().unwrap()), scope, "{address}");
            }
        }
        assert!(Scope::Loopback > Scope::Private && Scope::Private > Scope::Public);
    }
}
