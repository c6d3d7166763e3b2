//! What is found as live H.264 streams by RTSP, one a source, for players and recorders.
//!
//! GStreamer's RTSP server speaks the protocol; [`mount`] is one stream. A thread drives the server, and the sink hands
//! frames to streams that somebody watches, drawing none otherwise. A player that is too slow loses packets, and nothing
//! waits for it. A source has no stream before its first frame: players are told at once that there is none (404), where the server
//! would let them wait for a picture.

mod error;
mod mount;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use gstreamer as gst;
use gstreamer_rtsp_server::gst_rtsp::RTSPAuthMethod;
use gstreamer_rtsp_server::prelude::*;
use gstreamer_rtsp_server::{
    RTSP_PERM_MEDIA_FACTORY_ACCESS, RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, RTSP_TOKEN_MEDIA_FACTORY_ROLE, RTSPAuth,
    RTSPClient, RTSPFilterResult, RTSPMediaFactory, RTSPMountPoints, RTSPServer, RTSPToken, gio, glib,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::access::{self, Token};
use super::video::check_encoder;
use super::{Finding, Sink, SinkError, SourceContext, Written};
use crate::shared::Shared;

pub use error::RtspError;
use mount::Mount;

/// Elements beyond those of video files, with the Debian package that has each.
const ELEMENTS: [(&str, &str); 3] = [
    ("rtph264pay", "gstreamer1.0-plugins-good"),
    ("rtpbin", "gstreamer1.0-plugins-good"),
    ("videoscale", "gstreamer1.0-plugins-base"),
];
/// Who may look, where a token is wanted; the token is the password.
const USER: &str = "maskwatch";
/// Players at once; further ones are cut off.
const MOST_CLIENTS: usize = 32;
/// How often the server looks for players that have vanished without a word.
const CLEAN_UP: Duration = Duration::from_secs(5);
/// What stays as it is in the path of an address (RFC 3986, unreserved).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Serves what is found by RTSP, until it is dropped.
pub struct RtspOut {
    streams: Vec<Stream>,
    points: RTSPMountPoints,
    address: SocketAddr,
    server: RTSPServer,
    main_loop: glib::MainLoop,
    thread: Option<JoinHandle<()>>,
}

/// One source.
struct Stream {
    path: String,
    mount: Arc<Mount>,
    /// Makes what players get; taken by the server with the first frame.
    factory: Option<RTSPMediaFactory>,
}

impl RtspOut {
    /// Listens, and serves sources of these names, in the order of their numbers.
    ///
    /// # Errors
    ///
    /// When the address is taken, not this machine's, or open to others without a token, or GStreamer lacks something.
    pub fn create(
        address: SocketAddr,
        token: Option<&Token>,
        names: impl IntoIterator<Item = String>,
    ) -> Result<Self, RtspError> {
        access::check("--rtsp-out", address, token)?;
        check_encoder()?;
        if let Some(&(name, debian_package)) =
            ELEMENTS.iter().find(|(name, _)| gst::ElementFactory::find(name).is_none())
        {
            return Err(RtspError::MissingElement { name, debian_package });
        }
        let failed = |reason: String| RtspError::Listen { address, reason };
        let server = RTSPServer::new();
        server.set_address(&address.ip().to_string());
        server.set_service(&address.port().to_string());
        if let Some(token) = token {
            server.set_auth(Some(&authority(token)));
        }
        let streams = names.into_iter().map(|name| Stream::new(&name, token.is_some())).collect();
        let points =
            server.mount_points().ok_or_else(|| failed("GStreamer's server has no mount points".to_owned()))?;
        limit_clients(&server);

        // In place of `attach`, which does not tell what went wrong.
        let listening =
            server.create_source(gio::Cancellable::NONE).map_err(|error| failed(error.message().to_owned()))?;
        let port = u16::try_from(server.bound_port()).map_err(|_| failed("it got no port".to_owned()))?;
        let context = glib::MainContext::new();
        listening.attach(Some(&context));
        clean_up(&server).attach(Some(&context));
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let driven = main_loop.clone();
        let thread = std::thread::Builder::new().name("rtsp-server".to_owned()).spawn(move || {
            driven.run();
            listening.destroy();
        })?;
        let address = SocketAddr::new(address.ip(), port);
        Ok(Self { streams, points, address, server, main_loop, thread: Some(thread) })
    }

    /// Where the streams are, in the order of the sources.
    pub fn addresses(&self) -> impl Iterator<Item = String> {
        self.streams.iter().map(|stream| format!("rtsp://{}{}", self.address, stream.path))
    }

    /// Sends the newest frames again to who has got none for a while.
    fn repeat(&self) {
        self.streams.iter().for_each(|stream| stream.mount.repeat());
    }

    fn check(&self) -> Result<(), SinkError> {
        match &self.thread {
            Some(thread) if !thread.is_finished() => Ok(()),
            _ => Err(RtspError::Stopped.into()),
        }
    }
}

impl Stream {
    fn new(name: &str, wants_token: bool) -> Self {
        let mount = Arc::<Mount>::default();
        let factory = mount.factory();
        if wants_token {
            factory.add_role_from_structure(
                &gst::Structure::builder(USER)
                    .field(RTSP_PERM_MEDIA_FACTORY_ACCESS, true)
                    .field(RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, true)
                    .build(),
            );
        }
        Self { path: path(name), mount, factory: Some(factory) }
    }
}

/// The path of a source.
fn path(name: &str) -> String {
    format!("/{}", utf8_percent_encode(name, ESCAPED))
}

/// Lets in who knows the token. By digest: the token does not cross the network.
fn authority(token: &Token) -> RTSPAuth {
    let auth = RTSPAuth::new();
    auth.set_supported_methods(RTSPAuthMethod::Digest);
    let role = RTSPToken::builder().field(RTSP_TOKEN_MEDIA_FACTORY_ROLE, USER).build();
    auth.add_digest(USER, token.secret(), &role);
    auth
}

/// Cuts off clients beyond the limit.
fn limit_clients(server: &RTSPServer) {
    let clients = Arc::<AtomicUsize>::default();
    server.connect_client_connected(move |_, client: &RTSPClient| {
        let clients = Arc::clone(&clients);
        let is_too_many = clients.fetch_add(1, Ordering::SeqCst) >= MOST_CLIENTS;
        client.connect_closed(move |_| {
            clients.fetch_sub(1, Ordering::SeqCst);
        });
        if is_too_many {
            tracing::debug!("an RTSP client too many");
            client.close();
        }
    });
}

/// Ends sessions whose clients are silent.
fn clean_up(server: &RTSPServer) -> glib::Source {
    let pool = server.session_pool();
    glib::timeout_source_new(CLEAN_UP, Some("sessions"), glib::Priority::DEFAULT, move || {
        if let Some(pool) = &pool {
            pool.cleanup();
        }
        glib::ControlFlow::Continue
    })
}

impl Sink for RtspOut {
    fn name(&self) -> &'static str {
        "rtsp-out"
    }

    fn open(&mut self, _: SourceContext) -> Result<(), SinkError> {
        Ok(())
    }

    fn write(&mut self, finding: &Shared<Finding>) -> Result<(), SinkError> {
        self.check()?;
        if let Some(stream) = self.streams.get_mut(finding.source) {
            stream.mount.show(finding);
            if let Some(factory) = stream.factory.take() {
                self.points.add_factory(&stream.path, factory);
            }
        }
        // Other sources may stand still meanwhile.
        self.repeat();
        Ok(())
    }

    fn close(&mut self, _: usize) -> Result<(), SinkError> {
        // Players keep the last picture: the source may come back.
        Ok(())
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        self.repeat();
        self.check()
    }

    fn written(&self) -> Vec<Written> {
        Vec::new()
    }
}

impl Drop for RtspOut {
    fn drop(&mut self) {
        self.server.client_filter(Some(&mut |_, _| RTSPFilterResult::Remove));
        // From within: a loop that has not begun to run would forget a plain call, and run for ever.
        let ended = self.main_loop.clone();
        let quit = glib::idle_source_new(None, glib::Priority::DEFAULT, move || {
            ended.quit();
            glib::ControlFlow::Break
        });
        quit.attach(Some(&self.main_loop.context()));
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("{}", RtspError::Stopped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths() {
        assert_eq!(path("door-2_b.x~"), "/door-2_b.x~");
        assert_eq!(path("hall / ü?"), "/hall%20%2F%20%C3%BC%3F");
    }
}
