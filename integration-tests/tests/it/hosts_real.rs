//! Hosts by their names, on real sockets: connecting to one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};

use asyncore::Map;
use integration_tests::{Net, map, run_to_the_end};

use crate::hosts::{Caller, Log};

/// A listener on one family of the loopback alone, and its port.
fn alone(net: Net) -> Option<(TcpListener, u16)> {
    let ip: IpAddr = if net == Net::V4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let listener = TcpListener::bind((ip, 0)).ok()?;
    let port = listener.local_addr().ok()?.port();
    Some((listener, port))
}

#[test]
fn localhost_is_reached_whichever_family_is_listened_on() {
    for net in [Net::V4, Net::V6] {
        let Some((listener, port)) = alone(net) else { continue };
        let address = listener.local_addr().expect("an address");
        if !std::net::ToSocketAddrs::to_socket_addrs(&("localhost", port))
            .is_ok_and(|mut known| known.any(|known| known == address))
        {
            eprintln!("skipped {net:?}: localhost does not name {address} here");
            continue;
        }
        let mut map: Map<Log> = map();
        map.connect_host("localhost", port, Caller).expect("a channel");
        let mut log = Log::new();
        let accepted = std::thread::spawn(move || listener.accept().map(drop));
        run_to_the_end(&mut map, &mut log);
        accepted.join().expect("no panic").expect("a connection");
        assert_eq!(log, [format!("connect {address}"), "close Eof".to_owned()]);
    }
}

#[test]
fn a_port_where_nobody_listens_is_refused_on_every_address() {
    let (listener, port) = alone(Net::V4).expect("IPv4");
    drop(listener);
    let mut map: Map<Log> = map();
    map.connect_host("127.0.0.1", port, Caller).expect("a channel");
    let mut log = Log::new();
    run_to_the_end(&mut map, &mut log);
    let text = format!("error cannot connect to 127.0.0.1:{port}: connection refused");
    assert_eq!(log, [text, "close Refused".to_owned()]);
}

#[test]
fn a_name_that_the_system_cannot_resolve_is_told_as_such() {
    // Longer than a label may be (RFC 1035 section 2.3.4): nobody is asked for it.
    let name = "a".repeat(64);
    let mut map: Map<Log> = map();
    map.connect_host(&name, 25, Caller).expect("a channel");
    let mut log = Log::new();
    run_to_the_end(&mut map, &mut log);
    assert!(log[0].starts_with(&format!("error cannot connect to {name}:25: ")), "{log:?}");
    assert_eq!(log[1], "close Unresolved");
}

#[test]
fn a_map_that_is_dropped_waits_for_no_resolver() {
    let mut map: Map<Log> = map();
    for _ in 0..100 {
        map.connect_host("localhost", 25, Caller).expect("a channel");
    }
    drop(map);
}

#[test]
fn a_channel_that_is_closed_while_its_name_is_looked_up_ends_at_once() {
    let mut map: Map<Log> = map();
    let id = map.connect_host("localhost", 25, Caller).expect("a channel");
    map.close(id);
    let mut log = Log::new();
    map.poll(&mut log, Some(std::time::Duration::ZERO)).expect("a turn");
    assert_eq!(log, ["close Local"]);
    map.run(&mut log).expect("the end");
    assert_eq!(log.len(), 1);
}
