//! Connecting to hosts, whatever is done to the channels meanwhile: what each hears, and what is left in the end.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use asyncore::testing::{Faults, Simulation, each_seed};
use asyncore::{Address, Channel, ChannelId, CloseReason, Context, Dispatcher, Error, Result, Timeout};
use fastrand::Rng;

/// What each caller has heard, by its number.
type Heard = Vec<Vec<&'static str>>;

struct Caller(usize);

impl Channel<Heard> for Caller {
    fn handle_connect(&mut self, cx: &mut Context<'_, Heard>) -> Result {
        assert!(cx.map.get(cx.id).and_then(Dispatcher::peer_addr).is_some());
        assert!(cx.map.host_error(cx.id).is_none());
        cx.app[self.0].push("connect");
        Ok(())
    }

    fn handle_error(&mut self, cx: &mut Context<'_, Heard>, _error: &Error) {
        cx.app[self.0].push("error");
        cx.map.close(cx.id);
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Heard>, _reason: CloseReason) {
        cx.app[self.0].push("close");
    }
}

/// Channels out of the map, and whose they are.
type Removed = Vec<(Dispatcher, Box<dyn Channel<Heard>>)>;

const IPS: [&str; 5] = ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "192.0.2.3"];

fn at(ip: &str) -> Address {
    SocketAddr::new(ip.parse().expect("an IP address"), 25).into()
}

#[test]
fn whatever_is_done_to_it_a_channel_connects_once_or_not_at_all_and_leaves_nothing_behind() -> Result {
    each_seed(500, |seed| {
        let mut random = Rng::with_seed(seed);
        let mut sim = Simulation::with_seed(seed, Heard::new())?;
        let mut faults = Faults::harmless();
        faults.delay = Duration::from_millis(random.u64(0..500));
        faults.resets = if random.bool() { 0.0 } else { 0.02 };
        sim.set_faults(faults);
        let mut servers = Vec::new();
        for ip in IPS {
            match random.u8(0..3) {
                0 => sim.black_hole(at(ip)),
                1 => {}
                _ => servers.push(sim.listen(at(ip))?),
            }
        }
        for host in ["one.example", "two.example"] {
            let ips: Vec<IpAddr> =
                IPS.iter().filter(|_| random.bool()).map(|ip| ip.parse()).collect::<Result<_, _>>()?;
            sim.set_host(host, ips);
        }
        let mut removed = Removed::new();
        for _ in 0..40 {
            disturb(&mut sim, &mut random, &mut removed)?;
            sim.advance(Duration::from_millis(random.u64(0..200)))?;
        }
        drop(removed);
        if random.bool() {
            sim.map.shutdown(Duration::from_secs(1));
            sim.run()?;
        } else {
            sim.map.close_all();
            sim.settle()?;
        }
        assert!(sim.map.is_empty());
        assert_eq!(sim.map.queued(), 0);
        let mut arrived = String::new();
        for server in &servers {
            while let Some(mut peer) = sim.accept(server) {
                sim.settle()?;
                arrived.push_str(&String::from_utf8_lossy(&peer.take_received()));
            }
        }
        for (number, heard) in sim.app.iter().enumerate() {
            let is_right =
                matches!(heard[..], [] | ["connect"] | ["connect", "close"] | ["close"] | ["error", "close"]);
            assert!(is_right, "caller {number} heard {heard:?}");
            assert!(arrived.matches(&format!("<{number}>")).count() <= 1, "{arrived}");
        }
        Ok(())
    })
}

/// Does something to the map at random.
fn disturb(sim: &mut Simulation<Heard>, random: &mut Rng, removed: &mut Removed) -> Result {
    let ids: Vec<ChannelId> = sim.map.iter().map(|(id, _)| id).collect();
    let one = random.choice(ids);
    match (random.u8(0..12), one) {
        (0..=3, _) => {
            let number = sim.app.len();
            sim.app.push(Vec::new());
            let host = *random
                .choice(&["one.example", "two.example", "nobody.example", "192.0.2.1"])
                .ok_or("one")?;
            let id = sim.map.connect_host(host, 25, Caller(number))?;
            if random.bool() {
                sim.map.push(id, format!("<{number}>"));
            }
            if random.bool() {
                let time = Duration::from_millis(random.u64(1..2000));
                sim.map.set_timeout(id, Timeout::Connect, Some(time));
            }
        }
        (4, Some(id)) => sim.map.close(id),
        (5, Some(id)) => sim.map.close_when_done(id),
        (6, Some(id)) => sim.map.shutdown_write(id),
        (7, Some(id)) => {
            // One that is connected would hear of it again, and what tries an address is nobody's to keep.
            let connects = sim.map.host_error(id).is_some();
            removed.extend(sim.map.remove(id).filter(|_| connects));
        }
        (8 | 9, _) => {
            if let Some((dispatcher, handler)) = removed.pop() {
                sim.map.insert(dispatcher, handler)?;
            }
        }
        (10, Some(id)) => {
            sim.map.set_timeout(id, Timeout::Connect, Some(Duration::from_millis(random.u64(1..300))));
        }
        _ => {}
    }
    Ok(())
}
