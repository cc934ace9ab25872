//! The traps of a loop: events that cannot be masked, readiness that does not end, errors from where none is expected.
//! Each is shown by counting wakes, with both ways to wait. Out of descriptors: `faults_accept.rs`.

use std::net::Shutdown;
use std::os::unix::net::UnixDatagram;

use asyncore::{Channel, ChannelId, Context, Dispatcher, Map, Received, Result, State};
use integration_tests::{Log, Net, Peer, Recorder, settle, turn_until};

use crate::faults::{assert_quiet, each_wait};

/// A recorder that wants to read when it is told to.
fn recorder(log: &Log, readable: bool, closes_at_eof: bool) -> Recorder {
    let mut recorder = Recorder::new(log);
    recorder.readable = readable;
    recorder.closes_at_eof = closes_at_eof;
    recorder
}

fn set_readable(map: &mut Map, id: ChannelId) {
    map.handler_mut::<Recorder>(id).unwrap().readable = true;
}

fn turn_until_closed(map: &mut Map, log: &Log) {
    turn_until(map, &mut (), "the close", |_, ()| log.count("close") > 0);
}

/// Row 10. The reset of a paused channel cannot be masked: it closes the channel with the first wake.
#[test]
fn trap_a_paused_channel_whose_peer_resets_is_closed_at_once() {
    each_wait(|mut map| {
        let log = Log::new();
        let (mut peer, here) = Peer::tcp_pair();
        let id = map.add(here, Recorder::new(&log)).unwrap();
        settle(&mut map, &mut ());
        map.pause_reading(id);
        assert_quiet(&mut map, &mut ());
        peer.send(b"unread");
        assert_quiet(&mut map, &mut ());
        let before = map.counters().events;
        peer.reset();
        turn_until_closed(&mut map, &log);
        assert!(map.counters().events - before <= 1);
        assert_eq!(log.lines(), ["connect", "close Reset"]);
        assert!(map.is_empty());
    });
}

/// Row 10. The same for a channel whose `readable` says no.
#[test]
fn trap_a_channel_that_does_not_want_to_read_is_closed_by_a_reset() {
    each_wait(|mut map| {
        let log = Log::new();
        let (peer, here) = Peer::tcp_pair();
        map.add(here, recorder(&log, false, true)).unwrap();
        settle(&mut map, &mut ());
        let before = map.counters().events;
        peer.reset();
        turn_until_closed(&mut map, &log);
        assert!(map.counters().events - before <= 1);
        assert_eq!(log.lines(), ["connect", "close Reset"]);
    });
}

/// Row 10. The same for a channel whose peer had ended its side before.
#[test]
fn trap_a_half_closed_channel_is_closed_by_a_reset() {
    each_wait(|mut map| {
        let log = Log::new();
        let (mut peer, here) = Peer::tcp_pair();
        map.add(here, recorder(&log, true, false)).unwrap();
        peer.shutdown_write();
        turn_until(&mut map, &mut (), "the end of file", |_, ()| log.has("eof"));
        assert_quiet(&mut map, &mut ());
        let before = map.counters().events;
        peer.reset();
        turn_until_closed(&mut map, &log);
        assert!(map.counters().events - before <= 1);
        assert_eq!(log.lines(), ["connect", "eof", "close Reset"]);
    });
}

/// Row 10. A hang-up in good order may leave bytes behind: they wait, without a wake, until the channel is resumed.
#[test]
fn trap_a_paused_channel_whose_peer_hangs_up_sleeps_and_is_read_to_the_end_when_resumed() {
    each_wait(|mut map| {
        let log = Log::new();
        let (mut peer, here) = Peer::pair();
        let id = map.add(here, Recorder::new(&log)).unwrap();
        settle(&mut map, &mut ());
        map.pause_reading(id);
        peer.send(b"last words");
        let before = map.counters().events;
        drop(peer);
        settle(&mut map, &mut ());
        assert!(map.counters().events - before <= 1);
        assert_quiet(&mut map, &mut ());
        assert!(map.is_open(id));
        map.resume_reading(id);
        turn_until_closed(&mut map, &log);
        assert_eq!(log.lines(), ["connect", "read last words", "eof", "close Eof"]);
    });
}

/// Row 10. The same for a channel whose `readable` says no, and then yes.
#[test]
fn trap_a_hang_up_waits_for_a_channel_that_does_not_want_to_read() {
    each_wait(|mut map| {
        let log = Log::new();
        let (mut peer, here) = Peer::pair();
        let id = map.add(here, recorder(&log, false, true)).unwrap();
        peer.send(b"last words");
        drop(peer);
        settle(&mut map, &mut ());
        assert!(map.counters().events <= 1);
        assert_quiet(&mut map, &mut ());
        set_readable(&mut map, id);
        turn_until_closed(&mut map, &log);
        assert_eq!(log.lines(), ["connect", "read last words", "eof", "close Eof"]);
    });
}

/// Row 10. A half-closed channel that stays open sleeps through the hang-up that follows; a write then finds the peer gone.
#[test]
fn trap_a_half_closed_channel_sleeps_through_a_hang_up() {
    each_wait(|mut map| {
        let log = Log::new();
        let (mut peer, here) = Peer::pair();
        let id = map.add(here, recorder(&log, true, false)).unwrap();
        peer.shutdown_write();
        turn_until(&mut map, &mut (), "the end of file", |_, ()| log.has("eof"));
        assert_quiet(&mut map, &mut ());
        let before = map.counters().events;
        drop(peer);
        settle(&mut map, &mut ());
        assert!(map.counters().events - before <= 1);
        assert_quiet(&mut map, &mut ());
        assert_eq!(map.get(id).unwrap().state(), State::PeerClosed);
        map.push(id, b"nobody reads this");
        turn_until_closed(&mut map, &log);
        assert_eq!(log.lines(), ["connect", "eof", "close Reset"]);
        assert_eq!(map.queued(), 0);
    });
}

/// Row 10. Both sides of a TCP connection over, with input unread: a hang-up too.
#[test]
fn trap_a_paused_channel_that_has_shut_down_sleeps_through_the_end_of_its_peer() {
    each_wait(|mut map| {
        let log = Log::new();
        let (mut peer, here) = Peer::tcp_pair();
        let id = map.add(here, Recorder::new(&log)).unwrap();
        settle(&mut map, &mut ());
        map.pause_reading(id);
        map.shutdown_write(id);
        peer.send(b"last words");
        settle(&mut map, &mut ());
        let before = map.counters().events;
        assert_eq!(peer.read_rest(), b"");
        drop(peer);
        settle(&mut map, &mut ());
        assert!(map.counters().events - before <= 1);
        assert_quiet(&mut map, &mut ());
        map.resume_reading(id);
        turn_until_closed(&mut map, &log);
        assert_eq!(log.lines(), ["connect", "read last words", "eof", "close Eof"]);
    });
}

/// Row 10. A paused listener is not woken by those who wait for it, and takes them when it is resumed.
#[test]
fn trap_a_paused_listener_sleeps_while_connections_wait() {
    each_wait(|mut map| {
        let log = Log::new();
        let (listener, address, _folder) = Net::V4.listener();
        let for_channels = log.clone();
        let id = map.listen_on(listener, move |_| Recorder::new(&for_channels)).unwrap();
        settle(&mut map, &mut ());
        map.pause_reading(id);
        let peers = [Peer::connect(&address), Peer::connect(&address)];
        Peer::connect(&address).reset();
        assert_quiet(&mut map, &mut ());
        assert_eq!(map.counters().accepted, 0);
        map.resume_reading(id);
        turn_until(&mut map, &mut (), "both", |_, ()| log.count("connect") >= 2);
        drop(peers);
    });
}

/// Row 10. A listener that is shut down from elsewhere hangs up: it sleeps while it is paused, and closes after.
#[test]
fn trap_a_paused_listener_that_hangs_up_sleeps() {
    each_wait(|mut map| {
        let (listener, _address, _folder) = Net::V4.listener();
        let other = rustix::io::dup(&listener).unwrap();
        let id = map.listen_on(listener, |_| Recorder::new(&Log::new())).unwrap();
        settle(&mut map, &mut ());
        map.pause_reading(id);
        let before = map.counters().events;
        socket2::SockRef::from(&other).shutdown(Shutdown::Both).unwrap();
        settle(&mut map, &mut ());
        assert!(map.counters().events - before <= 1);
        assert_quiet(&mut map, &mut ());
        map.resume_reading(id);
        turn_until(&mut map, &mut (), "its end", |map, ()| map.is_empty());
    });
}

/// Row 3. The peer's address comes from the accept itself: asking afterwards fails when the peer has reset.
#[test]
fn trap_a_peer_that_reset_before_the_accept_has_an_address() {
    each_wait(|mut map| {
        let log = Log::new();
        let (listener, address, _folder) = Net::V4.listener();
        let for_channels = log.clone();
        map.listen_on(listener, move |peer| {
            for_channels.add(format_args!("from {}", peer.is_some()));
            Recorder::new(&for_channels)
        })
        .unwrap();
        Peer::connect(&address).reset();
        turn_until_closed(&mut map, &log);
        assert_eq!(log.lines(), ["from true", "connect", "close Reset"]);
        assert_eq!(map.len(), 1);
    });
}

fn send_urgent(peer: &Peer) {
    rustix::net::send(as_tcp(peer), b"!", rustix::net::SendFlags::OOB).unwrap();
}

fn as_tcp(peer: &Peer) -> &std::net::TcpStream {
    match peer {
        Peer::Tcp(socket) => socket,
        Peer::Unix(_) | Peer::Tls(_) => panic!("not TCP"),
    }
}

/// Row 11. An urgent byte wakes the loop twice at most, and is no part of the stream.
#[test]
fn trap_an_urgent_byte_is_told_once_and_is_not_in_the_stream() {
    each_wait(|mut map| {
        let log = Log::new();
        let (mut peer, here) = Peer::tcp_pair();
        map.add(here, Recorder::new(&log)).unwrap();
        settle(&mut map, &mut ());
        let before = map.counters().events;
        send_urgent(&peer);
        turn_until(&mut map, &mut (), "the urgent byte", |_, ()| log.has("expt"));
        settle(&mut map, &mut ());
        assert!(map.counters().events - before <= 2);
        assert_quiet(&mut map, &mut ());
        peer.send(b"ab");
        send_urgent(&peer);
        peer.send(b"cd");
        drop(peer);
        turn_until_closed(&mut map, &log);
        let read: String = log.lines().iter().filter_map(|line| line.strip_prefix("read ")).collect();
        assert_eq!(read, "abcd");
        assert_eq!((log.count("expt"), log.count("close Eof")), (2, 1), "{:?}", log.lines());
    });
}

/// Reads, and leaves urgent data alone.
struct DeafToUrgency;

impl Channel for DeafToUrgency {
    fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
        while let Received::Data(_) = cx.map.recv(cx.id, 4096)? {}
        Ok(())
    }

    fn handle_expt(&mut self, _cx: &mut Context<'_>) -> Result {
        Ok(())
    }
}

/// Row 11. The byte that nobody takes does not wake the loop again: the read passes over it.
#[test]
fn trap_an_urgent_byte_that_nobody_takes_does_not_spin() {
    each_wait(|mut map| {
        let (peer, here) = Peer::tcp_pair();
        map.add(here, DeafToUrgency).unwrap();
        settle(&mut map, &mut ());
        let before = map.counters().events;
        send_urgent(&peer);
        turn_until(&mut map, &mut (), "the urgent byte", |map, ()| map.counters().events > before);
        settle(&mut map, &mut ());
        assert!(map.counters().events - before <= 2);
        assert_quiet(&mut map, &mut ());
    });
}

/// Pauses at urgent data.
struct PausesAtUrgency(Log);

impl Channel for PausesAtUrgency {
    fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
        if let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
            self.0.add(format_args!("read {}", data.escape_ascii()));
        }
        Ok(())
    }

    fn handle_expt(&mut self, cx: &mut Context<'_>) -> Result {
        cx.map.recv_urgent(cx.id)?;
        cx.map.pause_reading(cx.id);
        Ok(())
    }
}

/// A pause from inside `handle_expt` holds for the input that came with it.
#[test]
fn a_pause_at_urgent_data_holds_back_the_read_of_the_same_event() {
    each_wait(|mut map| {
        let log = Log::new();
        let (mut peer, here) = Peer::tcp_pair();
        peer.send(b"stream");
        send_urgent(&peer);
        let id = map.add(here, PausesAtUrgency(log.clone())).unwrap();
        settle(&mut map, &mut ());
        assert_eq!(log.take(), Vec::<String>::new());
        map.resume_reading(id);
        settle(&mut map, &mut ());
        assert_eq!(log.take(), ["read stream"]);
    });
}

/// Write interest ends when the queue does, for datagrams as for streams: a socket that can be written is no news.
#[test]
fn a_datagram_channel_that_was_blocked_sleeps_again_when_all_is_sent() {
    each_wait(|mut map| {
        let log = Log::new();
        let (here, there) = UnixDatagram::pair().unwrap();
        there.set_nonblocking(true).unwrap();
        let id = map.add(here, Recorder::new(&log)).unwrap();
        // A few more than the socket takes, so that one write sends the rest.
        let mut sent = 0;
        while map.queued() == 0 {
            for _ in 0..10 {
                sent += 1;
                assert!(map.push(id, &[b'x'; 1000]).is_queued());
            }
            settle(&mut map, &mut ());
        }
        assert_quiet(&mut map, &mut ());
        let mut received = 0;
        turn_until(&mut map, &mut (), "all datagrams", |_, ()| {
            while there.recv(&mut [0; 2000]).is_ok_and(|length| length == 1000) {
                received += 1;
            }
            received == sent
        });
        settle(&mut map, &mut ());
        assert_quiet(&mut map, &mut ());
        assert_eq!(map.queued(), 0);
    });
}

/// An undelivered datagram of ours says nothing of what the peer sends: the channel stays, and hears it.
#[test]
fn a_datagram_that_came_back_does_not_close_the_channel() {
    each_wait(|mut map| {
        let log = Log::new();
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = peer.local_addr().unwrap();
        let here = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        here.connect(address).unwrap();
        let back = here.local_addr().unwrap();
        drop(peer);
        let id = map.add(here, Recorder::new(&log)).unwrap();
        let before = map.counters().events;
        map.push(id, b"to nobody");
        turn_until(&mut map, &mut (), "the answer of the system", |map, ()| map.counters().events > before);
        assert_quiet(&mut map, &mut ());
        let peer = std::net::UdpSocket::bind(address).unwrap();
        peer.send_to(b"here I am", back).unwrap();
        turn_until(&mut map, &mut (), "the datagram", |_, ()| log.has("read here I am"));
        assert!(map.is_open(id));
    });
}

/// A half-closed channel that is taken out and put back is still half-closed: its end of file is no news.
#[test]
fn a_half_closed_channel_that_is_removed_and_added_again_sleeps() {
    each_wait(|mut map| {
        let log = Log::new();
        let (mut peer, here) = Peer::tcp_pair();
        let id = map.add(here, recorder(&log, true, false)).unwrap();
        peer.shutdown_write();
        turn_until(&mut map, &mut (), "the end of file", |_, ()| log.has("eof"));
        let (dispatcher, handler) = map.remove(id).unwrap();
        let id = map.insert(dispatcher, handler).unwrap();
        settle(&mut map, &mut ());
        assert_quiet(&mut map, &mut ());
        map.push(id, b"still writing");
        map.close_when_done(id);
        turn_until_closed(&mut map, &log);
        assert_eq!(peer.read_rest(), b"still writing");
        assert_eq!((log.count("eof"), log.count("close Eof")), (1, 1), "{:?}", log.lines());
    });
}

/// An ending channel that is taken out and put back goes on ending, and does not wait for its peer for ever.
#[test]
fn an_ending_channel_that_is_removed_and_added_again_ends() {
    each_wait(|mut map| {
        let log = Log::new();
        let (_peer, here) = Peer::tcp_pair();
        let mut limits = asyncore::Limits::default();
        limits.linger_time = std::time::Duration::from_millis(20);
        let mut dispatcher = Dispatcher::try_from(here).unwrap();
        dispatcher.set_limits(limits);
        let id = map.add(dispatcher, Recorder::new(&log)).unwrap();
        settle(&mut map, &mut ());
        map.close_when_done(id);
        let (dispatcher, handler) = map.remove(id).unwrap();
        assert_eq!(dispatcher.state(), State::Draining);
        let id = map.insert(dispatcher, handler).unwrap();
        turn_until(&mut map, &mut (), "all sent", |map, ()| {
            map.get(id).is_some_and(|channel| channel.state() == State::Lingering)
        });
        let (dispatcher, handler) = map.remove(id).unwrap();
        map.insert(dispatcher, handler).unwrap();
        turn_until_closed(&mut map, &log);
        assert_eq!(log.lines(), ["connect", "close Local"]);
    });
}
