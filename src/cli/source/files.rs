//! Ledgers on this machine: a data directory, opened without a lock, or an export, believed only as far as its key reaches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ledger::EntrySource;
use ledger::export::ExportReader;

use super::{AsOf, Keys, Reply};
use crate::cli::error::CliError;
use crate::clock::Clock;
use crate::domain::policy::Policy;
use crate::identity::trail::ACCESS;
use crate::projection::answers::{Asked, View, answer};
use crate::projection::what_if::DryRunAnswer;
use crate::sequencer::{Cache, DataDir, PastView, dry_run, fold_to, metrics_number, size_at};

/// How often a cache that another reading command holds is asked for again, and how long in between.
const CACHE_TRIES: u32 = 3;
const CACHE_PAUSE: Duration = Duration::from_millis(50);

/// Ledgers to read from.
pub(crate) struct Files {
    place: PathBuf,
    ledgers: BTreeMap<String, Box<dyn EntrySource>>,
    cache: Option<Cache>,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files")
            .field("place", &self.place)
            .field("ledgers", &self.ledgers.keys())
            .finish_non_exhaustive()
    }
}

impl Files {
    /// A data directory.
    pub(crate) fn data(root: &Path) -> Result<Self, CliError> {
        let data_dir = DataDir::open(root)?;
        let ledgers = data_dir
            .readers()?
            .into_iter()
            .map(|(name, reader)| (name, Box::new(reader) as Box<dyn EntrySource>))
            .collect();
        Ok(Self { place: root.to_owned(), ledgers, cache: free_cache(&root.join("cache")) })
    }

    /// An export: every ledger that it holds, each checked by its key.
    pub(crate) fn export(root: &Path, keys: &Keys) -> Result<Self, CliError> {
        let mut ledgers: BTreeMap<String, Box<dyn EntrySource>> = BTreeMap::new();
        for name in exported(root)? {
            let reader = ExportReader::open(&root.join(&name), &keys.of_ledger(&name)?)?;
            ledgers.insert(name, Box::new(reader));
        }
        if !ledgers.contains_key("governance") {
            return Err(CliError::usage(format!(
                "{} holds no export of the governance ledger; `govledger export DIR` makes one",
                root.display()
            )));
        }
        Ok(Self { place: root.to_owned(), ledgers, cache: None })
    }

    /// Where they lie.
    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// Names of the ledgers.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.ledgers.keys().map(String::as_str)
    }

    /// One ledger.
    pub(crate) fn ledger(&self, name: &str) -> Result<&dyn EntrySource, CliError> {
        let found = self.ledgers.get(name).map(AsRef::as_ref);
        found.ok_or_else(|| {
            CliError::usage(format!(
                "{} has no ledger {name:?}; it has {}",
                self.place.display(),
                self.names().collect::<Vec<_>>().join(", ")
            ))
        })
    }

    /// The number of governance entries that `as_of` means.
    pub(crate) fn size(&self, as_of: Option<AsOf>) -> Result<u64, CliError> {
        let governance = self.ledger("governance")?;
        let present = governance.size();
        match as_of {
            None => Ok(present),
            Some(AsOf::Position(position)) if position < present => Ok(position + 1),
            Some(AsOf::Position(position)) => Err(CliError::usage(format!(
                "--as-of {position}: the governance ledger ends at position {}",
                present.saturating_sub(1)
            ))),
            Some(AsOf::Time(time)) => match size_at(governance, present, time)? {
                0 => Err(CliError::usage(format!("--as-of {time}: the ledger begins later"))),
                size => Ok(size),
            },
        }
    }

    /// The folds up to `size`; those of the metrics ledgers only where they are needed.
    pub(crate) fn fold(&self, size: u64, with_metrics: bool) -> Result<PastView, CliError> {
        let sources = self.ledgers.iter().map(|(name, source)| (name.clone(), source.as_ref())).collect();
        Ok(fold_to(&sources, self.cache.as_ref(), size, with_metrics)?)
    }

    /// What a policy would have changed in the alerts of the last day.
    pub(crate) fn dry_run(&self, policy: &Policy) -> Result<DryRunAnswer, CliError> {
        let sources = self.ledgers.iter().map(|(name, source)| (name.clone(), source.as_ref())).collect();
        Ok(dry_run(&sources, self.cache.as_ref(), policy)?)
    }

    /// Answers a question.
    pub(crate) fn ask(&self, asked: &Asked, as_of: Option<AsOf>) -> Result<Reply, CliError> {
        self.ask_at(asked, self.size(as_of)?, as_of.is_none())
    }

    /// Answers a question about the first `size` governance entries.
    pub(crate) fn ask_at(&self, asked: &Asked, size: u64, present: bool) -> Result<Reply, CliError> {
        let has_metrics = self.names().any(|name| metrics_number(name).is_some());
        let needs_metrics = asked.needs_metrics() && has_metrics;
        if matches!(asked, Asked::Slo { .. }) && !has_metrics {
            return Err(crate::projection::answers::AnswerError::NoMetrics.into());
        }
        let folded = self.fold(size, needs_metrics)?;
        let root = self.ledger("governance")?.root_at(size)?;
        let view = View {
            governance: &folded.governance,
            slo: needs_metrics.then_some(&folded.slo),
            root,
            now: present.then(|| Clock::System.now()),
        };
        let answer = answer(&view, asked)?;
        Ok(Reply { body: answer.body, negative: answer.negative })
    }
}

/// Directories of an export that hold a ledger.
pub(crate) fn exported(root: &Path) -> Result<Vec<String>, CliError> {
    let entries = std::fs::read_dir(root).map_err(crate::cli::error::file_error(root))?;
    let is_ledger = |name: &str| ["governance", ACCESS].contains(&name) || metrics_number(name).is_some();
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_ledger(name) && root.join(name).is_dir())
        .collect();
    names.sort_by_key(|name| match metrics_number(name) {
        Some(number) => u64::from(number) + 1,
        None if name == ACCESS => u64::MAX,
        None => 0,
    });
    Ok(names)
}

/// The cache, where there is one and no other process holds it.
fn free_cache(path: &Path) -> Option<Cache> {
    if !path.exists() {
        return None;
    }
    for _ in 0..CACHE_TRIES {
        if let Ok(cache) = Cache::open_as_it_is(path) {
            return Some(cache);
        }
        std::thread::sleep(CACHE_PAUSE);
    }
    None
}
