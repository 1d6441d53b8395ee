//! Two private S3 servers that share no code: the crate s3s-fs in this process, and moto in a child process.

use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use shared::model::Secret;
use shared::store::s3::S3Settings;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What both servers know as the right credentials.
pub const ACCESS_KEY_ID: &str = "holdfast-test";
/// Its secret; tests look for it where no secret may stand.
pub const SECRET_ACCESS_KEY: &str = "a-secret-nobody-may-print";

fn settings(address: SocketAddr, bucket: &str, prefix: &str) -> S3Settings {
    S3Settings {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: Some(format!("http://{address}")),
        access_key_id: Some(ACCESS_KEY_ID.to_owned()),
        secret_access_key: Some(Secret::new(SECRET_ACCESS_KEY)),
        ..S3Settings::default()
    }
}

/// How one request is disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// 503, and nothing happened.
    Busy,
    /// 503, although the request had its effect.
    BusyAfter,
    /// The connection ends without an answer; the request had its effect.
    CutOff,
    /// The body of the answer ends after one byte, or there is no answer where it has none; the request had its effect.
    HalfAnswer,
}

/// Which request is disturbed, and how many there were; from 1, none is number 0.
#[derive(Debug, Default)]
struct Disturbed {
    requests: u64,
    wish: Option<(u64, Disturbance)>,
}

/// An S3 server of s3s-fs on a free port, on a thread of its own; stopped on drop.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    disturbed: Arc<Mutex<Disturbed>>,
    root: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl S3Server {
    /// Starts a server without buckets that checks signatures.
    pub fn start() -> S3Server {
        let root = tempfile::tempdir().expect("a temporary directory");
        let files = s3s_fs::FileSystem::new(root.path()).expect("s3s-fs opens its directory");
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("the port's number");
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let disturbed: Arc<Mutex<Disturbed>> = Arc::default();
        let shared = disturbed.clone();
        let thread = std::thread::spawn(move || runtime.block_on(serve(listener, service, stopped, shared)));
        S3Server { address, disturbed, root, stop: Some(stop), thread: Some(thread) }
    }

    /// Counts requests anew, and disturbs the one with this number.
    pub fn disturb(&self, number: u64, how: Disturbance) {
        *self.disturbed.lock().unwrap() = Disturbed { requests: 0, wish: Some((number, how)) };
    }

    /// Requests since the last [`S3Server::disturb`].
    pub fn requests(&self) -> u64 {
        self.disturbed.lock().unwrap().requests
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, bucket: &str) {
        std::fs::create_dir(self.root.path().join(bucket)).expect("a new bucket");
    }

    /// Settings for a bucket here.
    pub fn settings(&self, bucket: &str, prefix: &str) -> S3Settings {
        settings(self.address, bucket, prefix)
    }

    /// Where the server keeps an object, for tests that damage it at rest.
    pub fn object_path(&self, bucket: &str, key: &str) -> PathBuf {
        self.root.path().join(bucket).join(key)
    }

    /// Stops the server; connections to its port are refused from now on.
    pub fn stop(&mut self) {
        // An error means that the thread has ended already.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the S3 server ends without panic");
        }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A body that breaks off behind its first byte.
struct Half(bool);

impl hyper::body::Body for Half {
    type Data = bytes::Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, std::io::Error>>> {
        Poll::Ready(Some(match std::mem::replace(&mut self.0, true) {
            false => Ok(hyper::body::Frame::data(bytes::Bytes::from_static(b"x"))),
            true => Err(std::io::Error::other("broken off by the test")),
        }))
    }
}

/// Answers one request, or disturbs it.
async fn answer(
    service: S3Service,
    disturbed: Arc<Mutex<Disturbed>>,
    request: hyper::Request<hyper::body::Incoming>,
) -> Result<hyper::Response<s3s::Body>, Box<dyn std::error::Error + Send + Sync>> {
    let how = {
        let mut disturbed = disturbed.lock().unwrap();
        disturbed.requests += 1;
        let number = disturbed.requests;
        disturbed.wish.filter(|(wished, _)| *wished == number).map(|(_, how)| how)
    };
    let busy = || {
        let text =
            "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>put there by the test</Message></Error>";
        hyper::Response::builder().status(503).body(s3s::Body::from(text.to_owned()))
    };
    if how == Some(Disturbance::Busy) {
        return Ok(busy()?);
    }
    let has_body = request.method() == hyper::Method::GET;
    let answer = service.call(request.map(s3s::Body::from)).await.map_err(|error| format!("{error:?}"))?;
    match how {
        None | Some(Disturbance::Busy) => Ok(answer),
        Some(Disturbance::BusyAfter) => Ok(busy()?),
        Some(Disturbance::HalfAnswer) if has_body => {
            let mut answer = answer.map(|_| s3s::Body::http_body_unsync(Half(false)));
            answer.headers_mut().insert("content-length", hyper::header::HeaderValue::from_static("1000"));
            Ok(answer)
        }
        Some(Disturbance::CutOff | Disturbance::HalfAnswer) => Err("cut off by the test".into()),
    }
}

async fn serve(
    listener: TcpListener,
    service: S3Service,
    mut stopped: oneshot::Receiver<()>,
    disturbed: Arc<Mutex<Disturbed>>,
) {
    listener.set_nonblocking(true).expect("a listener without blocking");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener of tokio");
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let socket = tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => socket,
                Err(_) => continue,
            },
        };
        let socket = hyper_util::rt::TokioIo::new(socket);
        let (service, disturbed) = (service.clone(), disturbed.clone());
        let service = hyper::service::service_fn(move |request| answer(service.clone(), disturbed.clone(), request));
        connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(socket, service));
        // Forget the finished ones.
        while connections.try_join_next().is_some() {}
    }
}

/// A moto server on a free port, a child process; stopped on drop.
#[derive(Debug)]
pub struct MotoServer {
    address: SocketAddr,
    child: Child,
    _home: tempfile::TempDir,
}

impl MotoServer {
    /// Starts moto; fails the test by name when moto is not installed.
    pub fn start() -> MotoServer {
        let home = tempfile::tempdir().expect("a temporary directory");
        // Somebody else may take the port between the choice and moto's start: then choose again.
        for _ in 0..5 {
            let chosen = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let address = chosen.expect("a free port");
            if let Some(child) = start_moto(address, home.path()) {
                return MotoServer { address, child, _home: home };
            }
        }
        panic!("moto found no free port in five tries");
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, bucket: &str) {
        let (status, body) = http(self.address, "PUT", &format!("/{bucket}"), "").expect("moto answers");
        assert_eq!(status, 200, "moto could not make the bucket {bucket}: {body}");
    }

    /// Makes moto keep every version of the bucket's objects.
    pub fn keep_versions(&self, bucket: &str) {
        let wish = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                    <Status>Enabled</Status></VersioningConfiguration>";
        let (status, body) = http(self.address, "PUT", &format!("/{bucket}?versioning"), wish).expect("moto answers");
        assert_eq!(status, 200, "moto could not turn versioning on: {body}");
    }

    /// Settings for a bucket here.
    pub fn settings(&self, bucket: &str, prefix: &str) -> S3Settings {
        settings(self.address, bucket, prefix)
    }
}

impl Drop for MotoServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts moto and waits until it answers; none when the port was taken.
fn start_moto(address: SocketAddr, home: &Path) -> Option<Child> {
    let log = std::fs::File::create(home.join("moto.log")).expect("moto's log");
    let mut child = Command::new("python3")
        .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &address.port().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("python3 is needed for moto: install python3, then `python3 -m pip install 'moto[server]'`");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        if matches!(http(address, "GET", "/moto-api/data.json", ""), Ok((200, _))) {
            return Some(child);
        }
        if let Some(ended) = child.try_wait().expect("moto's state") {
            let told = std::fs::read_to_string(home.join("moto.log")).unwrap_or_default();
            assert!(
                told.contains("Address already in use") || told.contains("in use by another program"),
                "moto ended with {ended}: install it with `python3 -m pip install 'moto[server]'`; it said: {told}"
            );
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
    panic!("moto did not answer within 60 s at {address}");
}

/// One HTTP request, without a client library; returns status and everything after the status line.
fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let length = body.len();
    write!(
        socket,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.map(|status| (status, answer)).ok_or_else(|| std::io::Error::other("no HTTP answer"))
}
