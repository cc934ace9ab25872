//! A map inside calloop: an echo server whose map is one source among others of somebody else's event loop.
//!
//! Talk to it with `nc 127.0.0.1 7005`. A line comes back at once; `later 500 hello` has a timer of calloop's say `hello`
//! half a second later.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use examples::program::Common;

/// Sends every line back, from inside a calloop event loop.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7005")]
    listen: SocketAddr,
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    let Arguments { listen, common } = Arguments::parse();
    common.run(|| inside::serve(listen))
}

#[cfg(not(polling_test_poll_backend))]
mod inside {
    use std::net::SocketAddr;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use asynchat::{AsyncChat, Chat, Conversation, Terminator};
    use asyncore::{Map, Result};
    use calloop::generic::Generic;
    use calloop::timer::{TimeoutAction, Timer};
    use calloop::{EventLoop, Interest, LoopHandle, Mode, PostAction, RegistrationToken};
    use examples::later;
    use examples::program::{STOP_TIME, announce};

    /// What the event loop lends to its callbacks: the map, and what that lends to its own.
    struct Host {
        map: Map<Handle>,
        handle: Handle,
        /// The timer of the map's next deadline.
        deadline: Option<RegistrationToken>,
    }

    type Handle = LoopHandle<'static, Host>;

    /// Echoes lines; those for later are a timer's to send.
    struct Echo;

    impl Chat<Handle> for Echo {
        fn found_terminator(&mut self, cx: &mut Conversation<'_, Handle>, line: &[u8]) -> Result {
            let Some((delay, text)) = later::asked_for(line) else {
                cx.push((line, b"\r\n"));
                return Ok(());
            };
            let id = cx.id;
            once(cx.app, Timer::from_duration(delay), move |host| {
                host.map.push(id, &text);
            })?;
            Ok(())
        }
    }

    pub(super) fn serve(at: SocketAddr) -> Result {
        let mut host_loop = EventLoop::try_new()?;
        let handle: Handle = host_loop.handle();
        let mut map = Map::new()?;
        map.shutdown_on_signals(STOP_TIME)?;
        let listeners = map.listen(at, |_peer| AsyncChat::new(Echo).terminator(Terminator::line()))?;
        announce(&map, &listeners);

        // It has only to wake the loop: what there is to do is done after each of its rounds.
        let descriptor = map.as_fd().try_clone_to_owned()?;
        let watch = Generic::new(descriptor, Interest::READ, Mode::Level);
        handle
            .insert_source(watch, |_ready, _descriptor, _host| Ok(PostAction::Continue))
            .map_err(|refused| refused.error)?;
        let mut host = Host { map, handle, deadline: None };
        while host.map.has_work() {
            host.set_deadline()?;
            host_loop.dispatch(None, &mut host)?;
            host.map.poll(&mut host.handle, Some(Duration::ZERO))?;
        }
        Ok(())
    }

    impl Host {
        /// Has the loop woken when the map next has something to do by itself.
        fn set_deadline(&mut self) -> Result {
            if let Some(former) = self.deadline.take() {
                self.handle.remove(former);
            }
            if let Some(at) = self.map.next_deadline() {
                self.deadline =
                    Some(once(&self.handle, Timer::from_deadline(at), |host| host.deadline = None)?);
            }
            Ok(())
        }
    }

    /// Calls `f` from the loop when the timer comes.
    fn once(handle: &Handle, timer: Timer, f: impl Fn(&mut Host) + 'static) -> Result<RegistrationToken> {
        let come = move |_at, _: &mut (), host: &mut Host| {
            f(host);
            TimeoutAction::Drop
        };
        // What was refused cannot leave this thread, and the reason can.
        Ok(handle.insert_source(timer, come).map_err(|refused| refused.error)?)
    }
}

/// Where the poller is no descriptor, calloop has nothing to watch.
#[cfg(polling_test_poll_backend)]
mod inside {
    pub(super) fn serve(_at: std::net::SocketAddr) -> asyncore::Result {
        Err("the poller of this system has no descriptor".into())
    }
}
