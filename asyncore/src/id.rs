//! [`ChannelId`]: a channel's name in its map, and its packed form for the poller.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};

/// The name of one channel in one map: a slot and the slot's generation.
///
/// A slot is used again after its channel is gone, an id is not: what still holds the id of a closed channel finds
/// nothing, never a newer channel in the same place. Ids of one map mean nothing to another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(
    /// The generation above 32 bits of slot: in one word, ids are compared at once.
    NonZeroU64,
);

impl ChannelId {
    pub(crate) const fn new(slot: u32, generation: NonZeroU32) -> Self {
        // A generation is not zero, so neither is what has it in its upper half.
        match NonZeroU64::new((generation.get() as u64) << 32 | slot as u64) {
            Some(id) => Self(id),
            None => Self(NonZeroU64::MAX),
        }
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    pub(crate) const fn slot(self) -> usize {
        self.0.get() as u32 as usize
    }

    /// The upper half; never zero.
    #[inline]
    pub(crate) const fn generation(self) -> u32 {
        (self.0.get() >> 32) as u32
    }

    /// The poller's name for this channel: the slot below, as much of the generation as fits above.
    ///
    /// ```text
    /// 64-bit:  | generation: 32 | slot: 32 |      32-bit:  | generation: 12 | slot: 20 |
    /// ```
    ///
    /// Stale events live only within one batch, so the truncated generation of a 32-bit system still tells the
    /// channels of one batch apart.
    pub(crate) const fn key(self) -> usize {
        self.slot() | (self.generation() as usize) << SLOT_BITS
    }

    /// The slot that a key speaks of.
    pub(crate) const fn slot_of(key: usize) -> usize {
        key & MAX_SLOTS
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot(), self.generation())
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelId({self})")
    }
}

const SLOT_BITS: u32 = if usize::BITS >= 64 { 32 } else { 20 };

/// Slots are numbered below this, so that no key is `usize::MAX`, which the poller keeps for itself.
pub(crate) const MAX_SLOTS: usize = (1 << SLOT_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32, generation: u32) -> ChannelId {
        ChannelId::new(slot, NonZeroU32::new(generation).unwrap())
    }

    #[test]
    fn a_key_names_slot_and_generation() {
        for (slot, generation) in [(0, 1), (1, 1), (7, 12), (0xf_fffe, 0xfff)] {
            let id = id(slot, generation);
            assert_eq!(ChannelId::slot_of(id.key()), id.slot());
            assert_ne!(id.key(), usize::MAX);
        }
        assert_ne!(id(3, 1).key(), id(3, 2).key());
    }

    #[test]
    fn an_optional_id_is_as_small_as_an_id() {
        assert_eq!(size_of::<Option<ChannelId>>(), 8);
    }
}
