//! Live outputs: where they listen, and the token that they want.

use std::net::SocketAddr;
use std::path::Path;

use super::UsageError;
use crate::cli::LiveOutputArgs;
use crate::sinks::access::{self, AccessError, Token};

/// Variable that holds the token, where no file does. Unlike an argument, it is in no list of processes.
pub const TOKEN_VARIABLE: &str = "MASKWATCH_SERVE_TOKEN";

/// Live outputs of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveOutputs {
    /// Where the HTTP server listens, if there is to be one.
    pub serve: Option<SocketAddr>,
    /// Where the RTSP server listens, if there is to be one.
    pub rtsp_out: Option<SocketAddr>,
    /// What they want from whoever looks.
    pub token: Option<Token>,
}

impl LiveOutputs {
    /// Checks what a command line says of them. `variable` is what [`TOKEN_VARIABLE`] holds.
    ///
    /// # Errors
    ///
    /// When an output can be reached from other machines without a token, the token is none, or this build lacks the output.
    pub fn new(args: &LiveOutputArgs, variable: Option<&str>) -> Result<Self, UsageError> {
        let (serve, rtsp_out) = (args.serve.map(|address| address.0), args.rtsp_out.map(|address| address.0));
        for (option, is_given, feature, is_built) in [
            ("--serve", serve.is_some(), "serve", cfg!(feature = "serve")),
            ("--rtsp-out", rtsp_out.is_some(), "gstreamer", cfg!(feature = "gstreamer")),
        ] {
            if is_given && !is_built {
                return Err(UsageError(format!("{option} needs the feature \"{feature}\", which this build lacks")));
            }
        }
        if serve.is_none() && rtsp_out.is_none() {
            return match args.serve_token_file {
                Some(_) => Err(UsageError("--serve-token-file is for --serve and --rtsp-out; leave it out".to_owned())),
                None => Ok(Self::default()),
            };
        }
        if serve.is_some() && serve == rtsp_out && serve.is_some_and(|address| address.port() != 0) {
            return Err(UsageError("--serve and --rtsp-out name the same address; give each its own port".to_owned()));
        }
        let token = match (&args.serve_token_file, variable) {
            (Some(path), _) => Some(read_token(path)?),
            (None, Some(text)) => Some(Token::new(text).map_err(|error| refused(TOKEN_VARIABLE, &error))?),
            (None, None) => None,
        };
        for (option, address) in [("--serve", serve), ("--rtsp-out", rtsp_out)] {
            if let Some(address) = address {
                access::check(option, address, token.as_ref()).map_err(|error| UsageError(error.to_string()))?;
            }
        }
        Ok(Self { serve, rtsp_out, token })
    }

    /// Whether there is any.
    pub fn is_some(&self) -> bool {
        self.serve.is_some() || self.rtsp_out.is_some()
    }
}

fn read_token(path: &Path) -> Result<Token, UsageError> {
    let name = format!("--serve-token-file {}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| UsageError(format!("{name}: {error}")))?;
    Token::new(&text).map_err(|error| refused(&name, &error))
}

fn refused(name: &str, error: &AccessError) -> UsageError {
    UsageError(format!("{name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn outputs(serve: Option<&str>, file: Option<&Path>, variable: Option<&str>) -> Result<LiveOutputs, String> {
        let args = LiveOutputArgs {
            serve: serve.map(|address| address.parse().unwrap()),
            serve_token_file: file.map(Path::to_owned),
            ..LiveOutputArgs::default()
        };
        LiveOutputs::new(&args, variable).map_err(|error| error.0)
    }

    #[test]
    fn the_token_comes_from_a_file_or_else_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "fedcba9876543210\n").unwrap();
        let token =
            |file, variable| outputs(Some("0.0.0.0:8080"), file, variable).map(|outputs| outputs.token.unwrap());
        assert_eq!(token(None, Some(SECRET)), Ok(Token::new(SECRET).unwrap()));
        assert_eq!(token(Some(&*file), Some(SECRET)), Ok(Token::new("fedcba9876543210").unwrap()));
        std::fs::write(&file, "short").unwrap();
        assert!(token(Some(&*file), None).unwrap_err().contains("at least 16"));
        assert!(token(None, Some("short")).unwrap_err().starts_with(TOKEN_VARIABLE));
        assert!(token(Some(Path::new("/nowhere/token")), None).unwrap_err().contains("/nowhere/token"));
    }

    #[test]
    fn others_look_only_with_a_token() {
        assert!(outputs(Some("0.0.0.0:8080"), None, None).unwrap_err().contains("wants a token"));
        assert_eq!(outputs(Some("8080"), None, None).unwrap().token, None);
        assert!(outputs(Some("8080"), None, Some(SECRET)).unwrap().token.is_some(), "a token given is wanted");
        assert_eq!(outputs(None, None, Some("short")), Ok(LiveOutputs::default()), "the variable concerns nobody");
        assert!(outputs(None, Some(Path::new("x")), None).unwrap_err().contains("leave it out"));
    }
}
