//! What must hold after every step, and what must not be left over when everything is at rest.

use asyncore::{Dispatcher, Map, State};

use crate::model::{Cause, Ending, Level, Life, Model, PeerSide, length};
use crate::script::{DRAIN_TIME, Kind, LINGER_TIME, Place};

impl Model {
    /// What holds after every step.
    pub(crate) fn check_step(&mut self, map: &Map<Self>) {
        self.learn_closed(map, Cause::Unknown);
        self.check(self.running.is_none() && self.lent.is_empty(), || {
            "a callback has not come back".to_owned()
        });
        let inside =
            self.channels.iter().filter(|chan| matches!(chan.life, Life::Open | Life::Closed)).count();
        self.check(map.len() == inside, || {
            format!("the map says {} channels, and {inside} are in it", map.len())
        });
        let mut queued = 0;
        for me in 0..self.channels.len() {
            queued += self.check_channel(map, me);
        }
        self.check(map.queued() == queued, || {
            format!("the map says {} bytes, and {queued} are queued", map.queued())
        });
        for peer in 0..self.peers.len() {
            self.check_delivered(peer);
        }
        let (counters, accepted) = (map.counters(), self.accepted);
        self.check(counters.accepted == accepted, || {
            format!("the map says {} accepted, and {accepted} were told", counters.accepted)
        });
        let pushes: u64 = self.channels.iter().map(|chan| chan.pushes).sum();
        self.check(counters.pushes == pushes || (self.was_shed && counters.pushes > pushes), || {
            format!("the map says {} pushes, and {pushes} were taken", counters.pushes)
        });
        let posts = self.posts.run + self.posts.pushed - self.posts.pushes;
        self.check(counters.posts == posts, || {
            format!("the map says {} posts, and it has come to {posts}", counters.posts)
        });
    }

    /// One channel: how much is queued for it.
    fn check_channel(&mut self, map: &Map<Self>, me: usize) -> usize {
        let (id, life) = (self.channels[me].id, self.channels[me].life);
        let Some(dispatcher) = map.get(id) else {
            self.check(life != Life::Open, || format!("channel {me} is open, and the map does not know it"));
            return 0;
        };
        self.check(life == Life::Open, || format!("the map has channel {me}, which is {life:?}"));
        let chan = &mut self.channels[me];
        let expected = chan.out.queued(length(dispatcher.bytes_out()));
        let (forced, errs) = (chan.forced, chan.error_due);
        let queued = dispatcher.queued();
        self.look(map, me);
        self.check(queued == expected, || {
            format!("channel {me} has {queued} bytes queued, and {expected} were pushed")
        });
        if let Some(counters) = map.channel_counters(id) {
            let chan = &self.channels[me];
            let (pushes, messages) = (chan.pushes, chan.messages);
            self.check(counters.pushes == pushes && counters.messages == messages, || {
                format!("channel {me} has taken {pushes} pushes and {messages} messages: {counters:?}")
            });
        }
        self.check(forced.is_none(), || format!("channel {me} is open after {forced:?}"));
        self.check(!errs, || format!("channel {me} has not heard of its error"));
        if matches!(self.channels[me].plan.kind, Kind::Raw { .. })
            && self.channels[me].ending != Ending::WhenDone
        {
            let read = self.channels[me].read + self.channels[me].back;
            let received = length(dispatcher.bytes_in());
            self.check(read == received, || format!("channel {me}: {received} bytes received, {read} given"));
        }
        expected
    }

    /// What a peer has received is what was pushed, from the first byte on.
    fn check_delivered(&mut self, peer: usize) {
        let side = &mut self.peers[peer];
        if side.orphan {
            return;
        }
        let taken = side.peer.take_received();
        let Some(me) = side.channel else {
            return self.check(taken.is_empty(), || format!("peer {peer} hears from nobody"));
        };
        if taken.is_empty() {
            return;
        }
        let chan = &mut self.channels[me];
        let from = chan.delivered;
        chan.delivered += taken.len();
        let to = chan.delivered;
        let stream = chan.out.stream();
        let fits = stream.get(from..to) == Some(&taken[..]);
        let of = stream.len();
        self.check(fits, || {
            format!("peer {peer} received other bytes than channel {me} pushed, {from}..{to} of {of}")
        });
    }

    /// What is left over at rest; the network holds `buffer` bytes of one direction.
    pub(crate) fn check_rest(&mut self, map: &Map<Self>, buffer: usize) {
        self.seen.saw("rest");
        let now = self.now();
        let waiting = self.posts.waiting();
        self.check(waiting == 0, || format!("{waiting} posts wait at rest"));
        let late = self.timers.iter().position(|timer| {
            timer.waits && timer.due < now && timer.period.is_none_or(|period| !period.is_zero())
        });
        self.check(late.is_none(), || format!("timer {late:?} is due at rest"));
        let over = self.channels.iter().filter(|chan| chan.reason.is_some()).count() as u64;
        let closed = map.counters().closed;
        self.check(closed == over, || format!("the map says {closed} closed, and {over} heard of it"));
        for me in 0..self.channels.len() {
            let life = self.channels[me].life;
            self.check(life != Life::Closed, || format!("channel {me} is closed, and has not heard of it"));
            if life == Life::Open {
                self.check_channel_at_rest(map, me, buffer);
            }
        }
        for peer in 0..self.peers.len() {
            self.check_waiting(map, peer);
            self.check_all_delivered(peer);
        }
        if let Some((from, to)) = self.shutdown
            && to < now
        {
            // What was added later is told of it, and not bound by its deadline.
            let late =
                (0..self.channels.len()).find(|me| self.is_open(*me) && self.channels[*me].added_at < from);
            self.check(late.is_none(), || format!("channel {late:?} has outlived the shutdown"));
        }
    }

    fn check_channel_at_rest(&mut self, map: &Map<Self>, me: usize, buffer: usize) {
        let Some(dispatcher) = map.get(self.channels[me].id) else { return };
        let now = self.now();
        let state = dispatcher.state();
        let chan = &self.channels[me];
        if let Some(place) = chan.place
            && state == State::Connecting
        {
            self.check(place == Place::Silent, || format!("channel {me} still connects to {place:?}"));
            return self.check_clocks(me, true);
        }
        if chan.address.is_some() {
            return;
        }
        self.check_clocks(me, false);
        let chan = &self.channels[me];
        let due = chan.connect_due;
        self.check(!due, || format!("channel {me} has not heard handle_connect"));
        let told = self.channels[me].told_shutdown || self.channels[me].ending == Ending::WhenDone;
        let shuts_down = self.shutdown.is_some();
        self.check(told || !shuts_down, || format!("channel {me} has not heard handle_shutdown"));
        let chan = &self.channels[me];
        let is_asked = !chan.paused && !chan.told_eof && chan.ending != Ending::WhenDone;
        if chan.wants.panic.get() && is_asked && self.is_held(map, me) == Level::No {
            self.wrong(format!("channel {me} is open, and its predicate panics"));
        }
        let works = self.awaited_work(me);
        self.check(works.is_none(), || format!("channel {me} waits for the work {works:?}"));
        self.check_mark(map, me, state);
        self.check_output(dispatcher, me, buffer);
        self.check_reset(me, state);
        self.check_reading(map, me, state);
        let over = state == State::WriteClosed && self.channels[me].told_eof;
        self.check(!over, || format!("channel {me} is open, and both its sides are over"));
        let moved = dispatcher.bytes_out();
        let chan = &mut self.channels[me];
        let (since, most) = match state {
            State::Lingering => {
                self.seen.saw("rest: lingering");
                (*chan.lingers_since.get_or_insert(now), LINGER_TIME)
            }
            State::Draining => {
                self.seen.saw("rest: draining");
                if chan.drains_since.is_none_or(|(_, before)| before != moved) {
                    chan.drains_since = Some((now, moved));
                }
                // Looked at each time it is over, and given another if something has moved before.
                (chan.drains_since.map_or(now, |(since, _)| since), DRAIN_TIME * 2)
            }
            _ => return,
        };
        self.check(now - since <= most, || format!("channel {me} is {state} since {since:?}"));
    }

    /// Output that has drained is said to have.
    fn check_mark(&mut self, map: &Map<Self>, me: usize, state: State) {
        let load = self.load(map, me, self.channels[me].id);
        let chan = &mut self.channels[me];
        let low = chan.bounds.low;
        let sure = chan.high == Level::Yes && (!chan.bounds_changed || load == 0);
        if chan.high == Level::Unsure && load == 0 {
            chan.high = Level::No;
        }
        let open = matches!(state, State::Open | State::PeerClosed | State::Finishing | State::WriteClosed);
        self.check(!(sure && open && load <= low), || {
            format!("channel {me} has not heard handle_drained, with {load} queued")
        });
    }

    /// What can be sent is sent, and what ends when it is sent has ended.
    fn check_output(&mut self, dispatcher: &Dispatcher, me: usize, buffer: usize) {
        let state = dispatcher.state();
        let chan = &mut self.channels[me];
        let queued = chan.out.queued(length(dispatcher.bytes_out()));
        let unasked = chan.out.sources() > 0 && !chan.out.waits();
        // A peer that closes sends all that it has first.
        let is_gone = |side: &PeerSide| side.peer.is_reset() || (side.closed && side.peer.unsent() == 0);
        let lost = chan.peer.is_some_and(|peer| is_gone(&self.peers[peer]));
        if queued == 0 && !unasked {
            let waits = self.channels[me].out.waits();
            let ends = matches!(state, State::Draining | State::Finishing) && !waits;
            self.check(!ends, || format!("channel {me} is {state}, and all is sent"));
            return;
        }
        let Some(peer) = self.channels[me].peer else { return };
        let behind = self.channels[me].out.waits();
        let unread = self.peers[peer].peer.unread();
        let stopped = !self.peers[peer].reads && unread >= buffer;
        if stopped {
            self.seen.saw("rest: a full network");
        }
        // A producer may stand first, with nothing to send before it.
        let sendable = !behind || self.channels[me].out.stream().len() > length(dispatcher.bytes_out());
        self.check(stopped || lost || !sendable, || {
            format!("channel {me} has {queued} bytes queued, and its peer reads (it has {unread} unread)")
        });
        self.check(!lost || self.resets || !sendable, || {
            format!("channel {me} has {queued} bytes queued for a peer that is gone")
        });
    }

    /// A reset is heard, also by who does not read.
    fn check_reset(&mut self, me: usize, state: State) {
        let Some(peer) = self.channels[me].peer else { return };
        let side = &self.peers[peer];
        // With both sides over, a channel that does not read has left the poller.
        let unheard = side.ended && matches!(state, State::WriteClosed | State::Finishing);
        let lost = side.reset && !self.resets && !unheard;
        self.check(!lost, || format!("channel {me} is {state}, and its connection is reset"));
    }

    /// What can be read is read.
    fn check_reading(&mut self, map: &Map<Self>, me: usize, state: State) {
        let held = self.is_held(map, me);
        let chan = &self.channels[me];
        let Some(peer) = chan.peer else { return };
        let open = matches!(state, State::Open | State::Finishing | State::WriteClosed);
        if !open || chan.answering || chan.paused || !chan.wants.read.get() || held != Level::No {
            if open && chan.paused {
                self.seen.saw("rest: paused");
            }
            if open && held == Level::Yes {
                self.seen.saw("rest: held");
            }
            return;
        }
        let side = &self.peers[peer];
        let (sent, ended, unsent) = (side.sent, side.ended, side.peer.unsent());
        if side.reset || side.peer.is_reset() {
            return;
        }
        let (read, back, told_eof) = (chan.read, chan.back, chan.told_eof);
        let is_chat = matches!(chan.plan.kind, Kind::Chat { .. });
        let received = map.get(chan.id).map_or(0, |dispatcher| length(dispatcher.bytes_in()));
        self.check(unsent == 0 && received == sent, || {
            format!("channel {me} reads, and has {received} of {sent} bytes")
        });
        self.check(is_chat || back == 0, || {
            format!("channel {me} reads, and {back} bytes that were put back wait")
        });
        self.check(told_eof || !ended, || format!("channel {me} has not heard handle_eof"));
        if is_chat && !told_eof && !self.channels[me].skipping {
            let next = self.next_message(me);
            self.check(next.is_none(), || {
                format!("channel {me} reads, and keeps a message back, from {read}")
            });
        }
    }

    /// Nobody waits for a listener that accepts.
    fn check_waiting(&mut self, map: &Map<Self>, peer: usize) {
        let side = &self.peers[peer];
        let Some((address, _)) = &side.dialled else { return };
        if side.was_accepted || side.closed {
            return;
        }
        let waits = side.peer.is_connected() && !side.peer.is_eof() && !side.peer.is_reset();
        let door = self.channels.iter().position(|chan| chan.address.as_ref() == Some(address));
        let Some(door) = door.filter(|door| waits && self.is_open(*door)) else { return };
        let held = self.is_held(map, door) != Level::No;
        if self.channels[door].paused || held || map.len() >= self.connections {
            self.seen.saw("rest: waits for a listener");
            return;
        }
        let counters = map.counters();
        self.wrong(format!("peer {peer} waits for listener {door}, which accepts ({counters:?})"));
    }

    /// What the socket took has come to a peer that is still there; after a close in good order that is all.
    fn check_all_delivered(&mut self, peer: usize) {
        let side = &self.peers[peer];
        let Some(me) = side.channel.filter(|_| !side.closed && !self.resets) else { return };
        let (unread, life) = (side.peer.unread(), self.channels[me].life);
        let chan = &mut self.channels[me];
        let good = chan.ending == Ending::WhenDone
            && chan.forced.is_none()
            && chan.cause == Cause::Unknown
            && matches!(chan.reason, Some(asyncore::CloseReason::Local | asyncore::CloseReason::Eof));
        if life == Life::Over && good && chan.told_connect {
            let (all, here) = (chan.out.stream().len(), chan.delivered + unread);
            let more = chan.out.sources();
            self.seen.saw("rest: delivered in good order");
            self.check(all == here && more == 0, || {
                format!(
                    "channel {me} has closed in good order, and {here} of {all} bytes have come to its peer"
                )
            });
        }
    }
}
