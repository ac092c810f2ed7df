//! The data directory: where everything lies, and how it is made.
//!
//! ```text
//! settings.json      the governance ledger's first entry; handed to further nodes
//! node.json          this node's name; written last, so that it marks a finished `init`
//! keys/ledger.pem    signs checkpoints      keys/node.pem   signs envelopes       (0600)
//! keys/node.next.pem the key that a rotation under way brings; takes the place of node.pem once its entry is folded
//! keys/ledger.next.pem and keys/rotations   the same for the key of the checkpoints, and the notes in which each key signs the next
//! keys/access.pem    signs the ledger access alone (0600): granted by the ledger key, and not rotated with it
//! governance/ metrics-<n>/                  the ledgers
//! access/            who was let in to what at this node: a ledger too, of its own
//! last-use.json      when tokens were last used here
//! blobs/             records too large for an entry, by their SHA-256
//! cache/             sled; may be deleted at any time
//! service.json       where the running service listens, with a token for this directory's owner (0600)
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ledger::disk::{Disk, OsDisk};
use ledger::key::LedgerKey;
use serde::{Deserialize, Serialize};

use super::error::{SequencerError, at, of};
use crate::domain::envelope::hex;
use crate::domain::principal::token_sha256;
use crate::domain::settings::{
    FORMAT, FirstAdmin, NODE_NAME, NodeKey, RULES_VERSION, Settings, SourceSettings, is_node_name,
};
use crate::domain::time::Time;

/// The key that is to follow the node key.
const NEXT_NODE_KEY: &str = "keys/node.next.pem";
/// The key that is to follow the ledger key.
const NEXT_LEDGER_KEY: &str = "keys/ledger.next.pem";
/// The rotations of the ledger key, as each ledger has them.
const ROTATIONS: &str = "keys/rotations";

/// A data directory that `init` has finished.
#[derive(Debug, Clone)]
pub struct DataDir {
    /// What the ledgers lie on.
    disk: Arc<dyn Disk>,
    root: PathBuf,
    node: String,
    settings: Settings,
    ledger_options: ledger::Options,
}

#[derive(Serialize, Deserialize)]
struct NodeFile {
    node: String,
}

/// What `init` is asked for.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// The node's name: first part of every origin.
    pub node: String,
    /// Where the order of entries comes from.
    pub source: SourceSettings,
    /// Name of the first admin.
    pub admin: String,
    /// Settings made by the first node's `init`, for a further node.
    pub settings: Option<Settings>,
    /// Names and public keys (hex) of further nodes whose envelopes are to have effect.
    pub further_node_keys: Vec<NodeKey>,
    /// The present.
    pub now: Time,
}

/// What `init` made.
#[derive(Debug)]
pub struct Initialised {
    /// The directory.
    pub data_dir: DataDir,
    /// The first admin's token: shown once, kept nowhere. None for a further node.
    pub admin_token: Option<String>,
}

/// Makes a token: `glt_` and 32 random bytes in hex.
pub fn new_token() -> Result<String, SequencerError> {
    Ok(format!("glt_{}", hex(&random()?)))
}

fn random() -> Result<[u8; 32], SequencerError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| SequencerError::Invalid {
        what: "the system's random source".to_owned(),
        value: String::new(),
        reason: error.to_string(),
    })?;
    Ok(bytes)
}

impl DataDir {
    /// Makes the directory, its keys and its ledgers. Repeating it after a crash goes on where it was cut off.
    pub fn init(root: &Path, options: InitOptions) -> Result<Initialised, SequencerError> {
        if root.join("node.json").exists() {
            return Err(SequencerError::AlreadyInitialised { path: root.to_owned() });
        }
        check_node_name(&options.node)?;
        let unfinished = unfinished_ledgers(root)?;
        let keys = root.join("keys");
        fs::create_dir_all(&keys).map_err(at(&keys))?;
        for name in ["ledger.pem", "node.pem"] {
            let path = keys.join(name);
            if !path.exists() {
                LedgerKey::generate(random()?).store(&path).map_err(of(name))?;
            }
        }
        // A crash before node.json leaves settings whose admin token nobody has seen: they are made anew with a new token,
        // and so is the governance ledger, which holds nothing but them.
        let (settings, admin_token) = if let Some(settings) = options.settings {
            (settings, None)
        } else {
            let token = new_token()?;
            let node_key = NodeKey {
                node: options.node.clone(),
                public_key: hex(&LedgerKey::load(&keys.join("node.pem")).map_err(of("node key"))?.public()),
            };
            let settings = Settings {
                ledger: "governance".to_owned(),
                format: FORMAT,
                rules_version: RULES_VERSION,
                created: options.now,
                source: options.source,
                entry_bytes_max: ledger::ENTRY_BYTES_MAX,
                node_keys: std::iter::once(node_key).chain(options.further_node_keys).collect(),
                admin: FirstAdmin { name: options.admin, token_sha256: token_sha256(&token) },
            };
            (settings, Some(token))
        };
        for path in unfinished {
            fs::remove_dir_all(&path).map_err(at(&path))?;
        }
        write_durably(&root.join("settings.json"), &serde_json::to_vec_pretty(&settings)?, 0o644)?;
        let data_dir = Self::new(root, options.node, settings);
        data_dir.create_ledger("governance", &data_dir.settings.entry()?)?;
        if data_dir.settings.source == SourceSettings::Embedded {
            data_dir.create_ledger("metrics-0", &data_dir.settings.metrics(0)?.entry()?)?;
        }
        write_durably(
            &root.join("node.json"),
            &serde_json::to_vec_pretty(&NodeFile { node: data_dir.node.clone() })?,
            0o644,
        )?;
        Ok(Initialised { data_dir, admin_token })
    }

    fn new(root: &Path, node: String, settings: Settings) -> Self {
        let ledger_options = ledger::Options::default();
        Self { disk: Arc::new(OsDisk), root: root.to_owned(), node, settings, ledger_options }
    }

    /// Opens a finished directory.
    pub fn open(root: &Path) -> Result<Self, SequencerError> {
        let node_path = root.join("node.json");
        if !node_path.exists() {
            return Err(SequencerError::NotInitialised { path: root.to_owned() });
        }
        let NodeFile { node } = read_json(&node_path)?;
        check_node_name(&node)?;
        let settings: Settings = read_json(&root.join("settings.json"))?;
        if settings.rules_version > RULES_VERSION || settings.format > FORMAT {
            return Err(SequencerError::UnknownRules {
                found: settings.rules_version.max(settings.format),
                known: RULES_VERSION,
            });
        }
        Ok(Self::new(root, node, settings))
    }

    /// Creates a ledger with its first entry and its verifier keys beside it; returns its writer.
    pub(super) fn create_ledger(&self, name: &str, first_entry: &[u8]) -> Result<ledger::Ledger, SequencerError> {
        let (key, rotations) = (self.ledger_key()?, self.rotations()?);
        self.write_verifier_keys(name, &rotations)?;
        let (disk, dir, options) = (self.disk(), self.ledger_dir(name), self.ledger_options);
        let create = ledger::Ledger::create_on(disk, &dir, &self.origin(name), key, options, first_entry);
        let made = create.map_err(of(name))?;
        if rotations.is_empty() {
            return Ok(made);
        }
        // Begun by a later key: the way there from the first one lies beside it from the start.
        drop(made);
        ledger::chain::put_rotations(self.disk.as_ref(), &dir, &rotations).map_err(of(name))?;
        let opened = ledger::Ledger::open_on(self.disk(), &dir, &self.origin(name), self.ledger_key()?, options);
        Ok(opened.map_err(of(name))?.0)
    }

    /// A reader of one ledger, opened without a lock: the service may be writing.
    pub fn reader(&self, name: &str) -> Result<ledger::Reader, SequencerError> {
        ledger::Reader::open(&self.ledger_dir(name), &self.verifier_key(name)?).map_err(of(name))
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The same directory with its ledgers' files reached through `disk`: a test's, that fails when it is told to.
    #[must_use]
    pub fn on(self, disk: Arc<dyn Disk>) -> Self {
        Self { disk, ..self }
    }

    /// The same directory with its ledgers written in this way.
    #[must_use]
    pub fn with_ledger_options(self, ledger_options: ledger::Options) -> Self {
        Self { ledger_options, ..self }
    }

    pub(super) const fn ledger_options(&self) -> ledger::Options {
        self.ledger_options
    }

    pub(super) fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    /// This node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The governance ledger's first entry.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The origin of a ledger: `<node>/<ledger>`.
    pub fn origin(&self, ledger: &str) -> String {
        format!("{}/{ledger}", self.node)
    }

    /// Where a ledger lies.
    pub fn ledger_dir(&self, ledger: &str) -> PathBuf {
        self.root.join(ledger)
    }

    /// Where large records lie.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// The key that signs checkpoints: the one that the rotations end with, wherever a crash left its file.
    pub fn ledger_key(&self) -> Result<LedgerKey, SequencerError> {
        let last = ledger::chain::last_key(&self.rotations()?).map_err(|error| of("ledger key")(error.into()))?;
        match self.next_ledger_key()? {
            Some(next) if last == Some(next.public()) => Ok(next),
            Some(_) | None => LedgerKey::load(&self.root.join("keys/ledger.pem")).map_err(of("ledger key")),
        }
    }

    /// The notes in which each ledger key signs the next, oldest first.
    pub fn rotations(&self) -> Result<String, SequencerError> {
        let path = self.root.join(ROTATIONS);
        if path.exists() { fs::read_to_string(&path).map_err(at(&path)) } else { Ok(String::new()) }
    }

    /// Keeps them. From here on the new key is the ledger key, whatever happens.
    pub(super) fn store_rotations(&self, rotations: &str) -> Result<(), SequencerError> {
        write_durably(&self.root.join(ROTATIONS), rotations.as_bytes(), 0o644)
    }

    /// Finishes what a rotation of the ledger key may have left undone: every ledger has all notes, the key its place, the
    /// verifier keys are listed. No ledger is open.
    pub(super) fn finish_rotations(&self) -> Result<(), SequencerError> {
        let rotations = self.rotations()?;
        if rotations.is_empty() {
            return Ok(());
        }
        for name in self.ledgers()? {
            let put = ledger::chain::put_rotations(self.disk.as_ref(), &self.ledger_dir(&name), &rotations);
            put.map_err(of(&name))?;
        }
        self.promote_ledger_key(&rotations)
    }

    /// Puts the next ledger key in the place of the ledger key, where the rotations end with it.
    pub(super) fn promote_ledger_key(&self, rotations: &str) -> Result<(), SequencerError> {
        for name in self.ledgers()? {
            self.write_verifier_keys(&name, rotations)?;
        }
        let last = ledger::chain::last_key(rotations).map_err(|error| of("ledger key")(error.into()))?;
        if self.next_ledger_key()?.is_some_and(|next| last == Some(next.public())) {
            self.promote(NEXT_LEDGER_KEY, "keys/ledger.pem")?;
        }
        Ok(())
    }

    /// The key that is to follow the ledger key, where a rotation was begun.
    pub fn next_ledger_key(&self) -> Result<Option<LedgerKey>, SequencerError> {
        self.load_next(NEXT_LEDGER_KEY)
    }

    /// The same, made where there is none.
    pub fn make_next_ledger_key(&self) -> Result<LedgerKey, SequencerError> {
        self.make_next(NEXT_LEDGER_KEY)
    }

    /// The file that is handed out: the first key, from which everything is checked, and below it those that followed.
    fn write_verifier_keys(&self, name: &str, rotations: &str) -> Result<(), SequencerError> {
        self.write_keys_of(name, self.ledger_key()?.public(), rotations)
    }

    /// The same for a ledger that `current` signs now.
    pub(super) fn write_keys_of(&self, name: &str, current: [u8; 32], rotations: &str) -> Result<(), SequencerError> {
        let invalid = |error: ledger::note::NoteError| of(name)(error.into());
        let rotations = ledger::chain::read_rotations(rotations).map_err(invalid)?;
        let first = rotations.first().map_or(current, |rotation| rotation.old);
        let keys = std::iter::once(first).chain(rotations.iter().map(|rotation| rotation.new));
        let mut text = String::new();
        for public in keys {
            let origin = self.origin(name);
            let key = ledger::VerifierKey::new(&origin, ledger::note::KeyKind::Ed25519, public).map_err(invalid)?;
            text.push_str(&key.to_string());
            text.push('\n');
        }
        let path = self.root.join("keys").join(format!("{name}.vkey"));
        if fs::read_to_string(&path).is_ok_and(|there| there == text) {
            return Ok(());
        }
        write_durably(&path, text.as_bytes(), 0o644)
    }

    /// The key that signs envelopes.
    pub fn node_key(&self) -> Result<LedgerKey, SequencerError> {
        LedgerKey::load(&self.root.join("keys/node.pem")).map_err(of("node key"))
    }

    /// The key that is to follow the node key, where a rotation was begun.
    pub fn next_node_key(&self) -> Result<Option<LedgerKey>, SequencerError> {
        self.load_next(NEXT_NODE_KEY)
    }

    /// The same, made where there is none. One that an earlier attempt left serves: nobody else has it.
    pub fn make_next_node_key(&self) -> Result<LedgerKey, SequencerError> {
        self.make_next(NEXT_NODE_KEY)
    }

    /// Puts the next node key in the place of the node key. The old one is of no use to anybody any more.
    pub(super) fn promote_node_key(&self) -> Result<(), SequencerError> {
        self.promote(NEXT_NODE_KEY, "keys/node.pem")
    }

    pub(super) fn load_next(&self, name: &str) -> Result<Option<LedgerKey>, SequencerError> {
        let path = self.root.join(name);
        if path.exists() { LedgerKey::load(&path).map(Some).map_err(of(name)) } else { Ok(None) }
    }

    pub(super) fn make_next(&self, name: &str) -> Result<LedgerKey, SequencerError> {
        if let Some(key) = self.load_next(name)? {
            return Ok(key);
        }
        let key = LedgerKey::generate(random()?);
        key.store(&self.root.join(name)).map_err(of(name))?;
        Ok(key)
    }

    /// Renames a key's file, durably: in one step the one key takes the other's place.
    fn promote(&self, from: &str, to: &str) -> Result<(), SequencerError> {
        let to = self.root.join(to);
        fs::rename(self.root.join(from), &to).map_err(at(&to))?;
        let keys = self.root.join("keys");
        fs::File::open(&keys).and_then(|directory| directory.sync_all()).map_err(at(&keys))
    }

    /// The key from which a ledger is checked: the first one. Needs no secret.
    pub fn verifier_key(&self, ledger: &str) -> Result<ledger::note::VerifierKey, SequencerError> {
        let path = self.root.join("keys").join(format!("{ledger}.vkey"));
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        ledger::note::VerifierKey::parse(text.lines().next().unwrap_or_default().trim()).map_err(|error| {
            SequencerError::Invalid { what: path.display().to_string(), value: text, reason: error.to_string() }
        })
    }

    /// Names of the ledgers here: `governance`, then `metrics-<n>` by number.
    pub fn ledgers(&self) -> Result<Vec<String>, SequencerError> {
        let mut numbers = BTreeSet::new();
        for entry in fs::read_dir(&self.root).map_err(at(&self.root))? {
            let name = entry.map_err(at(&self.root))?.file_name();
            if let Some(number) = name.to_str().and_then(metrics_number) {
                numbers.insert(number);
            }
        }
        Ok(std::iter::once("governance".to_owned())
            .chain(numbers.into_iter().map(|number| format!("metrics-{number}")))
            .collect())
    }

    /// A reader of each ledger, opened without a lock: the service may be writing.
    pub fn readers(&self) -> Result<Vec<(String, ledger::Reader)>, SequencerError> {
        let open = |name: String| {
            let reader =
                ledger::Reader::open(&self.ledger_dir(&name), &self.verifier_key(&name)?).map_err(of(&name))?;
            Ok((name, reader))
        };
        self.ledgers()?.into_iter().map(open).collect()
    }
}

/// The n of `metrics-<n>`.
pub fn metrics_number(ledger: &str) -> Option<u32> {
    ledger.strip_prefix("metrics-")?.parse().ok()
}

/// The ledgers that an `init` which was cut off has left behind: they hold their settings and nothing else. One with more in
/// it, or that cannot be read, is somebody's record: then there are none, and an error.
fn unfinished_ledgers(root: &Path) -> Result<Vec<PathBuf>, SequencerError> {
    let mut unfinished = Vec::new();
    if !root.exists() {
        return Ok(unfinished);
    }
    for entry in fs::read_dir(root).map_err(at(root))? {
        let entry = entry.map_err(at(root))?;
        let Some(ledger) = entry.file_name().to_str().filter(|name| is_ledger(name)).map(str::to_owned) else {
            continue;
        };
        let key = root.join("keys").join(format!("{ledger}.vkey"));
        if !holds_settings_alone(&entry.path(), &key) {
            return Err(SequencerError::NodeFileMissing { path: root.join("node.json"), ledger, key });
        }
        unfinished.push(entry.path());
    }
    Ok(unfinished)
}

fn is_ledger(name: &str) -> bool {
    name == "governance" || metrics_number(name).is_some()
}

/// A ledger is put in place with its first entry, so one that is there can be read, or something is wrong with it.
fn holds_settings_alone(ledger: &Path, key: &Path) -> bool {
    let read = || {
        let text = fs::read_to_string(key).ok()?;
        let key = ledger::note::VerifierKey::parse(text.lines().next()?.trim()).ok()?;
        ledger::Reader::open(ledger, &key).ok()
    };
    read().is_some_and(|reader| reader.size() <= 1)
}

fn check_node_name(node: &str) -> Result<(), SequencerError> {
    if !is_node_name(node) {
        return Err(SequencerError::Invalid {
            what: "node name".to_owned(),
            value: node.to_owned(),
            reason: NODE_NAME.to_owned(),
        });
    }
    Ok(())
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, SequencerError> {
    let text = fs::read_to_string(path).map_err(at(path))?;
    serde_json::from_str(&text).map_err(|error| SequencerError::Invalid {
        what: path.display().to_string(),
        value: crate::domain::refusal::quoted(&text),
        reason: error.to_string(),
    })
}

/// Writes a small file so that after a crash it is there whole or not at all.
pub fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SequencerError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(at(parent))?;
    let temporary = path.with_extension("tmp");
    let _ = fs::remove_file(&temporary);
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).map_err(at(&temporary))?;
    file.write_all(bytes).map_err(at(&temporary))?;
    file.sync_all().map_err(at(&temporary))?;
    fs::rename(&temporary, path).map_err(at(path))?;
    fs::File::open(parent).and_then(|directory| directory.sync_all()).map_err(at(parent))
}
