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

/// Stands between a camera and its viewers; returns its own port. The first connections on which a viewer asks for something have
/// the faults of the plan, later ones none. Whoever only looks whether anybody answers uses up no fault.
pub fn proxy(camera: u16, plan: &[Fault]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let plan: Arc<Mutex<VecDeque<Fault>>> = Arc::new(Mutex::new(plan.iter().copied().collect()));
    let accept = move || {
        for viewer in listener.incoming() {
            let (viewer, plan) = (viewer.unwrap(), Arc::clone(&plan));
            let serve = move || {
                // Closed by the viewer without a word, if it fails.
                if viewer.peek(&mut [0]).is_ok_and(|bytes| bytes > 0) {
                    let fault = plan.lock().unwrap().pop_front();
                    connect(viewer, camera, fault);
                }
            };
            std::thread::Builder::new().name("viewer".to_owned()).spawn(serve).unwrap();
        }
    };
    std::thread::Builder::new().name("proxy".to_owned()).spawn(accept).unwrap();
    port
}

/// Copies both ways between a viewer and a camera until one of them ends.
fn connect(viewer: TcpStream, camera: u16, fault: Option<Fault>) {
    let Ok(camera) = TcpStream::connect(("127.0.0.1", camera)) else { return };
    let both = [viewer.try_clone().unwrap(), camera.try_clone().unwrap()];
    let close = move || {
        for stream in &both {
            // Closed by the other side, if it fails.
            let _ = stream.shutdown(Shutdown::Both);
        }
    };
    let (to_camera, to_viewer) = (camera.try_clone().unwrap(), viewer.try_clone().unwrap());
    std::thread::scope(|scope| {
        let requests = || {
            pump(viewer, to_camera, None);
            close();
        };
        std::thread::Builder::new().name("requests".to_owned()).spawn_scoped(scope, requests).unwrap();
        pump(camera, to_viewer, fault);
        close();
    });
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
