//! What was measured: as a table ([`text`]), and for programs as JSON with the names of the fields.

pub mod text;

use serde::Serialize;

use super::laps::Turn;
use super::machine::Machine;
use super::spread::Spread;
use super::stage::Stage;
use super::variant::Variant;
use crate::config::available_threads;

/// Names of the variants.
const NAMES: [&str; 2] = ["A", "B"];

/// A measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Of the program.
    pub version: &'static str,
    /// What it was measured on.
    pub machine: Machine,
    /// Rounds that count.
    pub rounds: usize,
    /// Whether the end was asked for before there were as many as wanted.
    pub interrupted: bool,
    /// One, or two that took turns.
    pub variants: Vec<VariantReport>,
    /// By stage: the time of A over that of B in the same round. None if there is no B.
    pub ratios: Vec<RatioRow>,
}

/// What was measured of a variant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VariantReport {
    /// A or B.
    pub name: &'static str,
    /// What it was measured with.
    pub options: Options,
    /// A row a stage, in the order of the data flow.
    pub stages: Vec<StageRow>,
    /// Rate of the analysis as a share of the rate of the forward pass alone, paired by round.
    pub share_of_forward_rate: Option<Spread>,
}

/// What a variant was measured with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Options {
    /// The video; none if frames were made up.
    pub video: Option<String>,
    /// Width and height of its frames, in pixels.
    pub frame_size: (u32, u32),
    /// Frames through the whole pipeline in a round, at most.
    pub frames: u64,
    /// `auto`, `whole`, or the short side of the scan.
    pub scan: String,
    /// Width and height at which frames were scanned; none if they were seen as a whole.
    pub scan_size: Option<(u32, u32)>,
    /// Width and height of the second view, for faces that are near, if there was one.
    pub near_size: Option<(u32, u32)>,
    /// `native` or `atrous`.
    pub resolution: &'static str,
    /// Methods that were timed on frames seen as a whole.
    pub methods: Vec<&'static str>,
    /// The model file.
    pub model: String,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Numbers of a forward pass: `half` or `single`.
    pub precision: String,
    /// Threads of a forward pass on the CPU.
    pub threads: usize,
    /// Most frames in a forward pass.
    pub batch: usize,
    /// Effort of the encoder, as x264 calls it; none in builds without an encoder.
    pub save_preset: Option<&'static str>,
}

/// How long a stage takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageRow {
    /// Its name.
    pub stage: String,
    /// Milliseconds a frame.
    pub ms: Spread,
    /// Median of its time over that of the forward pass in the same round.
    pub of_forward: Option<f64>,
    /// By the median, of what comprises other stages or is compared with that.
    pub frames_per_second: Option<f64>,
}

/// How the times of two variants compare.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RatioRow {
    /// The stage.
    pub stage: String,
    /// Of the ratios of all rounds; below 1 if A is faster.
    #[serde(flatten)]
    pub ratio: Spread,
}

impl Report {
    /// Sums up rounds, each with a turn of every variant.
    pub(super) fn new(variants: &[Variant], rounds: &[Vec<Turn>], interrupted: bool) -> Self {
        let of_variant = |(place, (variant, &name)): (usize, (&Variant, &'static &'static str))| {
            let turns: Vec<&Turn> = rounds.iter().map(|turns| &turns[place]).collect();
            VariantReport::new(name, variant.options(), &turns)
        };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            machine: Machine::this(available_threads()),
            rounds: rounds.len(),
            interrupted,
            variants: variants.iter().zip(&NAMES).enumerate().map(of_variant).collect(),
            ratios: ratios(rounds),
        }
    }
}

impl VariantReport {
    fn new(name: &'static str, options: Options, turns: &[&Turn]) -> Self {
        let pairs = |one: Stage, other: Stage| {
            turns.iter().filter_map(move |turn| Some((turn.millis(one)?, turn.millis(other)?)))
        };
        let row = |stage: Stage| {
            let ms = Spread::of(turns.iter().filter_map(|turn| turn.millis(stage)))?;
            Some(StageRow {
                stage: stage.to_string(),
                ms,
                of_forward: Spread::of_ratios(pairs(stage, Stage::Forward)).map(|share| share.median),
                frames_per_second: (stage.has_rate() && ms.median > 0.0).then(|| 1e3 / ms.median),
            })
        };
        let stages = turns.first().into_iter().flat_map(|turn| turn.stages());
        Self {
            name,
            options,
            stages: stages.filter_map(row).collect(),
            share_of_forward_rate: Spread::of_ratios(pairs(Stage::Forward, Stage::Analysis)),
        }
    }
}

/// Of what both variants have.
fn ratios(rounds: &[Vec<Turn>]) -> Vec<RatioRow> {
    let Some([first, _]) = rounds.first().map(Vec::as_slice) else { return Vec::new() };
    let row = |stage: Stage| {
        let pairs = rounds.iter().filter_map(|turns| Some((turns[0].millis(stage)?, turns[1].millis(stage)?)));
        Some(RatioRow { stage: stage.to_string(), ratio: Spread::of_ratios(pairs)? })
    };
    first.stages().filter_map(row).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::laps::Laps;

    pub(super) fn turn(millis: &[(Stage, u64)]) -> Turn {
        let mut laps = Laps::default();
        millis.iter().for_each(|&(stage, millis)| laps.add(stage, Duration::from_millis(millis), 1));
        laps.turn()
    }

    pub(super) fn options() -> Options {
        Options {
            video: None,
            frame_size: (1280, 720),
            frames: 32,
            scan: "auto".to_owned(),
            scan_size: Some((896, 512)),
            near_size: Some((384, 224)),
            resolution: "native",
            methods: Vec::new(),
            model: "models/a.safetensors".to_owned(),
            device: "cpu".to_owned(),
            precision: "single".to_owned(),
            threads: 2,
            batch: 1,
            save_preset: None,
        }
    }

    /// The machine is twice as slow in the second round, and B always takes twice as long as A.
    pub(super) fn report() -> Report {
        let a = |load: u64| turn(&[(Stage::Forward, 20 * load), (Stage::Boxes, load), (Stage::Analysis, 25 * load)]);
        let b = |load: u64| turn(&[(Stage::Forward, 40 * load), (Stage::Analysis, 50 * load)]);
        let rounds = [vec![a(1), b(1)], vec![a(2), b(2)], vec![a(1), b(1)]];
        let variant = |place: usize| {
            let turns: Vec<&Turn> = rounds.iter().map(|turns| &turns[place]).collect();
            VariantReport::new(NAMES[place], options(), &turns)
        };
        Report {
            version: "1.2.3",
            machine: Machine { processor: Some("Some CPU".to_owned()), threads: 2, gpus: Vec::new() },
            rounds: rounds.len(),
            interrupted: false,
            variants: vec![variant(0), variant(1)],
            ratios: ratios(&rounds),
        }
    }

    #[test]
    fn shares_and_ratios_are_those_within_a_round() {
        let report = report();
        let [a, b] = &report.variants[..] else { panic!("two variants") };
        assert_eq!(a.stages.iter().map(|row| row.stage.as_str()).collect::<Vec<_>>(), ["forward", "boxes", "analysis"]);
        let forward = &a.stages[0];
        assert_eq!((forward.ms.median, forward.ms.p75, forward.frames_per_second), (20.0, 30.0, Some(50.0)));
        assert_eq!((a.stages[1].of_forward, a.stages[1].frames_per_second), (Some(0.05), None));
        let share = a.share_of_forward_rate.unwrap();
        assert_eq!((share.median, share.p25, share.p75), (0.8, 0.8, 0.8));
        assert_eq!(b.share_of_forward_rate, Some(share));
        let [forward, analysis] = &report.ratios[..] else { panic!("B has no boxes: {:?}", report.ratios) };
        assert_eq!((forward.stage.as_str(), analysis.stage.as_str()), ("forward", "analysis"));
        assert_eq!((forward.ratio.median, forward.ratio.p25, forward.ratio.p75), (0.5, 0.5, 0.5));
    }

    #[test]
    fn one_variant_is_compared_with_nothing() {
        assert_eq!(ratios(&[vec![turn(&[(Stage::Forward, 1)])]]), []);
        assert_eq!(ratios(&[]), []);
    }
}
