//! Where a box is and goes: a Kalman filter (Kalman 1960) of its centre and size, as SORT has it (Bewley et al. 2016,
//! section 3.2), for frames that do not come at regular times.
//!
//! It differs from SORT in two ways. Noise is a continuous process, integrated exactly over the time between frames, so
//! that the estimate does not depend on the frame rate: two steps of 50 ms are one of 100 ms. And the size, as logarithms of
//! width and height, has no velocity: boxes cut from a heat map change their size by far more than faces do, and a
//! velocity learnt from that would blow up or shrink a box while nobody sees it.

use std::time::Duration;

use super::box_px::BoxPx;

/// Standard deviation of a detected centre, in [sides](BoxPx::side) of the box. On the bundled clip it is 0.01 for a face of
/// 200 pixels; the cells in which the scan finds boxes are 0.1 of one of 40.
const CENTRE_NOISE: f64 = 0.1;
/// Standard deviation of the logarithm of a detected width or height.
const SIZE_NOISE: f64 = 0.15;
/// Standard deviation of the velocity of somebody new, and its growth in a second, in sides a second: a person walks 5 to 7
/// of their face's sides in one, and may turn.
const VELOCITY_NOISE: f64 = 3.0;
/// Growth in a second of the standard deviation of the logarithm of width and height.
const GROWTH: f64 = 0.5;

/// A coordinate and its velocity.
///
/// State x = (position, velocity) with covariance P; between frames x' = v, with white noise of density q on v'.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Coordinate {
    position: f64,
    velocity: f64,
    /// Variance of the position, covariance of both, variance of the velocity.
    covariance: (f64, f64, f64),
}

impl Coordinate {
    /// At a measured position, with nothing known of its velocity but the variance.
    pub(super) fn new(position: f64, variance: f64, velocity_variance: f64) -> Self {
        Self { position, velocity: 0.0, covariance: (variance, 0.0, velocity_variance) }
    }

    /// x <- F x and P <- F P F' + Q, with F = [1 t; 0 1] and Q = q [t^3/3 t^2/2; t^2/2 t].
    pub(super) fn predict(&mut self, seconds: f64, density: f64) {
        let (t, (pp, pv, vv)) = (seconds, self.covariance);
        self.position += t * self.velocity;
        self.covariance = (
            pp + 2.0 * t * pv + t * t * vv + density * t.powi(3) / 3.0,
            pv + t * vv + density * t * t / 2.0,
            vv + density * t,
        );
    }

    /// Takes a measured position: K = P H' / (H P H' + r), with H = [1 0].
    pub(super) fn correct(&mut self, measured: f64, variance: f64) {
        let (pp, pv, vv) = self.covariance;
        let (gain_p, gain_v) = (pp / (pp + variance), pv / (pp + variance));
        let surprise = measured - self.position;
        self.position += gain_p * surprise;
        self.velocity += gain_v * surprise;
        self.covariance = ((1.0 - gain_p) * pp, (1.0 - gain_p) * pv, vv - gain_v * pv);
    }

    fn scale(&mut self, factor: f64) {
        let (pp, pv, vv) = self.covariance;
        self.position *= factor;
        self.velocity *= factor;
        self.covariance = (pp * factor * factor, pv * factor * factor, vv * factor * factor);
    }
}

/// The logarithm of a length: a random walk.
#[derive(Debug, Clone, Copy)]
struct Length {
    log: f64,
    variance: f64,
}

impl Length {
    fn new(length: f64) -> Self {
        Self { log: length.ln(), variance: SIZE_NOISE.powi(2) }
    }

    fn predict(&mut self, seconds: f64) {
        self.variance += GROWTH.powi(2) * seconds;
    }

    fn correct(&mut self, measured: f64) {
        let gain = self.variance / (self.variance + SIZE_NOISE.powi(2));
        self.log += gain * (measured.ln() - self.log);
        self.variance *= 1.0 - gain;
    }
}

/// A moving box.
#[derive(Debug, Clone)]
pub struct Motion {
    x: Coordinate,
    y: Coordinate,
    width: Length,
    height: Length,
}

impl Motion {
    /// Begins where the box was seen first.
    pub fn new(seen: BoxPx) -> Self {
        let coordinate = |position| {
            let [centre, velocity] = [CENTRE_NOISE, VELOCITY_NOISE].map(|noise| (noise * seen.side()).powi(2));
            Coordinate::new(position, centre, velocity)
        };
        Self {
            x: coordinate(seen.x),
            y: coordinate(seen.y),
            width: Length::new(seen.width),
            height: Length::new(seen.height),
        }
    }

    /// Moves on by the time that has passed.
    pub fn predict(&mut self, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        let density = (VELOCITY_NOISE * self.now().side()).powi(2);
        for coordinate in [&mut self.x, &mut self.y] {
            coordinate.predict(seconds, density);
        }
        for length in [&mut self.width, &mut self.height] {
            length.predict(seconds);
        }
    }

    /// Takes where the box was seen.
    pub fn correct(&mut self, seen: BoxPx) {
        let variance = (CENTRE_NOISE * self.now().side()).powi(2);
        self.x.correct(seen.x, variance);
        self.y.correct(seen.y, variance);
        self.width.correct(seen.width);
        self.height.correct(seen.height);
    }

    /// The estimate.
    pub fn now(&self) -> BoxPx {
        BoxPx { x: self.x.position, y: self.y.position, width: self.width.log.exp(), height: self.height.log.exp() }
    }

    /// The same motion in frames of another size: factors of width and height, above 0.
    pub fn scale(&mut self, across: f64, down: f64) {
        self.x.scale(across);
        self.y.scale(down);
        self.width.log += across.ln();
        self.height.log += down.ln();
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, array};
    use ndarray_linalg::Inverse;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// What all measurements together say: the mean of the last state given all of them, as one Gaussian over all states
    /// (the information form of the whole trajectory), without any recursion.
    fn batch(times: &[f64], measured: &[f64], r: f64, first: (f64, f64), q: f64) -> (f64, f64) {
        let n = times.len();
        let mut information: Array2<f64> = Array2::zeros((2 * n, 2 * n));
        let mut weighted: Array1<f64> = Array1::zeros(2 * n);
        information[[0, 0]] += 1.0 / first.0;
        information[[1, 1]] += 1.0 / first.1;
        weighted[0] += measured[0] / first.0;
        for step in 1..n {
            let t = times[step] - times[step - 1];
            // Residual of the step: J s, with s = (states of step - 1, states of step).
            let residual = array![[-1.0, -t, 1.0, 0.0], [0.0, -1.0, 0.0, 1.0]];
            let noise = array![[q * t.powi(3) / 3.0, q * t * t / 2.0], [q * t * t / 2.0, q * t]];
            let block = residual.t().dot(&noise.inv().unwrap()).dot(&residual);
            for ((row, column), value) in block.indexed_iter() {
                information[[2 * (step - 1) + row, 2 * (step - 1) + column]] += value;
            }
            information[[2 * step, 2 * step]] += 1.0 / r;
            weighted[2 * step] += measured[step] / r;
        }
        let states = information.inv().unwrap().dot(&weighted);
        (states[2 * n - 2], states[2 * n - 1])
    }

    #[test]
    fn the_filter_equals_the_batch_solution() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for _ in 0..20 {
            let (r, q, variance, velocity_variance) = (0.5, 4.0, 0.5, 9.0);
            let mut times = vec![0.0];
            let mut measured = vec![rng.random_range(-5.0..5.0)];
            for step in 0..12 {
                times.push(times[step] + rng.random_range(0.02..0.5));
                measured.push(measured[step] + rng.random_range(-1.0..1.5));
            }
            let mut filter = Coordinate::new(measured[0], variance, velocity_variance);
            for step in 1..times.len() {
                filter.predict(times[step] - times[step - 1], q);
                filter.correct(measured[step], r);
                let (position, velocity) =
                    batch(&times[..=step], &measured[..=step], r, (variance, velocity_variance), q);
                assert!((filter.position - position).abs() < 1e-8 && (filter.velocity - velocity).abs() < 1e-8);
            }
        }
    }

    #[test]
    fn one_step_is_as_good_as_many() {
        let start = Coordinate { position: 3.0, velocity: -2.0, covariance: (0.3, 0.1, 2.0) };
        let (mut once, mut often) = (start, start);
        once.predict(0.7, 5.0);
        for seconds in [0.1, 0.25, 0.05, 0.3] {
            often.predict(seconds, 5.0);
        }
        let flat = |state: Coordinate| {
            let (pp, pv, vv) = state.covariance;
            [state.position, state.velocity, pp, pv, vv]
        };
        for (one, other) in flat(once).into_iter().zip(flat(often)) {
            assert!((one - other).abs() < 1e-12, "{once:?} {often:?}");
        }
    }

    #[test]
    fn a_constant_velocity_is_learnt_exactly() {
        let at =
            |seconds: f64| BoxPx { x: 100.0 + 80.0 * seconds, y: 300.0 - 25.0 * seconds, width: 40.0, height: 50.0 };
        let mut motion = Motion::new(at(0.0));
        for step in 1..60 {
            motion.predict(Duration::from_millis(100));
            motion.correct(at(f64::from(step) * 0.1));
        }
        motion.predict(Duration::from_millis(500));
        let (now, expected) = (motion.now(), at(6.4));
        assert!((now.x - expected.x).abs() < 1e-3 && (now.y - expected.y).abs() < 1e-3, "{now:?}");
        assert!((now.width - 40.0).abs() < 1e-9 && (now.height - 50.0).abs() < 1e-9);
    }

    #[test]
    fn jitter_is_smoothed() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut motion = Motion::new(BoxPx { x: 200.0, y: 200.0, width: 50.0, height: 50.0 });
        let (mut seen_error, mut error) = (0.0, 0.0);
        for _ in 0..300 {
            let mut noise = |size: f64| rng.random_range(-size..size);
            let seen = BoxPx { x: 200.0 + noise(8.0), y: 200.0, width: 50.0 * noise(0.3).exp(), height: 50.0 };
            motion.predict(Duration::from_millis(33));
            motion.correct(seen);
            seen_error += (seen.x - 200.0).powi(2) + (seen.width - 50.0).powi(2);
            error += (motion.now().x - 200.0).powi(2) + (motion.now().width - 50.0).powi(2);
        }
        assert!(error < 0.5 * seen_error, "{error} of {seen_error}");
    }

    #[test]
    fn a_motion_scales_with_the_frame() {
        let seen = |x: f64| BoxPx { x, y: 60.0, width: 20.0, height: 30.0 };
        let mut motion = Motion::new(seen(50.0));
        motion.predict(Duration::from_millis(100));
        motion.correct(seen(58.0));
        let mut doubled = motion.clone();
        doubled.scale(2.0, 3.0);
        for moving in [&mut motion, &mut doubled] {
            moving.predict(Duration::from_millis(200));
        }
        let (one, other) = (motion.now(), doubled.now());
        assert!((2.0 * one.x - other.x).abs() < 1e-9 && (3.0 * one.y - other.y).abs() < 1e-9);
        assert!((2.0 * one.width - other.width).abs() < 1e-9 && (3.0 * one.height - other.height).abs() < 1e-9);
    }
}
