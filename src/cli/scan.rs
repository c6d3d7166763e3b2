//! How frames are scanned: the arguments that commands share.

use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use crate::scan::ScanMap;

/// Short sides that can be asked for, in pixels: two positions of the network, and what takes seconds a frame.
const SHORT_SIDES: (u32, u32) = (64, 2048);

/// How frames are scanned.
#[derive(Debug, Args)]
#[command(next_help_heading = "Scan")]
pub struct ScanArgs {
    /// Scan each frame for faces, resized so that its short side has this many pixels (64 to 2048), or auto for 512; the cost
    /// grows with the square. Or whole: classify each frame as one picture, in which a face must be large [default:
    /// auto]
    #[arg(long, value_name = "auto|PIXELS|whole")]
    pub scan: Option<ScanArg>,

    /// Smallest face to look for, in pixels of the frame: the scan's short side is chosen so that such a face is about 64
    /// pixels high in it, within 96 to 1024. Half the size costs four times as much
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..))]
    pub min_face: Option<u32>,

    /// What faces are found in: the posterior of each position (sure of what), HayCAM's map (sure of where), or the
    /// product of both [default: product]
    #[arg(long, value_enum)]
    pub scan_map: Option<ScanMapArg>,
}

/// What faces are found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScanMapArg {
    /// The probability of the class.
    Posterior,
    /// HayCAM.
    Haycam,
    /// Both.
    Product,
}

impl From<ScanMapArg> for ScanMap {
    fn from(map: ScanMapArg) -> Self {
        match map {
            ScanMapArg::Posterior => Self::Posterior,
            ScanMapArg::Haycam => Self::HayCam,
            ScanMapArg::Product => Self::Product,
        }
    }
}

/// How a frame is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanArg {
    /// Scanned at the size that suits most.
    Auto,
    /// Scanned with this short side.
    Pixels(u32),
    /// Not scanned.
    Whole,
}

impl FromStr for ScanArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (shortest, longest) = SHORT_SIDES;
        match text {
            "auto" => Ok(Self::Auto),
            "whole" => Ok(Self::Whole),
            _ => match text.parse() {
                Ok(pixels) if (shortest..=longest).contains(&pixels) => Ok(Self::Pixels(pixels)),
                _ => Err(format!("expected auto, whole, or a number of pixels from {shortest} to {longest}")),
            },
        }
    }
}

impl fmt::Display for ScanArg {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Pixels(pixels) => write!(f, "{pixels}"),
            Self::Whole => f.write_str("whole"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_are_checked() {
        for scan in [ScanArg::Auto, ScanArg::Pixels(64), ScanArg::Pixels(2048), ScanArg::Whole] {
            assert_eq!(scan.to_string().parse(), Ok(scan));
        }
        for text in ["", "0", "63", "2049", "-384", "3.5", "all"] {
            assert!(text.parse::<ScanArg>().unwrap_err().contains("auto, whole, or"), "{text}");
        }
    }
}
