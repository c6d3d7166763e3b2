//! From activations to a map a class: the posterior of each position, and HayCAM over the whole grid. [`super::folded`]
//! computes both at once.
//!
//! With activations A (positions, filters), their mean mu, X = A - 1 mu', the basis V, and d_c = relu(w_c - w_background),
//! what speaks for a class rather than for nobody:
//!
//! * posterior: p = softmax(A W' + 1 b'), as global average pooling is linear: what the network answers for the picture is
//!   the softmax of the mean of these logits;
//! * HayCAM: m_c = relu((X V V' + 1 mu') d_c), without mu if centred;
//! * product: p_c min(1, m_c / saturation).

use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, s};

use super::settings::{ScanMap, ScanSettings};
use crate::labels::PerClass;
use crate::recycled::Recycled;

/// The last layer of the network.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// (classes, filters).
    pub weights: &'a Array2<f32>,
    /// (classes).
    pub biases: &'a Array1<f32>,
    /// Index of the class that says that nobody is there. Without it, classes are not compared with anything.
    pub background: Option<usize>,
}

/// A map a class.
pub type Maps = PerClass<Recycled<Array2<f32>>>;

/// What activations say of each class at each position.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// (positions, 2 classes): posteriors, then evidence.
    values: Recycled<Array2<f32>>,
}

impl Head<'_> {
    /// [`Reading::posteriors`] of activations (positions, filters) alone.
    pub fn posteriors(&self, activations: ArrayView2<f32>) -> Array2<f32> {
        let mut posteriors = activations.dot(&self.weights.t()) + self.biases;
        softmax(posteriors.view_mut());
        posteriors
    }

    /// What speaks for each class rather than for nobody: (filters, classes).
    pub(super) fn speaking(&self) -> Array2<f64> {
        let mut speaking = self.weights.mapv(f64::from);
        if let Some(background) = self.background {
            let against = speaking.row(background).to_owned();
            speaking -= &against;
        }
        speaking.mapv(|weight| weight.max(0.0)).reversed_axes()
    }
}

impl Reading {
    /// What logits and evidence (positions, 2 classes) say, in their memory.
    pub fn of(mut sums: Recycled<Array2<f32>>) -> Self {
        let classes = sums.ncols() / 2;
        softmax(sums.slice_mut(s![.., ..classes]));
        Self { values: sums }
    }

    /// Probabilities, (positions, classes). The model's temperature, which was fitted to whole pictures, does not apply.
    pub fn posteriors(&self) -> ArrayView2<'_, f32> {
        self.values.slice(s![.., ..self.classes()])
    }

    /// Probability of each class at a position.
    ///
    /// # Panics
    ///
    /// When there is no such position.
    pub fn posterior_at(&self, position: usize) -> Recycled<Array1<f32>> {
        Recycled::of(self.classes(), self.posteriors().row(position).iter().copied())
    }

    /// HayCAM's maps before they are cut, (positions, classes).
    pub fn evidence(&self) -> ArrayView2<'_, f32> {
        self.values.slice(s![.., self.classes()..])
    }

    fn classes(&self) -> usize {
        self.values.ncols() / 2
    }

    /// A map a class in [0, 1], (rows, columns) of the grid; zeros for the background.
    ///
    /// # Panics
    ///
    /// When the grid does not have as many places as there are positions.
    pub fn maps(&self, background: Option<usize>, grid: (usize, usize), settings: &ScanSettings) -> Maps {
        let (posteriors, evidence) = (self.posteriors(), self.evidence());
        let of_class = |class: usize| {
            let (posteriors, evidence) = (posteriors.column(class), evidence.column(class));
            let value = |(&posterior, &evidence): (&f32, &f32)| {
                let haycam = (evidence / settings.saturation).clamp(0.0, 1.0);
                match settings.map {
                    _ if Some(class) == background => 0.0,
                    ScanMap::Posterior => posterior,
                    ScanMap::HayCam => haycam,
                    ScanMap::Product => haycam * posterior,
                }
            };
            Recycled::of(grid, posteriors.iter().zip(evidence).map(value))
        };
        (0..self.classes()).map(of_class).collect()
    }
}

/// Of each row.
pub(super) fn softmax(mut logits: ArrayViewMut2<f32>) {
    for mut position in logits.rows_mut() {
        let largest = position.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        position.mapv_inplace(|logit| (logit - largest).exp());
        let sum = position.sum();
        position.mapv_inplace(|value| value / sum);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Axis;
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::explain::normalise::enlarge;
    use crate::pca::{self, Components};
    use crate::scan::folded::Folding;
    use crate::scan::regions;

    const GRID: (usize, usize) = (5, 8);
    const POSITIONS: usize = GRID.0 * GRID.1;
    const FILTERS: usize = 64;

    fn random(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Array2::from_shape_simple_fn((rows, columns), || rng.random_range(-1.0f32..1.0))
    }

    /// Rectified activations, and a head of three classes, the last of which is the background.
    struct Case {
        activations: Array2<f32>,
        weights: Array2<f32>,
        biases: Array1<f32>,
    }

    impl Case {
        fn new(seed: u64) -> Self {
            Self {
                activations: random(POSITIONS, FILTERS, seed).mapv(|value| value.max(0.0)),
                weights: random(3, FILTERS, seed + 1) * 0.3,
                biases: random(1, 3, seed + 2).row(0).to_owned(),
            }
        }

        fn head(&self) -> Head<'_> {
            Head { weights: &self.weights, biases: &self.biases, background: Some(2) }
        }

        fn maps(&self, settings: &ScanSettings) -> Maps {
            let basis = pca::fit(self.activations.view(), settings.components).unwrap();
            let folded = Folding::of_scan(self.head(), settings).fold(&basis);
            folded.read(self.activations.view(), &basis.mean).maps(Some(2), GRID, settings)
        }
    }

    fn largest_difference(one: &Array2<f32>, other: &Array2<f32>) -> f32 {
        (one - other).iter().fold(0.0, |largest, difference| largest.max(difference.abs()))
    }

    #[test]
    fn posteriors_are_the_softmax_of_each_position() {
        let case = Case::new(1);
        let posteriors = case.head().posteriors(case.activations.view());
        for (position, activations) in posteriors.outer_iter().zip(case.activations.outer_iter()) {
            let logit = |class: usize| {
                let products = activations.iter().zip(case.weights.row(class)).map(|(a, w)| f64::from(a * w));
                products.sum::<f64>() + f64::from(case.biases[class])
            };
            let sum: f64 = (0..3).map(|class| logit(class).exp()).sum();
            for class in 0..3 {
                assert!((f64::from(position[class]) - logit(class).exp() / sum).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn all_components_that_are_not_centred_are_the_plain_map() {
        let case = Case::new(2);
        let settings =
            ScanSettings { components: Components::Count(FILTERS), map: ScanMap::HayCam, ..ScanSettings::default() };
        let maps = case.maps(&settings);
        for (class, map) in maps.iter().enumerate().take(2) {
            let expected = Array2::from_shape_fn(GRID, |(row, column)| {
                let activations = case.activations.row(row * GRID.1 + column);
                let speaking = (0..FILTERS).map(|filter| {
                    let weight = f64::from(case.weights[[class, filter]]) - f64::from(case.weights[[2, filter]]);
                    weight.max(0.0) * f64::from(activations[filter])
                });
                (speaking.sum::<f64>() / f64::from(settings.saturation)).clamp(0.0, 1.0) as f32
            });
            assert!(largest_difference(map, &expected) < 1e-4);
        }
        let few = case.maps(&ScanSettings { components: Components::Count(3), ..settings });
        assert!(largest_difference(&few[0], &maps[0]) > 0.01, "three components must differ from all");
        let centred = case.maps(&ScanSettings { centred: true, ..settings });
        assert!(largest_difference(&centred[0], &maps[0]) > 0.01);
    }

    #[test]
    fn maps_are_in_bounds_and_the_product_is_below_both() {
        let case = Case::new(3);
        let with = |map| case.maps(&ScanSettings { map, ..ScanSettings::default() });
        let (posterior, haycam, product) = (with(ScanMap::Posterior), with(ScanMap::HayCam), with(ScanMap::Product));
        for class in 0..2 {
            for ((product, posterior), haycam) in product[class].iter().zip(&*posterior[class]).zip(&*haycam[class]) {
                assert!((0.0..=1.0).contains(product) && product <= posterior && product <= haycam);
            }
            assert!(product[class].iter().any(|&value| value > 0.0));
        }
        for maps in [posterior, haycam, product] {
            assert_eq!(*maps[2], Array2::<f32>::zeros(GRID), "nobody has no map");
        }
    }

    #[test]
    fn filters_and_positions_can_be_renumbered() {
        let case = Case::new(4);
        let settings = ScanSettings { components: Components::Count(6), ..ScanSettings::default() };
        let maps = case.maps(&settings);
        let shuffled = |length: usize| {
            let mut order: Vec<usize> = (0..length).collect();
            order.shuffle(&mut ChaCha8Rng::seed_from_u64(5));
            order
        };
        let (filters, positions) = (shuffled(FILTERS), shuffled(POSITIONS));
        let renumbered = Case {
            activations: case.activations.select(Axis(1), &filters).select(Axis(0), &positions),
            weights: case.weights.select(Axis(1), &filters),
            biases: case.biases.clone(),
        };
        for (map, renumbered) in maps.iter().zip(renumbered.maps(&settings)) {
            let values: Vec<f32> = map.iter().copied().collect();
            let expected = positions.iter().map(|&position| values[position]).collect();
            let expected = Array2::from_shape_vec(GRID, expected).unwrap();
            assert!(largest_difference(&renumbered, &expected) < 1e-4);
        }
    }

    #[test]
    fn an_empty_room_has_no_region() {
        // Every position speaks for the background, by as much as a filter is active.
        let mut case = Case::new(6);
        case.activations.fill(1.0);
        case.weights.fill(0.0);
        case.weights.row_mut(2).fill(0.5);
        for map in [ScanMap::Posterior, ScanMap::HayCam, ScanMap::Product] {
            let settings = ScanSettings { map, ..ScanSettings::default() };
            for map in case.maps(&settings) {
                assert!(regions::find(&enlarge(&map, 40, 64), &settings).is_empty());
            }
        }
    }
}
