//! How a program stops: everybody is told, accepted work is finished or bounded by the deadline, and who asks twice means it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Conversation};
use asyncore::testing::Simulation;
use asyncore::{Channel, CloseReason, Context, Map, Result, SIGINT, SIGTERM, SIGUSR1, serve_threads_with};
use integration_tests::{DEADLINE, Peer, in_time, map, options, settle, turn_until};
use signal_hook::low_level::raise;

/// Long enough never to pass in a test.
const LONG: Duration = Duration::from_secs(3600);

/// Does not let itself be stopped.
struct Stubborn;

impl Channel<Vec<CloseReason>> for Stubborn {
    fn handle_shutdown(&mut self, _cx: &mut Context<'_, Vec<CloseReason>>) -> Result {
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Vec<CloseReason>>, reason: CloseReason) {
        cx.app.push(reason);
    }
}

/// Answers each line after some work.
struct Clerk(Option<mpsc::Receiver<()>>);

impl Chat<Vec<CloseReason>> for Clerk {
    fn found_terminator(&mut self, cx: &mut Conversation<'_, Vec<CloseReason>>, _line: &[u8]) -> Result {
        let wait = self.0.take();
        cx.spawn_blocking(
            move || {
                let _ = wait.map(|wait| wait.recv_timeout(DEADLINE));
            },
            |_: &mut Self, cx, ()| {
                cx.push(b"250 accepted\r\n");
                Ok(())
            },
        )?;
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Conversation<'_, Vec<CloseReason>>, reason: CloseReason) {
        cx.app.push(reason);
    }
}

#[test]
fn accepted_work_is_answered_before_a_shutdown_ends() {
    in_time(|| {
        let mut map = map();
        let mut closed = Vec::new();
        let (mut peer, here) = Peer::pair();
        let (open, wait) = mpsc::channel();
        let id = map.add(here, AsyncChat::new(Clerk(Some(wait))).terminator(b"\r\n")).unwrap();
        peer.send(b"DATA\r\n");
        turn_until(&mut map, &mut closed, "the work to be under way", |map, _| map.pending_work(id) == 1);
        map.shutdown(LONG);
        settle(&mut map, &mut closed);
        drop(open);
        peer.shutdown_write();
        map.run(&mut closed).unwrap();
        assert_eq!(peer.read_rest(), b"250 accepted\r\n");
        assert_eq!(closed, [CloseReason::ShutDown]);
    });
}

#[test]
fn work_whose_channel_is_gone_is_finished_before_a_shutdown_ends() {
    in_time(|| {
        let mut map: Map<Vec<CloseReason>> = map();
        let mut closed = Vec::new();
        let finished = Arc::new(AtomicUsize::new(0));
        let (_peer, here) = Peer::pair();
        let id = map.add(here, Stubborn).unwrap();
        for _ in 0..100 {
            let finished = Arc::clone(&finished);
            let work = move || {
                thread::yield_now();
                finished.fetch_add(1, Ordering::SeqCst);
            };
            map.spawn_blocking(id, work, |_: &mut Stubborn, _, ()| Ok(())).unwrap();
        }
        map.close(id);
        map.shutdown(LONG);
        map.run(&mut closed).unwrap();
        assert_eq!(finished.load(Ordering::SeqCst), 100);
    });
}

#[test]
fn work_that_never_ends_holds_a_shutdown_up_no_longer_than_its_deadline() {
    in_time(|| {
        let mut map: Map<Vec<CloseReason>> = map();
        let mut closed = Vec::new();
        let (_peer, here) = Peer::pair();
        let id = map.add(here, AsyncChat::new(Clerk(None)).terminator(b"\r\n")).unwrap();
        let (_open, wait) = mpsc::channel::<()>();
        let work = move || {
            let _ = wait.recv();
        };
        map.spawn_blocking(id, work, |_: &mut AsyncChat<Clerk>, _, ()| Ok(())).unwrap();
        map.shutdown(Duration::from_millis(50));
        map.run(&mut closed).unwrap();
        assert_eq!(closed, [CloseReason::ShutDown]);
    });
}

#[test]
fn a_simulated_shutdown_waits_for_work_and_not_for_its_deadline() {
    let mut sim = Simulation::new(Vec::new()).unwrap();
    sim.set_faults(asyncore::testing::Faults::harmless());
    let (dispatcher, mut peer) = sim.pair().unwrap();
    sim.map.add(dispatcher, AsyncChat::new(Clerk(None)).terminator(b"\r\n")).unwrap();
    peer.send(b"DATA\r\n");
    sim.run_until(LONG, |sim| sim.map.iter().any(|(id, _)| sim.map.pending_work(id) > 0)).unwrap();
    sim.map.shutdown(LONG);
    sim.expect(&mut peer, "250 accepted\r\n").unwrap();
    peer.close();
    sim.run().unwrap();
    assert_eq!(sim.app, [CloseReason::ShutDown]);
    assert!(sim.elapsed() < Duration::from_secs(60), "{:?}", sim.elapsed());
}

/// Signals go to the whole process: one test at a time.
static SIGNALS: Mutex<()> = Mutex::new(());

/// Raises signals one after the other, each when the map has settled after the last, and says what was closed by each.
fn stopped_by(signals: &[&[i32]]) -> Vec<Vec<CloseReason>> {
    let _one = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut map: Map<Vec<CloseReason>> = map();
    map.shutdown_on_signals(LONG).unwrap();
    let (_peer, here) = Peer::pair();
    map.add(here, Stubborn).unwrap();
    let (_patient_peer, here) = Peer::pair();
    let patient = map.add(here, Patient).unwrap();
    let mut closed = Vec::new();
    let mut seen = Vec::new();
    for together in signals {
        for signal in *together {
            raise(*signal).unwrap();
        }
        turn_until(&mut map, &mut closed, "the signal", |map, _| {
            map.is_shutting_down() && !map.is_open(patient) || map.is_empty()
        });
        settle(&mut map, &mut closed);
        seen.push(std::mem::take(&mut closed));
    }
    seen
}

/// Closes when it is asked to stop.
struct Patient;

impl Channel<Vec<CloseReason>> for Patient {
    fn handle_shutdown(&mut self, cx: &mut Context<'_, Vec<CloseReason>>) -> Result {
        cx.map.close(cx.id);
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Vec<CloseReason>>, reason: CloseReason) {
        cx.app.push(reason);
    }
}

#[test]
fn a_signal_shuts_down_and_a_second_one_stops_at_once() {
    for signals in [[SIGINT, SIGINT], [SIGTERM, SIGTERM], [SIGINT, SIGTERM]] {
        let [first, second] = signals.map(|signal| [signal]);
        let closed = stopped_by(&[&first, &second]);
        assert_eq!(closed, [[CloseReason::Local], [CloseReason::ShutDown]], "{signals:?}");
    }
}

#[test]
fn the_timeouts_of_a_map_do_not_end_the_hearing_of_signals() {
    let mut options = options();
    options.limits.idle_time = Some(Duration::from_millis(1));
    options.limits.total_time = Some(Duration::from_millis(1));
    let mut map = Map::with_options(options).unwrap();
    let signals = map.add_signal(SIGUSR1, |_, _| Ok(())).unwrap();
    let (_peer, here) = Peer::pair();
    map.add(here, Stubborn).unwrap();
    let mut closed = Vec::new();
    // Added later, it is the later one to close.
    turn_until(&mut map, &mut closed, "a timeout", |_, closed| !closed.is_empty());
    assert!(map.is_open(signals));
}

#[test]
fn two_signals_that_are_heard_together_are_two() {
    for signals in [[SIGINT, SIGINT], [SIGTERM, SIGINT]] {
        let closed = stopped_by(&[&signals]).concat();
        assert!(closed.contains(&CloseReason::ShutDown) && closed.len() == 2, "{signals:?}: {closed:?}");
    }
}

/// What a thread's channel hears of the end.
#[derive(Debug, PartialEq)]
enum Heard {
    Connect,
    Shutdown,
    Close(CloseReason),
}

/// Passes on what it hears, and does not let itself be stopped.
struct Witness {
    _peer: Peer,
    told: mpsc::Sender<Heard>,
}

impl Channel for Witness {
    fn handle_connect(&mut self, _cx: &mut Context<'_>) -> Result {
        Ok(self.told.send(Heard::Connect)?)
    }

    fn handle_shutdown(&mut self, _cx: &mut Context<'_>) -> Result {
        Ok(self.told.send(Heard::Shutdown)?)
    }

    fn handle_close(&mut self, _cx: &mut Context<'_>, reason: CloseReason) {
        self.told.send(Heard::Close(reason)).unwrap();
    }
}

#[test]
fn a_signal_shuts_down_the_loops_of_all_threads_and_a_second_one_stops_them_at_once() {
    let _one = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
    let (told, hears) = mpsc::channel();
    let server = thread::spawn(move || {
        serve_threads_with(3, &options(), |thread| {
            thread.shutdown_on_signals(LONG)?;
            let (peer, here) = Peer::pair();
            thread.map.add(here, Witness { _peer: peer, told: told.clone() })?;
            Ok(())
        })
    });
    let each_hears = |wanted: Heard| {
        for _ in 0..3 {
            assert_eq!(hears.recv_timeout(DEADLINE).as_ref(), Ok(&wanted));
        }
    };
    each_hears(Heard::Connect);
    raise(SIGINT).unwrap();
    each_hears(Heard::Shutdown);
    raise(SIGTERM).unwrap();
    each_hears(Heard::Close(CloseReason::ShutDown));
    in_time(move || server.join().expect("no panic")).unwrap();
}
