//! From `--node` to a channel: each address in turn, and when none answers, what was tried.

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint};

use super::Globals;
use super::unreachable::unreachable;
use crate::client::ClientTls;
use crate::client::connect::channel;
use crate::config::secrets::reason;

/// A channel to the first node that answered.
#[derive(Debug, Clone)]
pub struct Connection {
    pub channel: Channel,
    pub address: String,
}

/// Sent with every call. Shown without the key.
#[derive(Clone, Default)]
pub struct Credentials {
    authorization: Option<MetadataValue<Ascii>>,
    namespace: Option<MetadataValue<Ascii>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Credentials {
    pub fn of(globals: &Globals) -> anyhow::Result<Self> {
        let authorization = match globals.key()? {
            None => None,
            Some(key) => {
                let bearer = [b"Bearer ".as_slice(), key.expose()].concat();
                let mut value = MetadataValue::try_from(bearer.as_slice()).map_err(|_| {
                    anyhow::anyhow!("read key: it holds characters that no key has")
                })?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let namespace = match &globals.namespace {
            Some(namespace) => Some(MetadataValue::try_from(namespace.as_str())?),
            None => None,
        };
        Ok(Self { authorization, namespace })
    }
}

impl Interceptor for Credentials {
    fn call(
        &mut self,
        mut request: tonic::Request<()>,
    ) -> Result<tonic::Request<()>, tonic::Status> {
        let metadata = request.metadata_mut();
        if let Some(value) = &self.authorization {
            metadata.insert("authorization", value.clone());
        }
        if let Some(value) = &self.namespace {
            metadata.insert("waxwing-namespace", value.clone());
        }
        Ok(request)
    }
}

/// To the first of `--node` that answers.
pub async fn connect(globals: &Globals) -> anyhow::Result<Connection> {
    connect_any(&globals.node, globals).await
}

/// Each address has the whole time: a dead first one must not cost the second its chance.
pub async fn connect_any(addresses: &[String], globals: &Globals) -> anyhow::Result<Connection> {
    let tls = globals.tls()?;
    globals.warn_of_plaintext(addresses);
    let mut tried = String::new();
    for address in addresses {
        match dial(address, tls.as_ref(), globals.timeout).await {
            Ok(channel) => return Ok(Connection { channel, address: address.clone() }),
            Err(why) => tried += &format!("\n  {address}: {why}"),
        }
    }
    Err(unreachable(&tried))
}

async fn dial(
    address: &str,
    tls: Option<&ClientTls>,
    timeout: Duration,
) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| "is no address".to_owned())?
        .connect_timeout(timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5));
    match tokio::time::timeout(timeout, channel(&endpoint, tls)).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(root_cause(&error)),
        Err(_) => Err(timed_out(timeout)),
    }
}

pub(super) fn timed_out(timeout: Duration) -> String {
    format!("no answer within {}", humantime::format_duration(timeout))
}

/// "connection refused", not four layers of "transport error".
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.downcast_ref::<std::io::Error>().map_or_else(|| cause.to_string(), reason)
}
