//! Bars: bytes, rate and time left, on a terminal only.

use std::fmt;
use std::io::IsTerminal;
use std::sync::{PoisonError, RwLock};

use depickle::progress::{Progress, Silent};
use indicatif::{ProgressBar, ProgressStyle};

use super::sanitize::bounded;

/// One bar at a time.
#[derive(Default)]
struct Bars(RwLock<Option<ProgressBar>>);

impl fmt::Debug for Bars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bars")
    }
}

/// Bars where someone can see them, and silence elsewhere.
pub(crate) fn progress(wanted: bool) -> Box<dyn Progress> {
    if wanted && std::io::stderr().is_terminal() { Box::new(Bars::default()) } else { Box::new(Silent) }
}

fn style() -> ProgressStyle {
    const TEMPLATE: &str =
        "{msg}  {wide_bar} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
    ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Bars {
    fn set(&self, bar: Option<ProgressBar>) {
        let mut slot = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = std::mem::replace(&mut *slot, bar) {
            old.finish_and_clear();
        }
    }
}

impl Progress for Bars {
    fn begin(&self, label: &str, total_bytes: u64) {
        let bar = ProgressBar::new(total_bytes).with_style(style());
        bar.set_message(bounded(label, 40).into_owned());
        self.set(Some(bar));
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            bar.inc(bytes);
        }
    }

    fn finish(&self) {
        self.set(None);
    }
}
