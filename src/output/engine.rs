//! [`write`]: who does what when.
//!
//! Three digests are wanted, of each source, of each tensor and of the output, and each is sequential. Of N threads one
//! leads: it hashes the output from front to back. Where the next unit is not begun it makes it by itself, and hashes
//! the bytes it has just made; where another thread has made it, it reads them back from the output, as far as
//! they have come. The second thread hashes the sources, and then, like all others, makes units ahead of the leader. A
//! large tensor that the leader is busy with goes over to a thread that has run out of work. So two threads share
//! three digests evenly, whatever the sizes of the tensors are. Without digests every thread just takes the next unit.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::bytes::index;
use crate::progress::Progress;
use crate::tensor::{Storage, StreamId, Streams};

use super::atomic::{read_at, write_at};
use super::chains::{Checks, source_pass, verify};
use super::layout::Layout;
use super::produce::{Copying, Outcome, Worker};
use super::units::{self, Unit};
use super::{
    Digest, Error, ErrorKind, Item, MOST_JOBS, Metadata, Staged, WriteOptions, Written, WrittenTensor,
};

/// How far others may run ahead of the leader, so that what it reads back is still in the page cache.
const AHEAD: u64 = 256 << 20;

/// While the leader waits for a unit it makes others ahead, if they are so small that nobody will wait for it.
const ASIDE: u64 = 8 << 20;

/// Writes `items` to `target`, which is not committed. Views point into `storages`, none of which is deflated (see
/// [`super::spool`]). Progress advances by each byte written.
///
/// # Errors
/// Of the source, of a tensor, of the output; see [`ErrorKind`].
pub fn write(
    target: &Staged,
    streams: &Streams,
    storages: &[Storage],
    items: &[Item<'_>],
    metadata: &Metadata,
    options: WriteOptions<'_>,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    let sources = (streams, storages);
    run(target, sources, items, metadata, options, progress)
        .map_err(|kind| Error { path: target.target().to_owned(), kind })
}

fn run(
    target: &Staged,
    (streams, storages): (&Streams, &[Storage]),
    items: &[Item<'_>],
    metadata: &Metadata,
    options: WriteOptions<'_>,
    progress: &dyn Progress,
) -> Result<Written, ErrorKind> {
    let layout = Layout::new(items, metadata)?;
    let units = units::cut(items, &layout, options.digests);
    let jobs = options.jobs.clamp(1, MOST_JOBS);
    // A disk without room for the file says so before the work where it can.
    target.file().set_len(layout.size()).map_err(ErrorKind::Write)?;
    write_at(target.file(), &layout.header, 0).map_err(ErrorKind::Write)?;
    progress.advance(layout.data_start());
    let shared = Shared {
        streams,
        storages,
        items,
        checks: Checks::new(storages, items, &layout, options.sources)?,
        layout: &layout,
        done: units.iter().map(|_| AtomicU64::new(0)).collect(),
        units,
        file: target.file(),
        progress,
        digests: options.digests,
        next: AtomicUsize::new(0),
        frontier: AtomicU64::new(0),
        idle: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
        state: Mutex::new(State { handoff: None, ended: !options.digests, failure: None }),
        changed: Condvar::new(),
    };
    let result = shared.work(jobs, options.sources);
    if let Some(failure) = shared.state().failure.take() {
        return Err(failure);
    }
    for source in options.sources {
        streams.stream(*source).check_unchanged().map_err(ErrorKind::Changed)?;
    }
    verify(storages, result.sums)?;
    Ok(Written {
        size: layout.size(),
        sha256: result.sha256,
        sources: result.sources,
        tensors: tensors(items, &layout, result.outcomes),
    })
}

fn tensors(items: &[Item<'_>], layout: &Layout, outcomes: Vec<Outcome>) -> Vec<WrittenTensor> {
    let empty = |item: &Item<'_>| WrittenTensor {
        data_offsets: (0, 0),
        dtype: item.dtype().stored(),
        sha256: None,
        source_sha256: None,
        cast_exact: true,
    };
    let mut tensors: Vec<WrittenTensor> = items.iter().map(empty).collect();
    for outcome in outcomes {
        let item = layout.order.get(outcome.position).map(|i| index(u64::from(*i)));
        let Some(tensor) = item.and_then(|i| tensors.get_mut(i)) else { continue };
        tensor.data_offsets = layout.offsets(outcome.position);
        tensor.sha256 = outcome.sha256;
        tensor.source_sha256 = outcome.source_sha256;
        // A tensor that was copied in parts is exact if every part is.
        tensor.cast_exact &= outcome.exact;
    }
    tensors
}

/// What the threads bring back.
#[derive(Debug, Default)]
struct Results {
    outcomes: Vec<Outcome>,
    sums: Vec<super::chains::Sum>,
    sha256: Option<Digest>,
    sources: Vec<Digest>,
}

impl Results {
    fn join(&mut self, mut other: Self) {
        self.outcomes.append(&mut other.outcomes);
        self.sums.append(&mut other.sums);
        self.sha256 = self.sha256.or(other.sha256);
        self.sources.append(&mut other.sources);
    }
}

/// What all threads see.
pub(super) struct Shared<'a> {
    pub(super) streams: &'a Streams,
    pub(super) storages: &'a [Storage],
    pub(super) items: &'a [Item<'a>],
    pub(super) layout: &'a Layout,
    pub(super) units: Vec<Unit>,
    pub(super) checks: Checks,
    pub(super) file: &'a std::fs::File,
    pub(super) progress: &'a dyn Progress,
    pub(super) digests: bool,
    /// Bytes of each unit that are in the output, from its front.
    done: Vec<AtomicU64>,
    /// The first unit that nobody has begun.
    next: AtomicUsize,
    /// How far the leader has come in the output.
    frontier: AtomicU64,
    /// Threads without work.
    idle: AtomicUsize,
    failed: AtomicBool,
    state: Mutex<State<'a>>,
    changed: Condvar,
}

struct State<'a> {
    /// A large tensor that the leader has begun and another thread is to go on with.
    handoff: Option<Copying<'a>>,
    /// The leader has come to the end, or there is none: no more work will come up.
    ended: bool,
    failure: Option<ErrorKind>,
}

/// Ends the other threads when one panics; they would wait for it for ever.
struct Alarm<'s, 'a>(&'s Shared<'a>);

impl Drop for Alarm<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.store(true, Ordering::SeqCst);
            self.0.wake();
        }
    }
}

impl<'a> Shared<'a> {
    fn work(&'a self, jobs: usize, sources: &[StreamId]) -> Results {
        let mut all = Results::default();
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..jobs)
                .map(|i| {
                    let sources = if i == 1 { sources } else { &[] };
                    scope.spawn(move || self.guard(jobs, |worker| worker.follow(sources)))
                })
                .collect();
            let sources = if jobs == 1 { sources } else { &[] };
            all = self.guard(jobs, |worker| worker.head(sources));
            for other in others {
                match other.join() {
                    Ok(results) => all.join(results),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        all
    }

    fn guard(&'a self, jobs: usize, run: impl FnOnce(&mut Thread<'a>) -> Result<(), ErrorKind>) -> Results {
        let _alarm = Alarm(self);
        let mut thread =
            Thread { shared: self, worker: Worker::new(self, jobs), results: Results::default() };
        if let Err(kind) = run(&mut thread) {
            self.fail(kind);
        }
        thread.results.outcomes = thread.worker.outcomes;
        thread.results.sums = thread.worker.sums;
        thread.results
    }

    fn state(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        drop(self.state());
        self.changed.notify_all();
    }

    fn fail(&self, kind: ErrorKind) {
        self.state().failure.get_or_insert(kind);
        self.failed.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Whether somebody waits for work.
    pub(super) fn has_idle(&self) -> bool {
        self.idle.load(Ordering::SeqCst) > 0
    }

    pub(super) fn hand_off(&self, copying: Copying<'a>) {
        self.state().handoff = Some(copying);
        self.changed.notify_all();
    }

    /// Tells that a unit is in the output so far, after so many more bytes.
    pub(super) fn publish(&self, unit: usize, written: u64, more: u64) {
        if let Some(done) = self.done.get(unit) {
            done.store(written, Ordering::SeqCst);
        }
        self.progress.advance(more);
        if self.digests {
            self.wake();
        }
    }

    fn done(&self, unit: usize) -> u64 {
        self.done.get(unit).map_or(0, |done| done.load(Ordering::SeqCst))
    }

    /// The next unit, where it is near enough to the leader.
    fn ahead(&self) -> Option<usize> {
        let next = self.next.load(Ordering::SeqCst);
        let horizon = self.frontier.load(Ordering::SeqCst).saturating_add(AHEAD);
        self.units.get(next).filter(|unit| !self.digests || unit.start <= horizon).map(|_| next)
    }

    fn claim(&self, unit: usize) -> bool {
        let after = unit.saturating_add(1);
        self.next.compare_exchange(unit, after, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Waits until there may be work; false where there will be none any more.
    fn rest(&self) -> bool {
        let mut state = self.state();
        self.idle.fetch_add(1, Ordering::SeqCst);
        let more = loop {
            if state.ended || self.failed() {
                break false;
            }
            if state.handoff.is_some() || self.ahead().is_some() {
                break true;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        self.idle.fetch_sub(1, Ordering::SeqCst);
        more
    }

    /// Waits until `unit` has come further than `from`.
    fn wait(&self, unit: usize, from: u64) {
        let mut state = self.state();
        while self.done(unit) <= from && state.handoff.is_none() && !self.failed() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

struct Thread<'a> {
    shared: &'a Shared<'a>,
    worker: Worker<'a>,
    results: Results,
}

impl Thread<'_> {
    /// The thread that the caller gives: it leads where there are digests.
    fn head(&mut self, sources: &[StreamId]) -> Result<(), ErrorKind> {
        self.sources(sources)?;
        if self.shared.digests {
            let digest = self.lead()?;
            self.results.sha256 = Some(digest);
            self.shared.state().ended = true;
            self.shared.changed.notify_all();
        }
        self.help()
    }

    fn follow(&mut self, sources: &[StreamId]) -> Result<(), ErrorKind> {
        self.sources(sources)?;
        self.help()
    }

    fn sources(&mut self, sources: &[StreamId]) -> Result<(), ErrorKind> {
        for source in sources {
            let digest = source_pass(self.shared, *source, &mut self.worker)?;
            self.results.sources.extend(digest);
        }
        Ok(())
    }

    fn help(&mut self) -> Result<(), ErrorKind> {
        let shared = self.shared;
        while !shared.failed() {
            let handoff = shared.state().handoff.take();
            if let Some(copying) = handoff {
                self.worker.go_on(copying, None)?;
            } else if let Some(unit) = shared.ahead() {
                if shared.claim(unit) {
                    self.worker.make(unit, None)?;
                }
            } else if let Some(piece) = shared.checks.claim() {
                self.worker.sum(piece)?;
            } else if !shared.rest() {
                break;
            }
        }
        Ok(())
    }

    fn lead(&mut self) -> Result<Digest, ErrorKind> {
        let shared = self.shared;
        let mut hash = Sha256::new();
        hash.update(&shared.layout.header);
        for (number, unit) in shared.units.iter().enumerate() {
            let mut at = 0;
            if shared.claim(number) {
                at = self.worker.make(number, Some(&mut hash))?;
            }
            while at < unit.len && !shared.failed() {
                shared.frontier.store(unit.start.saturating_add(at), Ordering::SeqCst);
                at = self.catch_up(number, unit, at, &mut hash)?;
            }
            shared.frontier.store(unit.start.saturating_add(unit.len), Ordering::SeqCst);
            if shared.has_idle() {
                shared.wake();
            }
        }
        Ok(hash.into())
    }

    /// Hashes more of a unit that another thread makes, or finds something else to do.
    fn catch_up(&mut self, number: usize, unit: &Unit, at: u64, hash: &mut Sha256) -> Result<u64, ErrorKind> {
        let shared = self.shared;
        let ready = shared.done(number).saturating_sub(at);
        if ready > 0 {
            let block = self.worker.block(ready);
            read_at(shared.file, block, unit.start.saturating_add(at)).map_err(ErrorKind::Write)?;
            hash.update(&*block);
            return Ok(at.saturating_add(crate::bytes::length(block.len())));
        }
        let handoff = shared.state().handoff.take();
        if let Some(copying) = handoff {
            return self.worker.go_on(copying, Some(hash));
        }
        let next = shared.next.load(Ordering::SeqCst);
        if shared.units.get(next).is_some_and(|unit| unit.len <= ASIDE) && shared.claim(next) {
            self.worker.make(next, None)?;
        } else {
            shared.wait(number, at);
        }
        Ok(at)
    }
}
