//! What all Markdown reports are made of.

use super::text::printable;

/// A table; the cells are Markdown already.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    let rule = vec!["---".to_owned(); header.len()];
    [header, rule].into_iter().chain(rows).map(|row| line(&row)).collect()
}

/// Names come from files and may hold what Markdown takes for its own.
pub fn escaped(name: &str) -> String {
    printable(name)
        .chars()
        .flat_map(|character| "\\|*_`<[]".contains(character).then_some('\\').into_iter().chain([character]))
        .collect()
}
