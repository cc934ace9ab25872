//! Raw and chat channels in one map that push to, pause, resume, close, remove and enter one another inside callbacks,
//! fail and panic: every pair of actions, in every order, on every neighbour.
//!
//! Three channels have input in one turn. The middle one acts on a target: itself, the channel before or the channel
//! behind it; the target then acts back, or has done so before. What must hold afterwards is the same for all: see
//! [`World::check`].

use std::io::{ErrorKind, Read, Write};
use std::panic::panic_any;
use std::sync::Once;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Collected, Conversation};
use asyncore::{Channel, ChannelId, CloseReason, Context, Dispatcher, Map, Received, Result};
use integration_tests::{Peer, map, turn_until};

#[test]
fn whatever_a_channel_does_to_itself_stays_with_it() {
    every_pair(1);
}

#[test]
fn whatever_channels_do_to_one_another_stays_with_them_when_the_target_comes_first() {
    every_pair(0);
}

#[test]
fn whatever_channels_do_to_one_another_stays_with_them_when_the_target_comes_later() {
    every_pair(2);
}

#[test]
fn the_loop_cannot_be_entered_while_a_channel_is_entered_between_turns() {
    let mut map: Map<World> = map();
    let mut world = World::default();
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Raw(0)).unwrap();
    let entered = map.with(&mut world, id, |_: &mut Raw, cx| {
        cx.map.close(cx.id);
        cx.map.poll(cx.app, Some(Duration::ZERO)).is_err() && cx.map.run(cx.app).is_err()
    });
    assert_eq!(entered, Some(true));
    world.members.push(Member::new(id, Sort::Raw));
    map.run(&mut world).unwrap();
    assert_eq!(world.members[0].log, ["close Local"]);
}

/// What a channel does in a callback, to a target.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Push,
    Pause,
    Resume,
    Close,
    CloseWhenDone,
    Remove,
    With,
    WithPanic,
    Err,
    Panic,
}

const ACTIONS: [Action; 10] = [
    Action::Push,
    Action::Pause,
    Action::Resume,
    Action::Close,
    Action::CloseWhenDone,
    Action::Remove,
    Action::With,
    Action::WithPanic,
    Action::Err,
    Action::Panic,
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sort {
    Raw,
    Chat,
}

/// The place of the channel that acts first; its target may be any of 0, 1 and 2.
const ACTOR: usize = 1;

fn every_pair(target: usize) {
    silence_expected_panics();
    for there in ACTIONS {
        for back in ACTIONS {
            for actor_sort in [Sort::Raw, Sort::Chat] {
                for target_sort in [Sort::Raw, Sort::Chat] {
                    let mut sorts = [Sort::Raw, actor_sort, Sort::Chat];
                    sorts[target] = target_sort;
                    play(sorts, target, there, back);
                }
            }
        }
    }
}

/// One map: what `there` does to the target and `back` to the actor.
fn play(sorts: [Sort; 3], target: usize, there: Action, back: Action) {
    let name = format!("{sorts:?}: {there:?} on {target}, {back:?} back");
    let mut map: Map<World> = map();
    let mut peers = Vec::new();
    let mut world = World::default();
    for (place, sort) in sorts.into_iter().enumerate() {
        let (peer, here) = Peer::pair();
        peers.push(peer);
        let id = match sort {
            Sort::Raw => map.add(here, Raw(place)),
            Sort::Chat => map.add(here, AsyncChat::new(Talk(place)).terminator(b"\n")),
        };
        world.members.push(Member::new(id.unwrap(), sort));
    }
    world.members[ACTOR].plan.push((there, target));
    world.members[target].plan.push((back, ACTOR));
    quieten(&mut map, &mut world);

    // All three have input in the same turn. To a chat these are two messages, of which the first makes it act.
    for peer in &mut peers {
        peer.write_all(b"go\nmore\n").unwrap();
    }
    quieten(&mut map, &mut world);
    for peer in &mut peers {
        // Refused by those that are gone.
        drop(peer.write_all(b"again\n"));
    }
    // Every pause ends some time; what was held back then may be a pause of the other.
    for _ in 0..2 {
        quieten(&mut map, &mut world);
        world.members.iter().for_each(|member| map.resume_reading(member.id));
    }
    quieten(&mut map, &mut world);
    for peer in &mut peers {
        peer.shutdown_write();
    }
    turn_until(&mut map, &mut world, &name, |map, _| map.is_empty());
    assert_eq!(map.queued(), 0, "{name}");
    drop(world.removed.drain(..));
    let bystanders = [0, 1, 2].into_iter().filter(|place| ![ACTOR, target].contains(place));
    for place in bystanders {
        assert!(world.members[place].fate.is_none() && !world.members[place].is_cut, "{name}");
    }
    for (place, peer) in peers.into_iter().enumerate() {
        world.check(&name, place, peer);
    }
}

/// Turns the loop until three turns in a row had no event. Socket pairs on one machine need no waiting.
fn quieten(map: &mut Map<World>, world: &mut World) {
    let mut quiet = 0;
    while quiet < 3 {
        let before = map.counters().events;
        map.poll(world, Some(Duration::ZERO)).unwrap();
        quiet = if map.counters().events == before { quiet + 1 } else { 0 };
    }
}

/// What the channels share, and what is known of each.
#[derive(Default)]
struct World {
    members: Vec<Member>,
    removed: Vec<(Dispatcher, Box<dyn Channel<Self>>)>,
}

struct Member {
    id: ChannelId,
    sort: Sort,
    /// What it does, and to whom, when its first input comes.
    plan: Vec<(Action, usize)>,
    log: Vec<String>,
    /// The input that it was given.
    got: Vec<u8>,
    /// What was queued for it.
    queued: Vec<u8>,
    /// The reason it must close for, when something was done to it.
    fate: Option<CloseReason>,
    /// Its queue may have been dropped.
    is_cut: bool,
    is_removed: bool,
}

impl Member {
    fn new(id: ChannelId, sort: Sort) -> Self {
        let (plan, log, got, queued) = Default::default();
        Self { id, sort, plan, log, got, queued, fate: None, is_cut: false, is_removed: false }
    }
}

impl World {
    fn place(&self, id: ChannelId) -> usize {
        self.members.iter().position(|member| member.id == id).expect("a member")
    }

    fn note(&mut self, id: ChannelId, line: impl Into<String>) {
        let place = self.place(id);
        self.members[place].log.push(line.into());
    }

    fn push(&mut self, map: &mut Map<Self>, place: usize, data: &[u8]) {
        let member = &mut self.members[place];
        if map.push(member.id, data).is_queued() {
            member.queued.extend_from_slice(data);
        }
    }

    /// Closed in a way that drops its queue.
    fn cut(&mut self, place: usize, reason: CloseReason) {
        self.members[place].fate = Some(reason);
        self.members[place].is_cut = true;
    }

    /// A channel is given input.
    fn input(&mut self, map: &mut Map<Self>, id: ChannelId, data: &[u8]) -> Result {
        let place = self.place(id);
        if !map.is_reading(id) || self.members[place].is_removed {
            self.note(id, "broken: input for a channel that does not read");
        }
        self.members[place].got.extend_from_slice(data);
        self.push(map, place, data);
        for (action, target) in std::mem::take(&mut self.members[place].plan) {
            self.act(map, place, action, target)?;
        }
        Ok(())
    }

    fn act(&mut self, map: &mut Map<Self>, me: usize, action: Action, target: usize) -> Result {
        let id = self.members[target].id;
        let is_open = map.is_open(id);
        let can_enter = is_open && target != me;
        match action {
            Action::Push => self.push(map, target, b"pushed\n"),
            Action::Pause => map.pause_reading(id),
            Action::Resume => map.resume_reading(id),
            Action::Close => {
                map.close(id);
                if is_open {
                    self.cut(target, CloseReason::Local);
                }
            }
            Action::CloseWhenDone => {
                map.close_when_done(id);
                if is_open {
                    self.members[target].fate = Some(CloseReason::Local);
                }
            }
            Action::Remove => {
                let removed = map.remove(id);
                if removed.is_some() != can_enter {
                    self.note(id, "broken: remove");
                }
                self.members[target].is_removed |= removed.is_some();
                self.removed.extend(removed);
            }
            Action::With => {
                let entered = self.with(map, target, |map, world| world.push(map, target, b"entered\n"));
                if entered != can_enter {
                    self.note(id, "broken: with");
                }
            }
            Action::WithPanic => {
                if can_enter {
                    self.cut(target, CloseReason::HandlerPanic);
                    self.cut(me, CloseReason::HandlerPanic);
                }
                self.with(map, target, |_, _| panic_any(EXPECTED));
            }
            Action::Err => {
                if map.is_open(self.members[me].id) {
                    self.cut(me, CloseReason::HandlerError);
                }
                return Err("refused".into());
            }
            Action::Panic => {
                self.cut(me, CloseReason::HandlerPanic);
                panic_any(EXPECTED);
            }
        }
        Ok(())
    }

    /// Enters the target by its type, and by the wrong one: whether the right one let us in.
    fn with(
        &mut self,
        map: &mut Map<Self>,
        target: usize,
        f: impl FnOnce(&mut Map<Self>, &mut Self),
    ) -> bool {
        let Member { id, sort, .. } = self.members[target];
        let (wrong, right) = match sort {
            Sort::Raw => (
                map.with(self, id, |_: &mut AsyncChat<Talk>, _| ()),
                map.with(self, id, |_: &mut Raw, cx| f(cx.map, cx.app)),
            ),
            Sort::Chat => (
                map.with(self, id, |_: &mut Raw, _| ()),
                map.with(self, id, |_: &mut AsyncChat<Talk>, cx| f(cx.map, cx.app)),
            ),
        };
        if wrong.is_some() {
            self.note(id, "broken: entered by another type");
        }
        right.is_some()
    }

    /// What holds for every channel, whatever was done.
    fn check(&self, name: &str, place: usize, mut peer: Peer) {
        let Member { log, got, queued, fate, is_cut, is_removed, .. } = &self.members[place];
        let name = format!("{name}; channel {place}: {log:?}");
        let count = |line: &str| log.iter().filter(|seen| seen.starts_with(line)).count();

        assert_eq!(count("broken"), 0, "{name}");
        assert_eq!((count("connect"), log[0].as_str()), (1, "connect"), "{name}");
        assert!(count("eof") <= 1 && count("error") <= 1, "{name}");
        if *is_removed {
            assert_eq!(count("close"), 0, "{name}");
        } else {
            let reason = fate.unwrap_or(CloseReason::Eof);
            assert_eq!(count("close"), 1, "{name}");
            assert_eq!(log.last().unwrap(), &format!("close {reason:?}"), "{name}");
        }
        let all = b"go\nmore\nagain\n";
        assert!(all.starts_with(got), "{name}: got {}", got.escape_ascii());
        if fate.is_none() && !is_removed {
            assert_eq!(got, all, "{name}: input of a healthy channel is lost");
            assert_eq!(count("eof"), 1, "{name}");
        }

        let mut received = Vec::new();
        match peer.read_to_end(&mut received) {
            Ok(_) => {}
            // Input that a closed channel did not read.
            Err(error) => {
                assert!(error.kind() == ErrorKind::ConnectionReset && (*is_cut || *is_removed), "{name}");
            }
        }
        assert!(queued.starts_with(&received), "{name}: received {}", received.escape_ascii());
        if !is_cut && !is_removed {
            assert_eq!(&received, queued, "{name}: output of a healthy channel is lost");
        }
    }
}

/// A raw channel that echoes.
struct Raw(usize);

impl Channel<World> for Raw {
    fn handle_connect(&mut self, cx: &mut Context<'_, World>) -> Result {
        cx.app.note(cx.id, "connect");
        Ok(())
    }

    fn handle_read(&mut self, cx: &mut Context<'_, World>) -> Result {
        assert_eq!(cx.app.place(cx.id), self.0);
        match cx.map.recv(cx.id, 4096)? {
            Received::Data(data) => cx.app.input(cx.map, cx.id, &data),
            _ => Ok(()),
        }
    }

    fn handle_eof(&mut self, cx: &mut Context<'_, World>) -> Result {
        cx.app.note(cx.id, "eof");
        cx.map.close_when_done(cx.id);
        Ok(())
    }

    fn handle_error(&mut self, cx: &mut Context<'_, World>, _: &asyncore::Error) {
        cx.app.note(cx.id, "error");
        cx.map.close(cx.id);
    }

    fn handle_close(&mut self, cx: &mut Context<'_, World>, reason: CloseReason) {
        cx.app.note(cx.id, format!("close {reason:?}"));
    }
}

/// A chat that echoes lines.
struct Talk(usize);

impl Chat<World> for Talk {
    fn handle_connect(&mut self, cx: &mut Conversation<'_, World>) -> Result {
        cx.app.note(cx.id, "connect");
        Ok(())
    }

    fn collect_incoming_data(&mut self, cx: &mut Conversation<'_, World>, _: &[u8]) -> Result<Collected> {
        if !cx.map.is_reading(cx.id) {
            cx.app.note(cx.id, "broken: a piece for a chat that does not read");
        }
        Ok(Collected::Kept)
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_, World>, line: &[u8]) -> Result {
        assert_eq!(cx.app.place(cx.id), self.0);
        cx.app.input(cx.map, cx.id, &[line, b"\n"].concat())
    }

    fn handle_eof(&mut self, cx: &mut Conversation<'_, World>, rest: &[u8]) -> Result {
        cx.app.note(cx.id, if rest.is_empty() { "eof" } else { "broken: a rest" });
        cx.close_when_done();
        Ok(())
    }

    fn handle_error(&mut self, cx: &mut Conversation<'_, World>, _: &asyncore::Error) {
        cx.app.note(cx.id, "error");
        cx.close();
    }

    fn handle_close(&mut self, cx: &mut Conversation<'_, World>, reason: CloseReason) {
        cx.app.note(cx.id, format!("close {reason:?}"));
    }
}

/// What the panics here say.
const EXPECTED: &str = "a panic that the test asks for";

/// Hundreds of panics are part of these tests; their reports would hide the one that is not.
fn silence_expected_panics() {
    static SILENCED: Once = Once::new();
    SILENCED.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload().downcast_ref() != Some(&EXPECTED) {
                report(panic);
            }
        }));
    });
}
