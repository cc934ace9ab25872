//! Datagram channels: whole datagrams, empty ones too, with and without a fixed peer.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use asyncore::{Address, Channel, ChannelId, Context, Limits, Map, Received, Result};
use integration_tests::{DEADLINE, Log, Peer, Recorder, each_net, map, settle, turn_until};

/// Sends each datagram back to where it came from.
struct Echo;

impl Channel for Echo {
    fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
        while let Some((datagram, sender)) = cx.map.recv_from(cx.id, 65536)? {
            cx.map.send_to(cx.id, &datagram, &sender.ok_or("a sender without an address")?)?;
        }
        Ok(())
    }
}

#[test]
fn a_datagram_goes_back_to_where_it_came_from() {
    each_net(|net| {
        let (Address::Inet(any), _) = net.free_address() else { return };
        let peer = UdpSocket::bind(any).unwrap();
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        let here = UdpSocket::bind(any).unwrap();
        let to = here.local_addr().unwrap();
        let mut map: Map = map();
        let id = map.add(here, Echo).unwrap();
        for datagram in ["one", "", "three"] {
            peer.send_to(datagram.as_bytes(), to).unwrap();
        }
        turn_until(&mut map, &mut (), "three echoes", |map, ()| map.get(id).unwrap().bytes_out() == 8);
        for datagram in ["one", "", "three"] {
            let mut room = [0; 16];
            let (received, from) = peer.recv_from(&mut room).unwrap();
            assert_eq!((&room[..received], from), (datagram.as_bytes(), to));
        }
    });
}

#[test]
fn a_unix_datagram_goes_back_to_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let here = UnixDatagram::bind(folder.path().join("here")).unwrap();
    let peer = UnixDatagram::bind(folder.path().join("peer")).unwrap();
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut map: Map = map();
    let id = map.add(here, Echo).unwrap();
    peer.send_to(b"ping", folder.path().join("here")).unwrap();
    turn_until(&mut map, &mut (), "the echo", |map, ()| map.get(id).unwrap().bytes_out() == 4);
    let mut room = [0; 16];
    let (received, from) = peer.recv_from(&mut room).unwrap();
    assert_eq!(&room[..received], b"ping");
    assert_eq!(from.as_pathname(), Some(folder.path().join("here").as_path()));
}

#[test]
fn each_push_is_one_datagram_also_an_empty_one() {
    let (here, peer) = UnixDatagram::pair().unwrap();
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut map: Map = map();
    let id = map.add(here, Recorder::new(&Log::new())).unwrap();
    for datagram in ["one", "", "three"] {
        assert!(map.push(id, datagram).is_queued());
    }
    turn_until(&mut map, &mut (), "the queue to drain", |map, ()| map.get(id).unwrap().queued() == 0);
    for datagram in ["one", "", "three"] {
        let mut room = [0; 16];
        let received = peer.recv(&mut room).unwrap();
        assert_eq!(&room[..received], datagram.as_bytes());
    }
}

#[test]
fn close_when_done_sends_the_datagrams_that_are_queued() {
    let (here, peer) = UnixDatagram::pair().unwrap();
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut map: Map = map();
    let log = Log::new();
    let id = map.add(here, Recorder::new(&log)).unwrap();
    settle(&mut map, &mut ());
    map.push(id, b"goodbye");
    map.close_when_done(id);
    turn_until(&mut map, &mut (), "the close", |_, ()| log.has("close Local"));
    let mut room = [0; 16];
    assert_eq!(peer.recv(&mut room).unwrap(), 7);
}

/// Reads with `recv`, a datagram after the other, and notes how long each was.
struct Lengths(Log);

impl Channel for Lengths {
    fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
        while let Received::Data(datagram) = cx.map.recv(cx.id, 65536)? {
            self.0.add(datagram.len());
        }
        Ok(())
    }
}

/// A channel of [`Lengths`] that may read so many bytes a turn, and its peer.
fn with_budget(bytes: usize) -> (Map, ChannelId, Log, UdpSocket) {
    let here = UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.connect(here.local_addr().unwrap()).unwrap();
    let mut map: Map = map();
    let log = Log::new();
    let id = map.add(here, Lengths(log.clone())).unwrap();
    let mut limits = Limits::default();
    limits.read_budget = bytes;
    map.set_limits(id, limits);
    settle(&mut map, &mut ());
    (map, id, log, peer)
}

#[test]
fn what_is_left_of_a_turn_s_share_does_not_cut_a_datagram() {
    let (mut map, _, log, peer) = with_budget(100);
    for _ in 0..3 {
        peer.send(&[b'x'; 80]).unwrap();
    }
    turn_until(&mut map, &mut (), "three datagrams", |_, ()| log.lines().len() == 3);
    assert_eq!(log.lines(), ["80"; 3]);
}

#[test]
fn a_flood_of_empty_datagrams_ends_with_the_turn_s_share() {
    let (mut map, _, log, peer) = with_budget(1024);
    for _ in 0..40 {
        peer.send(b"").unwrap();
    }
    for expected in [16, 32, 40] {
        map.poll(&mut (), Some(Duration::ZERO)).unwrap();
        assert_eq!(log.lines().len(), expected);
    }
}

#[test]
fn a_datagram_that_nobody_took_does_not_close_the_channel() {
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let here = UdpSocket::bind("127.0.0.1:0").unwrap();
    here.connect(dead).unwrap();
    let mut map: Map = map();
    let log = Log::new();
    let id = map.add(here, Recorder::new(&log)).unwrap();
    for _ in 0..4 {
        // By turns it is taken, and told that the one before came back.
        map.send(id, b"anyone?").unwrap();
    }
    assert!(map.is_open(id));
    settle(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect"]);
}

#[test]
fn a_stream_is_not_read_or_written_by_the_datagram() {
    let mut map: Map = map();
    let (mut peer, here) = Peer::tcp_pair();
    let to = Address::from(here.peer_addr().unwrap());
    let id = map.add(here, Recorder::new(&Log::new())).unwrap();
    map.push(id, b"first");
    assert!(map.send_to(id, b"overtaken", &to).is_err());
    assert!(map.recv_from(id, 16).is_err());
    turn_until(&mut map, &mut (), "the queue to drain", |map, ()| map.queued() == 0);
    assert_eq!(peer.read_bytes(5), b"first");
}
