//! The plainest HTTP client there is, so that tests see the very bytes of a server.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The beginning of a response, and what comes after it.
pub struct Reply {
    pub status: u16,
    /// Lines as they came, names in lower case.
    pub headers: Vec<(String, String)>,
    pub rest: BufReader<TcpStream>,
}

/// Asks by HTTP 1.0, which has neither chunks nor a second request.
pub fn ask(address: SocketAddr, method: &str, path: &str, headers: &[&str]) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    stream.write_all(format!("{method} {path} HTTP/1.0\r\n{lines}\r\n").as_bytes()).unwrap();
    let mut rest = BufReader::new(stream);
    let first = line(&mut rest);
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{first:?}"));
    let mut headers = Vec::new();
    loop {
        let line = line(&mut rest);
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Reply { status, headers, rest }
}

pub fn get(address: SocketAddr, path: &str) -> Reply {
    ask(address, "GET", path, &[])
}

/// A line without its end.
pub fn line(stream: &mut impl BufRead) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// All that is left, of a response that ends.
    pub fn body(mut self) -> Vec<u8> {
        let mut body = Vec::new();
        self.rest.read_to_end(&mut body).unwrap();
        body
    }

    pub fn text(self) -> String {
        String::from_utf8(self.body()).unwrap()
    }

    pub fn json(self) -> serde_json::Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The next picture of a stream of them.
    pub fn part(&mut self) -> Vec<u8> {
        let mut length = None;
        loop {
            let line = line(&mut self.rest);
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.parse().ok();
            } else if let (true, Some(length)) = (line.is_empty(), length) {
                let mut picture = vec![0; length];
                self.rest.read_exact(&mut picture).unwrap();
                return picture;
            }
        }
    }

    /// The next server-sent event: its kind, if it has one, and its data.
    pub fn event(&mut self) -> (Option<String>, serde_json::Value) {
        let mut kind = None;
        loop {
            let line = line(&mut self.rest);
            if let Some(name) = line.strip_prefix("event: ") {
                kind = Some(name.to_owned());
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (kind, serde_json::from_str(data).unwrap());
            }
        }
    }
}
