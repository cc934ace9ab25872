//! [`is_open_relay`]: whether anybody could send mail to anybody through this server.

use asyncore::Address;
use ipnet::IpNet;

/// Whether a server that passes mail on would do so for strangers, who are not to be served (RFC 2505, section 2.1).
///
/// `listeners` are where it listens, `proxied` says that a PROXY header tells where clients come from, `auth` that they have
/// to say who they are unless they come from `allow_from`.
#[must_use]
pub fn is_open_relay(listeners: &[Address], proxied: bool, auth: bool, allow_from: &[IpNet]) -> bool {
    if !reaches_others(listeners, proxied) {
        return false;
    }
    // Halves of all addresses are all of them.
    let allows_all = IpNet::aggregate(&allow_from.to_vec()).iter().any(|net| net.prefix_len() == 0);
    allows_all || !auth && allow_from.is_empty()
}

/// Whether others than this machine reach one of these listeners: it is neither on loopback nor a Unix socket, or a proxy
/// stands before it.
#[must_use]
pub fn reaches_others(listeners: &[Address], proxied: bool) -> bool {
    let is_local = |at: &Address| at.ip().is_none_or(|ip| ip.to_canonical().is_loopback());
    proxied || !listeners.iter().all(is_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners(at: &[&str]) -> Vec<Address> {
        at.iter().map(|at| at.parse().unwrap()).collect()
    }

    fn nets(nets: &[&str]) -> Vec<IpNet> {
        nets.iter().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn this_machine_alone_is_served_without_a_question() {
        for at in [
            &["127.0.0.1:25"][..],
            &["127.3.2.1:25", "[::1]:25"],
            &["unix:/run/smtp.sock"],
            &["[::ffff:127.0.0.1]:25"],
            &[],
        ] {
            assert!(!reaches_others(&listeners(at), false), "{at:?}");
            assert!(!is_open_relay(&listeners(at), false, false, &[]), "{at:?}");
        }
    }

    #[test]
    fn others_have_to_say_who_they_are_or_come_from_somewhere() {
        for at in [
            &["0.0.0.0:25"][..],
            &["[::]:25"],
            &["192.0.2.1:25"],
            &["127.0.0.1:25", "[2001:db8::1]:25"],
            &["[::ffff:192.0.2.1]:25"],
        ] {
            let at = listeners(at);
            assert!(is_open_relay(&at, false, false, &[]), "{at:?}");
            assert!(!is_open_relay(&at, false, true, &[]), "{at:?}");
            assert!(!is_open_relay(&at, false, false, &nets(&["192.0.2.0/24"])), "{at:?}");
        }
    }

    #[test]
    fn to_allow_everybody_is_to_be_open_even_with_passwords() {
        let at = listeners(&["0.0.0.0:25"]);
        for all in [&["0.0.0.0/0"][..], &["::/0"], &["0.0.0.0/1", "128.0.0.0/1"], &["10.0.0.0/8", "::/0"]] {
            assert!(is_open_relay(&at, false, true, &nets(all)), "{all:?}");
        }
    }

    #[test]
    fn a_proxy_on_this_machine_brings_others() {
        let at = listeners(&["127.0.0.1:25"]);
        assert!(is_open_relay(&at, true, false, &[]));
        assert!(!is_open_relay(&at, true, true, &[]));
    }
}
