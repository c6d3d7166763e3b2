//! The inference stage: takes what the sources deliver, each in its turn, and hands to the network in batches what passes the gate.
//!
//! While the network looks at a batch, the next one is on its way to it, and [`super::explanation`] is busy with one before.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::Problem;
use super::feed::{Feeds, Message, NoMessage};
use super::stages::Captured;
use crate::analyse::{BatchLimit, FrameRequest, Pending, Submission};
use crate::capture::{Policy, SourceState};
use crate::frame::Batch;
use crate::gate::{Gate, Verdict};
use crate::model::upload::Uploads;
use crate::shutdown::Shutdown;

/// How long a batch that is not full waits for frames of other sources.
const GATHERING: Duration = Duration::from_millis(3);
/// How long after a signal sources may take to say what ended them before it.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Messages up to a limit: waits for the first, takes of the others what is there or comes within a moment and, of those that
/// are at hand, all, so that what shares a pass does not depend on how fast it is decoded. Empty once all feeds have ended.
fn gather<T: Message>(feeds: &mut Feeds<T>, limit: BatchLimit) -> Batch<T> {
    let gathered: Batch<T> = feeds.next(None).into_iter().collect();
    let until = match feeds.len() {
        _ if feeds.are_at_hand() => None,
        // With a single feed there is nobody to wait for.
        ..=1 => Some(Instant::now()),
        _ => Some(Instant::now() + GATHERING),
    };
    fill_up(gathered, feeds, limit, until)
}

/// Messages up to a limit that are there already.
fn gather_ready<T: Message>(feeds: &mut Feeds<T>, limit: BatchLimit) -> Batch<T> {
    let now = Some(Instant::now());
    let gathered = feeds.next(now).into_iter().collect();
    fill_up(gathered, feeds, limit, now)
}

/// Adds what comes until then, and up to the end of a source.
fn fill_up<T: Message>(
    mut gathered: Batch<T>,
    feeds: &mut Feeds<T>,
    limit: BatchLimit,
    until: Option<Instant>,
) -> Batch<T> {
    let mut bytes: usize = gathered.iter().map(Message::bytes).sum();
    while gathered.len() < limit.frames && bytes < limit.bytes && gathered.last().is_some_and(|last| !last.is_last()) {
        match feeds.next(until) {
            Ok(message) => {
                bytes += message.bytes();
                gathered.push(message);
            }
            Err(NoMessage::Timeout | NoMessage::Over) => break,
        }
    }
    gathered
}

/// What ended sources, of messages taken and of those that come until then: frames may take longer than there is time for after a
/// signal.
fn failures(taken: Batch<Captured>, feeds: &mut Feeds<Captured>, until: Instant) -> Batch<Captured> {
    let all = taken.into_iter().chain(std::iter::from_fn(|| feeds.next(Some(until)).ok()));
    let is_failure = |captured: &Captured| {
        matches!(
            captured,
            Captured::Closed { error: Some(_), .. } | Captured::State { state: SourceState::GivenUp { .. }, .. }
        )
    };
    all.filter(is_failure).collect()
}

/// How the stage works.
#[derive(Clone, Copy)]
pub(super) struct InferenceSettings<'a> {
    /// What a forward pass has at most.
    pub(super) batch: BatchLimit,
    /// Whether recorded frames may wait, already gathered, for the network that is busy with others: a GPU gets them meanwhile.
    pub(super) works_ahead: bool,
    pub(super) gate: &'a Mutex<Gate>,
    pub(super) shutdown: &'a Shutdown,
}

/// Messages, what the gate says of those that are frames, and the frames that have changed.
pub(super) struct Submitted {
    pub(super) messages: Batch<(Captured, Option<Verdict>)>,
    pub(super) pending: Pending,
}

/// Messages that are about to be handed over.
struct Gathered {
    messages: Batch<(Captured, Option<Verdict>)>,
    /// Of the frames that have changed.
    uploads: Uploads,
    /// Whether no other batch may be gathered before it is explained: a live frame would grow old, and the gate compares frames with
    /// what was found in those before.
    is_urgent: bool,
}

/// The way to the explanation stage.
struct Explanation<'a> {
    batches: &'a Sender<Submitted>,
    explained: &'a Receiver<()>,
    under_way: usize,
}

/// Frames that a GPU may have been handed and that wait for their explanation: it goes on with them while a basis is fitted.
const FRAMES_AHEAD: usize = 32;
/// Batches of so many frames that may be.
const BATCHES_AHEAD: usize = 4;

/// Batches of `frames` that may wait for their explanation. A CPU has none waiting: explained sooner than the next one is computed,
/// they would only take memory.
pub(super) fn batches_ahead(frames: usize, works_ahead: bool) -> usize {
    if works_ahead { (FRAMES_AHEAD / frames.max(1)).clamp(1, BATCHES_AHEAD) } else { 0 }
}

/// Batches that may be under way where so many wait: these, one that is explained, and one that waits for its place.
pub(super) fn most_under_way(ahead: usize) -> usize {
    ahead + 2
}

/// The next stage has ended.
struct Ended;

impl Explanation<'_> {
    fn send(&mut self, batch: Submitted) -> Result<(), Ended> {
        self.batches.send(batch).map_err(|_| Ended)?;
        self.under_way += 1;
        self.under_way -= self.explained.try_iter().count();
        Ok(())
    }

    /// Waits until all batches are explained.
    fn wait(&mut self) -> Result<(), Ended> {
        while self.under_way > 0 {
            self.explained.recv().map_err(|_| Ended)?;
            self.under_way -= 1;
        }
        Ok(())
    }
}

/// Hands what the feeds deliver to the network until all have ended; what comes back by `explained` says that a batch is.
pub(super) fn infer(
    mut feeds: Feeds<Captured>,
    mut submission: Submission,
    settings: InferenceSettings,
    batches: &Sender<Submitted>,
    explained: &Receiver<()>,
) -> Option<Problem> {
    let mut explanation = Explanation { batches, explained, under_way: 0 };
    let mut ahead: Option<Gathered> = None;
    loop {
        let messages = match ahead {
            Some(_) => gather_ready(&mut feeds, settings.batch),
            None => gather(&mut feeds, settings.batch),
        };
        if settings.shutdown.was_signalled() {
            let waiting = ahead.into_iter().flat_map(|gathered| gathered.messages).map(|(captured, _)| captured);
            let failures = failures(waiting.chain(messages).collect(), &mut feeds, Instant::now() + LAST_WORDS);
            let gathered = look(failures, &submission, settings.gate);
            // If the next stage has ended, too, nobody is left to be told.
            let _ = explanation.send(submit(gathered, &mut submission));
            return None;
        }
        if messages.is_empty() && ahead.is_none() {
            return None;
        }
        let next = (!messages.is_empty()).then(|| look(messages, &submission, settings.gate));
        let mut hand_over = |gathered: Gathered| {
            let is_urgent = gathered.is_urgent;
            explanation.send(submit(gathered, &mut submission))?;
            if is_urgent { explanation.wait() } else { Ok(()) }
        };
        // In their order.
        let handed = ahead.take().map_or(Ok(()), &mut hand_over).and_then(|()| match next {
            Some(next) if settings.works_ahead && !next.is_urgent => {
                ahead = Some(next);
                Ok(())
            }
            Some(next) => hand_over(next),
            None => Ok(()),
        });
        if let Err(Ended) = handed {
            return None;
        }
    }
}

/// Asks the gate, and begins to copy what has changed to the network.
fn look(messages: Batch<Captured>, submission: &Submission, gate: &Mutex<Gate>) -> Gathered {
    let gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
    let verdict = |captured: &Captured| request(captured).map(|request| gate.look(&request));
    let verdicts: Batch<_> = messages.iter().map(verdict).collect();
    let is_urgent = messages.iter().filter_map(request).any(|request| request.live || gate.compares(&request));
    let messages: Batch<_> = messages.into_iter().zip(verdicts).collect();
    let image = |(captured, verdict): &(Captured, Option<Verdict>)| match (captured, verdict) {
        (Captured::Frame { frame, .. }, Some(Verdict::Changed(_))) => Some(frame.image.clone()),
        _ => None,
    };
    let images: Batch<_> = messages.iter().filter_map(image).collect();
    let uploads = submission.take_ahead(&images);
    Gathered { messages, uploads, is_urgent }
}

/// Hands what has changed to the network.
fn submit(Gathered { messages, uploads, .. }: Gathered, submission: &mut Submission) -> Submitted {
    let pending = {
        let changed = messages.iter().filter(|(_, verdict)| matches!(verdict, Some(Verdict::Changed(_))));
        let requests: Batch<FrameRequest> = changed.filter_map(|(captured, _)| request(captured)).collect();
        submission.submit(&requests, Some(uploads))
    };
    Submitted { messages, pending }
}

fn request(captured: &Captured) -> Option<FrameRequest<'_>> {
    let Captured::Frame { source, policy, frame, .. } = captured else { return None };
    let live = *policy == Policy::Live;
    Some(FrameRequest { source: *source, image: &frame.image, live, pts: frame.pts })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crossbeam_channel::bounded;
    use image::RgbImage;

    use super::*;
    use crate::analyse::{Analyser, AnalysisSettings};
    use crate::boxes::Threshold;
    use crate::capture::CaptureError;
    use crate::explain::{Method, MethodSettings};
    use crate::frame::Frame;
    use crate::gate::GateSettings;
    use crate::model::engine::Engine;
    use crate::pca::CacheSettings;
    use crate::pipeline::explanation::explain;
    use crate::pipeline::feed::{Feed, FeedSender, feed};
    use crate::pipeline::stages::Analysed;
    use crate::sinks::testing::finding;

    /// Which source, which message.
    #[derive(Debug, Clone, PartialEq)]
    struct Number(usize, usize);

    /// Of a message.
    const BYTES: usize = 100;
    /// Of the last message of a source.
    const LAST: usize = usize::MAX;

    impl Message for Number {
        fn captured(&self) -> Option<Instant> {
            None
        }

        fn is_last(&self) -> bool {
            self.1 == LAST
        }

        fn bytes(&self) -> usize {
            BYTES
        }
    }

    fn feeds(places: usize, count: usize) -> (Vec<FeedSender<Number>>, Feeds<Number>) {
        let (senders, feeds): (_, Vec<Feed<Number>>) =
            (0..count).map(|_| feed(places, None, &Shutdown::default())).unzip();
        (senders, Feeds::new(feeds))
    }

    /// So many messages at most.
    fn most(frames: usize) -> BatchLimit {
        BatchLimit::of_frames(frames)
    }

    /// Messages of two sources, one after the other.
    const SOURCES: [usize; 8] = [0, 1, 2, 3, 4, LAST, 0, 1];

    #[test]
    fn what_is_at_hand_fills_its_batches_however_slowly_it_comes() {
        let of_three = BatchLimit { frames: 4, bytes: 3 * BYTES };
        let of_one = BatchLimit { frames: 4, bytes: 1 };
        // What has ended waits for no other.
        for (limit, expected) in [(most(4), &[4, 2, 2][..]), (of_three, &[3, 3, 2]), (of_one, &[1; 8])] {
            let (sender, feed) = feed(1, None, &Shutdown::default());
            let mut feeds = Feeds::new(vec![feed.at_hand()]);
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    for message in SOURCES {
                        std::thread::sleep(Duration::from_millis(5));
                        sender.send_waiting(Number(0, message)).unwrap();
                    }
                });
                let gather = || Some(gather(&mut feeds, limit).len()).filter(|&size| size > 0);
                assert_eq!(std::iter::from_fn(gather).collect::<Vec<_>>(), expected, "{limit:?}");
            });
        }
    }

    #[test]
    fn what_may_take_any_time_is_not_waited_for() {
        let (senders, mut feeds) = feeds(1, 1);
        for message in SOURCES {
            senders[0].send_waiting(Number(0, message)).unwrap();
            assert_eq!(gather(&mut feeds, most(4)).to_vec(), [Number(0, message)]);
        }
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
        assert_eq!(gather(&mut feeds, most(4)).to_vec(), [Number(0, 0), Number(1, 0), Number(2, 0), Number(0, 1)]);
        assert_eq!(gather(&mut feeds, most(4)).to_vec(), [Number(1, 1), Number(2, 1), Number(0, 2), Number(0, 3)]);
        assert_eq!(gather(&mut feeds, most(1)).to_vec(), [Number(0, 4)]);
    }

    #[test]
    fn a_batch_takes_what_is_there_and_ends_with_the_feeds() {
        let (senders, mut feeds) = feeds(4, 2);
        senders[1].send_waiting(Number(1, 0)).unwrap();
        assert_eq!(gather(&mut feeds, most(8)).to_vec(), [Number(1, 0)], "nobody waits for a source that has nothing");
        senders[0].send_waiting(Number(0, 0)).unwrap();
        drop(senders);
        assert_eq!(gather(&mut feeds, most(8)).to_vec(), [Number(0, 0)]);
        assert!(gather(&mut feeds, most(8)).is_empty());
    }

    fn analyser() -> Analyser {
        let model = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/resnet18-mask.safetensors");
        let settings = AnalysisSettings {
            method: Method::HayCam,
            method_settings: MethodSettings::default(),
            threshold: Threshold::Share(0.3),
            all_boxes: false,
            basis: Some(CacheSettings::default()),
        };
        Analyser::new(Engine::load(&model, tch::Device::Cpu).unwrap(), settings)
    }

    fn frame(source: usize, index: u64, policy: Policy) -> Captured {
        let finding = finding(index, (64, 48), Duration::from_millis(40 * index));
        let image = RgbImage::from_fn(64, 48, |x, y| image::Rgb([(3 * x) as u8, (30 * index) as u8, (2 * y) as u8]));
        let frame = Frame { image: image.into(), ..finding.frame.clone() };
        Captured::Frame { source, info: Arc::clone(&finding.info), policy, frame }
    }

    fn failed(source: usize) -> Captured {
        Captured::Closed { source, error: Some(CaptureError::NoFrames { file: "a.mp4".to_owned() }) }
    }

    /// What comes of frames of two sources, the second of which is live if `is_live`, and of their ends.
    fn through_both_stages(works_ahead: bool, ahead: usize, is_live: bool, gate: GateSettings) -> Vec<String> {
        let mut analyser = analyser();
        let shutdown = Shutdown::default();
        let (sender, feed) = feed(16, None, &shutdown);
        for index in 0..6u64 {
            let source = (index % 2) as usize;
            let policy = if is_live && source == 1 { Policy::Live } else { Policy::Recorded };
            assert!(sender.send_waiting(frame(source, index, policy)).is_ok());
        }
        for source in 0..2 {
            assert!(sender.send_waiting(Captured::Closed { source, error: None }).is_ok());
        }
        drop(sender);

        let gate = &Mutex::new(Gate::new(gate));
        let shutdown = &shutdown;
        let (submission, completion) = analyser.sides();
        let (to_explanation, batches) = bounded(ahead);
        let (to_inference, explained) = bounded(most_under_way(ahead));
        let (output, analysed) = bounded(1);
        let settings = InferenceSettings { batch: most(2), works_ahead, gate, shutdown };
        std::thread::scope(|scope| {
            scope.spawn(move || infer(Feeds::new(vec![feed]), submission, settings, &to_explanation, &explained));
            scope.spawn(move || explain(&batches, completion, gate, shutdown, &output, &to_inference));
            let tell = |analysed| match analysed {
                Analysed::Frame { source, frame, analysis, .. } => {
                    // A live source is refitted beside its frames, in its own time.
                    let age = analysis.cam.basis.filter(|_| source == 0).map(|basis| basis.age_frames);
                    format!("{source}: frame {}, label {}, basis {age:?}", frame.index, analysis.label)
                }
                Analysed::Closed { source, .. } => format!("{source}: closed"),
                Analysed::State { source, .. } => format!("{source}: state"),
            };
            analysed.iter().map(tell).collect()
        })
    }

    #[test]
    fn working_ahead_changes_no_answer_and_no_order() {
        let off = GateSettings { live: false, recorded: false };
        let expected = through_both_stages(false, 1, false, off);
        assert_eq!(expected.len(), 8, "{expected:?}");
        assert!(expected[4].starts_with("0: frame 4, label ") && expected[4].contains("basis Some("), "{expected:?}");
        assert_eq!(expected[6..], ["0: closed", "1: closed"]);
        for (works_ahead, ahead) in [(true, 1), (true, BATCHES_AHEAD), (false, 1), (false, 0)] {
            for is_live in [true, false] {
                for gate in [off, GateSettings { live: true, recorded: false }] {
                    let given = through_both_stages(works_ahead, ahead, is_live, gate);
                    assert_eq!(given, expected, "{works_ahead} {ahead} {is_live}");
                }
            }
        }
    }

    #[test]
    fn a_signal_ends_it_at_once_but_not_before_failures_are_told() {
        let mut analyser = analyser();
        let shutdown = Shutdown::default();
        let ((first, first_feed), (second, second_feed)) = (feed(16, None, &shutdown), feed(1, None, &shutdown));
        for index in 0..2 {
            assert!(first.send_waiting(frame(0, index, Policy::Recorded)).is_ok());
        }
        assert!(first.send_waiting(Captured::Closed { source: 0, error: None }).is_ok());
        drop(first);
        let state = SourceState::GivenUp { reason: "gone".to_owned() };
        assert!(second.send_state(Captured::State { source: 1, state }).is_ok());
        assert!(second.send_waiting(frame(1, 0, Policy::Live)).is_ok());
        let gate = &Mutex::new(Gate::new(GateSettings { live: false, recorded: false }));
        let (to_explanation, batches) = bounded(1);
        let (_to_inference, explained) = bounded(1);
        shutdown.signal();
        let submission = analyser.sides().0;
        let settings = InferenceSettings { batch: most(1), works_ahead: false, gate, shutdown: &shutdown };
        // A frame has the only place.
        assert!(second.send_waiting(failed(1)).is_ok());
        drop(second);
        infer(Feeds::new(vec![first_feed, second_feed]), submission, settings, &to_explanation, &explained);
        let told: Vec<_> = batches.try_iter().flat_map(|batch: Submitted| batch.messages).collect();
        assert!(
            matches!(
                &told[..],
                [(Captured::State { source: 1, .. }, None), (Captured::Closed { source: 1, error: Some(_) }, None)]
            ),
            "{} messages",
            told.len()
        );
    }

    #[test]
    fn a_failure_that_is_told_late_is_waited_for() {
        let (sender, feed) = feed(1, None, &Shutdown::default());
        let mut feeds = Feeds::new(vec![feed]);
        let late = Duration::from_millis(20);
        let failures = std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(late);
                assert!(sender.send_waiting(failed(0)).is_ok());
            });
            failures(Batch::new(), &mut feeds, Instant::now() + 1000 * late)
        });
        assert!(matches!(&failures[..], [Captured::Closed { source: 0, error: Some(_) }]));
        let closed = Captured::Closed { source: 1, error: None };
        assert!(super::failures(Batch::from_iter([closed]), &mut feeds, Instant::now()).is_empty());
    }

    #[test]
    fn a_gpu_gets_a_few_batches_ahead_and_fewer_large_ones() {
        assert_eq!([0, 1, 8, 16, 64].map(|frames| batches_ahead(frames, true)), [4, 4, 4, 2, 1]);
        assert_eq!([0, 1, 8, 16, 64].map(|frames| batches_ahead(frames, false)), [0; 5]);
    }
}
