//! Whether the frames of a live source are what they seem: frozen and uniform pictures, and broken timestamps.
//!
//! Pure code on the frames and times that it is given. A picture is judged by some thousand of its pixels, taken as
//! they are: averages would hide the noise by which a still scene differs from a frozen picture. Identical means equal
//! in all of them, so a camera whose encoder goes on behind a frozen sensor is found only if it repeats itself exactly;
//! any tolerance would call compressed night scenes frozen, too.

use std::time::Duration;

use image::RgbImage;

use super::state::SourceState;

/// Pixels looked at, across and down.
const GRID: u32 = 64;
/// Values of a channel that pass for one colour: the noise of a dark sensor, and of compression.
const UNIFORM_SPREAD: u8 = 12;
/// Share of the pixels that must be of that colour. A clock painted over the picture covers less than the rest.
const UNIFORM_SHARE: f64 = 0.95;
/// How long a picture must be uniform: fades and exposure changes are shorter.
const UNIFORM_AFTER: Duration = Duration::from_secs(2);
/// Timestamps may run ahead of the time that passed by so much: what a camera and its network buffer.
const JUMP: Duration = Duration::from_secs(2);
/// How long a connection takes to settle. FFmpeg shifts its times when the first sender report comes.
const SETTLING: Duration = Duration::from_secs(5);
/// How long broken timestamps are told of.
const TIMESTAMP_ALARM: Duration = Duration::from_secs(5);

/// Judges the frames of one connection.
#[derive(Debug)]
pub struct Health {
    frozen_after: Duration,
    began: Option<Duration>,
    previous: Option<Previous>,
    uniform_since: Option<Duration>,
    /// The latest fault of the timestamps, and when it was seen.
    timestamps: Option<(Duration, SourceState)>,
}

#[derive(Debug)]
struct Previous {
    pixels: Vec<[u8; 3]>,
    size: (u32, u32),
    /// Since when the picture has been the same.
    unchanged_since: Duration,
    arrived: Duration,
    stream_time: Option<Duration>,
}

impl Health {
    /// Begins with a new connection.
    pub fn new(frozen_after: Duration) -> Self {
        Self { frozen_after, began: None, previous: None, uniform_since: None, timestamps: None }
    }

    /// Judges one more frame, which arrived at `now` on any monotonic clock and bears `stream_time`, if the stream has times.
    ///
    /// Always one that delivers.
    pub fn judge(&mut self, now: Duration, image: &RgbImage, stream_time: Option<Duration>) -> SourceState {
        let settled = now.saturating_sub(*self.began.get_or_insert(now)) >= SETTLING;
        let pixels = sample(image);
        let uniform = is_uniform(&pixels);
        let mut unchanged_since = now;
        if let Some(previous) = &self.previous {
            if previous.size == image.dimensions() && previous.pixels == pixels {
                unchanged_since = previous.unchanged_since;
            }
            if settled && let Some(fault) = timestamp_fault(previous, now, stream_time) {
                self.timestamps = Some((now, fault));
            }
        }
        self.previous = Some(Previous { pixels, size: image.dimensions(), unchanged_since, arrived: now, stream_time });
        self.uniform_since = if uniform { self.uniform_since.or(Some(now)) } else { None };

        if let Some((seen, fault)) = &self.timestamps
            && now.saturating_sub(*seen) < TIMESTAMP_ALARM
        {
            return fault.clone();
        }
        // Says more than frozen, which a black picture mostly is as well.
        if self.uniform_since.is_some_and(|since| now.saturating_sub(since) >= UNIFORM_AFTER) {
            return SourceState::Uniform;
        }
        let unchanged = now.saturating_sub(unchanged_since);
        if unchanged >= self.frozen_after {
            return SourceState::Frozen { for_ms: millis(unchanged) };
        }
        SourceState::Live
    }
}

fn timestamp_fault(previous: &Previous, now: Duration, stream_time: Option<Duration>) -> Option<SourceState> {
    let (before, current) = (previous.stream_time?, stream_time?);
    if let Some(back) = before.checked_sub(current).filter(|back| !back.is_zero()) {
        return Some(SourceState::TimestampsBackwards { by_ms: millis(back) });
    }
    // The other way round, time that passed without being in the timestamps, is a network that stalls.
    let ahead = (current - before).saturating_sub(now.saturating_sub(previous.arrived));
    (ahead > JUMP).then(|| SourceState::TimestampsJumped { by_ms: millis(ahead) })
}

fn sample(image: &RgbImage) -> Vec<[u8; 3]> {
    let (width, height) = image.dimensions();
    let place = |index: u32, length: u32| (index * length + length / 2) / GRID;
    let (columns, rows) = (GRID.min(width), GRID.min(height));
    let mut pixels = Vec::with_capacity((columns * rows) as usize);
    for row in 0..rows {
        let y = if rows == GRID { place(row, height) } else { row };
        for column in 0..columns {
            let x = if columns == GRID { place(column, width) } else { column };
            pixels.push(image.get_pixel(x, y).0);
        }
    }
    pixels
}

fn is_uniform(pixels: &[[u8; 3]]) -> bool {
    let allowed = (pixels.len() as f64 * (1.0 - UNIFORM_SHARE)) as usize;
    (0..3).all(|channel| {
        let mut values: Vec<u8> = pixels.iter().map(|pixel| pixel[channel]).collect();
        values.sort_unstable();
        // What does not belong may lie on one side, as white letters on black do.
        (0..=allowed).any(|below| match (values.get(below), values.get(values.len() + below - allowed - 1)) {
            (Some(least), Some(most)) => most - least <= UNIFORM_SPREAD,
            _ => false,
        })
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    fn textured(seed: u32) -> RgbImage {
        RgbImage::from_fn(96, 72, |x, y| Rgb([(x * 7 + y * 13 + seed) as u8, (x ^ y) as u8, (seed * 31) as u8]))
    }

    fn watch(frames: usize, mut frame: impl FnMut(usize) -> (RgbImage, Option<Duration>)) -> Vec<SourceState> {
        let mut health = Health::new(Duration::from_secs(10));
        (0..frames)
            .map(|index| {
                let (image, stream_time) = frame(index);
                health.judge(STEP * index as u32, &image, stream_time)
            })
            .collect()
    }

    #[test]
    fn a_picture_that_stays_is_frozen_until_it_changes() {
        let states = watch(250, |index| (textured(if (20..200).contains(&index) { 20 } else { index as u32 }), None));
        assert!(states[..120].iter().all(|state| *state == SourceState::Live), "{states:?}");
        assert_eq!(states[120], SourceState::Frozen { for_ms: 10_000 });
        assert_eq!(states[199], SourceState::Frozen { for_ms: 17_900 });
        assert!(states[200..].iter().all(|state| *state == SourceState::Live));
    }

    #[test]
    fn a_still_scene_with_the_noise_of_a_camera_is_live() {
        let states = watch(200, |index| {
            let mut image = textured(1);
            // One level in one row: less noise than any sensor has.
            image
                .enumerate_pixels_mut()
                .filter(|(x, y, _)| (x + y) % 50 == index as u32 % 50)
                .for_each(|(_, _, pixel)| pixel.0[1] ^= 1);
            (image, None)
        });
        assert!(states.iter().all(|state| *state == SourceState::Live), "{states:?}");
    }

    #[test]
    fn a_covered_lens_is_uniform_whatever_its_noise_and_clock() {
        let covered = |index: u32| {
            RgbImage::from_fn(128, 96, |x, y| {
                let noise = ((x * 31 + y * 17 + index * 7) % 9) as u8;
                // Two of a hundred pixels belong to a clock painted over the picture.
                if y < 5 && x < 51 { Rgb([255; 3]) } else { Rgb([8 + noise, 8 + noise, 10]) }
            })
        };
        let states = watch(60, |index| (if index < 40 { covered(index as u32) } else { textured(index as u32) }, None));
        assert!(states[..20].iter().all(|state| *state == SourceState::Live));
        assert!(states[20..40].iter().all(|state| *state == SourceState::Uniform), "{states:?}");
        assert!(states[40..].iter().all(|state| *state == SourceState::Live));
        let black = watch(200, |_| (RgbImage::new(64, 48), None));
        assert_eq!(black[199], SourceState::Uniform, "rather than frozen");
    }

    #[test]
    fn a_dark_scene_with_a_lit_window_is_no_uniform_picture() {
        let scene =
            |index: u32| {
                RgbImage::from_fn(128, 96, |x, y| {
                    if x < 40 && y < 24 { Rgb([200, 180, (y + index) as u8]) } else { Rgb([10; 3]) }
                })
            };
        assert!(watch(60, |index| (scene(index as u32), None)).iter().all(|state| *state == SourceState::Live));
    }

    #[test]
    fn timestamps_that_go_back_or_leap_are_told_for_a_while() {
        let at = |index: usize| STEP * index as u32;
        let shifted = |shift: fn(Duration, usize) -> Duration| {
            watch(200, |index| (textured(index as u32), Some(shift(at(index) + Duration::from_secs(60), index))))
        };
        let back = shifted(|time, index| if index < 80 { time } else { time - Duration::from_secs(20) });
        assert_eq!(back[79], SourceState::Live);
        assert_eq!(back[80], SourceState::TimestampsBackwards { by_ms: 19_900 });
        assert_eq!(back[129].name(), "timestamps_backwards");
        assert_eq!(back[130], SourceState::Live);

        let leap = shifted(|time, index| if index < 80 { time } else { time + Duration::from_secs(7) });
        assert_eq!(leap[80], SourceState::TimestampsJumped { by_ms: 7_000 });
        assert_eq!(leap[130], SourceState::Live);

        let early = shifted(|time, index| if index < 20 { time } else { time + Duration::from_secs(7) });
        assert!(early.iter().all(|state| *state == SourceState::Live), "a connection may settle");
    }

    #[test]
    fn a_network_that_stalls_leaves_the_timestamps_in_order() {
        let mut health = Health::new(Duration::from_secs(10));
        let mut arrival = Duration::ZERO;
        for index in 0..300_u32 {
            // Four seconds of silence at frame 100, then the backlog at once, then as before.
            arrival = match index {
                100 => STEP * 140,
                101..140 => arrival + Duration::from_millis(1),
                _ => STEP * index,
            };
            let state = health.judge(arrival, &textured(index), Some(STEP * index));
            assert_eq!(state, SourceState::Live, "frame {index}");
        }
    }

    #[test]
    fn a_change_of_size_is_a_change_of_picture() {
        let states = watch(150, |index| {
            let side = if index < 90 { 64 } else { 128 };
            (RgbImage::from_fn(side, side, |x, _| if x < side / 2 { Rgb([0; 3]) } else { Rgb([255; 3]) }), None)
        });
        assert!(states.iter().all(|state| *state == SourceState::Live), "{states:?}");
    }
}
