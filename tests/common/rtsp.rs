//! RTSP cameras for tests: the example `rtsp_camera` as a process, and a proxy that breaks connections.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// A running RTSP camera; it ends when this is dropped.
pub struct Camera {
    process: Child,
    pub port: u16,
}

impl Camera {
    /// Starts one on a port, or on any that is free if it is 0, and waits until it listens.
    pub fn start(port: u16, options: &[&str]) -> Self {
        let video = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/mask_on_off.mp4");
        let mut process = Command::new(example("rtsp_camera"))
            .args([video, "--seconds", "4", "--size", "320x240", "--until-eof", "--port", &port.to_string()])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect(
                "the example rtsp_camera; plain `cargo test` builds it, and so does `cargo build --release --examples`",
            );
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let port = address.trim().trim_end_matches("/camera").rsplit(':').next().unwrap().parse();
        Self { process, port: port.unwrap_or_else(|_| panic!("no address: {address:?}")) }
    }

    pub fn url(&self, path: &str) -> String {
        url(self.port, path)
    }

    /// SIGSTOP makes it connected but silent, SIGCONT mends that.
    pub fn signal(&self, signal: &str) {
        kill(self.process.id(), signal);
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        // Gone already, if a test has killed it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn url(port: u16, path: &str) -> String {
    format!("rtsp://127.0.0.1:{port}/{path}")
}

pub fn kill(process: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &process.to_string()]).status().unwrap().success());
}

fn example(name: &str) -> PathBuf {
    // .../target/PROFILE/deps/TEST
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples").join(name)
}

/// What happens to what a camera sends.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Both ways are closed after so many bytes.
    CutAfter(usize),
    /// From so many bytes on, one byte in so many is flipped.
    FlipFrom(usize, usize),
}

/// Stands between a camera and its viewers; returns its own port. The first connections have the faults of the plan, later
/// ones none.
pub fn proxy(camera: u16, plan: &[Fault]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut plan: VecDeque<Fault> = plan.iter().copied().collect();
    let accept = move || {
        for viewer in listener.incoming() {
            let viewer = viewer.unwrap();
            let Ok(camera) = TcpStream::connect(("127.0.0.1", camera)) else { continue };
            let both = Arc::new(Mutex::new([viewer.try_clone().unwrap(), camera.try_clone().unwrap()]));
            let fault = plan.pop_front();
            for (name, from, to, fault) in [
                ("requests", viewer.try_clone().unwrap(), camera.try_clone().unwrap(), None),
                ("stream", camera, viewer, fault),
            ] {
                let both = Arc::clone(&both);
                let copy = move || {
                    pump(from, to, fault);
                    for stream in &*both.lock().unwrap() {
                        // Closed by the other side, if it fails.
                        let _ = stream.shutdown(Shutdown::Both);
                    }
                };
                std::thread::Builder::new().name(name.to_owned()).spawn(copy).unwrap();
            }
        }
    };
    std::thread::Builder::new().name("proxy".to_owned()).spawn(accept).unwrap();
    port
}

fn pump(mut from: TcpStream, mut to: TcpStream, fault: Option<Fault>) {
    let mut buffer = [0; 4096];
    let mut passed = 0;
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let mut bytes = &mut buffer[..read];
        match fault {
            Some(Fault::CutAfter(limit)) if passed + read > limit => bytes = &mut buffer[..limit - passed],
            Some(Fault::FlipFrom(start, every)) => {
                for (index, byte) in bytes.iter_mut().enumerate() {
                    if passed + index > start && (passed + index) % every == 0 {
                        *byte ^= 0xa5;
                    }
                }
            }
            _ => {}
        }
        if to.write_all(bytes).is_err() || bytes.len() < read {
            break;
        }
        passed += read;
    }
}
