//! What feeds keep, drop, and in which order they give it out.

use super::*;
use crate::stats::Drops;

/// Of a source.
const LAST: i32 = i32::MAX;

impl Message for i32 {
    fn captured(&self) -> Option<Instant> {
        None
    }

    fn is_last(&self) -> bool {
        *self == LAST
    }

    fn bytes(&self) -> usize {
        0
    }
}

/// A frame that was captured so long ago.
#[derive(Debug, PartialEq)]
struct Aged(u32, Instant);

impl Message for Aged {
    fn captured(&self) -> Option<Instant> {
        Some(self.1)
    }

    fn is_last(&self) -> bool {
        false
    }

    fn bytes(&self) -> usize {
        0
    }
}

fn replaced(feed: &DropCounters) -> u64 {
    feed.read().replaced
}

#[test]
fn the_newest_frame_displaces_the_one_before() {
    let (sender, feed) = feed(1, None, &Shutdown::default());
    for frame in 0..5 {
        sender.send_newest(frame).unwrap();
    }
    let drops = feed.drops();
    let mut feeds = Feeds::new(vec![feed]);
    assert_eq!(feeds.next(None), Ok(4));
    assert_eq!(replaced(&drops), 4);
    sender.send_newest(5).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send_waiting(-1).unwrap());
        assert_eq!(feeds.next(None), Ok(5), "what comes last waits for its turn");
        assert_eq!(feeds.next(None), Ok(-1));
    });
    assert_eq!((replaced(&drops), drops.read().total()), (4, 4));
    sender.count_skipped(3);
    assert_eq!(drops.read(), Drops { skipped: 3, replaced: 4, too_old: 0 });
}

#[test]
fn no_frame_of_a_recording_is_lost() {
    let (sender, feed) = feed(2, None, &Shutdown::default());
    let drops = feed.drops();
    let taken: Vec<i32> = std::thread::scope(|scope| {
        scope.spawn(move || (0..100).for_each(|frame| sender.send_waiting(frame).unwrap()));
        let mut feeds = Feeds::new(vec![feed]);
        std::iter::from_fn(|| feeds.next(None).ok()).inspect(|_| std::thread::yield_now()).collect()
    });
    assert_eq!(taken, (0..100).collect::<Vec<_>>());
    assert_eq!(drops.read().total(), 0);
}

#[test]
fn a_shutdown_frees_a_sender_that_nobody_listens_to() {
    let shutdown = Shutdown::default();
    let (sender, feed) = feed(1, None, &shutdown);
    drop(feed);
    sender.send_newest(1).unwrap();
    shutdown.request();
    assert_eq!(sender.send_newest(2), Err(Closed));
    assert_eq!(sender.send_waiting(3), Err(Closed));
    assert_eq!(sender.send_state(4), Err(Closed));
}

#[test]
fn a_last_message_takes_the_place_of_frames_that_nobody_waits_for_any_more() {
    let shutdown = Shutdown::default();
    let (sender, feed) = feed(2, None, &shutdown);
    (1..3).for_each(|frame| sender.send_waiting(frame).unwrap());
    shutdown.request();
    assert_eq!(sender.send_waiting(3), Err(Closed));
    assert_eq!(sender.send_waiting(LAST), Ok(()));
    drop(sender);
    let mut feeds = Feeds::new(vec![feed]);
    assert_eq!([feeds.next(None), feeds.next(None), feeds.next(None)], [Ok(2), Ok(LAST), Err(NoMessage::Over)]);
}

#[test]
fn states_are_told_before_the_frames_that_follow_them_and_displace_none() {
    let (sender, feed) = feed(1, None, &Shutdown::default());
    let drops = feed.drops();
    let mut feeds = Feeds::new(vec![feed]);
    sender.send_state(-1).unwrap();
    sender.send_newest(1).unwrap();
    sender.send_state(-2).unwrap();
    let taken: Vec<_> = (0..3).map(|_| feeds.next(None).unwrap()).collect();
    assert_eq!(taken, [-1, -2, 1]);
    // Nobody takes them for long: the latest are kept, and the frame.
    sender.send_newest(2).unwrap();
    (0..40).for_each(|state| sender.send_state(-100 - state).unwrap());
    drop(sender);
    let taken: Vec<_> = std::iter::from_fn(|| feeds.next(None).ok()).collect();
    assert_eq!(taken, (24..40).map(|state| -100 - state).chain([2]).collect::<Vec<_>>());
    assert_eq!((drops.read().total(), feeds.next(None)), (0, Err(NoMessage::Over)));
}

#[test]
fn frames_that_got_too_old_are_dropped_and_counted() {
    let max_age = Duration::from_millis(500);
    let (sender, feed) = feed(4, Some(max_age), &Shutdown::default());
    let drops = feed.drops();
    let mut feeds = Feeds::new(vec![feed]);
    let now = Instant::now();
    for (number, age) in [(1, max_age * 2), (2, Duration::ZERO), (3, max_age * 3)] {
        sender.send_waiting(Aged(number, now - age)).unwrap();
    }
    assert_eq!(feeds.next(None).unwrap().0, 2);
    let soon = Instant::now() + Duration::from_millis(5);
    assert_eq!(feeds.next(Some(soon)), Err(NoMessage::Timeout));
    assert_eq!(drops.read(), Drops { skipped: 0, replaced: 0, too_old: 2 });
}

#[test]
fn every_source_gets_its_turn() {
    let shutdown = Shutdown::default();
    let (senders, feeds): (Vec<_>, Vec<_>) = (0..3).map(|_| feed(1, None, &shutdown)).unzip();
    let mut feeds = Feeds::new(feeds);
    let mut turns = [0; 3];
    for _ in 0..600 {
        // The first source is ready whenever it is looked at, and so are the others.
        for (source, sender) in senders.iter().enumerate() {
            sender.send_newest(source as i32).unwrap();
        }
        turns[feeds.next(None).unwrap() as usize] += 1;
    }
    assert!(turns.iter().all(|turns| *turns > 100), "{turns:?}");
}

/// A frame of so many bytes.
#[derive(Debug, PartialEq)]
struct Large(usize);

impl Message for Large {
    fn captured(&self) -> Option<Instant> {
        None
    }

    fn is_last(&self) -> bool {
        false
    }

    fn bytes(&self) -> usize {
        self.0
    }
}

#[test]
fn large_frames_leave_places_free() {
    for (bytes, most) in [(10, 8), (40, 3), (100, 1), (900, 1)] {
        let (sender, feed) = feed(8, None, &Shutdown::default());
        let (sender, waiting) = (sender.holding(100), feed.receiver.clone());
        let mut feeds = Feeds::new(vec![feed]);
        std::thread::scope(|scope| {
            scope.spawn(move || (0..20).for_each(|_| sender.send_waiting(Large(bytes)).unwrap()));
            let mut largest = 0;
            while let Ok(taken) = feeds.next(None) {
                assert_eq!(taken, Large(bytes));
                std::thread::sleep(Duration::from_millis(5));
                largest = largest.max(waiting.len());
            }
            assert!((1..=most).contains(&largest), "{largest} of {bytes} bytes");
        });
    }
}
