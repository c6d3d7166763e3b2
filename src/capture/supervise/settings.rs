//! How patient the capture of live sources is.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How RTSP cameras send their packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RtspTransport {
    /// Within the connection: nothing is lost.
    Tcp,
    /// Beside it: less delay on a bad network, at the price of smeared pictures.
    Udp,
}

impl RtspTransport {
    /// As FFmpeg calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// How long live sources may keep silent, and what happens then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSettings {
    /// Longest time to open, the start of the decoding process included.
    pub open_timeout: Duration,
    /// Longest time from there to the first frame.
    pub first_frame_timeout: Duration,
    /// Longest time from one frame to the next.
    pub progress_timeout: Duration,
    /// Frames that are older than this before inference takes them are dropped.
    pub max_age: Duration,
    /// A picture that does not change for so long is called frozen.
    pub frozen_after: Duration,
    /// How RTSP cameras send.
    pub rtsp_transport: RtspTransport,
    /// Attempts after the first failed one; for ever if `None`.
    pub retries: Option<u64>,
    /// The program whose hidden command `capture-source` decodes; this one, unless a test says otherwise.
    pub decoder: PathBuf,
}

impl Default for LiveSettings {
    fn default() -> Self {
        Self {
            open_timeout: Duration::from_secs(10),
            first_frame_timeout: Duration::from_secs(10),
            progress_timeout: Duration::from_secs(5),
            max_age: Duration::from_millis(500),
            frozen_after: Duration::from_secs(10),
            rtsp_transport: RtspTransport::Tcp,
            retries: None,
            // Holds the program that runs, also when its file has been replaced by a newer one.
            decoder: "/proc/self/exe".into(),
        }
    }
}
