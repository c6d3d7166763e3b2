//! Trainings, from outside.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::*;
use maskwatch::config::shipped_model;
use maskwatch::model::checkpoint::Model;
use maskwatch::model::weights::Weights;
use tch::Device;

/// A folder with bundled pictures to learn from and to validate with.
struct Data(tempfile::TempDir);

impl Data {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for set in ["train", "val"] {
            class_folders(&folder.path().join(set));
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `train` of this folder with the model as `name`, and these options, separated by spaces.
    fn train(&self, name: &str, options: &str) -> Command {
        let mut command = program();
        command.arg("train").arg(self.0.path()).arg("--out").arg(self.path(name)).args(options.split_whitespace());
        command
    }

    fn trained(&self, name: &str, options: &str) -> Finished {
        finished(self.train(name, options).output().unwrap())
    }
}

/// Every tensor to the bit, the description, and the log but for the times.
fn assert_same_training(data: &Data, first: &str, second: &str) {
    let weights = |name: &str| Weights::read(&data.path(name).with_extension("safetensors")).unwrap();
    let (a, b) = (weights(first), weights(second));
    assert_eq!(a.tensors, b.tensors);
    assert_eq!(a.metadata, b.metadata);
    let log = |name: &str| {
        let mut reader = csv::Reader::from_path(data.path(name).with_extension("csv")).unwrap();
        let column = reader.headers().unwrap().iter().position(|header| header == "seconds").unwrap();
        let without_seconds = |record: csv::StringRecord| {
            record.iter().enumerate().filter(|(index, _)| *index != column).map(|(_, field)| field.to_owned()).collect()
        };
        reader.records().map(|record| without_seconds(record.unwrap())).collect::<Vec<Vec<String>>>()
    };
    assert_eq!(log(first), log(second));
}

fn wait_for(path: &Path) {
    let started = Instant::now();
    while !path.exists() {
        assert!(started.elapsed() < Duration::from_secs(120), "{} does not appear", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_trained_model_runs_and_comes_with_log_and_curves() {
    let data = Data::new();
    std::fs::write(data.path("train/mask/broken.jpg"), "not a picture").unwrap();
    let options = "--classes no_mask,mask --epochs 4 --pictures-per-epoch 8 --batch-size 4 --seed 5";
    let run = data.trained("new.safetensors", options).ok();
    assert!(run.stderr.contains("starting from the shipped model"), "{}", run.stderr);
    assert!(run.stderr.contains("fc.weight, fc.bias"), "{}", run.stderr);
    assert!(
        run.stderr.contains("could not be read and were left out (1)") && run.stderr.contains("broken.jpg"),
        "{}",
        run.stderr
    );

    let log = std::fs::read_to_string(data.path("new.csv")).unwrap();
    let mut lines = log.lines();
    assert!(lines.next().unwrap().starts_with("epoch,pictures,learning_rate,train_loss,train_accuracy,val_loss"));
    assert_eq!(lines.count(), 4);
    let mut reader = csv::Reader::from_reader(log.as_bytes());
    let results: Vec<(f64, f64)> = reader
        .records()
        .map(|record| record.unwrap())
        .map(|record| (record[6].parse().unwrap(), record[5].parse().unwrap()))
        .collect();
    // The most accurate, and of several the one with the lowest loss.
    let better = |a: &(f64, f64), b: &(f64, f64)| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1));
    let best = results.iter().enumerate().max_by(|(_, a), (_, b)| better(a, b)).unwrap().0 + 1;
    assert!(run.stdout.contains(&format!("the model of epoch {best},")), "{}{log}", run.stdout);
    let curves = image::open(data.path("new.png")).unwrap();
    assert!(curves.width() >= 600 && curves.height() >= 400);
    assert!(!data.path("new.state.safetensors").exists(), "a complete training has nothing to resume");

    let model = data.path("new.safetensors");
    let run =
        maskwatch(["run", &sample_video(), "--limit", "2", "--model", model.to_str().unwrap(), "--events", "-"]).ok();
    let event = &parse_events(&run.stdout)[0];
    let classes: Vec<&String> = event["probabilities"].as_object().unwrap().keys().collect();
    assert_eq!(classes.len(), 2, "the new model has the classes it was trained on: {classes:?}");

    // The same seed gives the same model at the same number of threads.
    data.trained("again.safetensors", options).ok();
    assert_same_training(&data, "new", "again");
}

#[test]
fn a_resumed_training_equals_one_that_was_never_interrupted() {
    let data = Data::new();
    let options = "--epochs 3 --pictures-per-epoch 24 --batch-size 4 --threads 2 --schedule one-cycle \
        --learning-rate 0.01 --augmentation robust --label-smoothing 0.1 \
        --freeze-until layer2 --stage-decay 0.3 --weight-decay 0.001";
    data.trained("whole.safetensors", options).ok();
    let resumed = |name: &str| data.trained(name, &format!("{options} --resume"));

    // Asked to stop after the first epoch, wherever it may be by then.
    let child = data.train("asked.safetensors", options).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&data.path("asked.csv"));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let stopped = finished(child.wait_with_output().unwrap());
    assert_eq!(stopped.code, Some(130), "{}", stopped.stderr);
    assert!(stopped.stdout.contains("the same command with --resume goes on"), "{}", stopped.stdout);
    assert!(Model::load(&data.path("asked.safetensors"), Device::Cpu).is_ok(), "the best model so far is kept");
    // What was reached is not thrown away by starting over, nor mixed with something else.
    let anew = data.trained("asked.safetensors", options);
    anew.fails(2, "go on with --resume, or delete that file");
    let other = format!("{options} --resume --momentum 0.5");
    data.trained("asked.safetensors", &other).fails(2, "--momentum was 0.9 and now is 0.5");
    let run = resumed("asked.safetensors").ok();
    assert!(run.stderr.contains("going on in epoch"), "{}", run.stderr);
    assert_same_training(&data, "whole", "asked");

    // Killed without warning: what was saved last counts.
    let mut child = data.train("killed.safetensors", options).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&data.path("killed.state.safetensors"));
    child.kill().unwrap();
    child.wait().unwrap();
    resumed("killed.safetensors").ok();
    assert_same_training(&data, "whole", "killed");
    resumed("killed.safetensors").fails(3, "no interrupted training to go on with");
}

#[test]
fn scenes_are_learnt_and_a_resumed_training_does_not_notice() {
    let data = Data::new();
    let options = "--scenes --classes mask,no_mask,background --freeze-until layer3 --epochs 2 --pictures-per-epoch 12 \
                   --batch-size 4 --threads 1 --seed 3";
    let run = data.trained("whole.safetensors", options).ok();
    assert!(run.stdout.contains("whole.safetensors"), "{}", run.stdout);
    for left in ["whole.places.json", "whole.scenes.png", "whole.csv"] {
        assert!(data.path(left).exists(), "{left}");
    }
    let mut interrupted = data.train("parts.safetensors", options).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&data.path("parts.state.safetensors"));
    interrupted.kill().unwrap();
    interrupted.wait().unwrap();
    data.trained("parts.safetensors", &format!("{options} --resume")).ok();
    assert_same_training(&data, "whole", "parts");
    let (model, figure, picture) = (data.path("whole.safetensors"), data.path("found.png"), sample("hopper_ffp2.jpg"));
    let [model, figure, picture] = [&model, &figure, &picture].map(|path| path.to_str().unwrap());
    maskwatch(["explain", "--scan", "--model", model, "--out", figure, picture]).ok();
}

#[test]
fn cached_features_are_used_and_a_resumed_training_does_not_notice() {
    let data = Data::new();
    std::fs::write(data.path("train/mask/broken.jpg"), "not a picture").unwrap();
    let cache = data.path("shared.features");
    let options = format!(
        "--epochs 3 --pictures-per-epoch 24 --batch-size 4 --threads 2 --cached-views 3 --augmentation robust --cache {}",
        cache.display()
    );
    let run = data.trained("whole.safetensors", &options).ok();
    assert!(run.stderr.contains("broken.jpg"), "{}", run.stderr);
    assert!(std::fs::metadata(&cache).unwrap().len() > 6 * 3 * 100_352, "six pictures, three views");

    let mut child = data.train("killed.safetensors", &options).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&data.path("killed.state.safetensors"));
    child.kill().unwrap();
    child.wait().unwrap();
    data.trained("killed.safetensors", &format!("{options} --resume")).ok();
    assert_same_training(&data, "whole", "killed");

    // Views that were made for another seed are not those of this one: the cache is begun anew.
    let other = data.trained("other.safetensors", &format!("{options} --seed 2")).ok();
    assert!(other.stderr.contains("is begun anew"), "{}", other.stderr);
}

#[test]
fn a_cache_that_cannot_be_is_refused() {
    let data = Data::new();
    data.trained("x.safetensors", "--freeze-until none --cached-views 2").fails(2, "needs frozen stages");
    data.trained("x.safetensors", "--cached-views 1000 --cache-limit 0.1").fails(2, "give --cached-views 1");
    std::fs::write(data.path("x.features"), "somebody's notes").unwrap();
    data.trained("x.safetensors", "--cached-views 2").fails(2, "is not a feature cache and is left as it is");
    assert_eq!(std::fs::read_to_string(data.path("x.features")).unwrap(), "somebody's notes");
    let folder = data.path("");
    let out = data.path("full.safetensors");
    let arguments = ["train", folder.to_str().unwrap(), "--out", out.to_str().unwrap(), "--cached-views", "2"];
    maskwatch_with_file_limit(1000, &arguments).fails(1, "cannot grow");
}

#[test]
fn pictures_that_changed_are_noticed() {
    let data = Data::new();
    let options = "--epochs 50 --pictures-per-epoch 6 --batch-size 2";
    let mut child = data.train("x.safetensors", options).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&data.path("x.state.safetensors"));
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::copy(sample("empty_studio.jpg"), data.path("train/background/another.jpg")).unwrap();
    data.trained("x.safetensors", &format!("{options} --resume")).fails(2, "the pictures have changed");
}

#[test]
fn nobody_listening_is_no_reason_to_stop() {
    let data = Data::new();
    let mut child =
        data.train("x.safetensors", "--epochs 1 --pictures-per-epoch 4").stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(data.path("x.safetensors").exists());
}

#[test]
fn patience_ends_a_training_that_gets_no_better() {
    let data = Data::new();
    // A rate at which no parameter can change, so that soon nothing gets better.
    let options = "--epochs 30 --pictures-per-epoch 4 --learning-rate 1e-12 --patience 2";
    let run = data.trained("x.safetensors", options).ok();
    assert!(run.stdout.contains("ended early"), "{}", run.stdout);
    let log = std::fs::read_to_string(data.path("x.csv")).unwrap();
    let last_best = log.lines().skip(1).enumerate().filter(|(_, line)| line.ends_with("true")).last().unwrap().0;
    assert_eq!(log.lines().count(), 1 + (last_best + 1) + 2, "{log}");
}

#[test]
fn frozen_stages_stay_as_they_were_and_the_others_learn() {
    let data = Data::new();
    let before = Weights::read(&shipped_model()).unwrap().tensors;
    for (freeze_until, first_trained) in [("none", "conv1"), ("layer3", "layer4"), ("layer4", "fc")] {
        let name = format!("{freeze_until}.safetensors");
        // One picture a step: the smallest batch learns, too.
        let options = format!(
            "--freeze-until {freeze_until} --epochs 1 --pictures-per-epoch 3 --batch-size 1 --learning-rate 0.01"
        );
        data.trained(&name, &options).ok();
        let after = Weights::read(&data.path(&name)).unwrap().tensors;
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
fn less_precision_learns_almost_the_same() {
    let data = Data::new();
    let losses = |name: &str, precision: &str| -> Vec<f64> {
        let options = format!("--epochs 2 --pictures-per-epoch 12 --batch-size 6 --precision {precision}");
        data.trained(&format!("{name}.safetensors"), &options).ok();
        let mut reader = csv::Reader::from_path(data.path(&format!("{name}.csv"))).unwrap();
        reader.records().map(|record| record.unwrap()[3].parse().unwrap()).collect()
    };
    for (single, bfloat16) in losses("single", "single").into_iter().zip(losses("bfloat16", "bfloat16")) {
        assert!((single - bfloat16).abs() < 0.03 * single, "{single} {bfloat16}");
        assert_ne!(single, bfloat16);
    }
}

#[test]
fn trainings_that_make_no_sense_are_refused() {
    let data = Data::new();
    let folder = data.path("");
    let folder = folder.to_str().unwrap();
    maskwatch(["train", folder, "--out", folder]).fails(2, "is a folder; give the name of a file");
    maskwatch(["train", folder, "--out", "/nonexistent/x.safetensors"])
        .fails(1, "the folder /nonexistent does not exist");
    data.trained("x.csv", "").fails(2, "give the model another ending");
    data.trained("x.safetensors", "--classes mask,mask").fails(3, "the class mask is named twice");
    data.trained("x.safetensors", "--classes mask,ghost").fails(3, "ghost");
    data.trained("x.safetensors", "--classes mask").fails(3, "--classes names 1 class, and two are needed");
    data.trained("x.safetensors", "--classes mask,,no_mask").fails(2, "empty name");
    data.trained("x.safetensors", "--learning-rate -1").code_is(2, "expected a number above 0");
    data.trained("x.safetensors", "--resume").fails(3, "no interrupted training");
    std::fs::create_dir(data.path("train/empty")).unwrap();
    data.trained("x.safetensors", "").fails(3, "empty holds no images");
    // A checkpoint of another architecture.
    let other = data.path("other.safetensors");
    let tensor = tch::Tensor::zeros([64, 3, 3, 3], (tch::Kind::Float, Device::Cpu));
    tch::Tensor::write_safetensors(&[("features.0.weight", tensor)], &other).unwrap();
    data.trained("x.safetensors", &format!("--classes mask,no_mask --init {}", other.display()))
        .fails(3, "a ResNet18 in torchvision's naming is needed");
    assert!(!data.path("x.safetensors").exists() && !data.path("x.csv").exists());
}

#[test]
fn a_full_disk_ends_a_training_and_keeps_what_was_there() {
    let data = Data::new();
    let out = data.path("x.safetensors");
    std::fs::write(&out, "an earlier model").unwrap();
    let folder = data.path("");
    let arguments = [
        "train",
        folder.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
        "--epochs",
        "1",
        "--pictures-per-epoch",
        "4",
    ];
    maskwatch_with_file_limit(4000, &arguments).fails(1, "free some space");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "an earlier model");
}
