//! What must hold of any text that stands where a configuration should.

use crate::parsers::Understood;

pub(crate) fn file(bytes: &[u8]) -> Understood {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(if super::load::text_alone(text) { "lawful" } else { "faults" }.to_owned())
}
