//! The other commands, from outside.

mod common;

use common::*;

#[test]
fn the_samples_are_classified_right() {
    let folder = tempfile::tempdir().unwrap();
    class_folders(folder.path());
    std::fs::create_dir(folder.path().join("incorrect")).unwrap();
    let run = maskwatch(["evaluate", folder.path().to_str().unwrap()]).ok();
    assert!(run.stdout.contains("all classes") && run.stdout.contains("100.00 %      6 of     6"), "{}", run.stdout);
    assert!(run.stderr.contains("left out: the folder incorrect"), "{}", run.stderr);
}

#[test]
fn doctor_finds_everything_that_is_needed() {
    let run = maskwatch(["doctor"]).ok();
    for subject in ["libtorch", "CUDA", "model", "OpenCV", "FFmpeg", "encoder", "display", "cameras"] {
        assert!(run.stdout.contains(subject), "{}", run.stdout);
    }
    assert!(run.stdout.contains("everything that is needed works"), "{}", run.stdout);
    for model in ["resnet18-mask.safetensors", "resnet18-scenes.safetensors"] {
        assert!(run.stdout.contains(model), "{}", run.stdout);
    }
    let run = maskwatch(["doctor", "--model", "/nonexistent/model"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stdout.contains("!!  model"), "{}", run.stdout);
}

#[test]
fn completions_and_manual_are_printed() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(maskwatch(["completions", shell]).ok().stdout.contains("maskwatch"));
    }
    let manual = maskwatch(["man"]).ok().stdout;
    assert!(manual.starts_with(".ie") || manual.contains(".TH maskwatch"), "{manual}");
    for section in ["MASKWATCH RUN", "MASKWATCH TRAIN", "components", "freeze\\-until"] {
        assert!(manual.contains(section), "{section}");
    }
}

#[test]
fn help_has_examples() {
    for command in ["run", "train", "evaluate", "explain", "bench"] {
        let help = maskwatch([command, "--help"]).ok().stdout;
        assert!(help.contains("Examples:") && help.contains(&format!("maskwatch {command} ")), "{help}");
    }
}
