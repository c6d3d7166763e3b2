//! The size to which a frame is brought before it is scanned.

/// The network's stride: sides are multiples of it, so that every position sees as much of the frame.
const STRIDE: u32 = 32;
/// Shortest side, two positions.
const SHORTEST: u32 = 2 * STRIDE;
/// Longest side as a multiple of the short one. Frames longer than that are squeezed: their cost stays within bounds, and
/// no camera has them.
const LONGEST_ASPECT: u32 = 4;

/// Width and height with the aspect of `frame`, whose shorter one is `short_side`, both rounded to multiples of 32 and at
/// least 64. Small frames are enlarged. A frame longer than 4:1 is squeezed to that.
pub fn scan_size(frame: (u32, u32), short_side: u32) -> (u32, u32) {
    let shorter = f64::from(frame.0.min(frame.1).max(1));
    let side = |length: u32| {
        let aspect = (f64::from(length) / shorter).clamp(1.0, f64::from(LONGEST_ASPECT));
        let positions = (f64::from(short_side) * aspect / f64::from(STRIDE)).round() as u32;
        positions.saturating_mul(STRIDE).max(SHORTEST)
    };
    (side(frame.0), side(frame.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_aspect_is_kept_to_a_position() {
        for (frame, short_side, expected) in [
            ((1920, 1080), 384, (672, 384)),
            ((1080, 1920), 384, (384, 672)),
            ((640, 480), 384, (512, 384)),
            ((64, 48), 384, (512, 384)),
            ((224, 224), 224, (224, 224)),
            ((640, 480), 1, (64, 64)),
            ((1, 1), 384, (384, 384)),
            ((1, 500), 96, (96, 384)),
            ((4000, 10), 384, (1536, 384)),
            ((u32::MAX, 1), 1024, (4096, 1024)),
        ] {
            assert_eq!(scan_size(frame, short_side), expected, "{frame:?} at {short_side}");
        }
    }
}
