//! Who may look at live outputs: this machine alone, or whoever knows a token.

use std::fmt;
use std::net::SocketAddr;

/// Fewer characters can be guessed over a network.
const SHORTEST_TOKEN: usize = 16;

/// A secret that opens live outputs to other machines.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Why an output may not be opened as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Others could look.
    #[error(
        "{option} {address} can be reached from other machines, so it wants a token: give --serve-token-file FILE or \
         MASKWATCH_SERVE_TOKEN, or listen on 127.0.0.1"
    )]
    NeedsToken {
        /// The option that asks for it.
        option: &'static str,
        /// Where it would listen.
        address: SocketAddr,
    },
    /// The token is no secret.
    #[error(
        "the token must have at least {SHORTEST_TOKEN} characters, none of them a space or outside ASCII; try \
         'openssl rand -hex 16'"
    )]
    WeakToken,
}

impl Token {
    /// Takes a token of at least 16 visible ASCII characters; space around it does not count.
    ///
    /// # Errors
    ///
    /// [`AccessError::WeakToken`].
    pub fn new(text: &str) -> Result<Self, AccessError> {
        let text = text.trim();
        if text.len() < SHORTEST_TOKEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AccessError::WeakToken);
        }
        Ok(Self(text.to_owned()))
    }

    /// The secret itself.
    #[cfg(any(feature = "serve", feature = "gstreamer"))]
    pub(super) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Refuses to listen where others can look without a token.
///
/// # Errors
///
/// [`AccessError::NeedsToken`] unless the address is this machine's own or there is a token.
pub fn check(option: &'static str, address: SocketAddr, token: Option<&Token>) -> Result<(), AccessError> {
    if token.is_none() && !address.ip().to_canonical().is_loopback() {
        return Err(AccessError::NeedsToken { option, address });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_looks_without_a_token() {
        let token = Token::new("0123456789abcdef").unwrap();
        let allowed = |address: &str| check("--serve", address.parse().unwrap(), None).is_ok();
        assert!(
            ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80"].map(allowed).iter().all(|ok| *ok)
        );
        for address in ["0.0.0.0:80", "[::]:80", "192.168.0.2:80", "[::ffff:192.168.0.2]:80"] {
            assert!(!allowed(address), "{address}");
            assert_eq!(check("--serve", address.parse().unwrap(), Some(&token)), Ok(()));
        }
    }

    #[test]
    fn weak_tokens_are_refused_and_no_token_is_printed() {
        for weak in ["", "short", "fifteen letters", "with a space in it, though long", "ümläutümläutümläut"] {
            assert_eq!(Token::new(weak), Err(AccessError::WeakToken), "{weak}");
        }
        let token = Token::new(" 0123456789abcdef\n").unwrap();
        assert_eq!(token.0, "0123456789abcdef");
        assert!(!format!("{token:?}").contains("0123"));
    }
}
