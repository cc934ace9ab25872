//! The names in the room: one list for all threads, behind a lock that is held for a look or a change.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Who is in the room, whichever thread serves them.
#[derive(Default)]
pub(crate) struct Names(Mutex<List>);

#[derive(Default)]
struct List {
    /// How many have come so far.
    guests: u64,
    /// By the number under which each came.
    names: BTreeMap<u64, String>,
    /// The names in lower case. Invariant: as many as there are names, for no two are equal but for their case.
    taken: HashSet<String>,
}

impl Names {
    /// Gives a newcomer a number, and a name that nobody has.
    pub(crate) fn join(&self) -> (u64, String) {
        let mut list = self.lock();
        loop {
            list.guests += 1;
            let (number, name) = (list.guests, format!("guest{}", list.guests));
            if list.taken.insert(name.clone()) {
                list.names.insert(number, name.clone());
                return (number, name);
            }
        }
    }

    /// Gives a member another name, unless somebody else has it.
    pub(crate) fn rename(&self, number: u64, name: &str) -> bool {
        let mut list = self.lock();
        let old = list.names.get(&number).map(|old| old.to_lowercase()).unwrap_or_default();
        let new = name.to_lowercase();
        if new != old {
            if !list.taken.insert(new) {
                return false;
            }
            list.taken.remove(&old);
        }
        list.names.insert(number, name.to_owned());
        true
    }

    pub(crate) fn leave(&self, number: u64) {
        let mut list = self.lock();
        if let Some(name) = list.names.remove(&number) {
            list.taken.remove(&name.to_lowercase());
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().names.len()
    }

    /// How many there are, and the names of those who came first.
    pub(crate) fn list(&self, most: usize) -> (usize, Vec<String>) {
        let list = self.lock();
        (list.names.len(), list.names.values().take(most).cloned().collect())
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
