//! A map inside tokio: an echo server whose loop is a task among others, on one thread.
//!
//! Talk to it with `nc 127.0.0.1 7004`. A line comes back at once; `later 500 hello` has a task of tokio's say `hello` half a
//! second later.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use examples::program::Common;

/// Sends every line back, from inside a tokio runtime.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7004")]
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
    use asyncore::{Map, Remote, Result};
    use examples::later;
    use examples::program::{STOP_TIME, announce};
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;
    use tokio::runtime::Builder;
    use tokio::task::{LocalSet, spawn_local};
    use tokio::time::{sleep, timeout_at};

    /// Echoes lines; those for later are a task's to send.
    struct Echo(Remote);

    impl Chat for Echo {
        fn found_terminator(&mut self, cx: &mut Conversation<'_>, line: &[u8]) -> Result {
            let Some((delay, text)) = later::asked_for(line) else {
                cx.push((line, b"\r\n"));
                return Ok(());
            };
            // The map is its own task's. Others reach it as other threads do: by posts.
            let (remote, id) = (self.0.clone(), cx.id);
            spawn_local(async move {
                sleep(delay).await;
                if let Err(error) = remote.push(id, text) {
                    tracing::warn!(%error, "not said");
                }
            });
            Ok(())
        }
    }

    pub(super) fn serve(at: SocketAddr) -> Result {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        LocalSet::new().block_on(&runtime, async {
            let mut map = Map::new()?;
            map.shutdown_on_signals(STOP_TIME)?;
            let remote = map.remote();
            let listeners = map.listen(at, move |_peer| {
                AsyncChat::new(Echo(remote.clone())).terminator(Terminator::line())
            })?;
            announce(&map, &listeners);
            run(&mut map, &mut ()).await
        })
    }

    /// What [`Map::run`] does, as a future.
    async fn run<A>(map: &mut Map<A>, app: &mut A) -> Result {
        let descriptor = map.as_fd().try_clone_to_owned()?;
        #[expect(
            deprecated,
            reason = "the other is unsafe, and an owned descriptor keeps what is promised there"
        )]
        let watch = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
        while map.has_work() {
            let ready = match map.next_deadline() {
                Some(deadline) => timeout_at(deadline.into(), watch.readable()).await.ok().transpose()?,
                None => Some(watch.readable().await?),
            };
            let before = map.counters().events;
            map.poll(app, Some(Duration::ZERO))?;
            if let Some(mut ready) = ready
                && map.counters().events == before
            {
                // tokio tells of changes alone: only now is there nothing left to be told of.
                ready.clear_ready();
            }
        }
        Ok(())
    }
}

/// Where the poller is no descriptor, tokio has nothing to watch.
#[cfg(polling_test_poll_backend)]
mod inside {
    pub(super) fn serve(_at: std::net::SocketAddr) -> asyncore::Result {
        Err("the poller of this system has no descriptor".into())
    }
}
