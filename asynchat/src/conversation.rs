//! [`Conversation`]: what a chat's callback is given.

use std::fmt;

use asyncore::{Channel, ChannelId, Context, Map, Producer, PushData, Pushed, Result, SpawnError};

use crate::{AsyncChat, Chat, Framing, Terminator};

/// The world as a chat's callback sees it: the map, the application's state, its own id and its framing.
///
/// The fields are public, so that the borrow checker can tell them apart. The methods are short forms for what a
/// callback does with its own channel; other channels are reached through `cx.map`.
#[non_exhaustive]
pub struct Conversation<'a, A: 'static = ()> {
    /// Every channel, this one included.
    pub map: &'a mut Map<A>,
    /// The application's own state.
    pub app: &'a mut A,
    /// The channel whose callback runs.
    pub id: ChannelId,
    /// How its input is cut into messages.
    pub framing: &'a mut Framing,
}

impl<'a, A: 'static> Conversation<'a, A> {
    pub(crate) const fn new(cx: &'a mut Context<'_, A>, framing: &'a mut Framing) -> Self {
        Self { map: cx.map, app: cx.app, id: cx.id, framing }
    }

    /// Queues bytes for the peer: see [`Map::push`].
    #[inline]
    pub fn push(&mut self, data: impl PushData) -> Pushed {
        self.map.push(self.id, data)
    }

    /// Queues a producer for the peer: see [`Map::push_with_producer`].
    pub fn push_with_producer(&mut self, producer: impl Producer + 'static) -> Pushed {
        self.map.push_with_producer(self.id, producer)
    }

    /// Chooses what ends a message, from the next byte on: see [`Framing::set_terminator`].
    pub fn set_terminator(&mut self, terminator: impl Into<Terminator>) {
        self.framing.set_terminator(terminator);
    }

    /// What ends a message, as it was set.
    #[must_use]
    pub fn get_terminator(&self) -> &Terminator {
        self.framing.get_terminator()
    }

    /// Closes the channel once what is queued has been sent: see [`Map::close_when_done`].
    pub fn close_when_done(&mut self) {
        self.map.close_when_done(self.id);
    }

    /// Closes the channel at once; what is queued is dropped.
    pub fn close(&mut self) {
        self.map.close(self.id);
    }

    /// Drops what was received and not delivered, and what is queued and not sent. A pending close is not cancelled.
    pub fn discard_buffers(&mut self) {
        self.framing.discard_incoming();
        self.map.discard_output(self.id);
    }

    /// Drops what was received and not delivered: see [`Framing::discard_incoming`].
    pub fn discard_incoming(&mut self) {
        self.framing.discard_incoming();
    }

    /// Stops the delivery of messages from the next one on, until someone calls [`Map::resume_reading`].
    pub fn pause_reading(&mut self) {
        self.map.pause_reading(self.id);
    }

    /// Runs `work` on another thread, then calls `done` from the loop with this chat, its conversation and the result: see
    /// [`Map::spawn_blocking`].
    ///
    /// `C` is the chat's own type, named by the closure's argument. Further messages are delivered meanwhile, so that one
    /// connection keeps several threads busy; a chat that answers one thing at a time pauses until the result is there.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::net::Shutdown;
    /// use std::os::unix::net::UnixStream;
    ///
    /// use asynchat::{AsyncChat, Chat, Conversation};
    /// use asyncore::{Map, Result};
    ///
    /// /// Answers each line with the file of that name.
    /// struct Files;
    ///
    /// impl Chat for Files {
    ///     fn found_terminator(&mut self, cx: &mut Conversation<'_>, name: &[u8]) -> Result {
    ///         let name = String::from_utf8(name.to_vec())?;
    ///         cx.pause_reading();
    ///         cx.spawn_blocking(move || std::fs::read(name), |_files: &mut Files, cx, file| {
    ///             cx.push(file?);
    ///             cx.map.resume_reading(cx.id);
    ///             Ok(())
    ///         })?;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let (mut peer, here) = UnixStream::pair()?;
    /// let mut map = Map::new()?;
    /// map.add(here, AsyncChat::new(Files).terminator(b"\n"))?;
    /// peer.write_all(b"Cargo.toml\n")?;
    /// peer.shutdown(Shutdown::Write)?;
    /// map.run(&mut ())?; // the end of input closes the channel, but not before the answer
    ///
    /// let mut page = String::new();
    /// peer.read_to_string(&mut page)?;
    /// assert!(page.starts_with("[package]"));
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Map::spawn_blocking`].
    pub fn spawn_blocking<C, R>(
        &mut self,
        work: impl FnOnce() -> R + Send + 'static,
        done: impl FnOnce(&mut C, &mut Conversation<'_, A>, R) -> Result + 'static,
    ) -> Result<(), SpawnError>
    where
        C: Chat<A>,
        R: Send + 'static,
    {
        self.map.spawn_blocking(self.id, work, |chat: &mut AsyncChat<C>, cx, result| {
            chat.converse(cx, |user, cx| done(user, cx, result))
        })
    }

    /// Calls `f` with another channel's chat, if that is a `C`, and a conversation of its own: see [`Map::with`].
    pub fn with_chat<C: Chat<A>, R>(
        &mut self,
        id: ChannelId,
        f: impl FnOnce(&mut C, &mut Conversation<'_, A>) -> R,
    ) -> Option<R> {
        self.map.with(self.app, id, |chat: &mut AsyncChat<C>, cx| chat.converse(cx, f))
    }

    /// Hands the channel over to another handler: a chat of another kind, or a raw channel. False when it is closed.
    ///
    /// It takes effect when the callback returns; nothing more is delivered to this chat. What has been received and not
    /// delivered is read first by the new handler, the bytes of a message that has begun included, whatever the cuts: see
    /// [`Map::replace`]. Only pieces that [`collect_incoming_data`](crate::Chat::collect_incoming_data) has taken stay taken.
    /// A frame comes with its header again, unless a piece of it was taken; a dot-stuffed text is stuffed again.
    /// While a message that was too long is passed over, its rest would be the new handler's: finish it first.
    ///
    /// ```
    /// use std::io::Write;
    /// use std::os::unix::net::UnixStream;
    ///
    /// use asynchat::{AsyncChat, Chat, Conversation};
    /// use asyncore::{Map, Result};
    ///
    /// struct Login;
    /// struct Session(String);
    ///
    /// impl Chat<Vec<String>> for Login {
    ///     fn found_terminator(&mut self, cx: &mut Conversation<'_, Vec<String>>, name: &[u8]) -> Result {
    ///         let session = Session(String::from_utf8_lossy(name).into_owned());
    ///         cx.replace(AsyncChat::new(session).terminator(b"\n"));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// impl Chat<Vec<String>> for Session {
    ///     fn found_terminator(&mut self, cx: &mut Conversation<'_, Vec<String>>, line: &[u8]) -> Result {
    ///         cx.app.push(format!("{}: {}", self.0, line.escape_ascii()));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let (here, mut there) = UnixStream::pair()?;
    /// there.write_all(b"bob\nhello\nworld\n")?;
    /// drop(there);
    /// let mut map = Map::new()?;
    /// map.add(here, AsyncChat::new(Login).terminator(b"\n"))?;
    /// let mut said = Vec::new();
    /// map.run(&mut said)?;
    /// assert_eq!(said, ["bob: hello", "bob: world"]);
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    pub fn replace(&mut self, handler: impl Channel<A>) -> bool {
        self.map.replace(self.id, handler)
    }

    /// Begins TLS: see [`Map::start_tls`]. Push the answer in clear text before.
    ///
    /// Nothing more is delivered before the handshake is done. What has been received and not delivered is dropped then.
    ///
    /// # Errors
    ///
    /// As [`Map::start_tls`].
    #[cfg(feature = "tls")]
    pub fn start_tls(&mut self, session: impl Into<asyncore::TlsSession>) -> Result {
        self.map.start_tls(self.id, session)
    }

    /// Calls `f` with another channel's handler, if that is a `T`: see [`Map::with`]. A chat channel's is an
    /// [`AsyncChat`]; for its chat take [`with_chat`](Self::with_chat).
    pub fn with<T: Channel<A>, R>(
        &mut self,
        id: ChannelId,
        f: impl FnOnce(&mut T, &mut Context<'_, A>) -> R,
    ) -> Option<R> {
        self.map.with(self.app, id, f)
    }
}

impl<A: 'static> fmt::Debug for Conversation<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation")
            .field("id", &self.id)
            .field("framing", &self.framing)
            .finish_non_exhaustive()
    }
}
