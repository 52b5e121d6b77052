//! `tensorflow.Event` in protobuf's encoding: only what is written here, field numbers as in TensorFlow's event.proto and
//! summary.proto.

/// An event.
pub(super) struct Event<'a> {
    /// Seconds since 1970.
    pub(super) wall_time: f64,
    /// Steps done.
    pub(super) step: i64,
    /// What happened.
    pub(super) content: Content<'a>,
}

/// What happened.
pub(super) enum Content<'a> {
    /// The file begins.
    Version(&'a str),
    /// A session begins; steps from the event's on are void.
    SessionStart,
    /// Numbers by tag.
    Scalars(&'a [(String, f32)]),
}

/// Wire types.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;
/// `SessionLog.START`.
const START: u64 = 1;

impl Event<'_> {
    /// The encoded message.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        key(&mut out, 1, FIXED_64);
        out.extend_from_slice(&self.wall_time.to_le_bytes());
        if self.step != 0 {
            key(&mut out, 2, VARINT);
            varint(&mut out, self.step as u64);
        }
        match &self.content {
            Content::Version(version) => bytes(&mut out, 3, version.as_bytes()),
            Content::Scalars(values) => {
                let mut summary = Vec::new();
                for (tag, value) in *values {
                    let mut entry = Vec::new();
                    bytes(&mut entry, 1, tag.as_bytes());
                    key(&mut entry, 2, FIXED_32);
                    entry.extend_from_slice(&value.to_le_bytes());
                    bytes(&mut summary, 1, &entry);
                }
                bytes(&mut out, 5, &summary);
            }
            Content::SessionStart => {
                let mut log = Vec::new();
                key(&mut log, 1, VARINT);
                varint(&mut log, START);
                bytes(&mut out, 7, &log);
            }
        }
        out
    }
}

fn key(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(out, field << 3 | wire_type);
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, BYTES);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_is_encoded_byte_for_byte_as_tensorflow_does() {
        let event = Event { wall_time: 1.0, step: 0, content: Content::Version("brain.Event:2") };
        let mut expected = vec![0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x1a, 0x0d];
        expected.extend_from_slice(b"brain.Event:2");
        assert_eq!(event.encode(), expected);
    }

    #[test]
    fn a_scalar_and_a_long_step_are_encoded_byte_for_byte() {
        let values = [("a".to_owned(), 0.5)];
        let event = Event { wall_time: 0.0, step: 300, content: Content::Scalars(&values) };
        let mut expected = vec![0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0xac, 0x02];
        expected.extend_from_slice(&[0x2a, 0x0a, 0x0a, 0x08, 0x0a, 0x01, b'a', 0x15, 0, 0, 0, 0x3f]);
        assert_eq!(event.encode(), expected);
    }
}
