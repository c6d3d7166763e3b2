//! Training from cached features: opens the store, completes it, and reads from it.

use image::RgbImage;
use rand::Rng;
use tch::Tensor;

use super::features::{self, FeatureError, FeatureStore, Filling, Identity};
use super::session::{Session, going_on, random_stream};
use super::{Observer, TrainError};
use crate::dataset::loader::Request;
use crate::model::checkpoint::INPUT_SIZE;
use crate::model::preprocess::{Normalisation, to_input};
use crate::model::resnet::Stage;

/// Raised whenever a variation of pictures or their preparation changes, so that older caches are not trained on.
const PREPARATION_VERSION: u32 = 1;

/// A complete store of the frozen stages' output for all views of all training pictures.
#[derive(Debug)]
pub struct Cached {
    store: FeatureStore,
    views: u32,
    last_frozen: Stage,
    seed: u64,
}

/// A map as it is stored, or why it could not be read.
pub type StoredMap = Result<Vec<u8>, FeatureError>;

impl Cached {
    /// Opens the store that the settings of `session` ask for, if any, and computes what it lacks.
    ///
    /// # Errors
    ///
    /// When nothing is frozen, the store cannot be used or would be too large, or the observer ends the training.
    pub fn complete(session: &mut Session, observer: &mut dyn Observer) -> Result<Option<Self>, TrainError> {
        let settings = session.settings;
        let recipe = &settings.recipe;
        let Some(views) = recipe.cached_views else { return Ok(None) };
        let last_frozen = recipe.freeze_until.ok_or(TrainError::NothingToCache)?;
        let shape = last_frozen.output_shape(INPUT_SIZE);
        let pictures = &session.train.pictures;
        // Whatever may decide the last bit of a map.
        let preparation = format!(
            "{PREPARATION_VERSION} {:?} {INPUT_SIZE} {:?} {:?} {} {} {:?} {}",
            recipe.augmentation,
            Normalisation::IMAGENET,
            recipe.precision,
            recipe.seed,
            recipe.batch_size,
            settings.device,
            tch::get_num_threads(),
        );
        let identity = Identity::new(&session.network, last_frozen, shape, &preparation)?;
        let store = FeatureStore::open(&settings.cache, &settings.data, &identity)?;
        let vary = |image: RgbImage, picture: usize, view: u32| {
            let number = u64::from(view) * pictures.len() as u64 + picture as u64;
            recipe.augmentation.apply(&image, INPUT_SIZE, &mut random_stream(recipe.seed, number))
        };
        let forward = |images: &[RgbImage]| {
            let _no_gradients = tch::no_grad_guard();
            let input = to_input(images, &Normalisation::IMAGENET, settings.device)?;
            Ok::<_, TrainError>(session.run_stages(0..last_frozen as usize + 1, input)?)
        };
        let filling = Filling { pictures, views, batch_size: recipe.batch_size, threads: settings.loader_threads };
        let observe = |done, total| going_on(observer.caching(done, total));
        let unreadable = features::fill(&store, &filling, vary, forward, observe)?;
        session.position.note_unreadable(unreadable);
        Ok(Some(Self { store, views, last_frozen, seed: recipe.seed }))
    }

    /// Index of the first stage that is not cached.
    pub fn first_stage(&self) -> usize {
        self.last_frozen as usize + 1
    }

    /// Reads a random view of a picture. That it is missing is the picture's fault; that it cannot be read is not.
    ///
    /// # Errors
    ///
    /// When the picture is not there, with a reason for people.
    pub fn read(&self, request: &Request) -> Result<StoredMap, String> {
        let view = random_stream(self.seed, request.draw).random_range(0..self.views);
        match self.store.get(&request.path, view) {
            Ok(None) => Err(format!("{}: it is not in the feature cache", request.path.display())),
            Ok(Some(map)) => Ok(Ok(map)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Stacks maps to the input of the first stage that is not cached.
    ///
    /// # Errors
    ///
    /// When one could not be read, or libtorch refuses.
    pub fn stack(&self, maps: Vec<StoredMap>, device: tch::Device) -> Result<Tensor, TrainError> {
        let maps = maps.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(self.store.stack(&maps, device)?)
    }
}
