//! The proxy example: bytes, ends and losses on one side come out on the other, and nothing piles up in between.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use asyncore::testing::Simulation;
use asyncore::{Address, HIGH_MARK, Map};
use integration_tests::{Net, Peer, map, settle, turn_until};

#[expect(dead_code, reason = "its main is the program's")]
#[path = "../../../examples/tcp_proxy.rs"]
mod tcp_proxy;

#[test]
fn sixteen_mebibytes_each_way_pass_slow_readers_without_piling_up() {
    const LENGTH: usize = 16 << 20;
    let (mut map, mut client, mut upstream) = proxied();
    client.set_nonblocking();
    upstream.set_nonblocking();
    let (mut there, mut back) = (Flow::new(LENGTH, 3), Flow::new(LENGTH, 7));
    // Nobody reads, until nothing goes any more.
    while there.send(&mut client) + back.send(&mut upstream) > 0 {
        settle(&mut map, &mut ());
    }
    assert!(there.sent < LENGTH && back.sent < LENGTH, "nobody had to wait");
    let most_queued = |map: &Map| map.iter().map(|(_, dispatcher)| dispatcher.queued()).max().unwrap_or(0);
    let mut most = most_queued(&map);
    assert!(most > 0, "the proxy does not hold anything back");
    turn_until(&mut map, &mut (), "16 MiB each way", |map, ()| {
        there.receive(&mut upstream);
        back.receive(&mut client);
        there.send(&mut client);
        back.send(&mut upstream);
        most = most.max(most_queued(map));
        there.received == LENGTH && back.received == LENGTH
    });
    assert!(most <= HIGH_MARK + (64 << 10), "{most} bytes were queued for one side");
}

#[test]
fn the_end_of_one_side_goes_on_and_the_other_side_still_answers() {
    let (mut map, mut client, mut upstream) = proxied();
    client.send(b"question");
    client.shutdown_write();
    settle(&mut map, &mut ());
    assert_eq!(upstream.read_rest(), b"question");
    upstream.send(b"answer");
    drop(upstream);
    turn_until(&mut map, &mut (), "both sides to go", |map, ()| map.len() == 1);
    assert_eq!(client.read_rest(), b"answer");
}

#[test]
fn an_end_before_the_other_side_is_connected_is_not_forgotten() {
    let (mut map, at, listener) = proxy();
    let mut client = Peer::connect(&at);
    client.send(b"question");
    client.shutdown_write();
    turn_until(&mut map, &mut (), "the pair", |map, ()| map.len() == 3);
    let mut upstream = Peer::Tcp(listener.accept().expect("a connection").0);
    settle(&mut map, &mut ());
    assert_eq!(upstream.read_rest(), b"question");
    upstream.send(b"answer");
    drop(upstream);
    turn_until(&mut map, &mut (), "both sides to go", |map, ()| map.len() == 1);
    assert_eq!(client.read_rest(), b"answer");
}

#[test]
fn a_reset_of_one_side_closes_the_other_with_a_reset() {
    for client_resets in [true, false] {
        let (mut map, client, upstream) = proxied();
        let (lost, mut left) = if client_resets { (client, upstream) } else { (upstream, client) };
        lost.reset();
        turn_until(&mut map, &mut (), "both sides to go", |map, ()| map.len() == 1);
        let error = left.read_to_end(&mut Vec::new()).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_client_is_closed_when_nobody_answers_on_the_other_side() {
    let (Address::Inet(dead), _folder) = Net::V4.dead_address() else { panic!("an IPv4 address") };
    let mut map = map();
    let at = serve(&mut map, dead);
    let mut client = Peer::connect(&at);
    turn_until(&mut map, &mut (), "the client to be accepted", |map, ()| map.counters().accepted == 1);
    turn_until(&mut map, &mut (), "the pair to go", |map, ()| map.len() == 1);
    assert!(matches!(client.read(&mut [0; 8]), Ok(0) | Err(_)));
}

/// What one side still sends to the other.
struct Flow {
    data: Vec<u8>,
    sent: usize,
    received: usize,
}

impl Flow {
    fn new(length: usize, step: usize) -> Self {
        // No period that divides a buffer's size, so that lost or repeated blocks show.
        let data = (0..length).map(|at| u8::try_from(at * step % 251).expect("less than 251")).collect();
        Self { data, sent: 0, received: 0 }
    }

    /// Sends all that goes: how many bytes.
    fn send(&mut self, from: &mut Peer) -> usize {
        let before = self.sent;
        while self.sent < self.data.len()
            && let Ok(sent) = from.write(&self.data[self.sent..])
        {
            self.sent += sent;
        }
        self.sent - before
    }

    /// Takes some of what has come.
    fn receive(&mut self, at: &mut Peer) {
        let mut room = vec![0; 64 << 10];
        if let Ok(read) = at.read(&mut room) {
            let expected = &self.data[self.received..][..read];
            assert!(room[..read] == *expected, "other bytes after {}", self.received);
            self.received += read;
        }
    }
}

/// A proxy, and a connection through it: the client's side and the other.
fn proxied() -> (Map, Peer, Peer) {
    let (mut map, at, listener) = proxy();
    let client = Peer::connect(&at);
    turn_until(&mut map, &mut (), "the pair", |map, ()| map.len() == 3);
    let (upstream, _) = listener.accept().expect("a connection");
    settle(&mut map, &mut ());
    (map, client, Peer::Tcp(upstream))
}

fn proxy() -> (Map, Address, TcpListener) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let mut map = map();
    let at = serve(&mut map, listener.local_addr().expect("an address"));
    (map, at, listener)
}

#[test]
fn a_target_that_never_answers_does_not_hold_its_client() -> asyncore::Result {
    let mut sim = Simulation::new(())?;
    let (at, to) = (SocketAddr::from(([192, 0, 2, 1], 80)), SocketAddr::from(([192, 0, 2, 9], 80)));
    sim.black_hole(to);
    tcp_proxy::serve(&mut sim.map, at, to)?;
    let mut client = sim.connect(at);
    client.send("anyone?");
    sim.expect_reset(&mut client)?;
    assert_eq!(sim.elapsed(), tcp_proxy::CONNECT_TIME);
    Ok(())
}

fn serve(map: &mut Map, to: SocketAddr) -> Address {
    let ids = tcp_proxy::serve(map, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), to).expect("a listener");
    map.get(ids[0]).expect("a listener").local_addr().expect("an address").expect("a known family")
}
