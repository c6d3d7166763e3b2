//! Whether and how frames are scanned, from options that commands share.

use super::UsageError;
use crate::analyse::{BasisSettings, ScanAnalysisSettings};
use crate::boxes::Threshold;
use crate::cli::{ExplanationArgs, ScanArg, ScanArgs};
use crate::scan::ScanSettings;

/// What a command line says of scanning; nothing if frames are seen as a whole.
///
/// # Errors
///
/// When options contradict each other or mean nothing for a scan.
pub fn scan_settings(
    args: &ScanArgs,
    explanation: &ExplanationArgs,
) -> Result<Option<ScanAnalysisSettings>, UsageError> {
    let choice = args.scan.unwrap_or(ScanArg::Auto);
    if args.min_face.is_some() && choice != ScanArg::Auto {
        return Err(UsageError(format!(
            "--min-face chooses the size of the scan, and so does --scan {choice}; give one"
        )));
    }
    let map = args.scan_map.map_or(ScanSettings::default().map, Into::into);
    let mut scan =
        ScanSettings { map, min_face: args.min_face, centred: explanation.centred, ..ScanSettings::default() };
    match choice {
        ScanArg::Whole if args.scan_map.is_some() => {
            return Err(UsageError("--scan-map is for scans; leave it out, or --scan whole".to_owned()));
        }
        ScanArg::Whole => return Ok(None),
        ScanArg::Pixels(short_side) => {
            scan.short_side = short_side;
            // Exactly this was asked for.
            scan.near_side = None;
        }
        ScanArg::Auto => {}
    }
    refuse_with_scan(&[
        ("--layer", explanation.layer.is_some()),
        ("--class-weights", explanation.class_weights.is_some()),
        ("--threshold otsu", explanation.threshold == Some(Threshold::Otsu)),
    ])?;
    let threshold = match explanation.threshold {
        Some(Threshold::Share(score)) => Some(score),
        Some(Threshold::Otsu) | None => None,
    };
    scan.components = explanation.components.unwrap_or(scan.components);
    scan.floor = threshold.map_or(scan.floor, |threshold| threshold.min(scan.floor));
    Ok(Some(ScanAnalysisSettings { scan, threshold, basis: BasisSettings::default() }))
}

/// Refuses the first option that is given though a scan does not heed it.
///
/// # Errors
///
/// When there is one.
pub fn refuse_with_scan(given: &[(&str, bool)]) -> Result<(), UsageError> {
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => Err(UsageError(format!(
            "{option} is for pictures seen as a whole, but they are scanned; leave it out, or add --scan whole"
        ))),
        None => Ok(()),
    }
}
