//! Calls that give a channel output, each with the answer that the model expects.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::rc::Rc;

use asyncore::{CloseReason, Dispatcher, Producer, Pushed, Result};
use bytes::Bytes;

use crate::act::{Here, Planned};
use crate::model::{Cause, Ending, Level, PRODUCER_LOAD, length};
use crate::queue::{Source, SourceState};
use crate::script::{Made, Who};

impl Here<'_> {
    /// What a push of so much is to answer; `None` when the map's cap decides.
    pub(crate) fn expected(&mut self, to: usize, load: usize) -> Option<Pushed> {
        self.app.learn_closed(self.map, Cause::Unknown);
        let id = self.app.channels[to].id;
        if !self.app.is_open(to) {
            return Some(Pushed::Gone);
        }
        if self.app.channels[to].ending != Ending::No || self.app.channels[to].address.is_some() {
            return Some(Pushed::Closing);
        }
        if self.app.load(self.map, to, id) + load > self.app.channels[to].bounds.output {
            return Some(Pushed::Full);
        }
        (self.map.queued() + load <= self.app.most_output).then_some(Pushed::Queued)
    }

    /// Compares an answer with what is expected, and follows what it means.
    pub(crate) fn answered(&mut self, to: usize, expected: Option<Pushed>, answer: Pushed) {
        self.app.seen.saw(match answer {
            Pushed::Queued => "pushed: Queued",
            Pushed::Full => "pushed: Full",
            Pushed::Closing => "pushed: Closing",
            _ => "pushed: Gone",
        });
        match expected {
            Some(expected) => {
                self.app.check(answer == expected, || {
                    format!("a push to channel {to} answers {answer:?}, not {expected:?}")
                });
                if answer == Pushed::Full && !self.app.channels[to].bounds.refuses {
                    self.app.closed(to, Cause::Exactly(CloseReason::OutputFull));
                }
            }
            None => {
                self.app.seen.saw("shed");
                self.app.was_shed = true;
                self.app.check(matches!(answer, Pushed::Queued | Pushed::Full), || {
                    format!("a push to channel {to} over the map's cap answers {answer:?}")
                });
                self.app.learn_closed(self.map, Cause::Exactly(CloseReason::OutputFull));
            }
        }
    }

    pub(crate) fn push(&mut self, to: usize, count: usize) {
        let data = self.app.bytes(count);
        let expected = self.expected(to, count);
        let id = self.app.channels[to].id;
        // Owned and borrowed bytes, small and large ones: they go different ways.
        let answer = if count.is_multiple_of(2) {
            self.map.push(id, &data)
        } else {
            self.map.push(id, Bytes::from(data.clone()))
        };
        self.answered(to, expected, answer);
        if answer.is_queued() {
            self.queued(to, &data);
        }
    }

    /// Bytes were queued.
    pub(crate) fn queued(&mut self, to: usize, data: &[u8]) {
        let id = self.app.channels[to].id;
        self.app.channels[to].out.push(data);
        self.app.channels[to].pushes += 1;
        let load = self.app.load(self.map, to, id);
        let chan = &mut self.app.channels[to];
        if chan.out.sources() > 0 {
            chan.high = Level::Unsure;
        } else if load > chan.bounds.high {
            chan.high = Level::Yes;
        }
    }

    pub(crate) fn broadcast(&mut self, whom: &[Who], count: usize) {
        let whom: Vec<usize> = whom.iter().filter_map(|who| self.who(*who)).collect();
        let data = self.app.bytes(count);
        let mut before = Vec::new();
        for to in &whom {
            let id = self.app.channels[*to].id;
            let expected = self.expected(*to, count);
            let times = whom.iter().filter(|other| *other == to).count();
            before.push((self.map.get(id).map(Dispatcher::queued), expected, times));
        }
        let shed_before = self.map.queued() + count * whom.len() > self.app.most_output;
        let ids: Vec<_> = whom.iter().map(|to| self.app.channels[*to].id).collect();
        let took = self.map.broadcast(&ids, data.clone());
        self.app.was_shed |= shed_before;
        if shed_before {
            self.app.learn_closed(self.map, Cause::Exactly(CloseReason::OutputFull));
        }
        let mut counted = 0;
        let mut unsure = false;
        let mut done = Vec::new();
        for (to, (queued, expected, times)) in whom.iter().copied().zip(before) {
            if done.contains(&to) {
                continue;
            }
            done.push(to);
            let Some(queued) = queued else { continue };
            let Some(dispatcher) = self.map.get(self.app.channels[to].id) else {
                let full = self.app.channels[to].bounds.refuses;
                self.app.check(!full || shed_before, || format!("channel {to} is closed by a broadcast"));
                self.app.closed(to, Cause::Exactly(CloseReason::OutputFull));
                unsure = true;
                self.app.was_shed = true;
                continue;
            };
            let copies = (dispatcher.queued() - queued).checked_div(count).unwrap_or(0);
            counted += copies;
            let fits = match expected {
                Some(Pushed::Queued) => (1..=times).contains(&copies),
                Some(_) => copies == 0,
                None => true,
            };
            self.app
                .check(fits || shed_before, || format!("a broadcast reaches channel {to} {copies} times"));
            for _ in 0..copies {
                self.queued(to, &data);
            }
        }
        self.app.check(took == counted || (unsure && took >= counted), || {
            format!("a broadcast says that {took} took it, and {counted} did")
        });
    }

    pub(crate) fn send(&mut self, to: usize, count: usize) {
        let data = self.app.bytes(count);
        let (id, chan) = (self.app.channels[to].id, &mut self.app.channels[to]);
        let sent = self.map.get(id).map_or(0, |dispatcher| length(dispatcher.bytes_out()));
        let overtakes = chan.out.queued(sent) > 0 || chan.out.sources() > 0;
        let may = chan.ending == Ending::No && !overtakes;
        match self.map.send(id, &data) {
            Ok(taken) => {
                self.app.check(taken == 0 || may, || format!("channel {to} sends past its queue"));
                self.app.channels[to].out.push(&data[..taken]);
                if taken > 0 {
                    self.app.seen.saw("sent");
                }
            }
            Err(error) => self.app.wrong(format!("send to channel {to} fails: {error}")),
        }
    }

    pub(crate) fn push_producer(&mut self, to: usize, plan: &[Made]) {
        let fresh = u32::try_from(self.app.channels.len()).unwrap_or(0) * 7;
        let source =
            Source { plan: VecDeque::from(plan.to_vec()), made: Vec::new(), state: SourceState::Goes, fresh };
        let source = Rc::new(RefCell::new(source));
        let expected = self.expected(to, PRODUCER_LOAD);
        let answer = self.map.push_with_producer(self.app.channels[to].id, Making(Rc::clone(&source)));
        self.answered(to, expected, answer);
        if answer.is_queued() {
            let chan = &mut self.app.channels[to];
            chan.out.push_source(source);
            chan.pushes += 1;
            chan.high = Level::Unsure;
        }
    }

    pub(crate) fn discard_output(&mut self, to: usize) {
        let id = self.app.channels[to].id;
        let sent = self.map.get(id).map_or(0, |dispatcher| length(dispatcher.bytes_out()));
        let expected = if self.app.is_open(to) { self.app.channels[to].out.queued(sent) } else { 0 };
        let dropped = self.map.discard_output(id);
        self.app.check(dropped == expected, || format!("channel {to} drops {dropped} bytes of {expected}"));
        if self.app.is_open(to) {
            self.app.channels[to].out.drop_unsent(sent);
        }
    }
}

/// A producer that follows its script, and shows what it made.
struct Making(Rc<RefCell<Source>>);

impl Producer for Making {
    fn more(&mut self, most: usize) -> Result<Option<Bytes>> {
        let mut source = self.0.borrow_mut();
        let made = source.plan.pop_front();
        source.state = match made {
            None => SourceState::Over,
            Some(Made::Nothing) => SourceState::Waits,
            Some(Made::Piece(_)) => SourceState::Goes,
            Some(Made::Fail) => SourceState::Failed,
            Some(Made::Panic) => SourceState::Panicked,
        };
        match made {
            None => Ok(None),
            Some(Made::Nothing) => Ok(Some(Bytes::new())),
            Some(Made::Fail) => Err("planned".into()),
            Some(Made::Panic) => {
                drop(source);
                resume_unwind(Box::new(Planned));
            }
            Some(Made::Piece(count)) => {
                // About as much as is asked for: sometimes more.
                let count = usize::from(count).min(most + 100);
                let piece: Vec<u8> = (0..count)
                    .map(|_| {
                        source.fresh = source.fresh.wrapping_add(1);
                        b'A' + u8::try_from(source.fresh % 23).unwrap_or(0)
                    })
                    .collect();
                source.made.extend(&piece);
                Ok(Some(Bytes::from(piece)))
            }
        }
    }
}
