//! Tests of the feature cache: the bench they share.

mod fill;
mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;

use image::RgbImage;
use tch::{Device, Kind, Tensor};

use super::*;
use crate::dataset::{DatasetError, Picture};

/// Needs two pieces.
const SHAPE: [i64; 3] = [3, 60, 60];

fn identity() -> Identity {
    Identity { shape: SHAPE, digest: [7; 32] }
}

fn random(count: i64) -> Tensor {
    Tensor::randn([count, SHAPE[0], SHAPE[1], SHAPE[2]], (Kind::Float, Device::Cpu))
}

/// Pictures in a folder of their own, and a place for a store beside it.
struct Bench {
    folder: tempfile::TempDir,
    pictures: Vec<Picture>,
}

impl Bench {
    fn new(pictures: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("train")).unwrap();
        let picture = |number: u8| {
            let path = folder.path().join(format!("train/{number:02}.png"));
            RgbImage::from_pixel(2, 2, image::Rgb([number; 3])).save(&path).unwrap();
            Picture { path, label: 0 }
        };
        let pictures = (0..pictures).map(picture).collect();
        Self { folder, pictures }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn open(&self) -> FeatureStore {
        self.open_with(&identity()).unwrap()
    }

    fn open_with(&self, identity: &Identity) -> Result<FeatureStore, FeatureError> {
        FeatureStore::open(&self.cache(), &self.folder.path().join("train"), identity)
    }

    fn entry(&self, index: usize, view: u32) -> Entry<'_> {
        let path = &self.pictures[index].path;
        Entry { path, stamp: Stamp::of(path).unwrap(), view }
    }

    fn filling(&self, views: u32) -> Filling<'_> {
        Filling { pictures: &self.pictures, views, batch_size: 4, threads: 2 }
    }

    /// Fills until `allowed` batches were computed.
    fn fill(&self, store: &FeatureStore, views: u32, allowed: usize) -> Result<Filled, Stop> {
        let (mut batches, mut computed) = (0, 0);
        let make = |image: RgbImage, picture: usize, view: u32| {
            assert_eq!(usize::from(image.get_pixel(0, 0).0[0]) % 100, picture);
            RgbImage::from_pixel(1, 1, image::Rgb([image.get_pixel(0, 0).0[0], view as u8, 0]))
        };
        let forward = |images: &[RgbImage]| {
            batches += 1;
            if batches > allowed {
                return Err(Stop::Interrupted);
            }
            computed += images.len();
            // As in the worst library, what a picture gets depends on its company.
            let company: f64 = images.iter().enumerate().map(|(at, image)| at as f64 * first_two(image)).sum();
            let maps: Vec<Tensor> = images
                .iter()
                .map(|image| Tensor::full(SHAPE, first_two(image) + company / 1e4, (Kind::Float, Device::Cpu)))
                .collect();
            Ok(Tensor::stack(&maps, 0))
        };
        let mut last = 0;
        let unreadable = fill(store, &self.filling(views), make, forward, |done, total| {
            assert!((last..=total).contains(&done));
            last = done;
            Ok(())
        })?;
        Ok(Filled { computed, unreadable })
    }

    fn contents(&self, store: &FeatureStore, views: u32) -> Vec<Option<Vec<u8>>> {
        let get = |picture: &Picture, view| store.get(&picture.path, view).unwrap();
        self.pictures.iter().flat_map(|picture| (0..views).map(move |view| get(picture, view))).collect()
    }
}

fn first_two(image: &RgbImage) -> f64 {
    let [red, green, _] = image.get_pixel(0, 0).0;
    f64::from(red) + f64::from(green) / 16.0
}

/// What came of a pass.
#[derive(Debug)]
struct Filled {
    computed: usize,
    unreadable: BTreeMap<PathBuf, String>,
}

#[derive(Debug)]
enum Stop {
    Interrupted,
    Failed(String),
}

impl From<FeatureError> for Stop {
    fn from(error: FeatureError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<DatasetError> for Stop {
    fn from(error: DatasetError) -> Self {
        Self::Failed(error.to_string())
    }
}
