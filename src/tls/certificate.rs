//! ● What one certificate says, and the names of nodes in certificates.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;

use crate::types::{ClusterName, NodeName};

/// What people and verifiers look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub subject: String,
    pub issuer: String,
    /// Hosts that it speaks for: names and addresses.
    pub hosts: Vec<String>,
    pub uris: Vec<String>,
    pub is_ca: bool,
    /// It may answer, and it may call. One that says nothing may do both.
    pub for_servers: bool,
    pub for_clients: bool,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
}

/// No longer file of certificates is read.
pub const PEM_LEN_MAX: u64 = 1 << 20;

impl Certificate {
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let (rest, read) =
            x509_parser::parse_x509_certificate(der).map_err(|_| "is no certificate".to_owned())?;
        if !rest.is_empty() {
            return Err("has something behind the certificate".to_owned());
        }
        let broken = |_| "has an extension that can't be read".to_owned();
        let (mut hosts, mut uris) = (Vec::new(), Vec::new());
        let names = read.subject_alternative_name().map_err(broken)?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => hosts.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => hosts.extend(address(bytes)),
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                _ => {}
            }
        }
        let purposes = read.extended_key_usage().map_err(broken)?.map(|found| found.value);
        let may = |one: fn(&x509_parser::extensions::ExtendedKeyUsage<'_>) -> bool| {
            purposes.is_none_or(|purposes| purposes.any || one(purposes))
        };
        Ok(Self {
            subject: read.subject().to_string(),
            issuer: read.issuer().to_string(),
            hosts,
            uris,
            is_ca: read.is_ca(),
            for_servers: may(|purposes| purposes.server_auth),
            for_clients: may(|purposes| purposes.client_auth),
            not_before: read.validity().not_before.timestamp(),
            not_after: read.validity().not_after.timestamp(),
        })
    }

    /// All in a file of PEM, at least one.
    pub fn read_pem(text: &str) -> Result<Vec<Self>, String> {
        ders(text)?.iter().map(|der| Self::read(der)).collect()
    }

    /// The node that it names. Only the form that `node_uri` writes counts, and only where it stands alone.
    pub fn node(&self) -> Option<(ClusterName, NodeName)> {
        let [uri] = self.uris.as_slice() else { return None };
        let (cluster, node) = uri.strip_prefix(CLUSTER_PREFIX)?.split_once(NODE_INFIX)?;
        Some((ClusterName::parse(cluster).ok()?, NodeName::parse(node).ok()?))
    }

    pub fn is_node(&self, cluster: &ClusterName, node: &NodeName) -> bool {
        self.node().is_some_and(|(its, name)| its == *cluster && name == *node)
    }

    /// What is wrong with its time now, in words.
    pub fn untimely(&self, unix_s: i64) -> Option<String> {
        if self.not_after < unix_s {
            Some(format!("has expired ({})", date(self.not_after)))
        } else if unix_s < self.not_before {
            Some(format!("is not valid before {}", date(self.not_before)))
        } else {
            None
        }
    }
}

const CLUSTER_PREFIX: &str = "waxwing://cluster/";
const NODE_INFIX: &str = "/node/";

/// How a node's certificate names it. Names hold nothing that a URI would have to escape.
pub fn node_uri(cluster: &ClusterName, node: &NodeName) -> String {
    format!("{CLUSTER_PREFIX}{cluster}{NODE_INFIX}{node}")
}

pub(super) fn ders(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match read {
        Ok(ders) if ders.is_empty() => Err("holds no certificate in PEM".to_owned()),
        Ok(ders) => Ok(ders),
        Err(_) => Err("holds something that is no PEM".to_owned()),
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(address.to_string())
}

/// `2026-11-27T22:05:00Z`
pub fn date(unix_s: i64) -> String {
    let Ok(seconds) = u64::try_from(unix_s) else { return "before 1970".to_owned() };
    // What its printer can hold: the year 9999.
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.min(253_402_300_799));
    humantime::format_rfc3339_seconds(at).to_string()
}
