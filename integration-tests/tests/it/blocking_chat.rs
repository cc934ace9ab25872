//! Blocking work of conversations, and in a simulation.

use std::thread;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Conversation};
use asyncore::testing::{Faults, Simulation};
use asyncore::{Channel, ChannelId, CloseReason, Map, Result};
use integration_tests::{Peer, map, run_to_the_end, settle};

type Heard = Vec<String>;

/// Answers each line after some work, one at a time, and says what else it is told.
struct Talker;

impl Chat<Heard> for Talker {
    fn found_terminator(&mut self, cx: &mut Conversation<'_, Heard>, line: &[u8]) -> Result {
        let line = line.to_ascii_uppercase();
        cx.pause_reading();
        cx.spawn_blocking(
            move || line,
            |_: &mut Self, cx, line| {
                cx.push((line, b"\r\n"));
                cx.map.resume_reading(cx.id);
                Ok(())
            },
        )?;
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Conversation<'_, Heard>, reason: CloseReason) {
        cx.app.push(format!("close: {reason}"));
    }
}

#[test]
fn a_chat_answers_what_came_in_one_packet_one_by_one() {
    let mut map: Map<Heard> = map();
    let (mut peer, here) = Peer::pair();
    map.add(here, AsyncChat::new(Talker).terminator(b"\r\n")).unwrap();
    peer.send(b"one\r\ntwo\r\nthree\r\n");
    peer.shutdown_write();
    let mut heard = Vec::new();
    run_to_the_end(&mut map, &mut heard);
    assert_eq!(peer.read_rest(), b"ONE\r\nTWO\r\nTHREE\r\n");
    assert_eq!(heard, ["close: closed by the peer"]);
}

#[test]
fn a_chat_reaches_another_chat_with_its_conversation() {
    struct Pupil(u32);
    impl Chat<Heard> for Pupil {
        fn found_terminator(&mut self, _cx: &mut Conversation<'_, Heard>, _line: &[u8]) -> Result {
            Ok(())
        }
    }
    struct Teacher(ChannelId);
    impl Chat<Heard> for Teacher {
        fn found_terminator(&mut self, cx: &mut Conversation<'_, Heard>, line: &[u8]) -> Result {
            let marks = cx.with_chat(self.0, |pupil: &mut Pupil, cx| {
                pupil.0 += 1;
                cx.push(line);
                pupil.0
            });
            assert_eq!(marks, Some(1));
            assert_eq!(cx.with_chat(self.0, |_: &mut Talker, _| ()), None, "of another type");
            assert_eq!(cx.with_chat(cx.id, |_: &mut Self, _| ()), None, "its own");
            Ok(())
        }
    }
    let mut map: Map<Heard> = map();
    let (mut pupil_peer, here) = Peer::pair();
    let pupil = map.add(here, AsyncChat::new(Pupil(0)).terminator(b"\n")).unwrap();
    let (mut peer, here) = Peer::pair();
    map.add(here, AsyncChat::new(Teacher(pupil)).terminator(b"\n")).unwrap();
    peer.send(b"well done\n");
    settle(&mut map, &mut Vec::new());
    assert_eq!(pupil_peer.read_bytes(9), b"well done");
    assert_eq!(map.len(), 2, "nothing failed");
}

/// Asks for work, and for nothing else.
struct Asker;
impl Channel<Heard> for Asker {}

/// What a simulated run with work in it does, and how long it takes.
fn simulate(seed: u64) -> (Heard, Duration) {
    let mut sim = Simulation::with_seed(seed, Vec::new()).unwrap();
    sim.set_faults(Faults::harmless());
    let here = thread::current().id();
    let mut peers = Vec::new();
    for channel in 0..3 {
        let (dispatcher, peer) = sim.pair().unwrap();
        let id = sim.map.add(dispatcher, Asker).unwrap();
        peers.push(peer);
        for piece in 0..3 {
            let work = move || {
                assert_eq!(thread::current().id(), here);
                format!("{channel}.{piece}")
            };
            sim.map
                .spawn_blocking(id, work, |_: &mut Asker, cx, word| {
                    cx.app.push(word);
                    Ok(())
                })
                .unwrap();
        }
    }
    sim.settle().unwrap();
    (std::mem::take(&mut sim.app), sim.elapsed())
}

#[test]
fn simulated_work_is_done_in_the_loop_and_the_seed_says_when() {
    let runs: Vec<_> = (0..20).map(simulate).collect();
    for (seed, run) in (0..).zip(&runs) {
        assert_eq!(*run, simulate(seed), "seed {seed}");
        assert_eq!(run.0.len(), 9, "seed {seed}: settled, and not all was told: {run:?}");
        assert!(run.1 > Duration::ZERO, "seed {seed}: it took no time");
        for channel in ["0", "1", "2"] {
            let told: Vec<_> = run.0.iter().filter(|word| word.starts_with(channel)).collect();
            assert!(told.is_sorted(), "seed {seed}: {told:?}");
        }
    }
    assert!(runs.iter().any(|run| run.0 != runs[0].0), "every seed gives the same order");
}
