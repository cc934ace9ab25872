//! The sequences of callbacks around input and output that were observed with the original's two loops, and what
//! happens here instead.

use std::cell::Cell;
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use asyncore::{Address, Context, Dispatcher, Family, Kind, Map, Producer, Received, Result, State};
use bytes::Bytes;
use integration_tests::{Call, Log, Peer, Recorder, Script, each_net, map, settle, turn_until};

/// A second `recv` in one event: the original closes the channel over it.
#[test]
fn a_read_that_would_block_is_an_answer_and_not_an_error() {
    let mut map: Map = map();
    let log = Log::new();
    let answers = log.clone();
    let (mut peer, here) = Peer::tcp_pair();
    let script = Script::new("", &log, move |cx: &mut Context<'_>, call| {
        if *call == Call::Read {
            for _ in 0..2 {
                answers.add(format_args!("{:?}", cx.map.recv(cx.id, 4096)?));
            }
        }
        Ok(())
    });
    let id = map.add(here, script).unwrap();
    peer.send(b"once");
    turn_until(&mut map, &mut (), "the input", |_, ()| log.has("read"));
    settle(&mut map, &mut ());
    assert!(map.is_open(id));
    assert_eq!(log.lines(), ["connect", "read", r#"Data(ReadBuffer("once"))"#, "WouldBlock"]);
}

/// 228 KiB readable: the original takes 64 KiB a pass.
#[test]
fn all_that_a_channel_may_read_in_a_turn_is_read_in_one() {
    const SIZE: usize = 228 << 10;
    let mut map: Map = map();
    let log = Log::new();
    let read = Rc::new(Cell::new(0));
    let (mut peer, here) = UnixStream::pair().unwrap();
    peer.set_nonblocking(true).unwrap();
    socket2::SockRef::from(&peer).set_send_buffer_size(2 * SIZE).unwrap();
    let total = read.clone();
    let script = Script::new("", &log, move |cx: &mut Context<'_>, call| {
        if *call == Call::Read {
            while let Received::Data(data) = cx.map.recv(cx.id, 65536)? {
                total.set(total.get() + data.len());
            }
        }
        Ok(())
    });
    let id = map.add(here, script).unwrap();
    settle(&mut map, &mut ());
    assert!(SIZE <= map.limits(id).unwrap().read_budget);
    let mut sent = 0;
    while sent < SIZE {
        // A system that buffers less has the rest of this test on what it buffers.
        match peer.write(&vec![b'x'; SIZE - sent]) {
            Ok(more) => sent += more,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent > 65536, "the system buffers more than one read: {sent}");
    map.poll(&mut (), Some(Duration::ZERO)).unwrap();
    assert_eq!(read.get(), sent);
    assert_eq!(log.lines(), ["connect", "read"]);
}

/// A datagram of length zero: the original closes the channel.
#[test]
fn an_empty_datagram_is_a_datagram() {
    let mut map: Map = map();
    let log = Log::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.connect(socket.local_addr().unwrap()).unwrap();
    let id = map.add(socket, Recorder::new(&log)).unwrap();
    for datagram in ["one", "", "two"] {
        peer.send(datagram.as_bytes()).unwrap();
    }
    turn_until(&mut map, &mut (), "three datagrams", |_, ()| log.count("read") == 3);
    assert_eq!(log.lines(), ["connect", "read one", "read ", "read two"]);
    assert!(map.is_open(id));
}

/// UDP: the original never calls `handle_connect` and never says connected.
#[test]
fn a_datagram_channel_hears_handle_connect_once_and_is_open() {
    let mut map: Map = map();
    let log = Log::new();
    let mut socket = Dispatcher::create_socket(Family::V4, Kind::Datagram).unwrap();
    assert_eq!(socket.state(), State::Open);
    socket.bind("127.0.0.1:0".parse::<Address>().unwrap()).unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(peer.local_addr().unwrap()).unwrap();
    peer.connect(match socket.local_addr().unwrap().unwrap() {
        Address::Inet(address) => address,
        other => panic!("{other}"),
    })
    .unwrap();
    let id = map.add(socket, Recorder::new(&log)).unwrap();
    map.push(id, b"hello");
    peer.send(b"welcome").unwrap();
    turn_until(&mut map, &mut (), "the answer", |_, ()| log.count("read") == 1);
    assert_eq!(log.lines(), ["connect", "read welcome"]);
    let mut room = [0; 16];
    assert_eq!(peer.recv(&mut room).unwrap(), 5);
    assert_eq!(map.get(id).unwrap().state(), State::Open);
}

/// A request, `shutdown(WR)`, then 3,000,000 bytes of reply: the original sends 65,536 of them.
#[test]
fn a_peer_that_ends_its_side_gets_the_whole_reply() {
    const SIZE: usize = 3_000_000;
    each_net(|net| {
        let mut map: Map = map();
        let log = Log::new();
        let (listener, address, _folder) = net.listener();
        let server = map.listen_on(listener, {
            let log = log.clone();
            move |_| {
                Script::new("", &log, |cx: &mut Context<'_>, call| {
                    call.default(cx)?;
                    if *call == Call::Read {
                        cx.map.push_with_producer(cx.id, Zeros(SIZE));
                        cx.map.close_when_done(cx.id);
                    }
                    Ok(())
                })
            }
        });
        let server = server.unwrap();
        let mut peer = Peer::connect(&address);
        peer.send(b"request");
        peer.shutdown_write();
        let reader = std::thread::spawn(move || peer.read_rest().len());
        turn_until(&mut map, &mut (), "the reply", |_, ()| log.count("close") > 0);
        assert_eq!(reader.join().unwrap(), SIZE);
        assert_eq!(log.count("close"), 1);
        map.close(server);
    });
}

/// So many zero bytes, as they are asked for.
struct Zeros(usize);

impl Producer for Zeros {
    fn more(&mut self, most: usize) -> Result<Option<Bytes>> {
        let piece = self.0.min(most);
        self.0 -= piece;
        Ok((piece > 0).then(|| vec![0; piece].into()))
    }
}

/// Data that is there when the connect completes: one connect, then the data.
#[test]
fn early_data_is_read_after_one_connect() {
    each_net(|net| {
        let mut map: Map = map();
        let log = Log::new();
        let (mut listener, address, _folder) = net.listener();
        map.connect(&address, Recorder::new(&log)).unwrap();
        let mut accepted = loop {
            if let Some(accepted) = listener.accept().unwrap() {
                break accepted;
            }
        };
        assert_eq!(accepted.send(b"welcome").unwrap(), 7);
        turn_until(&mut map, &mut (), "the greeting", |_, ()| log.has("read welcome"));
        settle(&mut map, &mut ());
        assert_eq!(log.lines(), ["connect", "read welcome"]);
    });
}
