//! Stream that intercepts answers of the HTTP library itself: it answers unreadable requests with a
//! bare status, but clients of ACS expect an envelope.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::respond::MARK;

/// Stream below the HTTP library.
pub(super) struct Wire<S> {
    pub stream: S,
    /// Status that the library wanted to answer.
    pub refused: Option<StatusCode>,
    /// Whether bytes arrived after the last answer.
    pub is_mid_request: bool,
}

impl<S> Wire<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            refused: None,
            is_mid_request: false,
        }
    }
}

/// Finds an answer of the library itself: it is the last on its connection, is an error, has no
/// body, and lacks the header of the emulator's answers.
fn bare_answer(bytes: &[u8]) -> Option<(usize, StatusCode)> {
    const START: &[u8] = b"HTTP/1.1 4";
    // The answer is never longer than this.
    let before = bytes.len().saturating_sub(256);
    let mut last = bytes.get(before..)?.windows(START.len());
    let start = before + last.rposition(|it| it == START)?;
    let head = std::str::from_utf8(bytes.get(start..)?).ok()?;
    if !head.ends_with("\r\n\r\n") || head.contains(&format!("\r\n{MARK}:")) {
        return None;
    }
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((start, StatusCode::from_u16(status).ok()?))
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.is_mid_request |= buffer.filled().len() > before;
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut ours = bytes;
        match bare_answer(bytes) {
            Some((0, status)) => {
                self.refused = Some(status);
                return Poll::Ready(Ok(bytes.len()));
            }
            Some((start, _)) => ours = bytes.get(..start).unwrap_or_default(),
            None => {}
        }
        self.is_mid_request = false;
        Pin::new(&mut self.stream).poll_write(cx, ours)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
