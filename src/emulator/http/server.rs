//! Connections: with and without TLS, from clients that are slow, broken or hostile.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Body as _, Bytes, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use super::super::{Emulator, service::http_date};
use super::{
    answer::{Answer, Refusal},
    attend::{Verdict, attend},
    call::Call,
    respond::AnswerContext,
    tls::Authority,
    wire::Wire,
};

/// Maximum number of connections; more of them wait until others end.
const MOST_CONNECTIONS: usize = 800;
const LONGEST_HEAD: usize = 80 * 1024;
const LONGEST_BODY: usize = 256 * 1024;
/// Maximum length of a too long body that is read and dropped, so that its sender receives the
/// answer.
const LONGEST_DROPPED: usize = 64 * 1024 * 1024;
/// Time for requests in flight when the emulator shuts down.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// HTTP server of an emulator.
pub(in super::super) struct Server {
    pub emulator: Arc<Emulator>,
    pub authority: Arc<Authority>,
    /// Timeout of a request's head, and again of its body.
    pub read_timeout: Duration,
}

/// Signal that a connection is to be broken without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is to break")]
struct Break;

/// Becomes true when the emulator shuts down.
pub(super) type Stop = watch::Receiver<bool>;

impl Server {
    /// Serves until `stop` resolves, and requests in flight for a few seconds more.
    pub async fn run(self, plain: TcpListener, tls: TcpListener, stop: impl Future<Output = ()>) {
        let this = Arc::new(self);
        let (stopping, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let has_room = connections.len() < MOST_CONNECTIONS;
            let accepted = tokio::select! {
                () = &mut stop => break,
                _ = connections.join_next(), if !connections.is_empty() => continue,
                accepted = plain.accept(), if has_room => accepted.map(|(stream, _)| (stream, false)),
                accepted = tls.accept(), if has_room => accepted.map(|(stream, _)| (stream, true)),
            };
            match accepted {
                Ok((stream, is_tls)) => {
                    let (this, stop) = (Arc::clone(&this), stopped.clone());
                    connections.spawn(async move {
                        // A reset is not an error, and neither is a client that has disconnected.
                        let _ = this.connection(stream, is_tls, stop).await;
                    });
                }
                // Too many open files, or the client has disconnected already.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        drop((plain, tls));
        let _ = stopping.send(true);
        let rest = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(LAST_WORDS, rest).await;
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        is_tls: bool,
        stop: Stop,
    ) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        if !is_tls {
            return self.serve(stream, false, |stream| stream, stop).await;
        }
        let mut first = [0];
        let seen = timeout(self.read_timeout, stream.peek(&mut first)).await??;
        // Every TLS connection begins with this byte.
        if seen == 1 && first != [22] {
            let refusal = Refusal::unreadable("This port speaks TLS; use https://.");
            return self.say(stream, refusal).await;
        }
        let handshake = self.authority.accept(stream);
        let stream = timeout(self.read_timeout, handshake).await??;
        self.serve(stream, true, |stream| stream.get_ref().0, stop)
            .await
    }

    /// Serves the requests of a connection.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self: Arc<Self>,
        stream: S,
        is_tls: bool,
        tcp: fn(&S) -> &TcpStream,
        mut stop: Stop,
    ) -> std::io::Result<()> {
        let this = Arc::clone(&self);
        let stop_of_calls = stop.clone();
        let service = service_fn(move |request| {
            let (this, stop) = (Arc::clone(&this), stop_of_calls.clone());
            Box::pin(async move { this.answer(request, is_tls, stop).await })
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.read_timeout)
            .max_header_size(LONGEST_HEAD)
            .max_buf_size(LONGEST_HEAD)
            .serve_connection(TokioIo::new(Wire::new(stream)), service);
        let ended = loop {
            tokio::select! {
                ended = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)) => break ended,
                Ok(_) = stop.wait_for(|stop| *stop), if !*stop.borrow() => {
                    std::pin::Pin::new(&mut connection).graceful_shutdown();
                }
            }
        };
        let wire = connection.into_parts().io.into_inner();
        let status = match &ended {
            Err(error) if error.is_user() => {
                tcp(&wire.stream).set_zero_linger()?;
                return Ok(());
            }
            _ if wire.refused.is_some() => wire.refused,
            Err(error) if error.is_timeout() && wire.is_mid_request => {
                Some(StatusCode::REQUEST_TIMEOUT)
            }
            Err(error) if error.is_parse() || error.is_incomplete_message() => {
                wire.is_mid_request.then_some(StatusCode::BAD_REQUEST)
            }
            _ => None,
        };
        let mut stream = wire.stream;
        match status {
            None => stream.shutdown().await,
            Some(status) => self.say(stream, malformed(status)).await,
        }
    }

    /// Answers a request that the HTTP library rejected, and closes the connection.
    async fn say(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        refusal: Refusal,
    ) -> std::io::Result<()> {
        let answer = Answer::from(refusal);
        let (body, _) = answer.bytes();
        let now = self.emulator.core().state.now();
        let head = format!(
            "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\ndate: {}\r\n\r\n",
            answer.status,
            body.len(),
            http_date(now),
        );
        let exchange = async {
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await?;
            stream.shutdown().await?;
            // Closing with unread bytes would send a reset and discard the answer.
            let mut dropped = [0; 4096];
            while stream.read(&mut dropped).await? > 0 {}
            Ok(())
        };
        timeout(LAST_WORDS, exchange).await.unwrap_or(Ok(()))
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        is_tls: bool,
        stop: Stop,
    ) -> Result<Response<Full<Bytes>>, Break> {
        let begun = Instant::now();
        let (head, body) = request.into_parts();
        let (body, trouble) = match self.read(body).await {
            Ok(body) => (body, None),
            Err(refusal) => (Bytes::new(), Some(refusal)),
        };
        let target = head.uri.path_and_query().map_or("", |it| it.as_str());
        let call = Arc::new(Call {
            method: head.method,
            target: target.to_owned(),
            headers: head.headers,
            body,
            is_tls,
        });
        let (answer, versions) = match trouble {
            Some(refusal) => {
                // The rest of the body is not a request.
                let close = header::CONNECTION.as_str();
                (Answer::from(refusal.with(close, "close")), None)
            }
            None => match self.emulator.control(&call) {
                Some(answer) => (answer, None),
                None => self.attend(&call, stop).await?,
            },
        };
        let now = self.emulator.core().state.now();
        let context = AnswerContext {
            now,
            begun,
            versions,
            headers: &call.headers,
        };
        Ok(answer.response(&context))
    }

    /// Handles a request to completion, even if its client disconnects meanwhile: a received
    /// request takes effect.
    async fn attend(
        &self,
        call: &Arc<Call>,
        mut stop: Stop,
    ) -> Result<(Answer, Option<String>), Break> {
        let emulator = Arc::clone(&self.emulator);
        match tokio::spawn(attend(emulator, Arc::clone(call), stop.clone())).await {
            Ok(Verdict::Answer(answer, versions)) => Ok((answer, versions)),
            Ok(Verdict::Hang) => {
                // Only the client or a shutdown ends the connection.
                let _ = stop.wait_for(|stop| *stop).await;
                Err(Break)
            }
            Ok(Verdict::Break) | Err(_) => Err(Break),
        }
    }

    async fn read(&self, mut body: Incoming) -> Result<Bytes, Refusal> {
        let too_long = || {
            let message = format!("The request body is longer than {LONGEST_BODY} bytes.");
            Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestBodyTooLarge",
                message,
            )
        };
        if body.size_hint().lower() > LONGEST_DROPPED as u64 {
            return Err(too_long());
        }
        let mut read = Vec::new();
        let mut length = 0;
        let all = async {
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_| {
                    Refusal::unreadable("The request body is malformed or incomplete.")
                })?;
                let Some(bytes) = frame.data_ref() else {
                    continue;
                };
                length += bytes.len();
                if length <= LONGEST_BODY {
                    read.extend_from_slice(bytes);
                } else if length > LONGEST_DROPPED {
                    break;
                }
            }
            Ok(())
        };
        match timeout(self.read_timeout, all).await {
            Err(_) => Err(malformed(StatusCode::REQUEST_TIMEOUT)),
            Ok(Err(refusal)) => Err(refusal),
            Ok(Ok(())) if length > LONGEST_BODY => Err(too_long()),
            Ok(Ok(())) => Ok(read.into()),
        }
    }
}

fn malformed(status: StatusCode) -> Refusal {
    let (code, message) = match status {
        StatusCode::REQUEST_TIMEOUT => ("RequestTimeout", "The request did not arrive in time."),
        StatusCode::URI_TOO_LONG => ("UriTooLong", "The request target is too long."),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
            "RequestHeaderFieldsTooLarge",
            "The request head is too long.",
        ),
        _ => ("BadRequest", "This is not an HTTP/1.1 request."),
    };
    Refusal::new(status, code, message)
}
