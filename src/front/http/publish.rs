//! Publishing by POST: one payload to a topic of the path, or an array of messages.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::backend::{Backend, Receipt};
use super::body::{self, Bound};
use super::error::{ApiError, ErrorBody};
use super::{ANSWER_WITHIN, ITEMS_MAX, pages};
use crate::broker::{BrokerError, Pass};
use crate::config::Limits;
use crate::pubsub::{Messages, MessagesBuilder};
use crate::router::Confirm;

/// A run goes to subscribers as one gRPC message, and over links as one item: far below what their libraries and ours take.
const RUN_BYTES_MAX: usize = 256 << 10;

#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
struct Published {
    id: String,
    members: u32,
    subscriptions: u64,
    unknown: u32,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum ItemResult {
    Published(Published),
    Refused { error: ErrorBody },
}

/// `POST /v1/topics/{topic}/publish`.
pub(super) async fn one(
    State(backend): State<Arc<dyn Backend>>,
    Extension(pass): Extension<Pass>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let Some(encoded) =
        uri.path().strip_prefix("/v1/topics/").and_then(|p| p.strip_suffix("/publish"))
    else {
        return Err(pages::method_not_allowed(method, uri).await);
    };
    let topic = percent_decode(encoded)?;
    let confirm = confirm(&uri)?;
    let event =
        match headers.get("waxwing-event").map(|value| std::str::from_utf8(value.as_bytes())) {
            None => "",
            Some(Ok(event)) => event,
            Some(Err(_)) => {
                return Err(ApiError::bad_request(
                    "bad_event",
                    "the header Waxwing-Event is not UTF-8",
                    "",
                ));
            }
        };
    refuse_encoded(&headers)?;
    let limits = backend.limits();
    let bound = Bound { bytes_max: limits.payload, limit: "payload", within: limits.idle };
    let payload = body::read(body, bound).await?;

    let messages = if event.is_empty() {
        Messages::single(payload)
    } else {
        let mut builder = MessagesBuilder::default();
        builder.push(&payload, event, []);
        builder.finish()
    };
    let receipt = publish(&backend, &pass, &topic, messages, confirm).await?;
    let Some(published) = receipt_rows(receipt).next() else {
        let message = "the node gave no receipt";
        return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message, ""));
    };
    Ok(Json(published).into_response())
}

/// `POST /v1/publish`. The array is published in its order; what is wrong with one message stands in its place among the results.
pub(super) async fn many(
    State(backend): State<Arc<dyn Backend>>,
    Extension(pass): Extension<Pass>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let confirm = confirm(&uri)?;
    refuse_encoded(&headers)?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !kind.is_some_and(is_json) {
        let message = "this path takes application/json";
        let hint = "send the header content-type: application/json";
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            message,
            hint,
        ));
    }
    let limits = backend.limits();
    let bound = Bound { bytes_max: limits.frame, limit: "frame", within: limits.idle };
    let json = body::read(body, bound).await?;
    let items: Items = serde_json::from_slice(&json).map_err(|error| {
        let message: String = error.to_string().chars().take(200).collect();
        let hint = "[{\"topic\":\"room:1\",\"payload\":\"hello\"}]";
        ApiError::bad_request("bad_json", message, hint)
    })?;

    let mut results = Vec::with_capacity(items.0.len());
    for run in runs(items.0, &limits) {
        match run {
            Run::Bad(error) => results.push(ItemResult::Refused { error: error.body }),
            Run::Good { topic, messages } => {
                let count = messages.len();
                match publish(&backend, &pass, &topic, messages, confirm).await {
                    Ok(receipt) => results.extend(receipt_rows(receipt).map(ItemResult::Published)),
                    Err(error) => results.extend(
                        (0..count).map(|_| ItemResult::Refused { error: error.body.clone() }),
                    ),
                }
            }
        }
    }
    Ok(Json(serde_json::json!({ "results": results })).into_response())
}

/// Cutting a publish off does not undo it, so the error says that nobody knows.
async fn publish(
    backend: &Arc<dyn Backend>,
    pass: &Pass,
    topic: &str,
    messages: Messages,
    confirm: Confirm,
) -> Result<Receipt, ApiError> {
    let publish = backend.publish(pass, topic, messages, confirm);
    match tokio::time::timeout(ANSWER_WITHIN, publish).await {
        Ok(result) => Ok(result?),
        Err(_) => {
            let message = format!("no answer within {} s", ANSWER_WITHIN.as_secs());
            let hint = "the message may or may not have been published";
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unknown", message, hint))
        }
    }
}

fn receipt_rows(receipt: Receipt) -> impl Iterator<Item = Published> {
    let Receipt { ids, members, subscriptions, unknown } = receipt;
    ids.into_iter().map(move |id| Published { id, members, subscriptions, unknown })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    topic: String,
    payload: Option<String>,
    payload_base64: Option<String>,
    #[serde(default)]
    event: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// At most `ITEMS_MAX` of them, judged while reading.
#[derive(Debug)]
struct Items(Vec<Item>);

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded;
        impl<'de> Visitor<'de> for Bounded {
            type Value = Items;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of messages")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    if items.len() == ITEMS_MAX {
                        let message = format!("more than {ITEMS_MAX} messages in one request");
                        return Err(A::Error::custom(message));
                    }
                    items.push(item);
                }
                Ok(Items(items))
            }
        }
        deserializer.deserialize_seq(Bounded)
    }
}

#[derive(Debug)]
enum Run {
    Bad(ApiError),
    /// Consecutive messages of one topic, published in one go.
    Good {
        topic: String,
        messages: Messages,
    },
}

/// Cuts the array where the topic changes, where a run grows too long and where a message is bad, keeping the order.
fn runs(items: Vec<Item>, limits: &Limits) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut open: Option<(String, MessagesBuilder, usize)> = None;
    let close = |open: &mut Option<(String, MessagesBuilder, usize)>, runs: &mut Vec<Run>| {
        if let Some((topic, builder, _)) = open.take() {
            runs.push(Run::Good { topic, messages: builder.finish() });
        }
    };
    for item in items {
        let payload = match payload(&item, limits) {
            Ok(payload) => payload,
            Err(error) => {
                close(&mut open, &mut runs);
                runs.push(Run::Bad(error));
                continue;
            }
        };
        let size = payload.len() + fields_len(&item);
        let ends =
            |topic: &String, bytes: usize| *topic != item.topic || bytes + size > RUN_BYTES_MAX;
        if open.as_ref().is_some_and(|(topic, _, bytes)| ends(topic, *bytes)) {
            close(&mut open, &mut runs);
        }
        let (_, builder, bytes) =
            open.get_or_insert_with(|| (item.topic, MessagesBuilder::default(), 0));
        *bytes += size;
        let headers = item.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        builder.push(&payload, &item.event, headers);
    }
    close(&mut open, &mut runs);
    runs
}

/// Sizes are judged here too, so that one message too large does not take its neighbours with it.
fn payload(item: &Item, limits: &Limits) -> Result<Vec<u8>, ApiError> {
    let payload = match (&item.payload, &item.payload_base64) {
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(base64)) => STANDARD.decode(base64).map_err(|error| {
            let message = format!("payload_base64 is not base64: {error}");
            ApiError::bad_request("bad_base64", message, "standard alphabet, with padding")
        })?,
        (None, None) => Vec::new(),
        (Some(_), Some(_)) => {
            let message = "a message has either payload or payload_base64";
            return Err(ApiError::bad_request("two_payloads", message, ""));
        }
    };
    if payload.len() > limits.payload {
        return Err(
            BrokerError::PayloadTooLarge { size: payload.len(), max: limits.payload }.into()
        );
    }
    let size = fields_len(item);
    if size > limits.headers {
        return Err(BrokerError::HeadersTooLarge { size, max: limits.headers }.into());
    }
    Ok(payload)
}

fn fields_len(item: &Item) -> usize {
    let headers = item.headers.iter().map(|(name, value)| name.len() + value.len());
    headers.sum::<usize>() + item.event.len()
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || essence.to_ascii_lowercase().ends_with("+json")
}

pub(super) fn refuse_encoded(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            let message = "compressed bodies are not taken";
            Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_encoding",
                message,
                "",
            ))
        }
        _ => Ok(()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    confirm: Option<String>,
}

fn confirm(uri: &Uri) -> Result<Confirm, ApiError> {
    let bad = |message: &str| {
        ApiError::bad_request("bad_query", message, "?confirm=none, node or cluster")
    };
    let query = axum::extract::Query::<Query>::try_from_uri(uri)
        .map_err(|_| bad("the query is not understood; it may have confirm, once"))?;
    match query.0.confirm.as_deref() {
        None | Some("none") => Ok(Confirm::None),
        Some("node") => Ok(Confirm::Node),
        Some("cluster") => Ok(Confirm::Cluster),
        Some(_) => Err(bad("confirm is one of none, node, cluster")),
    }
}

/// Strict: what is not two hexadecimal digits after `%`, or not UTF-8 in the end, is an error and no guess. `+` is itself.
pub(super) fn percent_decode(text: &str) -> Result<String, ApiError> {
    let bad = |message: &str| {
        let hint = "percent-encode names as UTF-8: caf%C3%A9";
        ApiError::bad_request("bad_topic_encoding", message, hint)
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let Some((high, low)) = after.first().zip(after.get(1)).filter(|_| first == b'%') else {
            if first == b'%' {
                return Err(bad("a % in the path lacks its two digits"));
            }
            bytes.push(first);
            rest = after;
            continue;
        };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
            return Err(bad("a % in the path lacks its two digits"));
        };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| bad("not a byte"))?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| bad("a name in the path is not UTF-8"))
}
