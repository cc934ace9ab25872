//! What was pushed to a channel, in order, and what producers have made of it so far.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::script::Made;

/// What was queued for a channel, in order.
#[derive(Default)]
pub(crate) struct Out {
    /// All that is before the first producer: sent or not.
    stream: Vec<u8>,
    behind: VecDeque<Segment>,
}

enum Segment {
    Bytes(Vec<u8>),
    Source(Rc<RefCell<Source>>),
}

/// A producer's script, and what it has made.
pub(crate) struct Source {
    pub(crate) plan: VecDeque<Made>,
    pub(crate) made: Vec<u8>,
    pub(crate) state: SourceState,
    pub(crate) fresh: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceState {
    Goes,
    Waits,
    Over,
    Failed,
    Panicked,
}

impl Out {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.absorb();
        match self.behind.back_mut() {
            None => self.stream.extend(bytes),
            Some(Segment::Bytes(last)) => last.extend(bytes),
            Some(Segment::Source(_)) => self.behind.push_back(Segment::Bytes(bytes.to_vec())),
        }
    }

    pub(crate) fn push_source(&mut self, source: Rc<RefCell<Source>>) {
        self.behind.push_back(Segment::Source(source));
    }

    /// Takes over what producers have made.
    fn absorb(&mut self) {
        while let Some(first) = self.behind.front_mut() {
            match first {
                Segment::Bytes(bytes) => self.stream.append(bytes),
                Segment::Source(source) => {
                    let mut source = source.borrow_mut();
                    self.stream.append(&mut source.made);
                    if source.state != SourceState::Over {
                        return;
                    }
                }
            }
            self.behind.pop_front();
        }
    }

    /// All that is known to go out, sent or not, before the first producer that is not over.
    pub(crate) fn stream(&mut self) -> &[u8] {
        self.absorb();
        &self.stream
    }

    /// Bytes queued, when `sent` have gone.
    pub(crate) fn queued(&mut self, sent: usize) -> usize {
        self.absorb();
        let behind: usize = self
            .behind
            .iter()
            .map(|segment| match segment {
                Segment::Bytes(bytes) => bytes.len(),
                Segment::Source(source) => source.borrow().made.len(),
            })
            .sum();
        (self.stream.len() + behind).saturating_sub(sent)
    }

    /// Producers that are not over.
    pub(crate) fn sources(&mut self) -> usize {
        self.absorb();
        self.behind.iter().filter(|segment| matches!(segment, Segment::Source(_))).count()
    }

    /// The producer that stands first, if it has nothing for now.
    pub(crate) fn waits(&mut self) -> bool {
        self.absorb();
        matches!(self.behind.front(), Some(Segment::Source(source)) if source.borrow().state == SourceState::Waits)
    }

    /// Whether a producer has failed or panicked.
    pub(crate) fn broken(&self) -> Option<SourceState> {
        self.behind.iter().find_map(|segment| match segment {
            Segment::Source(source) => {
                let state = source.borrow().state;
                matches!(state, SourceState::Failed | SourceState::Panicked).then_some(state)
            }
            Segment::Bytes(_) => None,
        })
    }

    /// What was not sent is dropped.
    pub(crate) fn drop_unsent(&mut self, sent: usize) {
        self.absorb();
        self.behind.clear();
        self.stream.truncate(sent);
    }
}
