use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const FRAME: (u32, u32) = (1280, 720);
const MASK: usize = 0;
const NO_MASK: usize = 1;

fn classes() -> Vec<String> {
    ["mask", "no_mask", "background"].map(str::to_owned).to_vec()
}

fn tracker() -> Tracker {
    Tracker::new(TrackSettings::default(), &classes())
}

fn detection(x: f64, y: f64, side: f64, label: usize) -> Detection {
    Detection { rect: BoxPx { x, y, width: side, height: side }.in_frame(FRAME), score: 0.5, label }
}

/// Runs a scene: what is seen at each time, in seconds.
fn run(fps: u32, seconds: f64, scene: impl Fn(f64) -> Vec<Detection>) -> Vec<TrackUpdate> {
    let mut tracker = tracker();
    let frames = (seconds * f64::from(fps)).round() as u32;
    let mut updates: Vec<_> = (0..frames)
        .map(|frame| {
            let pts = Duration::from_secs(1) * frame / fps;
            feed(&mut tracker, pts, &scene(pts.as_secs_f64()))
        })
        .collect();
    updates.push(tracker.end());
    updates
}

fn feed(tracker: &mut Tracker, pts: Duration, detections: &[Detection]) -> TrackUpdate {
    let sightings: Vec<_> = detections.iter().map(|&detection| Sighting { detection, posterior: None }).collect();
    tracker.update(pts, FRAME, &sightings)
}

fn events(updates: &[TrackUpdate]) -> Vec<TrackEvent> {
    updates.iter().flat_map(|update| update.events.clone()).collect()
}

fn appearances(updates: &[TrackUpdate]) -> Vec<u64> {
    let appeared = |event: &TrackEvent| matches!(event.change, TrackChange::Appeared { .. });
    events(updates).into_iter().filter(appeared).map(|event| event.track).collect()
}

#[test]
fn a_person_appears_once_changes_once_and_ends_once() {
    for fps in [3, 5, 10, 30] {
        let updates = run(fps, 12.0, |time| {
            let label = if time < 4.0 { MASK } else { NO_MASK };
            if time < 8.0 { vec![detection(100.0 + 60.0 * time, 300.0, 50.0, label)] } else { Vec::new() }
        });
        let frame = 1.0 / f64::from(fps);
        let events = events(&updates);
        let [appeared, changed, ended] = events[..] else { panic!("{fps}: {events:?}") };
        let near = |time: Duration, from: f64| (from - 1e-6..from + frame + 1e-6).contains(&time.as_secs_f64());
        assert_eq!(appeared.change, TrackChange::Appeared { label: Label::Class(MASK), first_seen: Duration::ZERO });
        assert!(near(appeared.pts, 0.1), "{appeared:?}");
        let (from, to) = (Label::Class(MASK), Label::Class(NO_MASK));
        assert_eq!(changed.change, TrackChange::LabelChanged { from, to });
        assert!(near(changed.pts, 4.9 - frame), "{fps}: {changed:?}");
        let TrackChange::Ended { label, last_seen, duration } = ended.change else { panic!("{ended:?}") };
        assert!(label == to && last_seen == duration && near(duration, 8.0 - frame - 1e-6), "{ended:?}");
        assert!(near(ended.pts, 9.0 - frame), "{fps}: {ended:?}");
    }
}

#[test]
fn crossing_people_keep_their_ids() {
    for fps in [5, 10, 30] {
        // 2.4 and 3 of their faces a second, past each other, with and without hiding one behind the other.
        for hidden in [false, true] {
            let left = |time: f64| detection(100.0 + 120.0 * time, 300.0, 50.0, MASK);
            let right = |time: f64| detection(1000.0 - 150.0 * time, 310.0, 48.0, NO_MASK);
            let updates = run(fps, 6.0, |time| {
                let covered = hidden && left(time).rect.iou(right(time).rect) > 0.15;
                if covered { vec![left(time)] } else { vec![right(time), left(time)] }
            });
            assert_eq!(appearances(&updates), [1, 2], "{fps} frames a second, hidden: {hidden}");
            let last = &updates[updates.len() - 2];
            let mut by_label = BTreeMap::new();
            for update in [&updates[fps as usize], last] {
                for track in &update.tracks {
                    let label = track.seen.unwrap().detection.label;
                    let id = track.id.unwrap();
                    assert_eq!(*by_label.entry(label).or_insert(id), id, "{fps}, hidden: {hidden}");
                    assert_eq!(track.label, Label::Class(label));
                }
            }
            assert_eq!(by_label.len(), 2);
        }
    }
}

#[test]
fn an_occlusion_keeps_the_id_only_while_the_track_coasts() {
    for (gap, ids) in [(0.8, vec![1]), (1.5, vec![1, 2])] {
        let updates = run(10, 6.0, |time| {
            let hidden = (2.0..2.0 + gap).contains(&time);
            if hidden { Vec::new() } else { vec![detection(200.0 + 90.0 * time, 300.0, 60.0, MASK)] }
        });
        assert_eq!(appearances(&updates), ids, "{gap} s");
        let coasting = updates[25].tracks[0];
        assert!(coasting.seen.is_none() && coasting.unseen_for == Duration::from_millis(600));
        assert!((f64::from(coasting.rect.x) - (200.0 + 90.0 * 2.5 - 30.0)).abs() < 8.0, "it goes on: {coasting:?}");
    }
}

#[test]
fn a_gap_without_frames_is_an_occlusion() {
    for (gap_millis, same) in [(900, true), (1100, false)] {
        let mut tracker = tracker();
        for millis in [0, 100, 200] {
            feed(&mut tracker, Duration::from_millis(millis), &[detection(300.0, 300.0, 50.0, MASK)]);
        }
        let pts = Duration::from_millis(200 + gap_millis);
        let update = feed(&mut tracker, pts, &[detection(300.0, 300.0, 50.0, MASK)]);
        assert_eq!(update.tracks[0].id, same.then_some(1), "{gap_millis} ms");
        assert_eq!(update.events.len(), usize::from(!same));
    }
}

#[test]
fn a_fast_walker_is_followed_at_three_frames_a_second() {
    // 1.7 faces further in each frame: the boxes never overlap.
    let updates = run(3, 4.0, |time| vec![detection(100.0 + 250.0 * time, 300.0, 50.0, MASK)]);
    assert_eq!(appearances(&updates), [1]);
}

#[test]
fn somebody_far_away_is_somebody_else() {
    let updates = run(10, 2.0, |time| {
        let x = if time < 1.0 { 200.0 } else { 500.0 };
        vec![detection(x, 300.0, 50.0, MASK)]
    });
    assert_eq!(appearances(&updates), [1, 2]);
}

#[test]
fn order_of_detections_means_nothing() {
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    let (mut plain, mut shuffled) = (tracker(), tracker());
    for frame in 0..200_u32 {
        let pts = Duration::from_millis(100) * frame;
        let people: Vec<_> = (0..6_u32).filter(|_| rng.random_bool(0.8)).collect();
        let detections: Vec<_> = people
            .into_iter()
            .map(|person| {
                let x = 100.0 + 60.0 * f64::from(person) + f64::from(frame % 40);
                detection(x + rng.random_range(-15.0..15.0), 300.0, 50.0, person as usize % 2)
            })
            .collect();
        let mut order: Vec<usize> = (0..detections.len()).collect();
        order.shuffle(&mut rng);
        let permuted: Vec<_> = order.iter().map(|&index| detections[index]).collect();
        let expected = feed(&mut plain, pts, &detections);
        let mut found = feed(&mut shuffled, pts, &permuted);
        for track in &mut found.tracks {
            if let Some(seen) = &mut track.seen {
                seen.index = order[seen.index];
            }
        }
        assert_eq!(found, expected);
    }
}

#[test]
fn every_track_appears_once_before_all_else_and_ends_once_after() {
    let mut rng = ChaCha8Rng::seed_from_u64(19);
    for _ in 0..20 {
        let mut tracker = tracker();
        let mut pts = Duration::ZERO;
        let (mut open, mut closed, mut last_id) = (BTreeSet::new(), 0, 0);
        let mut check = |update: TrackUpdate| {
            for event in &update.events {
                match event.change {
                    TrackChange::Appeared { .. } => {
                        assert!(event.track == last_id + 1 && open.insert(event.track), "{event:?}");
                        last_id = event.track;
                    }
                    TrackChange::LabelChanged { from, to } => assert!(open.contains(&event.track) && from != to),
                    TrackChange::Ended { .. } => {
                        assert!(open.remove(&event.track), "{event:?}");
                        closed += 1;
                    }
                }
            }
            let listed: BTreeSet<_> = update.tracks.iter().filter_map(|track| track.id).collect();
            assert_eq!(listed, open, "what has appeared is listed until it ends");
            for track in &update.tracks {
                let Rect { x, y, width, height } = track.rect;
                assert!(width >= 1 && height >= 1 && x + width <= FRAME.0 && y + height <= FRAME.1);
            }
        };
        for _ in 0..300 {
            pts += Duration::from_millis(rng.random_range(0..400));
            let detections: Vec<_> = (0..rng.random_range(0..5))
                .map(|_| {
                    let (x, y) = (rng.random_range(0..8) * 150, rng.random_range(0..4) * 170);
                    let side = rng.random_range(20.0..140.0);
                    detection(f64::from(x), f64::from(y), side, rng.random_range(0..2))
                })
                .collect();
            check(feed(&mut tracker, pts, &detections));
        }
        check(tracker.end());
        check(tracker.end());
        assert!(open.is_empty() && closed == last_id && closed > 5, "{closed} tracks");
    }
}

#[test]
fn a_blip_makes_no_track_but_a_sure_detection_and_a_still_do_at_once() {
    let blip = |settings, score| {
        let mut tracker = Tracker::new(settings, &classes());
        let detection = Detection { score, ..detection(300.0, 300.0, 50.0, MASK) };
        let update = feed(&mut tracker, Duration::ZERO, &[detection]);
        (update.tracks[0].id, update.events.len(), tracker.end().events.len())
    };
    assert_eq!(blip(TrackSettings::default(), 0.5), (None, 0, 0));
    assert_eq!(blip(TrackSettings::default(), 0.9), (Some(1), 1, 1));
    assert_eq!(blip(TrackSettings::still(), 0.3), (Some(1), 1, 1));
}

#[test]
fn clocks_may_jump_back_and_forth() {
    let mut tracker = tracker();
    let detections = [detection(300.0, 300.0, 50.0, MASK)];
    let times = [5_000, 5_100, 5_200, 0, 100, 200, 200];
    let updates: Vec<_> =
        times.iter().map(|&millis| feed(&mut tracker, Duration::from_millis(millis), &detections)).collect();
    let last = updates.last().unwrap().tracks[0];
    assert_eq!((last.id, last.age), (Some(1), Duration::from_millis(400)), "a step back is no time");
    let repeated = feed(&mut tracker, Duration::from_millis(200), &[]);
    assert!(repeated.tracks[0].seen.is_none(), "not seen, although the time is that of the last sighting");
    let update = feed(&mut tracker, Duration::from_secs(3600), &detections);
    let TrackChange::Ended { last_seen, duration, .. } = update.events[0].change else { panic!("{update:?}") };
    assert_eq!((last_seen, duration), (Duration::from_millis(200), Duration::from_millis(400)));
}

#[test]
fn a_track_survives_a_change_of_resolution() {
    let mut tracker = tracker();
    let at = |scale: u32| Detection {
        rect: Rect { x: 200 * scale, y: 100 * scale, width: 40 * scale, height: 50 * scale },
        score: 0.5,
        label: MASK,
    };
    for (frame, scale) in [1, 1, 1, 3, 3, 1].into_iter().enumerate() {
        let sighting = Sighting { detection: at(scale), posterior: None };
        let pts = Duration::from_millis(100) * frame as u32;
        let update = tracker.update(pts, (640 * scale, 360 * scale), &[sighting]);
        assert_eq!((update.tracks.len(), update.tracks[0].rect), (1, at(scale).rect));
    }
}

#[test]
fn posteriors_decide_and_background_counts_for_nothing() {
    let mut tracker = tracker();
    let mut update = None;
    for frame in 0..40 {
        let pts = Duration::from_millis(100) * frame;
        // Called mask, but by its posterior more probably none.
        let posterior = if frame < 20 { [0.09, 0.01, 0.9] } else { [0.02, 0.18, 0.8] };
        let sighting = Sighting { detection: detection(300.0, 300.0, 50.0, MASK), posterior: Some(&posterior) };
        update = Some(tracker.update(pts, FRAME, &[sighting]));
        if frame == 19 {
            assert_eq!(update.as_ref().unwrap().tracks[0].label, Label::Class(MASK));
        }
    }
    assert_eq!(update.unwrap().tracks[0].label, Label::Class(NO_MASK));
}

#[test]
fn ids_go_on_after_an_end() {
    let mut tracker = tracker();
    let mut ids = Vec::new();
    for round in 0..3 {
        for frame in 0..5 {
            let pts = Duration::from_millis(500 * round + 100 * frame);
            ids.extend(appearances(&[feed(&mut tracker, pts, &[detection(300.0, 300.0, 50.0, MASK)])]));
        }
        assert_eq!(tracker.end().events.len(), 1);
    }
    assert_eq!(ids, [1, 2, 3]);
}

/// Runs a scene of one person and returns the alarms.
fn alarms(fps: u32, seconds: f64, label_at: impl Fn(f64) -> Option<usize>) -> Vec<Alarm> {
    let updates = run(fps, seconds, |time| {
        let found = |label| Detection { score: 0.4 + 0.01 * time as f32, ..detection(300.0, 300.0, 50.0, label) };
        label_at(time).map(found).into_iter().collect()
    });
    let mut alarms = Alarms::new(Duration::from_secs(3), NO_MASK);
    updates.iter().flat_map(|update| alarms.update(update)).collect()
}

#[test]
fn an_alarm_fires_once_and_says_why() {
    for fps in [5, 10, 30] {
        let found = alarms(fps, 20.0, |time| Some(if (2.0..12.0).contains(&time) { NO_MASK } else { MASK }));
        let [alarm] = &found[..] else { panic!("{found:?}") };
        let (began, pts) = (alarm.began.as_secs_f64(), alarm.pts.as_secs_f64());
        assert!((2.6..3.1).contains(&began) && (3.0 - 1e-6..3.25).contains(&(pts - began)), "{fps}: {alarm:?}");
        assert_eq!(alarm.lasted, alarm.pts - alarm.began);
        assert_eq!(
            alarm.history.iter().map(|labelled| labelled.label).collect::<Vec<_>>(),
            [Label::Class(MASK), Label::Class(NO_MASK)]
        );
        let strongest = alarm.strongest.unwrap();
        assert_eq!((strongest.pts, alarm.track, alarm.history_left_out), (alarm.pts, 1, 0), "scores rise");
    }
}

#[test]
fn no_alarm_for_masks_flicker_short_times_or_again() {
    assert_eq!(alarms(10, 20.0, |_| Some(MASK)), []);
    assert_eq!(alarms(10, 20.0, |time| Some(if time % 1.0 < 0.2 { NO_MASK } else { MASK })), []);
    assert_eq!(alarms(10, 20.0, |time| Some(if (5.0..8.0).contains(&time) { NO_MASK } else { MASK })), []);
    assert_eq!(alarms(10, 30.0, |time| Some(if time % 10.0 < 6.0 { NO_MASK } else { MASK })).len(), 1);
    assert_eq!(alarms(10, 3.0, |time| (time < 2.5).then_some(NO_MASK)), [], "gone before");
    // Hidden when its time has come, it fires when it is seen again.
    let found = alarms(10, 6.0, |time| (!(2.8..3.6).contains(&time)).then_some(NO_MASK));
    assert_eq!(found.iter().map(|alarm| alarm.pts).collect::<Vec<_>>(), [Duration::from_millis(3600)]);
}

#[test]
fn alarms_remember_a_bounded_history() {
    let found = alarms(10, 200.0, |time| {
        Some(if time < 160.0 && ((time / 2.0) as u32).is_multiple_of(2) { MASK } else { NO_MASK })
    });
    let [alarm] = &found[..] else { panic!("{found:?}") };
    assert_eq!((alarm.history.len(), alarm.history.last().unwrap().since), (32, alarm.began));
    assert!(alarm.history_left_out > 30 && alarm.history.is_sorted_by_key(|labelled| labelled.since));
}

#[test]
fn alarms_are_written_as_documented() {
    let found = alarms(10, 6.0, |_| Some(NO_MASK));
    let written: serde_json::Value = serde_json::to_value(found[0].record(&classes())).unwrap();
    let place = serde_json::json!({"x": 275, "y": 275, "width": 50, "height": 50});
    let expected = serde_json::json!({
        "event": "alarm", "track": 1, "pts_ms": 3100.0, "label": "no_mask", "began_ms": 100.0, "lasted_ms": 3000.0,
        "box": place, "strongest": {"pts_ms": 3100.0, "score": 0.431, "box": place},
        "history": [{"since_ms": 100.0, "label": "no_mask"}], "history_left_out": 0
    });
    assert_eq!(written, expected);
}
