//! Why the HTTP server cannot serve.

use std::net::SocketAddr;

use crate::sinks::access::AccessError;

/// What keeps the HTTP server from its work.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address may not be used as asked.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The address is taken, forbidden, or not this machine's.
    #[error("cannot listen on {address}: {reason}; {}", remedy(.reason))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The system gave no thread or no event queue.
    #[error("cannot start the HTTP server: {0}; raise the limits on processes and open files (ulimit -u, ulimit -n)")]
    Start(std::io::Error),
    /// The thread of the server is gone.
    #[error("the HTTP server has stopped; this is a defect of maskwatch, please report it")]
    Stopped,
}

fn remedy(reason: &std::io::Error) -> &'static str {
    match reason.kind() {
        std::io::ErrorKind::AddrInUse => "choose another port, or end the program that uses this one",
        std::io::ErrorKind::PermissionDenied => "choose a port from 1024 on",
        std::io::ErrorKind::AddrNotAvailable => "give an address of this machine, such as 127.0.0.1",
        _ => "choose another address",
    }
}
