//! Which address leads where, and who is let in.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::gate::Verdict;
use super::hub::Hub;
use super::{metrics, status, streams};

/// The live page: one file, which fetches nothing from elsewhere.
const PAGE: &str = include_str!("page.html");
/// Whom browsers may fetch from on behalf of the page.
const PAGE_POLICY: &str = "default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src 'unsafe-inline'; \
                           script-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
const HEALTH: &str = "/healthz";

/// The addresses of the server.
pub(super) fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/snapshot/{file}", get(streams::snapshot))
        .route("/stream/{file}", get(streams::pictures))
        .route("/events", get(streams::events))
        .route(HEALTH, get(status::health))
        .route("/stats", get(status::stats))
        .route("/metrics", get(metrics::metrics))
        .fallback(async || refusal(StatusCode::NOT_FOUND, "there is no such page; start at /"))
        .layer(from_fn_with_state(Arc::clone(&hub), admit))
        .with_state(hub)
}

async fn page() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, PAGE_POLICY)], PAGE)
}

/// Lets requests in or not, and tells browsers to keep what they get to themselves.
async fn admit(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    let verdict = match request.uri().path() {
        // Asked by programs that know no token, which it tells no more than whether all is well.
        HEALTH => Verdict::Admitted,
        _ => hub.gate.judge(request.uri(), request.headers()),
    };
    let mut response = match verdict {
        Verdict::Admitted | Verdict::AdmittedByAddress => next.run(request).await,
        Verdict::NoToken => {
            let message = "a token is wanted: open /?token=TOKEN, or send 'Authorization: Bearer TOKEN'";
            let mut response = refusal(StatusCode::UNAUTHORIZED, message);
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
        Verdict::ForeignHost => {
            let message = "use the address of this machine or localhost, or run with a token";
            refusal(StatusCode::MISDIRECTED_REQUEST, message)
        }
    };
    let headers = response.headers_mut();
    if verdict == Verdict::AdmittedByAddress
        && let Ok(cookie) = hub.gate.set_cookie().parse()
    {
        headers.insert(SET_COOKIE, cookie);
    }
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// An error as programs and people can read it.
pub(super) fn refusal(status: StatusCode, message: &str) -> Response {
    let mut response = (status, Json(json!({ "error": message }))).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("2"));
    }
    response
}

/// There is no source of this name, or the file of it is called otherwise.
pub(super) fn no_such_source(hub: &Hub, asked: &str) -> Response {
    let names: Vec<&str> = hub.sources.iter().map(|source| source.name.as_str()).collect();
    let message = format!("there is no {asked}; sources are {}, as NAME.jpg or NAME.mjpg", names.join(", "));
    refusal(StatusCode::NOT_FOUND, &message)
}
