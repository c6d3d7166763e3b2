//! The channel between a capture thread and inference, in its two policies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::shutdown::Shutdown;

/// Where inference takes frames from.
#[derive(Debug)]
pub struct Feed<T> {
    pub(super) receiver: Receiver<T>,
    dropped: Arc<AtomicU64>,
}

/// Where a capture thread puts frames.
#[derive(Debug)]
pub enum FeedSender<T> {
    /// Waits while the channel is full: no frame is lost.
    EveryFrame(Sender<T>),
    /// Replaces the frame that nobody has taken yet: never behind.
    NewestFrame {
        /// A channel of one place.
        sender: Sender<T>,
        /// Takes back what is to be replaced.
        displaced: Receiver<T>,
        /// How many were replaced.
        dropped: Arc<AtomicU64>,
        /// Tells that nobody takes frames any more, which a sender that holds a receiver cannot see.
        shutdown: Shutdown,
    },
}

/// Nobody takes frames any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

impl<T> Feed<T> {
    /// For recorded sources: back-pressure.
    pub fn every_frame(places: usize) -> (FeedSender<T>, Self) {
        let (sender, receiver) = bounded(places);
        (FeedSender::EveryFrame(sender), Self { receiver, dropped: Arc::default() })
    }

    /// For live sources: the newest frame only.
    pub fn newest_frame(shutdown: Shutdown) -> (FeedSender<T>, Self) {
        let (sender, receiver) = bounded(1);
        let dropped = Arc::<AtomicU64>::default();
        let feed = Self { receiver: receiver.clone(), dropped: dropped.clone() };
        (FeedSender::NewestFrame { sender, displaced: receiver, dropped, shutdown }, feed)
    }

    /// Counts the frames that were replaced before anybody took them.
    pub fn dropped(&self) -> Arc<AtomicU64> {
        self.dropped.clone()
    }
}

impl<T> FeedSender<T> {
    /// Passes a frame on.
    ///
    /// # Errors
    ///
    /// When nobody takes frames any more.
    pub fn send(&self, frame: T) -> Result<(), Closed> {
        match self {
            Self::EveryFrame(sender) => sender.send(frame).map_err(|_| Closed),
            Self::NewestFrame { sender, displaced, dropped, shutdown } => {
                let mut frame = frame;
                while !shutdown.is_requested() {
                    match sender.try_send(frame) {
                        Ok(()) => return Ok(()),
                        Err(TrySendError::Disconnected(_)) => return Err(Closed),
                        Err(TrySendError::Full(refused)) => {
                            frame = refused;
                            // Inference may have taken it in between; then there is room now.
                            dropped.fetch_add(u64::from(displaced.try_recv().is_ok()), Ordering::Relaxed);
                        }
                    }
                }
                Err(Closed)
            }
        }
    }

    /// Passes the last message of a source on, which is never replaced.
    ///
    /// # Errors
    ///
    /// When nobody takes frames any more.
    pub fn close(&self, last: T) -> Result<(), Closed> {
        match self {
            Self::EveryFrame(sender) => sender.send(last).map_err(|_| Closed),
            Self::NewestFrame { sender, shutdown, .. } => {
                let mut last = last;
                loop {
                    match sender.send_timeout(last, std::time::Duration::from_millis(50)) {
                        Ok(()) => return Ok(()),
                        Err(error) if error.is_disconnected() || shutdown.is_requested() => return Err(Closed),
                        Err(error) => last = error.into_inner(),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_frame_displaces_the_one_before() {
        let (sender, feed) = Feed::newest_frame(Shutdown::default());
        for frame in 0..5 {
            sender.send(frame).unwrap();
        }
        assert_eq!(feed.receiver.try_recv(), Ok(4));
        assert_eq!(feed.dropped().load(Ordering::Relaxed), 4);
        sender.send(5).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| sender.close(-1).unwrap());
            assert_eq!(feed.receiver.recv(), Ok(5), "what comes last waits for its turn");
            assert_eq!(feed.receiver.recv(), Ok(-1));
        });
        assert_eq!(feed.dropped().load(Ordering::Relaxed), 4);
    }

    #[test]
    fn no_frame_of_a_recording_is_lost() {
        let (sender, feed) = Feed::every_frame(2);
        let taken: Vec<i32> = std::thread::scope(|scope| {
            scope.spawn(move || (0..100).for_each(|frame| sender.send(frame).unwrap()));
            feed.receiver.iter().inspect(|_| std::thread::yield_now()).collect()
        });
        assert_eq!(taken, (0..100).collect::<Vec<_>>());
        assert_eq!(feed.dropped().load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_shutdown_frees_a_sender_that_nobody_listens_to() {
        let shutdown = Shutdown::default();
        let (sender, feed) = Feed::newest_frame(shutdown.clone());
        drop(feed);
        sender.send(1).unwrap();
        shutdown.request();
        assert_eq!(sender.send(2), Err(Closed));
        assert_eq!(sender.close(3), Err(Closed));
    }
}
