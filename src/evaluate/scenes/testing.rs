//! Scenes for tests: written by hand, or at random.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Settings;
use super::matching::Rule;
use super::scene::{Counting, Face, Scene};
use super::tuning::Protocol;
use crate::analyse::Detection;
use crate::geometry::Rect;

/// Faces from 32 px, IoU of 0.3.
pub const RULE: Rule = Rule { counting: Counting::AtLeast(32), least_iou: 0.3 };
pub const MASK: usize = 0;
pub const NO_MASK: usize = 1;
/// Left, top, width, height.
pub type Edges = [u32; 4];

pub fn rect([x, y, width, height]: Edges) -> Rect {
    Rect { x, y, width, height }
}

pub fn face(edges: Edges, label: Option<usize>) -> Face {
    Face { rect: rect(edges), class: format!("{label:?}"), label }
}

pub fn detection(edges: Edges, label: usize, score: f32) -> Detection {
    Detection { rect: rect(edges), score, label }
}

pub fn scene(faces: Vec<Face>, detections: Vec<Detection>) -> Scene {
    Scene::new("a.jpg".into(), (400, 400), faces, detections, Duration::ZERO)
}

/// A scene for each score: a face that is found with it, or nothing but a false detection.
pub fn found_or_false(scores: &[(f32, bool)]) -> Vec<Scene> {
    let one = |&(score, is_right): &(f32, bool)| {
        let place = [10, 10, 50, 50];
        let faces = if is_right { vec![face(place, Some(MASK))] } else { Vec::new() };
        scene(faces, vec![detection(place, MASK, score)])
    };
    scores.iter().map(one).collect()
}

pub fn settings(protocol: Protocol) -> Settings {
    Settings {
        classes: ["mask", "no_mask", "background"].map(str::to_owned).to_vec(),
        thresholds: vec![0.5; 3],
        protocol,
        min_size: 32,
        face_free: None,
        loader_threads: 1,
    }
}

/// Scenes with faces of both classes, of neither, and of all sizes, some found well, some badly, some not at all; scores
/// repeat.
pub fn random_scenes(count: usize, seed: u64) -> Vec<Scene> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| random_scene(&mut random)).collect()
}

fn random_scene(random: &mut ChaCha8Rng) -> Scene {
    let (mut faces, mut detections) = (Vec::new(), Vec::new());
    for _ in 0..random.random_range(0..6) {
        let edges = random_edges(random);
        let label = [Some(MASK), Some(NO_MASK), Some(NO_MASK), None][random.random_range(0..4)];
        faces.push(face(edges, label));
        for _ in 0..random.random_range(0..3) {
            let shaken = [0, 1, 2, 3].map(|side: usize| edges[side].saturating_add(random.random_range(0..25)).max(1));
            let taken_for = if random.random_bool(0.8) { label.unwrap_or(MASK) } else { NO_MASK };
            detections.push(detection(shaken, taken_for, random_score(random)));
        }
    }
    for _ in 0..random.random_range(0..4) {
        detections.push(detection(random_edges(random), random.random_range(0..2), random_score(random)));
    }
    scene(faces, detections)
}

fn random_edges(random: &mut ChaCha8Rng) -> Edges {
    let side = random.random_range(8..100);
    [random.random_range(0..250), random.random_range(0..250), side, side + random.random_range(0..30)]
}

fn random_score(random: &mut ChaCha8Rng) -> f32 {
    random.random_range(1..=40) as f32 / 40.0
}
