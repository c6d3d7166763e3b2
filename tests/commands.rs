//! The other commands, from outside.

mod common;

use common::*;
use maskwatch::config::shipped_model;
use maskwatch::model::weights::Weights;

#[test]
fn a_trained_model_runs_and_comes_with_a_log() {
    let folder = tempfile::tempdir().unwrap();
    class_folders(&folder.path().join("train"));
    class_folders(&folder.path().join("val"));
    std::fs::write(folder.path().join("train/mask/broken.jpg"), "not a picture").unwrap();
    let data = folder.path().to_str().unwrap();
    let model = folder.path().join("new.safetensors");
    let arguments = ["train", data, "--classes", "no_mask,mask", "--out", model.to_str().unwrap()];
    let options = ["--epochs", "4", "--pictures-per-epoch", "8", "--batch-size", "4", "--seed", "5"];
    let run = maskwatch(arguments.iter().chain(&options)).ok();
    assert!(run.stderr.contains("starting from the shipped model"), "{}", run.stderr);
    assert!(run.stderr.contains("fc.weight, fc.bias"), "{}", run.stderr);
    assert!(
        run.stderr.contains("could not be read and were left out (1)") && run.stderr.contains("broken.jpg"),
        "{}",
        run.stderr
    );

    let log = std::fs::read_to_string(folder.path().join("new.csv")).unwrap();
    let mut lines = log.lines();
    assert!(lines.next().unwrap().starts_with("epoch,pictures,learning_rate,train_loss,train_accuracy,val_loss"));
    assert_eq!(lines.count(), 4);
    let mut reader = csv::Reader::from_reader(log.as_bytes());
    let accuracies: Vec<f64> = reader.records().map(|record| record.unwrap()[6].parse().unwrap()).collect();
    let highest = accuracies.iter().copied().fold(0.0, f64::max);
    let first_of_the_best = accuracies.iter().position(|&accuracy| accuracy == highest).unwrap() + 1;
    assert!(run.stdout.contains(&format!("the model of epoch {first_of_the_best},")), "{}{log}", run.stdout);

    let run =
        maskwatch(["run", &sample_video(), "--limit", "2", "--model", model.to_str().unwrap(), "--events", "-"]).ok();
    let event = &parse_events(&run.stdout)[0];
    let classes: Vec<&String> = event["probabilities"].as_object().unwrap().keys().collect();
    assert_eq!(classes.len(), 2, "the new model has the classes it was trained on: {classes:?}");

    // The same seed gives the same model at the same number of threads.
    let again = folder.path().join("again.safetensors");
    let arguments = ["train", data, "--classes", "no_mask,mask", "--out", again.to_str().unwrap()];
    maskwatch(arguments.iter().chain(&options)).ok();
    let (first, second) = (Weights::read(&model).unwrap(), Weights::read(&again).unwrap());
    assert_eq!(first.tensors, second.tensors);
    assert_eq!(first.metadata, second.metadata);
    let without_seconds = |path: &str| {
        let log = std::fs::read_to_string(folder.path().join(path)).unwrap();
        log.lines().map(|line| line.split(',').take(7).collect::<Vec<_>>().join(",")).collect::<Vec<_>>()
    };
    assert_eq!(without_seconds("new.csv"), without_seconds("again.csv"));
}

#[test]
fn frozen_stages_stay_as_they_were_and_the_others_learn() {
    let folder = tempfile::tempdir().unwrap();
    class_folders(&folder.path().join("train"));
    class_folders(&folder.path().join("val"));
    let data = folder.path().to_str().unwrap();
    let before = Weights::read(&shipped_model()).unwrap().tensors;
    for (freeze_until, first_trained) in [("none", "conv1"), ("layer3", "layer4"), ("layer4", "fc")] {
        let model = folder.path().join(format!("{freeze_until}.safetensors"));
        let arguments = ["train", data, "--out", model.to_str().unwrap(), "--freeze-until", freeze_until];
        // One picture a step: the smallest batch learns, too.
        let options = ["--epochs", "1", "--pictures-per-epoch", "3", "--batch-size", "1", "--learning-rate", "0.01"];
        maskwatch(arguments.iter().chain(&options)).ok();
        let after = Weights::read(&model).unwrap().tensors;
        assert_eq!(before.len(), after.len());
        let order = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"];
        let place = |name: &str| order.iter().position(|stage| name.starts_with(&format!("{stage}."))).unwrap();
        for (name, tensor) in &before {
            let trained = place(name) >= place(&format!("{first_trained}."));
            // Half precision cannot show every small step of a bias or a mean, but it shows those of the convolutions.
            if !trained {
                assert_eq!(*tensor, after[name], "{name} with {freeze_until}");
            } else if tensor.dim() == 4 {
                assert_ne!(*tensor, after[name], "{name} with {freeze_until}");
            }
        }
        assert_ne!(before["fc.weight"], after["fc.weight"]);
    }
}

#[test]
fn trainings_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    class_folders(&folder.path().join("train"));
    class_folders(&folder.path().join("val"));
    let data = folder.path().to_str().unwrap();
    maskwatch(["train", data, "--out", data]).fails(2, "is a folder; give the name of a file");
    maskwatch(["train", data, "--out", "/nonexistent/x.safetensors"]).fails(1, "cannot write the training log");
    maskwatch(["train", data, "--classes", "mask,mask"]).fails(3, "the class mask is named twice");
    maskwatch(["train", data, "--classes", "mask,ghost"]).fails(3, "ghost");
}

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
    for command in ["run", "train", "evaluate"] {
        let help = maskwatch([command, "--help"]).ok().stdout;
        assert!(help.contains("Examples:") && help.contains(&format!("maskwatch {command} ")), "{help}");
    }
}
