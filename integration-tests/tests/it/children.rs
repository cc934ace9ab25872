//! Child processes: their exits as events of the loop, their pipes as channels, and that none is left behind.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use asynchat::{AsyncChat, Chat, Conversation, Terminator};
use asyncore::testing::Simulation;
use asyncore::{Child, Map, Pushed, Result, SIGTERM, State, Timeout};
use integration_tests::{
    DEADLINE, Log, Peer, Recorder, captured, map, options, run_to_the_end, settle, turn_until,
};
use tracing::Level;

/// What became of the children of a test.
#[derive(Debug, Default)]
struct Seen {
    lines: Vec<String>,
    statuses: Vec<ExitStatus>,
}

struct Lines;

impl Chat<Seen> for Lines {
    fn found_terminator(&mut self, cx: &mut Conversation<'_, Seen>, line: &[u8]) -> Result {
        cx.app.lines.push(String::from_utf8_lossy(line).into_owned());
        Ok(())
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn spawn(map: &mut Map<Seen>, command: &mut Command) -> Child {
    let spawned = map.spawn_child(command, |cx, status| {
        cx.app.statuses.push(status);
        Ok(())
    });
    spawned.expect("a child")
}

/// Waits until the system knows no process by that number, a zombie counted as one.
fn wait_until_gone(pid: u32) {
    let began = Instant::now();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    while rustix::process::test_kill_process(pid).is_ok() {
        assert!(began.elapsed() < DEADLINE, "process {pid:?} is still there");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_exit_is_told_once_with_its_status() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let child = spawn(&mut map, &mut shell("exit 3"));
    assert_eq!(map.child_pid(child.id), Some(child.pid));
    run_to_the_end(&mut map, &mut seen);
    assert_eq!(seen.statuses.iter().map(ExitStatus::code).collect::<Vec<_>>(), [Some(3)]);
    wait_until_gone(child.pid);
    assert_eq!(map.child_pid(child.id), None);
    assert!(map.kill_child(child.id).is_err());
}

#[test]
fn a_child_keeps_the_loop_running_until_its_exit_is_told() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let mut child = spawn(&mut map, shell("read line").stdin(Stdio::piped()));
    let stdin = child.stdin.take().unwrap();
    settle(&mut map, &mut seen);
    assert_eq!((map.len(), seen.statuses.len()), (1, 0));
    drop(stdin);
    run_to_the_end(&mut map, &mut seen);
    assert_eq!(seen.statuses.len(), 1);
}

#[test]
fn a_program_that_cannot_be_started_is_named_in_the_error() {
    let mut map: Map<Seen> = map();
    let started = map.spawn_child(&mut Command::new("/no/such/program"), |_, _| Ok(()));
    let error = started.unwrap_err().to_string();
    assert!(error.starts_with("cannot start /no/such/program: "), "{error}");
    assert!(map.is_empty());
}

#[test]
fn what_a_child_says_and_its_exit_both_arrive() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let child = spawn(&mut map, shell("echo one; echo two; exit 1").stdout(Stdio::piped()));
    map.add(child.stdout.unwrap(), AsyncChat::new(Lines).terminator(Terminator::line())).unwrap();
    run_to_the_end(&mut map, &mut seen);
    assert_eq!(seen.lines, ["one", "two"]);
    assert_eq!(seen.statuses[0].code(), Some(1));
}

#[test]
fn an_exit_may_be_told_while_output_is_still_in_the_pipe() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let child = spawn(&mut map, shell("echo late").stdout(Stdio::piped()));
    let stdout = child.stdout.unwrap();
    turn_until(&mut map, &mut seen, "the exit", |_, seen| seen.statuses.len() == 1);
    map.add(stdout, AsyncChat::new(Lines).terminator(Terminator::line())).unwrap();
    run_to_the_end(&mut map, &mut seen);
    assert_eq!(seen.lines, ["late"]);
}

#[test]
fn a_pipe_that_a_grandchild_holds_ends_after_the_exit() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let (gate, mut open) = std::io::pipe().unwrap();
    let mut command = shell("exec 3<&0; (read go <&3; echo grandchild) & exit 0");
    command.stdin(gate).stdout(Stdio::piped());
    let child = spawn(&mut map, &mut command);
    drop(command);
    let output =
        map.add(child.stdout.unwrap(), AsyncChat::new(Lines).terminator(Terminator::line())).unwrap();
    turn_until(&mut map, &mut seen, "the exit", |_, seen| seen.statuses.len() == 1);
    settle(&mut map, &mut seen);
    assert!(map.is_open(output), "the grandchild has it");
    open.write_all(b"go\n").unwrap();
    run_to_the_end(&mut map, &mut seen);
    assert_eq!(seen.lines, ["grandchild"]);
}

#[test]
fn a_conversation_goes_through_a_child_both_ways() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let mut command = Command::new("cat");
    let child = spawn(&mut map, command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let to = map.add(child.stdin.unwrap(), Recorder::new(&Log::new())).unwrap();
    map.add(child.stdout.unwrap(), AsyncChat::new(Lines).terminator(Terminator::line())).unwrap();
    assert_eq!(map.get(to).unwrap().state(), State::PeerClosed);
    let mut expected = Vec::new();
    for number in 0..20_000 {
        // More than both pipes hold.
        assert_eq!(map.push(to, format!("line {number}\n")), Pushed::Queued);
        expected.push(format!("line {number}"));
    }
    map.close_when_done(to);
    run_to_the_end(&mut map, &mut seen);
    assert!(seen.lines == expected);
    assert!(seen.statuses[0].success());
}

#[test]
fn one_socket_can_be_a_child_s_input_and_output() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut command = Command::new("cat");
    command.stdin(std::os::fd::OwnedFd::from(there.try_clone().unwrap()));
    command.stdout(std::os::fd::OwnedFd::from(there));
    spawn(&mut map, &mut command);
    // It holds the child's end open as well.
    drop(command);
    let id = map.add(here, AsyncChat::new(Lines).terminator(Terminator::line())).unwrap();
    map.push(id, b"there and back\n");
    map.shutdown_write(id);
    run_to_the_end(&mut map, &mut seen);
    assert_eq!(seen.lines, ["there and back"]);
    assert!(seen.statuses[0].success());
}

#[test]
fn a_signal_and_a_kill_are_told_as_what_ended_the_child() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let asked = spawn(&mut map, Command::new("sleep").arg("1000"));
    map.signal_child(asked.id, SIGTERM).unwrap();
    turn_until(&mut map, &mut seen, "the exit", |_, seen| seen.statuses.len() == 1);
    let killed = spawn(&mut map, Command::new("sleep").arg("1000"));
    map.kill_child(killed.id).unwrap();
    run_to_the_end(&mut map, &mut seen);
    let signals: Vec<_> = seen.statuses.iter().map(ExitStatusExt::signal).collect();
    assert_eq!(signals, [Some(15), Some(9)]);
}

#[test]
fn what_is_no_child_takes_no_signal() {
    let mut map: Map<Seen> = map();
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Recorder::new(&Log::new())).unwrap();
    assert_eq!(map.child_pid(id), None);
    let error = map.signal_child(id, SIGTERM).unwrap_err();
    assert_eq!(error.to_string(), "there is no such child process, or it has exited");
    let child = spawn(&mut map, Command::new("sleep").arg("1000"));
    assert_eq!(map.signal_child(child.id, 0).unwrap_err().to_string(), "there is no such signal");
}

#[test]
fn a_child_is_killed_with_its_channel_and_its_exit_is_not_told() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    for close in [Map::close, Map::close_when_done] {
        let child = spawn(&mut map, Command::new("sleep").arg("1000"));
        settle(&mut map, &mut seen);
        close(&mut map, child.id);
        run_to_the_end(&mut map, &mut seen);
        wait_until_gone(child.pid);
    }
    assert_eq!(seen.statuses, []);
}

#[test]
fn a_child_is_killed_with_its_map() {
    let mut map: Map<Seen> = map();
    let child = spawn(&mut map, Command::new("sleep").arg("1000"));
    drop(map);
    wait_until_gone(child.pid);
}

#[test]
fn a_child_that_is_removed_goes_on_in_another_map_or_is_killed_when_dropped() {
    let mut one: Map<Seen> = map();
    let mut seen = Seen::default();
    let mut child = spawn(&mut one, shell("read line; exit 5").stdin(Stdio::piped()));
    let (dispatcher, handler) = one.remove(child.id).unwrap();
    let mut other: Map<Seen> = map();
    other.insert(dispatcher, handler).unwrap();
    drop(child.stdin.take());
    run_to_the_end(&mut other, &mut seen);
    assert_eq!(seen.statuses[0].code(), Some(5));

    let child = spawn(&mut one, Command::new("sleep").arg("1000"));
    drop(one.remove(child.id));
    wait_until_gone(child.pid);
}

#[test]
fn a_shutdown_asks_a_child_to_end_and_hears_of_its_exit() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let child = spawn(&mut map, Command::new("sleep").arg("1000"));
    map.shutdown(DEADLINE);
    run_to_the_end(&mut map, &mut seen);
    assert_eq!(seen.statuses[0].signal(), Some(15));
    wait_until_gone(child.pid);
}

#[test]
fn a_child_that_does_not_end_is_killed_at_the_deadline_of_a_shutdown() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let child = spawn(&mut map, shell("trap '' TERM; echo ready; exec sleep 1000").stdout(Stdio::piped()));
    map.add(child.stdout.unwrap(), AsyncChat::new(Lines).terminator(Terminator::line())).unwrap();
    turn_until(&mut map, &mut seen, "the trap", |_, seen| seen.lines.len() == 1);
    map.shutdown(Duration::from_millis(20));
    run_to_the_end(&mut map, &mut seen);
    assert_eq!(seen.statuses, []);
    wait_until_gone(child.pid);
}

#[test]
fn a_timeout_of_its_own_kills_a_child_and_those_of_the_map_do_not() {
    let mut options = options();
    options.limits.idle_time = Some(Duration::from_millis(1));
    options.limits.total_time = Some(Duration::from_millis(1));
    let mut map: Map<Seen> = Map::with_options(options).unwrap();
    let mut seen = Seen::default();
    let child = spawn(&mut map, &mut shell("sleep 0.05; exit 4"));
    run_to_the_end(&mut map, &mut seen);
    assert_eq!(seen.statuses[0].code(), Some(4));

    let hanging = spawn(&mut map, Command::new("sleep").arg("1000"));
    assert!(map.set_timeout(hanging.id, Timeout::Total, Some(Duration::from_millis(1))));
    run_to_the_end(&mut map, &mut seen);
    assert_eq!(seen.statuses.len(), 1);
    wait_until_gone(hanging.pid);
    wait_until_gone(child.pid);
}

#[test]
fn an_error_in_what_hears_of_the_exit_is_logged_and_the_channel_ends() {
    let warnings = captured(Level::WARN, || {
        let mut map: Map<Seen> = map();
        map.spawn_child(&mut shell("exit 0"), |_, _| Err("no".into())).unwrap();
        run_to_the_end(&mut map, &mut Seen::default());
    });
    assert!(warnings.contains("closing a channel after an error") && warnings.contains("no"), "{warnings}");
}

#[test]
fn a_background_child_does_not_keep_the_loop_running() {
    let mut map: Map<Seen> = map();
    let child = spawn(&mut map, Command::new("sleep").arg("1000"));
    map.set_background(child.id);
    map.run(&mut Seen::default()).unwrap();
    assert!(map.is_open(child.id));
}

#[test]
fn many_children_at_once_are_each_told_once() {
    const CHILDREN: usize = 40;
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let mut children = Vec::new();
    for _ in 0..CHILDREN {
        children.push(spawn(&mut map, &mut Command::new("true")));
    }
    run_to_the_end(&mut map, &mut seen);
    assert_eq!(seen.statuses.len(), CHILDREN);
    for child in children {
        wait_until_gone(child.pid);
    }
}

#[test]
fn children_and_pipes_leave_no_descriptors_behind() {
    const ROUNDS: usize = 300;
    let script = "for i in 1 2 3; do echo $i; done";
    let count = || fs::read_dir(descriptors()).map_or(0, Iterator::count);
    let once = || {
        let mut map: Map<Seen> = map();
        let mut seen = Seen::default();
        let child = spawn(&mut map, shell(script).stdin(Stdio::piped()).stdout(Stdio::piped()));
        map.add(child.stdout.unwrap(), AsyncChat::new(Lines).terminator(Terminator::line())).unwrap();
        drop(child.stdin);
        run_to_the_end(&mut map, &mut seen);
        assert_eq!(seen.lines.len(), 3);
    };
    // What the first of a process leaves open is no leak.
    once();
    let first = count();
    for _ in 0..ROUNDS {
        once();
    }
    // Other tests of this process open and close theirs meanwhile: fewer than that, or not for long.
    let began = Instant::now();
    while count() >= first + ROUNDS / 3 {
        assert!(began.elapsed() < DEADLINE, "{} descriptors, {first} at first", count());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn descriptors() -> PathBuf {
    PathBuf::from(if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" })
}

#[test]
fn a_simulated_map_starts_no_processes() {
    let mut sim = Simulation::new(()).unwrap();
    let error = sim.map.spawn_child(&mut Command::new("true"), |_, _| Ok(())).unwrap_err();
    assert_eq!(error.to_string(), "a simulated map starts no processes");
}
