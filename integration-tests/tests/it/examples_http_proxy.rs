//! The HTTP proxy example: a head, then a tunnel in its place; what it does not do, it refuses clearly.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use asyncore::testing::{Faults, Peer, Simulation, each_seed};
use asyncore::{Address, Result};
use integration_tests::{Peer as RealPeer, map, turn_until};

#[expect(dead_code, reason = "its main is the program's")]
#[path = "../../../examples/http_proxy.rs"]
mod http_proxy;

use http_proxy::{CONNECT_TIME, HEAD_TIME, serve};

const PROXY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 7003);
const TARGET: &str = "192.0.2.9:443";
const HEAD: &str = "CONNECT 192.0.2.9:443 HTTP/1.1\r\nHost: 192.0.2.9:443\r\n\r\n";
const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

fn target() -> Address {
    TARGET.parse().expect("an address")
}

fn proxy(seed: u64) -> Result<Simulation> {
    let mut sim = Simulation::with_seed(seed, ())?;
    serve(&mut sim.map, PROXY, &[443])?;
    Ok(sim)
}

/// What a client is answered until the end.
fn answer(sim: &mut Simulation, client: &mut Peer) -> Result<String> {
    sim.run_until(HEAD_TIME + CONNECT_TIME + CONNECT_TIME, |_| client.is_eof())?;
    let text = String::from_utf8(client.take_received())?;
    client.close();
    sim.settle()?;
    assert_eq!(sim.map.len(), 1, "nothing but the listener is left");
    Ok(text)
}

#[test]
fn a_tunnel_carries_every_byte_wherever_the_head_is_cut() -> Result {
    let sent = format!("{HEAD}early\r\n\r\nbytes");
    for cut in 1..sent.len() {
        let mut sim = proxy(0)?;
        let listener = sim.listen(target())?;
        let mut client = sim.connect(PROXY);
        client.send(&sent[..cut]);
        sim.settle()?;
        client.send(&sent[cut..]);
        let mut upstream = sim.expect_accept(&listener)?;
        sim.expect(&mut client, ESTABLISHED)?;
        sim.expect(&mut upstream, "early\r\n\r\nbytes")?;
        upstream.send("answer");
        sim.expect(&mut client, "answer")?;
        client.send("more");
        sim.expect(&mut upstream, "more")?;
        client.shutdown_write();
        sim.expect_eof(&mut upstream)?;
        upstream.send("last");
        upstream.close();
        sim.expect(&mut client, "last")?;
        sim.expect_eof(&mut client)?;
        client.close();
        sim.settle()?;
        assert_eq!(sim.map.len(), 1, "cut at {cut}");
    }
    Ok(())
}

#[test]
fn a_tunnel_carries_every_byte_whatever_the_network_does() -> Result {
    each_seed(40, |seed| {
        let mut sim = proxy(seed)?;
        sim.set_faults(Faults::harmless());
        let listener = sim.listen(target())?;
        let data: Vec<u8> = (0..50_000_u32).flat_map(u32::to_be_bytes).collect();
        let mut client = sim.connect(PROXY);
        client.send(HEAD);
        client.send(&data);
        client.shutdown_write();
        let mut upstream = sim.expect_accept(&listener)?;
        upstream.send(&data);
        sim.expect(&mut upstream, &data)?;
        sim.expect_eof(&mut upstream)?;
        sim.expect(&mut client, ESTABLISHED)?;
        sim.expect(&mut client, &data)?;
        upstream.close();
        sim.expect_eof(&mut client)
    })
}

#[test]
fn a_tunnel_to_a_peer_that_does_not_read_holds_a_bounded_amount() -> Result {
    let mut sim = proxy(0)?;
    let listener = sim.listen(target())?;
    let mut client = sim.connect(PROXY);
    client.send(HEAD);
    let mut upstream = sim.expect_accept(&listener)?;
    upstream.stop_reading();
    client.send(vec![b'x'; 4 << 20]);
    sim.settle()?;
    let queued = sim.map.queued();
    assert!(queued > 0 && queued <= asyncore::HIGH_MARK + (64 << 10), "{queued}");
    upstream.start_reading();
    sim.settle()?;
    assert_eq!(upstream.received().len(), 4 << 20);
    Ok(())
}

#[test]
fn what_it_does_not_do_is_refused_clearly() -> Result {
    for (head, status) in [
        (
            "GET http://192.0.2.9/ HTTP/1.1\r\nHost: 192.0.2.9\r\n\r\n",
            "405 Method Not Allowed\r\nAllow: CONNECT\r\n",
        ),
        ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405 Method Not Allowed\r\nAllow: CONNECT\r\n"),
        ("CONNECT 192.0.2.9:25 HTTP/1.1\r\n\r\n", "403 Forbidden\r\n"),
        ("CONNECT 192.0.2.9 HTTP/1.1\r\n\r\n", "400 Bad Request\r\n"),
        ("CONNECT :443 HTTP/1.1\r\n\r\n", "400 Bad Request\r\n"),
        ("CONNECT 192.0.2.9:https HTTP/1.1\r\n\r\n", "400 Bad Request\r\n"),
        ("CONNECT 192.0.2.9:99999 HTTP/1.1\r\n\r\n", "400 Bad Request\r\n"),
        ("what is this\r\n\r\n", "400 Bad Request\r\n"),
        ("\x00\r\n\r\n", "400 Bad Request\r\n"),
    ] {
        let mut sim = proxy(0)?;
        let mut client = sim.connect(PROXY);
        client.send(head);
        let answer = answer(&mut sim, &mut client)?;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{head:?}: {answer:?}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer:?}");
    }
    Ok(())
}

#[test]
fn a_head_that_is_too_long_or_takes_too_long_is_refused() -> Result {
    let mut sim = proxy(0)?;
    let mut client = sim.connect(PROXY);
    client.send(vec![b'x'; 9000]);
    assert!(answer(&mut sim, &mut client)?.starts_with("HTTP/1.1 431 "));

    let mut client = sim.connect(PROXY);
    let start = sim.elapsed();
    client.send("CONNECT 192.0.2.9:443");
    assert!(answer(&mut sim, &mut client)?.starts_with("HTTP/1.1 408 "));
    assert!(sim.elapsed() - start >= HEAD_TIME);
    Ok(())
}

#[test]
fn nobody_there_and_no_answer_are_told_apart() -> Result {
    let mut sim = proxy(0)?;
    sim.refuse(target());
    let mut client = sim.connect(PROXY);
    client.send(HEAD);
    assert!(answer(&mut sim, &mut client)?.starts_with("HTTP/1.1 502 "));

    let mut sim = proxy(0)?;
    sim.black_hole(target());
    let mut client = sim.connect(PROXY);
    client.send(HEAD);
    assert!(answer(&mut sim, &mut client)?.starts_with("HTTP/1.1 504 "));
    assert!(sim.elapsed() >= CONNECT_TIME);
    Ok(())
}

#[test]
fn each_address_of_a_name_is_tried() -> Result {
    let mut sim = proxy(0)?;
    let listener = sim.listen(target())?;
    sim.refuse("192.0.2.7:443".parse::<Address>()?);
    sim.black_hole("192.0.2.8:443".parse::<Address>()?);
    let ips = ["192.0.2.7", "192.0.2.8", "192.0.2.9"].map(|text| text.parse().expect("an IP address"));
    sim.set_host("mail.example", ips);
    let mut client = sim.connect(PROXY);
    client.send("CONNECT mail.example:443 HTTP/1.1\r\n\r\n");
    sim.expect(&mut client, ESTABLISHED)?;
    assert!(sim.accept(&listener).is_some());
    Ok(())
}

#[test]
fn a_client_that_does_not_wait_leaves_nothing_behind() -> Result {
    let mut sim = proxy(0)?;
    sim.black_hole(target());
    let mut client = sim.connect(PROXY);
    client.send(HEAD);
    sim.settle()?;
    assert_eq!(sim.map.len(), 4, "the listener, both sides, and an address that is tried");
    client.reset();
    sim.advance(CONNECT_TIME)?;
    assert_eq!(sim.map.len(), 1);
    Ok(())
}

#[test]
fn a_lost_connection_is_told_as_a_reset_to_the_other_side() -> Result {
    for client_resets in [true, false] {
        let mut sim = proxy(0)?;
        let listener = sim.listen(target())?;
        let mut client = sim.connect(PROXY);
        client.send(HEAD);
        let mut upstream = sim.expect_accept(&listener)?;
        sim.expect(&mut client, ESTABLISHED)?;
        let (lost, left) =
            if client_resets { (&mut client, &mut upstream) } else { (&mut upstream, &mut client) };
        lost.reset();
        sim.expect_reset(left)?;
        assert_eq!(sim.map.len(), 1);
    }
    Ok(())
}

/// On real sockets, with a name that has to be looked up, on another thread.
#[test]
fn a_name_is_looked_up_and_connected_to() {
    let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let port = target.local_addr().expect("an address").port();
    let server = thread::spawn(move || {
        let (mut stream, _) = target.accept().expect("a connection");
        let mut question = [0; 5];
        stream.read_exact(&mut question).expect("a question");
        stream.write_all(&question).expect("an answer");
    });
    let mut map = map();
    let ids = serve(&mut map, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &[port]).expect("a listener");
    let at = map.get(ids[0]).expect("a listener").local_addr().expect("an address").expect("a known family");
    let client = thread::spawn(move || {
        let mut client = RealPeer::connect(&at);
        client.send(format!("CONNECT localhost:{port} HTTP/1.1\r\n\r\nhello").as_bytes());
        String::from_utf8(client.read_rest()).expect("text")
    });
    turn_until(&mut map, &mut (), "the tunnel to be over", |map, ()| client.is_finished() && map.len() == 1);
    assert_eq!(client.join().expect("an answer"), format!("{ESTABLISHED}hello"));
    server.join().expect("a server");
}
