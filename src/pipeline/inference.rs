//! The inference stage: takes what the sources deliver, each in its turn, and analyses it in batches.

use std::time::{Duration, Instant};

use crossbeam_channel::{Select, Sender, TryRecvError};

use super::Problem;
use super::feed::Feed;
use super::stages::{Analysed, Captured};
use crate::analyse::{Analyser, FrameRequest};
use crate::capture::Policy;
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

/// How the stage works.
#[derive(Clone, Copy)]
pub(super) struct InferenceSettings<'a> {
    /// Most frames in one forward pass.
    pub(super) batch: usize,
    /// Overrides what suits each source.
    pub(super) policy: Option<Policy>,
    pub(super) shutdown: &'a Shutdown,
}

/// Analyses what the feeds deliver until all have ended.
pub(super) fn infer(
    feeds: &[Feed<Captured>],
    analyser: &mut Analyser,
    settings: InferenceSettings,
    output: &Sender<Analysed>,
) -> Option<Problem> {
    let mut rotation = Rotation { feeds: feeds.iter().collect(), next: 0 };
    loop {
        let gathered = rotation.gather(settings.batch);
        if gathered.is_empty() {
            return None;
        }
        let requests: Vec<FrameRequest> = gathered.iter().filter_map(|captured| request(captured, settings)).collect();
        let mut analyses = analyser.analyse_batch(&requests).into_iter();
        for captured in gathered {
            let message = match captured {
                Captured::Closed { source, error } => {
                    analyser.forget(source);
                    Analysed::Closed { source, error }
                }
                Captured::Frame { source, info, frame } => {
                    match analyses.next().expect("an answer for each frame, in their order") {
                        Ok(analysis) => Analysed::Frame { source, info, frame, analysis: Box::new(analysis) },
                        Err(error) => {
                            // A network that fails on one frame fails on the next.
                            settings.shutdown.request();
                            return Some(Problem::Analyse { origin: info.name.clone(), frame: frame.index, error });
                        }
                    }
                }
            };
            if output.send(message).is_err() {
                return None;
            }
        }
    }
}

fn request<'a>(captured: &'a Captured, settings: InferenceSettings) -> Option<FrameRequest<'a>> {
    let Captured::Frame { source, info, frame } = captured else { return None };
    let live = settings.policy.unwrap_or(info.policy) == Policy::Live;
    Some(FrameRequest { source: *source, image: &frame.image, live, pts: frame.pts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::feed::{FeedSender, feed};

    fn end(source: usize) -> Captured {
        Captured::Closed { source, error: None }
    }

    fn sources(gathered: &[Captured]) -> Vec<usize> {
        let source = |captured: &Captured| match captured {
            Captured::Frame { source, .. } | Captured::Closed { source, .. } => *source,
        };
        gathered.iter().map(source).collect()
    }

    fn feeds(places: usize, count: usize) -> (Vec<FeedSender<Captured>>, Vec<Feed<Captured>>) {
        (0..count).map(|_| feed(places, &Shutdown::default())).unzip()
    }

    #[test]
    fn each_source_has_its_turn_however_fast_the_others_are() {
        let (senders, feeds) = feeds(100, 3);
        for _ in 0..100 {
            senders[0].send_waiting(end(0)).unwrap();
        }
        for source in [1, 2, 1, 2] {
            senders[source].send_waiting(end(source)).unwrap();
        }
        let mut rotation = Rotation { feeds: feeds.iter().collect(), next: 0 };
        assert_eq!(sources(&rotation.gather(4)), [0, 1, 2, 0]);
        assert_eq!(sources(&rotation.gather(4)), [1, 2, 0, 0]);
        assert_eq!(sources(&rotation.gather(1)), [0]);
    }

    #[test]
    fn a_batch_takes_what_is_there_and_ends_with_the_feeds() {
        let (senders, feeds) = feeds(4, 2);
        let mut rotation = Rotation { feeds: feeds.iter().collect(), next: 0 };
        senders[1].send_waiting(end(1)).unwrap();
        assert_eq!(sources(&rotation.gather(8)), [1], "nobody waits for a source that has nothing");
        senders[0].send_waiting(end(0)).unwrap();
        drop(senders);
        assert_eq!(sources(&rotation.gather(8)), [0]);
        assert!(rotation.gather(8).is_empty());
    }
}
