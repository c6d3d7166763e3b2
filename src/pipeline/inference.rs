//! The inference stage: takes what the sources deliver, each in its turn, and analyses it in batches.

use std::time::{Duration, Instant};

use crossbeam_channel::{Select, Sender, TryRecvError};

use super::Problem;
use super::feed::Feed;
use super::stages::{Analysed, Captured};
use crate::analyse::Analyser;
use crate::shutdown::Shutdown;

/// How long a batch that is not full waits for further frames.
const GATHERING: Duration = Duration::from_millis(3);

/// Takes messages from feeds in rotation, so that a fast source never keeps a slow one from its turn.
struct Rotation<'a> {
    feeds: Vec<&'a Feed<Captured>>,
    next: usize,
}

impl Rotation<'_> {
    /// Up to `most` messages: waits for the first, takes of the others what is there or comes within a moment. Empty once
    /// all feeds have ended.
    fn gather(&mut self, most: usize) -> Vec<Captured> {
        let mut gathered = Vec::new();
        while gathered.is_empty() && !self.feeds.is_empty() {
            self.wait(None);
            self.take(most, &mut gathered);
        }
        let until = Instant::now() + GATHERING;
        // With a single feed there is nobody to wait for.
        while gathered.len() < most && self.feeds.len() > 1 && self.wait(Some(until)) {
            self.take(most, &mut gathered);
        }
        gathered
    }

    /// Waits until a feed has something, or has ended.
    fn wait(&self, until: Option<Instant>) -> bool {
        let mut select = Select::new();
        for feed in &self.feeds {
            select.recv(&feed.receiver);
        }
        match until {
            Some(until) => select.ready_deadline(until).is_ok(),
            None => {
                select.ready();
                true
            }
        }
    }

    /// One message of each feed in turn, again and again while there are some.
    fn take(&mut self, most: usize, gathered: &mut Vec<Captured>) {
        let mut idle = 0;
        while gathered.len() < most && idle < self.feeds.len() {
            let index = self.next % self.feeds.len();
            match self.feeds[index].receiver.try_recv() {
                Ok(message) => {
                    gathered.push(message);
                    idle = 0;
                    self.next = index + 1;
                }
                Err(TryRecvError::Empty) => {
                    idle += 1;
                    self.next = index + 1;
                }
                Err(TryRecvError::Disconnected) => {
                    self.feeds.remove(index);
                    idle = 0;
                    self.next = index;
                }
            }
        }
    }
}

/// Analyses what the feeds deliver until all have ended.
pub(super) fn infer(
    feeds: &[Feed<Captured>],
    analyser: &Analyser,
    batch: usize,
    output: &Sender<Analysed>,
    shutdown: &Shutdown,
) -> Option<Problem> {
    let mut rotation = Rotation { feeds: feeds.iter().collect(), next: 0 };
    loop {
        let gathered = rotation.gather(batch);
        if gathered.is_empty() {
            return None;
        }
        for captured in gathered {
            let message = match captured {
                Captured::Closed { source, error } => Analysed::Closed { source, error },
                Captured::Frame { source, info, frame } => match analyser.analyse(&frame.image) {
                    Ok(analysis) => Analysed::Frame { source, info, frame, analysis: Box::new(analysis) },
                    Err(error) => {
                        // A network that fails on one frame fails on the next.
                        shutdown.request();
                        return Some(Problem::Analyse { origin: info.name.clone(), frame: frame.index, error });
                    }
                },
            };
            if output.send(message).is_err() {
                return None;
            }
        }
    }
}
