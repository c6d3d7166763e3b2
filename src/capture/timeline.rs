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
//! with the latest interval. That is exact at a constant rate; with a varying rate it is an
//! estimate for the handful of last frames.

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
}

impl Timeline {
    /// Starts a timeline for a nominal rate in frames per second.
    pub(super) fn new(frame_rate: Option<f64>) -> Self {
        Self {
            base_millis: 0.0,
            reported: Duration::ZERO,
            last: None,
            step: frame_rate.map_or(DEFAULT_STEP, |fps| Duration::from_secs_f64(1.0 / fps)),
        }
    }

    /// The time of the next frame, for which `millis` was reported.
    pub(super) fn next(&mut self, millis: f64) -> Duration {
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
                self.step = relative - last;
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
        let pts: Vec<Duration> = reported.iter().map(|&ms| timeline.next(ms)).collect();
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
    fn one_frame_needs_no_step() {
        assert_eq!(millis(None, &[0.0]), [0]);
    }
}
