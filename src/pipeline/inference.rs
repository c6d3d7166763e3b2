//! The inference stage: takes what the sources deliver, each in its turn, and analyses in batches what passes the gate.

use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::Problem;
use super::feed::{Feeds, Message, NoMessage};
use super::stages::{Analysed, Captured};
use crate::analyse::{Analyser, FrameRequest};
use crate::capture::Policy;
use crate::gate::{Gate, GateSettings, Verdict};
use crate::shutdown::Shutdown;

/// How long a batch that is not full waits for further frames.
const GATHERING: Duration = Duration::from_millis(3);

/// Up to `most` messages: waits for the first, takes of the others what is there or comes within a moment. Empty once all
/// feeds have ended.
fn gather<T: Message>(feeds: &mut Feeds<T>, most: usize) -> Vec<T> {
    let mut gathered: Vec<T> = feeds.next(None).into_iter().collect();
    // With a single feed there is nobody to wait for.
    let patience = if feeds.len() > 1 { GATHERING } else { Duration::ZERO };
    let until = Instant::now() + patience;
    while !gathered.is_empty() && gathered.len() < most {
        match feeds.next(Some(until)) {
            Ok(message) => gathered.push(message),
            Err(NoMessage::Timeout | NoMessage::Over) => break,
        }
    }
    gathered
}

/// How the stage works.
#[derive(Clone, Copy)]
pub(super) struct InferenceSettings<'a> {
    /// Most frames in one forward pass.
    pub(super) batch: usize,
    /// Which sources are analysed only when they change.
    pub(super) gate: GateSettings,
    pub(super) shutdown: &'a Shutdown,
}

/// Analyses what the feeds deliver until all have ended.
pub(super) fn infer(
    mut feeds: Feeds<Captured>,
    analyser: &mut Analyser,
    settings: InferenceSettings,
    output: &Sender<Analysed>,
) -> Option<Problem> {
    let mut gate = Gate::new(settings.gate);
    loop {
        let gathered = gather(&mut feeds, settings.batch);
        // What was captured but not looked at may take longer than there is time for after a signal.
        if gathered.is_empty() || settings.shutdown.was_signalled() {
            return None;
        }
        let looked: Vec<Option<(FrameRequest, Verdict)>> =
            gathered.iter().map(|captured| request(captured).map(|request| (request, gate.look(&request)))).collect();
        let changed = looked.iter().flatten().filter(|(_, verdict)| matches!(verdict, Verdict::Changed(_)));
        let requests: Vec<FrameRequest> = changed.map(|(request, _)| *request).collect();
        let verdicts: Vec<Option<Verdict>> =
            looked.into_iter().map(|looked| looked.map(|(_, verdict)| verdict)).collect();
        let mut analyses = analyser.analyse_batch(&requests).into_iter();
        for (captured, verdict) in gathered.into_iter().zip(verdicts) {
            let message = match captured {
                Captured::Closed { source, error } => {
                    analyser.forget(source);
                    gate.forget(source);
                    Analysed::Closed { source, error }
                }
                Captured::State { source, state } => {
                    if !state.delivers() {
                        gate.forget(source);
                    }
                    Analysed::State { source, state }
                }
                Captured::Frame { source, info, policy, frame } => {
                    let analysis = match verdict.expect("a verdict on each frame") {
                        Verdict::Same(analysis) => analysis,
                        Verdict::Changed(appearance) => {
                            match analyses.next().expect("an answer for each frame, in their order") {
                                Ok(analysis) => {
                                    gate.keep(source, frame.pts, appearance, &analysis);
                                    Box::new(analysis)
                                }
                                Err(error) => {
                                    // A network that fails on one frame fails on the next.
                                    settings.shutdown.request();
                                    let (origin, frame) = (info.name.clone(), frame.index);
                                    return Some(Problem::Analyse { origin, frame, error });
                                }
                            }
                        }
                    };
                    Analysed::Frame { source, info, policy, frame, analysis }
                }
            };
            if output.send(message).is_err() {
                return None;
            }
        }
    }
}

fn request(captured: &Captured) -> Option<FrameRequest<'_>> {
    let Captured::Frame { source, policy, frame, .. } = captured else { return None };
    let live = *policy == Policy::Live;
    Some(FrameRequest { source: *source, image: &frame.image, live, pts: frame.pts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::feed::{Feed, FeedSender, feed};

    /// Which source, which message.
    #[derive(Debug, PartialEq)]
    struct Number(usize, usize);

    impl Message for Number {
        fn captured(&self) -> Option<Instant> {
            None
        }
    }

    fn feeds(places: usize, count: usize) -> (Vec<FeedSender<Number>>, Feeds<Number>) {
        let (senders, feeds): (_, Vec<Feed<Number>>) =
            (0..count).map(|_| feed(places, None, &Shutdown::default())).unzip();
        (senders, Feeds::new(feeds))
    }

    #[test]
    fn each_source_has_its_turn_however_fast_the_others_are() {
        let (senders, mut feeds) = feeds(100, 3);
        for message in 0..100 {
            senders[0].send_waiting(Number(0, message)).unwrap();
        }
        for (source, message) in [(1, 0), (2, 0), (1, 1), (2, 1)] {
            senders[source].send_waiting(Number(source, message)).unwrap();
        }
        assert_eq!(gather(&mut feeds, 4), [Number(0, 0), Number(1, 0), Number(2, 0), Number(0, 1)]);
        assert_eq!(gather(&mut feeds, 4), [Number(1, 1), Number(2, 1), Number(0, 2), Number(0, 3)]);
        assert_eq!(gather(&mut feeds, 1), [Number(0, 4)]);
    }

    #[test]
    fn a_batch_takes_what_is_there_and_ends_with_the_feeds() {
        let (senders, mut feeds) = feeds(4, 2);
        senders[1].send_waiting(Number(1, 0)).unwrap();
        assert_eq!(gather(&mut feeds, 8), [Number(1, 0)], "nobody waits for a source that has nothing");
        senders[0].send_waiting(Number(0, 0)).unwrap();
        drop(senders);
        assert_eq!(gather(&mut feeds, 8), [Number(0, 0)]);
        assert!(gather(&mut feeds, 8).is_empty());
    }
}
