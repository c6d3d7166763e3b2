//! Where the HTTP server listens, and what bounds its memory.

use std::net::SocketAddr;
use std::time::Duration;

use crate::sinks::access::Token;

/// How the HTTP server is set up.
#[derive(Debug, Clone)]
pub struct ServeSettings {
    /// Where it listens; port 0 is any free one.
    pub address: SocketAddr,
    /// What opens it to others; without one, it may listen on loopback alone.
    pub token: Option<Token>,
    /// Its limits.
    pub limits: ServeLimits,
}

/// What clients may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeLimits {
    /// Connections at once; further ones get 503.
    pub connections: usize,
    /// Streams of pictures and events at once; further ones get 503. Fewer than connections, so that `/healthz` and
    /// `/metrics` stay within reach.
    pub viewers: usize,
    /// How long a client may leave what is sent to it unread.
    pub write_timeout: Duration,
    /// How long a client may take for a request, and between two of them.
    pub request_timeout: Duration,
    /// How long a source may be without a frame and still count as delivering.
    pub stale_after: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections: 128,
            viewers: 64,
            write_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(15),
            stale_after: Duration::from_secs(10),
        }
    }
}
