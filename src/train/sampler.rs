//! Which pictures an epoch shows: every class equally often, every picture of a class before any of them again.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::dataset::Dataset;

/// Draws pictures class-balanced.
#[derive(Debug)]
pub struct BalancedSampler {
    /// Indices of pictures by class.
    by_class: Vec<Vec<usize>>,
    /// How far each class's shuffled round has come.
    next: Vec<usize>,
}

impl BalancedSampler {
    /// A sampler over all pictures of a data set.
    pub fn new(dataset: &Dataset) -> Self {
        let mut by_class = vec![Vec::new(); dataset.classes.len()];
        for (index, picture) in dataset.pictures.iter().enumerate() {
            by_class[picture.label].push(index);
        }
        // As if every class had just been used up, so that the first draw shuffles it.
        let next = by_class.iter().map(Vec::len).collect();
        Self { by_class, next }
    }

    /// Indices of `count` pictures. The numbers of any two classes differ by at most one; their order is random.
    pub fn draw(&mut self, count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
        let classes = self.by_class.len();
        // Whatever does not divide evenly goes to classes in turn from a random one on.
        let first = rng.random_range(0..classes);
        let mut indices: Vec<usize> = (0..count).map(|turn| self.take((first + turn) % classes, rng)).collect();
        indices.shuffle(rng);
        indices
    }

    fn take(&mut self, class: usize, rng: &mut ChaCha8Rng) -> usize {
        let pictures = &mut self.by_class[class];
        if self.next[class] == pictures.len() {
            pictures.shuffle(rng);
            self.next[class] = 0;
        }
        self.next[class] += 1;
        pictures[self.next[class] - 1]
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::dataset::Picture;

    #[test]
    fn classes_are_equal_and_no_picture_waits() {
        let labels = [0, 0, 0, 0, 0, 0, 0, 1, 1, 2];
        let pictures = labels.iter().map(|&label| Picture { path: "x".into(), label }).collect();
        let dataset = Dataset { classes: vec!["a".into(), "b".into(), "c".into()], pictures };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let drawn = BalancedSampler::new(&dataset).draw(21, &mut rng);
        let times = |index| drawn.iter().filter(|&&other| other == index).count();
        for class in 0..3 {
            assert_eq!(drawn.iter().filter(|&&index| labels[index] == class).count(), 7);
        }
        assert!((0..7).all(|index| times(index) == 1), "{drawn:?}");
        assert!((7..9).all(|index| (3..=4).contains(&times(index))), "{drawn:?}");
    }
}
