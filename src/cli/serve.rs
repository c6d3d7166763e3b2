//! Where live outputs listen: the arguments of `run` for pages and streams that others look at.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

/// Live outputs.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Live outputs")]
pub struct LiveOutputArgs {
    /// Serve a live page by HTTP at this address (8080 is 127.0.0.1:8080), with /snapshot/SOURCE.jpg, /stream/SOURCE.mjpg,
    /// /events, /stats, /healthz and /metrics. An address that other machines can reach wants a token
    #[arg(long, value_name = "ADDR")]
    pub serve: Option<ListenArg>,

    /// Serve the annotated pictures by RTSP (H.264) at this address, as rtsp://ADDR/SOURCE. An address that other machines
    /// can reach wants a token, which is the password of the user maskwatch
    #[arg(long, value_name = "ADDR")]
    pub rtsp_out: Option<ListenArg>,

    /// File with the token that live outputs want from whoever looks [default: what MASKWATCH_SERVE_TOKEN holds]
    #[arg(long, value_name = "FILE")]
    pub serve_token_file: Option<PathBuf>,
}

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenArg(pub SocketAddr);

impl FromStr for ListenArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let on_loopback = |port: &str| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse::<u16>().ok()?)));
        let address = text.parse().ok().or_else(|| on_loopback(text.strip_prefix("localhost:").unwrap_or(text)));
        address
            .map(Self)
            .ok_or_else(|| "expected ADDRESS:PORT such as 127.0.0.1:8080 or [::1]:8080, or a port".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_on_this_machine() {
        let parsed = |text: &str| text.parse::<ListenArg>().map(|address| address.0.to_string());
        for (text, expected) in [
            ("8080", "127.0.0.1:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::1]:0", "[::1]:0"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(expected));
        }
        for text in ["", "65536", "-1", "example.org:80", "127.0.0.1", ":80", "localhost", "http://127.0.0.1:80"] {
            assert!(parsed(text).unwrap_err().contains("ADDRESS:PORT"), "{text}");
        }
    }
}
