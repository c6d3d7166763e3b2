//! Numbers and names as people read them, in reports and on a terminal.

use super::proportion::Proportion;

/// A share in per cent with its interval, for people; "-" where there is none.
pub fn percent(proportion: Proportion) -> String {
    match proportion.value().zip(proportion.interval()) {
        Some((value, (low, high))) => {
            format!("{:.2} [{:.2}, {:.2}]", value * 100.0, low * 100.0, high * 100.0)
        }
        None => "-".to_owned(),
    }
}

/// A number with four digits, for people; "-" where there is none.
pub fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

/// Control characters, which a file or folder name may hold, would break a line.
pub fn printable(name: &str) -> String {
    name.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

/// At most `longest` characters, the end of a longer text cut off.
pub fn shortened(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(shortened("naïve", 5), "naïve");
        assert_eq!(shortened("naïvely", 5), "naïv…");
    }
}
