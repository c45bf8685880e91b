//! Presence for those who can't hold a stream: lists, counts, and entries that live as long as their writer renews them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::backend::Backend;
use super::body::{self, Bound};
use super::error::ApiError;
use super::pages;
use super::publish::{percent_decode, refuse_encoded};
use crate::broker::{Pass, TrackAsk, page_text, parse_page};
use crate::config::value::parse_duration;
use crate::presence::Count;
use crate::replicator::{Listed, Page, Query};
use crate::types::Time;

/// How long an entry lives unless its writer says otherwise.
const TTL: Duration = Duration::from_secs(30);
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(3_600);

#[derive(Debug, Serialize)]
struct Listing<'a> {
    topic: &'a str,
    keys: Vec<KeyRow>,
    count: CountRow,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page: Option<String>,
}

#[derive(Debug, Serialize)]
struct KeyRow {
    key: String,
    metas: Vec<MetaRow>,
}

#[derive(Debug, Serialize)]
struct MetaRow {
    id: String,
    #[serde(rename = "ref")]
    reference: String,
    node: String,
    since: String,
    /// `live`, or `orphaned`.
    state: &'static str,
    /// Of an orphan: when it leaves, unless it is taken over.
    #[serde(skip_serializing_if = "Option::is_none")]
    leaves_in_ms: Option<u64>,
    /// `null` where there are none, or where they are no JSON.
    meta: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta_base64: Option<String>,
}

#[derive(Debug, Serialize)]
struct CountRow {
    keys: usize,
    presences: usize,
}

impl From<Count> for CountRow {
    fn from(count: Count) -> Self {
        Self { keys: count.keys, presences: count.presences }
    }
}

/// `GET /v1/topics/{topic}/presence` and `.../presence/count`.
pub(super) async fn get(
    State(backend): State<Arc<dyn Backend>>,
    Extension(pass): Extension<Pass>,
    method: Method,
    uri: Uri,
) -> Result<Response, ApiError> {
    let path = uri.path().strip_prefix("/v1/topics/").unwrap_or_default();
    if let Some(encoded) = path.strip_suffix("/presence/count") {
        let topic = percent_decode(encoded)?;
        let count = backend.presence_count(&pass, &topic)?;
        return Ok(Json(CountRow::from(count)).into_response());
    }
    let Some(encoded) = path.strip_suffix("/presence") else {
        return Err(pages::method_not_allowed(method, uri).await);
    };
    let topic = percent_decode(encoded)?;
    let query = query(&uri)?;
    let page = backend.presence_list(&pass, &topic, &query)?;
    Ok(Json(listing(&topic, &page)).into_response())
}

/// `PUT /v1/topics/{topic}/presence/{key}/{id}?ttl=30s`: the body is the metadata. Putting it again, on any node, renews it.
pub(super) async fn put(
    State(backend): State<Arc<dyn Backend>>,
    Extension(pass): Extension<Pass>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let Some((topic, key, id)) = entry_path(&uri)? else {
        return Err(pages::method_not_allowed(method, uri).await);
    };
    let ttl = ttl(&uri)?;
    refuse_encoded(&headers)?;
    let limits = backend.limits();
    let bound = Bound { bytes_max: limits.metadata, limit: "metadata", within: limits.idle };
    let meta = body::read(body, bound).await.map_err(|mut error| {
        // The same everywhere: here the body is no payload.
        if error.body.code == "payload_too_large" {
            error.body.code = "metadata_too_large";
        }
        error
    })?;
    let ask = TrackAsk { topic, key, id, meta, revision: 0 };
    let reference = backend.presence_put(&pass, ask, ttl).await?;
    Ok(Json(serde_json::json!({ "ref": reference, "ttl_s": ttl.as_secs_f64() })).into_response())
}

/// `DELETE /v1/topics/{topic}/presence/{key}/{id}`: gone at once. What isn't there is no error: it isn't afterwards either.
pub(super) async fn delete(
    State(backend): State<Arc<dyn Backend>>,
    Extension(pass): Extension<Pass>,
    method: Method,
    uri: Uri,
) -> Result<Response, ApiError> {
    let Some((topic, key, id)) = entry_path(&uri)? else {
        return Err(pages::method_not_allowed(method, uri).await);
    };
    backend.presence_delete(&pass, &topic, &key, &id).await?;
    Ok(Json(serde_json::json!({})).into_response())
}

/// Topic, key and id. The topic may have slashes as they are; key and id have them encoded.
fn entry_path(uri: &Uri) -> Result<Option<(String, String, String)>, ApiError> {
    let path = uri.path().strip_prefix("/v1/topics/").unwrap_or_default();
    let mut parts = path.rsplitn(3, '/');
    let (Some(id), Some(key), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return Ok(None);
    };
    let Some(topic) = rest.strip_suffix("/presence") else { return Ok(None) };
    Ok(Some((percent_decode(topic)?, percent_decode(key)?, percent_decode(id)?)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    key: Option<String>,
    limit: Option<usize>,
    page: Option<String>,
}

fn query(uri: &Uri) -> Result<Query, ApiError> {
    let bad = |message: &str| ApiError::bad_request("bad_query", message, "?key=&limit=&page=");
    let said = axum::extract::Query::<ListQuery>::try_from_uri(uri).map_err(|_| {
        bad("the query is not understood; it may have key, limit (a number) and page, each once")
    })?;
    let ListQuery { key, limit, page } = said.0;
    if limit == Some(0) {
        return Err(bad("limit is at least 1"));
    }
    let after = match page.filter(|page| !page.is_empty()) {
        None => None,
        Some(page) => Some(parse_page(&page).ok_or_else(|| {
            let message = "the page is none that this node has named";
            ApiError::bad_request("bad_page", message, "use next_page of the answer before")
        })?),
    };
    let key = key.filter(|key| !key.is_empty());
    Ok(Query { key, limit: limit.unwrap_or(0), after })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PutQuery {
    ttl: Option<String>,
}

fn ttl(uri: &Uri) -> Result<Duration, ApiError> {
    let bad = |message: String| ApiError::bad_request("bad_ttl", message, "?ttl=30s");
    let said = axum::extract::Query::<PutQuery>::try_from_uri(uri)
        .map_err(|_| bad("the query is not understood; it may have ttl, once".to_owned()))?;
    let Some(text) = said.0.ttl else { return Ok(TTL) };
    let ttl = parse_duration(&text).map_err(|wrong| bad(format!("ttl {wrong}")))?;
    if !(TTL_MIN..=TTL_MAX).contains(&ttl) {
        return Err(bad("ttl is from 1s to 1h".to_owned()));
    }
    Ok(ttl)
}

fn listing<'a>(topic: &'a str, page: &Page) -> Listing<'a> {
    let mut keys: Vec<KeyRow> = Vec::new();
    for Listed { shown, .. } in &page.entries {
        let row = meta_row(shown, page.at);
        match keys.last_mut() {
            Some(last) if last.key == shown.key() => last.metas.push(row),
            _ => keys.push(KeyRow { key: shown.key().to_owned(), metas: vec![row] }),
        }
    }
    let next_page = page.next.as_ref().map(page_text);
    Listing { topic, keys, count: page.count.into(), version: page.version.to_string(), next_page }
}

fn meta_row(shown: &crate::presence::Shown, now: Time) -> MetaRow {
    let meta = shown.meta();
    let json = serde_json::from_slice(meta).ok();
    let is_opaque = json.is_none() && !meta.is_empty();
    let left = shown.leaves_at().map(|at| at.since(now));
    let since = SystemTime::UNIX_EPOCH + Duration::from_millis(shown.since_ms());
    MetaRow {
        id: shown.id().to_owned(),
        reference: shown.reference().to_string(),
        node: shown.node().to_string(),
        since: humantime::format_rfc3339_millis(since).to_string(),
        state: if shown.orphaned() { "orphaned" } else { "live" },
        leaves_in_ms: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        meta: json.unwrap_or(Value::Null),
        meta_base64: is_opaque.then(|| STANDARD.encode(meta)),
    }
}
