//! Where in each labelled picture the face is, as the class activation map of an image-level model tells. No annotation is
//! read: these places are as good as the map.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::analyse::comparison::{ComparisonSettings, compare};
use crate::dataset::Dataset;
use crate::dataset::loader::{self, Request};
use crate::explain::{GradientSource, Method, MethodSettings};
use crate::files;
use crate::labels::BACKGROUND;
use crate::model::ModelError;
use crate::model::engine::Engine;
use crate::model::resnet::Resolution;
use crate::resize::Crop;
use crate::train::TrainError;

/// Pictures whose places are found in one go, between two looks at whether the user wants to stop.
const BATCH: usize = 16;

/// The part of each picture that shows the face.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Places {
    /// Identifies the pictures and the model.
    identity: String,
    /// Left, top, width and height as shares of the picture's width and height, by folder and name of the picture.
    places: BTreeMap<String, [f64; 4]>,
}

impl Places {
    /// Nothing is known.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// Reads what an earlier training of the same pictures found, if there is such a file.
    ///
    /// # Errors
    ///
    /// When there is a file that cannot be read.
    pub fn read(path: &Path, identity: &str) -> Result<Option<Self>, TrainError> {
        if !path.exists() {
            return Ok(None);
        }
        let invalid = |reason: String| TrainError::from(ModelError::invalid(path, reason));
        let text = std::fs::read_to_string(path).map_err(|error| invalid(format!("it cannot be read ({error})")))?;
        let places: Self =
            serde_json::from_str(&text).map_err(|error| invalid(format!("it holds no places of faces ({error})")))?;
        Ok((places.identity == identity).then_some(places))
    }

    /// Asks the maps of `engine` for the places of all labelled faces in `sets`, and keeps them in a file.
    ///
    /// # Errors
    ///
    /// When the network fails, the file cannot be written, or `observe`, which is told how many of how many pictures are
    /// done, ends it.
    pub fn find(
        engine: &Engine,
        sets: &[&Dataset],
        threads: usize,
        path: &Path,
        identity: &str,
        observe: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Self, TrainError> {
        let classes = &engine.description().classes;
        let mut requests = Vec::new();
        let mut class_indices = Vec::new();
        for set in sets {
            for picture in &set.pictures {
                let class = &set.classes[picture.label];
                let Some(index) = classes.iter().position(|other| other == class && class != BACKGROUND) else {
                    continue;
                };
                requests.push(Request::new(picture, 0));
                class_indices.push(index);
            }
        }
        let mut places = Self { identity: identity.to_owned(), places: BTreeMap::new() };
        let mut done = 0;
        loader::load(&requests, BATCH, threads, loader::decode, |batch| {
            done += batch.items.len() + batch.unreadable.len();
            for (picture, index) in batch.items.iter().zip(batch.indices) {
                if let Some(place) = locate(engine, picture, class_indices[index])? {
                    places.places.insert(key(&requests[index].path), place);
                }
            }
            match observe(done, requests.len()) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(TrainError::Interrupted),
            }
        })?;
        let text = serde_json::to_vec(&places).expect("numbers and names have a JSON form");
        files::replace(path, &text).map_err(|source| ModelError::Unwritable { path: path.to_owned(), source })?;
        Ok(places)
    }

    /// The place of the face in a picture of `size` (width, height), in its pixels.
    pub fn of(&self, path: &Path, size: (u32, u32)) -> Option<Crop> {
        let [left, top, width, height] = *self.places.get(&key(path))?;
        let (picture_width, picture_height) = (f64::from(size.0), f64::from(size.1));
        Some(Crop {
            left: left * picture_width,
            top: top * picture_height,
            width: width * picture_width,
            height: height * picture_height,
        })
    }

    /// How many places are known.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

/// The box around the hottest region of the map of a class, as shares of the picture.
fn locate(engine: &Engine, picture: &RgbImage, class: usize) -> Result<Option<[f64; 4]>, TrainError> {
    let settings = ComparisonSettings {
        methods: vec![Method::HayCamRefined],
        method_settings: MethodSettings::default(),
        threshold: None,
        resolution: Resolution::Native,
        gradient_source: GradientSource::ClosedForm,
        class: Some(class),
    };
    let comparison = compare(engine, picture, &settings)?;
    let found = comparison.maps.first().and_then(|map| map.boxes.first());
    let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
    Ok(found.map(|found| {
        let rect = found.rect;
        [
            f64::from(rect.x) / width,
            f64::from(rect.y) / height,
            f64::from(rect.width) / width,
            f64::from(rect.height) / height,
        ]
    }))
}

/// Set, class and name: what stays when the folder of the data moves.
fn key(path: &Path) -> String {
    let mut parts: Vec<_> = path.iter().rev().take(3).map(|part| part.to_string_lossy()).collect();
    parts.reverse();
    parts.join("/")
}
