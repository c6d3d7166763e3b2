//! The live page and all else that goes out by HTTP.
//!
//! ```text
//! sink thread ─► hub (newest finding a source, events) ─► server thread ─► viewers
//!                                  └─► encoders, for those who look
//! ```
//!
//! The sink only puts the newest finding of each source into the [`hub`]. Whatever costs something happens on behalf of
//! somebody who looks: a picture is drawn and encoded once however many look ([`watched`], [`picture`]), an event is written
//! if somebody listens ([`streams`]). Slow viewers skip pictures and lose events, and nothing waits for them. [`routes`] has
//! the addresses, [`gate`] lets in or not, [`server`] holds the limits on connections; [`status`] and [`metrics`] report.

mod error;
mod gate;
mod hub;
mod metrics;
mod picture;
mod process;
mod routes;
mod server;
mod settings;
mod status;
mod streams;
mod watched;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::{Finding, Notice, Sink, SinkError, SourceContext, Written, access};
use crate::shared::Shared;
use crate::stats::RunStats;

pub use error::ServeError;
pub use settings::{ServeLimits, ServeSettings};

use gate::Gate;
use hub::Hub;

/// Serves what is found by HTTP, until it is dropped.
#[derive(Debug)]
pub struct Serve {
    hub: Arc<Hub>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Serve {
    /// Listens, and serves sources of these names, in the order of their numbers.
    ///
    /// # Errors
    ///
    /// When the address is taken, not this machine's, or open to others without a token.
    pub fn create(
        settings: &ServeSettings,
        names: impl IntoIterator<Item = String>,
        stats: Arc<RunStats>,
    ) -> Result<Self, ServeError> {
        let ServeSettings { address, token, limits } = settings;
        access::check("--serve", *address, token.as_ref())?;
        let failed = |reason| ServeError::Listen { address: *address, reason };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;

        let runtime = server::runtime().map_err(ServeError::Start)?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(failed)?
        };
        let (stop, stopping) = watch::channel(false);
        let gate = Gate::new(token.as_ref(), address);
        let hub = Arc::new(Hub::new(names, stats, gate, *limits, stopping.clone()));
        let served = Arc::clone(&hub);
        let thread = std::thread::Builder::new()
            .name("serve-http".to_owned())
            .spawn(move || server::run(runtime, listener, served, stopping))
            .map_err(ServeError::Start)?;
        Ok(Self { hub, address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn check(&self) -> Result<(), SinkError> {
        match &self.thread {
            Some(thread) if !thread.is_finished() => Ok(()),
            _ => Err(ServeError::Stopped.into()),
        }
    }
}

impl Sink for Serve {
    fn name(&self) -> &'static str {
        "serve"
    }

    fn wants_notices(&self) -> bool {
        true
    }

    fn open(&mut self, _: SourceContext) -> Result<(), SinkError> {
        Ok(())
    }

    fn write(&mut self, finding: &Shared<Finding>) -> Result<(), SinkError> {
        self.check()?;
        if let Err(error) = self.hub.show(finding) {
            tracing::warn!("an event could not be sent: {error}");
        }
        Ok(())
    }

    fn notice(&mut self, notice: &Notice) -> Result<(), SinkError> {
        self.check()?;
        if let Err(error) = self.hub.announce(notice) {
            tracing::warn!("an event could not be sent: {error}");
        }
        Ok(())
    }

    fn close(&mut self, _: usize) -> Result<(), SinkError> {
        // The last picture stays, and its age tells.
        Ok(())
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        self.check()
    }

    fn written(&self) -> Vec<Written> {
        Vec::new()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("{}", ServeError::Stopped);
        }
    }
}
