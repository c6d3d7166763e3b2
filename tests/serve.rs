//! Live outputs, over real sockets: what viewers get, who is let in, and what slow ones cost.

mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::findings::finding;
use common::http::{Reply, ask, get};
use image::RgbImage;
use maskwatch::capture::SourceState;
use maskwatch::draw::Annotator;
use maskwatch::sinks::Sink;
use maskwatch::sinks::access::Token;
use maskwatch::sinks::serve::{Serve, ServeError, ServeLimits, ServeSettings};
use maskwatch::stats::{DropCounters, RunStats};

const NAMES: [&str; 2] = ["door", "hall / \"ü\""];
const SECRET: &str = "0123456789+/abcdef";

/// A server, and what a run would put in.
struct Served {
    sink: Serve,
    stats: Arc<RunStats>,
    annotator: Arc<Annotator>,
    frames: u64,
}

impl Served {
    fn new(token: Option<&str>, limits: ServeLimits) -> Self {
        let stats = Arc::new(RunStats::new(NAMES.map(str::to_owned)));
        let token = token.map(|token| Token::new(token).unwrap());
        let settings = ServeSettings { address: "127.0.0.1:0".parse().unwrap(), token, limits };
        let sink = Serve::create(&settings, NAMES.map(str::to_owned), Arc::clone(&stats)).unwrap();
        Self { sink, stats, annotator: Arc::new(Annotator::new().unwrap()), frames: 0 }
    }

    fn plain() -> Self {
        Self::new(None, ServeLimits::default())
    }

    fn address(&self) -> SocketAddr {
        self.sink.address()
    }

    fn show(&mut self, source: usize, image: RgbImage) {
        let finding = finding(source, NAMES[source], self.frames, image, &self.annotator);
        self.frames += 1;
        self.stats.analysed(source, "mask", ["mask"]);
        self.sink.write(&finding).unwrap();
    }

    fn get(&self, path: &str) -> Reply {
        get(self.address(), path)
    }

    fn metric(&self, line: &str) -> f64 {
        let text = self.get("/metrics").text();
        let value = text.lines().find_map(|found| found.strip_prefix(line)).unwrap_or_else(|| panic!("{line}: {text}"));
        value.trim().parse().unwrap()
    }

    fn encoded(&self) -> f64 {
        self.metric("maskwatch_pictures_encoded_total{source=\"door\"}")
    }
}

fn grey(level: u8) -> RgbImage {
    RgbImage::from_pixel(161, 90, image::Rgb([level; 3]))
}

/// What JPEG cannot make small.
fn noise(seed: u32) -> RgbImage {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    RgbImage::from_fn(960, 720, |_, _| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        image::Rgb([state as u8, (state >> 8) as u8, (state >> 16) as u8])
    })
}

/// Mean brightness in the corner that nothing is drawn onto.
fn level(jpeg: &[u8]) -> u8 {
    let picture = image::load_from_memory(jpeg).unwrap().to_luma8();
    assert_eq!(picture.dimensions(), (161, 90));
    picture.get_pixel(158, 86).0[0]
}

/// Whether a stream comes to a picture of this brightness; one that stands still is sent again.
fn shows(viewer: &mut Reply, brightness: u8) -> bool {
    (0..4).any(|_| level(&viewer.part()).abs_diff(brightness) < 12)
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(15), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_address_answers_and_no_other() {
    let mut served = Served::plain();
    let page = served.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
    let page = page.text();
    assert!(page.contains("<title>maskwatch</title>") && !page.contains("https://"), "nothing comes from elsewhere");

    assert_eq!(served.get("/snapshot/door.jpg").status, 503, "no frame has come yet");
    served.show(1, grey(90));
    let snapshot = served.get("/snapshot/hall%20%2F%20%22%C3%BC%22.jpg");
    assert_eq!((snapshot.status, snapshot.header("content-type")), (200, Some("image/jpeg")));
    assert!(level(&snapshot.body()).abs_diff(90) < 12);

    for path in
        ["/nothing", "/snapshot/nobody.jpg", "/snapshot/door.png", "/snapshot/door", "/stream/door.jpg", "/stream/"]
    {
        let reply = served.get(path);
        assert_eq!(reply.status, 404, "{path}");
        assert!(reply.json()["error"].is_string());
    }
    assert_eq!(served.get("/events?source=nobody").status, 404);
    for path in ["/", "/stats", "/events", "/stream/door.mjpg"] {
        assert_eq!(ask(served.address(), "POST", path, &[]).status, 405, "{path}");
    }
    assert_eq!(ask(served.address(), "HEAD", "/", &[]).status, 200);
    assert_eq!(ask(served.address(), "GET", "/", &["Host: evil.example"]).status, 421, "DNS rebinding");
}

#[test]
fn nothing_is_encoded_until_somebody_looks_and_then_once_a_frame() {
    let mut served = Served::plain();
    (0..50).for_each(|level| served.show(0, grey(level)));
    assert_eq!(served.encoded(), 0.0, "an idle server encodes nothing");
    for _ in 0..3 {
        assert!(level(&served.get("/snapshot/door.jpg").body()).abs_diff(49) < 12);
    }
    assert_eq!(served.encoded(), 1.0);

    let mut viewers: Vec<Reply> = (0..4).map(|_| served.get("/stream/door.mjpg")).collect();
    assert_eq!(viewers[0].header("content-type"), Some("multipart/x-mixed-replace; boundary=frame"));
    let sent_again = [viewers[0].part(), viewers[0].part()];
    assert_eq!(sent_again[0], sent_again[1], "browsers show a picture when the next begins");
    viewers.iter_mut().for_each(|viewer| assert!(shows(viewer, 49)));
    for brightness in [80, 120, 160, 200] {
        served.show(0, grey(brightness));
        viewers.iter_mut().for_each(|viewer| assert!(shows(viewer, brightness)));
    }
    assert_eq!(served.encoded(), 5.0, "four viewers share each picture");
    assert_eq!(served.metric("maskwatch_viewers{source=\"door\"}"), 4.0);
    drop(viewers);
    wait_until("viewers that leave are forgotten", || served.metric("maskwatch_viewers{source=\"door\"}") == 0.0);
    served.show(0, grey(210));
    assert_eq!(served.encoded(), 5.0);
}

#[test]
fn events_are_those_of_the_file_and_slow_listeners_are_told_what_they_miss() {
    let mut served = Served::plain();
    let mut all = served.get("/events");
    let mut hall = served.get("/events?source=hall%20/%20%22%C3%BC%22");
    assert_eq!(all.header("content-type"), Some("text/event-stream"));
    let listening = |served: &Served, count: u64| served.get("/stats").json()["viewers"] == count;
    wait_until("both listen", || listening(&served, 2));
    (0..2).for_each(|source| served.show(source, grey(9)));
    let (kind, event) = all.event();
    assert_eq!(
        (kind, &event["source"], &event["label"], &event["frame"]),
        (None, &"door".into(), &"mask".into(), &0.into())
    );
    assert_eq!(event["boxes"][0]["width"], 20);
    let keys: BTreeSet<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
    for key in ["pts_ms", "time", "confidence", "probabilities", "cam", "latency_ms"] {
        assert!(keys.contains(key), "{key} is missing: {event}");
    }
    assert_eq!(all.event().1["source"], NAMES[1]);
    assert_eq!(hall.event().1["frame"], 1, "only its own source");

    // More than sockets and queues hold, unread.
    (0..6000).for_each(|_| served.show(0, grey(9)));
    let mut lost = 0;
    let mut last = 1;
    while last < served.frames - 1 {
        match all.event() {
            (Some(kind), gap) => {
                assert_eq!(kind, "gap");
                lost += gap["lost"].as_u64().unwrap();
            }
            (None, event) => last = event["frame"].as_u64().unwrap(),
        }
    }
    assert!(lost > 0, "6000 events cannot wait for a reader who does not read");
    wait_until("what was lost is counted", || served.metric("maskwatch_events_lost_total") >= lost as f64);
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let mut served = Served::plain();
    served.stats.state(0, &SourceState::Live);
    let dropped = Arc::<DropCounters>::default();
    served.stats.watch(0, Arc::clone(&dropped));
    dropped.replaced.store(3, Ordering::Relaxed);
    served.stats.latency(0, "serve", Duration::from_millis(20));
    ["serve", "save"].into_iter().for_each(|sink| served.stats.sink_opened(sink));
    served.stats.sink_failed("save", "disk full");
    served.show(0, grey(1));
    served.show(1, grey(1));
    let reply = served.get("/metrics");
    assert!(reply.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = reply.text();
    assert!(text.ends_with("# EOF\n"));
    let mut families = BTreeSet::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let name = described.split(' ').next().unwrap();
            assert!(text.contains(&format!("# HELP {name} ")) && families.insert(name), "{line}");
        } else if !line.starts_with("# HELP ") {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            assert!(families.contains(name.strip_suffix("_total").unwrap_or(name)), "{line}");
            value.parse::<f64>().unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
    for expected in [
        "maskwatch_frames_total{source=\"door\"} 1",
        "maskwatch_frames_total{source=\"hall / \\\"ü\\\"\"} 1",
        "maskwatch_frames_by_label_total{source=\"door\",label=\"mask\"} 1",
        "maskwatch_frames_dropped_total{source=\"door\",stage=\"replaced\"} 3",
        "maskwatch_faces{source=\"door\",label=\"mask\"} 1.0",
        "maskwatch_source_state{source=\"door\",state=\"live\"} 1.0",
        "maskwatch_source_delivering{source=\"door\"} 1.0",
        "maskwatch_sink_up{sink=\"serve\"} 1.0",
        "maskwatch_sink_up{sink=\"save\"} 0.0",
        "maskwatch_latency_seconds{source=\"door\",sink=\"serve\",quantile=\"0.95\"} 0.02",
    ] {
        assert!(text.lines().any(|line| line.starts_with(expected)), "{expected} in\n{text}");
    }
    assert!(served.metric("process_resident_memory_bytes") > 1e6);
}

#[test]
fn health_is_that_of_the_sources_and_whoever_asks_learns_no_more() {
    let limits = ServeLimits { stale_after: Duration::from_millis(400), ..ServeLimits::default() };
    let mut served = Served::new(Some(SECRET), limits);
    let health = |served: &Served, headers: &[&str]| {
        let reply = ask(served.address(), "GET", "/healthz", headers);
        (reply.status, reply.text())
    };
    let is_bad = (503, r#"{"status":"not ok"}"#.to_owned());
    assert_eq!(health(&served, &[]), is_bad, "no frame has come yet");
    served.show(0, grey(1));
    assert_eq!(health(&served, &[]), (200, r#"{"status":"ok"}"#.to_owned()), "and no token is wanted");
    std::thread::sleep(Duration::from_millis(450));
    assert_eq!(health(&served, &["Authorization: Bearer 0123456789+/abcdeg"]), is_bad);

    ["save", "events"].into_iter().for_each(|sink| served.stats.sink_opened(sink));
    served.stats.sink_failed("save", "disk full");
    (0..2).for_each(|source| served.show(source, grey(1)));
    let (status, text) = health(&served, &[&format!("Authorization: Bearer {SECRET}")]);
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &told["status"], &told["delivering"]), (200, &"some outputs have failed".into(), &2.into()));
    let save = serde_json::json!({"sink": "save", "state": "failed", "reason": "disk full"});
    assert_eq!((&told["sinks"][0], &told["sinks"][1]["state"]), (&save, &"running".into()));
}

#[test]
fn a_token_is_wanted_everywhere_else() {
    let mut served = Served::new(Some(SECRET), ServeLimits::default());
    served.show(0, grey(1));
    let paths = ["/", "/stats", "/metrics", "/events", "/snapshot/door.jpg", "/stream/door.mjpg", "/nothing"];
    for path in paths {
        let refused = served.get(path);
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")), "{path}");
        assert_eq!(served.get(&format!("{path}?token=0123456789%2B%2Fabcdeg")).status, 401, "{path}");
    }
    let bearer = format!("Authorization: Bearer {SECRET}");
    let status = |path, header: &str| ask(served.address(), "GET", path, &[header]).status;
    assert_eq!((status("/stats", &bearer), status("/nothing", &bearer)), (200, 404));

    let page = served.get("/?token=0123456789%2B%2Fabcdef");
    assert_eq!(page.status, 200);
    let set = page.header("set-cookie").unwrap();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict") && !set.contains("0123456789"), "{set}");
    let cookie = format!("Cookie: {}", set.split(';').next().unwrap());
    for path in ["/stream/door.mjpg", "/events", "/stats", "/snapshot/door.jpg"] {
        assert_eq!(status(path, &cookie), 200, "{path}");
    }
}

#[test]
fn viewers_who_never_read_cost_little_and_are_sent_away() {
    let limits = ServeLimits { write_timeout: Duration::from_secs(2), ..ServeLimits::default() };
    let mut served = Served::new(None, limits);
    let pictures: Vec<RgbImage> = (0..4).map(noise).collect();
    served.show(0, pictures[0].clone());
    let size = served.get("/snapshot/door.jpg").body().len();
    assert!(size > 200_000, "{size}");
    let memory = || procfs("VmRSS:");
    let before = memory();
    let asleep: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(served.address()).unwrap();
            stream.write_all(b"GET /stream/door.mjpg HTTP/1.0\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let mut awake = served.get("/stream/door.mjpg");
    let ended = Arc::new(AtomicBool::new(false));
    let reading = std::thread::spawn({
        let ended = Arc::clone(&ended);
        move || {
            let mut parts = 0;
            while !ended.load(Ordering::SeqCst) {
                awake.part();
                parts += 1;
            }
            parts
        }
    });
    let since = Instant::now();
    let mut most = 0;
    let mut shown = 0;
    while since.elapsed() < Duration::from_millis(1500) {
        served.show(0, pictures[shown % pictures.len()].clone());
        shown += 1;
        most = most.max(memory());
        std::thread::sleep(Duration::from_millis(30));
    }
    assert!(most.saturating_sub(before) < 100 << 20, "{} MiB more", (most - before) >> 20);
    wait_until("who does not read is sent away", || {
        served.show(0, pictures[0].clone());
        served.metric("maskwatch_viewers{source=\"door\"}") == 1.0
    });
    ended.store(true, Ordering::SeqCst);
    served.show(0, pictures[1].clone());
    let parts = reading.join().unwrap();
    assert!(parts >= 3, "who reads is served all the while: {parts} of {shown}");
    drop(asleep);
}

/// A figure of this process in bytes.
fn procfs(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

#[test]
fn connections_and_viewers_are_limited() {
    let limits = ServeLimits { connections: 5, viewers: 2, ..ServeLimits::default() };
    let mut served = Served::new(None, limits);
    served.show(0, grey(1));
    let viewers: Vec<Reply> = (0..2).map(|_| served.get("/stream/door.mjpg")).collect();
    for path in ["/stream/door.mjpg", "/events"] {
        let reply = served.get(path);
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("2")), "{path}");
    }
    assert_eq!(served.get("/stats").status, 200, "figures stay within reach");
    let silent: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(served.address()).unwrap()).collect();
    wait_until("a connection too many is told", || served.get("/stats").status == 503);
    drop(silent);
    wait_until("there is room again", || served.get("/stats").status == 200);
    drop(viewers);
}

#[test]
fn it_ends_at_once_with_viewers_connected() {
    let mut served = Served::plain();
    served.show(0, noise(1));
    let address = served.address();
    let mut reads = served.get("/stream/door.mjpg");
    reads.part();
    let held = (served.get("/events"), served.get("/stream/door.mjpg"), TcpStream::connect(address).unwrap());
    let since = Instant::now();
    drop(served);
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    assert!(reads.rest.into_inner().take_error().unwrap().is_none(), "an ordered end, no reset");
    drop(held);
}

#[test]
fn an_address_that_cannot_be_had_is_one_clear_error() {
    let served = Served::plain();
    let create = |address: SocketAddr| {
        let settings = ServeSettings { address, token: None, limits: ServeLimits::default() };
        Serve::create(&settings, [], Arc::new(RunStats::new([]))).unwrap_err()
    };
    let taken = create(served.address());
    assert!(matches!(taken, ServeError::Listen { .. }));
    assert!(taken.to_string().contains("choose another port"), "{taken}");
    assert!(create("192.0.2.1:0".parse().unwrap()).to_string().contains("wants a token"), "others could look");
}

#[test]
fn mistakes_on_the_command_line_are_told_before_a_model_is_loaded() {
    let run = |options: &[&str]| {
        let source = common::sample_video();
        common::maskwatch([&["run", &source, "--headless", "--model", "/nowhere/model"], options].concat())
    };
    run(&["--serve", "0.0.0.0:0"]).fails(2, "--serve 0.0.0.0:0 can be reached from other machines");
    run(&["--rtsp-out", "[::]:0"]).fails(2, "--rtsp-out [::]:0 can be reached from other machines");
    run(&["--serve", "nowhere"]).code_is(2, "ADDRESS:PORT");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    run(&["--serve", &address]).fails(1, &format!("cannot listen on {address}"));
    run(&["--rtsp-out", &address]).fails(1, &format!("cannot listen on {address}"));
}
