//! A disk in memory that can fail and crash.
//!
//! Each file has what programs see and what is durable; each directory has the names that programs see and
//! the durable ones. A sync moves one to the other. Every operation that changes something is counted, and
//! one of them can be made to fail; from then on everything fails, as if the machine had stopped there.
//! [`SimDisk::crash`] gives the disk as it is found afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Component, Path},
    sync::{Arc, Mutex, MutexGuard},
};

use ledger::disk::{Access, Disk, DiskFile, Stat};

/// What happens at the chosen operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not done, and fails.
    Fail,
    /// It is done, and reported to have failed.
    DoneButFailed,
    /// A write is half done, and fails. (Others are not done.)
    Torn,
}

/// What of the unsynced writes a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    /// None: power was lost before anything was written back.
    Nothing,
    /// All: the process was killed, the machine went on.
    Everything,
    /// Of each file's unsynced writes every second one, in no order: power was lost in between.
    EverySecond,
}

#[derive(Clone, Debug)]
enum Node {
    File { live: Vec<u8>, durable: Vec<u8>, writes: Vec<Write> },
    Dir { live: BTreeMap<String, usize>, durable: BTreeMap<String, usize> },
}

#[derive(Clone, Debug)]
enum Write {
    Bytes(u64, Vec<u8>),
    Len(u64),
}

#[derive(Debug)]
struct State {
    nodes: Vec<Node>,
    locks: BTreeSet<usize>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    is_stopped: bool,
    /// Syncs of files report success and do nothing.
    is_lying: bool,
}

#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    node: usize,
    holds_lock: Mutex<bool>,
}

fn apply(content: &mut Vec<u8>, write: &Write) {
    match write {
        Write::Bytes(offset, bytes) => {
            let offset = usize::try_from(*offset).unwrap();
            let end = offset + bytes.len();
            content.resize(content.len().max(end), 0);
            content[offset..end].copy_from_slice(bytes);
        }
        Write::Len(len) => content.resize(usize::try_from(*len).unwrap(), 0),
    }
}

fn stopped() -> io::Error {
    io::Error::other("the disk has stopped")
}

impl SimDisk {
    pub fn new() -> Self {
        let root = Node::Dir { live: BTreeMap::new(), durable: BTreeMap::new() };
        Self::of(vec![root])
    }

    fn of(nodes: Vec<Node>) -> Self {
        let state =
            State { nodes, locks: BTreeSet::new(), operations: 0, fault: None, is_stopped: false, is_lying: false };
        Self(Arc::new(Mutex::new(state)))
    }

    pub fn arc(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Operations that changed something so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Lets the operation `after` further ones from now fail.
    pub fn fail_at(&self, after: u64, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.operations + after, fault));
    }

    pub fn lie(&self, is_lying: bool) {
        self.state().is_lying = is_lying;
    }

    pub fn has_stopped(&self) -> bool {
        self.state().is_stopped
    }

    /// The disk as it is found after a crash now.
    pub fn crash(&self, survives: Survives) -> Self {
        let mut nodes = self.state().nodes.clone();
        for node in &mut nodes {
            match node {
                Node::File { live, durable, writes } => {
                    match survives {
                        Survives::Nothing => {}
                        Survives::Everything => durable.clone_from(live),
                        Survives::EverySecond => {
                            writes.iter().skip(1).step_by(2).for_each(|write| apply(durable, write));
                        }
                    }
                    live.clone_from(durable);
                    writes.clear();
                }
                Node::Dir { live, durable } => {
                    if survives == Survives::Everything {
                        durable.clone_from(live);
                    }
                    live.clone_from(durable);
                }
            }
        }
        Self::of(nodes)
    }

    /// Changes bytes behind everybody's back.
    pub fn with_file(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let node = state.find(path).unwrap();
        let Node::File { live, durable, .. } = &mut state.nodes[node] else { panic!("no file") };
        change(live);
        durable.clone_from(live);
    }

    /// Counts an operation, and says whether to do it: `Ok(None)` whole, `Ok(Some(error))` as far as the
    /// fault has it and then fail.
    fn step(state: &mut State) -> io::Result<Option<Fault>> {
        if state.is_stopped {
            return Err(stopped());
        }
        let now = state.operations;
        state.operations += 1;
        match state.fault {
            Some((at, fault)) if at == now => {
                state.is_stopped = true;
                if fault == Fault::Fail { Err(stopped()) } else { Ok(Some(fault)) }
            }
            _ => Ok(None),
        }
    }

    fn change(&self, act: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state();
        match Self::step(&mut state)? {
            None => act(&mut state),
            Some(Fault::DoneButFailed) => act(&mut state).and(Err(stopped())),
            Some(_) => Err(stopped()),
        }
    }
}

impl State {
    fn find(&self, path: &Path) -> Option<usize> {
        let mut node = 0;
        for component in path.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            let Node::Dir { live, .. } = &self.nodes[node] else {
                return None;
            };
            node = *live.get(name.to_str().unwrap())?;
        }
        Some(node)
    }

    fn parent(&mut self, path: &Path) -> io::Result<(&mut BTreeMap<String, usize>, String)> {
        let node = self.find(path.parent().unwrap()).ok_or(io::ErrorKind::NotFound)?;
        let Node::Dir { live, .. } = &mut self.nodes[node] else {
            return Err(io::ErrorKind::NotADirectory.into());
        };
        Ok((live, path.file_name().unwrap().to_str().unwrap().to_owned()))
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let id = self.nodes.len();
        let (names, name) = self.parent(path)?;
        names.insert(name, id);
        self.nodes.push(node);
        Ok(id)
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let found = self.state().find(path);
        let node = match (found, access) {
            (None, Access::Read | Access::Write) => return Err(io::ErrorKind::NotFound.into()),
            (Some(_), Access::CreateNew | Access::CreateSecret) => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            (Some(node), _) => node,
            (None, _) => {
                self.change(|state| {
                    let file = Node::File { live: Vec::new(), durable: Vec::new(), writes: Vec::new() };
                    state.add(path, file).map(|_| ())
                })?;
                self.state().find(path).unwrap()
            }
        };
        if self.has_stopped() {
            return Err(stopped());
        }
        Ok(Arc::new(SimFile { disk: self.clone(), node, holds_lock: Mutex::new(false) }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        for above in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if self.state().find(above).is_none() {
                self.change(|state| {
                    let dir = Node::Dir { live: BTreeMap::new(), durable: BTreeMap::new() };
                    state.add(above, dir).map(|_| ())
                })?;
            }
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let node = state.find(path).ok_or(io::ErrorKind::NotFound)?;
        let Node::Dir { live, .. } = &state.nodes[node] else {
            return Err(io::ErrorKind::NotADirectory.into());
        };
        Ok(live.keys().cloned().collect())
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        let state = self.state();
        Ok(state.find(path).map(|node| match &state.nodes[node] {
            Node::File { live, .. } => Stat { len: live.len() as u64, is_dir: false, mode: 0o600 },
            Node::Dir { .. } => Stat { len: 0, is_dir: true, mode: 0o700 },
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|state| {
            let node = state.find(from).ok_or(io::ErrorKind::NotFound)?;
            let (names, name) = state.parent(from)?;
            names.remove(&name);
            let (names, name) = state.parent(to)?;
            names.insert(name, node);
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            let (names, name) = state.parent(path)?;
            names.remove(&name).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            let node = state.find(path).ok_or(io::ErrorKind::NotFound)?;
            let Node::Dir { live, durable } = &mut state.nodes[node] else { panic!("no directory") };
            durable.clone_from(live);
            Ok(())
        })
    }
}

impl SimFile {
    fn write(state: &mut State, node: usize, write: Write) {
        let Node::File { live, writes, .. } = &mut state.nodes[node] else { panic!("no file") };
        apply(live, &write);
        writes.push(write);
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let Node::File { live, .. } = &state.nodes[self.node] else { panic!("no file") };
        let rest = live.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let fault = SimDisk::step(&mut state)?;
        let len = if fault == Some(Fault::Torn) { bytes.len() / 2 } else { bytes.len() };
        Self::write(&mut state, self.node, Write::Bytes(offset, bytes[..len].to_vec()));
        if fault.is_some() { Err(stopped()) } else { Ok(()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.change(|state| {
            Self::write(state, self.node, Write::Len(len));
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        let Node::File { live, .. } = &state.nodes[self.node] else { panic!("no file") };
        Ok(live.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.change(|state| {
            let is_lying = state.is_lying;
            let Node::File { live, durable, writes } = &mut state.nodes[self.node] else { panic!("no file") };
            if !is_lying {
                durable.clone_from(live);
                writes.clear();
            }
            Ok(())
        })
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut holds = self.holds_lock.lock().unwrap();
        *holds = self.disk.state().locks.insert(self.node);
        Ok(*holds)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if *self.holds_lock.lock().unwrap() {
            self.disk.state().locks.remove(&self.node);
        }
    }
}
