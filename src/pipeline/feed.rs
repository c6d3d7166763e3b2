//! The channel between a capture thread and inference, with its two ways of sending.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError, bounded};

use crate::shutdown::Shutdown;

/// How often a sender that waits looks whether there is still somebody to wait for.
const POLL: Duration = Duration::from_millis(50);

/// Where inference takes frames from.
#[derive(Debug)]
pub struct Feed<T> {
    pub(super) receiver: Receiver<T>,
    dropped: Arc<AtomicU64>,
}

/// Where a capture thread puts frames.
#[derive(Debug)]
pub struct FeedSender<T> {
    sender: Sender<T>,
    /// Takes back what is to be replaced.
    displaced: Receiver<T>,
    dropped: Arc<AtomicU64>,
    /// Tells that nobody takes frames any more, which a sender that holds a receiver cannot see.
    shutdown: Shutdown,
}

/// Nobody takes frames any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

/// A channel of so many places. With one place, [`FeedSender::send_newest`] keeps exactly the newest frame.
pub fn feed<T>(places: usize, shutdown: &Shutdown) -> (FeedSender<T>, Feed<T>) {
    let (sender, receiver) = bounded(places);
    let dropped = Arc::<AtomicU64>::default();
    let feed = Feed { receiver: receiver.clone(), dropped: Arc::clone(&dropped) };
    (FeedSender { sender, displaced: receiver, dropped, shutdown: shutdown.clone() }, feed)
}

impl<T> Feed<T> {
    /// Counts the frames that were replaced before anybody took them.
    pub(super) fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }
}

impl<T> FeedSender<T> {
    /// For live sources: replaces the oldest frame that nobody has taken yet, so that the consumer is never behind.
    ///
    /// # Errors
    ///
    /// When nobody takes frames any more.
    pub fn send_newest(&self, frame: T) -> Result<(), Closed> {
        let mut frame = frame;
        while !self.shutdown.is_requested() {
            match self.sender.try_send(frame) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(_)) => return Err(Closed),
                Err(TrySendError::Full(refused)) => {
                    frame = refused;
                    // Inference may have taken one in between; then there is room now.
                    self.dropped.fetch_add(u64::from(self.displaced.try_recv().is_ok()), Ordering::Relaxed);
                }
            }
        }
        Err(Closed)
    }

    /// For recorded sources, and for the last message of any: waits while the channel is full, so that nothing is lost.
    ///
    /// # Errors
    ///
    /// When nobody takes frames any more.
    pub fn send_waiting(&self, frame: T) -> Result<(), Closed> {
        let mut frame = frame;
        loop {
            match self.sender.send_timeout(frame, POLL) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Disconnected(_)) => return Err(Closed),
                Err(SendTimeoutError::Timeout(_)) if self.shutdown.is_requested() => return Err(Closed),
                Err(SendTimeoutError::Timeout(refused)) => frame = refused,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_frame_displaces_the_one_before() {
        let (sender, feed) = feed(1, &Shutdown::default());
        for frame in 0..5 {
            sender.send_newest(frame).unwrap();
        }
        assert_eq!(feed.receiver.try_recv(), Ok(4));
        assert_eq!(feed.dropped().load(Ordering::Relaxed), 4);
        sender.send_newest(5).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send_waiting(-1).unwrap());
            assert_eq!(feed.receiver.recv(), Ok(5), "what comes last waits for its turn");
            assert_eq!(feed.receiver.recv(), Ok(-1));
        });
        assert_eq!(feed.dropped().load(Ordering::Relaxed), 4);
    }

    #[test]
    fn no_frame_of_a_recording_is_lost() {
        let (sender, feed) = feed(2, &Shutdown::default());
        let taken: Vec<i32> = std::thread::scope(|scope| {
            scope.spawn(move || (0..100).for_each(|frame| sender.send_waiting(frame).unwrap()));
            feed.receiver.iter().inspect(|_| std::thread::yield_now()).collect()
        });
        assert_eq!(taken, (0..100).collect::<Vec<_>>());
        assert_eq!(feed.dropped().load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_shutdown_frees_a_sender_that_nobody_listens_to() {
        let shutdown = Shutdown::default();
        let (sender, feed) = feed(1, &shutdown);
        drop(feed);
        sender.send_newest(1).unwrap();
        shutdown.request();
        assert_eq!(sender.send_newest(2), Err(Closed));
        assert_eq!(sender.send_waiting(3), Err(Closed));
    }
}
