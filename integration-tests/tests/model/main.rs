//! The model test: random scripts on a simulated map, beside a reference of what may happen to a channel.
//!
//! A script is made from its seed: what peers, callbacks, timers, posts and the program do, and how unkind the network is. It
//! runs on a simulated map, and a model of each channel's life checks every callback as it comes, every answer of the map,
//! and after every step what has come of it all. When everything is at rest, nothing may be left over.
//!
//! `ASYNCORE_SCRIPTS=100000 cargo test --release --test model` runs more scripts than the usual 5000, and
//! `ASYNCORE_SEED=7 cargo test --test model` one.

mod act;
mod checks;
mod clocks;
mod generate;
mod handler;
mod later;
mod model;
mod output;
#[cfg(feature = "planted-bugs")]
mod planted;
mod queue;
mod rules;
mod run;
mod script;
mod seen;
mod shrink;
mod work;

use script::Script;
use seen::Seen;

/// Scripts in a usual run.
const SCRIPTS: u64 = 5000;

#[test]
fn the_loop_keeps_its_promises() {
    let mut seen = Seen::default();
    let seeds = match number("ASYNCORE_SEED") {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..number("ASYNCORE_SCRIPTS").unwrap_or(SCRIPTS),
    };
    for seed in seeds {
        let script = generate::script(seed);
        let outcome = run::run(&script);
        seen.add(&outcome.seen);
        if let Some((_, what)) = outcome.failure {
            panic!("{}", report(&script, &what));
        }
    }
    println!("{}", seen.table());
    if seen.scripts >= SCRIPTS {
        let missing = seen.missing(REACHED);
        assert!(missing.is_empty(), "not reached in {} scripts: {missing:?}", seen.scripts);
    }
}

/// What went wrong, in the shortest script that shows it, and how to see it again.
fn report(script: &Script, what: &str) -> String {
    let short = shrink::shrink(script);
    let run = run::run_traced(&short, true);
    let what = run.failure.map_or_else(|| what.to_owned(), |(_, what)| what);
    let trace = run.trace.join("\n");
    let seed = script.seed;
    format!(
        "{what}\n\nthe shortest script that shows it, of {} steps:\n{short}\nand what happened in it:\n{trace}\n\n\
         ASYNCORE_SEED={seed} cargo test --test model replays the whole one, of {} steps",
        short.steps.len(),
        script.steps.len(),
    )
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is to be a number, and is {text:?}")))
}

/// What a usual run comes to at least once: the callbacks, the reasons, the answers, what is left at rest, every call.
const REACHED: &[&str] = &[
    "handle_connect",
    "handle_accepted",
    "handle_read",
    "handle_write",
    "handle_expt",
    "collect_incoming_data",
    "found_terminator",
    "handle_too_long",
    "handle_eof",
    "handle_drained",
    "handle_timer",
    "handle_timeout",
    "blocking work is done",
    "handle_shutdown",
    "handle_error",
    "handle_close",
    "closed: Local",
    "closed: Eof",
    "closed: Reset",
    "closed: Refused",
    "closed: TimedOut",
    "closed: TimedOut(Drain)",
    "closed: TooLong",
    "closed: OutputFull",
    "closed: HandlerError",
    "closed: HandlerPanic",
    "closed: ShutDown",
    "pushed: Queued",
    "pushed: Full",
    "pushed: Closing",
    "pushed: Gone",
    "sent",
    "shed",
    "with: entered",
    "with: None",
    "with: panicked",
    "one-shot",
    "interval",
    "post: Full",
    "spawn: Full",
    "work: panicked",
    "timeout: Connect",
    "timeout: Idle",
    "timeout: Rate",
    "timeout: Read",
    "timeout: Total",
    "timeout: Write",
    "rate reached",
    "removed",
    "replaced",
    "unread",
    "error",
    "panic",
    "accept budget reached",
    "read budget reached",
    "no descriptor for a pair",
    "no descriptor to connect",
    "rest",
    "rest: a full network",
    "rest: delivered in good order",
    "rest: held",
    "rest: lingering",
    "rest: paused",
    "rest: waits for a listener",
    "AddSpare",
    "After",
    "Broadcast",
    "CancelTimer",
    "Close",
    "CloseAll",
    "CloseWhenAnswered",
    "CloseWhenDone",
    "CloseWith",
    "Connect",
    "Couple",
    "Dawdle",
    "DiscardBuffers",
    "DiscardOutput",
    "Every",
    "Insert",
    "Pause",
    "PauseWhenHigh",
    "Pipe",
    "Poll",
    "Post",
    "Producer",
    "Push",
    "ReadAgain",
    "Recv",
    "RemotePush",
    "RemoteShutdown",
    "Remove",
    "Replace",
    "ResetTimer",
    "Resume",
    "Send",
    "SetInterval",
    "SetLimits",
    "SetRate",
    "SetTimeout",
    "SetTimer",
    "Shutdown",
    "ShutdownWrite",
    "Spawn",
    "Stop",
    "Terminator",
    "Touch",
    "Uncouple",
    "Unread",
    "Want",
    "With",
];
