//! Faults of peers: resets in mid-write, half-closes, input that never ends or comes in crumbs, peers that never read.
//! Rows 7 to 9, 12 and 13 of the list of faults.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Conversation, Terminator};
use asyncore::{Limits, Map, READ_BUDGET, Result, State};
use integration_tests::{Log, Peer, Recorder, each_net, map, run_to_the_end, settle, turn_until};

use crate::faults::{Server, assert_quiet, each_wait};

/// Row 7. A reset while output is queued, in every phase of a channel's end, is one close, and the queue is freed.
#[test]
fn row_07_a_reset_in_mid_write_closes_once_and_frees_the_queue() {
    type Prepare = fn(&mut Map, asyncore::ChannelId);
    let phases: [(&str, Prepare, State); 4] = [
        ("open", |_, _| {}, State::Open),
        ("paused", |map, id| map.pause_reading(id), State::Open),
        ("half-closing", |map, id| map.shutdown_write(id), State::Finishing),
        ("closing", |map, id| map.close_when_done(id), State::Draining),
    ];
    each_wait(|mut map| {
        for (phase, prepare, state) in phases {
            for read in [0, 1, 1000] {
                let log = Log::new();
                let (mut peer, here) = Peer::tcp_pair();
                socket2::SockRef::from(&here).set_send_buffer_size(4096).unwrap();
                let id = map.add(here, Recorder::new(&log)).unwrap();
                map.push(id, vec![b'x'; 1 << 20]);
                settle(&mut map, &mut ());
                prepare(&mut map, id);
                settle(&mut map, &mut ());
                assert!(map.queued() > 0, "{phase}: the socket took everything");
                assert_eq!(map.get(id).unwrap().state(), state);
                assert_eq!(peer.read_bytes(read).len(), read);
                let before = map.counters().closed;
                peer.reset();
                turn_until(&mut map, &mut (), phase, |map, ()| map.is_empty());
                assert_eq!(log.take(), ["connect", "close Reset"], "{phase} after {read} bytes");
                assert_eq!((map.queued(), map.counters().closed), (0, before + 1));
            }
        }
    });
}

/// Row 7. Resets by the dozen in mid-reply leave the server as it was.
#[test]
fn row_07_a_server_survives_resets_in_mid_reply() {
    let Some(mut server) = Server::start(&[], &["sndbuf=4096"]) else { return };
    let mut watcher = server.client();
    // The reserve is opened with the first accept.
    let before = watcher.stats();
    for _ in 0..50 {
        let mut client = server.client();
        client.say("long 1000000");
        let mut start = [0; 10];
        client.socket().read_exact(&mut start).unwrap();
        socket2::SockRef::from(client.socket()).set_linger(Some(Duration::ZERO)).unwrap();
    }
    let after = watcher.stats_until("50 resets", |stats| stats["Reset"] == 50);
    assert_eq!((after["closed"], after["queued"]), (50, 0), "{after:?}");
    assert_eq!(after["descriptors"], before["descriptors"]);
    server.answers();
}

/// Sends each line back.
struct Echo;

impl Chat for Echo {
    fn found_terminator(&mut self, cx: &mut Conversation<'_>, line: &[u8]) -> Result {
        cx.push(line);
        cx.push(b"\r\n");
        Ok(())
    }
}

/// Row 8. A client that pipelines a thousand commands and ends its side gets a thousand replies, then the end.
#[test]
fn row_08_a_half_close_after_a_thousand_commands_loses_no_reply() {
    let commands: String = (0..1000).map(|number| format!("command {number}\r\n")).collect();
    each_net(|net| {
        for is_chat in [true, false] {
            let mut map: Map = map();
            let (listener, address, _folder) = net.listener();
            let listener = if is_chat {
                map.listen_on(listener, |_| AsyncChat::new(Echo).terminator(Terminator::line())).unwrap()
            } else {
                map.listen_on(listener, |_| {
                    let mut recorder = Recorder::new(&Log::new());
                    recorder.echoes = true;
                    recorder
                })
                .unwrap()
            };
            let mut peer = Peer::connect(&address);
            peer.send(commands.as_bytes());
            peer.shutdown_write();
            turn_until(&mut map, &mut (), "the connection's end", |map, ()| {
                map.counters().accepted == 1 && map.len() == 1
            });
            assert!(peer.read_rest() == commands.as_bytes());
            map.close(listener);
            run_to_the_end(&mut map, &mut ());
        }
    });
}

/// Row 9. A peer that asks and never reads costs its cap and little more, and is then dropped for that reason.
#[test]
fn row_09_a_peer_that_never_reads_costs_its_cap() {
    let Some(mut server) = Server::start(&[], &[]) else { return };
    let mut watcher = server.client();
    // Once before it counts: code that has not run yet is not in memory yet.
    let mut never_read = |closes| {
        let mut client = TcpStream::connect(server.raw).unwrap();
        let outcome = (0..1000).try_for_each(|_| client.write_all(&[b'x'; 64_000]));
        assert!(outcome.is_err(), "the raw echo took 64 MB");
        watcher.stats_until("the close", |stats| stats["OutputFull"] == closes)
    };
    let (before, after) = (never_read(1), never_read(2));
    let growth = after["peak"].saturating_sub(before["resident"]);
    assert!(growth <= (1 << 20) + (128 << 10), "{growth} bytes: {before:?} {after:?}");
    assert_eq!(after["queued"], 0);
    server.answers();
}

/// Row 9. Under the map's own cap the one that holds most is dropped, whoever pushes, and the sum stays below.
#[test]
fn row_09_under_the_cap_of_the_map_the_largest_queue_goes() {
    let mut options = integration_tests::options();
    options.output = 100_000;
    let mut map: Map = Map::with_options(options).unwrap();
    let log = Log::new();
    let mut peers = Vec::new();
    let ids: Vec<_> = (0..20)
        .map(|number| {
            let (peer, here) = Peer::pair();
            peers.push(peer);
            map.add(here, Recorder::named(&number.to_string(), &log)).unwrap()
        })
        .collect();
    // 4,000 bytes each, 12,000 in number 7: 88,000.
    for (number, id) in ids.iter().enumerate() {
        assert!(map.push(*id, vec![b'x'; if number == 7 { 12_000 } else { 4000 }]).is_queued());
    }
    assert!(map.push(ids[3], &[b'x'; 11_000]).is_queued(), "99,000");
    assert!(map.push(ids[4], &[b'x'; 2000]).is_queued(), "the largest goes: number 3, with 15,000");
    assert_eq!(map.queued(), 86_000);
    assert!(!map.push(ids[5], vec![b'x'; 90_000]).is_queued(), "it would be the largest itself");
    assert_eq!(map.queued(), 82_000);
    map.poll(&mut (), Some(Duration::ZERO)).unwrap();
    let mut closes: Vec<_> = log.lines().into_iter().filter(|line| line.contains("close")).collect();
    closes.sort();
    assert_eq!(closes, ["3 close OutputFull", "5 close OutputFull"]);
    settle(&mut map, &mut ());
    assert_eq!((map.queued(), map.len()), (0, 18));
}

/// Row 12. A line that comes byte by byte is one line, and costs a turn a byte at most.
#[test]
fn row_12_a_byte_at_a_time_is_answered_like_any_other() {
    let Some(mut server) = Server::start(&[], &[]) else { return };
    let mut client = server.client();
    client.socket().set_nodelay(true).unwrap();
    let before = client.stats();
    let line = "slowly, slowly".repeat(20);
    for byte in line.bytes().chain(*b"\r\n") {
        client.send(&[byte]);
    }
    assert_eq!(client.hear(), line);
    let after = client.stats();
    assert!(after["turns"] - before["turns"] <= line.len() as u64 + 20, "{before:?} {after:?}");
    server.answers();
}

/// Row 12. A million empty lines are a million answers, while another client is served in between.
#[test]
fn row_12_a_million_empty_lines_are_answered() {
    let Some(mut server) = Server::start(&[], &[]) else { return };
    let client = server.client();
    let mut other = server.client();
    let mut reader = client.socket().try_clone().unwrap();
    let mut writer = client.socket().try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&[b'\n'; 1_000_000]));
    let mut answers = vec![0; 2_000_000];
    for half in answers.chunks_mut(1_000_000) {
        reader.read_exact(half).unwrap();
        assert_eq!(other.ask("in between"), "in between");
    }
    writing.join().unwrap().unwrap();
    assert!(answers.chunks(2).all(|line| line == b"\r\n"));
    let stats = other.stats();
    assert_eq!((stats["closed"], stats["queued"]), (0, 0), "{stats:?}");
    server.answers();
}

/// Counts lines.
struct Count;

impl Chat<u64> for Count {
    fn found_terminator(&mut self, cx: &mut Conversation<'_, u64>, _line: &[u8]) -> Result {
        *cx.app += 1;
        Ok(())
    }
}

/// Row 12. However much one channel has to read, it gets its budget in a turn, and another waits for one such turn at most.
#[test]
fn row_12_a_flood_of_short_lines_leaves_the_others_their_turn() {
    let mut map: Map<u64> = map();
    let mut lines = 0;
    let (mut flood, here) = Peer::pair();
    socket2::SockRef::from(&here).set_recv_buffer_size(8 << 20).unwrap();
    let id = map.add(here, AsyncChat::new(Count).terminator(b"\n")).unwrap();
    let log = Log::new();
    let (mut other, here) = Peer::pair();
    map.add(here, Recorder::new(&log)).unwrap();
    flood.set_nonblocking();
    let flooding = [b'a', b'\n'].repeat(1 << 19);
    let mut asked = 0;
    for _ in 0..50 {
        // Always full.
        while flood.write(&flooding).is_ok() {}
        if asked == log.count("read") {
            other.send(b"?");
            asked += 1;
        }
        let before = map.get(id).unwrap().bytes_in();
        map.poll(&mut lines, Some(Duration::ZERO)).unwrap();
        assert!(map.get(id).unwrap().bytes_in() - before <= READ_BUDGET as u64);
        assert_eq!(log.count("read"), asked, "it was not served in its turn");
    }
    assert_eq!(lines, map.get(id).unwrap().bytes_in() / 2);
    assert!(lines > 100_000, "the flood was too small to mean anything: {lines} lines");
}

/// Row 13. A line that never ends is cut off at its limit, in a process that could not hold it.
#[test]
fn row_13_a_line_without_end_is_cut_off_at_its_limit() {
    let Some(mut server) = Server::start(&["prlimit", "--as=268435456"], &[]) else { return };
    let mut watcher = server.client();
    let before = watcher.stats();
    let client = server.client();
    let outcome = (0..1024).try_for_each(|_| client.socket().write_all(&[b'x'; 1 << 20]));
    assert!(outcome.is_err(), "the server took 1 GiB");
    let after = watcher.stats_until("the close", |stats| stats["closed"] == 1);
    assert_eq!(after["TooLong"], 1, "{after:?}");
    let growth = after["peak"].saturating_sub(before["resident"]);
    assert!(growth <= 256 << 10, "{growth} bytes: {before:?} {after:?}");
    server.answers();
}

/// Row 13. Or it is passed over: a gigabyte costs nothing, one answer, and the next line is read.
#[test]
fn row_13_a_line_without_end_is_passed_over() {
    let Some(mut server) = Server::start(&["prlimit", "--as=268435456"], &["skip"]) else { return };
    let mut watcher = server.client();
    let before = watcher.stats();
    let mut client = server.client();
    for _ in 0..1024 {
        client.send(&[b'x'; 1 << 20]);
    }
    client.say("");
    client.say("short");
    assert_eq!(client.hear(), "too long");
    assert_eq!(client.hear(), "short");
    let after = watcher.stats();
    let growth = after["peak"].saturating_sub(before["resident"]);
    assert!(growth <= 256 << 10, "{growth} bytes: {before:?} {after:?}");
    assert_eq!(after["closed"], 0);
    server.answers();
}

/// A peer that is full for a while and then reads gets everything: blocked output costs no wakes meanwhile.
#[test]
fn row_09_blocked_output_sleeps_until_the_peer_reads() {
    each_wait(|mut map| {
        let log = Log::new();
        let (mut peer, here) = Peer::pair();
        let mut limits = Limits::default();
        limits.output = 8 << 20;
        let mut dispatcher = asyncore::Dispatcher::try_from(here).unwrap();
        dispatcher.set_limits(limits);
        let id = map.add(dispatcher, Recorder::new(&log)).unwrap();
        map.push(id, vec![b'x'; 8 << 20]);
        settle(&mut map, &mut ());
        assert!(map.queued() > 0);
        assert_quiet(&mut map, &mut ());
        peer.set_nonblocking();
        let (mut read, mut room) = (0, vec![0; 1 << 20]);
        turn_until(&mut map, &mut (), "all of it", |_, ()| {
            while let Ok(more) = peer.read(&mut room) {
                read += more;
            }
            read == 8 << 20
        });
        assert_quiet(&mut map, &mut ());
        assert_eq!((map.queued(), log.count("drained")), (0, 1));
    });
}
