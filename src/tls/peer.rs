//! Which certificate is a node's: one that the nodes' authority has signed for calling and answering, and whose only URI is the name of a
//! node of this cluster. Whoever dials expects one name; who is called learns the name, and compares it with the hello.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::certificate::Certificate;
use crate::types::{ClusterName, NodeName};

/// Judges the certificates of other nodes.
#[derive(Debug, Clone)]
pub(super) struct Nodes {
    cluster: ClusterName,
    roots: Arc<RootCertStore>,
    callers: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
}

impl Nodes {
    pub(super) fn new(
        cluster: ClusterName,
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let callers = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { cluster, roots, callers, provider })
    }

    /// For a dialer, who knows whom it wants.
    pub(super) fn expecting(self: &Arc<Self>, node: NodeName) -> ExpectedNode {
        ExpectedNode { nodes: self.clone(), node }
    }

    fn name(&self, certificate: &CertificateDer<'_>) -> Result<NodeName, Error> {
        let refused = || Error::from(CertificateError::NotValidForName);
        let read = Certificate::read(certificate)
            .map_err(|_| Error::from(CertificateError::BadEncoding))?;
        match read.node() {
            Some((cluster, node)) if cluster == self.cluster => Ok(node),
            _ => Err(refused()),
        }
    }

    /// Would others take it for this node, now? In either role.
    pub(super) fn would_take(
        self: &Arc<Self>,
        node: &NodeName,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let [leaf, intermediates @ ..] = chain else { return Err(Error::NoCertificatesPresented) };
        self.verify_client_cert(leaf, intermediates, now)?;
        self.expecting(node.clone()).verify(leaf, intermediates, now)
    }
}

impl ClientCertVerifier for Nodes {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.callers.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.callers.verify_client_cert(end_entity, intermediates, now)?;
        self.name(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.callers.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.callers.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.callers.supported_verify_schemes()
    }
}

/// Takes one node's certificate and no other's.
#[derive(Debug)]
pub(super) struct ExpectedNode {
    nodes: Arc<Nodes>,
    node: NodeName,
}

impl ExpectedNode {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.nodes.roots,
            intermediates,
            now,
            self.nodes.provider.signature_verification_algorithms.all,
        )?;
        if self.nodes.name(end_entity)? != self.node {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(())
    }
}

impl ServerCertVerifier for ExpectedNode {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.nodes.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.nodes.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.nodes.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a certificate is refused for, in words for people.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "is not signed by that authority".to_owned()
        }
        Error::InvalidCertificate(CertificateError::NotValidForName) => {
            "does not name this node of this cluster".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => "is not made for calling and answering".to_owned(),
        other => format!("is refused: {other}"),
    }
}
