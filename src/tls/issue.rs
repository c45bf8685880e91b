//! Makes a small authority and certificates for those who have none.
//!
//! Keys are P-256, which every client understands. Times are given, in seconds since 1970: no clock is read here.

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

use super::certificate::node_uri;
use crate::types::{ClusterName, NodeName};

/// Both in PEM.
pub struct Issued {
    pub cert: String,
    pub key: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

/// From when, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Validity {
    pub unix_s: i64,
    pub days: u32,
}

/// So that a host whose clock is a little behind can use it at once.
const BACKDATED_S: i64 = 3_600;
/// A node is asked at these by whoever stands beside it.
pub(crate) const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// An authority of its own.
pub fn authority(name: &str, validity: Validity) -> Result<Issued, String> {
    let mut params = params(name, validity)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let cert = params.self_signed(&key).map_err(|error| error.to_string())?;
    Ok(Issued { cert: cert.pem(), key: key.serialize_pem() })
}

/// Signs for others.
pub struct Authority(Issuer<'static, KeyPair>);

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Both in PEM.
    pub fn read(cert: &str, key: &str) -> Result<Self, String> {
        let key = KeyPair::from_pem(key).map_err(|_| "the authority's key can't be read")?;
        let issuer = Issuer::from_ca_cert_pem(cert, key)
            .map_err(|_| "the authority's certificate can't be read")?;
        Ok(Self(issuer))
    }

    /// For a node: to answer clients under `hosts`, and to call and answer other nodes under its name.
    pub fn node(
        &self,
        cluster: &ClusterName,
        node: &NodeName,
        hosts: &[String],
        validity: Validity,
    ) -> Result<Issued, String> {
        let mut params = params(node.as_str(), validity)?;
        let own = LOCAL.iter().map(|host| (*host).to_owned());
        let mut all: Vec<String> = own.chain(hosts.iter().cloned()).collect();
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|host| seen.insert(host.clone()));
        params.subject_alt_names =
            all.iter().map(|host| host_name(host)).collect::<Result<_, _>>()?;
        params.subject_alt_names.push(SanType::URI(text(&node_uri(cluster, node))?));
        self.leaf(
            params,
            &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        )
    }

    /// For a client: it names no node, so that no node takes it for one.
    pub fn client(&self, name: &str, validity: Validity) -> Result<Issued, String> {
        let mut params = params(name, validity)?;
        if let Ok(name) = text(name) {
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        self.leaf(params, &[ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn leaf(
        &self,
        mut params: CertificateParams,
        purposes: &[ExtendedKeyUsagePurpose],
    ) -> Result<Issued, String> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = purposes.to_vec();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let cert = params.signed_by(&key, &self.0).map_err(|error| error.to_string())?;
        Ok(Issued { cert: cert.pem(), key: key.serialize_pem() })
    }
}

fn params(name: &str, Validity { unix_s, days }: Validity) -> Result<CertificateParams, String> {
    let at =
        |unix_s| OffsetDateTime::from_unix_timestamp(unix_s).map_err(|error| error.to_string());
    let mut params = CertificateParams::default();
    params.not_before = at(unix_s - BACKDATED_S)?;
    params.not_after = at(unix_s + i64::from(days) * 86_400)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn host_name(host: &str) -> Result<SanType, String> {
    match host.parse() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => text(host).map(SanType::DnsName),
    }
}

fn text(text: &str) -> Result<Ia5String, String> {
    Ia5String::try_from(text).map_err(|_| format!("{text:?} can't stand in a certificate"))
}
