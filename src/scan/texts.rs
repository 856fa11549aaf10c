//! Pickles inside the strings of a pickle: as they are, or in base64 or hexadecimal.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use crate::bytes::{Cursor, ReadAt, Span, length, read_vec};
use crate::checkpoint::trace;
use crate::container::{Format, detect};
use crate::pickle::{Call, Graph, Node, NodeId, Payload, Vm};
use crate::policy::{UseKind, Verdict};

use super::blob::{Blob, Role};
use super::found::Spot;
use super::search::{describe, is_evidence};
use super::{Scanner, rules};

/// Shorter text holds no pickle that does anything: `cos\nabort\n)R.` has 13 bytes.
const SHORTEST: u64 = 12;
/// Longer strings are arrays; of those the beginning decides.
const LONGEST: u64 = 64 << 20;
/// Bytes that tell whether a string is encoded.
const HEAD: u64 = 64;
/// Encodings around each other.
const LAYERS: usize = 3;

impl Scanner<'_> {
    /// Tries the strings of a pickle.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn texts(&mut self, graph: &Graph, source: &dyn ReadAt, spot: &Spot) -> io::Result<()> {
        if self.depth >= super::DEPTH {
            return Ok(());
        }
        let loaded = loaded(graph);
        for id in graph.ids() {
            let Some(text) = Text::of(graph, id) else { continue };
            if text.len() < SHORTEST {
                continue;
            }
            let head = text.read(source, HEAD)?;
            if !is_promising(&head) {
                continue;
            }
            let Some(whole) = (text.len() <= LONGEST).then(|| text.read(source, LONGEST)).transpose()? else {
                let message = format!("string of {} bytes that is encoded", text.len());
                self.found.add(&rules::LIMIT, spot.whole(), message);
                self.found.malformed = true;
                continue;
            };
            self.text(whole, loaded.contains(&id), spot)?;
        }
        Ok(())
    }

    /// Tries one string, through the encodings around it.
    fn text(&mut self, mut bytes: Vec<u8>, loaded: bool, spot: &Spot) -> io::Result<()> {
        let mut encoding = "";
        for layer in 0..LAYERS {
            if begins(&bytes) {
                return self.inside(bytes, (encoding, loaded && layer == 0), spot);
            }
            (bytes, encoding) = match (base64(&bytes), hex(&bytes)) {
                (_, Some(inner)) if begins(&inner) => (inner, " in hexadecimal"),
                (Some(inner), _) => (inner, " in base64"),
                (None, Some(inner)) => (inner, " in hexadecimal"),
                (None, None) => return Ok(()),
            };
        }
        Ok(())
    }

    /// A pickle in base64 that a loader of the file loads, too, and in which it keeps the functions of its settings by value.
    pub(super) fn loaded_text(&mut self, text: &[u8], spot: &Spot) -> io::Result<()> {
        let Some(bytes) = base64(text).filter(|_| self.depth < super::DEPTH) else { return Ok(()) };
        let whole = Span::between(0, length(bytes.len()));
        let limits = &self.open.limits;
        let traced = trace(
            Vm::new(Cursor::new(&bytes, whole), limits).lenient(),
            &bytes,
            whole,
            (None, false),
            limits,
        );
        let mut judgement = self.judge(&traced.graph);
        let spot = spot.inside("<string>");
        self.record(&traced, &judgement, &bytes, &spot)?;
        for code in judgement.remarks.drain(..).filter(|used| used.kind == UseKind::CarriesCode) {
            let message = format!("{}  carries code", code.expression);
            self.found.add_about(
                &rules::HONEST_FORM,
                spot.at(code.offset.0, None),
                message,
                Some(&code.name),
            );
        }
        self.uses(&judgement, &spot);
        self.deeper(|scanner| scanner.texts(&traced.graph, &bytes, &spot))
    }

    /// What begins as a pickle or an archive does. If it is `loaded` with what holds it, so are its calls made.
    fn inside(&mut self, bytes: Vec<u8>, (encoding, loaded): (&str, bool), spot: &Spot) -> io::Result<()> {
        let format = detect(&bytes)?;
        let source: Arc<dyn ReadAt> = Arc::new(bytes);
        if matches!(format, Format::Zip | Format::TorchLegacy) {
            let blob = Blob { source: &source, spot: spot.inside("<string>"), role: Role::Quiet };
            return self.deeper(|scanner| scanner.blob(&blob)).map(drop);
        }
        let whole = Span::between(0, source.size());
        let limits = &self.open.limits;
        let traced = trace(
            Vm::new(Cursor::new(&*source, whole), limits).lenient(),
            &*source,
            whole,
            (None, false),
            limits,
        );
        let judgement = self.judge(&traced.graph);
        let does = judgement.refusals.iter().any(|used| used.verdict >= Verdict::Unknown)
            || !judgement.remarks.is_empty();
        let is_pickle = is_evidence(&traced.graph, &judgement, traced.end.is_ok());
        if is_pickle {
            self.record(&traced, &judgement, &*source, &spot.inside("<string>"))?;
        }
        if does && is_pickle && loaded {
            self.uses(&judgement, &spot.inside("<string>"));
        } else if does && is_pickle {
            let message = format!("string{encoding}: {}", describe(&judgement));
            self.found.add(&rules::NESTED_PICKLE, spot.whole(), message);
        }
        self.deeper(|scanner| scanner.texts(&traced.graph, &*source, &spot.inside("<string>")))
    }
}

/// The strings that `torch.storage._load_from_bytes` and numba are given: they load the pickles in them.
fn loaded(graph: &Graph) -> HashSet<NodeId> {
    let is = |id: NodeId, module: &str, name: &str| {
        graph.as_global(id).is_some_and(|global| *global.module == *module && *global.name == *name)
    };
    let first = |call: &Call| graph.tuple(call.args).and_then(|args| args.first().copied());
    let loads = graph.calls().filter(|(_, call)| {
        is(call.callable, "torch.storage", "_load_from_bytes")
            || is(call.callable, "numba.core.serialize", "_unpickle__CustomPickled")
    });
    let given = loads.filter_map(|(_, call)| first(call));
    // Protocol 2 writes bytes as a call that encodes text.
    given
        .map(|id| match graph.call(id) {
            Some(call) if is(call.callable, "_codecs", "encode") => first(call).unwrap_or(id),
            _ => id,
        })
        .collect()
}

/// A string, in memory or where it lies.
struct Text<'a> {
    at: At<'a>,
    /// Whether it is a `str`: protocol 2 writes bytes as one, of the characters of Latin-1.
    is_str: bool,
}

enum At<'a> {
    Here(&'a [u8]),
    There(Span),
}

impl<'a> Text<'a> {
    fn of(graph: &'a Graph, id: NodeId) -> Option<Self> {
        let (at, is_str) = match graph.node(id) {
            Node::Str(text) => (At::Here(text.as_bytes()), true),
            Node::LongStr(span) => (At::There(*span), true),
            Node::Str2(payload) | Node::Bytes(payload) | Node::ByteArray(payload) => match payload {
                Payload::Inline(bytes) => (At::Here(bytes), false),
                Payload::Span(span) => (At::There(*span), false),
            },
            _ => return None,
        };
        Some(Self { at, is_str })
    }

    fn len(&self) -> u64 {
        match self.at {
            At::Here(bytes) => length(bytes.len()),
            At::There(span) => span.len(),
        }
    }

    /// What at most `n` of its bytes stand for.
    fn read(&self, source: &dyn ReadAt, n: u64) -> io::Result<Vec<u8>> {
        let n = n.min(self.len());
        let bytes = match self.at {
            At::Here(bytes) => bytes.get(..crate::bytes::index(n)).unwrap_or_default().to_vec(),
            At::There(span) => read_vec(source, Span::between(span.start(), span.start().saturating_add(n)))?,
        };
        Ok(if self.is_str { latin1(&bytes).unwrap_or(bytes) } else { bytes })
    }
}

/// The bytes that text of Latin-1 stands for; a character that is cut off at its end is left out.
fn latin1(text: &[u8]) -> Option<Vec<u8>> {
    let whole = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(text.get(..error.valid_up_to())?).ok()?,
    };
    whole.chars().map(|c| u8::try_from(c).ok()).collect()
}

/// Whether a string begins as a pickle, or an archive of torch, does.
fn begins(bytes: &[u8]) -> bool {
    match bytes {
        [0x80, 0..=5, ..] | [b'P', b'K', 3, 4, ..] => true,
        [b'c' | b'(' | b'S' | b'V' | b'l' | b'd' | b'I', ..] => is_text_pickle(bytes),
        _ => false,
    }
}

/// Protocol 0: a name on two lines stands near the beginning.
fn is_text_pickle(bytes: &[u8]) -> bool {
    let head = bytes.get(..bytes.len().min(256)).unwrap_or_default();
    let word = |line: &[u8]| {
        !line.is_empty() && line.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'('))
    };
    let mut lines = head.split(|b| *b == b'\n');
    let (first, second) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    lines.next().is_some() && (word(first) && word(second) || first.starts_with(b"("))
}

/// Whether the beginning of a string is that of a pickle, or of one that is encoded, perhaps twice.
fn is_promising(head: &[u8]) -> bool {
    let decoded = || [base64(head), hex(head)].into_iter().flatten();
    begins(head)
        || decoded().any(|inner| begins(&inner) || [base64(&inner), hex(&inner)].iter().any(Option::is_some))
}

/// Decodes base64 of either alphabet, with or without padding and line breaks.
fn base64(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut held, mut bits) = (0_u32, 0_u32);
    for byte in bytes.trim_ascii() {
        let value = match byte {
            b'A'..=b'Z' => byte.wrapping_sub(b'A'),
            b'a'..=b'z' => byte.wrapping_sub(b'a').wrapping_add(26),
            b'0'..=b'9' => byte.wrapping_sub(b'0').wrapping_add(52),
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' | b'\n' | b'\r' => continue,
            _ => return None,
        };
        held = held << 6 | u32::from(value);
        bits = bits.wrapping_add(6);
        if bits >= 8 {
            bits = bits.wrapping_sub(8);
            let [.., low] = held.wrapping_shr(bits).to_be_bytes();
            out.push(low);
        }
    }
    Some(out)
}

/// Decodes hexadecimal.
fn hex(bytes: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = bytes.trim_ascii().as_chunks::<2>();
    let pair = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    if rest.is_empty() { pairs.iter().map(pair).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_undone() {
        assert_eq!(base64(b"gAJjb3MKc3lzdGVtCg==").unwrap(), b"\x80\x02cos\nsystem\n");
        assert_eq!(base64(b"gAJj\nb3MK").unwrap(), b"\x80\x02cos\n");
        assert_eq!(base64(b"no base64!"), None);
        assert_eq!(hex(b"8002").unwrap(), b"\x80\x02");
        assert_eq!(hex(b"800"), None);
    }

    #[test]
    fn bytes_that_are_written_as_text() {
        assert_eq!(latin1("\u{80}\u{2}cos\n".as_bytes()).unwrap(), b"\x80\x02cos\n");
        assert_eq!(latin1(b"a\xc2").unwrap(), b"a");
        assert_eq!(latin1("\u{416}".as_bytes()), None);
    }

    #[test]
    fn what_may_begin_a_pickle() {
        assert!(begins(b"\x80\x04rest") && begins(b"cos\nsystem\n(S'x'\ntR."));
        assert!(!begins(b"conv.weight") && !begins(b"\x80\x07") && !begins(b""));
    }
}
