//! What goes on until the viewer leaves: pictures of a source, and events.
//!
//! A body is asked for its next piece only once the last is on its way, so a slow viewer skips pictures and loses events,
//! and holds no memory but a few pieces that all viewers share.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::hub::Hub;
use super::picture::{BOUNDARY, PictureError};
use super::routes::{no_such_source, refusal};

/// How often a picture is sent again, or a comment among events, where nothing happens: viewers that have vanished without a
/// word are noticed by that.
const REPEAT: Duration = Duration::from_secs(5);
/// How soon a picture that no other follows is sent for the second time: Chromium shows a picture when the next begins.
const SHOW: Duration = Duration::from_millis(200);

/// `/snapshot/SOURCE.jpg`
pub(super) async fn snapshot(State(hub): State<Arc<Hub>>, Path(file): Path<String>) -> Response {
    let Some(source) = file.strip_suffix(".jpg").and_then(|name| hub.find(name)) else {
        return no_such_source(&hub, &file);
    };
    match hub.sources[source].picture().await {
        Ok(picture) => ([(CONTENT_TYPE, "image/jpeg")], picture.jpeg()).into_response(),
        Err(error @ PictureError::NoFrame) => refusal(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        Err(error) => {
            tracing::warn!("no snapshot of {}: {error}", hub.sources[source].name);
            refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
        }
    }
}

/// `/stream/SOURCE.mjpg`: the newest picture, over and over.
pub(super) async fn pictures(State(hub): State<Arc<Hub>>, Path(file): Path<String>) -> Response {
    let Some(source) = file.strip_suffix(".mjpg").and_then(|name| hub.find(name)) else {
        return no_such_source(&hub, &file);
    };
    let Some(seat) = hub.seat() else { return full(&hub) };
    let source = Arc::clone(&hub.sources[source]);
    let viewing = source.view();
    let mut stopping = hub.stopping();
    let mut changes = source.changes();
    let parts = stream! {
        let _held = (seat, viewing);
        yield Ok::<_, Infallible>(Bytes::from(format!("--{BOUNDARY}\r\n")));
        let mut sent = None;
        let mut patience = REPEAT;
        loop {
            // Before the picture, so that what comes while it is made is not missed.
            changes.mark_unchanged();
            match source.picture().await {
                Ok(picture) => {
                    patience = if sent.replace(picture.number) == Some(picture.number) { REPEAT } else { SHOW };
                    yield Ok(picture.part());
                }
                Err(PictureError::NoFrame) => {}
                Err(error) => {
                    tracing::warn!("the stream of {} ends: {error}", source.name);
                    break;
                }
            }
            tokio::select! {
                () = stopped(&mut stopping) => break,
                // The sender lives as long as the source that is held here.
                _ = tokio::time::timeout(patience, changes.changed()) => {}
            }
        }
    };
    let kind = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
    ([(CONTENT_TYPE, kind)], Body::from_stream(parts)).into_response()
}

/// `/events`: server-sent events, one a frame, of all sources or of `?source=NAME`.
pub(super) async fn events(State(hub): State<Arc<Hub>>, RawQuery(query): RawQuery) -> Response {
    let wanted = url::form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes())
        .find_map(|(key, value)| (key == "source").then(|| value.into_owned()));
    let only = match wanted.as_deref().map(|name| hub.find(name).ok_or(name)) {
        None => None,
        Some(Ok(source)) => Some(source),
        Some(Err(name)) => return no_such_source(&hub, name),
    };
    let Some(seat) = hub.seat() else { return full(&hub) };
    let mut stopping = hub.stopping();
    let mut heard = hub.listen();
    let messages = stream! {
        let _held = seat;
        yield Ok::<_, Infallible>(Bytes::from_static(b"retry: 2000\n\n"));
        loop {
            let next = tokio::select! {
                () = stopped(&mut stopping) => break,
                next = tokio::time::timeout(REPEAT, heard.recv()) => next,
            };
            match next {
                Ok(Ok(event)) if only.is_none_or(|source| source == event.source) => yield Ok(event.bytes),
                Ok(Ok(_)) => {}
                Ok(Err(RecvError::Lagged(lost))) => {
                    hub.lose_events(lost);
                    yield Ok(Bytes::from(format!("event: gap\ndata: {{\"lost\":{lost}}}\n\n")));
                }
                Ok(Err(RecvError::Closed)) => break,
                Err(_) => yield Ok(Bytes::from_static(b": nothing new\n\n")),
            }
        }
    };
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(messages)).into_response()
}

/// Waits until the server is to end.
pub(super) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn full(hub: &Hub) -> Response {
    let message = format!("all {} places for viewers are taken; try again later", hub.limits.viewers);
    refusal(StatusCode::SERVICE_UNAVAILABLE, &message)
}
