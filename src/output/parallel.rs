//! [`in_parallel`]: pieces of work that do not depend on each other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Does `count` pieces of work on as many as `jobs` threads, each with buffers of its own. Results come in the order of
/// the pieces; after a failure nothing more is begun, and it is returned.
pub(crate) fn in_parallel<B, T: Send, E: Send>(
    jobs: usize,
    count: usize,
    buffers: impl Fn() -> B + Sync,
    work: impl Fn(&mut B, usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new((Vec::with_capacity(count), None));
    let run = || {
        let mut buffers = buffers();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                break;
            }
            let result = work(&mut buffers, at);
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(result) => done.0.push((at, result)),
                Err(error) => {
                    done.1.get_or_insert(error);
                    next.store(count, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.min(count) {
            scope.spawn(run);
        }
        run();
    });
    let (mut results, failure) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(at, _)| *at);
    failure.map_or_else(|| Ok(results.into_iter().map(|(_, result)| result).collect()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_and_a_failure_ends_all() {
        for jobs in [1, 3] {
            let squares = in_parallel(jobs, 100, || (), |(), n| Ok::<_, ()>(n * n)).unwrap();
            assert_eq!(squares, (0..100).map(|n| n * n).collect::<Vec<_>>());
            let begun = AtomicUsize::new(0);
            let failing = in_parallel(
                jobs,
                1000,
                || (),
                |(), n| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    if n == 5 { Err(n) } else { Ok(n) }
                },
            );
            assert_eq!(failing, Err(5));
            assert!(begun.into_inner() < 1000);
        }
    }
}
