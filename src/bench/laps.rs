//! What a turn measures: the time of each stage, added up over its frames.

use std::time::Duration;

use super::stage::Stage;

/// Times of stages, in the order in which they were first met.
#[derive(Debug, Default)]
pub(super) struct Laps(Vec<(Stage, Duration, usize)>);

/// Milliseconds a frame of each stage, of one turn of one variant.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turn(Vec<(Stage, f64)>);

impl Laps {
    /// A stage took so long for so many frames.
    pub(super) fn add(&mut self, stage: Stage, time: Duration, frames: usize) {
        match self.0.iter_mut().find(|(other, ..)| *other == stage) {
            Some((_, total, count)) => {
                *total += time;
                *count += frames;
            }
            None => self.0.push((stage, time, frames)),
        }
    }

    /// The times a frame.
    pub(super) fn turn(self) -> Turn {
        let a_frame = |(stage, total, frames): (Stage, Duration, usize)| {
            (stage, total.as_secs_f64() * 1e3 / frames.max(1) as f64)
        };
        Turn(self.0.into_iter().map(a_frame).collect())
    }
}

impl Turn {
    /// What was measured.
    pub(super) fn stages(&self) -> impl Iterator<Item = Stage> {
        self.0.iter().map(|(stage, _)| *stage)
    }

    /// Milliseconds of a stage, if it was measured.
    pub(super) fn millis(&self, stage: Stage) -> Option<f64> {
        self.0.iter().find(|(other, _)| *other == stage).map(|(_, millis)| *millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_a_frame() {
        let mut laps = Laps::default();
        laps.add(Stage::Forward, Duration::from_millis(30), 2);
        laps.add(Stage::Boxes, Duration::from_millis(1), 1);
        laps.add(Stage::Forward, Duration::from_millis(60), 1);
        let turn = laps.turn();
        assert_eq!(turn.stages().collect::<Vec<_>>(), [Stage::Forward, Stage::Boxes]);
        assert_eq!((turn.millis(Stage::Forward), turn.millis(Stage::Whole)), (Some(30.0), None));
    }
}
