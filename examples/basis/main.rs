//! What a kept basis costs in exactness and brings in steadiness, clip by clip, as Markdown.
//!
//!     cargo run --release --example basis -- [--frames 60] [--step 3] [--short-side 512] [--centred] [--live] [--grid] VIDEO...
//!
//! Of each clip every `step`-th frame goes through the network once, `frames` of them at most. Everything else is played
//! from the activations: the exact maps with a basis a frame, as `--basis per-frame` has them; those of a basis that is kept,
//! as `--basis cached` has them; and those without any basis, for comparison. With `--live` a new basis is there from the
//! next frame on, as where a thread fits it; otherwise for the frame that it is fitted to.
//!
//! **Exactness**, of kept against exact: correlation (Pearson) and relative L2, |kept - exact| / |exact|, of HayCAM's map of
//! each class that is not background, unnormalised, cut at zero, over the positions of a frame; mean, and 5th and 95th
//! percentile, over all frames and classes. Boxes count from the default scores on, and are matched one to one by falling
//! IoU with those of the same label: mean IoU of the matched, number of the unmatched on either side.
//!
//! **Flicker** ([`measures::Flicker`]): of the map, its change from one frame to the next at positions where the picture
//! stands still, as a share of its height there; a position stands still if the 32x32 pixels that it stands for differ by at
//! most 2 of 255 levels in the mean. The field of view of a position is larger than that, so some of the change is real; the
//! map without a basis says how much. Of boxes: IoU of those matched in consecutive frames, and the share of boxes
//! that have no match in the next frame.
//!
//! `--grid` tries margins, sampling intervals and ages beside the default. `--centred` adds maps without the mean.

mod measures;
mod replay;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use maskwatch::config::scenes_model;
use maskwatch::model::engine::Engine;
use maskwatch::pca::CacheSettings;
use maskwatch::scan::settings::SHORT_SIDE;
use maskwatch::scan::{ScanSettings, Scanner};
use maskwatch::threads;
use tch::Device;

use measures::{Exactness, Flicker};
use replay::{Clip, Played};

#[derive(Parser)]
struct Args {
    /// Video files
    #[arg(required = true)]
    videos: Vec<PathBuf>,
    /// Frames of each at most
    #[arg(long, default_value_t = 60)]
    frames: usize,
    /// Every how many frames one is taken
    #[arg(long, default_value_t = 3)]
    step: usize,
    /// Short side of the scan, in pixels
    #[arg(long, default_value_t = SHORT_SIDE)]
    short_side: u32,
    /// Maps without the mean of each filter, too
    #[arg(long)]
    centred: bool,
    /// A new basis serves from the next frame on
    #[arg(long)]
    live: bool,
    /// Try several settings
    #[arg(long)]
    grid: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    threads::size_pools(None);
    let scanner = |centred| {
        let settings = ScanSettings { centred, short_side: args.short_side, ..ScanSettings::default() };
        anyhow::Ok(Scanner::new(Engine::load(&scenes_model(), Device::Cpu)?, settings))
    };
    let uncentred = scanner(false)?;
    let mut clips = Vec::new();
    for video in &args.videos {
        let clip = Clip::read(&uncentred, video, args.step, args.frames)?;
        eprintln!("{}: {} frames", clip.name, clip.frames.len());
        clips.push(clip);
    }
    tables(&uncentred, &clips, &args)?;
    if args.centred {
        println!("Centred:\n");
        tables(&scanner(true)?, &clips, &args)?;
    }
    Ok(())
}

fn tables(scanner: &Scanner, clips: &[Clip], args: &Args) -> anyhow::Result<()> {
    let exact: Vec<Played> = clips.iter().map(|clip| clip.exact(scanner)).collect::<Result<_, _>>()?;
    let play = |clip: &Clip| clip.kept(scanner, CacheSettings::default(), args.live);
    let kept: Vec<Played> = clips.iter().map(play).collect::<Result<_, _>>()?;
    println!("| clip | frames | {} |", Exactness::HEADER.join(" | "));
    println!("|---|---|{}", "---|".repeat(Exactness::HEADER.len()));
    for ((clip, exact), kept) in clips.iter().zip(&exact).zip(&kept) {
        let cells = Exactness::of(&[(exact, kept)]).cells().join(" | ");
        println!("| {} | {} | {cells} |", clip.name, clip.frames.len());
    }
    let pairs: Vec<_> = exact.iter().zip(&kept).collect();
    let frames: usize = clips.iter().map(|clip| clip.frames.len()).sum();
    println!("| all | {frames} | {} |\n", Exactness::of(&pairs).cells().join(" | "));

    println!("| clip | basis | {} |", Flicker::HEADER.join(" | "));
    println!("|---|---|{}", "---|".repeat(Flicker::HEADER.len()));
    for ((clip, exact), kept) in clips.iter().zip(&exact).zip(&kept) {
        let plain = clip.without_basis(scanner)?;
        for (name, played) in [("per frame", exact), ("cached", kept), ("none", &plain)] {
            println!("| {} | {name} | {} |", clip.name, Flicker::of(clip, played).cells().join(" | "));
        }
    }
    println!();
    if args.grid { grid(scanner, clips, &exact, args.live) } else { Ok(()) }
}

/// All clips together, a line a setting.
fn grid(scanner: &Scanner, clips: &[Clip], exact: &[Played], live: bool) -> anyhow::Result<()> {
    println!("| margin | sampled every | age at most, s | {} |", Exactness::HEADER.join(" | "));
    println!("|---|---|---|{}", "---|".repeat(Exactness::HEADER.len()));
    for margin in [0.02, 0.05, 0.1, 0.15, 0.2] {
        for (sample_every, max_age_secs) in [(1, 10), (5, 10), (15, 10), (5, 2), (5, 60)] {
            let max_age = Duration::from_secs(max_age_secs);
            let settings = CacheSettings { margin, sample_every, max_age, ..CacheSettings::default() };
            let kept: Vec<Played> =
                clips.iter().map(|clip| clip.kept(scanner, settings, live)).collect::<Result<_, _>>()?;
            let pairs: Vec<_> = exact.iter().zip(&kept).collect();
            let cells = Exactness::of(&pairs).cells().join(" | ");
            println!("| {margin} | {sample_every} | {max_age_secs} | {cells} |");
        }
    }
    println!();
    Ok(())
}
