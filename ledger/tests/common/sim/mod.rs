//! A disk in memory that fails, lies and loses power.
//!
//! Each file is a [`Cached`]; each directory has the names that programs see and those on the disk, and
//! between them the changes that no sync of the directory has made durable, any of which a crash may keep.
//! Every operation but reading is a *step*. One step, chosen beforehand, can go wrong in each way of
//! [`Fault`]; from then on the machine stands still or goes on. What is found afterwards is [`SimDisk::lose_power`]
//! or [`SimDisk::kill`].

mod cached;
mod seam;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Component, Path},
    sync::{Arc, Mutex, MutexGuard},
};

use cached::Cached;
use ledger::disk::Disk;

use super::rng::Rng;

/// How the chosen step goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not done, and fails.
    Fail,
    /// It is done, and reported to have failed.
    DoneButFailed,
    /// So many bytes of a write are done, and it fails. Other steps fail.
    Torn(usize),
    /// It fails, and if it is a sync, the file's pages count as written from now on and are not.
    FailedClean,
    /// It is reported as done, programs see it, and it never reaches the disk.
    Lost,
    /// So many bytes of a write are done, and there is no space for more, nor for anything new, until
    /// [`SimDisk::free_space`].
    Full(usize),
}

/// What happened at a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub operation: &'static str,
    /// The last part of the path.
    pub name: String,
    /// Of a write: how many bytes.
    pub len: usize,
}

/// What a loss of power leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Survives {
    Nothing,
    Everything,
    /// Only what was written to files of this name.
    File(&'static str),
    /// Of each file every second page, and every second change of a name.
    EverySecond,
    /// Any subset, by a seed: of each page and length any content that it had.
    Seeded(u64),
}

#[derive(Clone, Debug)]
enum Node {
    File { name: String, content: Cached },
    Dir { live: Names, disk: Names },
}

type Names = BTreeMap<String, usize>;

/// A change of names: one taken away, one given, or both at once.
#[derive(Clone, Debug)]
struct NameChange {
    from: Option<(usize, String)>,
    to: Option<(usize, String, usize)>,
}

#[derive(Clone, Debug)]
struct State {
    nodes: Vec<Node>,
    changes: Vec<NameChange>,
    locks: BTreeSet<usize>,
    page_bytes: usize,
    steps: Vec<Step>,
    fault: Option<(usize, Fault)>,
    /// Whether the machine stands still after the fault.
    stops: bool,
    is_stopped: bool,
    is_full: bool,
    /// Writes pages back and forgets clean ones now and then.
    kernel: Option<Rng>,
    reads: u64,
    failing_read: Option<u64>,
    forgetting_read: Option<u64>,
}

/// A disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    pub fn new(page_bytes: usize) -> Self {
        let root = Node::Dir { live: Names::new(), disk: Names::new() };
        Self::of(vec![root], Vec::new(), page_bytes)
    }

    fn of(nodes: Vec<Node>, changes: Vec<NameChange>, page_bytes: usize) -> Self {
        let state = State {
            nodes,
            changes,
            locks: BTreeSet::new(),
            page_bytes,
            steps: Vec::new(),
            fault: None,
            stops: false,
            is_stopped: false,
            is_full: false,
            kernel: None,
            reads: 0,
            failing_read: None,
            forgetting_read: None,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    pub fn arc(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The steps taken so far.
    pub fn steps(&self) -> Vec<Step> {
        self.state().steps.clone()
    }

    pub fn step_count(&self) -> usize {
        self.state().steps.len()
    }

    /// Lets the step `after` further ones from now go wrong.
    pub fn fault_at(&self, after: usize, fault: Fault, stops: bool) {
        let mut state = self.state();
        state.fault = Some((state.steps.len() + after, fault));
        state.stops = stops;
    }

    /// Whether the chosen step came.
    pub fn fault_came(&self) -> bool {
        let state = self.state();
        state.fault.is_some_and(|(at, _)| at < state.steps.len())
    }

    pub fn reads(&self) -> u64 {
        self.state().reads
    }

    /// Lets the read `after` further ones from now fail, once.
    pub fn fail_read(&self, after: u64) {
        let mut state = self.state();
        state.failing_read = Some(state.reads + after);
    }

    /// Lets memory forget all pages that it takes for clean before the read `after` further ones from now.
    pub fn forget_at_read(&self, after: u64) {
        let mut state = self.state();
        state.forgetting_read = Some(state.reads + after);
    }

    pub fn free_space(&self) {
        self.state().is_full = false;
    }

    /// Lets the machine write pages back and forget clean ones whenever it likes.
    pub fn with_kernel(&self, seed: u64) {
        self.state().kernel = Some(Rng::new(seed));
    }

    /// The process is killed and the machine goes on: what was written is there, on the disk or not.
    pub fn kill(&self) -> Self {
        let state = self.state();
        Self::of(state.nodes.clone(), state.changes.clone(), state.page_bytes)
    }

    /// Memory forgets all pages that it takes for clean.
    pub fn evict(&self) {
        self.state().evict();
    }

    /// The disk as it is found after power was lost now.
    pub fn lose_power(&self, survives: Survives) -> Self {
        let mut state = self.state().clone();
        let mut rng = Rng::new(if let Survives::Seeded(seed) = survives { seed } else { 0 });
        let mut count = 0;
        let mut choose = |name: &str, versions: usize| match survives {
            Survives::Nothing => 0,
            Survives::Everything => versions,
            Survives::File(kept) => versions * usize::from(kept == name),
            Survives::EverySecond => {
                count += 1;
                versions * (count % 2)
            }
            Survives::Seeded(_) => rng.index(versions + 1),
        };
        for change in std::mem::take(&mut state.changes) {
            if choose("a name", 1) == 1 {
                state.make_durable(&change);
            }
        }
        for node in &mut state.nodes {
            match node {
                Node::File { name, content } => content.lose_power(&mut |versions| choose(name, versions)),
                Node::Dir { live, disk } => live.clone_from(disk),
            }
        }
        Self::of(state.nodes, Vec::new(), state.page_bytes)
    }

    /// Changes bytes behind everybody's back, in memory and on the disk.
    pub fn with_file(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let node = state.find(path).unwrap();
        state.content(node).overwrite(change);
    }

    /// What programs see of a file.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let mut state = self.state();
        let node = state.find(path)?;
        Some(state.content(node).live.clone())
    }

    /// Everything that programs see: paths and bytes, directories without.
    pub fn image(&self) -> BTreeMap<String, Vec<u8>> {
        let mut state = self.state();
        let mut found = BTreeMap::new();
        let mut open = vec![(String::new(), 0)];
        while let Some((path, node)) = open.pop() {
            let names = if let Node::Dir { live, .. } = &state.nodes[node] { Some(live.clone()) } else { None };
            match names {
                Some(names) => open.extend(names.into_iter().map(|(name, node)| (format!("{path}/{name}"), node))),
                None => drop(found.insert(path, state.content(node).live.clone())),
            }
        }
        found
    }

    /// Counts a step, and says how it goes wrong, if it does.
    fn step(&self, operation: &'static str, path: &Path, len: usize) -> io::Result<(MutexGuard<'_, State>, Go)> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.step_named(operation, name, len)
    }

    fn step_named(&self, operation: &'static str, name: String, len: usize) -> io::Result<(MutexGuard<'_, State>, Go)> {
        let mut state = self.state();
        if state.is_stopped {
            return Err(stopped());
        }
        state.run_kernel();
        let now = state.steps.len();
        state.steps.push(Step { operation, name, len });
        let Some((_, fault)) = state.fault.filter(|(at, _)| *at == now) else { return Ok((state, Go::Well)) };
        state.is_stopped = state.stops;
        match fault {
            Fault::Fail => Err(broken()),
            Fault::Torn(_) | Fault::FailedClean | Fault::Full(_) | Fault::DoneButFailed | Fault::Lost => {
                state.is_full |= matches!(fault, Fault::Full(_));
                Ok((state, Go::Wrong(fault)))
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Go {
    Well,
    Wrong(Fault),
}

fn stopped() -> io::Error {
    io::Error::other("the machine stands still")
}

fn broken() -> io::Error {
    io::Error::other("the disk is broken")
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl State {
    fn find(&self, path: &Path) -> Option<usize> {
        let mut node = 0;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let Node::Dir { live, .. } = &self.nodes[node] else { return None };
            node = *live.get(name.to_str().unwrap())?;
        }
        Some(node)
    }

    /// The directory that holds a path, and the path's name there.
    fn place(&self, path: &Path) -> io::Result<(usize, String)> {
        let node = self.find(path.parent().unwrap()).ok_or(io::ErrorKind::NotFound)?;
        Ok((node, path.file_name().unwrap().to_str().unwrap().to_owned()))
    }

    fn content(&mut self, node: usize) -> &mut Cached {
        let Node::File { content, .. } = &mut self.nodes[node] else { panic!("node {node} is no file") };
        content
    }

    fn names(&mut self, node: usize) -> io::Result<(&mut Names, &mut Names)> {
        let Node::Dir { live, disk } = &mut self.nodes[node] else { return Err(io::ErrorKind::NotADirectory.into()) };
        Ok((live, disk))
    }

    /// Makes a change of names visible, and remembers that it is not durable, unless it is lost.
    fn change(&mut self, change: NameChange, is_lost: bool) -> io::Result<()> {
        if let Some((dir, name)) = &change.from {
            self.names(*dir)?.0.remove(name).ok_or(io::ErrorKind::NotFound)?;
        }
        if let Some((dir, name, node)) = &change.to {
            self.names(*dir)?.0.insert(name.clone(), *node);
        }
        if !is_lost {
            self.changes.push(change);
        }
        Ok(())
    }

    fn make_durable(&mut self, change: &NameChange) {
        if let Some((dir, name)) = &change.from {
            self.names(*dir).unwrap().1.remove(name);
        }
        if let Some((dir, name, node)) = &change.to {
            self.names(*dir).unwrap().1.insert(name.clone(), *node);
        }
    }

    /// Takes the changes that a directory's sync is about.
    fn take_changes(&mut self, dir: usize) -> Vec<NameChange> {
        let is_of = |change: &NameChange| {
            change.to.as_ref().map(|to| to.0).or(change.from.as_ref().map(|from| from.0)) == Some(dir)
        };
        let (taken, kept) = std::mem::take(&mut self.changes).into_iter().partition(is_of);
        self.changes = kept;
        taken
    }

    fn evict(&mut self) {
        for node in &mut self.nodes {
            if let Node::File { content, .. } = node {
                content.evict();
            }
        }
    }

    fn run_kernel(&mut self) {
        let Some(mut rng) = self.kernel.take() else { return };
        for node in &mut self.nodes {
            let Node::File { content, .. } = node else { continue };
            if rng.one_in(8) {
                content.write_back(rng.index(64));
            }
            if rng.one_in(8) {
                content.evict();
            }
        }
        if rng.one_in(8) && !self.changes.is_empty() {
            // Names go to the disk in their order.
            let change = self.changes.remove(0);
            self.make_durable(&change);
        }
        self.kernel = Some(rng);
    }
}
