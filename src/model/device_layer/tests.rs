//! Layers on a device and on the host against products in double precision.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::model::tests::gpu_or_stand_in;

/// Two pictures, 7 filters, 3 rows and 4 columns.
fn batch() -> Tensor {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let values: Vec<f32> = (0..2 * 7 * 12).map(|_| random.random_range(-1.0..2.0)).collect();
    Tensor::from_slice(&values).view([2, 7, 3, 4])
}

fn layers(batch: &Tensor, questions: &[Option<Arc<Questions>>]) -> Result<Vec<DeviceLayer>, ModelError> {
    let device = gpu_or_stand_in();
    let batch = batch.to_device(device);
    let layers = PendingLayer::from_batch(&batch, questions, Cuda::of(device).as_ref())?;
    layers.into_iter().map(PendingLayer::wait).collect()
}

/// The same as a CPU would have computed it.
fn on_host(layer: &DeviceLayer) -> DeviceLayer {
    let activations = layer.activations().unwrap().into_owned();
    DeviceLayer::from_host(Layer { activations, grid: layer.grid() }).unwrap()
}

fn matrix(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_simple_fn((rows, columns), || random.random_range(-1.0..1.0))
}

fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |largest, value| largest.max(value.abs()))
}

#[test]
fn products_and_sums_are_those_of_the_activations_that_come_off_the_device() {
    let layers = layers(&batch(), &[None, None]).unwrap();
    assert_eq!(layers.len(), 2);
    let computed_here: Vec<DeviceLayer> = layers.iter().map(on_host).collect();
    for (picture, layer) in layers.iter().enumerate().chain(computed_here.iter().enumerate()) {
        let host = layer.activations().unwrap();
        assert_eq!((layer.grid(), host.dim()), ((3, 4), (12, 7)));
        let value = batch().double_value(&[picture as i64, 5, 1, 2]);
        assert_eq!(f64::from(host[[6, 5]]), value, "positions run row by row");

        let activations = host.mapv(f64::from);
        let mean = activations.mean_axis(Axis(0)).unwrap();
        assert!(largest((layer.mean() - &mean).into_iter()) < 1e-6);
        // Columns side by side and below one another in memory.
        for weights in [matrix(7, 5, 2), matrix(5, 7, 3).reversed_axes()] {
            let products = layer.times(&DeviceMatrix::new(weights.clone())).unwrap().mapv(f64::from);
            let expected = activations.dot(&weights.mapv(f64::from));
            assert!(largest((products - expected).into_iter()) < 1e-5);
        }
        let (centre, directions) = (matrix(1, 7, 4), matrix(7, 2, 5));
        let of = |matrix: &Array2<f32>| DeviceMatrix::new(matrix.clone());
        let (along, total) = layer.sums_of_squares(&of(&centre), &of(&directions)).unwrap();
        let centred = &activations - &centre.mapv(f64::from);
        let square = |values: &Array2<f64>| values.iter().map(|value| value * value).sum::<f64>();
        let scores = centred.dot(&directions.mapv(f64::from));
        assert!((along / square(&scores) - 1.0).abs() < 1e-5 && (total / square(&centred) - 1.0).abs() < 1e-5);
        assert_eq!(layer.sums_of_squares(&of(&centre), &of(&Array2::zeros((7, 0)))).unwrap().0, 0.0);
    }
}

#[test]
fn answers_that_were_sent_are_those_that_are_asked_for() {
    let of = |rows, columns, seed| DeviceMatrix::new(matrix(rows, columns, seed));
    let (weights, other_weights) = (of(7, 5, 2), of(7, 3, 3));
    let (centre, directions, none) = (of(1, 7, 4), of(7, 2, 5), of(7, 0, 6));
    let one = Arc::new(Questions::new(&weights, &centre, &directions));
    let other = Arc::new(Questions::new(&other_weights, &centre, &none));
    let pictures = Tensor::cat(&[batch(), batch() * 2.0], 0);
    let questions = [Some(Arc::clone(&one)), Some(one), None, Some(other)];
    let unasked = layers(&pictures, &[None, None, None, None]).unwrap();
    for ((layer, expected), asked) in layers(&pictures, &questions).unwrap().iter().zip(&unasked).zip(&questions) {
        assert_eq!(layer.answers.is_some(), asked.is_some());
        assert_eq!(layer.mean(), expected.mean());
        for weights in [&weights, &other_weights] {
            let difference = &*layer.times(weights).unwrap() - &*expected.times(weights).unwrap();
            assert!(largest(difference.mapv(f64::from).into_iter()) < 1e-5);
        }
        for directions in [&directions, &none] {
            let [ours, expected] = [layer, expected].map(|layer| layer.sums_of_squares(&centre, directions).unwrap());
            assert!((ours.0 - expected.0).abs() < 1e-5 * expected.0.max(1e-9), "{ours:?} {expected:?}");
            assert!((ours.1 / expected.1 - 1.0).abs() < 1e-5, "{ours:?} {expected:?}");
        }
        // The same directions from another centre are another question.
        let elsewhere = of(1, 7, 7);
        let [ours, theirs] = [layer, expected].map(|layer| layer.sums_of_squares(&elsewhere, &directions).unwrap());
        assert!((ours.1 / theirs.1 - 1.0).abs() < 1e-9);
    }
}

#[test]
fn what_is_no_number_is_an_error() {
    for broken in [f64::NAN, f64::INFINITY] {
        let batch = batch();
        let _ = batch.get(1).get(3).get(2).get(0).fill_(broken);
        assert!(matches!(layers(&batch, &[None, None]), Err(ModelError::NotFinite)));
    }
    let mut activations = Array2::zeros((12, 7));
    activations[[3, 2]] = f32::NAN;
    assert!(matches!(DeviceLayer::from_host(Layer { activations, grid: (3, 4) }), Err(ModelError::NotFinite)));
}

#[test]
fn what_the_device_has_no_memory_for_is_done_on_the_host() {
    let device = gpu_or_stand_in();
    let layers =
        PendingLayer::from_batch(&batch().to_device(device), &[None, None], Cuda::of(device).as_ref()).unwrap();
    let Progress::UnderWay { batch, .. } = &layers[0].0 else { panic!("it is among others") };
    let asked = std::cell::RefCell::new(Vec::new());
    let ask = |message: &str, failures: usize| {
        asked.take();
        lock(batch).ask(|activations| {
            asked.borrow_mut().push(activations.device());
            let fails = asked.borrow().len() <= failures;
            if fails { Err(TchError::Torch(message.to_owned())) } else { Ok(activations.size()) }
        })
    };
    assert_eq!(ask("CUDA out of memory. Tried to allocate 2.00 GiB.", 1).unwrap(), [2, 12, 7]);
    assert_eq!(asked.take(), [device, Device::Cpu]);
    assert!(ask("CUDA out of memory.", 2).is_err(), "nor has the host");
    assert!(ask("a device-side assert", 1).is_err());
    assert_eq!(asked.take(), [device], "other failures are told at once");
}

#[test]
fn weights_of_other_filters_are_a_mistake() {
    let layer = layers(&batch(), &[None, None]).unwrap().remove(0);
    let of = |rows, columns| DeviceMatrix::new(matrix(rows, columns, 6));
    for layer in [&layer, &on_host(&layer)] {
        let refuses = |work: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err();
        assert!(refuses(&|| drop(layer.times(&of(6, 2)))));
        assert!(refuses(&|| drop(layer.sums_of_squares(&of(1, 6), &of(7, 2)))));
        assert!(refuses(&|| drop(layer.sums_of_squares(&of(1, 7), &of(6, 2)))));
    }
}

#[test]
fn half_precision_stays_on_the_device_and_its_order_in_memory_is_left_behind() {
    let channels_last = batch().permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
    let exact = layers(&batch(), &[None, None]).unwrap();
    let half = layers(&channels_last.to_kind(Kind::Half), &[None, None]).unwrap();
    for (exact, half) in exact.iter().zip(&half) {
        let Place::Device { batch, .. } = &half.activations else { panic!("it stays on its device") };
        assert_eq!(lock(batch).activations.kind(), Kind::Half);
        // Values below 2 are rounded by at most 2^-11, half of their last place.
        let difference = &*half.activations().unwrap() - &*exact.activations().unwrap();
        assert!(largest(difference.mapv(f64::from).into_iter()) <= 1.0 / 2048.0);
        assert!(largest((half.mean() - exact.mean()).into_iter()) <= 1.0 / 2048.0);
    }
}
