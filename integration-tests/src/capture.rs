//! What `tracing` says on this thread while a closure runs.

use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Level};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

/// Runs `f`: every event of `level` or a graver one that it caused on this thread, a line each.
pub fn captured(level: Level, f: impl FnOnce()) -> String {
    // With only one subscriber in the process, `tracing` asks that of whichever thread first meets a call site, and
    // remembers the no of a thread that has none. A second one keeps it asking all.
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    SECOND.get_or_init(|| tracing_subscriber::fmt().with_max_level(LevelFilter::OFF).finish().into());

    let text = Text::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .without_time()
        .with_writer(text.clone())
        .finish();
    let guard = subscriber.set_default();
    f();
    drop(guard);
    let bytes = text.0.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl MakeWriter<'_> for Text {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl io::Write for Text {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
