//! The rules: what each callback must have found when it came, and what follows from how it ended.

use asyncore::{ChannelId, CloseReason, Dispatcher, Map, Timeout, TimerId};

use crate::model::{Budget, Cause, Ending, Level, Life, Model, input, length};
use crate::queue::SourceState;
use crate::script::{Callback, DRAIN_TIME, Kind, Place};

impl Model {
    /// A callback of channel `me` begins.
    pub(crate) fn enter(&mut self, map: &Map<Self>, me: usize, id: ChannelId, on: Callback) {
        self.in_turn(map);
        self.note(|| format!("  channel {me}: {on:?}"));
        self.seen.callbacks += 1;
        self.seen.saw(name(on));
        self.check(self.in_loop, || format!("channel {me}: {on:?} comes from outside the loop"));
        if let Some(outer) = self.running.replace((me, on)) {
            self.wrong(format!("channel {me}: {on:?} comes inside {outer:?}"));
        }
        if let Some(lent) = self.lent.last() {
            self.wrong(format!("channel {me}: {on:?} comes while `with` has channel {lent}"));
        }
        let is_open = map.is_open(id);
        let chan = &self.channels[me];
        let same = chan.id == id;
        self.check(same, || format!("channel {me}: {on:?} comes under another's id {id}"));
        if on == Callback::Close {
            self.check(!is_open, || format!("channel {me}: handle_close while it is open"));
            return;
        }
        self.look(map, me);
        let life = self.channels[me].life;
        self.check(life == Life::Open, || format!("channel {me}: {on:?} comes when it is {life:?}"));
        self.check(is_open, || format!("channel {me}: {on:?} comes to a closed channel"));
        self.check_order(me, on);
        self.check_input(map, me, on);
        match on {
            Callback::Connect => {
                let told = std::mem::replace(&mut self.channels[me].told_connect, true);
                self.check(!told, || format!("channel {me}: handle_connect comes twice"));
                self.channels[me].connect_due = false;
                if self.channels[me].place.is_some() {
                    self.restart_clocks(map, me);
                }
                self.prepare(me);
                let load = self.load(map, me, id);
                let chan = &mut self.channels[me];
                if chan.high == Level::Yes && load <= chan.bounds.low {
                    // It has drained before it could be told so.
                    chan.high = Level::Unsure;
                }
            }
            Callback::Collect | Callback::Found | Callback::TooLong if self.channels[me].prepares => {
                self.prepare(me);
            }
            Callback::Eof => self.check_eof(me),
            Callback::Read => {
                let most = self.channels[me].bounds.read_budget.max(1);
                let turn = map.counters().turns;
                let chan = &mut self.channels[me];
                if chan.budget.turn == turn {
                    self.wrong(format!("channel {me}: handle_read comes twice in a turn"));
                } else {
                    chan.budget = Budget { turn, most, used: 0 };
                }
            }
            Callback::Write => {
                let wants = self.channels[me].wants.write.get();
                self.check(wants, || format!("channel {me}: handle_write without being asked for"));
            }
            Callback::Drained => {
                let high = std::mem::replace(&mut self.channels[me].high, Level::No);
                self.check(high != Level::No, || format!("channel {me}: handle_drained without a high mark"));
                let load = self.load(map, me, id);
                let low = self.channels[me].bounds.low;
                self.check(load <= low, || {
                    format!("channel {me}: handle_drained with {load} queued, over {low}")
                });
            }
            Callback::Shutdown => {
                let told = std::mem::replace(&mut self.channels[me].told_shutdown, true);
                self.check(!told, || format!("channel {me}: handle_shutdown comes twice"));
                let was = self.was_shut_down;
                self.check(was, || format!("channel {me}: handle_shutdown without a shutdown"));
            }
            Callback::Error => self.enter_error(map, me, id),
            _ => {}
        }
    }

    /// A chat is not read while its own output is high, from its first callback on.
    fn prepare(&mut self, me: usize) {
        let is_chat = self.is_chat(me);
        let chan = &mut self.channels[me];
        chan.prepares = false;
        if is_chat && !chan.couplings.contains(&me) {
            chan.couplings.push(me);
        }
    }

    fn check_order(&mut self, me: usize, on: Callback) {
        let chan = &self.channels[me];
        let connects = chan.place.is_some();
        let may_come_first = match on {
            Callback::Connect | Callback::Accepted => true,
            // While it is still connecting there is time to wait, and to fail.
            Callback::Error | Callback::Timer | Callback::Timeout | Callback::Done | Callback::Shutdown => {
                connects || chan.address.is_some()
            }
            _ => false,
        };
        let early = chan.connect_due && !may_come_first;
        self.check(!early, || format!("channel {me}: {on:?} comes before handle_connect"));
        let closes = self.channels[me].ending == Ending::WhenDone;
        if closes && matches!(on, Callback::Read | Callback::Found | Callback::Collect | Callback::TooLong) {
            self.wrong(format!("channel {me}: {on:?} comes after close_when_done"));
        }
        if closes && on == Callback::Shutdown {
            self.wrong(format!("channel {me}: {on:?} comes to a channel that closes"));
        }
    }

    fn check_input(&mut self, map: &Map<Self>, me: usize, on: Callback) {
        if !matches!(
            on,
            Callback::Read | Callback::Found | Callback::Collect | Callback::TooLong | Callback::Expt
        ) {
            return;
        }
        if matches!(on, Callback::Collect | Callback::TooLong) && self.has_all_input(map, me) {
            // What is left over when the input ends is told whatever is paused.
            return;
        }
        let chan = &self.channels[me];
        let (paused, wants) = (chan.paused, chan.wants.read.get());
        let reads = map.is_reading(chan.id);
        if reads {
            self.check(!paused, || format!("channel {me}: {on:?} comes while it is paused"));
            self.check(wants, || format!("channel {me}: {on:?} comes while it is not readable"));
            if matches!(on, Callback::Read | Callback::Found) {
                let held = self.is_held(map, me);
                self.check(held != Level::Yes, || {
                    format!("channel {me}: {on:?} comes while its output is high")
                });
            }
        } else {
            self.wrong(format!("channel {me}: {on:?} comes while it does not read"));
        }
        let told = self.channels[me].told_eof;
        self.check(!told, || format!("channel {me}: {on:?} comes after handle_eof"));
        let answers = self.channels[me].answering;
        self.check(!answers, || format!("channel {me}: {on:?} comes after close_when_answered"));
        let replaced = self.channels[me].next.is_some();
        self.check(!replaced, || format!("channel {me}: {on:?} comes to a replaced handler"));
    }

    fn check_eof(&mut self, me: usize) {
        let told = std::mem::replace(&mut self.channels[me].told_eof, true);
        self.check(!told, || format!("channel {me}: handle_eof comes twice"));
        let Some(peer) = self.channels[me].peer else { return };
        let ended = self.peers[peer].ended;
        self.check(ended, || format!("channel {me}: handle_eof, and peer {peer} has not ended"));
        if matches!(self.channels[me].plan.kind, Kind::Raw { .. }) {
            let (read, sent) = (self.channels[me].read, self.peers[peer].sent);
            self.check(read == sent, || format!("channel {me}: handle_eof after {read} of {sent} bytes"));
        }
    }

    fn enter_error(&mut self, map: &Map<Self>, me: usize, id: ChannelId) {
        let due = std::mem::replace(&mut self.channels[me].error_due, false);
        let broken = self.channels[me].out.broken();
        let chan = &self.channels[me];
        let connects = chan.connect_due && chan.place.is_some();
        let dial = match chan.place {
            Some(Place::Refusing) if connects => Some(CloseReason::Refused),
            // Lost before the map had heard that it was connected.
            Some(_) if connects && self.was_lost(me) => Some(CloseReason::Reset),
            _ => None,
        };
        let works = self.panicked_work(me);
        let causes = [broken.is_some(), dial.is_some(), works.is_some()];
        if due {
        } else if causes.into_iter().filter(|cause| *cause).count() > 1 {
            // Which of them it was shows in the reason alone.
            self.channels[me].is_unclear = true;
        } else if let Some(number) = works {
            self.seen.saw("work: panicked");
            self.job_is_over(number);
            self.channels[me].forced = Some(CloseReason::HandlerPanic);
        } else if broken == Some(SourceState::Panicked) {
            self.channels[me].forced = Some(CloseReason::HandlerPanic);
        } else if dial.is_some() {
            self.channels[me].forced = dial;
        } else if broken.is_none() {
            return self.wrong(format!("channel {me}: handle_error without an error"));
        }
        if broken == Some(SourceState::Failed) {
            let sent = map.get(id).map_or(0, Dispatcher::bytes_out);
            self.channels[me].out.drop_unsent(length(sent));
        }
        self.channels[me].erring = self.channels[me].forced.is_none();
    }

    /// A callback has come back.
    pub(crate) fn leave(&mut self, map: &Map<Self>, me: usize, on: Callback, how: Left) {
        self.learn_closed(map, Cause::Unknown);
        self.running = None;
        self.hand_over(map, me);
        let is_open = self.is_open(me);
        let chan = &mut self.channels[me];
        match (on, how) {
            (Callback::Accepted | Callback::Close, _) | (_, Left::Well) | (Callback::Error, Left::Failed) => {
            }
            (_, Left::Failed) => {
                self.seen.saw("error");
                chan.error_due = is_open;
            }
            (_, Left::Panicked) => {
                self.seen.saw("panic");
                if on != Callback::Error {
                    chan.error_due = is_open;
                }
                // The end of a connect has been told, whatever comes of that.
                chan.forced.get_or_insert(CloseReason::HandlerPanic);
            }
        }
        if on == Callback::Error && std::mem::take(&mut self.channels[me].erring) {
            let chan = &mut self.channels[me];
            chan.erred = chan.ending == Ending::WhenDone;
            if chan.life == Life::Closed && chan.cause == Cause::Local && !chan.erred {
                chan.cause = Cause::Exactly(CloseReason::HandlerError);
            }
        }
    }

    /// `handle_close` has come.
    pub(crate) fn told_close(&mut self, me: usize, reason: CloseReason) {
        self.note(|| format!("  channel {me}: closed for {reason:?}"));
        self.seen.saw(reason_name(reason));
        if let Some(earlier) = self.channels[me].reason {
            return self.wrong(format!("channel {me}: handle_close comes twice: {earlier:?}, {reason:?}"));
        }
        // The map may have closed it by itself since the last look.
        self.closed(me, Cause::Unknown);
        let life = self.channels[me].life;
        self.check(life == Life::Closed, || format!("channel {me}: handle_close when it is {life:?}"));
        let chan = &mut self.channels[me];
        chan.reason = Some(reason);
        chan.life = Life::Over;
        if chan.out.broken() == Some(SourceState::Panicked) {
            chan.forced.get_or_insert(CloseReason::HandlerPanic);
        }
        let (cause, forced) = (chan.cause, chan.forced);
        let fits = match (forced, cause) {
            _ if chan.is_unclear => true,
            (Some(forced), _) => reason == forced,
            (None, Cause::Exactly(exactly)) => reason == exactly,
            (None, Cause::Local) => match reason {
                CloseReason::Local => true,
                // It was to close when done for another reason first, both in `handle_error`.
                CloseReason::HandlerError => chan.erred,
                CloseReason::TimedOut(which) => chan.timed_out == Some(which),
                CloseReason::Eof => chan.ending == Ending::WhenDone && self.has_ended(me),
                CloseReason::ShutDown => self.was_shut_down,
                _ => false,
            },
            (None, Cause::Unknown) => self.explains(me, reason),
        };
        self.check(fits, || {
            format!("channel {me}: closed for {reason:?}, and not for {forced:?} or {cause:?}")
        });
    }

    /// Whether something outside the program's calls may have closed a channel so.
    fn explains(&self, me: usize, reason: CloseReason) -> bool {
        let now = self.now();
        let chan = &self.channels[me];
        let when_done = chan.ending == Ending::WhenDone || chan.answering;
        match reason {
            CloseReason::Local => when_done,
            CloseReason::Eof => self.has_ended(me),
            CloseReason::Reset => self.was_lost(me),
            CloseReason::TimedOut(Timeout::Drain) => when_done && now >= DRAIN_TIME,
            CloseReason::TimedOut(which) => chan.timed_out == Some(which),
            CloseReason::ShutDown => self.was_shut_down,
            CloseReason::HandlerPanic => chan.wants.panic.get(),
            CloseReason::TooLong => match (self.message_limit(me), self.next_message(me), chan.peer) {
                (Some(limit), Some((length, _)), _) => length > limit,
                (Some(limit), None, Some(peer)) => self.peers[peer].sent - chan.read > limit,
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether the connection may have been lost.
    fn was_lost(&self, me: usize) -> bool {
        self.resets || self.channels[me].peer.is_some_and(|peer| self.peers[peer].closed)
    }

    /// Whether the peer has ended, and all that it sent was received.
    fn has_all_input(&self, map: &Map<Self>, me: usize) -> bool {
        let Some(peer) = self.channels[me].peer else { return false };
        let received = map.get(self.channels[me].id).map_or(0, Dispatcher::bytes_in);
        self.peers[peer].ended && self.peers[peer].sent == length(received)
    }

    fn has_ended(&self, me: usize) -> bool {
        self.channels[me].peer.is_some_and(|peer| self.peers[peer].ended)
    }

    /// Bytes of a raw channel were received, by `handle_read` if `served`.
    pub(crate) fn received(&mut self, me: usize, bytes: &[u8], served: bool) {
        let Some(peer) = self.channels[me].peer else {
            return self.wrong(format!("channel {me} received from nobody"));
        };
        let from = self.channels[me].read;
        let to = from + bytes.len();
        self.channels[me].read = to;
        self.channels[me].back -= bytes.len().min(self.channels[me].back);
        let sent = self.peers[peer].sent;
        self.check(to <= sent, || format!("channel {me}: received {to} bytes of {sent}"));
        let expected = input(peer, from, to);
        self.check(expected == bytes, || {
            format!("channel {me}: received other bytes than were sent, from {from}")
        });
        if served {
            let budget = &mut self.channels[me].budget;
            budget.used += bytes.len();
            let (received, most) = (budget.used, budget.most);
            if received == most {
                self.seen.saw("read budget reached");
            }
            self.check(received <= most, || {
                format!("channel {me}: received {received} bytes in one turn, of {most}")
            });
        }
    }

    /// A chat's message was found.
    pub(crate) fn found(&mut self, me: usize, message: &[u8]) {
        self.channels[me].messages += 1;
        if std::mem::take(&mut self.channels[me].skipping) {
            match self.next_message(me) {
                Some((length, end)) => self.channels[me].read += length + end,
                None => self.wrong(format!("channel {me}: a message after one that has no end")),
            }
        }
        let gathered = std::mem::take(&mut self.channels[me].gathered);
        let Some((length, end)) = self.next_message(me) else {
            return self.wrong(format!("channel {me}: a message that nobody sent"));
        };
        let Some(peer) = self.channels[me].peer else { return };
        let from = self.channels[me].read;
        let expected = input(peer, from, from + length);
        let takes = matches!(self.channels[me].plan.kind, Kind::Chat { takes: true, .. });
        self.channels[me].read = from + length + end;
        self.check(gathered == expected, || {
            format!("channel {me}: pieces {}, sent {}", gathered.escape_ascii(), expected.escape_ascii())
        });
        let whole: &[u8] = if takes { b"" } else { &expected };
        self.check(message == whole, || {
            format!("channel {me}: message {}, sent {}", message.escape_ascii(), whole.escape_ascii())
        });
        if let Some(limit) = self.message_limit(me) {
            self.check(length <= limit, || {
                format!("channel {me}: a message of {length} bytes, over {limit}")
            });
        }
    }

    /// A chat's message is passed over.
    pub(crate) fn too_long(&mut self, me: usize) {
        if std::mem::replace(&mut self.channels[me].skipping, true) {
            match self.next_message(me) {
                Some((length, end)) => self.channels[me].read += length + end,
                None => self.wrong(format!("channel {me}: one message is too long twice")),
            }
        }
        self.channels[me].gathered.clear();
        let Some(peer) = self.channels[me].peer else { return };
        let begun = self.peers[peer].sent - self.channels[me].read;
        let length = self.next_message(me).map_or(begun, |(length, _)| length);
        let limit = self.message_limit(me).unwrap_or(usize::MAX);
        self.check(length > limit, || format!("channel {me}: {length} bytes are not more than {limit}"));
    }

    /// A chat's input has ended, with this rest.
    pub(crate) fn rest_of_input(&mut self, me: usize, rest: &[u8]) {
        let gathered = std::mem::take(&mut self.channels[me].gathered);
        if std::mem::take(&mut self.channels[me].skipping) {
            return;
        }
        let next = self.next_message(me);
        self.check(next.is_none(), || format!("channel {me}: handle_eof before the last message"));
        let Some(peer) = self.channels[me].peer else { return };
        let expected = input(peer, self.channels[me].read, self.peers[peer].sent);
        let takes = matches!(self.channels[me].plan.kind, Kind::Chat { takes: true, .. });
        let whole: &[u8] = if takes { &gathered } else { rest };
        self.channels[me].read = self.peers[peer].sent;
        self.check(whole == expected, || {
            format!("channel {me}: rest {}, sent {}", whole.escape_ascii(), expected.escape_ascii())
        });
    }

    /// A timer comes, of a channel or of the map: its place.
    pub(crate) fn timer_comes(&mut self, map: &Map<Self>, at: usize) {
        self.in_turn(map);
        let (turn, now) = self.turn;
        let timer = &mut self.timers[at];
        let (waits, due, period) = (timer.waits, timer.due, timer.period);
        let twice = std::mem::replace(&mut timer.came, turn) == turn;
        let set = std::mem::replace(&mut timer.set, turn);
        match period {
            None => timer.waits = false,
            // The next multiple of the period that is still to come.
            Some(period) => {
                let late = now.saturating_sub(due).as_nanos().checked_rem(period.as_nanos()).unwrap_or(0);
                timer.due = now + period - std::time::Duration::from_nanos(u64::try_from(late).unwrap_or(0));
            }
        }
        self.seen.saw(if period.is_some() { "interval" } else { "one-shot" });
        let (before, then) = self.turn_before;
        self.check(before <= set || then < due, || {
            format!("timer {at} was due at {due:?}, and comes at {now:?}")
        });
        self.check(waits, || format!("timer {at} comes and is over"));
        self.check(now >= due, || format!("timer {at} comes at {now:?}, before {due:?}"));
        self.check(!twice, || format!("timer {at} comes twice in a turn"));
    }

    /// The timer of a channel with this name.
    pub(crate) fn timer_of(&self, me: usize, id: TimerId) -> Option<usize> {
        self.timers.iter().position(|timer| timer.id == id && timer.channel == Some(me))
    }
}

/// How a callback came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    Well,
    Failed,
    Panicked,
}

fn name(on: Callback) -> &'static str {
    match on {
        Callback::Connect => "handle_connect",
        Callback::Accepted => "handle_accepted",
        Callback::Read => "handle_read",
        Callback::Write => "handle_write",
        Callback::Expt => "handle_expt",
        Callback::Collect => "collect_incoming_data",
        Callback::Found => "found_terminator",
        Callback::TooLong => "handle_too_long",
        Callback::Eof => "handle_eof",
        Callback::Drained => "handle_drained",
        Callback::Timer => "handle_timer",
        Callback::Timeout => "handle_timeout",
        Callback::Done => "blocking work is done",
        Callback::Shutdown => "handle_shutdown",
        Callback::Error => "handle_error",
        Callback::Close => "handle_close",
    }
}

fn reason_name(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Local => "closed: Local",
        CloseReason::Eof => "closed: Eof",
        CloseReason::Reset => "closed: Reset",
        CloseReason::Refused => "closed: Refused",
        CloseReason::TimedOut(Timeout::Drain) => "closed: TimedOut(Drain)",
        CloseReason::TimedOut(_) => "closed: TimedOut",
        CloseReason::TooLong => "closed: TooLong",
        CloseReason::OutputFull => "closed: OutputFull",
        CloseReason::HandlerError => "closed: HandlerError",
        CloseReason::HandlerPanic => "closed: HandlerPanic",
        CloseReason::ShutDown => "closed: ShutDown",
        _ => "closed: otherwise",
    }
}
