//! Scripts by chance: one seed is one script.

use fastrand::Rng;

use crate::script::{
    Act, Bounds, Callback, Clock, Direction, End, Ends, Kind, Made, PeerAct, Place, Plan, Reaction, Script,
    Setup, Step, Unkind, Want, Who,
};

/// The script of a seed.
pub(crate) fn script(seed: u64) -> Script {
    let mut chance = Chance { rng: Rng::with_seed(seed), depth: 0 };
    let setup = chance.setup();
    let mut steps = vec![Step::Faults(chance.unkind())];
    for _ in 0..chance.rng.usize(20..120) {
        steps.push(chance.step());
    }
    if chance.one_in(4) {
        steps.push(Step::Do(Act::Shutdown(chance.wait())));
        for _ in 0..chance.rng.usize(0..8) {
            steps.push(chance.step());
        }
    }
    steps.push(Step::Rest);
    Script { seed, setup, steps }
}

struct Chance {
    rng: Rng,
    /// How deep calls stand inside calls.
    depth: u8,
}

impl Chance {
    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(0..n) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(0..of.len())]
    }

    fn setup(&mut self) -> Setup {
        Setup {
            connections: if self.one_in(4) { self.rng.usize(3..9) } else { usize::MAX },
            accept_budget: self.rng.usize(1..4),
            output: if self.one_in(4) { self.rng.usize(600..4000) } else { 1 << 20 },
            posts: if self.one_in(6) { self.rng.usize(1..4) } else { 1000 },
            jobs: if self.one_in(6) { self.rng.usize(1..4) } else { 1000 },
            bounds: self.bounds(),
        }
    }

    fn bounds(&mut self) -> Bounds {
        let high = self.rng.usize(20..400);
        Bounds {
            output: if self.one_in(2) { high + self.rng.usize(0..600) } else { 1 << 16 },
            refuses: self.rng.bool(),
            high,
            low: self.rng.usize(0..=high),
            out_size: if self.one_in(3) { self.rng.usize(0..100) } else { 1 << 16 },
            read_budget: if self.one_in(2) { self.rng.usize(0..120) } else { 1 << 16 },
            linger_bytes: self.rng.usize(0..300),
        }
    }

    fn unkind(&mut self) -> Unkind {
        Unkind {
            harmless: self.rng.bool(),
            resets: self.one_in(12),
            buffer: if self.one_in(2) { self.rng.usize(1..300) } else { 1 << 16 },
        }
    }

    fn step(&mut self) -> Step {
        match self.rng.u32(0..100) {
            0..2 => {
                let mut plan = self.plan();
                plan.kind = Kind::Listener;
                Step::Listen(plan)
            }
            2..8 => Step::Dial(self.rng.u8(..), self.plan()),
            8..15 => Step::Pair(self.plan()),
            15..17 => Step::Spare,
            17..42 => {
                let act = self.peer_act();
                Step::Peer(self.rng.u8(..), act)
            }
            42..70 => Step::Do(self.act()),
            70..79 => Step::Turn,
            79..85 => Step::Settle,
            85..90 => Step::Advance(self.rng.u64(1..300)),
            90..91 => Step::Run(self.rng.u8(1..5)),
            91..94 => Step::Rest,
            94..96 => Step::Faults(self.unkind()),
            96..97 => Step::NoMemory(self.rng.u32(1..5)),
            _ => Step::Descriptors(self.rng.bool().then(|| self.rng.u8(0..3))),
        }
    }

    fn peer_act(&mut self) -> PeerAct {
        match self.rng.u32(0..40) {
            0..19 => PeerAct::Send(self.length()),
            19..20 => PeerAct::Urgent,
            20..22 => PeerAct::ShutdownWrite,
            22..24 => PeerAct::Close,
            24..26 => PeerAct::Reset,
            26..32 => PeerAct::StopReading,
            32..35 => PeerAct::StartReading,
            35..38 => PeerAct::ReadSome(self.length()),
            _ => PeerAct::Chunk(self.rng.u8(1..20)),
        }
    }

    fn length(&mut self) -> u16 {
        match self.rng.u32(0..8) {
            0 => self.rng.u16(1..4),
            7 => self.rng.u16(300..3000),
            _ => self.rng.u16(1..200),
        }
    }

    /// In milliseconds.
    fn wait(&mut self) -> u16 {
        match self.rng.u32(0..6) {
            0 => 0,
            1 => self.rng.u16(200..1500),
            _ => self.rng.u16(1..120),
        }
    }

    fn who(&mut self) -> Who {
        match self.rng.u32(0..10) {
            0..4 => Who::Me,
            4..6 => Who::Nth(self.rng.u8(..)),
            _ => Who::Late(self.rng.u8(0..4)),
        }
    }

    fn plan(&mut self) -> Plan {
        self.depth += 1;
        let kind = if self.one_in(2) {
            let most = if self.one_in(2) { self.rng.u16(1..40) } else { 4096 };
            Kind::Raw { most, greedy: self.rng.bool() }
        } else {
            Kind::Chat {
                ends: self.ends(),
                takes: self.one_in(3),
                limit: self.one_in(3).then(|| self.rng.u8(1..60)),
                skips: self.rng.bool(),
                in_size: if self.one_in(3) { self.rng.u16(0..50) } else { 4096 },
            }
        };
        let most = if self.depth > 2 { 1 } else { 10 };
        let reactions = (0..self.rng.usize(0..=most)).map(|_| self.reaction()).collect();
        self.depth -= 1;
        Plan {
            kind,
            bounds: self.one_in(2).then(|| self.bounds()),
            echoes: self.one_in(2),
            outlives_eof: self.one_in(3),
            outlives_errors: self.one_in(3),
            outlives_timeouts: self.one_in(3),
            reactions,
        }
    }

    fn reaction(&mut self) -> Reaction {
        use Callback::{
            Accepted, Close, Collect, Connect, Done, Drained, Eof, Error, Expt, Found, Read, Shutdown,
            Timeout, Timer, TooLong, Write,
        };
        const ON: [Callback; 26] = [
            Connect, Connect, Connect, Accepted, Read, Read, Read, Read, Write, Expt, Collect, Found, Found,
            Found, Found, TooLong, Eof, Eof, Drained, Drained, Timer, Timeout, Done, Shutdown, Error, Close,
        ];
        Reaction { on: self.pick(&ON), acts: self.acts(), end: self.end() }
    }

    fn acts(&mut self) -> Vec<Act> {
        self.depth += 1;
        let most = if self.depth > 3 { 1 } else { 4 };
        let acts = (0..self.rng.usize(0..most)).map(|_| self.act()).collect();
        self.depth -= 1;
        acts
    }

    fn end(&mut self) -> End {
        match self.rng.u32(0..12) {
            0 => End::Panic,
            1 | 2 => End::Fail,
            _ => End::Well,
        }
    }

    fn ends(&mut self) -> Ends {
        match self.rng.u32(0..5) {
            0 => Ends::Lf,
            1 => Ends::Line,
            2 => Ends::Count(self.rng.u8(1..40)),
            _ => Ends::Crlf,
        }
    }

    fn made(&mut self) -> Vec<Made> {
        let mut made: Vec<Made> = Vec::new();
        for _ in 0..self.rng.usize(0..6) {
            made.push(match self.rng.u32(0..20) {
                0 => Made::Fail,
                1 => Made::Panic,
                2..5 => Made::Nothing,
                _ => Made::Piece(self.length()),
            });
        }
        made
    }

    fn clock(&mut self) -> Clock {
        match self.rng.u32(0..8) {
            0 => Clock::Connect,
            1 | 2 => Clock::Idle,
            3 => Clock::Read,
            4 | 5 => Clock::Write,
            6 => Clock::Total,
            _ => Clock::Rate(self.rng.u16(0..100)),
        }
    }

    fn act(&mut self) -> Act {
        // A plan, or calls inside calls, only so deep.
        let deep = self.depth > 3;
        match self.rng.u32(0..185) {
            0..30 => Act::Push(self.who(), self.length()),
            30..35 => Act::Broadcast((0..self.rng.usize(1..5)).map(|_| self.who()).collect(), self.length()),
            35..38 => Act::Send(self.who(), self.length()),
            38..43 => Act::Producer(self.who(), self.made()),
            43..45 => Act::DiscardOutput(self.who()),
            45..48 => Act::Close(self.who()),
            48..49 => Act::CloseWith(self.who()),
            49 => {
                if self.one_in(6) {
                    Act::CloseAll
                } else {
                    Act::Stop
                }
            }
            50..54 => Act::CloseWhenDone(self.who()),
            54..57 => Act::ShutdownWrite(self.who()),
            57..62 => Act::Pause(self.who()),
            62..69 => Act::Resume(self.who()),
            69..71 => Act::ReadAgain(self.who()),
            71..73 => Act::Recv(self.who(), self.length()),
            73..75 => Act::Touch(self.who()),
            75..79 => {
                let want = if self.one_in(10) { Want::Panic } else { self.pick(&[Want::Read, Want::Write]) };
                Act::Want(self.who(), want, self.rng.bool())
            }
            79..81 => Act::PauseWhenHigh(self.who(), self.rng.bool()),
            81..84 | 148 | 149 => Act::Couple(self.who(), self.who()),
            84 | 147 => Act::Uncouple(self.who(), self.who()),
            85..86 => Act::Pipe(self.who(), self.who()),
            86..88 => Act::SetLimits(self.who(), self.bounds()),
            88..90 => Act::Remove(self.who()),
            90..93 => Act::Insert,
            93..96 if !deep => Act::AddSpare(self.plan()),
            96..100 if !deep => {
                let place = match self.rng.u32(0..6) {
                    0 => Place::Refusing,
                    1 | 2 => Place::Silent,
                    _ => Place::Answering,
                };
                Act::Connect(place, self.plan())
            }
            100..108 if !deep => Act::With(self.who(), self.rng.bool(), self.acts(), self.end()),
            108..114 => Act::SetTimer(self.who(), self.wait()),
            114..117 => Act::SetInterval(self.who(), self.wait(), self.rng.u8(1..5)),
            117..121 if !deep => Act::After(self.wait(), self.acts(), self.end()),
            121..123 if !deep => Act::Every(self.wait(), self.rng.u8(1..5), self.acts(), self.end()),
            123..126 => Act::CancelTimer(self.rng.u8(..)),
            126..129 => Act::ResetTimer(self.rng.u8(..), self.wait()),
            129..135 if !deep => Act::Post(self.acts(), self.end()),
            135..138 => Act::RemotePush(self.who(), self.length()),
            138..142 => Act::Terminator(self.ends()),
            142..144 => Act::DiscardBuffers,
            144 if self.one_in(8) => Act::Shutdown(self.wait()),
            145 if self.one_in(8) => Act::RemoteShutdown(self.wait()),
            146 => Act::Poll,
            150..153 => Act::Dawdle(self.wait()),
            153..159 => {
                let time = if self.one_in(5) { None } else { Some(self.rng.u16(0..300)) };
                match self.clock() {
                    // Of one that may still connect.
                    Clock::Connect => Act::SetTimeout(Who::Late(self.rng.u8(0..2)), Clock::Connect, time),
                    clock => Act::SetTimeout(self.who(), clock, time),
                }
            }
            159..165 => {
                let rate =
                    if self.one_in(4) { None } else { Some((self.rng.u16(50..400), self.rng.u16(1..100))) };
                let direction = self.pick(&[Direction::Reads, Direction::Writes]);
                Act::SetRate(self.who(), direction, rate)
            }
            165..171 if !deep => Act::Spawn(self.who(), self.one_in(10), self.acts(), self.end()),
            171..173 => Act::CloseWhenAnswered(self.who()),
            173..177 => Act::Unread(self.who(), self.length()),
            177..183 if !deep => Act::Replace(self.who(), self.plan()),
            _ => Act::Push(Who::Me, self.length()),
        }
    }
}
