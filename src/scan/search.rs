//! Bytes that belong to nothing: a pickle in them, or the header of something else?

use std::io;

use crate::bytes::{Cursor, ReadAt, Span, length, read_vec};
use crate::checkpoint::trace;
use crate::limits::Limits;
use crate::pickle::{Graph, Vm};
use crate::policy::{Judgement, UseKind, Verdict};

use super::found::Spot;
use super::{Scanner, rules, signature};

/// How a run of bytes is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// Its first byte alone may begin something: a storage.
    Start,
    /// Any of its bytes may: a gap, or what is searched deeply.
    Everywhere,
    /// Any of its bytes may begin a pickle that states its protocol: a file of another kind.
    Foreign,
    /// As everywhere, and a loader that reads on would run a pickle in it: what follows a pickle.
    Runs,
}

/// Bytes searched at a time, and how far a header may reach into the next.
const WINDOW: u64 = 4 << 20;
const OVERLAP: u64 = 4096;

/// A candidate is no pickle of a checkpoint but something small that is hidden.
fn limits() -> Limits {
    Limits {
        operations: 1_000_000,
        nodes: 2_000_000,
        stack: 100_000,
        string_bytes: 64 << 20,
        ..Limits::default()
    }
}

impl Scanner<'_> {
    /// Searches a run of bytes. Whether anything was found.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn search(
        &mut self,
        source: &dyn ReadAt,
        span: Span,
        spot: &Spot,
        how: How,
    ) -> io::Result<bool> {
        let wanted = if how == How::Start { span.len().min(super::HEAD) } else { span.len() };
        let len = if self.options.deep { wanted } else { wanted.min(self.unsearched) };
        if len < wanted {
            let message =
                format!("{} bytes were not searched; --deep searches all", wanted.saturating_sub(len));
            self.found.add(&rules::LIMIT, spot.at(span.start().saturating_add(len), None), message);
            self.found.malformed = true;
        }
        self.unsearched = self.unsearched.saturating_sub(len);
        let end = span.start().saturating_add(len);
        let mut hit = false;
        let mut at = span.start();
        while at < end {
            let next = at.saturating_add(WINDOW).min(end);
            let block = read_vec(source, Span::between(at, next.saturating_add(OVERLAP).min(span.end())))?;
            let fresh = crate::bytes::index(next.saturating_sub(at)).min(block.len());
            let most = if how == How::Start { 1 } else { fresh };
            let resume = self.pickles_in(source, (&block, at, most), span.end(), spot, how)?;
            hit |= resume.is_some();
            hit |= how != How::Foreign && self.headers_in((&block, at, most), spot);
            at = if how == How::Start { end } else { next.max(resume.unwrap_or(0)) };
        }
        Ok(hit)
    }

    /// Headers among the first `most` bytes of a block that lies at `base`.
    fn headers_in(&mut self, (block, base, most): (&[u8], u64, usize), spot: &Spot) -> bool {
        let Some((i, name)) = signature::find(block, 0, most) else { return false };
        let at = base.saturating_add(length(i));
        self.found.add(&rules::SIGNATURE, spot.at(at, None), format!("header of a {name}"));
        true
    }

    /// Pickles that begin among the first `most` bytes of a block. Where the last of them ends.
    fn pickles_in(
        &mut self,
        source: &dyn ReadAt,
        (block, base, most): (&[u8], u64, usize),
        end: u64,
        spot: &Spot,
        how: How,
    ) -> io::Result<Option<u64>> {
        let mut resume = None;
        let mut from = 0;
        while let Some(i) = next_candidate(block, from, most, how != How::Foreign) {
            from = i.saturating_add(1);
            let start = base.saturating_add(length(i));
            if self.attempts == 0 {
                self.found.add(
                    &rules::LIMIT,
                    spot.at(start, None),
                    "too many places where a pickle may begin".into(),
                );
                self.found.malformed = true;
                return Ok(resume);
            }
            self.attempts = self.attempts.saturating_sub(1);
            let Some(stop) = self.attempt(source, Span::between(start, end), spot, how)? else { continue };
            resume = Some(stop);
            from = from.max(crate::bytes::index(stop.saturating_sub(base)));
        }
        Ok(resume)
    }

    /// Whether a pickle that does something begins here, and where it ends.
    pub(super) fn attempt(
        &mut self,
        source: &dyn ReadAt,
        span: Span,
        spot: &Spot,
        how: How,
    ) -> io::Result<Option<u64>> {
        let limits = limits();
        let vm = Vm::new(Cursor::new(source, span), &limits).lenient();
        let traced = trace(vm, source, span, (spot.entry(), false), &self.open.limits);
        let judgement = self.judge(&traced.graph);
        if !is_evidence(&traced.graph, &judgement, traced.end.is_ok()) {
            return Ok(None);
        }
        if how == How::Runs {
            self.report(&traced, &judgement, source, &spot.plus(span.start()), super::pickle::Kind::Stacked)?;
        } else {
            let message = describe(&judgement);
            self.found.add(&rules::EMBEDDED_PICKLE, spot.at(span.start(), traced.span.len()), message);
        }
        Ok(Some(traced.span.end()))
    }
}

/// What a hidden pickle would do, in a line.
pub(super) fn describe(judgement: &Judgement) -> String {
    if let Some(used) = judgement.refusals.iter().max_by_key(|used| used.verdict) {
        return format!("a pickle with {} ({})", used.expression, used.verdict);
    }
    let names = judgement.globals.iter().take(3).map(|global| global.name.escape_debug().to_string());
    format!("a pickle with {}", names.collect::<Vec<_>>().join(", "))
}

/// Whether what ran is a pickle and no accident: it came to its end with names in it, or did something dangerous by a
/// name that is listed.
pub(super) fn is_evidence(graph: &Graph, judgement: &Judgement, whole: bool) -> bool {
    let plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
    if whole {
        let mut globals = graph.globals().iter();
        return globals.len() > 0 && globals.all(|global| plain(&global.module) && plain(&global.name));
    }
    let listed = |used: &&crate::policy::Use| {
        used.verdict == Verdict::Dangerous && used.kind != UseKind::Computed && plain(&used.name)
    };
    judgement.refusals.iter().any(|used| listed(&used))
}

/// The next place where a pickle may begin: `PROTO`, or a name in the text form of protocols 0 and 1.
fn next_candidate(block: &[u8], from: usize, to: usize, text: bool) -> Option<usize> {
    let candidates = block.iter().enumerate().take(to).skip(from);
    let is = |(i, byte): &(usize, &u8)| match byte {
        0x80 => matches!(block.get(i.saturating_add(1)), Some(0..=5)),
        b'c' if text => is_name(block.get(i.saturating_add(1)..).unwrap_or_default()),
        b'(' if text => {
            block.get(i.saturating_add(1)) == Some(&b'c')
                && is_name(block.get(i.saturating_add(2)..).unwrap_or_default())
        }
        _ => false,
    };
    candidates.into_iter().find(is).map(|(i, _)| i)
}

/// `module\nname\n`
fn is_name(bytes: &[u8]) -> bool {
    /// No module that is worth hiding has a longer name.
    const LONGEST: usize = 128;
    let line = |bytes: &[u8]| {
        let bytes = bytes.get(..bytes.len().min(LONGEST)).unwrap_or_default();
        let end = bytes.iter().position(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.')))?;
        (end > 0 && bytes.get(end) == Some(&b'\n')).then(|| end.saturating_add(1))
    };
    line(bytes).and_then(|n| bytes.get(n..)).and_then(line).is_some()
}
