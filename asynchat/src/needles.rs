//! The search for the byte strings of a terminator.
//!
//! There are two ways to search: over a long run of bytes the fast one, chosen when the needles were built, and where a
//! terminator may be cut in two the automaton, which walks byte by byte and can stop anywhere.

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::rc::Rc;

use bytes::Bytes;
use memchr::memmem::Finder;
use memchr::{memchr, memchr2, memchr3};

use crate::ahead::Ahead;

/// The byte strings that end a message, and two ways to search for them.
///
/// The automaton is that of Aho and Corasick, which for one pattern is that of Knuth, Morris and Pratt. Each
/// node stands for a prefix of a pattern, and the automaton is always at the longest one that the bytes so
/// far end with. For `"\r\n"` and `"\n"`:
///
/// ```text
///          \r          \n
///   ROOT -----> "\r" -----> "\r\n"    ends: 2 bytes
///     |  \n
///     '-------> "\n"                  ends: 1 byte
/// ```
pub(crate) struct Needles {
    /// Distinct, not empty, the longest first.
    patterns: Box<[Bytes]>,
    search: Search,
    longest: NonZeroUsize,
    nodes: Box<[Node]>,
    /// How many bytes were looked at for them.
    searched: Cell<u64>,
}

/// A prefix of a pattern.
#[derive(Clone, Copy)]
struct Node {
    /// The pattern it is a prefix of (of several, any one) and how many bytes of it.
    pattern: usize,
    depth: usize,
    /// Its last byte.
    byte: u8,
    /// The first node that is longer by a byte, and the next that is longer than its own parent by a byte.
    /// [`ROOT`], which is nobody's child, ends both lists.
    child: usize,
    sibling: usize,
    /// The longest other node that this one ends with: where to go when no child fits.
    fallback: usize,
    /// The length of the longest pattern that this one ends with.
    ends: Option<NonZeroUsize>,
}

/// The fastest search for the patterns over a long run of bytes.
enum Search {
    /// A line's end: a byte, or two.
    Line(LineEnd),
    /// One longer pattern.
    Finder(Box<Finder<'static>>),
    /// Every pattern ends with one of a few bytes; where one is found, the patterns are compared.
    LastBytes(LastBytes),
    /// Byte by byte.
    Automaton,
}

/// One byte that ends a message, after `before` or `alone` or both.
///
/// A search for this byte and a look at the one before beats a substring search on lines.
#[derive(Clone, Copy)]
struct LineEnd {
    last: u8,
    /// [`NO_BYTE`] if it is only alone.
    before: u16,
    alone: bool,
}

#[derive(Clone, Copy)]
enum LastBytes {
    One(u8),
    Two(u8, u8),
    Three(u8, u8, u8),
}

/// A terminator of `len` bytes that ends after `end` bytes.
///
/// That `len` is never zero also lets an `Option` of it travel in two registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) end: usize,
    pub(crate) len: NonZeroUsize,
}

impl Needles {
    /// The needles for `patterns`, out of the recent ones when they are there.
    pub(crate) fn shared(patterns: &[&[u8]]) -> Rc<Self> {
        let share = |recent: &RefCell<Vec<Rc<Self>>>| {
            let mut recent = recent.borrow_mut();
            if let Some(at) = recent.iter().position(|known| known.patterns.iter().eq(patterns)) {
                recent[..=at].rotate_right(1);
            } else {
                recent.truncate(RECENT_NEEDLES - 1);
                recent.insert(0, Rc::new(Self::new(patterns)));
            }
            Rc::clone(&recent[0])
        };
        // While the thread ends, the table may be gone.
        RECENT.try_with(share).unwrap_or_else(|_| Rc::new(Self::new(patterns)))
    }

    /// How many bytes were looked at so far, by all that share these needles.
    pub(crate) const fn searched(&self) -> u64 {
        self.searched.get()
    }

    #[inline]
    pub(crate) fn looked_at(&self, bytes: usize) {
        self.searched.set(self.searched.get() + bytes as u64);
    }

    /// The byte strings, longest first.
    pub(crate) fn patterns(&self) -> &[Bytes] {
        &self.patterns
    }

    fn new(patterns: &[&[u8]]) -> Self {
        Self {
            patterns: patterns.iter().map(|pattern| Bytes::copy_from_slice(pattern)).collect(),
            search: Search::new(patterns),
            longest: NonZeroUsize::new(patterns[0].len()).unwrap_or(NonZeroUsize::MIN),
            nodes: nodes(patterns),
            searched: Cell::new(0),
        }
    }

    /// Looks for the first terminator in `window`, from the root.
    #[inline]
    pub(crate) fn find(&self, window: &[u8]) -> Option<Hit> {
        let Search::Line(end) = self.search else { return self.find_other(window) };
        let mut from = 0;
        while let Some(skipped) = memchr(end.last, &window[from..]) {
            let at = from + skipped;
            self.looked_at(skipped + 2);
            from = at + 1;
            let hit = end.hit(window, at);
            if hit.is_some() {
                return hit;
            }
        }
        self.looked_at(window.len() - from);
        None
    }

    /// [`find`](Self::find) in a chunk of which something is known.
    #[inline(always)]
    pub(crate) fn find_ahead(&self, input: &[u8], ahead: &mut Ahead) -> Option<Hit> {
        let Search::Line(end) = self.search else { return self.find_other(input) };
        loop {
            let at = ahead.find(end.last, input, &self.searched)?;
            ahead.pass();
            let hit = end.hit(input, at);
            if hit.is_some() {
                return hit;
            }
        }
    }

    /// [`find`](Self::find), but for the short code that is worth inlining.
    #[inline(never)]
    fn find_other(&self, window: &[u8]) -> Option<Hit> {
        match &self.search {
            Search::Line(_) | Search::Automaton => self.walk(window).ok(),
            Search::Finder(finder) => {
                let end = finder.find(window).map(|at| at + self.longest());
                self.looked_at(end.unwrap_or(window.len()));
                Some(Hit { end: end?, len: self.longest })
            }
            Search::LastBytes(last_bytes) => self.compare_at(*last_bytes, window),
        }
    }

    /// Looks for the first terminator in `window`, from the root; none ends in its first `vain` bytes.
    ///
    /// Without one, and if `to_end`, it says at which node the automaton is after the last byte.
    pub(crate) fn search(&self, window: &[u8], vain: usize, to_end: bool) -> Result<Hit, usize> {
        if window.len() < self.shortest_search() {
            return self.walk(window);
        }
        if vain < window.len()
            && let Some(hit) = self.find(window)
        {
            return Ok(hit);
        }
        if !to_end {
            return Err(ROOT);
        }
        // A terminator that goes on after the window has at most so many of its bytes in it.
        self.walk(&window[window.len() - (self.longest() - 1)..])
    }

    /// The automaton's next node after `byte`.
    pub(crate) fn next(&self, mut node: usize, byte: u8) -> usize {
        loop {
            let mut child = self.nodes[node].child;
            while child != ROOT {
                if self.nodes[child].byte == byte {
                    return child;
                }
                child = self.nodes[child].sibling;
            }
            if node == ROOT {
                return ROOT;
            }
            node = self.nodes[node].fallback;
        }
    }

    /// The length of the longest pattern that ends at `node`.
    pub(crate) fn ends(&self, node: usize) -> Option<NonZeroUsize> {
        self.nodes[node].ends
    }

    /// The length of the prefix that `node` stands for.
    pub(crate) fn depth(&self, node: usize) -> usize {
        self.nodes[node].depth
    }

    /// The prefix that `node` stands for, a slice of a pattern.
    pub(crate) fn prefix(&self, node: usize) -> Bytes {
        let Node { pattern, depth, .. } = self.nodes[node];
        self.patterns[pattern].slice(..depth)
    }

    /// The length of the longest pattern, at least 1.
    #[inline]
    pub(crate) fn longest(&self) -> usize {
        self.longest.get()
    }

    /// In fewer bytes than this the automaton is as good as a search.
    #[inline]
    pub(crate) const fn shortest_search(&self) -> usize {
        2 * self.longest.get()
    }

    /// Runs the automaton over `bytes`, from the root, to the first terminator or to the end.
    fn walk(&self, bytes: &[u8]) -> Result<Hit, usize> {
        let mut node = ROOT;
        for (i, &byte) in bytes.iter().enumerate() {
            node = self.next(node, byte);
            if let Some(len) = self.ends(node) {
                self.looked_at(i + 1);
                return Ok(Hit { end: i + 1, len });
            }
        }
        self.looked_at(bytes.len());
        Err(node)
    }

    /// Compares every pattern wherever a last byte is found.
    fn compare_at(&self, last: LastBytes, window: &[u8]) -> Option<Hit> {
        let mut from = 0;
        while let Some(skipped) = last.find(&window[from..]) {
            let end = from + skipped + 1;
            self.looked_at(skipped + 1);
            for pattern in &self.patterns {
                self.looked_at(pattern.len());
                if window[..end].ends_with(pattern) {
                    let len = NonZeroUsize::new(pattern.len())?;
                    return Some(Hit { end, len });
                }
            }
            from = end;
        }
        self.looked_at(window.len() - from);
        None
    }
}

impl PartialEq for Needles {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.patterns == other.patterns
    }
}

impl Eq for Needles {}

impl Search {
    fn new(patterns: &[&[u8]]) -> Self {
        match *patterns {
            [&[last]] => return Self::Line(LineEnd { last, before: NO_BYTE, alone: true }),
            [&[before, last]] => {
                return Self::Line(LineEnd { last, before: before.into(), alone: false });
            }
            [&[before, last], &[other]] if last == other => {
                return Self::Line(LineEnd { last, before: before.into(), alone: true });
            }
            [pattern] => return Self::Finder(Box::new(Finder::new(pattern).into_owned())),
            _ => {}
        }
        let mut last: Vec<u8> = patterns.iter().filter_map(|pattern| pattern.last().copied()).collect();
        last.sort_unstable();
        last.dedup();
        let total: usize = patterns.iter().map(|pattern| pattern.len()).sum();
        match last[..] {
            _ if total > COMPARED_PATTERNS => Self::Automaton,
            [a] => Self::LastBytes(LastBytes::One(a)),
            [a, b] => Self::LastBytes(LastBytes::Two(a, b)),
            [a, b, c] => Self::LastBytes(LastBytes::Three(a, b, c)),
            _ => Self::Automaton,
        }
    }
}

impl LineEnd {
    /// The terminator that ends with the byte at `at`, if one does.
    #[inline(always)]
    fn hit(self, input: &[u8], at: usize) -> Option<Hit> {
        let follows = at > 0 && u16::from(input[at - 1]) == self.before;
        let len = if follows { PAIR } else { NonZeroUsize::MIN };
        (follows || self.alone).then_some(Hit { end: at + 1, len })
    }
}

impl LastBytes {
    fn find(self, haystack: &[u8]) -> Option<usize> {
        match self {
            Self::One(a) => memchr(a, haystack),
            Self::Two(a, b) => memchr2(a, b, haystack),
            Self::Three(a, b, c) => memchr3(a, b, c, haystack),
        }
    }
}

/// Builds the automaton: a trie of the patterns, then, level by level, the fallbacks.
fn nodes(patterns: &[&[u8]]) -> Box<[Node]> {
    let root = Node { pattern: 0, depth: 0, byte: 0, child: ROOT, sibling: ROOT, fallback: ROOT, ends: None };
    let mut nodes = vec![root];
    for (pattern, bytes) in patterns.iter().enumerate() {
        let mut parent = ROOT;
        for (i, &byte) in bytes.iter().enumerate() {
            parent = child(&nodes, parent, byte).unwrap_or_else(|| {
                let sibling = nodes[parent].child;
                nodes[parent].child = nodes.len();
                nodes.push(Node { pattern, depth: i + 1, byte, sibling, ..root });
                nodes.len() - 1
            });
        }
        nodes[parent].ends = NonZeroUsize::new(bytes.len());
    }

    let mut level = vec![ROOT];
    while !level.is_empty() {
        let mut below = Vec::new();
        for parent in level {
            let mut node = nodes[parent].child;
            while node != ROOT {
                let fallback = fallback(&nodes, parent, nodes[node].byte);
                nodes[node].fallback = fallback;
                nodes[node].ends = nodes[node].ends.or(nodes[fallback].ends);
                below.push(node);
                node = nodes[node].sibling;
            }
        }
        level = below;
    }
    nodes.into_boxed_slice()
}

fn child(nodes: &[Node], parent: usize, byte: u8) -> Option<usize> {
    let mut child = nodes[parent].child;
    while child != ROOT && nodes[child].byte != byte {
        child = nodes[child].sibling;
    }
    (child != ROOT).then_some(child)
}

/// Where the child of `parent` by `byte` falls back to.
fn fallback(nodes: &[Node], parent: usize, byte: u8) -> usize {
    let mut node = parent;
    while node != ROOT {
        node = nodes[node].fallback;
        if let Some(child) = child(nodes, node, byte) {
            return child;
        }
    }
    ROOT
}

/// The automaton's first node: no prefix of any pattern has been seen.
pub(crate) const ROOT: usize = 0;

/// What no byte is equal to.
const NO_BYTE: u16 = 256;

/// The length of a pair.
const PAIR: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);

/// How many recent needles a thread keeps, to share them between equal terminators.
///
/// A program speaks a few protocols of one to three terminators each, and thousands of conversations use the
/// same ones. Sixteen cover that, and to look through them is quicker than to build one.
const RECENT_NEEDLES: usize = 16;

/// The total length of several patterns up to which they are compared one by one at each last byte.
///
/// It bounds what a hostile peer's byte may cost; longer sets go through the automaton, two steps a byte.
const COMPARED_PATTERNS: usize = 32;

thread_local! {
    /// The most recent first.
    static RECENT: RefCell<Vec<Rc<Needles>>> = const { RefCell::new(Vec::new()) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Terminator;
    use crate::terminator::Kind;

    fn needles(terminator: &Terminator) -> &Rc<Needles> {
        match terminator.kind() {
            Kind::Bytes(needles) => needles,
            _ => panic!("no byte strings: {terminator:?}"),
        }
    }

    #[test]
    fn equal_terminators_share_their_needles() {
        let first = Terminator::from(b"\r\n");
        let second = Terminator::try_from(&b"\r\n"[..]).unwrap();
        assert!(Rc::ptr_eq(needles(&first), needles(&second)));

        let first = Terminator::any(["\n", "\r\n", "\n"]).unwrap();
        assert!(Rc::ptr_eq(needles(&first), needles(&Terminator::line())));
        assert_ne!(first, second);
    }

    #[test]
    fn the_table_of_shared_needles_is_bounded_and_keeps_the_recent_ones() {
        let kept = Terminator::crlf();
        let lost = Terminator::from(b"lost");
        for i in 0..100_u8 {
            drop(Terminator::from(&[i, i]));
            drop(Terminator::crlf());
        }
        assert_eq!(RECENT.with_borrow(Vec::len), RECENT_NEEDLES);
        assert!(Rc::ptr_eq(needles(&kept), needles(&Terminator::crlf())));
        assert!(!Rc::ptr_eq(needles(&lost), needles(&Terminator::from(b"lost"))));
        assert_eq!(lost, Terminator::from(b"lost"));
    }

    #[test]
    fn every_search_agrees_with_the_automaton() {
        let sets: &[&[&str]] = &[
            &["a"],
            &["ab"],
            &["aa"],
            &["ab", "b"],
            &["aab"],
            &["abab"],
            &["a", "b"],
            &["ab", "ba"],
            &["aab", "b", "bba"],
            &["abb", "bab", "bbc"],
        ];
        for &set in sets {
            let terminator = Terminator::any(set).unwrap();
            let needles = needles(&terminator);
            for number in 0..3_u32.pow(9) {
                let window: Vec<u8> = (0..9).map(|i| b"abc"[(number / 3_u32.pow(i) % 3) as usize]).collect();
                let walked = needles.walk(&window);
                assert_eq!(needles.search(&window, 0, true), walked, "{terminator:?} in {window:?}");
            }
        }
    }

    #[test]
    fn long_sets_and_sets_with_many_last_bytes_use_the_automaton() {
        let long = Terminator::any(["a".repeat(16), "a".repeat(17)]).unwrap();
        assert!(matches!(needles(&long).search, Search::Automaton));
        let many = Terminator::any(["a", "b", "c", "d"]).unwrap();
        assert!(matches!(needles(&many).search, Search::Automaton));
        let few = Terminator::any(["xa", "b", "c"]).unwrap();
        assert!(matches!(needles(&few).search, Search::LastBytes(LastBytes::Three(..))));
    }
}
