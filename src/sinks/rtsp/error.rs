//! Why the RTSP server cannot serve.

use std::net::SocketAddr;

use crate::sinks::access::AccessError;
use crate::sinks::video::VideoError;

/// What keeps the RTSP server from its work.
#[derive(Debug, thiserror::Error)]
pub enum RtspError {
    /// The address may not be used as asked.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// GStreamer lacks what encodes.
    #[error(transparent)]
    Encoder(#[from] VideoError),
    /// GStreamer lacks an element.
    #[error("GStreamer's {name} is missing; install {debian_package}")]
    MissingElement {
        /// The element.
        name: &'static str,
        /// The Debian package that has it.
        debian_package: &'static str,
    },
    /// The address is taken, forbidden, or not this machine's.
    #[error("cannot listen on {address}: {reason}; choose another address, or end the program that uses this one")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// The system gave no thread.
    #[error("cannot start the RTSP server: {0}; raise the limit on processes (ulimit -u)")]
    Start(#[from] std::io::Error),
    /// The thread of the server is gone.
    #[error("the RTSP server has stopped; this is a defect of maskwatch, please report it")]
    Stopped,
}
