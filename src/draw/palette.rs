//! Colours: of classes and of heat.

use crate::labels::{BACKGROUND, MASK, NO_MASK};

/// Red, green, blue.
pub type Rgb = [u8; 3];

/// For classes without a colour of their own (Okabe & Ito 2008, told apart by colour-blind people too).
const OTHERS: [Rgb; 5] = [[0, 114, 178], [230, 159, 0], [204, 121, 167], [86, 180, 233], [240, 228, 66]];

/// Green for a mask, red for none, grey for nobody, any other class by its index.
pub fn class_colour(name: &str, index: usize) -> Rgb {
    match name {
        MASK => [0, 158, 80],
        NO_MASK => [213, 40, 40],
        BACKGROUND => [96, 96, 96],
        _ => OTHERS[index % OTHERS.len()],
    }
}

/// Of those of whom the evidence does not tell what they are.
pub const UNCERTAIN: Rgb = [222, 160, 20];

/// Black or white, whichever reads better on `colour` (relative luminance, ITU-R BT.709).
pub fn text_colour(colour: Rgb) -> Rgb {
    let [red, green, blue] = colour.map(f32::from);
    if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 140.0 { [0; 3] } else { [255; 3] }
}

/// The Turbo map (Mikhailov 2019): from blue for 0 to red for 255.
pub fn heat_colours() -> [Rgb; 256] {
    std::array::from_fn(|level| colorous::TURBO.eval_rational(level, 256).as_array())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stands_out_from_every_class_colour() {
        for index in 0..8 {
            for name in [MASK, NO_MASK, BACKGROUND, "other"] {
                let colour = class_colour(name, index);
                let difference: i32 = colour
                    .iter()
                    .zip(text_colour(colour))
                    .map(|(&a, b)| i32::from(a).abs_diff(i32::from(b)) as i32)
                    .sum();
                assert!(difference > 200, "{name}: {colour:?}");
            }
        }
    }

    #[test]
    fn heat_runs_from_blue_to_red() {
        let colours = heat_colours();
        assert!(colours[40][2] > colours[40][0] && colours[230][0] > colours[230][2]);
    }
}
