//! How each stage of the network takes part in a training.

use tch::{TchError, Tensor};

use super::settings::Recipe;
use crate::model::resnet::{ResNet18, Stage, is_statistic, stage_of};

/// How a stage takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageMode {
    /// Nothing of it changes.
    Frozen,
    /// Its parameters learn; batch normalisation keeps the statistics that were loaded.
    FixedStatistics,
    /// Its parameters learn; batch normalisation takes the statistics of the batch.
    BatchStatistics,
}

/// A mode for each stage, in the order of the data flow.
pub type StageModes = [StageMode; Stage::ALL.len()];

/// Whether a stage is among those that are not trained.
pub fn is_frozen(stage: Stage, freeze_until: Option<Stage>) -> bool {
    freeze_until.is_some_and(|last| stage <= last)
}

/// How each stage takes part.
///
/// A stage that was loaded with its batch normalisation folded into the convolutions has no statistics (mean 0, variance
/// 1): to normalise by those of the batch would undo what it has learnt. A stage that begins at random, if only in part,
/// follows the batch as a whole.
///
/// # Errors
///
/// When libtorch refuses.
pub fn stage_modes(network: &ResNet18, random: &[String], freeze_until: Option<Stage>) -> Result<StageModes, TchError> {
    let mut modes = Stage::ALL.map(|stage| match is_frozen(stage, freeze_until) {
        true => StageMode::Frozen,
        false => StageMode::FixedStatistics,
    });
    for (name, tensor) in network.named_tensors() {
        let Some(stage) = stage_of(&name) else { continue };
        let mode = &mut modes[stage as usize];
        let has_statistics = name.ends_with(".running_mean") && tensor.f_any()?.f_int64_value(&[])? != 0;
        if *mode == StageMode::FixedStatistics && (has_statistics || random.contains(&name)) {
            *mode = StageMode::BatchStatistics;
        }
    }
    Ok(modes)
}

/// What gradients change, with the factor on the learning rate of each: everything behind the last frozen stage but the
/// statistics of batch normalisation.
pub fn trained_parameters(network: &ResNet18, random: &[String], recipe: &Recipe) -> Vec<(String, Tensor, f64)> {
    // The fully connected layer comes after the last stage, and always begins at random.
    let depth = |name: &str| stage_of(name).map_or(Stage::ALL.len(), |stage| stage as usize);
    let first_random = random.iter().map(|name| depth(name)).min().unwrap_or(Stage::ALL.len());
    network
        .named_tensors()
        .into_iter()
        .filter(|(name, _)| {
            !is_statistic(name) && stage_of(name).is_none_or(|stage| !is_frozen(stage, recipe.freeze_until))
        })
        .map(|(name, tensor)| {
            let below = first_random.saturating_sub(depth(&name));
            let rate_factor = recipe.stage_decay.powi(below as i32);
            (name, tensor.shallow_clone(), rate_factor)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::train::augment::Augmentation;
    use crate::train::schedule::Schedule;
    use crate::train::settings::Precision;

    /// A network whose stem to `layer2` have lost their statistics and whose `layer3` has them.
    fn network() -> ResNet18 {
        let cpu = (Kind::Float, Device::Cpu);
        ResNet18::assemble(2, &mut |name, shape| {
            let lost = stage_of(name).is_some_and(|stage| stage < Stage::Layer3);
            if name.ends_with(".running_mean") && !lost {
                Tensor::f_ones(shape, cpu)
            } else {
                Tensor::f_zeros(shape, cpu)
            }
        })
        .unwrap()
    }

    fn recipe(freeze_until: Option<Stage>) -> Recipe {
        Recipe {
            init: "x".into(),
            classes: vec!["a".into(), "b".into()],
            epochs: 1,
            patience: None,
            pictures_per_epoch: None,
            batch_size: 1,
            learning_rate: 0.1,
            schedule: Schedule::Constant,
            stage_decay: 0.5,
            momentum: 0.9,
            weight_decay: 0.0,
            label_smoothing: 0.0,
            freeze_until,
            precision: Precision::Single,
            augmentation: Augmentation::PLAIN,
            cached_views: None,
            scenes: None,
            seed: 1,
        }
    }

    #[test]
    fn only_statistics_that_exist_or_never_did_follow_the_batch() {
        use StageMode::{BatchStatistics, FixedStatistics, Frozen};
        let random = ["layer4.0.conv1.weight".to_owned(), "fc.weight".to_owned()];
        let modes = |freeze_until| stage_modes(&network(), &random, freeze_until).unwrap();
        assert_eq!(modes(None), [FixedStatistics, FixedStatistics, FixedStatistics, BatchStatistics, BatchStatistics]);
        assert_eq!(modes(Some(Stage::Layer1)), [Frozen, Frozen, FixedStatistics, BatchStatistics, BatchStatistics]);
        assert_eq!(modes(Some(Stage::Layer4)), [Frozen; 5]);
    }

    #[test]
    fn each_stage_below_the_random_ones_learns_more_slowly() {
        let factors = |random: &[&str], freeze_until| -> Vec<f64> {
            let random: Vec<String> = random.iter().map(|&name| name.to_owned()).collect();
            let parameters = trained_parameters(&network(), &random, &recipe(freeze_until));
            assert!(parameters.iter().all(|(name, ..)| !is_statistic(name)));
            let mut factors: Vec<f64> = parameters.into_iter().map(|(_, _, factor)| factor).collect();
            factors.dedup();
            factors
        };
        let last = ["fc.weight", "fc.bias"];
        assert_eq!(factors(&last, None), [0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0]);
        let random_layer4 = ["layer4.0.conv1.weight", "fc.weight", "fc.bias"];
        assert_eq!(factors(&random_layer4, None), [0.0625, 0.125, 0.25, 0.5, 1.0]);
        assert_eq!(factors(&random_layer4, Some(Stage::Layer2)), [0.5, 1.0]);
    }
}
