//! Cameras and network streams: how patient we are with them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

/// How patient we are with live sources.
#[derive(Debug, Args)]
#[command(next_help_heading = "Live sources")]
pub struct CaptureArgs {
    /// Longest time for a camera or stream to open, such as 10s or 1500ms; after this and the next two it is tried again
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10s")]
    pub open_timeout: Duration,

    /// Longest time from there to its first frame
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10s")]
    pub first_frame_timeout: Duration,

    /// Longest time from one frame to the next
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "5s")]
    pub progress_timeout: Duration,

    /// How often a source that fails is tried again before it is given up: a number, or forever. The waits grow from 0.5 to
    /// 30 s
    #[arg(long, value_name = "N|forever", default_value = "forever")]
    pub retries: RetriesArg,

    /// Drop frames that are older than this when their turn comes
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "500ms")]
    pub max_age: Duration,

    /// Call a picture frozen that has been the same for this long
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10s")]
    pub frozen_after: Duration,

    /// How RTSP cameras send: tcp loses nothing, udp smears pictures where the network loses packets
    #[arg(long, value_enum, default_value = "tcp")]
    pub rtsp_transport: RtspTransportArg,
}

/// How RTSP cameras send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RtspTransportArg {
    /// Within the connection.
    Tcp,
    /// Beside it.
    Udp,
}

/// How often a source is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetriesArg {
    /// Until it answers.
    Forever,
    /// So often.
    Times(u64),
}

impl FromStr for RetriesArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "forever" => Ok(Self::Forever),
            _ => text.parse().map(Self::Times).map_err(|_| "expected forever, or a number such as 0".to_owned()),
        }
    }
}

impl fmt::Display for RetriesArg {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Forever => f.write_str("forever"),
            Self::Times(times) => write!(f, "{times}"),
        }
    }
}

/// A time of at least a millisecond, and at most a day: more is a slip.
fn time(text: &str) -> Result<Duration, String> {
    let sensible = Duration::from_millis(1)..=Duration::from_secs(86_400);
    let time = humantime::parse_duration(text).map_err(|error| format!("{error}, such as 5s or 500ms"))?;
    if sensible.contains(&time) { Ok(time) } else { Err("expected a time from 1ms to 1day".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_retries_are_checked() {
        assert_eq!(time("1500ms"), Ok(Duration::from_millis(1500)));
        for text in ["", "5", "0s", "2days", "-1s", "soon"] {
            assert!(time(text).is_err(), "{text}");
        }
        for retries in [RetriesArg::Forever, RetriesArg::Times(0), RetriesArg::Times(7)] {
            assert_eq!(retries.to_string().parse(), Ok(retries));
        }
        assert!("-1".parse::<RetriesArg>().unwrap_err().contains("forever, or a number"));
    }
}
