//! Listening on a host: every address that a name has, or every interface, with one port; all of them or none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use asyncore::testing::Simulation;
use asyncore::{Address, Channel, ChannelId, Context, Dispatcher, Family, Kind, ListenOptions, Map, Result};
use integration_tests::{map, turn_until};

/// Counts the connections, and says over which port each came.
struct Session;

impl Channel<Vec<u16>> for Session {
    fn handle_connect(&mut self, cx: &mut Context<'_, Vec<u16>>) -> Result {
        let local = cx.map.get(cx.id).and_then(|session| session.local_addr().ok()?);
        cx.app.push(local.and_then(|local| local.port()).ok_or("it has a port")?);
        Ok(())
    }
}

const NAME: &str = "mail.example";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an IP address")
}

fn at(ip_and_port: &str) -> Address {
    ip_and_port.parse().expect("an address")
}

fn named(list: &[&str]) -> Result<Simulation<Vec<u16>>> {
    let mut sim = Simulation::new(Vec::new())?;
    sim.set_host(NAME, list.iter().map(|text| ip(text)));
    Ok(sim)
}

/// Where the listeners are, in their order.
fn places<A>(map: &Map<A>, ids: &[ChannelId]) -> Vec<String> {
    let place = |id: &ChannelId| map.get(*id)?.local_addr().ok()?.map(|address| address.to_string());
    ids.iter().filter_map(place).collect()
}

#[test]
fn every_address_of_a_name_is_listened_on_once() -> Result {
    let mut sim = named(&["2001:db8::1", "192.0.2.1", "192.0.2.1", "192.0.2.2"])?;
    let ids = sim.map.listen_host(NAME, 25, |_peer| Session)?;
    assert_eq!(places(&sim.map, &ids), ["[2001:db8::1]:25", "192.0.2.1:25", "192.0.2.2:25"]);
    let _peers = ["[2001:db8::1]:25", "192.0.2.1:25", "192.0.2.2:25"].map(|place| sim.connect(at(place)));
    sim.settle()?;
    assert_eq!(sim.app, [25, 25, 25]);
    Ok(())
}

#[test]
fn every_interface_is_listened_on_by_both_families() -> Result {
    for host in ["", "*"] {
        let mut sim = named(&[])?;
        let ids = sim.map.listen_host(host, 25, |_peer| Session)?;
        assert_eq!(places(&sim.map, &ids), ["[::]:25", "0.0.0.0:25"]);
    }
    Ok(())
}

#[test]
fn a_free_port_is_the_same_on_every_address() -> Result {
    let mut sim = named(&["2001:db8::1", "192.0.2.1"])?;
    let ids = sim.map.listen_host(NAME, 0, |_peer| Session)?;
    let first = places(&sim.map, &ids);
    let port = sim.map.get(ids[0]).and_then(|first| first.local_addr().ok()??.port()).ok_or("it is bound")?;
    assert_eq!(first, [format!("[2001:db8::1]:{port}"), format!("192.0.2.1:{port}")]);
    Ok(())
}

#[test]
fn a_port_that_is_not_free_on_every_address_is_passed_over() -> Result {
    let mut sim = named(&["2001:db8::1", "192.0.2.1"])?;
    let ids = sim.map.listen_host(NAME, 0, |_peer| Session)?;
    let last = sim.map.get(ids[0]).and_then(|first| first.local_addr().ok()??.port()).ok_or("it is bound")?;
    // The next ones, which the simulation gives in their order, are taken on IPv4.
    let taken: Vec<_> =
        (1..=3).map(|more| sim.listen((ip("192.0.2.1"), last + more))).collect::<Result<_>>()?;
    let ids = sim.map.listen_host(NAME, 0, |_peer| Session)?;
    let port = last + 4;
    assert_eq!(places(&sim.map, &ids), [format!("[2001:db8::1]:{port}"), format!("192.0.2.1:{port}")]);
    drop(taken);
    let many: Vec<_> =
        (1..=100).map(|more| sim.listen((ip("192.0.2.1"), port + more))).collect::<Result<_>>()?;
    let error = sim.map.listen_host(NAME, 0, |_peer| Session).expect_err("it gives up");
    assert!(error.to_string().starts_with("cannot listen on 192.0.2.1:"), "{error}");
    assert_eq!(sim.map.len(), 4);
    drop(many);
    Ok(())
}

#[test]
fn when_one_address_cannot_be_listened_on_none_is() -> Result {
    let mut sim = named(&["2001:db8::1", "192.0.2.1"])?;
    let taken = sim.listen(at("192.0.2.1:25"))?;
    let error = sim.map.listen_host(NAME, 25, |_peer| Session).expect_err("it is in use");
    assert_eq!(error.to_string(), "cannot listen on 192.0.2.1:25: address in use");
    let both: [SocketAddr; 2] = ["[2001:db8::1]:25".parse()?, "192.0.2.1:25".parse()?];
    assert!(sim.map.listen(&both[..], |_peer| Session).is_err());
    assert!(sim.map.is_empty());
    drop(taken);
    assert_eq!(sim.map.listen_host(NAME, 25, |_peer| Session)?.len(), 2, "nothing was left behind");
    Ok(())
}

#[test]
fn an_address_that_is_not_this_machine_s_is_an_error_and_no_missing_family() {
    let mut map: Map<Vec<u16>> = map();
    let has_v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    // They are for documentation (RFC 5737, RFC 3849).
    for foreign in ["192.0.2.1", "2001:db8::1"].map(ip) {
        if TcpListener::bind((foreign, 0)).is_ok() || (foreign.is_ipv6() && !has_v6) {
            // A machine that binds to whatever it is told, or one without IPv6.
            continue;
        }
        let (own, foreign) = (SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((foreign, 0)));
        let error = map.listen(&[own, foreign][..], |_peer| Session).expect_err("half of it");
        assert!(error.to_string().starts_with(&format!("cannot listen on {foreign}: ")), "{error}");
        assert!(map.is_empty());
    }
}

#[test]
fn what_has_no_address_is_told() -> Result {
    let mut sim = named(&[])?;
    for (host, text) in [
        (NAME, "the name has no address"),
        ("nobody.example", "cannot listen on nobody.example:25: the name is not known"),
        ("mail:25", "cannot listen on [mail:25]:25: the host is neither a name nor an IPv6 address"),
    ] {
        let error = sim.map.listen_host(host, 25, |_peer| Session).expect_err("no host");
        assert_eq!(error.to_string(), text);
    }
    Ok(())
}

#[test]
fn the_listeners_of_a_host_count_together() -> Result {
    let mut sim = named(&["2001:db8::1", "192.0.2.1"])?;
    let mut options = ListenOptions::default();
    options.total = 1;
    sim.map.listen_host_with(NAME, 25, options, |_peer| Session)?;
    let _peers = ["[2001:db8::1]:25", "192.0.2.1:25"].map(|place| sim.connect(at(place)));
    sim.settle()?;
    assert_eq!(sim.app.len(), 1);
    Ok(())
}

#[test]
fn both_families_of_every_interface_are_served() {
    let has_v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let mut map: Map<Vec<u16>> = map();
    let ids = map.listen_host("*", 0, |_peer| Session).expect("listeners");
    assert_eq!(ids.len(), if has_v6 { 2 } else { 1 });
    let ports: Vec<_> = ids.iter().filter_map(|id| map.get(*id)?.local_addr().ok()??.port()).collect();
    let mut loopbacks = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
    if has_v6 {
        loopbacks.push(Ipv6Addr::LOCALHOST.into());
    }
    let _peers: Vec<_> =
        loopbacks.iter().map(|ip| TcpStream::connect((*ip, ports[0])).expect("a connection")).collect();
    let mut seen = Vec::new();
    turn_until(&mut map, &mut seen, "both", |_, seen| seen.len() == loopbacks.len());
    assert_eq!(seen, ports);
}

#[test]
fn a_port_that_is_taken_on_one_family_leaves_the_other_free() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let port = taken.local_addr().expect("its address").port();
    let mut map: Map<Vec<u16>> = map();
    let error = map.listen_host("", port, |_peer| Session).expect_err("it is in use");
    assert!(error.to_string().starts_with(&format!("cannot listen on 0.0.0.0:{port}: ")), "{error}");
    assert!(map.is_empty());
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
            .expect_err("both families, where the system says so");
        map.listen_host("::", port, |_peer| Session).expect("IPv6 alone");
    }
}

#[test]
fn an_ipv6_socket_can_be_for_ipv6_alone() {
    let Ok(mut listener) = Dispatcher::create_socket(Family::V6, Kind::Stream) else { return };
    listener.set_only_v6(true).expect("an option");
    listener.bind(at("[::]:0")).expect("bound");
    listener.listen(1).expect("listening");
    let port = listener.local_addr().ok().flatten().and_then(|at| at.port()).expect("a port");
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("IPv4 is free");
    let v4 = Dispatcher::create_socket(Family::V4, Kind::Stream).expect("a socket");
    assert!(v4.set_only_v6(true).is_err(), "it is none of IPv6");
}
