//! The thread of the server: takes connections, limits them, and ends them when it is told to.

use std::io::ErrorKind;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;

use super::hub::Hub;
use super::routes::router;
use super::settings::ServeLimits;
use super::streams::stopped;

/// What the system keeps for a connection that does not read. The less, the sooner a slow viewer skips pictures, and the
/// newer is what he sees.
const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// What the server keeps of a response before the connection takes it, and of a request.
const CONNECTION_BUFFER_BYTES: usize = 64 * 1024;
/// Threads that encode pictures.
const ENCODERS: usize = 2;
/// How long connections may take to end by themselves, and then the encoders.
const GRACE: Duration = Duration::from_millis(400);
/// How long to wait when the system has no connection to give, for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Connections beyond the limit that are told so at once; further ones are just closed.
const TURNED_AWAY: usize = 16;
/// How long telling may take.
const TURN_AWAY: Duration = Duration::from_secs(1);
/// To connections beyond the limit.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\n\
                      Content-Type: text/plain\r\nContent-Length: 21\r\n\r\ntoo many connections\n";

/// What the server runs on: the thread that drives it, and a few for encoding.
pub(super) fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .thread_name("serve-encode")
        .max_blocking_threads(ENCODERS)
        .build()
}

/// Serves until told to stop.
pub(super) fn run(runtime: Runtime, listener: TcpListener, hub: Arc<Hub>, stopping: watch::Receiver<bool>) {
    runtime.block_on(accept(listener, hub, stopping));
    runtime.shutdown_timeout(GRACE);
}

async fn accept(listener: TcpListener, hub: Arc<Hub>, mut stopping: watch::Receiver<bool>) {
    let limits = hub.limits;
    let places = Arc::new(Semaphore::new(limits.connections));
    let doorsteps = Arc::new(Semaphore::new(TURNED_AWAY));
    let routes = router(hub);
    let mut connections = JoinSet::new();
    let mut is_failing = false;
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut stopping) => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::warn!("a connection of the HTTP server broke off: {error}");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                is_failing = false;
                match Arc::clone(&places).try_acquire_owned() {
                    Ok(place) => {
                        let connection = connection(stream, routes.clone(), limits, stopping.clone());
                        connections.spawn(async move {
                            connection.await;
                            drop(place);
                        });
                    }
                    Err(_) => {
                        if let Ok(doorstep) = Arc::clone(&doorsteps).try_acquire_owned() {
                            connections.spawn(async move {
                                turn_away(stream).await;
                                drop(doorstep);
                            });
                        }
                    }
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!("the HTTP server cannot take a connection: {error}");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    // Who does not end in time is cut off when the set is dropped.
    let _ = tokio::time::timeout(GRACE, ended).await;
}

/// Serves a connection to its end.
async fn connection(stream: TcpStream, routes: Router, limits: ServeLimits, mut stopping: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true).and(SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES)) {
        tracing::debug!("a connection keeps the system's settings: {error}");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    let io = TokioIo::new(Box::pin(stream));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request_timeout)
        .max_buf_size(CONNECTION_BUFFER_BYTES)
        .serve_connection(io, TowerToHyperService::new(routes));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Viewers come and go as they like.
        tracing::debug!("a connection of the HTTP server ended: {error}");
    }
}

/// Says that there is no room. What the client has sent is read, or else the system would take back what it was told.
async fn turn_away(stream: TcpStream) {
    let told = async {
        stream.writable().await?;
        stream.try_write(BUSY)?;
        SockRef::from(&stream).shutdown(Shutdown::Write)?;
        let mut request = [0; 1024];
        loop {
            stream.readable().await?;
            match stream.try_read(&mut request) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    if let Ok(Err(error)) = tokio::time::timeout(TURN_AWAY, told).await {
        tracing::debug!("a connection too many: {error}");
    }
}
