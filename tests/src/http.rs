//! A plain HTTP client: one connection at a time, bodies that may still be written while the answer
//! is read.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_channel::mpsc;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long any answer, or any line of one, may take.
const DEADLINE: Duration = Duration::from_secs(30);

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// A client of one server.
pub struct HttpClient {
    address: String,
    connection: Option<SendRequest<Body>>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; a text that is none, as a string.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| Value::String(self.text()))
    }

    /// The header `name`, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl HttpClient {
    /// A client of the server at `address` (`host:port`).
    pub fn new(address: &str) -> HttpClient {
        HttpClient { address: address.to_owned(), connection: None }
    }

    /// Asks and reads the whole answer.
    ///
    /// # Errors
    /// If there is none; a status of failure is one.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Reply> {
        let body = Full::new(body.into()).boxed_unsync();
        let request = self.request(method, path, headers, body)?;
        let answer = async {
            let response = self.connection().await?.send_request(request).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Reply { status: head.status, headers: head.headers, body })
        };
        let answer = timeout(DEADLINE, answer).await;
        answer.with_context(|| format!("no answer of {path} in time"))?
    }

    pub async fn get(&mut self, path: &str) -> Result<Reply> {
        self.ask(Method::GET, path, &[], Bytes::new()).await
    }

    /// Posts JSON, as text.
    pub async fn post(&mut self, path: &str, json: &str) -> Result<Reply> {
        self.ask(Method::POST, path, &[], json.to_owned()).await
    }

    /// Posts a body that is still to be written, on a connection of its own.
    pub async fn post_stream(&mut self, path: &str) -> Result<Conversation> {
        let (requests, pieces) = mpsc::channel(1);
        let body = StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))).boxed_unsync();
        let request = self.request(Method::POST, path, &[], body)?;
        let mut connection = connect(&self.address).await?;
        let answer = tokio::spawn(async move {
            let response = connection.send_request(request).await;
            // The connection lives as long as its answer.
            (response, connection)
        });
        Ok(Conversation { requests: Some(requests), answer: Answer::Awaited(answer) })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<Request<Body>> {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request = request.header("host", &self.address);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(request.body(body)?)
    }

    async fn connection(&mut self) -> Result<&mut SendRequest<Body>> {
        let ready = match &mut self.connection {
            Some(connection) => connection.ready().await.is_ok(),
            None => false,
        };
        if !ready {
            self.connection = Some(connect(&self.address).await?);
        }
        self.connection.as_mut().context("just connected")
    }
}

async fn connect(address: &str) -> Result<SendRequest<Body>> {
    let stream =
        TcpStream::connect(address).await.with_context(|| format!("cannot reach {address}"))?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A request and an answer that go on side by side.
pub struct Conversation {
    requests: Option<mpsc::Sender<Bytes>>,
    answer: Answer,
}

type Awaited =
    tokio::task::JoinHandle<(hyper::Result<http::Response<Incoming>>, SendRequest<Body>)>;

enum Answer {
    Awaited(Awaited),
    Begun { status: StatusCode, body: Incoming, read: Vec<u8>, _connection: SendRequest<Body> },
    Moving,
}

impl Conversation {
    /// Sends a piece of the request.
    pub async fn say(&mut self, piece: &str) -> Result<()> {
        let requests = self.requests.as_mut().context("the request has ended")?;
        Ok(requests.send(Bytes::from(piece.to_owned())).await?)
    }

    /// Ends the request.
    pub fn end(&mut self) {
        self.requests = None;
    }

    /// The status, once the answer has begun.
    pub async fn status(&mut self) -> Result<StatusCode> {
        self.begin().await?;
        match &self.answer {
            Answer::Begun { status, .. } => Ok(*status),
            _ => bail!("the answer has not begun"),
        }
    }

    /// The next line of the answer, as JSON; `None` at its end.
    pub async fn line(&mut self) -> Result<Option<Value>> {
        self.begin().await?;
        let Answer::Begun { body, read, .. } = &mut self.answer else {
            bail!("the answer has not begun");
        };
        loop {
            if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = read.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            match timeout(DEADLINE, body.frame()).await.context("no line in time")? {
                Some(frame) => read.extend(frame?.into_data().unwrap_or_default()),
                None if read.is_empty() => return Ok(None),
                None => return Ok(Some(serde_json::from_slice(&std::mem::take(read))?)),
            }
        }
    }

    async fn begin(&mut self) -> Result<()> {
        let awaited = match std::mem::replace(&mut self.answer, Answer::Moving) {
            Answer::Awaited(awaited) => awaited,
            begun => {
                self.answer = begun;
                return Ok(());
            }
        };
        let (response, connection) =
            timeout(DEADLINE, awaited).await.context("the answer does not begin")??;
        let (head, body) = response?.into_parts();
        let (status, read) = (head.status, Vec::new());
        self.answer = Answer::Begun { status, body, read, _connection: connection };
        Ok(())
    }
}
