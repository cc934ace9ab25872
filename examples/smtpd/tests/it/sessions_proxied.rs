//! Connections of a proxy: who is believed, and what is made of the header.

use asyncore::CloseReason;

use crate::sessions::{Talk, settings};

/// A connection from an address that is trusted, or not: the peer of a simulated pair is 192.0.2.1.
fn proxied(trusted: &str) -> Talk {
    let mut settings = settings();
    settings.proxies = Some(vec![trusted.parse().unwrap()]);
    settings.require_auth = true;
    settings.allow_from = vec!["198.51.100.0/24".parse().unwrap()];
    Talk::proxied(settings)
}

/// Version 2, for a client over IPv4.
fn binary() -> Vec<u8> {
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &[198, 51, 100, 7, 192, 0, 2, 1, 0x9c, 0x40, 0, 25]].concat()
}

#[test]
fn the_client_is_whom_the_header_names() {
    for header in [&b"PROXY TCP4 198.51.100.7 192.0.2.1 40000 25\r\n"[..], &binary()] {
        let mut talk = proxied("192.0.2.0/24");
        assert_eq!(talk.hear(), "", "nothing before the header");
        assert_eq!(talk.say(&header[..20]), "");
        assert_eq!(talk.say(&header[20..]), "220 mx.example ESMTP\r\n");
        // From an address that need not authenticate.
        let mut talk = talk.hello().at_data();
        talk.expect(&[(".", "250 ")]);
        let desk = talk.office.desk();
        let client = &desk.kept[0].envelope.client;
        assert_eq!((client.address, client.port), (Some("198.51.100.7".parse().unwrap()), 40_000));
    }
}

#[test]
fn what_comes_with_the_header_is_read_behind_it() {
    let mut talk = proxied("192.0.2.1/32");
    let replies = talk.say([&binary()[..], b"EHLO client\r\nQUIT\r\n"].concat());
    assert!(replies.starts_with("220 mx.example ESMTP\r\n250-mx.example\r\n"), "{replies}");
    assert!(replies.ends_with("221 2.0.0 Bye\r\n"), "{replies}");
}

#[test]
fn a_proxy_that_is_not_trusted_is_not_heard() {
    let log = integration_tests::captured(tracing::Level::INFO, || {
        let mut talk = proxied("203.0.113.0/24");
        assert_eq!(talk.say(binary()), "");
        assert!(talk.is_over());
        assert_eq!(talk.sim.app.metrics.sessions_refused, 1);
    });
    assert!(log.contains("peer=192.0.2.1:1") && !log.contains("198.51.100.7"), "{log}");
}

#[test]
fn what_is_no_header_closes_at_once() {
    let mut long = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec();
    long.resize(16 + 65_535, 0);
    for input in
        [&b"EHLO client\r\n"[..], b"PROXY TCP4 198.51.100.7\r\nEHLO a\r\n", b"PROXY TCP9 a b 1 2\r\n", &long]
    {
        let mut talk = proxied("192.0.2.1/32");
        assert_eq!(talk.say(input), "");
        assert!(talk.is_over(), "{}", input[..20.min(input.len())].escape_ascii());
    }
}

#[test]
fn half_a_header_is_waited_for_and_not_for_ever() {
    let mut talk = proxied("192.0.2.1/32");
    assert_eq!(talk.say(&binary()[..15]), "");
    talk.sim.advance(std::time::Duration::from_secs(301)).unwrap();
    assert!(talk.is_over());
}

#[test]
fn a_client_that_the_proxy_does_not_name_is_nobody() {
    // The proxy's own address is allowed, and does not count for others.
    let mut settings = settings();
    settings.proxies = Some(vec!["192.0.2.1/32".parse().unwrap()]);
    settings.allow_from = vec!["192.0.2.1/32".parse().unwrap()];
    settings.require_auth = true;
    for (header, expected) in [
        (&b"PROXY UNKNOWN\r\n"[..], "530 5.7.0 "),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x00\0\0", "530 5.7.0 "),
        // It speaks for itself.
        (b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0", "250 "),
    ] {
        let mut talk = Talk::proxied(settings.clone());
        assert!(talk.say(header).starts_with("220 "));
        talk.hello().expect(&[("MAIL FROM:<a@b>", expected)]);
    }
}

#[test]
fn a_proxy_that_only_looks_leaves_no_trace() {
    let mut talk = proxied("192.0.2.1/32");
    talk.peer.close();
    talk.sim.settle().unwrap();
    assert!(talk.sim.map.get(talk.id).is_none_or(|channel| channel.state() == asyncore::State::Closed));
    talk.sim.map.close_with(talk.id, CloseReason::Local);
    assert_eq!((talk.sim.app.metrics.sessions(), talk.sim.app.metrics.sessions_opened), (0, 0));
}
