//! Data flows one way, and so do imports: a module imports only modules above it in this list.

use std::path::{Path, PathBuf};

/// From the bottom of the program to its top.
const ORDER: [&str; 36] = [
    "blas",
    "exit_code",
    "files",
    "shutdown",
    "stopwatch",
    "geometry",
    "labels",
    "recycled",
    "shared",
    "frame",
    "resize",
    "capture",
    "model",
    "dataset",
    "pca",
    "explain",
    "boxes",
    "scan",
    "analyse",
    "gate",
    "track",
    "draw",
    "plot",
    "train",
    "evaluate",
    "stats",
    "sinks",
    "pipeline",
    "cli",
    "display",
    "config",
    "threads",
    "bench",
    "progress",
    "telemetry",
    "commands",
];

#[test]
fn modules_import_only_what_lies_below_them() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut imports = 0;
    for file in rust_files(&sources) {
        let relative = file.strip_prefix(&sources).unwrap();
        let module = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if ["main", "lib"].contains(&module) {
            continue;
        }
        let own = rank(module).unwrap_or_else(|| panic!("{module} is missing in the list; where does it belong?"));
        for imported in imported_modules(&std::fs::read_to_string(&file).unwrap()) {
            imports += 1;
            if imported != module && rank(&imported).is_none_or(|rank| rank > own) {
                wrong.push(format!("{} imports {imported}", relative.display()));
            }
        }
    }
    assert!(imports > 50, "only {imports} imports found: the scan does not work any more");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_scan_sees_every_form_of_import() {
    let code = "use crate::a::b; use crate::{c::x, d::{e, f}, g}; fn f() -> crate::h::I { crate::J }";
    assert_eq!(imported_modules(code), ["a", "c", "d", "g", "h"]);
}

fn rank(module: &str) -> Option<usize> {
    ORDER.iter().position(|name| *name == module)
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files = Vec::new();
    for path in entries {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// First path segments behind `crate::`, braces included; types at the root of the crate are left out.
fn imported_modules(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (start, _) in code.match_indices("crate::") {
        let rest = &code[start + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut first = String::new();
            let mut names = Vec::new();
            for character in group.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => names.push(std::mem::take(&mut first)),
                    _ if depth == 0 => first.push(character),
                    _ => {}
                }
            }
            names.push(first);
            modules.extend(names.iter().map(|name| identifier(name.trim())));
        } else {
            modules.push(identifier(rest));
        }
    }
    modules.retain(|name| name.starts_with(|first: char| first.is_ascii_lowercase()));
    modules
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

#[test]
fn training_never_opens_an_annotation() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut read = rust_files(&sources.join("train"));
    // What training reads pictures with.
    read.extend([sources.join("dataset/loader.rs"), sources.join("analyse/comparison.rs")]);
    assert!(read.len() > 15, "only {} files: training has moved", read.len());
    for file in read {
        let code = std::fs::read_to_string(&file).unwrap();
        for word in ["voc", "annotations", ".xml"] {
            assert!(!code.contains(word), "{} reads annotations ({word})", file.display());
        }
    }
}
