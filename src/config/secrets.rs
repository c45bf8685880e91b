//! Cluster secrets: from a file that only its owner can read, or from the environment; never from the command line.
//!
//! What is wrong with a secret is said without showing any of it.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Secret;
use super::value::Wrong;
use crate::rights::Access;

const SECRET_LEN_MIN: usize = 16;
const SECRET_LEN_MAX: usize = 1024;
/// Two are enough to change one without a stop.
const SECRETS_MAX: usize = 16;
const FILE_LEN_MAX: u64 = 64 * 1024;
/// Of a file that may have an entry for each of many clients.
const LONG_FILE_LEN_MAX: u64 = 64 << 20;

/// Makes a secret file.
pub(super) const RECIPE: &str =
    "head -c 32 /dev/urandom | base64 > gossip.keys && chmod 600 gossip.keys";

/// One key a line; `#` starts a comment line. The line's number with each fault, 0 for the whole.
pub(super) fn parse(text: &str) -> Result<Vec<Secret>, Vec<(usize, Wrong)>> {
    let mut secrets = Vec::new();
    let mut wrong = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match check(line) {
            Ok(()) => secrets.push(Secret::new(line.into())),
            Err(why) => wrong.push((i + 1, why)),
        }
    }
    if secrets.is_empty() && wrong.is_empty() {
        wrong.push((0, format!("holds no secret; make one: {RECIPE}")));
    }
    if SECRETS_MAX < secrets.len() {
        wrong.push((0, format!("holds {} secrets; keep at most {SECRETS_MAX}", secrets.len())));
    }
    if wrong.is_empty() { Ok(secrets) } else { Err(wrong) }
}

fn check(line: &str) -> Result<(), Wrong> {
    if line.len() < SECRET_LEN_MIN {
        return Err(format!(
            "the secret has {} characters; it must have at least {SECRET_LEN_MIN}: {RECIPE}",
            line.chars().count()
        ));
    }
    if SECRET_LEN_MAX < line.len() {
        return Err(format!(
            "the secret is longer than {SECRET_LEN_MAX} bytes; make a shorter one"
        ));
    }
    if line.chars().any(char::is_control) {
        return Err(
            "the secret holds a control character; write it as text, as base64 does".to_owned()
        );
    }
    Ok(())
}

/// One line, which clients type or have in a URL.
pub(super) fn parse_password(text: &str) -> Result<Secret, Wrong> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err("holds no password; write one, or leave this out".to_owned());
    }
    if SECRET_LEN_MAX < text.len() {
        return Err(format!(
            "the password is longer than {SECRET_LEN_MAX} bytes; make a shorter one"
        ));
    }
    if text.chars().any(char::is_control) {
        return Err("the password must be one line without control characters".to_owned());
    }
    Ok(Secret::new(text.into()))
}

/// The text of a file that holds secrets, if nobody but its owner can read it; or nobody but this process's group, where root owns it
/// and this process is not root: that is how an orchestrator hands over secrets.
pub(crate) fn read_private(path: &Path) -> Result<String, Wrong> {
    read(path, true, FILE_LEN_MAX)
}

/// As `read_private`, of a file with an entry for each of many clients.
pub(crate) fn read_private_long(path: &Path) -> Result<String, Wrong> {
    read(path, true, LONG_FILE_LEN_MAX)
}

/// The file that says who is let in, and those that it names, found beside it.
pub(crate) fn read_access(path: &Path) -> Result<Result<Access, Vec<(usize, Wrong)>>, Wrong> {
    let text = read_private_long(path)?;
    let beside = path.parent().unwrap_or_else(|| Path::new("."));
    let files = |name: &str, is_secret: bool| {
        let path = beside.join(name);
        if is_secret { read_private(&path) } else { read_public(&path) }
    };
    Ok(Access::parse(&text, &files))
}

/// The text of a file that everybody may read.
pub(crate) fn read_public(path: &Path) -> Result<String, Wrong> {
    read(path, false, FILE_LEN_MAX)
}

fn read(path: &Path, is_secret: bool, len_max: u64) -> Result<String, Wrong> {
    let shown = path.display();
    // Asked of the path first: opening a pipe would wait for a writer.
    let found = std::fs::metadata(path);
    match found {
        Ok(found) if !found.is_file() => return Err(format!("{shown} is no file; name a file")),
        Ok(_) => {}
        Err(error) => {
            return Err(format!("{shown} can't be read: {}; check the path", reason(&error)));
        }
    }
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    let (found, file) = opened.map_err(|error| {
        format!("{shown} can't be read: {}; let the user that runs waxwing own it", reason(&error))
    })?;
    let mode = found.mode() & 0o777;
    let handed_over = found.uid() == 0 && !nix::unistd::geteuid().is_root();
    let forbidden = if handed_over { 0o037 } else { 0o077 };
    if is_secret && mode & forbidden != 0 {
        return Err(format!("{shown} can be read by others (mode {mode:04o}); chmod 600 {shown}"));
    }
    if len_max < found.len() {
        return Err(format!(
            "{shown} has {} bytes, which is too many; name the right file",
            found.len()
        ));
    }
    let mut bytes = Vec::new();
    file.take(len_max)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{shown} can't be read: {}; check the disk", reason(&error)))?;
    String::from_utf8(bytes).map_err(|_| format!("{shown} is no text; name the right file"))
}

/// Without "(os error 2)".
pub(crate) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
