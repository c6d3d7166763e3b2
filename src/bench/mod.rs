//! How long each stage takes, a frame: what `bench` measures.
//!
//! ```text
//! frames ─► decode, prepare, forward, explain, boxes, draw, encode (each alone) ─┐
//!        └► pipeline::run, as it is (all at once) ───────────────────────────────┴► a turn ─► rounds ─► report
//! ```
//!
//! A [`turn`](variant) of a variant measures every [`stage`] once: over a few frames one by one ([`scan`], [`whole`],
//! [`saving`]), and over some more through the pipeline that `run` uses ([`pipeline`]). In a round each variant has its turn,
//! and the next round swaps their order, so that whatever else the machine does weighs on both; their ratio is that within a
//! round ([`spread`]). [`report`] is what comes of it, for people and for programs.

mod error;
mod frames;
mod kept;
mod laps;
pub mod machine;
mod pipeline;
pub mod report;
mod saving;
mod scan;
pub mod spread;
pub mod stage;
mod variant;
mod whole;

pub use error::BenchError;

use crate::config::bench::BenchConfig;
use crate::shutdown::Shutdown;
use laps::Turn;
use report::Report;
use variant::Variant;

/// Rounds before those that count: libtorch, allocators and files set themselves up.
const WARM_UP: usize = 2;

/// How many turns there will be.
pub fn turns(config: &BenchConfig) -> usize {
    (WARM_UP + config.rounds) * config.variants.len()
}

/// Measures all variants, round by round; `observe` is told how many turns are over. Once the end is asked for, what was
/// measured until then is reported, or nothing if no round was completed.
///
/// # Errors
///
/// When a model or a video cannot be used, or a stage fails.
pub fn measure(
    config: &BenchConfig,
    shutdown: &Shutdown,
    observe: &mut dyn FnMut(usize),
) -> Result<Option<Report>, BenchError> {
    let folder = tempfile::tempdir().map_err(BenchError::Temporary)?;
    let mut variants = Vec::new();
    for settings in &config.variants {
        variants.push(Variant::load(settings, folder.path())?);
    }
    let mut rounds = Vec::new();
    let mut turns_over = 0;
    for round in 0..WARM_UP + config.rounds {
        let Some(turns) = self::round(&mut variants, round % 2 == 1, shutdown, || {
            turns_over += 1;
            observe(turns_over);
        })?
        else {
            break;
        };
        if round >= WARM_UP {
            rounds.push(turns);
        }
    }
    let interrupted = rounds.len() < config.rounds;
    Ok((!rounds.is_empty()).then(|| Report::new(&variants, &rounds, interrupted)))
}

/// A turn of each variant, in their order; nothing if the end was asked for meanwhile.
fn round(
    variants: &mut [Variant],
    last_first: bool,
    shutdown: &Shutdown,
    mut turn_is_over: impl FnMut(),
) -> Result<Option<Vec<Turn>>, BenchError> {
    let mut turns = Vec::new();
    let mut order: Vec<&mut Variant> = variants.iter_mut().collect();
    if last_first {
        order.reverse();
    }
    for variant in order {
        let Some(turn) = variant.turn(shutdown)? else { return Ok(None) };
        turns.push(turn);
        turn_is_over();
    }
    if last_first {
        turns.reverse();
    }
    Ok(Some(turns))
}
