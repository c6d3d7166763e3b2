//! The channels between capture threads and inference, with their two ways of sending.
//!
//! A [`Feed`] carries frames, and beside them the states of their source, which no frame may displace. [`Feeds`] is where
//! inference takes both from, whichever source is ready; frames that got too old on the way are dropped there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, SendTimeoutError, Sender, TryRecvError, TrySendError, bounded};

use crate::shutdown::Shutdown;
use crate::stats::DropCounters;

/// How often a sender that waits looks whether there is still somebody to wait for.
const POLL: Duration = Duration::from_millis(50);
/// How often a sender looks whether enough is taken.
const TAKEN_POLL: Duration = Duration::from_millis(1);
/// States that may wait. They change seldom; when nobody takes them for long, the oldest go.
const STATES: usize = 16;

/// What passes through a feed.
pub trait Message {
    /// When it was captured, if it loses its worth with age.
    fn captured(&self) -> Option<Instant>;

    /// Whether it is the last of its source.
    fn is_last(&self) -> bool;

    /// Bytes of its pixels.
    fn bytes(&self) -> usize;
}

/// Where inference takes the messages of one capture thread from.
#[derive(Debug)]
pub struct Feed<T> {
    pub(super) receiver: Receiver<T>,
    states: Receiver<T>,
    /// Taken already, but there are states to be told first.
    held: Option<T>,
    /// How old a message may be when it is taken.
    max_age: Option<Duration>,
    /// See [`Feed::at_hand`].
    is_at_hand: bool,
    counters: Arc<DropCounters>,
}

/// Where a capture thread puts messages.
#[derive(Debug)]
pub struct FeedSender<T> {
    sender: Sender<T>,
    /// Takes back what is to be replaced.
    displaced: Receiver<T>,
    states: Sender<T>,
    displaced_states: Receiver<T>,
    counters: Arc<DropCounters>,
    /// Bytes of frames that wait, if all are as large as the next, from which on that is not added.
    most_bytes: usize,
    /// Tells that nobody takes frames any more, which a sender that holds a receiver cannot see.
    shutdown: Shutdown,
}

/// Nobody takes frames any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

/// A channel of so many places. With one place, [`FeedSender::send_newest`] keeps exactly the newest frame. What is older
/// than `max_age` when its turn comes is dropped.
pub fn feed<T>(places: usize, max_age: Option<Duration>, shutdown: &Shutdown) -> (FeedSender<T>, Feed<T>) {
    let (sender, receiver) = bounded(places);
    let (states_sender, states) = bounded(STATES);
    let counters = Arc::<DropCounters>::default();
    let sender = FeedSender {
        sender,
        displaced: receiver.clone(),
        states: states_sender,
        displaced_states: states.clone(),
        counters: Arc::clone(&counters),
        most_bytes: usize::MAX,
        shutdown: shutdown.clone(),
    };
    (sender, Feed { receiver, states, held: None, max_age, is_at_hand: false, counters })
}

impl<T> Feed<T> {
    /// The same, with messages that come as fast as they are taken until the last has come, so that it is no use to go on without
    /// them.
    pub fn at_hand(self) -> Self {
        Self { is_at_hand: true, ..self }
    }

    /// Counts the frames that were dropped.
    pub(super) fn drops(&self) -> Arc<DropCounters> {
        Arc::clone(&self.counters)
    }
}

impl<T: Message> Feed<T> {
    /// What comes next, states before the frames that came after them.
    fn take(&mut self) -> Result<T, TryRecvError> {
        loop {
            if let Ok(state) = self.states.try_recv() {
                return Ok(state);
            }
            if let Some(held) = self.held.take() {
                if self.is_fresh(&held) {
                    return Ok(held);
                }
                continue;
            }
            match self.receiver.try_recv() {
                // A state may have been put between the two looks, and before this.
                Ok(message) => self.held = Some(message),
                Err(TryRecvError::Disconnected) if !self.states.is_empty() => {}
                Err(nothing) => return Err(nothing),
            }
        }
    }

    fn is_fresh(&self, message: &T) -> bool {
        let too_old = match (self.max_age, message.captured()) {
            (Some(max_age), Some(captured)) => captured.elapsed() > max_age,
            _ => false,
        };
        self.counters.too_old.fetch_add(u64::from(too_old), Ordering::Relaxed);
        !too_old
    }
}

/// All feeds of a run. They have their turns in rotation, so that a fast source never keeps a slow one from its own.
#[derive(Debug)]
pub struct Feeds<T> {
    feeds: Vec<Feed<T>>,
    /// Whose turn it is.
    turn: usize,
}

/// Why there is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoMessage {
    /// None came in time.
    Timeout,
    /// All senders are gone.
    Over,
}

impl<T: Message> Feeds<T> {
    /// Joins feeds.
    pub fn new(feeds: Vec<Feed<T>>) -> Self {
        Self { feeds, turn: 0 }
    }

    /// How many have not ended.
    pub fn len(&self) -> usize {
        self.feeds.len()
    }

    /// Whether what is still to come is [at hand](Feed::at_hand), and from a single feed, so that it always comes in one order.
    pub fn are_at_hand(&self) -> bool {
        matches!(&self.feeds[..], [feed] if feed.is_at_hand)
    }

    /// Whether all have ended.
    pub fn is_empty(&self) -> bool {
        self.feeds.is_empty()
    }

    /// Waits for a message: of the sources that are ready, of the one whose turn it is.
    ///
    /// # Errors
    ///
    /// When all senders are gone and all messages are taken, or when `deadline`, if there is one, has passed.
    pub fn next(&mut self, deadline: Option<Instant>) -> Result<T, NoMessage> {
        loop {
            if let Some(message) = self.take_in_turn() {
                return Ok(message);
            }
            if self.feeds.is_empty() {
                return Err(NoMessage::Over);
            }
            let mut select = Select::new();
            for feed in &self.feeds {
                select.recv(&feed.states);
                select.recv(&feed.receiver);
            }
            match deadline {
                Some(deadline) => {
                    select.ready_deadline(deadline).map_err(|_| NoMessage::Timeout)?;
                }
                None => {
                    select.ready();
                }
            }
        }
    }

    /// A message that is there, of the first feed in turn that has one. Feeds that have ended go.
    fn take_in_turn(&mut self) -> Option<T> {
        let mut idle = 0;
        while idle < self.feeds.len() {
            let index = self.turn % self.feeds.len();
            match self.feeds[index].take() {
                Ok(message) => {
                    self.turn = index + 1;
                    return Some(message);
                }
                Err(TryRecvError::Empty) => {
                    idle += 1;
                    self.turn = index + 1;
                }
                Err(TryRecvError::Disconnected) => {
                    self.feeds.remove(index);
                    self.turn = index;
                }
            }
        }
        None
    }
}

impl<T> FeedSender<T> {
    /// The same, where frames that wait leave places free once they hold so many bytes.
    pub fn holding(self, most_bytes: usize) -> Self {
        Self { most_bytes, ..self }
    }

    /// For live sources: replaces the oldest frame that nobody has taken yet, so that the consumer is never behind.
    ///
    /// # Errors
    ///
    /// When nobody takes frames any more.
    pub fn send_newest(&self, frame: T) -> Result<(), Closed> {
        self.displace(&self.sender, &self.displaced, frame, Some(&self.counters.replaced))
    }

    /// For what a source is up to: displaces no frame, and is displaced by none.
    ///
    /// # Errors
    ///
    /// When nobody takes frames any more.
    pub fn send_state(&self, state: T) -> Result<(), Closed> {
        self.displace(&self.states, &self.displaced_states, state, None)
    }

    /// Counts frames that were dropped before they came here.
    pub fn count_skipped(&self, frames: u64) {
        self.counters.skipped.fetch_add(frames, Ordering::Relaxed);
    }

    fn displace(
        &self,
        sender: &Sender<T>,
        displaced: &Receiver<T>,
        message: T,
        counter: Option<&AtomicU64>,
    ) -> Result<(), Closed> {
        let mut message = message;
        while !self.shutdown.is_requested() {
            match sender.try_send(message) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(_)) => return Err(Closed),
                Err(TrySendError::Full(refused)) => {
                    message = refused;
                    // Inference may have taken one in between; then there is room now.
                    let gone = u64::from(displaced.try_recv().is_ok());
                    if let Some(counter) = counter {
                        counter.fetch_add(gone, Ordering::Relaxed);
                    }
                }
            }
        }
        Err(Closed)
    }

    /// Frames that were sent and dropped on the way.
    pub fn lost(&self) -> u64 {
        let drops = self.counters.read();
        drops.replaced + drops.too_old
    }

    /// Waits until all that was sent is taken, or nobody takes it any more.
    pub fn flush(&self) {
        while !self.sender.is_empty() && !self.shutdown.is_requested() {
            std::thread::sleep(TAKEN_POLL);
        }
    }

    /// For recorded sources, and for the last message of any: waits while the channel is full, so that nothing is lost. Once the
    /// end is asked for, nobody wants the frames any more that a last message waits for: it takes their place.
    ///
    /// # Errors
    ///
    /// When nobody takes frames any more.
    pub fn send_waiting(&self, message: T) -> Result<(), Closed>
    where
        T: Message,
    {
        let most = if message.bytes() == 0 { usize::MAX } else { self.most_bytes.div_ceil(message.bytes()).max(1) };
        let has_fewer_places = self.sender.capacity().is_some_and(|places| places <= most);
        while !has_fewer_places && self.sender.len() >= most && !self.shutdown.is_requested() {
            std::thread::sleep(TAKEN_POLL);
        }
        let mut message = message;
        loop {
            match self.sender.send_timeout(message, POLL) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Disconnected(_)) => return Err(Closed),
                Err(SendTimeoutError::Timeout(refused)) => message = refused,
            }
            if self.shutdown.is_requested() {
                if !message.is_last() {
                    return Err(Closed);
                }
                // Inference may have taken one in between; then there is room now.
                let _ = self.displaced.try_recv();
            }
        }
    }
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
