//! Timestamps for recorded frames, from what OpenCV reports.
//!
//! After a successful `grab`, `CAP_PROP_POS_MSEC` of the FFmpeg back-end is the presentation time
//! of that very frame, counted from the start of the stream, also where the rate varies. Three
//! things are wrong with it in OpenCV 4.6 (compared frame by frame with FFmpeg's own times):
//!
//! - frames that the decoder still holds when the file ends report 0
//!   (<https://github.com/opencv/opencv/issues/22141>): as many as the stream reorders, plus one
//!   for every decoding thread beyond two;
//! - raw streams (`.h264`) have no times and report 0 or nonsense;
//! - H.264 in AVI has decoding times only, so that all frames are late by the reordering delay.
//!
//! So: count from the first frame, and where a time is missing or does not increase, continue
//! with the latest interval. That is exact at a constant rate. At a varying rate the container is
//! asked; where it cannot be, the times of the last frames are estimates.

use std::time::Duration;

/// Interval if neither the container nor the frames say anything: that of 25 frames per second.
const DEFAULT_STEP: Duration = Duration::from_millis(40);
/// Distance kept from an estimate that turned out too late.
const MIN_STEP: Duration = Duration::from_millis(1);
/// No recording lasts a year: a larger value is a missing timestamp in disguise.
const MAX_MILLIS: f64 = 366.0 * 86_400_000.0;

/// Turns reported times into strictly increasing ones.
#[derive(Debug)]
pub(super) struct Timeline {
    /// Time reported for the first frame, milliseconds.
    base_millis: f64,
    /// Latest time that was reported, not estimated; relative to the first frame.
    reported: Duration,
    /// Latest time given out.
    last: Option<Duration>,
    /// Interval for estimates.
    step: Duration,
    /// Whether all intervals so far were equal.
    steady: bool,
    /// Frames so far.
    frames: usize,
    /// Times of all frames by the container, once it was asked.
    consulted: Option<Vec<Duration>>,
}

/// Containers round times to a millisecond, some worse.
const ROUNDING: Duration = Duration::from_millis(2);

impl Timeline {
    /// Starts a timeline for a nominal rate in frames per second.
    pub(super) fn new(frame_rate: Option<f64>) -> Self {
        Self {
            base_millis: 0.0,
            reported: Duration::ZERO,
            last: None,
            step: frame_rate.map_or(DEFAULT_STEP, |fps| Duration::from_secs_f64(1.0 / fps)),
            steady: true,
            frames: 0,
            consulted: None,
        }
    }

    /// The time of the next frame, for which `millis` was reported. `consult` gives the container's times of all frames
    /// in order; it is called once at most, when a time is missing and the intervals vary.
    pub(super) fn next(&mut self, millis: f64, consult: impl FnOnce() -> Option<Vec<Duration>>) -> Duration {
        let previous = self.last;
        let index = self.frames;
        self.frames += 1;
        let estimate = self.reported_or_estimated(millis);
        let (false, Some(previous), true) = (self.steady, previous, estimate != self.reported) else {
            return estimate;
        };
        let times = self.consulted.get_or_insert_with(|| consult().unwrap_or_default());
        match (times.get(index - 1), times.get(index)) {
            // Where the decoder left a frame out, the container's times are shifted against ours.
            (Some(before), Some(&now)) if before.abs_diff(previous) < ROUNDING && now > previous => {
                self.last = Some(now);
                now
            }
            _ => estimate,
        }
    }

    fn reported_or_estimated(&mut self, millis: f64) -> Duration {
        let valid = (0.0..MAX_MILLIS).contains(&millis);
        let Some(last) = self.last else {
            self.base_millis = if valid { millis } else { 0.0 };
            self.last = Some(Duration::ZERO);
            return Duration::ZERO;
        };
        let relative =
            if valid { Duration::from_secs_f64((millis - self.base_millis).max(0.0) / 1e3) } else { Duration::ZERO };
        let pts = if relative > self.reported {
            // If the frame before was estimated, the interval spans more than one frame.
            if last == self.reported {
                let step = relative - last;
                self.steady &= self.frames <= 2 || step.abs_diff(self.step) < ROUNDING;
                self.step = step;
            }
            self.reported = relative;
            relative.max(last + MIN_STEP)
        } else {
            last + self.step
        };
        self.last = Some(pts);
        pts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(frame_rate: Option<f64>, reported: &[f64]) -> Vec<u128> {
        let mut timeline = Timeline::new(frame_rate);
        let pts: Vec<Duration> = reported.iter().map(|&ms| timeline.next(ms, || None)).collect();
        assert!(pts.windows(2).all(|pair| pair[0] < pair[1]), "{pts:?}");
        pts.iter().map(Duration::as_millis).collect()
    }

    #[test]
    fn varying_rate_is_kept_and_the_tail_continued() {
        assert_eq!(millis(Some(25.0), &[0.0, 222.0, 239.0, 339.0, 0.0, 0.0]), [0, 222, 239, 339, 439, 539]);
    }

    #[test]
    fn streams_without_times_follow_the_frame_rate() {
        assert_eq!(millis(Some(50.0), &[0.0; 4]), [0, 20, 40, 60]);
        assert_eq!(millis(None, &[f64::NAN, f64::NAN, 1e300, -1e300]), [0, 40, 80, 120]);
    }

    #[test]
    fn late_starts_begin_at_zero() {
        assert_eq!(millis(Some(10.0), &[200.0, 300.0, 400.0]), [0, 100, 200]);
    }

    #[test]
    fn an_estimate_that_ran_ahead_is_caught_up() {
        assert_eq!(millis(Some(25.0), &[0.0, 100.0, 0.0, 120.0, 130.0, 500.0]), [0, 100, 200, 201, 202, 500]);
    }

    #[test]
    fn the_container_tells_the_times_of_a_varying_tail() {
        let consulted = |reported: &[f64], container: &[u64]| {
            let mut timeline = Timeline::new(Some(25.0));
            let mut times = Some(container.iter().map(|&millis| Duration::from_millis(millis)).collect());
            let next = |&millis: &f64| timeline.next(millis, || times.take()).as_millis();
            reported.iter().map(next).collect::<Vec<_>>()
        };
        assert_eq!(consulted(&[0.0, 50.0, 70.0, 0.0, 0.0], &[0, 50, 70, 300, 301]), [0, 50, 70, 300, 301]);
        // At a steady rate nobody asks, and a container that disagrees is not believed.
        assert_eq!(consulted(&[0.0, 40.0, 80.0, 0.0], &[0, 40, 80, 500]), [0, 40, 80, 120]);
        assert_eq!(consulted(&[0.0, 50.0, 70.0, 0.0], &[0, 20, 50, 70]), [0, 50, 70, 90]);
    }

    #[test]
    fn one_frame_needs_no_step() {
        assert_eq!(millis(None, &[0.0]), [0]);
    }
}
