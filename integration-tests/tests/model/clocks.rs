//! Timeouts and rate limits: when a clock may run out and when it must have, and how much may have moved.

use std::time::Duration;

use asyncore::{Dispatcher, Map, Rate, Timeout};

use crate::model::{Ending, Life, Model};
use crate::script::{Clock, Direction};

/// A clock of a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    which: Timeout,
    time: Duration,
    /// It was set, or ran out, or the channel was connected: in a turn that began then, and not after `latest`.
    since: Duration,
    latest: Duration,
}

/// When bytes moved last: not before `earliest`, and not after `latest`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moved {
    bytes: u64,
    looked: Duration,
    earliest: Duration,
    latest: Duration,
}

/// A rate limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limited {
    direction: Direction,
    rate: Rate,
    since: Duration,
    /// What had moved then.
    from: u64,
}

impl Moved {
    fn look(&mut self, bytes: u64, turn: Duration, now: Duration) {
        if bytes != self.bytes {
            self.bytes = bytes;
            self.earliest = self.looked;
            self.latest = now;
        }
        self.looked = turn;
    }
}

impl Model {
    /// Looks at what has moved for a channel, and whether that is too much.
    pub(crate) fn look(&mut self, map: &Map<Self>, me: usize) {
        let (now, turn) = (self.now(), self.turn_time());
        let Some(dispatcher) = map.get(self.channels[me].id) else { return };
        let chan = &mut self.channels[me];
        // What moves in a turn is marked with the turn's time.
        chan.input.look(dispatcher.bytes_in(), turn, now);
        chan.output.look(dispatcher.bytes_out(), turn, now);
        if chan.ending == Ending::WhenDone {
            return;
        }
        for limited in self.channels[me].rates.clone() {
            let moved = match limited.direction {
                Direction::Reads => dispatcher.bytes_in(),
                Direction::Writes => dispatcher.bytes_out(),
            } - limited.from;
            let passed = now - limited.since;
            let may = u128::from(limited.rate.bytes)
                + (u128::from(limited.rate.bytes) * passed.as_nanos())
                    .div_ceil(limited.rate.per.as_nanos().max(1))
                + 1;
            self.check(u128::from(moved) <= may, || {
                format!("channel {me}: {moved} bytes moved in {passed:?}, over {limited:?}")
            });
            if u128::from(moved) + 1 >= u128::from(limited.rate.bytes) {
                self.seen.saw("rate reached");
            }
        }
    }

    /// A channel was added or connected: its clocks and rates start anew.
    pub(crate) fn restart_clocks(&mut self, map: &Map<Self>, me: usize) {
        let (since, latest) = (self.turn_time(), self.now());
        for clock in &mut self.channels[me].clocks {
            (clock.since, clock.latest) = (since, latest);
        }
        let Some(dispatcher) = map.get(self.channels[me].id) else { return };
        for limited in &mut self.channels[me].rates {
            limited.since = since;
            limited.from = moved(dispatcher, limited.direction);
        }
    }

    pub(crate) fn set_timeout(&mut self, map: &mut Map<Self>, me: usize, clock: Clock, time: Option<u16>) {
        if self.channels[me].address.is_some() {
            return;
        }
        let time = time.map(|time| Duration::from_millis(u64::from(time)));
        let id = self.channels[me].id;
        let (which, set) = match clock {
            Clock::Rate(bytes) => {
                let rate = time.map(|per| Rate { bytes: u64::from(bytes), per });
                (Timeout::Rate, map.set_min_rate(id, rate))
            }
            clock => {
                let which = match clock {
                    Clock::Connect => Timeout::Connect,
                    Clock::Idle => Timeout::Idle,
                    Clock::Read => Timeout::Read,
                    Clock::Write => Timeout::Write,
                    Clock::Total | Clock::Rate(_) => Timeout::Total,
                };
                (which, map.set_timeout(id, which, time))
            }
        };
        let open = self.is_open(me);
        self.check(set == open, || format!("set_timeout of channel {me} answers {set}"));
        if set {
            let (since, latest) = (self.turn_time(), self.now());
            let clocks = &mut self.channels[me].clocks;
            clocks.retain(|clock| clock.which != which);
            clocks.extend(time.map(|time| Running { which, time, since, latest }));
        }
    }

    pub(crate) fn set_rate(
        &mut self,
        map: &mut Map<Self>,
        me: usize,
        direction: Direction,
        rate: Option<(u16, u16)>,
    ) {
        if self.channels[me].address.is_some() {
            return;
        }
        let per = |per: u16| Duration::from_millis(u64::from(per));
        let rate = rate.map(|(bytes, time)| Rate { bytes: u64::from(bytes), per: per(time) });
        let id = self.channels[me].id;
        let set = match direction {
            Direction::Reads => map.set_read_rate(id, rate),
            Direction::Writes => map.set_write_rate(id, rate),
        };
        let open = self.is_open(me);
        self.check(set == open, || format!("a rate of channel {me} answers {set}"));
        let since = self.turn_time();
        let Some(dispatcher) = map.get(id) else { return };
        let from = moved(dispatcher, direction);
        let rates = &mut self.channels[me].rates;
        rates.retain(|limited| limited.direction != direction);
        rates.extend(rate.map(|rate| Limited { direction, rate, since, from }));
    }

    /// `handle_timeout` comes.
    pub(crate) fn times_out(&mut self, map: &Map<Self>, me: usize, which: Timeout) {
        self.look(map, me);
        let now = self.now();
        self.seen.saw(match which {
            Timeout::Connect => "timeout: Connect",
            Timeout::Idle => "timeout: Idle",
            Timeout::Read => "timeout: Read",
            Timeout::Write => "timeout: Write",
            Timeout::Total => "timeout: Total",
            _ => "timeout: Rate",
        });
        let chan = &self.channels[me];
        let (connects, queued) = (chan.connect_due, map.get(chan.id).map_or(0, Dispatcher::queued));
        let Some(clock) = chan.clocks.iter().find(|clock| clock.which == which).copied() else {
            return self.wrong(format!("channel {me}: a timeout that was not set: {which:?}"));
        };
        let (input, output) = (chan.input.earliest, chan.output.earliest);
        let since = match which {
            Timeout::Idle => input.max(output),
            Timeout::Read => input,
            Timeout::Write => output,
            _ => Duration::ZERO,
        };
        let from = clock.since.max(since);
        self.check(now >= from + clock.time, || {
            format!("channel {me}: {which:?} of {:?} is over at {now:?}, from {from:?}", clock.time)
        });
        let fits = match which {
            Timeout::Connect => connects,
            Timeout::Write => queued > 0,
            _ => true,
        };
        self.check(fits, || format!("channel {me}: {which:?} is over in another state"));
        // It starts again.
        let (since, latest) = (self.turn_time(), self.now());
        for clock in self.channels[me].clocks.iter_mut().filter(|clock| clock.which == which) {
            (clock.since, clock.latest) = (since, latest);
        }
        self.channels[me].timed_out = Some(which);
    }

    /// A clock that has run out long since, at rest.
    pub(crate) fn check_clocks(&mut self, me: usize, connects: bool) {
        let now = self.now();
        let chan = &self.channels[me];
        if chan.life != Life::Open || chan.ending == Ending::WhenDone {
            return;
        }
        for clock in chan.clocks.clone() {
            let from = match clock.which {
                Timeout::Connect if connects => clock.latest,
                Timeout::Total if !connects => clock.latest,
                Timeout::Idle if !connects => {
                    let chan = &self.channels[me];
                    clock.latest.max(chan.input.latest).max(chan.output.latest)
                }
                _ => continue,
            };
            // Times are rounded up, to a millisecond at least.
            let over = from + clock.time + Duration::from_millis(2);
            self.check(now <= over, || format!("channel {me}: {clock:?} was over at {over:?}"));
        }
    }

    /// A callback took its time: what moves or is set in a turn counts from its end at the latest.
    pub(crate) fn put_forward(&mut self) {
        let (turn, now) = (self.turn_time(), self.now());
        for chan in &mut self.channels {
            let moved = [&mut chan.input.latest, &mut chan.output.latest];
            let set = chan.clocks.iter_mut().map(|clock| &mut clock.latest);
            for latest in moved.into_iter().chain(set).filter(|latest| **latest >= turn) {
                *latest = now;
            }
        }
    }

    /// When the turn that is under way began; between turns, now.
    pub(crate) fn turn_time(&self) -> Duration {
        if self.in_loop { self.turn.1 } else { self.now() }
    }

    /// Something happens in a turn: notes when the turn began.
    pub(crate) fn in_turn(&mut self, map: &Map<Self>) {
        let turn = map.counters().turns;
        if self.turn.0 != turn {
            self.turn_before = self.turn;
            self.turn = (turn, self.now());
        }
    }
}

fn moved(dispatcher: &Dispatcher, direction: Direction) -> u64 {
    match direction {
        Direction::Reads => dispatcher.bytes_in(),
        Direction::Writes => dispatcher.bytes_out(),
    }
}
