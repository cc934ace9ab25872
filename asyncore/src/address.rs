//! [`Address`]: where a socket is bound or connected to, whatever its family.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use socket2::SockAddr;

/// An address of any family that a [`Dispatcher`](crate::Dispatcher) speaks.
///
/// It parses from `127.0.0.1:6142`, `[::1]:6142` and `unix:/run/room.sock`, and prints in the same form.
///
/// ```
/// use asyncore::Address;
///
/// let address: Address = "[::1]:6142".parse()?;
/// assert_eq!(address.port(), Some(6142));
/// let address: Address = "unix:/run/room.sock".parse()?;
/// assert_eq!(address.to_string(), "unix:/run/room.sock");
/// assert!("room".parse::<Address>().is_err());
/// # Ok::<(), asyncore::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and port.
    Inet(SocketAddr),
    /// A path in the file system, of a Unix-domain socket.
    Unix(PathBuf),
    /// A Unix-domain socket without a path: the usual client side, or half of a pair.
    Unnamed,
}

impl Address {
    /// The IP address, if it is one.
    #[must_use]
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Inet(address) => Some(address.ip()),
            Self::Unix(_) | Self::Unnamed => None,
        }
    }

    /// The port, if it has one.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Inet(address) => Some(address.port()),
            Self::Unix(_) | Self::Unnamed => None,
        }
    }

    pub(crate) fn to_sock_addr(&self) -> io::Result<SockAddr> {
        match self {
            Self::Inet(address) => Ok(SockAddr::from(*address)),
            Self::Unix(path) => SockAddr::unix(path),
            Self::Unnamed => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "a Unix-domain address needs a path"))
            }
        }
    }

    pub(crate) fn from_sock_addr(address: &SockAddr) -> Option<Self> {
        if let Some(inet) = address.as_socket() {
            return Some(Self::Inet(inet));
        }
        address
            .is_unix()
            .then(|| address.as_pathname().map_or(Self::Unnamed, |path| Self::Unix(path.to_path_buf())))
    }

    pub(crate) fn from_any(address: &rustix::net::SocketAddrAny) -> Option<Self> {
        use rustix::net::{AddressFamily, SocketAddrUnix};
        match address.address_family() {
            AddressFamily::INET => {
                SocketAddrV4::try_from(address.clone()).ok().map(|v4| Self::Inet(v4.into()))
            }
            AddressFamily::INET6 => {
                SocketAddrV6::try_from(address.clone()).ok().map(|v6| Self::Inet(v6.into()))
            }
            AddressFamily::UNIX => {
                use std::os::unix::ffi::OsStrExt;
                let unix = SocketAddrUnix::try_from(address.clone()).ok()?;
                Some(unix.path().map_or(Self::Unnamed, |path| {
                    Self::Unix(PathBuf::from(std::ffi::OsStr::from_bytes(path.to_bytes())))
                }))
            }
            _ => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl From<(IpAddr, u16)> for Address {
    fn from(address: (IpAddr, u16)) -> Self {
        Self::Inet(address.into())
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_path_buf())
    }
}

impl From<&Self> for Address {
    fn from(address: &Self) -> Self {
        address.clone()
    }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        match text.strip_prefix("unix:") {
            Some("") => Err(ParseAddressError(text.to_owned())),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Inet).map_err(|_| ParseAddressError(text.to_owned())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Unnamed => f.write_str("unix:"),
        }
    }
}

/// A text that is no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseAddressError(String);

impl fmt::Display for ParseAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no address: expected 127.0.0.1:6142, [::1]:6142 or unix:/path", self.0)
    }
}

impl std::error::Error for ParseAddressError {}

/// A peer as logs name it.
pub(crate) struct PeerName(pub(crate) Option<Address>);

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("unknown"),
            Some(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_they_parse() {
        for text in ["127.0.0.1:25", "[::1]:6667", "unix:/run/a.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "unix:", "localhost:25", "127.0.0.1", "[::1]"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
