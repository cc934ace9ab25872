//! Runs a script on a simulation, beside the model.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use asyncore::testing::{Faults, Simulation};
use asyncore::{Address, Dispatcher, Options, Result};

use crate::act::{self, Here, Planned, address};
use crate::handler::Door;
use crate::model::{Ending, Life, Model, PeerSide, input};
use crate::script::{PeerAct, Place, Plan, Script, Step, Unkind};
use crate::seen::Seen;

/// What became of a script.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The step in which something was wrong, and what.
    pub(crate) failure: Option<(usize, String)>,
    pub(crate) seen: Seen,
    pub(crate) trace: Vec<String>,
}

/// Runs a script.
pub(crate) fn run(script: &Script) -> Outcome {
    run_traced(script, false)
}

/// As [`run`]; with a trace of what happened, if that is asked for.
pub(crate) fn run_traced(script: &Script, traces: bool) -> Outcome {
    let mut run = match Run::new(script, traces) {
        Ok(run) => run,
        Err(error) => {
            let failure = Some((0, format!("no simulation: {error}")));
            return Outcome { failure, seen: Seen::default(), trace: Vec::new() };
        }
    };
    let failure = run.all(&script.steps);
    let app = &mut run.sim.app;
    Outcome { failure, seen: std::mem::take(&mut app.seen), trace: app.trace.take().unwrap_or_default() }
}

struct Run {
    sim: Simulation<Model>,
    faults: Faults,
}

impl Run {
    fn new(script: &Script, traces: bool) -> Result<Self> {
        let setup = &script.setup;
        let mut options = Options::default();
        options.connections = setup.connections;
        options.accept_budget = setup.accept_budget;
        options.output = setup.output;
        options.posts = setup.posts;
        options.jobs = setup.jobs;
        options.limits = act::limits(&setup.bounds);
        let mut sim = Simulation::with_options(script.seed, options, Model::new(script))?;
        sim.app.clock = Some(sim.clock());
        sim.app.trace = traces.then(Vec::new);
        sim.app.answering = Some(sim.listen(address(Place::Answering))?);
        sim.refuse(address(Place::Refusing));
        sim.black_hole(address(Place::Silent));
        let mut run = Self { sim, faults: Faults::none() };
        run.warm_up()?;
        Ok(run)
    }

    /// A first listener takes a first connection, and the map its reserve with it.
    fn warm_up(&mut self) -> Result {
        let plan = Plan::quiet();
        self.listen(&plan)?;
        self.dial(0, &plan);
        self.sim.app.in_loop = true;
        self.sim.settle()?;
        self.sim.app.in_loop = false;
        Ok(())
    }

    /// Runs the steps until something is wrong: the step, and what.
    fn all(&mut self, steps: &[Step]) -> Option<(usize, String)> {
        self.sim.app.seen.scripts += 1;
        for (at, step) in steps.iter().enumerate() {
            self.sim.app.seen.steps += 1;
            self.sim.app.note(|| format!("step {at}: {step:?}"));
            let outcome = catch_unwind(AssertUnwindSafe(|| self.step(step)));
            let wrong = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                // From `with`, out of a step.
                Err(panic) if panic.is::<Planned>() => None,
                Err(_) => Some("the map panics".to_owned()),
            };
            self.sim.app.in_loop = false;
            if let Some(wrong) = wrong {
                self.sim.app.wrong(wrong);
            }
            self.meet();
            self.check();
            if !self.sim.app.wrong.is_empty() {
                return Some((at, self.sim.app.wrong.join("\n")));
            }
        }
        None
    }

    fn step(&mut self, step: &Step) -> Result {
        match step {
            Step::Listen(plan) => self.listen(plan),
            Step::Dial(at, plan) => {
                self.dial(usize::from(*at), plan);
                Ok(())
            }
            Step::Pair(plan) => {
                if let Some((dispatcher, peer)) = self.pair() {
                    act::add(&mut self.sim.map, &mut self.sim.app, dispatcher, plan, Some(peer));
                }
                Ok(())
            }
            Step::Spare => {
                let spare = self.pair();
                self.sim.app.spare.extend(spare);
                Ok(())
            }
            Step::Peer(at, act) => {
                self.peer(usize::from(*at), *act);
                Ok(())
            }
            Step::Do(act) => {
                Here::outside(&mut self.sim.map, &mut self.sim.app).act(act);
                Ok(())
            }
            Step::Turn => self.one_turn(),
            Step::Settle => self.turns(Simulation::settle),
            Step::Advance(time) => self.turns(|sim| sim.advance(Duration::from_millis(*time))),
            Step::Run(turns) => self.turns(|sim| {
                match sim.map.run_for(&mut sim.app, usize::from(*turns)) {
                    // Nothing is due, under way or ready.
                    Err(error) if error.to_string().contains("stands still") => Ok(()),
                    other => other,
                }
            }),
            Step::Rest => self.rest(),
            Step::Faults(unkind) => {
                self.unkind(*unkind);
                Ok(())
            }
            Step::NoMemory(writes) => {
                self.sim.fail_writes_with_no_memory(*writes);
                Ok(())
            }
            Step::Descriptors(more) => {
                let app = &self.sim.app;
                let alive = app.detached.len() + app.spare.len() + self.sim.map.len() + 1;
                self.sim.set_descriptors(more.map_or(usize::MAX, |more| alive + usize::from(more)));
                Ok(())
            }
        }
    }

    fn turns(&mut self, serve: impl FnOnce(&mut Simulation<Model>) -> Result) -> Result {
        self.sim.app.in_loop = true;
        let served = serve(&mut self.sim);
        self.sim.app.in_loop = false;
        served
    }

    /// One turn, in which no channel receives more than its share.
    fn one_turn(&mut self) -> Result {
        let Simulation { map, app, .. } = &self.sim;
        let before: Vec<_> = (0..app.channels.len())
            .filter_map(|me| {
                let chan = &app.channels[me];
                Some((me, map.get(chan.id)?.bytes_in(), chan.bounds.read_budget.max(1)))
            })
            .collect();
        self.turns(Simulation::turn)?;
        let Simulation { map, app, .. } = &mut self.sim;
        for (me, from, share) in before {
            let chan = &app.channels[me];
            let Some(dispatcher) = map.get(chan.id) else { continue };
            let changed = chan.bounds.read_budget.max(1) != share || chan.received_outside;
            let received = dispatcher.bytes_in() - from;
            // Input that is dropped comes in reads of a size of their own.
            let drops = chan.ending == Ending::WhenDone;
            app.check(changed || drops || received <= share as u64, || {
                format!("channel {me} received {received} bytes in a turn, of {share}")
            });
        }
        Ok(())
    }

    fn listen(&mut self, plan: &Plan) -> Result {
        let app = &mut self.sim.app;
        let me = app.channels.len();
        let port = u16::try_from(me).unwrap_or(u16::MAX);
        let address = Address::from(std::net::SocketAddr::from(([192, 0, 2, 1], port + 1000)));
        let Ok(mut listener) = self.sim.map.create_socket(asyncore::Family::V4, asyncore::Kind::Stream)
        else {
            return Ok(());
        };
        listener.bind(address.clone())?;
        listener.listen(100)?;
        if let Some(bounds) = plan.bounds {
            listener.set_limits(act::limits(&bounds));
        }
        let id = self.sim.map.add(listener, Door { me })?;
        let app = &mut self.sim.app;
        let me = app.channel(id, plan.clone(), std::rc::Rc::default(), None);
        app.channels[me].address = Some(address);
        app.added(&self.sim.map, me, id);
        Ok(())
    }

    fn dial(&mut self, at: usize, plan: &Plan) {
        let doors: Vec<Address> =
            self.sim.app.channels.iter().filter_map(|chan| chan.address.clone()).collect();
        let Some(at) = at.checked_rem(doors.len()) else { return };
        let peer = self.sim.connect(doors[at].clone());
        self.sim.app.peers.push(PeerSide::new(peer, Some((doors[at].clone(), plan.clone()))));
    }

    fn pair(&mut self) -> Option<(Dispatcher, usize)> {
        let Ok((dispatcher, peer)) = self.sim.pair() else {
            self.sim.app.seen.saw("no descriptor for a pair");
            return None;
        };
        self.sim.app.peers.push(PeerSide::new(peer, None));
        Some((dispatcher, self.sim.app.peers.len() - 1))
    }

    fn peer(&mut self, at: usize, act: PeerAct) {
        let peers = &mut self.sim.app.peers;
        let Some(at) = at.checked_rem(peers.len()) else { return };
        // The last ones have more to tell.
        let at = peers.len() - 1 - at;
        let side = &mut peers[at];
        if side.closed {
            return;
        }
        match act {
            PeerAct::Send(count) if !side.ended => {
                let from = side.sent;
                side.sent += usize::from(count);
                side.peer.send(input(at, from, side.sent));
            }
            PeerAct::Urgent if !side.ended => side.peer.send_urgent(7),
            PeerAct::Send(_) | PeerAct::Urgent => {}
            PeerAct::ShutdownWrite => {
                side.ended = true;
                side.peer.shutdown_write();
            }
            PeerAct::Close => {
                side.ended = true;
                side.closed = true;
                side.peer.close();
            }
            PeerAct::Reset => {
                side.closed = true;
                side.reset = true;
                side.peer.reset();
            }
            PeerAct::StopReading => {
                side.reads = false;
                side.peer.stop_reading();
            }
            PeerAct::StartReading => {
                side.reads = true;
                side.peer.start_reading();
            }
            PeerAct::ReadSome(count) => side.peer.read_some(usize::from(count)),
            PeerAct::Chunk(count) => side.peer.set_chunk(usize::from(count)),
        }
    }

    fn unkind(&mut self, unkind: Unkind) {
        let mut faults = if unkind.harmless { Faults::harmless() } else { Faults::none() };
        faults.buffer = unkind.buffer;
        if unkind.resets {
            faults.resets = 0.01;
            self.sim.app.resets = true;
        }
        self.faults = faults;
        self.sim.set_faults(self.faults.clone());
    }

    /// Those whom the map has reached become peers of its channels.
    fn meet(&mut self) {
        let app = &mut self.sim.app;
        let Some(listener) = app.answering.take() else { return };
        while let Some(peer) = self.sim.accept(&listener) {
            let from = peer.peer_addr();
            let map = &self.sim.map;
            let app = &mut self.sim.app;
            let is_it =
                |dispatcher: &Dispatcher| from.is_some() && dispatcher.local_addr().ok().flatten() == from;
            let channel = (0..app.channels.len()).find(|me| {
                let chan = &app.channels[*me];
                let removed =
                    app.detached.iter().find(|(other, ..)| other == me).map(|(_, removed, _)| removed);
                chan.peer.is_none() && map.get(chan.id).or(removed).is_some_and(is_it)
            });
            let at = app.peers.len();
            app.peers.push(PeerSide::new(peer, None));
            match channel {
                Some(me) => {
                    app.channels[me].peer = Some(at);
                    app.peers[at].channel = Some(me);
                }
                // Closed before it was answered.
                None => app.peers[at].orphan = true,
            }
        }
        self.sim.app.answering = Some(listener);
    }

    /// Everything comes to rest.
    fn rest(&mut self) -> Result {
        self.sim.fail_writes_with_no_memory(0);
        let waiting =
            self.sim.app.peers.iter().filter(|side| side.dialled.is_some() && !side.was_accepted).count();
        // One is refused after each, or none by chance.
        let pauses = u32::try_from(waiting).unwrap_or(0) * 3 + 4;
        self.turns(|sim| {
            sim.settle()?;
            sim.advance(ACCEPT_PAUSE * pauses)?;
            // At a limited rate, until nothing moves any more.
            let mut before = None;
            while sim.app.channels.iter().any(|chan| chan.life == Life::Open && !chan.rates.is_empty()) {
                let moved = sim
                    .map
                    .iter()
                    .map(|(_, dispatcher)| dispatcher.bytes_in() + dispatcher.bytes_out())
                    .sum::<u64>();
                if before.replace(moved) == Some(moved) {
                    break;
                }
                sim.advance(THROTTLED)?;
            }
            for _ in 0..3 {
                sim.turn()?;
            }
            sim.settle()
        })?;
        self.meet();
        self.turns(Simulation::settle)?;
        self.check();
        let kept = self.faults.buffer;
        let map = &self.sim.map;
        self.sim.app.check_rest(map, kept);
        Ok(())
    }

    /// What holds after every step.
    fn check(&mut self) {
        let shuts_down = self.sim.map.is_shutting_down();
        let app = &mut self.sim.app;
        if !shuts_down {
            app.shutdown = None;
        } else if let Some((asked, deadline)) = app.asked_from_afar.take() {
            // The loop heard of it between then and now.
            let (from, to) = (asked + deadline, app.now() + deadline);
            app.shutdown =
                Some(app.shutdown.map_or((from, to), |(earlier, later)| (earlier.min(from), later)));
        }
        let map = &self.sim.map;
        app.check_step(map);
    }
}

/// A listener without descriptors tries again after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(110);

/// At the least rate of a script, something moves in this.
const THROTTLED: Duration = Duration::from_secs(5);
