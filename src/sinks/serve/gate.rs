//! Who is let in: with a token, whoever brings it; without one, programs of this machine.
//!
//! Tokens are compared by their digests, in constant time. A page that was opened with `?token=` gets a cookie, so that its
//! pictures need none; the cookie holds a digest, so that the token itself stays out of the browser's store.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use axum::http::header::{AUTHORIZATION, COOKIE, HOST};
use axum::http::{HeaderMap, Uri};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::sinks::access::Token;

type Fingerprint = [u8; 32];

/// Decides who is let in.
pub(super) struct Gate {
    token: Option<Fingerprint>,
    cookie_name: String,
    cookie: String,
}

/// What the gate says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Admitted,
    /// By the address alone: a cookie is due.
    AdmittedByAddress,
    NoToken,
    /// The request was made to another machine's name, as a page elsewhere does that wants to look in.
    ForeignHost,
}

impl Gate {
    /// A server on `address` that wants this token.
    pub(super) fn new(token: Option<&Token>, address: SocketAddr) -> Self {
        let cookie = token.map_or_else(String::new, |token| {
            let digest = fingerprint(&[b"maskwatch cookie ".as_slice(), token.secret().as_bytes()].concat());
            digest.iter().fold(String::new(), |mut text, byte| {
                write!(text, "{byte:02x}").expect("a String takes everything");
                text
            })
        });
        // Browsers do not tell cookies apart by port.
        let cookie_name = format!("maskwatch_{}", address.port());
        Self { token: token.map(|token| fingerprint(token.secret().as_bytes())), cookie_name, cookie }
    }

    /// Judges a request.
    pub(super) fn judge(&self, uri: &Uri, headers: &HeaderMap) -> Verdict {
        let Some(token) = &self.token else {
            let host = headers.get(HOST).and_then(|host| host.to_str().ok());
            return if host.is_none_or(is_own_name) { Verdict::Admitted } else { Verdict::ForeignHost };
        };
        let matches = |given: &str| bool::from(fingerprint(given.as_bytes()).ct_eq(token));
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        if bearer.is_some_and(|given| matches(given.trim())) || self.has_cookie(headers) {
            return Verdict::Admitted;
        }
        let mut pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        if pairs.any(|(key, value)| key == "token" && matches(&value)) {
            return Verdict::AdmittedByAddress;
        }
        Verdict::NoToken
    }

    /// The `Set-Cookie` line that lets a browser in from now on.
    pub(super) fn set_cookie(&self) -> String {
        format!("{}={}; HttpOnly; SameSite=Strict; Path=/", self.cookie_name, self.cookie)
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
        let mut cookies = lines.flat_map(|line| line.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
        let expected = fingerprint(self.cookie.as_bytes());
        cookies
            .any(|(name, value)| name == self.cookie_name && bool::from(fingerprint(value.as_bytes()).ct_eq(&expected)))
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("wants_token", &self.token.is_some()).finish_non_exhaustive()
    }
}

fn fingerprint(bytes: &[u8]) -> Fingerprint {
    Sha256::digest(bytes).into()
}

/// Whether a `Host` is an address or `localhost`. Any other name may be one that its owner has pointed at this machine, so
/// that the browser takes what we serve for his (DNS rebinding).
fn is_own_name(host: &str) -> bool {
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) && !name.ends_with(':') => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    const SECRET: &str = "0123456789+/abcd";

    fn gate(token: Option<&str>) -> Gate {
        let token = token.map(|token| Token::new(token).unwrap());
        Gate::new(token.as_ref(), "127.0.0.1:8080".parse().unwrap())
    }

    fn judge(gate: &Gate, uri: &str, headers: &[(HeaderName, &str)]) -> Verdict {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        gate.judge(&uri.parse().unwrap(), &headers)
    }

    #[test]
    fn a_token_is_taken_from_header_address_and_cookie() {
        let gate = gate(Some(SECRET));
        let bearer = format!("Bearer {SECRET}");
        assert_eq!(judge(&gate, "/", &[(AUTHORIZATION, &bearer)]), Verdict::Admitted);
        assert_eq!(judge(&gate, "/?token=0123456789%2B/abcd", &[]), Verdict::AdmittedByAddress);
        let set = gate.set_cookie();
        assert!(!set.contains(SECRET) && set.contains("HttpOnly") && set.contains("SameSite=Strict"), "{set}");
        let cookie = format!("other=1; {}", set.split(';').next().unwrap());
        assert_eq!(judge(&gate, "/", &[(COOKIE, &cookie)]), Verdict::Admitted);
    }

    #[test]
    fn anything_else_is_refused() {
        let gate = gate(Some(SECRET));
        assert_eq!(judge(&gate, "/", &[]), Verdict::NoToken);
        assert_eq!(judge(&gate, "/?token=", &[]), Verdict::NoToken);
        assert_eq!(judge(&gate, "/?token=0123456789%2B/abce", &[]), Verdict::NoToken);
        assert_eq!(judge(&gate, "/", &[(AUTHORIZATION, SECRET)]), Verdict::NoToken);
        assert_eq!(judge(&gate, "/", &[(COOKIE, "maskwatch_8080=")]), Verdict::NoToken);
        assert_eq!(judge(&gate, "/", &[(COOKIE, &format!("maskwatch_8080={SECRET}"))]), Verdict::NoToken);
    }

    #[test]
    fn without_a_token_pages_of_others_stay_out() {
        let gate = gate(None);
        for own in ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "[::1]", "192.168.0.2"] {
            assert_eq!(judge(&gate, "/", &[(HOST, own)]), Verdict::Admitted, "{own}");
        }
        for foreign in ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example:80"] {
            assert_eq!(judge(&gate, "/", &[(HOST, foreign)]), Verdict::ForeignHost, "{foreign}");
        }
    }
}
