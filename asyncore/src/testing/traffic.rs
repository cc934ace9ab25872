//! What is under way between the ends of a network, and what becomes of it where it arrives.

use std::io;
use std::net::Shutdown;
use std::time::Duration;

use super::network::Wires;
use super::wire::{EndId, Flight, Load, Role, Then};
use crate::Address;

impl Wires {
    /// Sends something on its way, behind what the same end is still waiting for.
    pub(super) fn send_off(&mut self, from: EndId, load: Load) {
        let mut at = self.now + self.delay();
        if let Load::Connected(to)
        | Load::Refused(to)
        | Load::Bytes(to, _)
        | Load::Urgent(to, _)
        | Load::End(to)
        | Load::Reset(to) = &load
            && let Some(wire) = self.ends.get_mut(to)
        {
            at = at.max(wire.last_arrival);
            wire.last_arrival = at;
        }
        // What is due already, because a callback took its time, arrives first.
        let is_next = self.flights.first_key_value().is_none_or(|((first, _), _)| *first > self.now);
        if at <= self.now && is_next {
            return self.arrive(Flight { from, load });
        }
        self.sent += 1;
        self.flights.insert((at, self.sent), Flight { from, load });
    }

    /// Everything arrives that is due.
    pub(super) fn deliver(&mut self) {
        self.pump();
        while let Some(first) = self.flights.first_entry()
            && first.key().0 <= self.now
        {
            let flight = first.remove();
            self.arrive(flight);
        }
        self.pump();
    }

    fn arrive(&mut self, Flight { from, load }: Flight) {
        match load {
            Load::Dial(address) | Load::DialAgain(address) => self.answer(from, &address),
            Load::Connected(to) => {
                if let Some(wire) = self.ends.get_mut(&to).filter(|wire| !wire.lost) {
                    wire.role = Role::Connected;
                }
            }
            Load::Refused(to) => {
                if let Some(wire) = self.ends.get_mut(&to) {
                    wire.lose(io::ErrorKind::ConnectionRefused);
                }
            }
            Load::Bytes(to, bytes) => match self.ends.get_mut(&to) {
                Some(wire) if !wire.closed => {
                    wire.coming -= bytes.len();
                    match &mut wire.script {
                        Some(script) if script.reads => script.received.extend(bytes),
                        _ if wire.lost => {}
                        _ => wire.inbox.extend(bytes),
                    }
                }
                // Nobody is there to take them.
                _ => self.send_off(to, Load::Reset(from)),
            },
            Load::Urgent(to, byte) => {
                if let Some(wire) = self.ends.get_mut(&to) {
                    wire.urgent = Some(byte);
                }
            }
            Load::End(to) => {
                if let Some(wire) = self.ends.get_mut(&to) {
                    wire.ended = true;
                }
            }
            Load::Reset(to) => {
                if let Some(wire) = self.ends.get_mut(&to).filter(|wire| !wire.lost) {
                    wire.lose(io::ErrorKind::ConnectionReset);
                }
            }
        }
    }

    /// Somebody wants to connect to `address`.
    fn answer(&mut self, from: EndId, address: &Address) {
        // Who has closed meanwhile does not connect any more.
        if self.silent.contains(address) || self.ends.get(&from).is_none_or(|wire| wire.closed) {
            return;
        }
        let listener = self.ends.iter().find_map(|(id, wire)| {
            (wire.local.as_ref() == Some(address) && matches!(wire.role, Role::Listening(..))).then_some(*id)
        });
        let Some(listener) = listener.filter(|_| !self.refusing.contains(address)) else {
            return self.send_off(from, Load::Refused(from));
        };
        let there = self.add(Role::Connected);
        match self.ends.get_mut(&listener).map(|wire| &mut wire.role) {
            // Linux holds one more than was asked for.
            Some(Role::Listening(queue, backlog)) if queue.len() <= *backlog => queue.push_back(there),
            _ => {
                // As the system does: the question is dropped, and asked again.
                self.ends.remove(&there);
                self.sent += 1;
                let flight = Flight { from, load: Load::DialAgain(address.clone()) };
                self.flights.insert((self.now + DIAL_AGAIN, self.sent), flight);
                return;
            }
        }
        self.join(from, there, address);
        self.send_off(there, Load::Connected(from));
    }

    pub(super) fn carry(&mut self, from: EndId, to: EndId, bytes: Vec<u8>) {
        if let Some(wire) = self.ends.get_mut(&to) {
            wire.coming += bytes.len();
        }
        self.send_off(from, Load::Bytes(to, bytes));
    }

    /// The scripted ends send what there is room for.
    pub(super) fn pump(&mut self) {
        for id in std::mem::take(&mut self.senders) {
            let Some(wire) = self.ends.get(&id) else { continue };
            let Some(script) = &wire.script else { continue };
            let waits = matches!(wire.role, Role::Connecting);
            let (then, length) = (script.then, script.outgoing.len());
            if waits && !(then == Then::Close && length == 0) {
                self.senders.insert(id);
                continue;
            }
            let Some(other) = wire.other.filter(|_| !wire.lost && !wire.finished) else {
                // Whatever it wanted to say, nobody hears it.
                if let Some(script) = self.ends.get_mut(&id).and_then(|wire| wire.script.as_mut()) {
                    script.outgoing.clear();
                }
                if then == Then::Close {
                    self.close(id);
                }
                continue;
            };
            let sending = self.room(wire).min(length);
            if sending > 0
                && let Some(script) = self.ends.get_mut(&id).and_then(|wire| wire.script.as_mut())
            {
                let bytes = script.outgoing.drain(..sending).collect();
                self.carry(id, other, bytes);
            }
            match then {
                _ if sending < length => {
                    self.senders.insert(id);
                }
                Then::GoOn => {}
                // The connection may be lost by now, and has ended then too.
                Then::Finish => drop(self.shutdown(id, Shutdown::Write)),
                Then::Close => self.close(id),
            }
        }
    }
}

/// When a connect is tried again that found the listener's queue full: after 1 s, the usual SYN retry.
const DIAL_AGAIN: Duration = Duration::from_secs(1);
