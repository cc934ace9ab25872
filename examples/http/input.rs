//! [`Input`]: what was received of a connection's requests.

use bytes::BytesMut;
use memchr::memmem;

use super::Status;

/// What was received of a connection's requests and not answered, of which one head after the other is taken.
///
/// It is less than two heads if it is emptied with [`head`](Self::head) before more is received, [`HEAD_LIMIT`] bytes at most.
#[derive(Debug, Default)]
pub struct Input {
    bytes: BytesMut,
    /// How many of them are known not to begin the end of a head.
    searched: usize,
    /// Bytes of a body that are still to be passed over.
    body: u64,
}

impl Input {
    /// Adds what was received.
    pub fn add(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
    }

    /// Takes the next head, its empty line included; `None` until all of it is there.
    ///
    /// # Errors
    ///
    /// What to refuse it with, if it is longer than [`HEAD_LIMIT`].
    pub fn head(&mut self) -> Result<Option<BytesMut>, Status> {
        self.skip();
        let from = self.searched.min(self.bytes.len());
        let end = memmem::find(&self.bytes[from..], END_OF_HEAD).map(|end| from + end + END_OF_HEAD.len());
        match end {
            Some(end) if end <= HEAD_LIMIT => {
                self.searched = 0;
                Ok(Some(self.bytes.split_to(end)))
            }
            None if self.bytes.len() <= HEAD_LIMIT => {
                self.searched = (self.bytes.len() + 1).saturating_sub(END_OF_HEAD.len());
                Ok(None)
            }
            _ => Err(Status::HeaderFieldsTooLarge),
        }
    }

    /// Passes over the body of so many bytes behind the head that was taken last.
    pub const fn pass_over(&mut self, body: u64) {
        self.body = body;
    }

    /// Passes over what is left of a body, and over empty lines before a request (RFC 9112 section 2.2).
    fn skip(&mut self) {
        let body = usize::try_from(self.body).map_or(self.bytes.len(), |body| body.min(self.bytes.len()));
        self.body -= body as u64;
        let rest = &self.bytes[body..];
        let lines = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        drop(self.bytes.split_to(body + lines));
        if self.bytes.is_empty() {
            // An idle connection owns no buffer.
            self.bytes = BytesMut::new();
        }
    }
}

/// Most bytes of a request's head: 8 KiB, as of nginx and Apache.
pub const HEAD_LIMIT: usize = 8 << 10;

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out of the input in pieces of that length: heads, and what is refused.
    fn heads(input: &[u8], piece: usize, body: u64) -> Vec<Result<Vec<u8>, Status>> {
        let (mut requests, mut heads) = (Input::default(), Vec::new());
        for piece in input.chunks(piece) {
            requests.add(piece);
            while let Some(head) = requests.head().transpose() {
                let is_refused = head.is_err();
                heads.push(head.map(|head| head.to_vec()));
                if is_refused {
                    return heads;
                }
                requests.pass_over(body);
            }
        }
        heads
    }

    #[test]
    fn heads_are_found_wherever_they_are_cut() {
        let input = b"\r\n\nGET / HTTP/1.1\r\n\r\nbody!GET /b HTTP/1.1\r\nA: b\r\n\r\nbody!GET /c";
        let whole = ["GET / HTTP/1.1\r\n\r\n", "GET /b HTTP/1.1\r\nA: b\r\n\r\n"];
        let whole: Vec<_> = whole.iter().map(|head| Ok(head.as_bytes().to_vec())).collect();
        for piece in 1..=input.len() {
            assert_eq!(heads(input, piece, 5), whole, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_head_may_be_as_long_as_the_limit_and_no_longer() {
        let head = |length: usize| [vec![b'x'; length - END_OF_HEAD.len()], END_OF_HEAD.to_vec()].concat();
        for piece in [1, 1000, HEAD_LIMIT * 2] {
            assert_eq!(heads(&head(HEAD_LIMIT), piece, 0), [Ok(head(HEAD_LIMIT))]);
            assert_eq!(heads(&head(HEAD_LIMIT + 1), piece, 0), [Err(Status::HeaderFieldsTooLarge)]);
        }
    }

    #[test]
    fn an_idle_connection_owns_no_buffer() {
        let mut requests = Input::default();
        requests.add(b"GET / HTTP/1.1\r\n\r\n");
        assert!(requests.head().unwrap().is_some() && requests.head().unwrap().is_none());
        assert_eq!(requests.bytes.capacity(), 0);
    }
}
