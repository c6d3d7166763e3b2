//! What a few disturbed rounds or the beginning of a run do not move: medians, the middle half, rates.

use serde::Serialize;

use crate::evaluate::bootstrap::quantile;

/// Median and quartiles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the values are below it.
    pub median: f64,
    /// A quarter of the values is below it.
    pub p25: f64,
    /// A quarter of the values is above it.
    pub p75: f64,
}

impl Spread {
    /// Of values that can be compared; nothing without any.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |share| quantile(&values, share);
        (!values.is_empty()).then(|| Self { median: at(0.5), p25: at(0.25), p75: at(0.75) })
    }

    /// Of the ratios of values that were measured side by side, the first of each pair over the second.
    pub fn of_ratios(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<Self> {
        Self::of(pairs.into_iter().filter(|(_, other)| *other > 0.0).map(|(one, other)| one / other))
    }
}

/// The slope of the least-squares line through values over their places, with which values rise from place to place; nothing for
/// fewer than two values.
///
/// Of the times at which frames were done it is the time a frame, also where they come in batches: a difference of two times
/// depends on where in a batch they lie.
pub fn slope(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let (middle, mean) = ((count - 1.0) / 2.0, values.iter().sum::<f64>() / count);
    let deviations = || values.iter().enumerate().map(|(place, value)| (place as f64 - middle, value - mean));
    let products: f64 = deviations().map(|(place, value)| place * value).sum();
    let squares: f64 = deviations().map(|(place, _)| place * place).sum();
    (values.len() > 1).then(|| products / squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_that_of_the_line_and_hardly_heeds_batches() {
        assert_eq!(slope(&[3.0, 5.0, 7.0, 9.0]), Some(2.0));
        assert_eq!(slope(&[3.0, 5.0]), Some(2.0));
        assert_eq!((slope(&[3.0]), slope(&[])), (None, None));
        for batch in 1..=5 {
            for phase in 0..batch {
                // Frames of a batch are done together, 10 ms for each.
                let times: Vec<f64> =
                    (phase..phase + 24).map(|frame| f64::from(frame / batch * batch) * 10.0).collect();
                let slope = slope(&times).unwrap();
                assert!((slope - 10.0).abs() < 0.5, "{batch} {phase}: {slope}");
            }
        }
    }

    #[test]
    fn it_is_that_of_numpy_in_any_order() {
        // numpy.quantile([1, 2, 3, 10], [0.5, 0.25, 0.75])
        let expected = Spread { median: 2.5, p25: 1.75, p75: 4.75 };
        assert_eq!(Spread::of([10.0, 1.0, 3.0, 2.0]), Some(expected));
        assert_eq!(Spread::of([7.0]), Some(Spread { median: 7.0, p25: 7.0, p75: 7.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_disturbed_round_hardly_moves_it() {
        let quiet: Vec<f64> = (0..21).map(|round| 10.0 + f64::from(round % 3) * 0.1).collect();
        let disturbed = quiet.iter().enumerate().map(|(round, time)| if round < 4 { time * 20.0 } else { *time });
        let (quiet, disturbed) = (Spread::of(quiet.clone()).unwrap(), Spread::of(disturbed).unwrap());
        assert!((disturbed.median - quiet.median).abs() <= 0.1, "{disturbed:?}");
    }

    #[test]
    fn paired_ratios_do_not_see_what_weighs_on_both() {
        // The machine slows down more and more; one variant always takes three quarters of the other's time.
        let pairs = (1..=20).map(|round| (0.75 * f64::from(round), f64::from(round)));
        assert_eq!(Spread::of_ratios(pairs), Some(Spread { median: 0.75, p25: 0.75, p75: 0.75 }));
        assert_eq!(Spread::of_ratios([(1.0, 0.0)]), None, "what took no time cannot be compared with");
    }
}
