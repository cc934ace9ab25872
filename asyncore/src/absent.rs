//! [`Absent`]: what stands for a socket that is still to come.

use std::io::{self, IoSlice, PipeReader};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::time::Duration;

use socket2::SockRef;

use crate::carrier::Carrier;
use crate::interest::Interest;
use crate::socket::{Moved, Socket};
use crate::world::World;

/// The socket of a channel that will have one: nothing comes from it, and it takes nothing.
#[derive(Debug)]
pub(crate) struct Absent {
    /// Shown where a descriptor is asked for.
    nowhere: &'static PipeReader,
}

impl Absent {
    /// # Errors
    ///
    /// If there is no descriptor left for the one that all of them share.
    pub(crate) fn socket() -> io::Result<Socket> {
        Ok(Socket::other(Self { nowhere: nowhere()? }))
    }
}

impl Carrier for Absent {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.nowhere.as_fd()
    }

    fn belongs_to(&self, _world: &World) -> io::Result<()> {
        Ok(())
    }

    fn is_registered(&self) -> bool {
        false
    }

    fn register(&mut self, _world: &World, _key: usize, _interest: Interest) -> io::Result<()> {
        Ok(())
    }

    fn deregister(&mut self) {}

    fn recv(&mut self, _room: &mut [u8]) -> io::Result<Moved> {
        Ok(Moved::WouldBlock)
    }

    fn send_vectored(&mut self, _slices: &[IoSlice<'_>]) -> io::Result<Moved> {
        Ok(Moved::WouldBlock)
    }

    fn shutdown(&mut self, _how: Shutdown) -> io::Result<()> {
        Err(io::ErrorKind::NotConnected.into())
    }

    /// Those of no socket: setting one fails, and is not forgotten silently.
    fn options(&self) -> Option<SockRef<'_>> {
        Some(SockRef::from(self.nowhere))
    }

    fn set_linger(&self, _linger: Option<Duration>) -> io::Result<()> {
        Err(io::ErrorKind::NotConnected.into())
    }
}

/// A descriptor behind which there is nothing: a pipe that nobody writes to, which is to be had in every sandbox.
pub(crate) fn nowhere() -> io::Result<&'static PipeReader> {
    static NOWHERE: OnceLock<PipeReader> = OnceLock::new();
    if let Some(pipe) = NOWHERE.get() {
        return Ok(pipe);
    }
    let (pipe, _) = io::pipe()?;
    Ok(NOWHERE.get_or_init(|| pipe))
}
