//! An HTTP server that answers whatever the test says, true or not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a client asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// As `GET /bucket/key?query HTTP/1.1`.
    pub line: String,
    /// All header lines, in lower case.
    pub headers: Vec<String>,
    /// The body as it came over the wire.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// A reply with its true length.
pub fn reply(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// An error reply as S3 writes it.
pub fn s3_error(status: &str, code: &str) -> String {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as scripted</Message></Error>");
    reply(status, "Content-Type: application/xml\r\n", &body)
}

/// Answers every request by a function of its number (from 0) and content; one request a connection.
#[derive(Debug)]
pub struct ScriptedHttp {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl ScriptedHttp {
    /// Starts a server on a free port; its thread ends with the process.
    ///
    /// The text returned is sent as it is and then the connection is closed: a reply may promise more than it holds.
    pub fn start(answer: impl Fn(usize, &Request) -> String + Send + 'static) -> ScriptedHttp {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let seen = requests.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let Some(request) = read(&socket) else { continue };
                let number = seen.lock().unwrap().len();
                let text = answer(number, &request);
                seen.lock().unwrap().push(request);
                // The client may have gone away, which is its right.
                let _ = (&socket).write_all(text.as_bytes());
                let _ = socket.shutdown(Shutdown::Write);
            }
        });
        ScriptedHttp { address, requests }
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read(socket: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(socket);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let line = lines.remove(0);
    let headers: Vec<String> = lines.into_iter().map(|line| line.to_lowercase()).collect();
    let mut request = Request { line, headers, body: Vec::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}
