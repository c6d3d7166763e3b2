//! RTSP out as players take it, and both live outputs of a whole run.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::findings::finding;
use common::http::get;
use common::program;
use image::RgbImage;
use maskwatch::capture::{CaptureError, OpenOptions, Source, SourceSpec};
use maskwatch::draw::Annotator;
use maskwatch::frame::SharedImage;
use maskwatch::sinks::Sink;
use maskwatch::sinks::access::Token;
use maskwatch::sinks::rtsp::RtspOut;

const SECRET: &str = "0123456789abcdef";

/// The first line of the answer to a player that asks what there is.
fn describe(address: &str) -> String {
    let host = address.trim_start_matches("rtsp://").split('/').next().unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    write!(stream, "DESCRIBE {address} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("an answer in time");
    line.trim_end().to_owned()
}

/// A server with one source, whose frames change size in the middle.
fn serve_while<T>(token: Option<&Token>, watch: impl FnOnce(String, &AtomicBool) -> T) -> T {
    let mut sink = RtspOut::create("127.0.0.1:0".parse().unwrap(), token, ["front door".to_owned()]).unwrap();
    let address = sink.addresses().next().unwrap();
    assert!(address.ends_with("/front%20door"), "{address}");
    let answer = describe(&address);
    assert!(answer.contains(" 404 ") || token.is_some() && answer.contains(" 401 "), "no frame has come yet: {answer}");
    let (is_over, is_small) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let feeder = scope.spawn(|| {
            let annotator = Arc::new(Annotator::new().unwrap());
            let mut drawn = 0;
            for index in 0.. {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                let (width, height) = if is_small.load(Ordering::SeqCst) { (100, 76) } else { (321, 243) };
                let picture = RgbImage::from_fn(width, height, |_, y| {
                    image::Rgb(if y < height / 2 { [200, 60, 60] } else { [60, 60, 200] })
                });
                let finding = finding(0, "front door", index, picture, &annotator);
                sink.write(&finding).unwrap();
                drawn += usize::from(finding.claim_drawing_time() > Duration::ZERO);
                sink.tick().unwrap();
                std::thread::sleep(Duration::from_millis(40));
            }
            drawn
        });
        // Nobody has connected yet.
        std::thread::sleep(Duration::from_millis(200));
        let watched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| watch(address, &is_small)));
        is_over.store(true, Ordering::SeqCst);
        let drawn = feeder.join().unwrap();
        let watched = watched.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert!(drawn > 0, "somebody has looked");
        watched
    })
}

fn connect(address: &str) -> Result<Box<dyn Source>, CaptureError> {
    let options = OpenOptions { open_timeout: Duration::from_secs(8), read_timeout: Duration::from_secs(8) };
    SourceSpec::parse(address)?.remove(0).open(&options)
}

fn next(player: &mut dyn Source) -> SharedImage {
    player.read().unwrap().expect("a stream has no end").image
}

#[test]
fn players_get_the_picture_and_keep_it_when_its_size_changes() {
    serve_while(None, |address, is_small| {
        let mut player = connect(&address).unwrap();
        for index in 0..40 {
            let picture = next(&mut *player);
            assert_eq!(picture.dimensions(), (322, 244), "even, as H.264 wants it; frame {index}");
            // Above and below: half a picture is easily taken for a whole one.
            let [[red, _, _], [_, _, blue]] = [60, 200].map(|y| picture.get_pixel(300, y).0);
            assert!(red > 170 && blue > 170, "frame {index}: {red} {blue}");
            is_small.store(index > 10, Ordering::SeqCst);
        }
    });
}

#[test]
fn players_do_not_disturb_each_other() {
    serve_while(None, |address, _| {
        let mut first = connect(&address).unwrap();
        // The server takes it for another stream.
        let mut second = connect(&format!("{address}?again")).unwrap();
        (0..10).for_each(|_| drop(next(&mut *second)));
        // More than may have been under way when the second came.
        (0..100).for_each(|_| drop(next(&mut *first)));
        drop(first);
        (0..50).for_each(|_| drop(next(&mut *second)));
        drop(second);
        next(&mut *connect(&address).unwrap());
    });
}

#[test]
fn a_token_is_the_password() {
    let token = Token::new(SECRET).unwrap();
    serve_while(Some(&token), |address, _| {
        assert!(connect(&address).is_err(), "no password");
        let with = |password: &str| address.replace("rtsp://", &format!("rtsp://maskwatch:{password}@"));
        assert!(connect(&with("0123456789abcdee")).is_err(), "a wrong one");
        assert_eq!(next(&mut *connect(&with(SECRET)).unwrap()).dimensions(), (322, 244));
    });
}

/// Ends with the test, whatever becomes of it.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_run_is_watched_by_http_and_rtsp_and_ends_when_asked() {
    let source = common::sample_video();
    // One after another, so that it goes on for as long as is needed. The first stays to be seen.
    let sources = [source.as_str(); 6];
    let options = ["--policy", "live", "--scan", "96", "--serve", "127.0.0.1:0", "--rtsp-out", "127.0.0.1:0"];
    let arguments = [&["run"], &sources[..], &options].concat();
    let mut run = Run(program().args(arguments).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(run.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut announced = |what: &str| {
        let line = lines.find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what} was not announced"));
        line[line.find(what).unwrap() + what.len()..].trim().to_owned()
    };
    let page: SocketAddr = announced("live page: http://").trim_end_matches('/').parse().unwrap();
    let stream = announced("live stream: ");
    assert!(stream.ends_with("/mask_on_off"), "{stream}");
    let rest = std::thread::spawn(move || lines.collect::<Vec<String>>());

    let since = Instant::now();
    while get(page, "/healthz").status != 200 {
        assert!(since.elapsed() < Duration::from_secs(30), "no frame comes");
        std::thread::sleep(Duration::from_millis(50));
    }
    let snapshot = image::load_from_memory(&get(page, "/snapshot/mask_on_off.jpg").body()).unwrap();
    assert_eq!((snapshot.width(), snapshot.height()), (640, 480));
    let (kind, event) = get(page, "/events").event();
    assert!(kind.is_none() && event["source"].as_str().unwrap().starts_with("mask_on_off"), "{kind:?} {event}");
    assert_eq!(next(&mut *connect(&stream).unwrap()).dimensions(), (640, 480));
    let stats = get(page, "/stats").json();
    assert!(stats["sources"][0]["latency_ms"]["rtsp-out"]["count"].as_u64() > Some(0), "{stats}");
    assert!(["live", "ended"].contains(&stats["sources"][0]["state"].as_str().unwrap()), "{stats}");
    let running = |sink| serde_json::json!({"sink": sink, "state": "running", "reason": null});
    assert_eq!(stats["sinks"], serde_json::json!([running("serve"), running("rtsp-out")]));

    let since = Instant::now();
    let pid = run.0.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let code = run.0.wait().unwrap().code();
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    assert_eq!(code, Some(130), "{:?}", rest.join().unwrap());
}
