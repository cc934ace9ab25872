//! Channels of descriptors that are no sockets: pipes, FIFOs, terminals, counters of events.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use asynchat::{AsyncChat, Chat, Conversation, Terminator};
use asyncore::testing::Simulation;
use asyncore::{Dispatcher, Family, HIGH_MARK, Kind, Map, Pushed, Result, State};
use integration_tests::{
    Call, Log, Peer, Recorder, Script, captured, in_time, map, run_to_the_end, settle, turn_until,
};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tracing::Level;

#[test]
fn a_pipe_is_read_to_its_end() {
    let mut map: Map = map();
    let log = Log::new();
    let (reader, mut writer) = std::io::pipe().unwrap();
    map.add(reader, Recorder::new(&log)).unwrap();
    writer.write_all(b"one").unwrap();
    turn_until(&mut map, &mut (), "the first bytes", |_, ()| log.has("read one"));
    writer.write_all(b"two").unwrap();
    drop(writer);
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect", "read one", "read two", "eof", "close Eof"]);
}

#[test]
fn a_file_has_no_addresses_and_counts_its_bytes() {
    let mut map: Map = map();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let id = map.add(reader, Recorder::new(&Log::new())).unwrap();
    writer.write_all(b"12345").unwrap();
    turn_until(&mut map, &mut (), "the bytes", |map, ()| map.get(id).unwrap().bytes_in() == 5);
    let dispatcher = map.get(id).unwrap();
    assert_eq!((dispatcher.family(), dispatcher.kind()), (Family::File, Kind::Stream));
    assert_eq!((dispatcher.local_addr().unwrap(), dispatcher.peer_addr()), (None, None));
    assert_eq!(Dispatcher::create_socket(Family::File, Kind::Stream).unwrap_err().to_string(), CREATED);
}

const CREATED: &str = "a file is opened, not created as a socket: see Dispatcher::from_descriptor";

#[test]
fn a_read_end_takes_no_pushes() {
    let mut map: Map = map();
    let log = Log::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let id = map.add(reader, Recorder::new(&log)).unwrap();
    assert_eq!(map.push(id, b"backwards"), Pushed::Closing);
    assert_eq!(map.get(id).unwrap().state(), State::WriteClosed);
    settle(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect"]);
    drop(writer);
    run_to_the_end(&mut map, &mut ());
}

#[test]
fn a_write_end_is_closed_after_its_last_byte_and_the_reader_gets_all() {
    let mut map: Map = map();
    let log = Log::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let id = map.add(writer, Recorder::new(&log)).unwrap();
    // More than a pipe holds.
    let data: Vec<u8> = (0..HIGH_MARK * 3).map(|at| u8::try_from(at % 251).unwrap()).collect();
    assert_eq!(map.push(id, &data), Pushed::Queued);
    map.close_when_done(id);
    let reading = thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).map(|_| all)
    });
    run_to_the_end(&mut map, &mut ());
    assert!(reading.join().unwrap().unwrap() == data);
    assert_eq!(log.lines(), ["connect", "close Local"]);
}

#[test]
fn a_writer_that_waits_for_its_reader_hears_when_the_queue_has_drained() {
    let mut map: Map = map();
    let log = Log::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let id = map.add(writer, Recorder::new(&log)).unwrap();
    let data = vec![b'x'; HIGH_MARK * 4];
    map.push(id, &data);
    settle(&mut map, &mut ());
    assert!(map.get(id).unwrap().queued() > HIGH_MARK);
    let mut room = vec![0; data.len()];
    let reading = thread::spawn(move || reader.read_exact(&mut room).map(|()| (reader, room)));
    turn_until(&mut map, &mut (), "an empty queue", |map, ()| map.get(id).unwrap().queued() == 0);
    let (_reader, room) = reading.join().unwrap().unwrap();
    assert!(room == data);
    turn_until(&mut map, &mut (), "the low mark", |_, ()| log.has("drained"));
}

#[test]
fn a_writable_channel_of_a_pipe_hears_when_there_is_room() {
    let mut map: Map = map();
    let log = Log::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut recorder = Recorder::new(&log);
    recorder.writable = true;
    let id = map.add(writer, recorder).unwrap();
    turn_until(&mut map, &mut (), "room", |_, ()| log.has("write"));
    assert_eq!(map.send(id, b"at once").unwrap(), 7);
    let mut room = [0; 7];
    (&reader).read_exact(&mut room).unwrap();
    assert_eq!(&room, b"at once");
}

#[test]
fn a_write_end_is_never_read_and_hears_when_its_reader_is_gone() {
    let mut map: Map = map();
    let log = Log::new();
    let (reader, writer) = std::io::pipe().unwrap();
    map.add(writer, Recorder::new(&log)).unwrap();
    settle(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect"], "no read, no end");
    drop(reader);
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect", "close Reset"]);
}

#[test]
fn a_push_to_a_pipe_without_a_reader_closes_and_no_signal_comes() {
    let mut map: Map = map();
    let log = Log::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let id = map.add(writer, Recorder::new(&log)).unwrap();
    drop(reader);
    map.push(id, b"nobody");
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.lines().last().unwrap(), "close Reset");
}

#[test]
fn ending_the_writing_side_of_a_pipe_closes_it() {
    let mut map: Map = map();
    let log = Log::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let id = map.add(writer, Recorder::new(&log)).unwrap();
    map.push(id, b"last");
    map.shutdown_write(id);
    run_to_the_end(&mut map, &mut ());
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "last");
    assert_eq!(log.lines(), ["connect", "close Local"]);
}

#[test]
fn a_pipe_that_is_removed_goes_on_where_it_was() {
    let mut map: Map = map();
    let log = Log::new();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let id = map.add(reader, Recorder::new(&log)).unwrap();
    settle(&mut map, &mut ());
    let (dispatcher, handler) = map.remove(id).unwrap();
    writer.write_all(b"meanwhile").unwrap();
    map.insert(dispatcher, handler).unwrap();
    drop(writer);
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.take(), ["connect", "connect", "read meanwhile", "eof", "close Eof"]);

    let (mut reader, writer) = std::io::pipe().unwrap();
    let id = map.add(writer, Recorder::new(&log)).unwrap();
    settle(&mut map, &mut ());
    map.push(id, b"queued");
    let (dispatcher, handler) = map.remove(id).unwrap();
    let id = map.insert(dispatcher, handler).unwrap();
    map.close_when_done(id);
    run_to_the_end(&mut map, &mut ());
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "queued");
    assert_eq!(log.lines(), ["connect", "connect", "close Local"]);
}

#[test]
fn a_conversation_reads_its_messages_from_a_pipe() {
    struct Lines;
    impl Chat<Vec<String>> for Lines {
        fn found_terminator(&mut self, cx: &mut Conversation<'_, Vec<String>>, line: &[u8]) -> Result {
            cx.app.push(String::from_utf8_lossy(line).into_owned());
            Ok(())
        }
    }
    let mut map = map();
    let (reader, mut writer) = std::io::pipe().unwrap();
    map.add(reader, AsyncChat::new(Lines).terminator(Terminator::line())).unwrap();
    writer.write_all(b"one\r\ntwo\nrest").unwrap();
    drop(writer);
    let mut lines = Vec::new();
    run_to_the_end(&mut map, &mut lines);
    assert_eq!(lines, ["one", "two"]);
}

#[test]
fn a_shutdown_sends_what_is_queued_for_a_pipe_and_closes_it() {
    let mut map: Map = map();
    let log = Log::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let (input, _output) = std::io::pipe().unwrap();
    let id = map.add(writer, Recorder::named("w", &log)).unwrap();
    map.add(input, Recorder::named("r", &log)).unwrap();
    settle(&mut map, &mut ());
    map.push(id, b"goodbye");
    map.shutdown(integration_tests::DEADLINE);
    run_to_the_end(&mut map, &mut ());
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "goodbye");
    assert!(log.has("w close ShutDown") && log.has("r close ShutDown"), "{:?}", log.lines());
}

#[test]
fn a_fifo_is_read_until_its_last_writer_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let to_write = path.clone();
    let writing = thread::spawn(move || {
        let mut writer = OpenOptions::new().write(true).open(to_write)?;
        writer.write_all(b"by name")
    });
    let reader = in_time(move || File::open(path)).unwrap();
    let mut map: Map = map();
    let log = Log::new();
    map.add(reader, Recorder::new(&log)).unwrap();
    run_to_the_end(&mut map, &mut ());
    writing.join().unwrap().unwrap();
    assert_eq!(log.lines(), ["connect", "read by name", "eof", "close Eof"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_counter_of_events_is_read_when_it_counts() {
    use rustix::event::{EventfdFlags, eventfd};
    let counter = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let other = counter.try_clone().unwrap();
    let mut map: Map = map();
    let log = Log::new();
    let id = map.add(counter, Recorder::new(&log)).unwrap();
    settle(&mut map, &mut ());
    rustix::io::write(&other, &5u64.to_ne_bytes()).unwrap();
    let read = format!("read {}", 5u64.to_ne_bytes().escape_ascii());
    turn_until(&mut map, &mut (), "the count", |_, ()| log.has(&read));
    map.push(id, &7u64.to_ne_bytes());
    let read = format!("read {}", 7u64.to_ne_bytes().escape_ascii());
    turn_until(&mut map, &mut (), "its own count", |_, ()| log.has(&read));
}

#[test]
fn what_does_not_tell_when_it_is_ready_is_refused_with_the_alternative() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, b"text").unwrap();
    let error = Dispatcher::from_descriptor(File::open(&path).unwrap()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert_eq!(
        error.to_string(),
        "a regular file does not tell when it is ready: read or write it with Map::spawn_blocking"
    );
    let mut map: Map = map();
    let error = map.add(File::open(folder.path()).unwrap(), Recorder::new(&Log::new())).unwrap_err();
    assert!(error.to_string().starts_with("a directory does not tell"), "{error}");
    assert!(map.is_empty());
}

#[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
#[test]
fn a_device_that_does_not_poll_is_refused_too() {
    let error = Dispatcher::from_descriptor(File::open("/dev/null").unwrap()).unwrap_err();
    assert!(error.to_string().starts_with("this device does not tell when it is ready"), "{error}");
}

#[test]
fn a_socket_is_adopted_as_one() {
    let (mut peer, here) = Peer::tcp_pair();
    let dispatcher = Dispatcher::from_descriptor(here).unwrap();
    assert_eq!((dispatcher.family(), dispatcher.state()), (Family::V4, State::Open));
    assert!(dispatcher.peer_addr().is_some());
    let mut map: Map = map();
    let log = Log::new();
    let id = map.add(dispatcher, Recorder::new(&log)).unwrap();
    map.push(id, b"as ever");
    map.shutdown_write(id);
    turn_until(&mut map, &mut (), "the end of writing", |map, ()| {
        map.get(id).unwrap().state() == State::WriteClosed
    });
    assert_eq!(peer.read_rest(), b"as ever");
}

#[cfg(target_os = "linux")]
#[test]
fn a_socket_of_neither_a_stream_nor_datagrams_is_refused() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let (here, _there) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let error = Dispatcher::from_descriptor(here).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert_eq!(error.to_string(), "this socket carries neither a stream nor datagrams");
}

#[test]
fn the_flag_that_was_set_is_put_back_and_no_other_is_touched() {
    let (reader, writer) = std::io::pipe().unwrap();
    let shared = writer.as_fd().try_clone_to_owned().unwrap();
    let before = fcntl_getfl(&shared).unwrap();
    assert!(!before.contains(OFlags::NONBLOCK));
    let mut map: Map = map();
    let id = map.add(writer, Recorder::new(&Log::new())).unwrap();
    assert_eq!(fcntl_getfl(&shared).unwrap(), before | OFlags::NONBLOCK);
    fcntl_setfl(&shared, before | OFlags::NONBLOCK | OFlags::APPEND).unwrap();
    map.close(id);
    run_to_the_end(&mut map, &mut ());
    assert_eq!(fcntl_getfl(&shared).unwrap(), before | OFlags::APPEND);
    drop(reader);
}

#[test]
fn a_file_that_did_not_block_before_does_not_block_after() {
    let (_reader, writer) = std::io::pipe().unwrap();
    let shared = writer.as_fd().try_clone_to_owned().unwrap();
    fcntl_setfl(&shared, fcntl_getfl(&shared).unwrap() | OFlags::NONBLOCK).unwrap();
    drop(Dispatcher::from_descriptor(writer).unwrap());
    assert!(fcntl_getfl(&shared).unwrap().contains(OFlags::NONBLOCK));
}

#[test]
fn of_two_channels_on_one_file_the_last_puts_the_flag_back() {
    for first_goes_first in [true, false] {
        let (_reader, writer) = std::io::pipe().unwrap();
        let shared = writer.as_fd().try_clone_to_owned().unwrap();
        let first = Dispatcher::from_descriptor(writer.try_clone().unwrap()).unwrap();
        let second = Dispatcher::from_descriptor(writer).unwrap();
        let (earlier, later) = if first_goes_first { (first, second) } else { (second, first) };
        earlier.close();
        assert!(fcntl_getfl(&shared).unwrap().contains(OFlags::NONBLOCK), "one still needs it");
        later.close();
        assert!(!fcntl_getfl(&shared).unwrap().contains(OFlags::NONBLOCK));
    }
}

#[test]
fn the_two_ends_of_a_pipe_do_not_hold_each_other_open() {
    let mut map: Map = map();
    let log = Log::new();
    let (reader, writer) = std::io::pipe().unwrap();
    map.add(reader, Recorder::named("r", &log)).unwrap();
    let id = map.add(writer, Recorder::named("w", &log)).unwrap();
    map.push(id, b"to myself");
    map.close_when_done(id);
    run_to_the_end(&mut map, &mut ());
    assert!(log.has("r read to myself") && log.has("r close Eof"), "{:?}", log.lines());
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_is_hung_up_with_its_channel_though_others_of_its_kind_are_open() {
    // All are opened by one name, and look alike to the system's `fstat`.
    let mut map: Map = map();
    let log = Log::new();
    let (first, _first_slave) = terminal();
    let (second, slave) = terminal();
    let (third, _third_slave) = terminal();
    fcntl_setfl(&third, fcntl_getfl(&third).unwrap() | OFlags::NONBLOCK).unwrap();
    map.add(Dispatcher::from_descriptor(first).unwrap(), Recorder::new(&log)).unwrap();
    let id = map.add(Dispatcher::from_descriptor(second).unwrap(), Recorder::new(&log)).unwrap();
    map.add(Dispatcher::from_descriptor(third).unwrap(), Recorder::new(&log)).unwrap();
    map.close(id);
    turn_until(&mut map, &mut (), "the close", |map, ()| map.len() == 2);
    // An end, or an error while it is being hung up.
    let read = in_time(move || rustix::io::read(&slave, &mut [0; 8]));
    assert!(matches!(read, Ok(0) | Err(rustix::io::Errno::IO)), "{read:?}");
}

/// A terminal: its other side, and the side that programs have.
fn terminal() -> (OwnedFd, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(&*name, flags, rustix::fs::Mode::empty()).unwrap();
    (master, slave)
}

#[test]
fn both_sides_of_a_terminal_can_be_channels() {
    let (master, slave) = terminal();
    let mut map: Map = map();
    let log = Log::new();
    let outside = map.add(master, Recorder::named("out", &log)).unwrap();
    let inside = map.add(slave, Recorder::named("in", &log)).unwrap();
    assert_eq!(map.get(inside).unwrap().state(), State::Open);
    map.push(outside, b"typed\n");
    turn_until(&mut map, &mut (), "a line", |_, ()| log.has("in read typed\\n"));
    // What was typed is echoed by the terminal, with its own line end.
    turn_until(&mut map, &mut (), "its echo", |_, ()| log.has("out read typed\\r\\n"));
    map.push(inside, b"answer\n");
    turn_until(&mut map, &mut (), "the answer", |_, ()| log.has("out read answer\\r\\n"));
    map.shutdown_write(inside);
    turn_until(&mut map, &mut (), "the end of writing", |map, ()| {
        map.get(inside).unwrap().state() == State::WriteClosed
    });
    assert_eq!(map.push(inside, b"more"), Pushed::Closing);
    map.push(outside, b"still read\n");
    turn_until(&mut map, &mut (), "another line", |_, ()| log.has("in read still read\\n"));
}

#[test]
fn a_terminal_whose_programs_are_gone_has_ended() {
    let (master, slave) = terminal();
    rustix::io::write(&slave, b"last words").unwrap();
    drop(slave);
    let mut map: Map = map();
    let log = Log::new();
    map.add(master, Recorder::new(&log)).unwrap();
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect", "read last words", "eof", "close Eof"]);
}

#[test]
fn a_terminal_that_is_hung_up_ends_for_its_programs() {
    let (master, slave) = terminal();
    let mut map: Map = map();
    let log = Log::new();
    map.add(slave, Recorder::new(&log)).unwrap();
    settle(&mut map, &mut ());
    drop(master);
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect", "eof", "close Eof"]);
}

#[test]
fn writing_to_a_terminal_that_is_hung_up_is_a_lost_connection() {
    let (master, slave) = terminal();
    let mut map: Map = map();
    let log = Log::new();
    let mut deaf = Recorder::new(&log);
    deaf.readable = false;
    let id = map.add(slave, deaf).unwrap();
    settle(&mut map, &mut ());
    drop(master);
    map.push(id, b"hello?");
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect", "close Reset"]);
}

#[test]
fn what_cannot_be_written_to_a_terminal_that_is_hung_up_is_a_lost_connection_too() {
    let (master, slave) = terminal();
    let mut map: Map = map();
    let log = Log::new();
    let mut writer = Recorder::new(&log);
    writer.closes_at_eof = false;
    let id = map.add(slave, writer).unwrap();
    settle(&mut map, &mut ());
    drop(master);
    turn_until(&mut map, &mut (), "the end", |_, ()| log.has("eof"));
    settle(&mut map, &mut ());
    map.push(id, b"hello?");
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect", "eof", "close Reset"]);
}

#[test]
fn a_simulated_map_takes_no_files_and_says_so() {
    let mut sim = Simulation::new(()).unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let error = sim.map.add(reader, Recorder::new(&Log::new())).unwrap_err();
    assert_eq!(error.to_string(), "a simulated map takes simulated sockets only");
    assert!(sim.map.is_empty());
}

#[test]
fn a_reader_that_waits_keeps_the_writer_waiting() {
    let mut map: Map = map();
    let log = Log::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let script = Script::new("r", &log, |cx, call| call.default(cx));
    let from = map.add(reader, script).unwrap();
    let to = map.add(writer, Recorder::named("w", &log)).unwrap();
    map.pause_reading(from);
    map.push(to, vec![0; HIGH_MARK * 4]);
    settle(&mut map, &mut ());
    assert!(map.get(to).unwrap().queued() > 0 && !log.has(&format!("r {}", Call::Read)));
    map.resume_reading(from);
    turn_until(&mut map, &mut (), "an empty queue", |map, ()| map.get(to).unwrap().queued() == 0);
}

#[test]
fn what_becomes_of_a_file_is_told_at_debug_and_not_at_warn() {
    let warnings = captured(Level::WARN, || {
        let mut map: Map = map();
        let (reader, writer) = std::io::pipe().unwrap();
        map.add(reader, Recorder::new(&Log::new())).unwrap();
        drop(writer);
        run_to_the_end(&mut map, &mut ());
    });
    assert_eq!(warnings, "");
}
