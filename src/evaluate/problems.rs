//! What was wrong with pictures and annotations, as every report of annotated pictures tells it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::markdown::{escaped, table};
use crate::dataset::voc::Problem;

/// A problem, for programs.
#[derive(Debug, Serialize)]
pub struct ProblemEntry {
    file: String,
    kind: &'static str,
    message: String,
}

impl From<&Problem> for ProblemEntry {
    fn from(problem: &Problem) -> Self {
        Self { file: problem.path.display().to_string(), kind: problem.kind.name(), message: problem.to_string() }
    }
}

/// How many problems there are of each kind.
pub fn by_kind(problems: &[Problem]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for problem in problems {
        *counts.entry(problem.kind.name()).or_default() += 1;
    }
    counts
}

/// Lines of plain text with the number of each kind below `title`; none without problems.
pub fn lines(title: &str, problems: &[Problem]) -> Vec<String> {
    if problems.is_empty() {
        return Vec::new();
    }
    let kinds = by_kind(problems).into_iter().map(|(kind, count)| format!("  {kind:<28} {count:>5}"));
    [format!("\n{title}")].into_iter().chain(kinds).collect()
}

/// A section of Markdown below `heading` with the number of each kind and each problem; empty without problems.
pub fn section(heading: &str, problems: &[Problem]) -> String {
    if problems.is_empty() {
        return String::new();
    }
    let counts = by_kind(problems).into_iter().map(|(kind, count)| vec![kind.to_owned(), count.to_string()]);
    let each = problems.iter().map(|problem| format!("* {}\n", escaped(&problem.to_string())));
    format!("\n{heading}\n\n{}\n{}", table(&["kind", "number"], counts), each.collect::<String>())
}
