//! [`Map`]: every channel by its id, and the slots they live in.

use std::any::Any;
use std::fmt;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Instant;

use crate::blocking::Blocking;
use crate::buffer::BufferPool;
use crate::deadline::{DeadlineKey, Deadlines};
use crate::entry::{Entry, Flags, Slot};
use crate::id::MAX_SLOTS;
use crate::interest::{Interest, Pauses};
use crate::outbox::OutboxPool;
use crate::poller::Event;
use crate::remote::Posts;
use crate::timeouts::Check;
use crate::timer::Timers;
use crate::world::{Reserve, World};
use crate::{
    Channel, ChannelId, CloseReason, Context, Counters, Dispatcher, Error, Limits, Options, Result, State,
    Timings,
};

/// The shared map of channels, and the loop that serves them.
///
/// The map owns every channel: its [`Dispatcher`], which always stays here, and its handler, which is lent out while
/// one of its callbacks runs. So a callback reaches every channel, its own included, by plain calls on `cx.map`.
///
/// `A` is the application's own state, kept by the caller and lent to [`run`](Self::run). A map stays on its thread.
///
/// ```
/// use asyncore::{Channel, Context, Map, Result};
///
/// struct Greeter;
///
/// impl Channel<Vec<String>> for Greeter {
///     fn handle_connect(&mut self, cx: &mut Context<'_, Vec<String>>) -> Result {
///         cx.app.push(format!("channel {} is connected", cx.id));
///         cx.map.close(cx.id);
///         Ok(())
///     }
/// }
///
/// let (here, _there) = std::os::unix::net::UnixStream::pair()?;
/// let mut map = Map::new()?;
/// let id = map.add(here, Greeter)?;
/// let mut seen = Vec::new();
/// map.run(&mut seen)?; // ends when the last channel is gone
/// assert_eq!(seen, [format!("channel {id} is connected")]);
/// # Ok::<(), asyncore::Error>(())
/// ```
pub struct Map<A: 'static = ()> {
    /// First of all: what the others own as they are dropped finds that the map is gone.
    pub(crate) posts: Posts<A>,
    pub(crate) blocking: Blocking<A>,
    /// Declared before the slots: the poller is gone when their sockets close.
    pub(crate) world: World,
    pub(crate) slots: Vec<Slot<A>>,
    /// Slots without a channel.
    free: Vec<u32>,
    /// Channels in the map, closed ones that are not reaped yet among them.
    pub(crate) channels: usize,
    /// Those of `channels` that do not keep the loop running.
    pub(crate) background: usize,

    /// Channels to compare with the poller before the next wait. Invariant: listed once, flag `TOUCHED`.
    pub(crate) touched: Vec<ChannelId>,
    /// Channels with something to do without an event. Invariant: listed once, flag `READY`.
    pub(crate) ready: Vec<ChannelId>,
    /// Channels with output to write at the end of the turn. Invariant: listed once, flag `UNSENT`.
    pub(crate) unsent: Vec<ChannelId>,
    /// Closed channels whose `handle_close` is due. Invariant: listed once, state `Closed`.
    pub(crate) closed: Vec<ChannelId>,
    /// Listeners that wait for a descriptor or for room in the map.
    pub(crate) starved: Vec<ChannelId>,
    /// Lists of the last turn, kept for their room.
    pub(crate) spare: Vec<ChannelId>,
    pub(crate) batch: Vec<Event>,

    pub(crate) deadlines: Deadlines,
    pub(crate) timers: Timers<A>,
    /// Of the channel in each slot; empty until one has a timeout.
    pub(crate) checks: Vec<Check>,
    /// Channels whose clocks are to be looked at at the end of the turn.
    pub(crate) checking: Vec<ChannelId>,
    /// Events that full batches have brought since those were due.
    pub(crate) reported: usize,
    /// When the map was made: ticks count from here.
    pub(crate) started: Instant,
    /// The time of this turn.
    pub(crate) now: Instant,
    /// The same in ticks.
    pub(crate) tick: u64,
    pub(crate) buffers: Rc<BufferPool>,
    pub(crate) outboxes: OutboxPool,
    pub(crate) limits: Rc<Limits>,
    pub(crate) options: Options,
    /// Bytes queued in all outboxes.
    pub(crate) queued: usize,
    /// Kept open to give up when descriptors run out, so that a connection can be taken and told so.
    pub(crate) reserve: Option<Reserve>,
    /// What the channel that is served now may still read or accept in this turn.
    pub(crate) serving: Serving,
    pub(crate) phase: Phase,
    /// Waits that failed in a row.
    pub(crate) failed_waits: u32,
    pub(crate) counters: Counters,
    /// If the map measures them. Boxed, as they are seldom there.
    pub(crate) timings: Option<Box<Timings>>,
}

/// The budget of the channel that is served now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Serving {
    pub(crate) id: Option<ChannelId>,
    pub(crate) bytes: usize,
    pub(crate) accepts: usize,
    /// Whether it received since it was last asked to.
    pub(crate) received: bool,
    /// The same channel while it takes input, as [`Map::is_reading`] would find out: asked after every message.
    pub(crate) reading: Option<ChannelId>,
}

/// What the loop is about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Phase {
    pub(crate) in_turn: bool,
    /// A handler is lent to [`Map::with`]. Its channel could be neither served nor reaped in a turn.
    pub(crate) lends: bool,
    pub(crate) stopping: bool,
    /// The deadline of a shutdown that is under way.
    pub(crate) shutdown: Option<DeadlineKey>,
    /// When the last "out of descriptors" was logged.
    pub(crate) starved_logged: Option<Instant>,
}

impl<A: 'static> Map<A> {
    /// An empty map with the default [`Options`].
    ///
    /// # Errors
    ///
    /// If the system has no poller to give, or none with level-triggered events.
    pub fn new() -> Result<Self> {
        Self::with_options(Options::default())
    }

    /// An empty map.
    ///
    /// # Errors
    ///
    /// If the system has no poller to give, or none with level-triggered events.
    pub fn with_options(options: Options) -> Result<Self> {
        Ok(Self::in_world(World::system(options.wait)?, options))
    }

    pub(crate) fn in_world(world: World, options: Options) -> Self {
        let now = world.now();
        Self {
            posts: Posts::new(&options, world.waker()),
            blocking: Blocking::default(),
            world,
            slots: Vec::new(),
            free: Vec::new(),
            channels: 0,
            background: 0,
            touched: Vec::new(),
            ready: Vec::new(),
            unsent: Vec::new(),
            closed: Vec::new(),
            starved: Vec::new(),
            spare: Vec::new(),
            batch: Vec::new(),
            deadlines: Deadlines::default(),
            timers: Timers::default(),
            checks: Vec::new(),
            checking: Vec::new(),
            reported: 0,
            started: now,
            now,
            tick: 0,
            buffers: Rc::default(),
            outboxes: OutboxPool::default(),
            limits: Rc::new(options.limits.clone()),
            timings: options.timings.then(Box::default),
            options,
            queued: 0,
            reserve: None,
            serving: Serving::default(),
            phase: Phase::default(),
            failed_waits: 0,
            counters: Counters::default(),
        }
    }

    /// Adds a channel: a socket, prepared or adopted, and its handler.
    ///
    /// Its first callback comes from the loop: `handle_connect` if the socket is connected or once it is.
    ///
    /// # Errors
    ///
    /// If the socket cannot be adopted, or the map has no slot left, or is a simulated one and the socket is not.
    pub fn add<S, C>(&mut self, socket: S, handler: C) -> Result<ChannelId>
    where
        S: TryInto<Dispatcher>,
        S::Error: Into<Error>,
        C: Channel<A>,
    {
        let dispatcher = socket.try_into().map_err(Into::into)?;
        self.insert(dispatcher, Box::new(handler))
    }

    /// Adds a channel whose handler is boxed already, such as one that [`remove`](Self::remove) gave back.
    ///
    /// It is a new channel with a new id: an open one hears `handle_connect` again.
    ///
    /// # Errors
    ///
    /// If the map has no slot left, or is a simulated one and the socket is not.
    pub fn insert(&mut self, mut dispatcher: Dispatcher, handler: Box<dyn Channel<A>>) -> Result<ChannelId> {
        dispatcher.socket.belongs_to(&self.world)?;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = u32::try_from(self.slots.len()).ok().filter(|slot| (*slot as usize) < MAX_SLOTS);
                let slot = slot.ok_or("the map is full: no slot is left")?;
                self.slots.push(Slot { generation: NonZeroU32::MIN, entry: None });
                slot
            }
        };
        let place = &mut self.slots[slot as usize];
        let id = ChannelId::new(slot, place.generation);
        let mut flags = Flags::default();
        let mut due = self.phase.shutdown.is_some();
        if due {
            flags.set(Flags::SHUTDOWN_DUE);
        }
        match dispatcher.state {
            state if state == State::Handshaking || dispatcher.is_connected_anew() => {
                flags.set(Flags::CONNECT_DUE);
                due = true;
            }
            State::Connecting => {
                due |= dispatcher.has_connect_result();
                flags.put(Flags::RACING, dispatcher.is_racing());
            }
            // What it accepts takes its limits from it.
            State::Listening => _ = dispatcher.extra.limits_mut(&self.limits),
            // The others were removed from a map half-way, and go on from there.
            _ => {}
        }
        if let Some(rare) = dispatcher.rare_mut() {
            let input = std::mem::take(&mut rare.input);
            flags.set(input);
            due |= input.has(Flags::EOF_DUE) || input.has(Flags::READ_DUE);
        }
        if dispatcher.state != State::Listening {
            dispatcher.extra.share_limits(&self.limits);
        }
        let limits = dispatcher.extra.limits(&self.limits);
        flags.set(limits.rate_flags());
        if dispatcher.load() > limits.high_mark {
            flags.set(Flags::HIGH);
        }
        let state = dispatcher.state;
        self.queued += dispatcher.queued();
        tracing::debug!(%id, peer = %dispatcher.peer(), state = %dispatcher.state, "channel added");
        place.entry = Some(Entry {
            dispatcher,
            handler: Some(handler),
            interest: Interest::NONE,
            pauses: Pauses::default(),
            flags,
        });
        self.channels += 1;
        self.touch(id);
        if due {
            self.make_ready(id);
        }
        if matches!(state, State::Handshaking | State::Finishing | State::Draining | State::Lingering) {
            self.go_on(id, state);
        }
        #[cfg(feature = "tls")]
        self.start_tls_when_added(id)?;
        self.start_clocks(id);
        if flags.has(Flags::RACING) {
            self.begin_race(id);
        }
        Ok(id)
    }

    /// The dispatcher of a channel: its state, addresses, counts and options.
    #[must_use]
    pub fn get(&self, id: ChannelId) -> Option<&Dispatcher> {
        self.live(id).map(|entry| &entry.dispatcher)
    }

    /// The handler of a channel, if it is a `T` and none of its callbacks runs.
    #[must_use]
    pub fn handler<T: Channel<A>>(&self, id: ChannelId) -> Option<&T> {
        let handler: &dyn Any = self.idle(id)?.handler.as_deref()?;
        handler.downcast_ref()
    }

    /// The handler of a channel, to change; otherwise as [`handler`](Self::handler).
    #[must_use]
    pub fn handler_mut<T: Channel<A>>(&mut self, id: ChannelId) -> Option<&mut T> {
        self.idle(id)?;
        self.touch(id);
        let handler: &mut dyn Any = self.live_mut(id)?.handler.as_deref_mut()?;
        handler.downcast_mut()
    }

    /// Calls `f` with the handler of another channel, if that is a `T`, and a context of its own.
    ///
    /// `None` when the channel is gone, of another type, or has a callback running: a handler cannot be entered
    /// twice, its dispatcher can be used all the same.
    ///
    /// ```
    /// # use asyncore::{Channel, Map};
    /// struct Counter(u32);
    /// impl Channel for Counter {}
    ///
    /// let mut map = Map::new()?;
    /// let (here, _there) = std::os::unix::net::UnixStream::pair()?;
    /// let id = map.add(here, Counter(0))?;
    /// let count = map.with(&mut (), id, |counter: &mut Counter, _cx| {
    ///     counter.0 += 1;
    ///     counter.0
    /// });
    /// assert_eq!(count, Some(1));
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When `f` does: the channel it was called for is closed first, with `HandlerPanic`.
    pub fn with<T: Channel<A>, R>(
        &mut self,
        app: &mut A,
        id: ChannelId,
        f: impl FnOnce(&mut T, &mut Context<'_, A>) -> R,
    ) -> Option<R> {
        self.idle(id)?;
        let mut handler = self.live_mut(id)?.handler.take()?;
        self.touch(id);
        let lent = std::mem::replace(&mut self.phase.lends, true);
        let any: &mut dyn Any = &mut *handler;
        let outcome = any
            .downcast_mut()
            .map(|typed| catch_unwind(AssertUnwindSafe(|| f(typed, &mut Context::new(self, app, id)))));
        self.phase.lends = lent;
        self.give_back(id, handler);
        match outcome? {
            Ok(result) => Some(result),
            Err(panic) => {
                self.close_as(id, CloseReason::HandlerPanic);
                resume_unwind(panic);
            }
        }
    }

    /// Takes a channel back out of the map: its dispatcher, with what is queued, and its handler, with what that has
    /// read. `handle_close` is not called, its timers are cancelled, and results of its blocking work are dropped. Limits
    /// of its own stay; in another map, those that were its map's are the other's.
    ///
    /// `None` when it is gone, or while one of its callbacks runs.
    pub fn remove(&mut self, id: ChannelId) -> Option<(Dispatcher, Box<dyn Channel<A>>)> {
        self.idle(id)?;
        self.end_couplings(id);
        self.end_throttles(id);
        if self.live(id).is_some_and(|entry| entry.flags.has(Flags::RACING)) {
            self.leave_race(id, CloseReason::Local);
        }
        let mut entry = self.vacate(id)?;
        let handler = entry.handler.take()?;
        entry.dispatcher.socket.deregister();
        let mut input = entry.flags.only(Flags::INPUT);
        if !entry.pauses.is_empty() {
            // The pause ends with this, and the handler may hold input back for its end.
            input.set(Flags::READ_DUE);
        }
        if input != Flags::default() {
            entry.dispatcher.rare().input = input;
        }
        if entry.pauses.contains(Pauses::ENDING) {
            // What it was to close after does not come any more.
            entry.dispatcher.end();
        }
        self.queued -= entry.dispatcher.queued();
        self.counters.pushes += u64::from(entry.dispatcher.settle_pushes());
        self.cancel_deadline(&mut entry.dispatcher);
        self.end_clocks(id);
        if let Some(rare) = entry.dispatcher.rare_mut() {
            let timers = rare.timers.take();
            self.cancel_timers(timers);
        }
        self.feed_starved();
        tracing::debug!(%id, peer = %entry.dispatcher.peer(), "channel removed");
        Some((entry.dispatcher, handler))
    }

    /// Every channel that is not closed, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (ChannelId, &Dispatcher)> {
        (0u32..).zip(&self.slots).filter_map(|(slot, place)| {
            let entry = place.entry.as_ref().filter(|entry| entry.dispatcher.state != State::Closed)?;
            Some((ChannelId::new(slot, place.generation), &entry.dispatcher))
        })
    }

    /// How many channels there are, closed ones that have not heard of it yet among them.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.channels
    }

    /// Whether there is no channel.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.channels == 0
    }

    /// Bytes of output queued in all channels together.
    #[must_use]
    pub const fn queued(&self) -> usize {
        self.queued
    }

    /// Whether a channel is open: there, and not closed.
    #[must_use]
    pub fn is_open(&self, id: ChannelId) -> bool {
        self.live(id).is_some()
    }

    /// The limits of a channel.
    #[must_use]
    pub fn limits(&self, id: ChannelId) -> Option<&Limits> {
        let dispatcher = &self.live(id)?.dispatcher;
        Some(dispatcher.extra.limits(&self.limits))
    }

    /// Gives a channel its own limits; on a listener, what it accepts from now on has them too.
    ///
    /// Timeouts that differ from those before count from now.
    pub fn set_limits(&mut self, id: ChannelId, limits: impl Into<Rc<Limits>>) {
        if let Some(entry) = self.live_mut(id) {
            let old = entry.dispatcher.extra.set_limits(limits.into());
            entry.flags.clear(Flags::FLOWING);
            let old = old.unwrap_or_else(|| Rc::clone(&self.limits));
            self.limits_changed(id, &old);
            self.rates_changed(id, &old);
        }
    }

    /// Lets a channel no longer keep the loop running: [`run`](Self::run) ends when only such channels are left.
    ///
    /// For what waits on the program's behalf, signals for one, rather than for a peer.
    pub fn set_background(&mut self, id: ChannelId) {
        if let Some(entry) = self.live_mut(id)
            && !entry.flags.has(Flags::BACKGROUND)
        {
            entry.flags.set(Flags::BACKGROUND);
            self.background += 1;
        }
    }

    /// Says that the answers of a channel's predicates, or its producer, may have changed.
    pub fn touch(&mut self, id: ChannelId) {
        let Some(entry) = Self::entry_in(&mut self.slots, id) else { return };
        if entry.dispatcher.state != State::Closed {
            Self::list(entry, id, &mut self.touched, &mut self.unsent);
        }
    }

    /// Lists a channel as touched, and as one that writes if it has output.
    #[inline]
    pub(crate) fn list(
        entry: &mut Entry<A>,
        id: ChannelId,
        touched: &mut Vec<ChannelId>,
        unsent: &mut Vec<ChannelId>,
    ) {
        if !entry.flags.has(Flags::TOUCHED) {
            entry.flags.set(Flags::TOUCHED);
            touched.push(id);
        }
        if entry.dispatcher.outbox.is_some() && !entry.flags.any(Flags::NOT_TO_WRITE) {
            entry.flags.set(Flags::UNSENT);
            unsent.push(id);
        }
    }

    /// Has a channel's interest compared with the poller's before the next wait.
    pub(crate) fn touch_interest(&mut self, id: ChannelId) {
        if let Some(entry) = self.live_mut(id)
            && !entry.flags.has(Flags::TOUCHED)
        {
            entry.flags.set(Flags::TOUCHED);
            self.touched.push(id);
        }
    }

    pub(crate) fn peer_name(&self, id: ChannelId) -> impl fmt::Display {
        self.get(id).map_or_else(|| "unknown".to_owned(), |dispatcher| dispatcher.peer().to_string())
    }

    /// Puts a channel on the ready list.
    pub(crate) fn make_ready(&mut self, id: ChannelId) {
        if let Some(entry) = self.live_mut(id)
            && !entry.flags.has(Flags::READY)
        {
            entry.flags.set(Flags::READY);
            self.ready.push(id);
        }
    }

    /// Puts a channel on the list of those that write at the end of the turn.
    pub(crate) fn make_unsent(&mut self, id: ChannelId) {
        if let Some(entry) = self.live_mut(id)
            && !entry.flags.has(Flags::UNSENT)
        {
            entry.flags.set(Flags::UNSENT);
            self.unsent.push(id);
        }
    }

    /// A channel in the map, closed or not.
    #[inline]
    pub(crate) fn entry(&self, id: ChannelId) -> Option<&Entry<A>> {
        let place = self.slots.get(id.slot())?;
        if place.generation.get() == id.generation() { place.entry.as_ref() } else { None }
    }

    /// A channel in the map, closed or not.
    pub(crate) fn entry_mut(&mut self, id: ChannelId) -> Option<&mut Entry<A>> {
        Self::entry_in(&mut self.slots, id)
    }

    /// A channel that is not closed.
    #[inline]
    pub(crate) fn live(&self, id: ChannelId) -> Option<&Entry<A>> {
        self.entry(id).filter(|entry| entry.dispatcher.state != State::Closed)
    }

    /// A channel that is not closed.
    pub(crate) fn live_mut(&mut self, id: ChannelId) -> Option<&mut Entry<A>> {
        self.entry_mut(id).filter(|entry| entry.dispatcher.state != State::Closed)
    }

    /// A channel in the map, closed or not, while other fields of the map are borrowed too.
    #[inline]
    pub(crate) fn entry_in(slots: &mut [Slot<A>], id: ChannelId) -> Option<&mut Entry<A>> {
        let place = slots.get_mut(id.slot())?;
        let is_same = place.generation.get() == id.generation() || planted!(StaleId);
        if is_same { place.entry.as_mut() } else { None }
    }

    /// The channel that an event speaks of, if it is still the one that was registered.
    pub(crate) fn id_of(&self, key: usize) -> Option<ChannelId> {
        let slot = ChannelId::slot_of(key);
        let place = self.slots.get(slot)?;
        let id = ChannelId::new(u32::try_from(slot).ok()?, place.generation);
        (id.key() == key).then_some(id)
    }

    /// Empties a slot. Its next channel has another generation; a slot that has had them all is not used again.
    pub(crate) fn vacate(&mut self, id: ChannelId) -> Option<Entry<A>> {
        let place =
            self.slots.get_mut(id.slot()).filter(|place| place.generation.get() == id.generation())?;
        let entry = place.entry.take()?;
        if let Some(next) = place.generation.checked_add(1) {
            place.generation = next;
            self.free.push(u32::try_from(id.slot()).unwrap_or(u32::MAX));
        }
        self.channels -= 1;
        self.forget_work(id);
        if entry.flags.has(Flags::BACKGROUND) {
            self.background -= 1;
        }
        Some(entry)
    }

    /// Every id in the map, to walk while the map changes.
    pub(crate) fn ids(&self) -> Vec<ChannelId> {
        self.iter().map(|(id, _)| id).collect()
    }
}

impl<A: 'static> fmt::Debug for Map<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("channels", &self.channels)
            .field("queued", &self.queued)
            .field("turns", &self.counters.turns)
            .finish_non_exhaustive()
    }
}
