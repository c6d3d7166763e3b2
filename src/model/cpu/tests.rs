//! Convolutions against their definition in double precision, and the network against libtorch's.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::kernel::Activation;
use super::plane::{Plane, Shape};
use super::*;

/// What is convolved with what, and how.
struct Case {
    instructions: Instructions,
    input: Shape,
    filters: usize,
    side: usize,
    stride: usize,
    dilation: usize,
    activation: Activation,
}

/// Everything between -1 and 1.
fn random(count: usize, generator: &mut ChaCha8Rng) -> Vec<f32> {
    (0..count).map(|_| generator.random_range(-1.0..1.0)).collect()
}

/// Values by (picture, row, column, channel), written to a plane.
fn filled(shape: Shape, values: &[f32]) -> Plane {
    let mut plane = Plane::new(shape);
    let view = plane.view(shape.pictures);
    for (position, values) in values.chunks_exact(shape.channels).enumerate() {
        let (picture, row, column) = shape.place(position);
        // SAFETY: a position of the plane, which nobody else uses.
        let target = unsafe {
            std::slice::from_raw_parts_mut(view.values.add(shape.offset(picture, row, column)), shape.channels)
        };
        target.copy_from_slice(values);
    }
    plane
}

impl Case {
    fn output(&self) -> Shape {
        let Shape { pictures, height, width, .. } = self.input;
        let (height, width) = (height.div_ceil(self.stride), width.div_ceil(self.stride));
        Shape { pictures, height, width, channels: self.filters, border: 1 }
    }

    /// By the definition, (positions, filters).
    fn expected(&self, input: &[f32], weights: &[f32], bias: &[f32], before: &[f32]) -> Vec<f64> {
        let Shape { height, width, channels, .. } = self.input;
        let padding = self.dilation * (self.side - 1) / 2;
        let mut expected = Vec::new();
        for position in 0..self.output().positions() {
            let (picture, row, column) = self.output().place(position);
            for filter in 0..self.filters {
                let mut sum = f64::from(bias[filter]);
                for place in 0..self.side * self.side {
                    let at = |output: usize, place: usize| {
                        (output * self.stride + place * self.dilation).checked_sub(padding)
                    };
                    let (Some(y), Some(x)) = (at(row, place / self.side), at(column, place % self.side)) else {
                        continue;
                    };
                    if y >= height || x >= width {
                        continue;
                    }
                    for channel in 0..channels {
                        let value = input[((picture * height + y) * width + x) * channels + channel];
                        let weight = weights[(filter * channels + channel) * self.side * self.side + place];
                        sum += f64::from(value) * f64::from(weight);
                    }
                }
                if self.activation.add {
                    sum += f64::from(before[position * self.filters + filter]);
                }
                expected.push(if self.activation.rectify { sum.max(0.0) } else { sum });
            }
        }
        expected
    }

    /// The largest difference from the definition, of each algorithm that can do it, all tasks done one after another.
    fn differences(&self, threads: usize, seed: u64) -> Vec<f64> {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let input = random(self.input.positions() * self.input.channels, &mut generator);
        let weights = random(self.filters * self.input.channels * self.side * self.side, &mut generator);
        let bias = random(self.filters, &mut generator);
        let before = random(self.output().positions() * self.filters, &mut generator);
        let expected = self.expected(&input, &weights, &bias, &before);
        let mut input = filled(self.input, &input);
        let input = input.view(self.input.pictures);
        let difference = |work: &dyn Fn(super::plane::PlaneView)| {
            let mut output = filled(self.output(), &before);
            work(output.view(self.output().pictures));
            let rows: Vec<f32> = (0..self.output().pictures)
                .flat_map(|picture| output.rows(picture).into_raw_vec_and_offset().0)
                .collect();
            rows.iter().zip(&expected).map(|(value, expected)| (f64::from(*value) - expected).abs()).fold(0.0, f64::max)
        };
        let mut differences = Vec::new();
        let channels = self.input.channels;
        let direct = Direct::new(self.instructions, &weights, &bias, channels, self.side, self.stride, self.dilation);
        differences.push(difference(&|output| {
            for task in 0..direct.tasks(&output.shape) {
                // SAFETY: the shapes are those of the case, and nobody else is at work.
                unsafe { direct.work(task, input, self.activation, output) };
            }
        }));
        if self.side == 3 && self.stride == 1 && self.dilation == 1 {
            let winograd = Winograd::new(self.instructions, &weights, &bias, channels);
            differences.push(difference(&|output| {
                let split = winograd.split(&output.shape, threads);
                let mut scratch = vec![0.0; winograd.scratch(split)];
                for task in 0..Winograd::tasks(&output.shape, split) {
                    // SAFETY: as above.
                    unsafe { winograd.work(task, split, input, self.activation, output, &mut scratch) };
                }
            }));
        }
        differences
    }
}

#[test]
fn what_is_no_number_does_not_become_one() {
    for instructions in Instructions::all() {
        let (channels, filters) = (16, 32);
        let mut weights = vec![0.1; filters * channels * 9];
        weights[0] = f32::NAN;
        let bias = vec![0.0; filters];
        let input = Shape { pictures: 1, height: 5, width: 5, channels, border: 1 };
        let output = Shape { channels: filters, ..input };
        let activation = Activation { add: false, rectify: true };
        let mut ones = filled(input, &vec![1.0; input.positions() * channels]);
        let direct = Direct::new(instructions, &weights, &bias, channels, 3, 1, 1);
        let winograd = Winograd::new(instructions, &weights, &bias, channels);
        let split = winograd.split(&output, 1);
        for algorithm in 0..2 {
            let mut plane = Plane::new(output);
            let (from, to) = (ones.view(1), plane.view(1));
            let tasks = [direct.tasks(&output), Winograd::tasks(&output, split)][algorithm];
            for task in 0..tasks {
                // SAFETY: the shapes fit, and nobody else is at work.
                unsafe {
                    match algorithm {
                        0 => direct.work(task, from, activation, to),
                        _ => {
                            let mut scratch = vec![0.0; winograd.scratch(split)];
                            winograd.work(task, split, from, activation, to, &mut scratch);
                        }
                    }
                }
            }
            let rows = plane.rows(0);
            assert!(rows[[12, 0]].is_nan() && rows.column(1).iter().all(|value| *value > 0.0), "{algorithm}");
        }
    }
}

#[test]
fn convolutions_are_what_their_definition_says() {
    let activations =
        [(false, true), (true, true), (false, false), (true, false)].map(|(add, rectify)| Activation { add, rectify });
    let mut seed = 0;
    for (pictures, height, width, channels, filters) in [
        (1, 9, 13, 16, 32),
        (2, 8, 8, 64, 32),
        (3, 7, 5, 16, 96),
        (1, 1, 1, 16, 32),
        (1, 2, 130, 16, 32),
        (1, 3, 4, 256, 64),
    ] {
        for (side, stride, dilation) in [(3, 1, 1), (3, 2, 1), (1, 2, 1), (1, 1, 1), (7, 2, 1), (3, 1, 2)] {
            let border = dilation * (side - 1) / 2 + seed as usize % 2;
            let input = Shape { pictures, height, width, channels, border };
            seed += 1;
            let activation = activations[seed as usize % 4];
            for instructions in Instructions::all() {
                let case = Case { instructions, input, filters, side, stride, dilation, activation };
                for (algorithm, difference) in case.differences(1 + seed as usize % 3, seed).into_iter().enumerate() {
                    // Sums of `products` numbers below 1 in magnitude; Winograd's transforms cost some digits.
                    let products = (side * side * channels) as f64;
                    let bound = 3e-6 * products.sqrt() * if algorithm == 1 { 10.0 } else { 1.0 };
                    assert!(
                        difference < bound,
                        "{instructions:?}, algorithm {algorithm}: {difference} for {height}x{width}, {side}x{side}"
                    );
                }
            }
        }
    }
}
