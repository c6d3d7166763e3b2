//! Makes scenes of labelled pictures.

use image::imageops::flip_horizontal_in_place;
use image::{Rgb, RgbImage};
use imageproc::geometric_transformations::{Border, Interpolation, rotate};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::paste::paste;
use super::places::Places;
use super::{Object, Scene, SceneRecipe};
use crate::dataset::loader::{self, Request};
use crate::dataset::{Dataset, Picture};
use crate::labels::BACKGROUND;
use crate::model::preprocess::squeeze;
use crate::resize::Crop;
use crate::train::augment::Augmentation;

/// Most faces in a scene.
const MOST_FACES: usize = 4;
/// Most things without a face that are pasted into a scene.
const MOST_DISTRACTORS: usize = 3;
/// Largest face of several in a scene.
const LARGEST_OF_SEVERAL: f64 = 110.0;
/// Share of a face that another may cover.
const MOST_COVERED: f64 = 0.15;
/// Attempts to find room for a face.
const ATTEMPTS: usize = 8;
/// Share of the pasted parts with a hard edge, as posters and screens have.
const HARD_EDGES: f64 = 0.2;
/// Smallest side of a thing without a face, in pixels of the picture it is cut from.
const SMALLEST_DISTRACTOR: f64 = 32.0;

/// Makes scenes of the pictures of a data set.
#[derive(Debug)]
pub struct Composer<'a> {
    recipe: SceneRecipe,
    augmentation: Augmentation,
    places: &'a Places,
    side: u32,
    background: usize,
    backgrounds: Vec<&'a Picture>,
    faces: Vec<Vec<&'a Picture>>,
}

/// A picture with what is known of it, as it is going to be pasted.
struct Cutout {
    image: RgbImage,
    label: usize,
    place: Option<Crop>,
}

impl<'a> Composer<'a> {
    /// Composes scenes of `side` x `side` pixels; `None` if the data set has no class `background`.
    pub fn new(
        dataset: &'a Dataset,
        places: &'a Places,
        recipe: SceneRecipe,
        augmentation: Augmentation,
        side: u32,
    ) -> Option<Self> {
        let background = dataset.classes.iter().position(|class| class == BACKGROUND)?;
        let of_class =
            |label| -> Vec<&Picture> { dataset.pictures.iter().filter(|picture| picture.label == label).collect() };
        let faces = (0..dataset.classes.len()).filter(|&label| label != background).map(of_class).collect();
        Some(Self { recipe, augmentation, places, side, background, backgrounds: of_class(background), faces })
    }

    /// Index of the class `background`.
    pub fn background(&self) -> usize {
        self.background
    }

    /// How scenes are composed and judged.
    pub fn recipe(&self) -> &SceneRecipe {
        &self.recipe
    }

    /// A scene that shows the picture of a request.
    ///
    /// # Errors
    ///
    /// When a picture that it needs cannot be read.
    pub fn compose(&self, request: &Request, rng: &mut ChaCha8Rng) -> Result<Scene, String> {
        let picture = loader::decode(request)?;
        let is_background = request.label == self.background;
        if !is_background && rng.random_bool(self.recipe.plain) {
            let cutout = self.cutout(picture, request, rng);
            return Ok(self.plain(cutout, rng));
        }
        let mut image = if is_background {
            self.canvas(&picture, rng)
        } else {
            self.canvas(&self.read(self.any(&self.backgrounds, rng))?, rng)
        };
        for _ in 0..MOST_DISTRACTORS {
            if rng.random_bool(self.recipe.distractor) {
                self.distract(&mut image, rng)?;
            }
        }
        let mut scene = Scene { image, objects: Vec::new(), whole: is_background.then_some(self.background) };
        if !is_background {
            let several = rng.random_bool(self.recipe.several);
            let count = if several { rng.random_range(2..=MOST_FACES) } else { 1 };
            self.add(&mut scene, self.cutout(picture, request, rng), count, rng);
            for _ in 1..count {
                let pictures = self.faces.choose(rng).expect("a class beside the background");
                let request = Request::new(self.any(pictures, rng), 0);
                let cutout = self.cutout(loader::decode(&request)?, &request, rng);
                self.add(&mut scene, cutout, count, rng);
            }
        }
        self.spoil(&mut scene, rng);
        Ok(scene)
    }

    /// The picture of a request mirrored and turned at random, in a light of its own.
    fn cutout(&self, mut image: RgbImage, request: &Request, rng: &mut ChaCha8Rng) -> Cutout {
        let mut place = self.places.of(&request.path, image.dimensions());
        if self.augmentation.flip && rng.random_bool(0.5) {
            flip_horizontal_in_place(&mut image);
            place = place.map(|place| Crop { left: f64::from(image.width()) - place.left - place.width, ..place });
        }
        if self.augmentation.rotation > 0.0 {
            let angle = rng.random_range(-self.augmentation.rotation..=self.augmentation.rotation).to_radians();
            let all = whole(&image);
            let around = place.unwrap_or(all);
            let centre = ((around.left + around.width / 2.0) as f32, (around.top + around.height / 2.0) as f32);
            image = rotate(&image, centre, angle as f32, Interpolation::Bilinear, Border::<Rgb<u8>>::Replicate);
        }
        self.augmentation.vary_tone(&mut image, rng);
        Cutout { image, label: request.label, place }
    }

    /// A picture with a face as it is.
    fn plain(&self, cutout: Cutout, rng: &mut ChaCha8Rng) -> Scene {
        let Cutout { image, label, place } = cutout;
        let crop = self.augmentation.random_crop(&image, rng).unwrap_or(whole(&image));
        let (across, down) = (f64::from(self.side) / crop.width, f64::from(self.side) / crop.height);
        let place = place.map(|place| Crop {
            left: (place.left - crop.left) * across,
            top: (place.top - crop.top) * down,
            width: place.width * across,
            height: place.height * down,
        });
        let image = squeeze(&image, Some(crop), self.side);
        let pasted = whole(&image);
        // A face that the crop has mostly cut off is no place to learn from; the picture's label is.
        let place = place.filter(|place| overlap(place, &pasted) > 0.5 * place.width * place.height);
        let mut scene = Scene { image, objects: vec![Object { label, pasted, place }], whole: Some(label) };
        self.spoil(&mut scene, rng);
        scene
    }

    /// A square part of a face-free picture.
    fn canvas(&self, picture: &RgbImage, rng: &mut ChaCha8Rng) -> RgbImage {
        let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
        let side = width.min(height) * rng.random_range(0.4..=1.0);
        let left = rng.random_range(0.0..=width - side);
        let top = rng.random_range(0.0..=height - side);
        let mut canvas = squeeze(picture, Some(Crop { left, top, width: side, height: side }), self.side);
        if self.augmentation.flip && rng.random_bool(0.5) {
            flip_horizontal_in_place(&mut canvas);
        }
        canvas
    }

    /// Pastes something without a face: another background, or what people wear below their faces. Seams and clothes must
    /// not mean anything.
    fn distract(&self, canvas: &mut RgbImage, rng: &mut ChaCha8Rng) -> Result<(), String> {
        let (picture, part) = if rng.random_bool(0.5) {
            let picture = self.read(self.any(&self.backgrounds, rng))?;
            let part = whole(&picture);
            (picture, part)
        } else {
            let source = self.any(self.faces.choose(rng).expect("a class beside the background"), rng);
            let picture = self.read(source)?;
            let Some(place) = self.places.of(&source.path, picture.dimensions()) else { return Ok(()) };
            let top = place.top + place.height * 1.3;
            let part =
                Crop { left: 0.0, top, width: f64::from(picture.width()), height: f64::from(picture.height()) - top };
            if part.height < SMALLEST_DISTRACTOR {
                return Ok(());
            }
            (picture, part)
        };
        let longest = f64::from(self.side) * 0.9;
        let shorter = log_uniform(rng, 24.0, 160.0);
        let scale = (shorter / part.width.min(part.height)).min(longest / part.width.max(part.height));
        let (width, height) = (part.width * scale, part.height * scale);
        let left = rng.random_range(-0.3 * width..=f64::from(self.side) - 0.7 * width);
        let top = rng.random_range(-0.3 * height..=f64::from(self.side) - 0.7 * height);
        paste(canvas, &picture, part, Crop { left, top, width, height }, feather(width.min(height), rng));
        Ok(())
    }

    /// Pastes a face where it leaves those that are there visible, if there is room.
    fn add(&self, scene: &mut Scene, cutout: Cutout, count: usize, rng: &mut ChaCha8Rng) {
        let Cutout { image, label, place } = cutout;
        let face = place.unwrap_or(whole(&image));
        let canvas_side = f64::from(self.side);
        for _ in 0..ATTEMPTS {
            let largest =
                if count > 1 { LARGEST_OF_SEVERAL.min(self.recipe.largest_face) } else { self.recipe.largest_face };
            let size = log_uniform(rng, self.recipe.smallest_face, largest.max(self.recipe.smallest_face));
            let scale = (size / face.width.min(face.height)).min(canvas_side / face.width.max(face.height));
            let part = match place {
                Some(place) => around(&place, log_uniform(rng, 1.1, self.recipe.context), &image, rng),
                None => whole(&image),
            };
            // Rounding must not carry the face outside.
            let left = rng.random_range(0.0..=(canvas_side - face.width * scale).max(0.0));
            let top = rng.random_range(0.0..=(canvas_side - face.height * scale).max(0.0));
            let pasted = Crop {
                left: left - (face.left - part.left) * scale,
                top: top - (face.top - part.top) * scale,
                width: part.width * scale,
                height: part.height * scale,
            };
            let covers = |other: &Object| {
                let other = other.place.unwrap_or(other.pasted);
                overlap(&pasted, &other) > MOST_COVERED * other.width * other.height
            };
            if scene.objects.iter().any(covers) {
                continue;
            }
            paste(&mut scene.image, &image, part, pasted, feather(pasted.width.min(pasted.height), rng));
            let place = place.map(|face| Crop { left, top, width: face.width * scale, height: face.height * scale });
            scene.objects.push(Object { label, pasted, place });
            return;
        }
    }

    /// Spoils a scene as a camera and a website would, but no further than its smallest face bears.
    fn spoil(&self, scene: &mut Scene, rng: &mut ChaCha8Rng) {
        let sides = scene.objects.iter().map(|object| object.place.unwrap_or(object.pasted));
        let smallest = sides.map(|place| place.width.min(place.height)).fold(f64::from(self.side), f64::min);
        self.augmentation.spoil(&mut scene.image, (self.recipe.smallest_face * 0.6 / smallest).min(1.0), rng);
    }

    fn any<'b>(&self, pictures: &[&'b Picture], rng: &mut ChaCha8Rng) -> &'b Picture {
        pictures.choose(rng).expect("a class has a picture at least")
    }

    fn read(&self, picture: &Picture) -> Result<RgbImage, String> {
        loader::decode(&Request::new(picture, 0))
    }
}

/// All of a picture.
fn whole(image: &RgbImage) -> Crop {
    Crop { left: 0.0, top: 0.0, width: f64::from(image.width()), height: f64::from(image.height()) }
}

/// A part of `image` that is `factor` times as wide and high as `place` and holds it, as far as the picture reaches.
fn around(place: &Crop, factor: f64, image: &RgbImage, rng: &mut ChaCha8Rng) -> Crop {
    let mut span = |start: f64, length: f64, limit: f64| {
        let margin = length * (factor - 1.0);
        let before = margin * rng.random_range(0.25..=0.75);
        let first = (start - before).max(0.0);
        let last = (start + length + margin - before).min(limit);
        (first, (last - first).max(1.0).min(limit - first))
    };
    let (left, width) = span(place.left, place.width, f64::from(image.width()));
    let (top, height) = span(place.top, place.height, f64::from(image.height()));
    Crop { left, top, width, height }
}

/// Area that two rectangles share.
fn overlap(one: &Crop, other: &Crop) -> f64 {
    let shared = |start: f64, length: f64, other_start: f64, other_length: f64| {
        ((start + length).min(other_start + other_length) - start.max(other_start)).max(0.0)
    };
    shared(one.left, one.width, other.left, other.width) * shared(one.top, one.height, other.top, other.height)
}

fn log_uniform(rng: &mut ChaCha8Rng, low: f64, high: f64) -> f64 {
    if low < high { rng.random_range(low.ln()..=high.ln()).exp() } else { low }
}

/// Width of a blended edge; 0 now and then.
fn feather(side: f64, rng: &mut ChaCha8Rng) -> f64 {
    if rng.random_bool(HARD_EDGES) { 0.0 } else { (side * rng.random_range(0.03..=0.15)).max(1.0) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rand::SeedableRng;

    use super::*;

    const FACE: Rgb<u8> = Rgb([200, 40, 40]);
    const AROUND: Rgb<u8> = Rgb([40, 40, 200]);
    const NOBODY: Rgb<u8> = Rgb([90, 90, 90]);

    /// Pictures whose red part is the face, and what a model would say of them.
    fn data(folder: &Path) -> (Dataset, Places) {
        let classes = ["mask", "no_mask", "background"].map(str::to_owned);
        for class in &classes {
            std::fs::create_dir_all(folder.join("train").join(class)).unwrap();
            let is_face = |x: u32, y: u32| class != BACKGROUND && (40..80).contains(&x) && (20..70).contains(&y);
            let around = if class == BACKGROUND { NOBODY } else { AROUND };
            let picture = RgbImage::from_fn(120, 160, |x, y| if is_face(x, y) { FACE } else { around });
            picture.save(folder.join("train").join(class).join("a.png")).unwrap();
        }
        let place = "[0.33333333333,0.125,0.33333333333,0.3125]";
        let places =
            format!(r#"{{"identity":"x","places":{{"train/mask/a.png":{place},"train/no_mask/a.png":{place}}}}}"#);
        let file = folder.join("places.json");
        std::fs::write(&file, places).unwrap();
        assert!(Places::read(&file, "y").unwrap().is_none(), "the places of other pictures");
        let places = Places::read(&file, "x").unwrap().unwrap();
        (Dataset::scan(&folder.join("train"), &classes).unwrap(), places)
    }

    fn scenes(label: usize, recipe: SceneRecipe) -> Vec<Scene> {
        let folder = tempfile::tempdir().unwrap();
        let (dataset, places) = data(folder.path());
        let plain = Augmentation { crop_scale: 1.0, ..Augmentation::PLAIN };
        let composer = Composer::new(&dataset, &places, recipe, plain, 224).unwrap();
        let picture = dataset.pictures.iter().find(|picture| picture.label == label).unwrap();
        let compose = |seed| {
            let request = Request::new(picture, seed);
            composer.compose(&request, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap()
        };
        assert_eq!(compose(3).image, compose(3).image, "a seed decides the scene");
        (0..60).map(compose).collect()
    }

    fn is_red(scene: &Scene, x: f64, y: f64) -> bool {
        let Rgb([red, _, blue]) = *scene.image.get_pixel(x as u32, y as u32);
        red > 140 && blue < 80
    }

    #[test]
    fn faces_lie_where_the_scene_says_and_nowhere_else() {
        let scenes = scenes(1, SceneRecipe { plain: 0.0, distractor: 0.0, ..SceneRecipe::default() });
        for scene in &scenes {
            assert_eq!((scene.whole, scene.objects[0].label), (None, 1));
            for Object { place, .. } in &scene.objects {
                let Crop { left, top, width, height } = place.unwrap();
                assert!(left >= 0.0 && top >= 0.0 && left + width <= 224.5 && top + height <= 224.5);
                assert!(width.min(height) >= 19.9, "{width} {height}");
                assert!(is_red(scene, left + width / 2.0, top + height / 2.0));
            }
            let inside = |x: u32, y: u32| {
                scene.objects.iter().filter_map(|object| object.place).any(|place| {
                    (place.left - 2.0..place.left + place.width + 2.0).contains(&f64::from(x))
                        && (place.top - 2.0..place.top + place.height + 2.0).contains(&f64::from(y))
                })
            };
            let elsewhere = scene.image.enumerate_pixels().filter(|(x, y, _)| !inside(*x, *y));
            assert!(elsewhere.clone().all(|(x, y, _)| !is_red(scene, f64::from(x), f64::from(y))));
        }
        assert!(scenes.iter().any(|scene| scene.objects.len() > 1), "sometimes several");
        let sides = |scene: &Scene| scene.objects[0].place.unwrap().width;
        assert!(scenes.iter().any(|scene| sides(scene) < 40.0) && scenes.iter().any(|scene| sides(scene) > 120.0));
    }

    #[test]
    fn a_background_stays_one_whatever_is_pasted_into_it() {
        let scenes = scenes(2, SceneRecipe { distractor: 1.0, ..SceneRecipe::default() });
        assert!(scenes.iter().all(|scene| scene.objects.is_empty() && scene.whole == Some(2)));
        let pixels = |scene: &Scene| scene.image.pixels().filter(|pixel| pixel.0[2] > 150).count();
        assert!(scenes.iter().any(|scene| pixels(scene) > 0), "clothes are pasted");
        assert!(scenes.iter().all(|scene| scene.image.pixels().all(|pixel| pixel.0[0] < 140)), "but no face");
    }

    #[test]
    fn a_plain_picture_keeps_its_label_and_its_place() {
        for scene in scenes(0, SceneRecipe { plain: 1.0, ..SceneRecipe::default() }) {
            assert_eq!(scene.whole, Some(0));
            let place = scene.objects[0].place.unwrap();
            assert!(is_red(&scene, place.left + place.width / 2.0, place.top + place.height / 2.0));
        }
    }
}
