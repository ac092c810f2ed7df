//! The one place that reads clocks. Everything else is handed the time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::domain::time::Time;

static START: OnceLock<Instant> = OnceLock::new();

/// A wall clock: the machine's, or one that a test moves.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's.
    System,
    /// Microseconds since the epoch, moved by hand.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `time` until it is moved.
    pub fn manual(time: Time) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(time.micros())))
    }

    /// The present.
    pub fn now(&self) -> Time {
        match self {
            Self::System => system_now(),
            Self::Manual(micros) => Time::from_micros(micros.load(Ordering::SeqCst)),
        }
    }

    /// Time that passed since some fixed moment: for durations. A manual clock's own time.
    pub fn elapsed(&self) -> Duration {
        match self {
            Self::System => monotonic().saturating_duration_since(*START.get_or_init(monotonic)),
            Self::Manual(micros) => {
                Duration::from_micros(u64::try_from(micros.load(Ordering::SeqCst)).unwrap_or_default())
            }
        }
    }

    /// Moves a manual clock; the machine's stays as it is.
    pub fn set(&self, time: Time) {
        if let Self::Manual(micros) = self {
            micros.store(time.micros(), Ordering::SeqCst);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the place that owns it")]
fn system_now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A monotonic instant, for durations and timeouts that reach no entry.
#[expect(clippy::disallowed_methods, reason = "this is the place that owns it")]
pub fn monotonic() -> Instant {
    Instant::now()
}
