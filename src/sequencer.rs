//! The only writer: order, append, fold, acknowledge; and the cuts.
//!
//! One thread owns every ledger of the data directory. What reaches it is ordered by its queue (embedded) or by the broker
//! (Kafka); it appends a batch, waits until it is durable, folds it, and only then answers. Readers never wait for it longer
//! than the fold of one batch takes.
//!
//! Invariants: nothing is folded or answered before it is durable; rules run only on cuts read back from the governance
//! ledger; what the service says takes effect when its own entry is folded, and saying it twice is harmless.

mod ahead;
mod backfill;
mod cache;
mod core;
mod data_dir;
mod dry_run;
mod error;
mod files;
mod handle;
mod metrics;
mod own;
mod past;
mod run;
mod sayings;
mod sealing;
mod shared;

pub use self::core::{Core, Incoming, Outcome};
pub use backfill::{BackfillStep, RecordedLine};
pub use cache::Cache;
pub use data_dir::{DataDir, InitOptions, Initialised, metrics_number, new_token, write_durably};
pub use dry_run::dry_run;
pub use error::SequencerError;
pub use files::{FileProgress, FileState, FileTurn, FileTurns, LineRun};
pub use handle::{
    AtBroker, CommandOutcome, Ends, Handle, ProduceError, Produced, Producer, Queued, ReadBack, Submission,
    SubmitError, Topic,
};
pub use metrics::{MetricsChunk, MetricsState, Prepare, judge};
pub use own::ACCESS;
pub use past::{fold_to, size_at};
pub use run::{ByHand, Options, Running, by_hand, start};
pub use sayings::{Saying, command_event};
pub use sealing::{Sealers, Sealing, SealingFigures};
pub use shared::{BatchFigures, PastView, ScrapeFigures, Shared, Status};
