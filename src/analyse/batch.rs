//! Pictures of equal size through the network together.

use std::time::Duration;

use rayon::iter::{IntoParallelRefMutIterator, ParallelIterator};

use crate::explain::ExplainError;
use crate::frame::Batch;
use crate::model::ModelError;
use crate::model::device_layer::{DeviceLayer, PendingLayer};
use crate::stopwatch::Stopwatch;

/// What the network says of a picture, and the picture's share of the time that it took.
pub(super) type Answer<A> = Result<(A, Duration), ExplainError>;

/// Gives pictures that have been prepared to `pass`, those of one size, as `size_of` has it, at once, and its answers in the
/// order of the pictures. A pass that fails is repeated for each of its pictures alone, so that a bad one spoils no other. (What
/// is too much at once is the engine's business.)
pub(super) fn infer<P, A>(
    prepared: impl IntoIterator<Item = Result<P, ExplainError>>,
    size_of: impl Fn(&P) -> (u32, u32),
    mut pass: impl FnMut(&[P]) -> Result<Batch<A>, ModelError>,
) -> Batch<Answer<A>> {
    let mut answers: Batch<Option<Answer<A>>> = Batch::new();
    let mut left: Batch<(usize, P)> = Batch::new();
    for (index, picture) in prepared.into_iter().enumerate() {
        answers.push(None);
        match picture {
            Err(error) => answers[index] = Some(Err(error)),
            Ok(picture) => left.push((index, picture)),
        }
    }
    while let Some((_, first)) = left.first() {
        let size = size_of(first);
        let (of_size, others): (Batch<_>, Batch<_>) =
            left.into_iter().partition(|(_, picture)| size_of(picture) == size);
        left = others;
        let (indices, group): (Batch<usize>, Batch<P>) = of_size.into_iter().unzip();
        let mut timed = |pictures: &[P]| {
            let mut watch = Stopwatch::start();
            let given = pass(pictures)?;
            debug_assert_eq!(given.len(), pictures.len());
            let share = watch.lap() / pictures.len() as u32;
            Ok::<_, ExplainError>(given.into_iter().map(move |answer| (answer, share)))
        };
        match timed(&group) {
            Ok(given) => indices.iter().zip(given).for_each(|(&index, answer)| answers[index] = Some(Ok(answer))),
            Err(error) if group.len() == 1 => answers[indices[0]] = Some(Err(error)),
            Err(error) => {
                tracing::debug!("{} frames one by one: {error}", group.len());
                for (&index, picture) in indices.iter().zip(&group) {
                    let alone = timed(std::slice::from_ref(picture));
                    answers[index] = Some(alone.map(|mut given| given.next().expect("one answer for one picture")));
                }
            }
        }
    }
    answers.into_iter().map(|answer| answer.expect("the network answers every picture")).collect()
}

/// Waits for the layers of a batch, some of which a frame may have several; what that takes is shared among the frames.
pub(super) fn wait(layers: Batch<Answer<PendingLayer>>, frames: usize) -> (Batch<Answer<DeviceLayer>>, Duration) {
    let mut watch = Stopwatch::start();
    let layers = layers.into_iter().map(|layer| layer.and_then(|(layer, time)| Ok((layer.wait()?, time)))).collect();
    (layers, watch.lap() / frames.max(1) as u32)
}

/// What `work` makes of each frame of a batch, in their order; beside one another if there are several.
pub(super) fn each<F: Send, A: Send>(frames: Batch<F>, work: impl Fn(F) -> A + Send + Sync) -> Batch<A> {
    if frames.len() <= 1 {
        return frames.into_iter().map(work).collect();
    }
    // In their places: to collect in parallel asks for memory.
    let mut frames: Batch<(Option<F>, Option<A>)> = frames.into_iter().map(|frame| (Some(frame), None)).collect();
    frames.par_iter_mut().for_each(|(frame, answer)| *answer = frame.take().map(&work));
    frames.into_iter().map(|(_, answer)| answer.expect("one was made of each")).collect()
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;
    use crate::model::picture::Picture;

    /// The first pixel of each picture, and the sizes of the passes.
    fn first_pixels(prepared: Vec<Result<RgbImage, ExplainError>>) -> (Vec<Result<u8, String>>, Vec<usize>) {
        let mut passes = Vec::new();
        let pictures = prepared.iter().map(|picture| match picture {
            Ok(picture) => Ok(Picture::from(picture)),
            Err(_) => Err(ExplainError::EmptyPicture),
        });
        let answers = infer(pictures, Picture::dimensions, |pictures| {
            passes.push(pictures.len());
            assert!(pictures.iter().all(|picture| picture.dimensions() == pictures[0].dimensions()));
            let values: Vec<u8> = pictures.iter().map(|picture| picture.on_host().unwrap().as_raw()[0]).collect();
            if values.contains(&BAD) { Err(ModelError::NotFinite) } else { Ok(values.into()) }
        });
        let answers =
            answers.into_iter().map(|answer| answer.map(|(value, _)| value).map_err(|error| error.to_string()));
        (answers.collect(), passes)
    }

    const BAD: u8 = 255;

    fn picture(side: u32, value: u8) -> Result<RgbImage, ExplainError> {
        Ok(RgbImage::from_pixel(side, side, image::Rgb([value; 3])))
    }

    #[test]
    fn equal_sizes_share_a_pass_and_answers_keep_their_order() {
        let prepared = vec![picture(2, 1), picture(3, 2), picture(2, 3), picture(4, 4), picture(3, 5), picture(2, 6)];
        let (answers, mut passes) = first_pixels(prepared);
        assert_eq!(answers, (1..=6).map(Ok).collect::<Vec<_>>());
        passes.sort_unstable();
        assert_eq!(passes, [1, 2, 3]);
        assert_eq!(first_pixels(Vec::new()), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_bad_picture_spoils_no_other() {
        let prepared =
            vec![picture(2, 1), Err(ExplainError::EmptyPicture), picture(2, BAD), picture(2, 3), picture(3, BAD)];
        let (answers, passes) = first_pixels(prepared);
        let not_finite = || Err(ModelError::NotFinite.to_string());
        let expected = [Ok(1), Err(ExplainError::EmptyPicture.to_string()), not_finite(), Ok(3), not_finite()];
        assert_eq!(answers, expected);
        assert_eq!(passes, [3, 1, 1, 1, 1]);
    }
}
