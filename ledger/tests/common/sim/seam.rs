//! The disk as the ledger sees it: each operation with its ways of going wrong.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex},
};

use ledger::disk::{Access, Disk, DiskFile, Stat};

use super::{Cached, Fault, Go, NameChange, Names, Node, SimDisk, State, broken, full, stopped};

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    node: usize,
    name: String,
    holds_lock: Mutex<bool>,
}

impl SimDisk {
    /// A step that is done whole or not at all. `act` is told whether it is lost.
    fn whole<T>(
        &self,
        operation: &'static str,
        path: &Path,
        makes_new: bool,
        act: impl FnOnce(&mut State, bool) -> io::Result<T>,
    ) -> io::Result<T> {
        let (mut state, go) = self.step(operation, path, 0)?;
        match go {
            Go::Well if makes_new && state.is_full => Err(full()),
            Go::Well => act(&mut state, false),
            Go::Wrong(Fault::Lost) => act(&mut state, true),
            Go::Wrong(Fault::DoneButFailed) => act(&mut state, false).and(Err(broken())),
            Go::Wrong(Fault::Full(_)) => Err(full()),
            Go::Wrong(_) => Err(broken()),
        }
    }

    fn read<T>(&self, act: impl FnOnce(&mut State) -> T) -> io::Result<T> {
        let mut state = self.state();
        if state.is_stopped {
            return Err(stopped());
        }
        let now = state.reads;
        state.reads += 1;
        if state.forgetting_read == Some(now) {
            state.evict();
        }
        if state.failing_read == Some(now) { Err(broken()) } else { Ok(act(&mut state)) }
    }

    fn make(&self, path: &Path, operation: &'static str, node: impl FnOnce(&State, String) -> Node) -> io::Result<()> {
        self.whole(operation, path, true, |state, is_lost| {
            let (dir, name) = state.place(path)?;
            let id = state.nodes.len();
            let node = node(state, name.clone());
            state.nodes.push(node);
            state.change(NameChange { from: None, to: Some((dir, name, id)) }, is_lost)
        })
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let found = self.state().find(path);
        match (found, access) {
            (None, Access::Read | Access::Write) => return Err(io::ErrorKind::NotFound.into()),
            (Some(_), Access::CreateNew | Access::CreateSecret) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, _) => {
                self.make(path, "create", |state, name| Node::File { name, content: Cached::new(state.page_bytes) })?;
            }
            // To open what is there changes nothing, so it cannot be lost.
            (Some(_), Access::Read) => self.read(|_| ())?,
            (Some(_), Access::Write | Access::Create) => self.whole("open", path, false, |_, _| Ok(()))?,
        }
        let node = self.state().find(path).ok_or(io::ErrorKind::NotFound)?;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        Ok(Arc::new(SimFile { disk: self.clone(), node, name, holds_lock: Mutex::new(false) }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        for above in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            let is_there = self.state().find(above).is_some();
            if !is_there {
                self.make(above, "mkdir", |_, _| Node::Dir { live: Names::new(), disk: Names::new() })?;
            }
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.read(|state| {
            let node = state.find(path).ok_or(io::ErrorKind::NotFound)?;
            Ok(state.names(node)?.0.keys().cloned().collect())
        })?
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        self.read(|state| {
            state.find(path).map(|node| match &state.nodes[node] {
                Node::File { content, .. } => Stat { len: content.live.len() as u64, is_dir: false, mode: 0o600 },
                Node::Dir { .. } => Stat { len: 0, is_dir: true, mode: 0o700 },
            })
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.whole("rename", to, false, |state, is_lost| {
            let node = state.find(from).ok_or(io::ErrorKind::NotFound)?;
            let (from, (dir, name)) = (state.place(from)?, state.place(to)?);
            state.change(NameChange { from: Some(from), to: Some((dir, name, node)) }, is_lost)
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.whole("remove", path, false, |state, is_lost| {
            let from = state.place(path)?;
            state.change(NameChange { from: Some(from), to: None }, is_lost)
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.whole("sync_dir", path, false, |state, is_lost| {
            let node = state.find(path).ok_or(io::ErrorKind::NotFound)?;
            for change in state.take_changes(node) {
                if !is_lost {
                    state.make_durable(&change);
                }
            }
            Ok(())
        })
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.read(|state| {
            let live = &state.content(self.node).live;
            let rest = live.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            len
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut state, go) = self.disk.step_named("write", self.name.clone(), bytes.len())?;
        let offset = usize::try_from(offset).unwrap();
        let is_full = state.is_full;
        let content = state.content(self.node);
        let room = content.live.len().saturating_sub(offset);
        let (done, result) = match go {
            Go::Well if is_full && bytes.len() > room => (room, Err(full())),
            Go::Well | Go::Wrong(Fault::Lost) => (bytes.len(), Ok(())),
            Go::Wrong(Fault::Torn(len)) => (len.min(bytes.len()), Err(broken())),
            Go::Wrong(Fault::Full(len)) => (len.min(bytes.len()), Err(full())),
            Go::Wrong(Fault::DoneButFailed) => (bytes.len(), Err(broken())),
            Go::Wrong(Fault::Fail | Fault::FailedClean) => (0, Err(broken())),
        };
        let is_kept = !matches!(go, Go::Wrong(Fault::Lost));
        if done > 0 {
            content.write(offset, &bytes[..done], is_kept);
        }
        result
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut state, go) = self.disk.step_named("truncate", self.name.clone(), 0)?;
        let is_done = matches!(go, Go::Well | Go::Wrong(Fault::DoneButFailed | Fault::Lost));
        if is_done {
            let content = state.content(self.node);
            content.set_len(usize::try_from(len).unwrap(), !matches!(go, Go::Wrong(Fault::Lost)));
        }
        if matches!(go, Go::Well | Go::Wrong(Fault::Lost)) { Ok(()) } else { Err(broken()) }
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.read(|state| state.content(self.node).live.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut state, go) = self.disk.step_named("sync", self.name.clone(), 0)?;
        let content = state.content(self.node);
        match go {
            Go::Well | Go::Wrong(Fault::DoneButFailed) => content.sync(),
            Go::Wrong(Fault::Lost | Fault::FailedClean) => content.drop_dirty(),
            Go::Wrong(_) => {}
        }
        match go {
            Go::Well | Go::Wrong(Fault::Lost) => Ok(()),
            Go::Wrong(Fault::Full(_)) => Err(full()),
            Go::Wrong(_) => Err(broken()),
        }
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
