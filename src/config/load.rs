//! Default < file < environment < flag, every value judged, before any port opens.

use std::ffi::OsString;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document;
use super::fault::{Faults, Origin};
use super::keys::{self, KEYS};
use super::secrets::{self, reason};
use super::unknown::{self, PREFIX, REDIS_PASSWORD_VARIABLE, SECRET_VARIABLE};
use super::value::{Value, quoted};
use super::{Config, Limits, Secret, TlsConfig, validate};
use crate::rights::Access;
use crate::tls::{Material, Part, Pems};
use crate::types::NodeName;

const RUST_LOG: &str = "RUST_LOG";
const FILE_LEN_MAX: u64 = 1 << 20;

/// Everything that was said, kept so that a reload can hear it again.
#[derive(Clone, Default)]
pub struct Sources {
    pub file: Option<PathBuf>,
    /// `WAXWING_*` and `RUST_LOG`.
    pub env: Vec<(String, OsString)>,
    /// Index into `KEYS` and what was said.
    pub flags: Vec<(usize, String)>,
    /// `--insecure`: both halves at once.
    pub insecure: bool,
    /// `NAME=ADDR`
    pub dial: Vec<String>,
}

impl std::fmt::Debug for Sources {
    // The environment may hold a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("file", &self.file).finish_non_exhaustive()
    }
}

/// What is found out where nobody says it.
#[derive(Debug, Clone)]
pub struct Host {
    pub name: NodeName,
    /// The address that this host uses towards others.
    pub address: Option<IpAddr>,
}

/// A configuration that has been judged whole.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// Where each value came from.
    pub origins: Origins,
}

/// In the order of `KEYS`.
#[derive(Debug, Clone)]
pub struct Origins(Vec<Origin>);

impl Origins {
    pub fn get(&self, index: usize) -> &Origin {
        self.0.get(index).unwrap_or(&Origin::Default)
    }

    pub(super) fn of(&self, section: &str, name: &str) -> &Origin {
        keys::find(section, name).map_or(&Origin::Default, |index| self.get(index))
    }
}

/// What a reload brings. The rest of the configuration waits for the next start.
#[derive(Debug, Clone)]
pub struct Reloaded {
    pub limits: Limits,
    pub log_level: String,
    pub secrets: Vec<Secret>,
    pub tls: TlsConfig,
    pub access: Option<Arc<Access>>,
    /// `section.key` of what has changed and waits for the next start.
    pub waiting: Vec<String>,
}

impl Sources {
    /// The process's environment, as far as it concerns us.
    pub fn from_env() -> Self {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(PREFIX) || name == RUST_LOG)
            .collect();
        Self { env, ..Self::default() }
    }
}

impl Host {
    pub fn look() -> Self {
        let name = nix::unistd::gethostname().unwrap_or_default();
        Self { name: sanitised(&name.to_string_lossy()), address: outward_address() }
    }
}

const EMPTY: &str = "has no key and no issuer, as a file that was cut; to let nobody in, start the node anew with it; to let somebody in: waxwing key create --file FILE";

/// Lawful characters stay, others become `-`.
fn sanitised(host: &str) -> NodeName {
    let lawful = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = host
        .trim()
        .chars()
        .take(crate::types::node::NAME_LEN_MAX)
        .map(|c| if lawful(c) { c } else { '-' })
        .collect();
    NodeName::parse(&name).unwrap_or_else(|_| Config::fallback_name())
}

/// Asks the routing table which address would be used; connecting a UDP socket sends nothing.
fn outward_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // An address of the block reserved for documentation: routed like any other, owned by nobody.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

impl Config {
    pub fn load(sources: Sources) -> Result<Loaded, Faults> {
        load(sources, &Host::look())
    }

    /// The files of the section tls as they are now; where they are named has not changed.
    pub fn reload_tls(&self) -> Result<TlsConfig, Faults> {
        let mut loading = Loading {
            config: self.clone(),
            origins: Origins(vec![Origin::Default; KEYS.len()]),
            faults: Faults::default(),
        };
        loading.config.tls.material = None;
        loading.tls();
        let Loading { config, faults, .. } = loading;
        faults.judge(config.tls)
    }

    /// Hears the same sources again, the file as it is now.
    pub fn reload(&self) -> Result<Reloaded, Faults> {
        let Loaded { config: new, origins } = Self::load(self.sources.clone())?;
        // As a file looks that was cut, or is being written: all sessions would end.
        if new.security.access.as_ref().is_some_and(|access| access.is_empty()) {
            let mut faults = Faults::default();
            faults.add(origins.of("security", "access_file"), "security.access_file", EMPTY);
            return Err(faults);
        }
        let waiting = KEYS
            .iter()
            .filter(|key| !key.live && (key.get)(self) != (key.get)(&new))
            .map(keys::Key::path)
            .collect();
        Ok(Reloaded {
            limits: new.limits,
            log_level: new.log.level,
            secrets: new.cluster.secrets,
            tls: new.tls,
            access: new.security.access,
            waiting,
        })
    }
}

/// A file of this text alone; whether there were faults.
#[cfg(any(test, fuzzing))]
pub(super) fn text_alone(text: &str) -> bool {
    let mut loading = Loading {
        config: Config::defaults(Config::fallback_name()),
        origins: Origins(vec![Origin::Default; KEYS.len()]),
        faults: Faults::default(),
    };
    loading.text(Path::new("waxwing.toml"), text);
    loading.faults.iter().next().is_none()
}

pub(super) fn load(sources: Sources, host: &Host) -> Result<Loaded, Faults> {
    let mut loading = Loading {
        config: Config::defaults(host.name.clone()),
        origins: Origins(vec![Origin::Default; KEYS.len()]),
        faults: Faults::default(),
    };
    if let Some(index) = keys::find("node", "name") {
        loading.origins.0[index] = Origin::Host;
    }
    if let Some(path) = &sources.file {
        loading.file(path);
    }
    loading.environment(&sources.env);
    loading.flags(&sources);
    loading.level_of_rust(&sources.env);
    loading.secrets(&sources.env);
    loading.redis_password(&sources.env);
    loading.tls();
    loading.access();
    loading.data_dir();
    loading.advertise(host);
    let Loading { mut config, origins, mut faults } = loading;
    validate::judge(&config, &origins, &mut faults);
    config.sources = sources;
    faults.judge(Loaded { config, origins })
}

struct Loading {
    config: Config,
    origins: Origins,
    faults: Faults,
}

impl Loading {
    fn set(&mut self, index: usize, value: &Value, origin: &Origin) {
        let key = &KEYS[index];
        match (key.set)(&mut self.config, value) {
            // An empty value of such a key means: find it out.
            Ok(()) if key.blank && value.text() == Ok("") => {}
            Ok(()) => self.origins.0[index] = origin.clone(),
            Err(wrong) => self.faults.add(origin, &key.path(), wrong),
        }
    }

    fn file(&mut self, path: &Path) {
        match read_file(path) {
            Ok(text) => self.text(path, &text),
            Err(what) => {
                self.faults.add(&Origin::File { path: path.into(), line: 0 }, "", what);
            }
        }
    }

    fn text(&mut self, path: &Path, text: &str) {
        let shared: Arc<Path> = path.into();
        let at = |line| Origin::File { path: shared.clone(), line };
        let (entries, syntax) = document::parse(text);
        for fault in syntax {
            self.faults.add(&at(fault.line), "", fault.what);
        }
        for entry in entries {
            let origin = at(entry.line);
            match keys::find(&entry.section, &entry.name) {
                Some(index) => self.set(index, &entry.value, &origin),
                None => {
                    let (section, name) = (shown_key(&entry.section), shown_key(&entry.name));
                    let path = if name.is_empty() { section } else { format!("{section}.{name}") };
                    let what = unknown::key(&entry.section, &entry.name);
                    self.faults.add(&origin, &path, what);
                }
            }
        }
    }

    fn environment(&mut self, env: &[(String, OsString)]) {
        for (name, value) in env.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
            let origin = Origin::Env(name.clone());
            let index = KEYS.iter().position(|key| key.env() == *name);
            match (index, value.to_str()) {
                (Some(index), Some(text)) => {
                    self.set(index, &Value::Loose(text.to_owned()), &origin);
                }
                (Some(index), None) => {
                    self.faults.add(
                        &origin,
                        &KEYS[index].path(),
                        "is no UTF-8 text; write it anew",
                    );
                }
                (None, _) => {
                    if let Some(what) = unknown::variable(name) {
                        self.faults.add(&origin, "", what);
                    }
                }
            }
        }
    }

    fn flags(&mut self, sources: &Sources) {
        if sources.insecure {
            self.config.security.allow_plaintext = true;
            self.config.security.allow_anonymous = true;
            for name in ["allow_plaintext", "allow_anonymous"] {
                if let Some(index) = keys::find("security", name) {
                    self.origins.0[index] = Origin::Flag("--insecure".to_owned());
                }
            }
        }
        for (index, text) in &sources.flags {
            let origin = Origin::Flag(format!("--{}", KEYS[*index].flag()));
            self.set(*index, &Value::Loose(text.clone()), &origin);
        }
        for text in &sources.dial {
            match dial_override(text) {
                Ok(pair) => self.config.cluster.dial.push(pair),
                Err(what) => self.faults.add(&Origin::Flag("--dial".to_owned()), "", what),
            }
        }
    }

    /// RUST_LOG holds where nothing of ours says the level.
    fn level_of_rust(&mut self, env: &[(String, OsString)]) {
        let Some(index) = keys::find("log", "level") else { return };
        let said =
            env.iter().find(|(name, _)| name == RUST_LOG).and_then(|(_, said)| said.to_str());
        match said {
            Some(level) if !level.is_empty() && *self.origins.get(index) == Origin::Default => {
                self.set(index, &Value::Loose(level.to_owned()), &Origin::Env(RUST_LOG.to_owned()));
            }
            _ => {}
        }
    }

    fn secrets(&mut self, env: &[(String, OsString)]) {
        let variable = env.iter().find(|(name, _)| name == SECRET_VARIABLE);
        let origin_of_file = self.origins.of("cluster", "secret_file").clone();
        let key = "cluster.secret_file";
        match (variable, self.config.cluster.secret_file.clone()) {
            (None, None) => {}
            (Some(_), Some(_)) => self.faults.add(
                &origin_of_file,
                key,
                format!("is set, and so is {SECRET_VARIABLE}; keep one of the two"),
            ),
            (Some((name, value)), None) => {
                let origin = Origin::Env(name.clone());
                match value.to_str().map(secrets::parse) {
                    Some(Ok(secrets)) => self.config.cluster.secrets = secrets,
                    Some(Err(wrong)) => {
                        wrong.into_iter().for_each(|(_, what)| self.faults.add(&origin, "", what));
                    }
                    None => self.faults.add(&origin, "", "is no UTF-8 text; write it anew"),
                }
            }
            (None, Some(path)) => {
                match secrets::read_private(&path).map(|text| secrets::parse(&text)) {
                    Ok(Ok(secrets)) => self.config.cluster.secrets = secrets,
                    Ok(Err(wrong)) => {
                        for (line, what) in wrong {
                            let origin =
                                Origin::File { path: path.as_path().into(), line: line.max(1) };
                            self.faults.add(&origin, "", what);
                        }
                    }
                    Err(what) => self.faults.add(&origin_of_file, key, what),
                }
            }
        }
    }

    fn redis_password(&mut self, env: &[(String, OsString)]) {
        let variable = env.iter().find(|(name, _)| name == REDIS_PASSWORD_VARIABLE);
        let key = "redis.password_file";
        let (origin, text) = match (variable, self.config.redis.password_file.clone()) {
            (None, None) => return,
            (Some(_), Some(_)) => {
                let origin = self.origins.of("redis", "password_file").clone();
                let what =
                    format!("is set, and so is {REDIS_PASSWORD_VARIABLE}; keep one of the two");
                return self.faults.add(&origin, key, what);
            }
            (Some((name, value)), None) => {
                let text = value.to_str().map(str::to_owned);
                let text = text.ok_or_else(|| "is no UTF-8 text; write it anew".to_owned());
                (Origin::Env(name.clone()), text)
            }
            (None, Some(path)) => {
                let origin = self.origins.of("redis", "password_file").clone();
                (origin, secrets::read_private(&path))
            }
        };
        match text.and_then(|text| secrets::parse_password(&text)) {
            Ok(password) => self.config.redis.password = Some(password),
            Err(what) => self.faults.add(&origin, key, what),
        }
    }

    fn access(&mut self) {
        let Some(path) = self.config.security.access_file.clone() else { return };
        match secrets::read_access(&path) {
            Ok(Ok(access)) => self.config.security.access = Some(Arc::new(access)),
            Ok(Err(wrong)) => {
                for (line, what) in wrong {
                    let origin = Origin::File { path: path.as_path().into(), line };
                    self.faults.add(&origin, "", what);
                }
            }
            Err(what) => {
                let origin = self.origins.of("security", "access_file").clone();
                self.faults.add(&origin, "security.access_file", what);
            }
        }
    }

    /// The files of the section tls, read and judged together.
    fn tls(&mut self) {
        let TlsConfig { cert, key, client_ca, peer_ca, .. } = self.config.tls.clone();
        let (cert, key) = match (cert, key) {
            (Some(cert), Some(key)) => (cert, key),
            (Some(_), None) => {
                return self.tls_fault("cert", "its key is missing; name it as tls.key");
            }
            (None, Some(_)) => {
                return self.tls_fault("key", "its certificate is missing; name it as tls.cert");
            }
            (None, None) => {
                for (name, said) in [("client_ca", client_ca), ("peer_ca", peer_ca)] {
                    if said.is_some() {
                        let what = "is of no use without a certificate of this node: tls.cert";
                        self.tls_fault(name, what);
                    }
                }
                return;
            }
        };
        let mut read = |name, path: &Path, is_secret| {
            let text =
                if is_secret { secrets::read_private(path) } else { secrets::read_public(path) };
            text.map_err(|what| self.tls_fault(name, what)).ok()
        };
        let cert = read("cert", &cert, false);
        let key = read("key", &key, true);
        let client_ca = client_ca.map(|path| read("client_ca", &path, false));
        let peer_ca = peer_ca.map(|path| read("peer_ca", &path, false));
        let (Some(cert), Some(key)) = (cert, key) else { return };
        if matches!(client_ca, Some(None)) || matches!(peer_ca, Some(None)) {
            return;
        }
        let pems = Pems {
            cert: &cert,
            key: &key,
            client_ca: client_ca.as_ref().and_then(Option::as_deref),
            peer_ca: peer_ca.as_ref().and_then(Option::as_deref),
        };
        match Material::judge(pems, &self.config.cluster.name, &self.config.node.name) {
            Ok(material) => self.config.tls.material = Some(Arc::new(material)),
            Err(all) => {
                for wrong in all {
                    let name = match wrong.part {
                        Part::Cert => "cert",
                        Part::Key => "key",
                        Part::ClientCa => "client_ca",
                        Part::PeerCa => "peer_ca",
                    };
                    self.tls_fault(name, wrong.what);
                }
            }
        }
    }

    fn tls_fault(&mut self, name: &str, what: impl Into<String>) {
        let origin = self.origins.of("tls", name).clone();
        self.faults.add(&origin, &format!("tls.{name}"), what);
    }

    /// A missing directory is made at the start, where its parent exists.
    fn data_dir(&mut self) {
        let Some(dir) = &self.config.node.data_dir else { return };
        let shown = dir.display();
        let what = match std::fs::metadata(dir) {
            Ok(found) if !found.is_dir() => {
                Some(format!("{shown} is no directory; name a directory"))
            }
            Ok(_) => probe_writing(dir).err().map(|error| {
                format!(
                    "{shown} can't be written: {}; let the user that runs waxwing own it",
                    reason(&error)
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let parent = match dir.parent() {
                    Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
                    Some(parent) => parent,
                    None => Path::new("/"),
                };
                (!parent.is_dir()).then(|| format!("{shown} does not exist; mkdir -p {shown}"))
            }
            Err(error) => {
                Some(format!("{shown} can't be read: {}; check the path", reason(&error)))
            }
        };
        if let Some(what) = what {
            let origin = self.origins.of("node", "data_dir").clone();
            self.faults.add(&origin, "node.data_dir", what);
        }
    }

    /// A node that listens on every address tells others the one that this host uses.
    fn advertise(&mut self, host: &Host) {
        let listen = self.config.listen.clone();
        let told = &mut self.config.advertise;
        for (name, address, told) in [
            ("grpc", Some(listen.grpc), &mut told.grpc),
            ("peer", Some(listen.peer), &mut told.peer),
            ("http", listen.http, &mut told.http),
        ] {
            let Some(address) = address.filter(|address| {
                told.is_none() && address.ip().is_unspecified() && address.port() != 0
            }) else {
                continue;
            };
            if let (Some(ip), Some(index)) = (host.address, keys::find("advertise", name)) {
                *told = Some(SocketAddr::new(ip, address.port()).to_string());
                self.origins.0[index] = Origin::Host;
            }
        }
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let refused =
        |error: std::io::Error| format!("can't be read: {}; check the path", reason(&error));
    let found = std::fs::metadata(path).map_err(refused)?;
    if !found.is_file() {
        return Err("is no file; name a file".to_owned());
    }
    if FILE_LEN_MAX < found.len() {
        return Err(format!("has {} bytes; that is no configuration", found.len()));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(refused)?;
    file.take(FILE_LEN_MAX).read_to_end(&mut bytes).map_err(refused)?;
    String::from_utf8(bytes).map_err(|_| "is no UTF-8 text; save it as UTF-8".to_owned())
}

fn probe_writing(dir: &Path) -> std::io::Result<()> {
    let probe = dir.join(format!(".waxwing-probe-{}", std::process::id()));
    std::fs::write(&probe, b"")?;
    std::fs::remove_file(&probe)
}

fn dial_override(text: &str) -> Result<(NodeName, SocketAddr), String> {
    let wrong = || format!("{} must be NAME=IP:PORT, as \"b=127.0.0.1:9001\"", quoted(text));
    let (name, address) = text.split_once('=').ok_or_else(wrong)?;
    let name = NodeName::parse(name).map_err(|_| wrong())?;
    Ok((name, address.parse().map_err(|_| wrong())?))
}

/// A key of the file as it may be shown: it is somebody's text.
fn shown_key(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if text.chars().all(plain) && text.len() <= 60 { text.to_owned() } else { quoted(text) }
}
