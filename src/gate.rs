//! The motion gate: a picture that has not changed since it was analysed is not analysed again.
//!
//! A frame is reduced to the mean brightness of square cells, of which the smallest face that is looked for by default covers
//! more than one, and compared with the frame of its source that was analysed last, not with the one before it: what moves slowly
//! adds up. The largest change of a cell decides:
//!
//! * below [`NOISE`], the picture is the same, and so is what is known of it, for as long as it stays so;
//! * from [`MOTION`] on, it is analysed;
//! * between the two, which the noise of a camera, a flickering lamp or a change of the light may cause, it is analysed when
//!   [`LONGEST`] has passed since the last time, so that nobody is missed for longer.

use std::collections::BTreeMap;
use std::time::Duration;

use image::RgbImage;

use crate::analyse::{Analysis, FrameRequest};

/// Cells along the short side of a frame: a face of 1/16 of it, the smallest that scans of 512 pixels find well, covers at least
/// two cells, one of them entirely.
const CELLS: u32 = 45;
/// Side of the cells for which the levels below are meant, those of 720p. Smaller cells average less of a camera's noise: there
/// the levels are higher by as much as their side is smaller.
const CELL_PX: f32 = 16.0;
/// Change of a cell, in levels of 255, that rounding, compression and a little noise stay below.
pub const NOISE: f32 = 0.5;
/// Change of a cell, in levels of 255, that is taken for motion. A cell averages 256 pixels, so that noise of a pixel of 6 levels,
/// a poor camera's, changes the cells by less.
pub const MOTION: f32 = 2.0;
/// For how long a picture that may have changed is taken for the same. With the time to the next frame and its analysis, nobody is
/// missed for longer than a second.
pub const LONGEST: Duration = Duration::from_millis(700);

/// Which sources pass through the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateSettings {
    /// Live ones.
    pub live: bool,
    /// Recorded ones.
    pub recorded: bool,
}

/// Keeps what was found last of each source.
#[derive(Debug)]
pub struct Gate {
    settings: GateSettings,
    kept: BTreeMap<usize, Kept>,
}

/// What the gate says of a frame.
#[derive(Debug)]
pub enum Verdict {
    /// It shows what an earlier one showed, of which this is the analysis, marked as such.
    Same(Box<Analysis>),
    /// It is to be analysed.
    Changed(Appearance),
}

/// What a frame looks like; nothing of sources that do not pass through the gate.
#[derive(Debug)]
pub struct Appearance(Option<Cells>);

#[derive(Debug, Clone, PartialEq)]
struct Cells {
    frame: (u32, u32),
    /// Mean of each, row by row, in levels of 255.
    means: Vec<f32>,
}

#[derive(Debug)]
struct Kept {
    cells: Cells,
    pts: Duration,
    analysis: Analysis,
}

impl Gate {
    /// Nothing has been seen yet.
    pub fn new(settings: GateSettings) -> Self {
        Self { settings, kept: BTreeMap::new() }
    }

    /// Whether it compares a frame with those before.
    pub fn compares(&self, request: &FrameRequest) -> bool {
        if request.live { self.settings.live } else { self.settings.recorded }
    }

    /// Looks at a frame.
    pub fn look(&self, request: &FrameRequest) -> Verdict {
        if !self.compares(request) {
            return Verdict::Changed(Appearance(None));
        }
        let cells = Cells::of(request.image);
        match self.kept.get(&request.source).and_then(|kept| Some((kept, kept.age_if_same(&cells, request.pts)?))) {
            Some((kept, age)) => {
                let mut analysis = kept.analysis.clone();
                analysis.kept_for = Some(age);
                analysis.times = Default::default();
                Verdict::Same(Box::new(analysis))
            }
            None => Verdict::Changed(Appearance(Some(cells))),
        }
    }

    /// Keeps the analysis of a frame that had changed.
    pub fn keep(&mut self, source: usize, pts: Duration, appearance: Appearance, analysis: &Analysis) {
        if let Some(cells) = appearance.0 {
            self.kept.insert(source, Kept { cells, pts, analysis: analysis.clone() });
        }
    }

    /// Forgets a source that delivers nothing any more, or nothing that follows what it delivered.
    pub fn forget(&mut self, source: usize) {
        self.kept.remove(&source);
    }
}

impl Kept {
    /// How old it is, if a frame may be taken for the same.
    fn age_if_same(&self, cells: &Cells, pts: Duration) -> Option<Duration> {
        let change = self.cells.largest_change(cells)? / cells.noise_gain();
        // A clock that went backwards says nothing of the age.
        let age = pts.checked_sub(self.pts)?;
        (change < NOISE || change < MOTION && age < LONGEST).then_some(age)
    }
}

impl Cells {
    fn of(image: &RgbImage) -> Self {
        let (width, height) = image.dimensions();
        let side = side_of((width, height)) as usize;
        let (columns, rows) = ((width as usize).div_ceil(side), (height as usize).div_ceil(side));
        let mut means = Vec::with_capacity(rows * columns);
        let mut sums = vec![0u32; columns];
        for band in image.as_raw().chunks(side * width as usize * 3) {
            sums.fill(0);
            let mut lines = 0;
            for line in band.chunks_exact(width as usize * 3) {
                lines += 1;
                for (sum, cell) in sums.iter_mut().zip(line.chunks(side * 3)) {
                    *sum += cell.iter().map(|&value| u32::from(value)).sum::<u32>();
                }
            }
            let values_of = |column: usize| (side.min(width as usize - column * side) * lines * 3) as f32;
            means.extend(sums.iter().enumerate().map(|(column, &sum)| sum as f32 / values_of(column)));
        }
        Self { frame: (width, height), means }
    }

    /// How many times the noise of the cells that the levels are meant for.
    fn noise_gain(&self) -> f32 {
        (CELL_PX / side_of(self.frame) as f32).max(1.0)
    }

    /// Of any cell; nothing between frames of different sizes.
    fn largest_change(&self, other: &Self) -> Option<f32> {
        let changes = self.means.iter().zip(&other.means).map(|(one, other)| (one - other).abs());
        (self.frame == other.frame).then(|| changes.fold(0.0, f32::max))
    }
}

/// Side of a cell, in pixels of a frame.
fn side_of((width, height): (u32, u32)) -> u32 {
    (width.min(height) / CELLS).max(1)
}

#[cfg(test)]
mod tests {
    use image::Rgb;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::analyse::{AnalysisTimes, CamSummary};
    use crate::boxes::PerBox;
    use crate::explain::Method;

    const ON: GateSettings = GateSettings { live: true, recorded: true };

    fn analysis() -> Analysis {
        Analysis {
            label: 0,
            confidence: 0.9,
            probabilities: ndarray::arr1(&[0.9, 0.1]).into(),
            heat: ndarray::Array2::zeros((2, 2)).into(),
            boxes: PerBox::new(),
            box_probabilities: PerBox::new(),
            cam: CamSummary { method: Method::HayCam, reduction: None, basis: None },
            scan: None,
            times: AnalysisTimes { infer: Duration::from_millis(40), ..AnalysisTimes::default() },
            kept_for: None,
        }
    }

    /// A picture with structure, its pixels off by at most so many levels, with a bright square of a side at a place.
    fn picture(noise: i16, square: Option<(u32, u32)>, seed: u64) -> RgbImage {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        RgbImage::from_fn(640, 360, |x, y| {
            let inside =
                square.is_some_and(|(left, side)| (left..left + side).contains(&x) && (100..100 + side).contains(&y));
            let value = if inside { 180 } else { 60 + (x / 8 + y / 4) as i16 % 90 };
            Rgb(std::array::from_fn(|_| (value + generator.random_range(-noise..=noise)) as u8))
        })
    }

    /// Plays pictures and tells which were analysed.
    fn analysed(pictures: impl Iterator<Item = RgbImage>, interval: Duration) -> Vec<bool> {
        let mut gate = Gate::new(ON);
        let mut pts = Duration::ZERO;
        pictures
            .map(|image| {
                pts += interval;
                let request = FrameRequest { source: 3, image: &image, live: true, pts };
                match gate.look(&request) {
                    Verdict::Same(analysis) => {
                        assert!(analysis.kept_for.is_some_and(|age| !age.is_zero()));
                        assert_eq!(analysis.times, AnalysisTimes::default(), "nothing was done");
                        false
                    }
                    Verdict::Changed(appearance) => {
                        gate.keep(3, pts, appearance, &analysis());
                        true
                    }
                }
            })
            .collect()
    }

    #[test]
    fn a_picture_that_stays_the_same_is_analysed_once() {
        let times = analysed((0..200).map(|seed| picture(3, None, seed)), Duration::from_millis(40));
        assert_eq!(times.iter().filter(|&&analysed| analysed).count(), 1);
    }

    #[test]
    fn a_poor_camera_costs_an_analysis_now_and_then() {
        let times = analysed((0..100).map(|seed| picture(12, None, seed)), Duration::from_millis(40));
        let count = times.iter().filter(|&&analysed| analysed).count();
        assert!((4..=8).contains(&count), "{count} analyses in 4 s");
    }

    #[test]
    fn a_small_face_that_appears_is_motion() {
        let appears = |frame: u64| picture(3, (frame >= 5).then_some((300, 24)), frame);
        let times = analysed((0..10).map(appears), Duration::from_millis(40));
        assert_eq!(times.iter().position(|&analysed| analysed), Some(0));
        assert!(times[5] && !times[1..5].iter().any(|&analysed| analysed));
    }

    #[test]
    fn what_moves_slowly_is_never_overlooked_for_a_second() {
        // A pixel in two seconds, at ten frames a second.
        let interval = Duration::from_millis(100);
        let times = analysed((0..200).map(|frame| picture(0, Some((100 + frame / 20, 40)), 0)), interval);
        let mut last = 0;
        for (frame, &analysed) in times.iter().enumerate() {
            let moved = frame / 20 != last / 20;
            if analysed {
                last = frame;
            } else if moved {
                assert!(interval * ((frame - last) as u32) < Duration::from_secs(1), "frame {frame}");
            }
        }
        assert!(times.iter().filter(|&&analysed| analysed).count() < 60, "most frames show nothing new");
    }

    #[test]
    fn other_sources_other_sizes_and_a_clock_that_goes_back_are_changes() {
        let mut gate = Gate::new(GateSettings { live: true, recorded: false });
        let image = picture(0, None, 1);
        let pts = Duration::from_secs(5);
        let request = FrameRequest { source: 1, image: &image, live: true, pts };
        let Verdict::Changed(appearance) = gate.look(&request) else { panic!("never seen") };
        gate.keep(1, pts, appearance, &analysis());
        assert!(matches!(gate.look(&request), Verdict::Same(_)));
        assert!(matches!(gate.look(&FrameRequest { source: 2, ..request }), Verdict::Changed(_)));
        assert!(matches!(gate.look(&FrameRequest { live: false, ..request }), Verdict::Changed(Appearance(None))));
        assert!(matches!(gate.look(&FrameRequest { pts: Duration::from_secs(4), ..request }), Verdict::Changed(_)));
        let smaller = RgbImage::new(320, 180);
        assert!(matches!(gate.look(&FrameRequest { image: &smaller, ..request }), Verdict::Changed(_)));
        gate.forget(1);
        assert!(matches!(gate.look(&request), Verdict::Changed(_)));
    }
}
