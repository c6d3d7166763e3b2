//! What the engine does on a GPU: on one where there is one, and with tensors on the CPU in its place elsewhere, so that hardly a
//! line of it is left to a machine that has one.

use std::cell::Cell;
use std::path::PathBuf;

use image::RgbImage;
use ndarray::{Array2, ArrayView2, Axis};
use tch::Device;

use super::ModelError;
use super::device_layer::PendingLayer;
use super::engine::{Engine, Inference, Tap};
use super::forward::ForwardRequest;
use super::memory::tests::{out_of_memory, warnings_of};
use super::picture::Picture;
use super::precision::{Precision, PrecisionChoice};
use super::resnet::Resolution;
use super::tests::noisy;
use crate::frame::Batch;

fn model() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/resnet18-scenes.safetensors")
}

fn on_cpu() -> Engine {
    Engine::load(&model(), Device::Cpu).unwrap()
}

fn as_on_gpu() -> Engine {
    Engine::load_as_on_gpu(&model()).unwrap()
}

/// The largest difference as a share of the largest value.
fn share(one: ArrayView2<f32>, other: ArrayView2<f32>) -> f64 {
    let largest = |values: &Array2<f32>| values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    f64::from(largest(&(&one - &other)) / largest(&other.to_owned()))
}

/// At `layer3`, `layer4` and the logits.
fn differences(ours: &[Inference], expected: &[Inference]) -> [f64; 3] {
    assert_eq!(ours.len(), expected.len());
    let mut largest = [0.0f64; 3];
    for (ours, expected) in ours.iter().zip(expected) {
        let (ours_layer3, layer3) = (ours.layer3.as_ref().unwrap(), expected.layer3.as_ref().unwrap());
        let differences = [
            share(ours_layer3.activations.view(), layer3.activations.view()),
            share(ours.layer4.activations.view(), expected.layer4.activations.view()),
            share(ours.logits.view().insert_axis(Axis(0)), expected.logits.view().insert_axis(Axis(0))),
        ];
        largest = std::array::from_fn(|of| largest[of].max(differences[of]));
    }
    largest
}

fn infer(engine: &Engine, images: &[RgbImage]) -> Batch<Inference> {
    let pictures: Vec<Picture> = images.iter().map(|image| engine.take(image)).collect();
    engine.infer(&pictures, Tap::Layer3).unwrap()
}

#[test]
fn a_gpu_computes_what_a_cpu_does_as_closely_as_its_precision_allows() {
    for resolution in [Resolution::Native, Resolution::Atrous] {
        let expected = on_cpu().with_resolution(resolution).unwrap();
        let half = as_on_gpu().with_resolution(resolution).unwrap();
        assert_eq!((expected.precision(), half.precision()), (Precision::Single, Precision::Half));
        let single = as_on_gpu().with_precision(PrecisionChoice::Single).unwrap().with_resolution(resolution).unwrap();
        assert_eq!(single.precision(), Precision::Single);
        for (count, width, height) in [(1, 96, 64), (3, 97, 65), (1, 1, 1)] {
            let images: Vec<RgbImage> = (0..count).map(|seed| noisy(width, height, seed)).collect();
            let expected = infer(&expected, &images);
            let by_single = differences(&infer(&single, &images), &expected);
            let by_half = differences(&infer(&half, &images), &expected);
            println!("{resolution:?}, {count} of {width}x{height}: single {by_single:?}, half {by_half:?}");
            // GPUs multiply single precision with 11 bits, as they do half.
            let bound = if single.device().is_cuda() { 5e-3 } else { 1e-4 };
            assert!(by_single.iter().all(|&share| share < bound), "{by_single:?}");
            // Measured: up to 0.0014 of the largest activation, at layer3.
            assert!(by_half.iter().all(|&share| share < 5e-3), "{by_half:?}");
        }
    }
}

#[test]
fn activations_that_stay_on_the_device_are_those_that_leave_it() {
    let engine = as_on_gpu();
    let images = [noisy(96, 64, 1), noisy(96, 64, 2)];
    let pictures = images.each_ref().map(|image| engine.take(image));
    let answers = engine.infer(&pictures, Tap::Layer4).unwrap();
    let requests = pictures.each_ref().map(|picture| picture.another().into());
    for (layer, answer) in engine.layer4(&requests).unwrap().iter().zip(&answers) {
        let activations = layer.activations().unwrap();
        assert_eq!((layer.grid(), &*activations), (answer.layer4.grid, &answer.layer4.activations));
    }
    assert!(engine.layer4(&[]).unwrap().is_empty());
    engine.wait().unwrap();
}

#[test]
fn a_pass_that_is_repeated_says_the_same_of_the_same_and_other_of_other_pictures() {
    for precision in [PrecisionChoice::Half, PrecisionChoice::Single] {
        let engine = as_on_gpu().with_precision(precision).unwrap();
        let activations = |images: &[RgbImage]| {
            let requests: Vec<ForwardRequest> = images.iter().map(|image| engine.take(image).into()).collect();
            let layers = engine.layer4(&requests).unwrap();
            layers.iter().map(|layer| layer.activations().unwrap().into_owned()).collect::<Vec<_>>()
        };
        let (one, other) = ([noisy(96, 64, 1), noisy(96, 64, 2)], [noisy(96, 64, 3), noisy(96, 64, 4)]);
        let (first, first_of_other) = (activations(&one), activations(&other));
        assert!(share(first[0].view(), first_of_other[0].view()) > 0.1);
        // What one pass left is not what the next one leaves.
        let under_way = [&one, &other].map(|images| {
            let requests: Vec<ForwardRequest> = images.iter().map(|image| engine.take(image).into()).collect();
            engine.begin_layer4(&requests).unwrap()
        });
        for (layers, first) in under_way.into_iter().zip([&first, &first_of_other]) {
            for (layer, first) in layers.into_iter().zip(first) {
                assert!(share(layer.wait().unwrap().activations().unwrap().view(), first.view()) < 1e-6);
            }
        }
        // More shapes than one take turns.
        for count in [2, 1, 2, 1, 2] {
            for (images, first) in [(&one, &first), (&other, &first_of_other)] {
                for (again, first) in activations(&images[..count]).iter().zip(first) {
                    // Of several pictures, cuDNN may take another algorithm than of one.
                    let bound = if count == 2 { 1e-6 } else { 5e-3 };
                    assert!(share(again.view(), first.view()) < bound, "{precision:?} {count}");
                }
            }
        }
    }
}

/// Logits of three pictures, frames of twice their size, where passes of more than `room` pictures have no memory as long as
/// the network has not moved; and how many pictures each pass had.
fn with_room_for(room: usize, engine: &Engine, frames: &[RgbImage]) -> (Batch<Inference>, Vec<usize>) {
    let pictures: Vec<Picture> = frames.iter().map(|frame| engine.take(frame).resized((96, 64)).unwrap()).collect();
    let passes = Cell::new(Vec::new());
    let requests: Vec<ForwardRequest> = pictures.iter().map(|picture| picture.another().into()).collect();
    let layers = engine.in_passes(&requests, (96, 64), |forward, pictures| {
        let mut sizes = passes.take();
        sizes.push(pictures.len());
        passes.set(sizes);
        if pictures.len() > room && engine.precision() == Precision::Half {
            return Err(out_of_memory());
        }
        forward.layer4(pictures, Resolution::Native)
    });
    let layers: Batch<PendingLayer> = layers.unwrap();
    assert_eq!(layers.len(), frames.len());
    (engine.infer(&pictures, Tap::Layer3).unwrap(), passes.take())
}

#[test]
fn want_of_memory_halves_batches_and_then_moves_the_network_but_loses_no_frame() {
    let frames: Vec<RgbImage> = (0..4).map(|seed| noisy(192, 128, seed)).collect();
    let resized = |engine: &Engine| {
        let pictures: Vec<Picture> = frames.iter().map(|frame| engine.take(frame).resized((96, 64)).unwrap()).collect();
        engine.infer(&pictures, Tap::Layer3).unwrap()
    };
    let expected = resized(&on_cpu());

    let engine = as_on_gpu();
    let ((answers, passes), warnings) = warnings_of(|| with_room_for(1, &engine, &frames));
    assert_eq!((passes, warnings.len()), (vec![4, 2, 1, 1, 1, 1], 2), "{warnings:?}");
    assert!(warnings[1].contains("no memory for 2 pictures of 96x64 at once: 1 from now on"), "{warnings:?}");
    assert_eq!(engine.precision(), Precision::Half, "it is still where it was");
    // A level more or less, and half precision.
    assert!(differences(&answers, &expected).iter().all(|&share| share < 0.03));

    let engine = as_on_gpu();
    let ((answers, passes), warnings) = warnings_of(|| with_room_for(0, &engine, &frames));
    assert_eq!((passes, warnings.len()), (vec![4, 2, 1, 4], 3), "{warnings:?}");
    assert!(warnings[2].contains("computing on the CPU from now on"), "{warnings:?}");
    assert_eq!(engine.precision(), Precision::Single);
    assert!(differences(&answers, &expected).iter().all(|&share| share < 1e-6), "frames are resized by the host");
    let (after, warnings) = warnings_of(|| resized(&engine));
    assert!(differences(&after, &expected).iter().all(|&share| share < 1e-6), "frames are resized by the host again");
    assert!(warnings.is_empty());
}

#[test]
fn half_precision_is_not_to_be_had_on_a_cpu() {
    let error = on_cpu().with_precision(PrecisionChoice::Half).unwrap_err();
    assert!(matches!(error, ModelError::Device(_)), "{error}");
    assert_eq!(as_on_gpu().with_precision(PrecisionChoice::Half).unwrap().precision(), Precision::Half);
}

#[test]
fn gradients_and_blends_do_not_depend_on_where_a_picture_lies() {
    let (cpu, gpu) = (on_cpu(), as_on_gpu());
    let image = noisy(64, 64, 3);
    let masks = ndarray::Array3::from_elem((2, 64, 64), 0.5);
    let logits = |engine: &Engine| engine.logits_of_blends(&engine.take(&image), None, masks.view()).unwrap();
    // GPUs multiply with 11 bits.
    let bound = if gpu.device().is_cuda() { 5e-3 } else { 1e-6 };
    assert!(share(logits(&gpu).view(), logits(&cpu).view()) < bound);
    let layer4 = cpu.infer(&[cpu.take(&image)], Tap::Layer4).unwrap().remove(0).layer4;
    let weights = cpu.class_weights().row(0);
    let gradients = |engine: &Engine| engine.gradients(Tap::Layer4, &layer4, weights).unwrap();
    assert!(share(gradients(&gpu).view(), gradients(&cpu).view()) < bound);
}

#[test]
fn forward_passes_on_a_cpu_do_without_the_trained_weights() {
    let images = [noisy(96, 64, 1)];
    for engine in [on_cpu, as_on_gpu] {
        let expected = infer(&engine(), &images);
        let ours = infer(&engine().for_forward_passes(), &images);
        assert_eq!(ours[0].logits, expected[0].logits);
    }
    // A GPU may have to give way to the CPU.
    assert!(as_on_gpu().for_forward_passes().with_resolution(Resolution::Atrous).is_ok());
}
