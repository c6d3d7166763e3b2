//! Headless surveillance, from outside: a configuration file, alarms that say why, and every output at once.

mod common;

use common::*;
use serde_json::Value;

#[test]
fn an_alarm_is_raised_once_a_person_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let (events, snapshots, stats) =
        (folder.path().join("events.jsonl"), folder.path().join("snapshots"), folder.path().join("stats.json"));
    let config = folder.path().join("door.toml");
    let text = format!(
        "events = {events:?}\nsnapshots = {snapshots:?}\nstats = {stats:?}\nscan = 224\nalarm_after = \"1500ms\"\n\
         headless = true\nsave = {:?}\n{}[sources]\ndoor = {:?}\n",
        folder.path().join("saved"),
        if cfg!(feature = "serve") { "serve = \"127.0.0.1:0\"\n" } else { "" },
        sample("mask_on_off.mp4"),
    );
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let checked = maskwatch(["run", "--config", config, "--check"]).ok();
    assert!(checked.stdout.contains("1 source"), "{}", checked.stdout);
    assert!(!events.exists(), "nothing was run");

    let run = maskwatch(["run", "--config", config]).ok();
    let lines = parse_lines(&std::fs::read_to_string(&events).unwrap());
    let (happened, frames): (Vec<&Value>, Vec<&Value>) = lines.iter().partition(|line| line["event"].is_string());
    let declared = decode(&sample("mask_on_off.mp4")).0.len();
    assert_eq!(frames.len(), declared, "a line a frame, with every output on");
    assert_eq!(decode(&folder.path().join("saved/door.mp4")).0.len(), declared);

    let named = |name: &'static str| happened.iter().filter(move |line| line["event"] == name).copied();
    let tracks = |name| named(name).map(|line| line["track"].as_u64().unwrap()).collect::<Vec<_>>();
    let (mut appeared, mut ended) = (tracks("track_appeared"), tracks("track_ended"));
    assert!(!appeared.is_empty());
    appeared.sort_unstable();
    ended.sort_unstable();
    assert_eq!(appeared, ended, "each once");
    let alarms: Vec<&Value> = named("alarm").collect();
    // samples/phases.csv: one bares his face at the beginning, the other one at the end.
    assert_eq!(alarms.len(), 2, "each of the two without a mask, once: {alarms:?}");
    assert_ne!(alarms[0]["track"], alarms[1]["track"]);
    let alarm = alarms[0];
    assert_eq!((&alarm["source"], &alarm["label"]), (&"door".into(), &"no_mask".into()));
    assert!(alarm["lasted_ms"].as_f64().unwrap() >= 1500.0);
    assert!(alarm["model"].as_str().unwrap().starts_with("resnet18-scenes.safetensors@"));
    assert_eq!(alarm["basis"].as_str().unwrap().len(), 16);
    assert_eq!(alarm["history"].as_array().unwrap().last().unwrap()["label"], "no_mask");

    let told: Vec<&str> = run.stderr.lines().filter(|line| line.contains("WARN door: alarm: track ")).collect();
    assert_eq!(told.len(), 2, "{}", run.stderr);
    let expected = format!("track {} has been no_mask for ", alarm["track"]);
    assert!(told[0].contains(&expected), "{}", told[0]);
    let (_, snapshot) = told[0].split_once("; snapshot ").unwrap();
    assert!(snapshot.ends_with(".jpg") && std::path::Path::new(snapshot).is_file(), "{snapshot}");

    let mut kept: Vec<_> = std::fs::read_dir(&snapshots).unwrap().map(|entry| entry.unwrap().path()).collect();
    kept.sort();
    let of_alarm: Vec<_> = kept.iter().filter(|path| path.to_string_lossy().contains("-door-alarm-track_")).collect();
    let [heat, frame, why, _, _, _] = &of_alarm[..] else { panic!("{kept:?}") };
    for picture in [heat, frame] {
        let picture = image::open(picture).unwrap();
        assert_eq!((picture.width(), picture.height()), (640, 480));
    }
    let why: Value = serde_json::from_slice(&std::fs::read(why).unwrap()).unwrap();
    assert_eq!(&why, alarm, "the snapshot says what the event says");

    let figures: Value = serde_json::from_slice(&std::fs::read(&stats).unwrap()).unwrap();
    let door = &figures["sources"][0];
    assert_eq!((door["frames"].as_u64(), door["alarms"].as_u64()), (Some(declared as u64), Some(2)));
    assert_eq!(door["dropped"], serde_json::json!({}), "a recording loses nothing");
    assert!(run.stdout.contains("2 alarms"), "{}", run.stdout);
    assert_eq!(door["state"], "ended");
    let sinks = figures["sinks"].as_array().unwrap();
    let names: Vec<&str> = sinks.iter().map(|sink| sink["sink"].as_str().unwrap()).collect();
    assert!(names.ends_with(&["save", "events", "snapshots", "stats"]), "{names:?}");
    assert!(sinks.iter().all(|sink| sink["state"] == "running" && sink["reason"].is_null()), "{sinks:?}");
}

#[test]
fn no_output_replaces_what_is_read_or_another_output() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (picture, config, both) = (path("a.jpg"), path("a.toml"), path("same.jsonl"));
    std::fs::copy(sample("empty_studio.jpg"), &picture).unwrap();
    std::fs::write(&config, "headless = true\n").unwrap();
    maskwatch(["run", &picture, "--stats", &picture]).fails(2, "would overwrite a source");
    maskwatch(["run", &picture, "--config", &config, "--stats", &config]).fails(2, "overwrite the configuration file");
    maskwatch(["run", &picture, "--events", &both, "--stats", &both]).fails(2, "name the same file");
    assert_eq!(std::fs::read(&picture).unwrap(), std::fs::read(sample("empty_studio.jpg")).unwrap());
}

#[test]
fn a_configuration_that_makes_no_sense_is_told_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    let path = file.to_str().unwrap();
    for (text, code, expected) in [
        ("colour = 1\n[sources]\na = '0'\n", 2, "unknown key \"colour\""),
        ("limit = 0\n[sources]\na = '0'\n", 2, "invalid value '0'"),
        ("[sources]\na = '/nonexistent.mp4'\n", 3, "/nonexistent.mp4"),
        ("headless = true\n", 2, "there is no source"),
        ("model = '/nonexistent'\n[sources]\na = '0'\n", 3, "cannot read the model /nonexistent"),
        ("[sources]\n'my door' = 'rtsp://camera/x'\n", 2, "letters, digits, - and _"),
    ] {
        std::fs::write(&file, text).unwrap();
        maskwatch(["run", "--config", path, "--check"]).fails(code, expected);
    }
    maskwatch(["run", "--config", "/nonexistent.toml"]).fails(3, "/nonexistent.toml cannot be read");
}
