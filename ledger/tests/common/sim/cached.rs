//! One file between memory and disk.
//!
//! Programs see `live`. A write makes the pages that it touches dirty; each dirty page remembers what it
//! held since it was last written back, for the machine may write back any of these at any time. A sync
//! puts the newest of each on the disk. A page that is clean and differs from the disk is one that a failed
//! or lying sync dropped: no later sync writes it, and memory may forget it.

use std::collections::BTreeMap;

/// Earlier contents of a page that are kept.
const VERSIONS_MAX: usize = 4;

#[derive(Clone, Debug)]
pub struct Cached {
    pub live: Vec<u8>,
    /// The pages on the disk, whole ones; the file ends at `disk_len`.
    disk: Vec<u8>,
    disk_len: usize,
    page_bytes: usize,
    /// What each dirty page held since it was last written back, oldest first.
    dirty: BTreeMap<usize, Vec<Vec<u8>>>,
    /// The lengths since the last sync.
    lens: Vec<usize>,
}

/// Which of `versions` contents a crash leaves: 0 is what the disk has, 1 the oldest thereafter.
pub type Choose<'a> = &'a mut dyn FnMut(usize) -> usize;

impl Cached {
    pub fn new(page_bytes: usize) -> Self {
        Self { live: Vec::new(), disk: Vec::new(), disk_len: 0, page_bytes, dirty: BTreeMap::new(), lens: Vec::new() }
    }

    pub fn write(&mut self, offset: usize, bytes: &[u8], is_kept: bool) {
        let end = offset + bytes.len();
        if end > self.live.len() {
            self.live.resize(end, 0);
            if is_kept {
                self.lens.push(end);
            }
        }
        self.live[offset..end].copy_from_slice(bytes);
        if is_kept && !bytes.is_empty() {
            self.touch(offset, end);
        }
    }

    pub fn set_len(&mut self, len: usize, is_kept: bool) {
        let before = self.live.len();
        self.live.resize(len, 0);
        if !is_kept {
            return;
        }
        self.lens.push(len);
        if len < before && !len.is_multiple_of(self.page_bytes) {
            self.touch(len, len + 1);
        }
    }

    fn touch(&mut self, from: usize, to: usize) {
        for page in from / self.page_bytes..to.div_ceil(self.page_bytes) {
            let content = page_of(&self.live, page, self.page_bytes);
            let versions = self.dirty.entry(page).or_default();
            if versions.len() == VERSIONS_MAX {
                versions.remove(0);
            }
            versions.push(content);
        }
    }

    pub fn sync(&mut self) {
        for (page, versions) in std::mem::take(&mut self.dirty) {
            put_page(&mut self.disk, page, self.page_bytes, versions.last().unwrap());
        }
        self.disk.resize(self.live.len(), 0);
        self.disk_len = self.live.len();
        self.lens.clear();
    }

    /// The pages count as written and are not.
    pub fn drop_dirty(&mut self) {
        self.dirty.clear();
        self.lens.clear();
    }

    /// Memory forgets the pages that it takes for clean.
    pub fn evict(&mut self) {
        for page in 0..self.live.len().div_ceil(self.page_bytes) {
            if !self.dirty.contains_key(&page) {
                let content = page_of(&self.disk, page, self.page_bytes);
                let start = page * self.page_bytes;
                let end = self.live.len().min(start + self.page_bytes);
                self.live[start..end].copy_from_slice(&content[..end - start]);
            }
        }
    }

    /// The machine writes one dirty page back of its own accord.
    pub fn write_back(&mut self, nth: usize) {
        let Some(page) = self.dirty.keys().nth(nth % self.dirty.len().max(1)).copied() else { return };
        let versions = self.dirty.remove(&page).unwrap();
        put_page(&mut self.disk, page, self.page_bytes, versions.last().unwrap());
    }

    /// What the disk has after power was lost: of each page and of the length any content since the last sync.
    pub fn lose_power(&mut self, choose: Choose<'_>) {
        for (page, versions) in std::mem::take(&mut self.dirty) {
            let chosen = choose(versions.len());
            if chosen > 0 {
                put_page(&mut self.disk, page, self.page_bytes, &versions[chosen - 1]);
            }
        }
        let chosen = choose(self.lens.len());
        if chosen > 0 {
            self.disk_len = self.lens[chosen - 1];
        }
        // Pages beyond the length are of no file.
        self.disk.resize(self.disk_len, 0);
        self.live.clone_from(&self.disk);
        self.lens.clear();
    }

    /// Changes the content in memory and on the disk alike.
    pub fn overwrite(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.live);
        self.disk.clone_from(&self.live);
        self.disk_len = self.live.len();
        self.drop_dirty();
    }
}

fn page_of(content: &[u8], page: usize, page_bytes: usize) -> Vec<u8> {
    let start = page * page_bytes;
    let mut bytes = content.get(start..).map(|rest| rest[..rest.len().min(page_bytes)].to_vec()).unwrap_or_default();
    bytes.resize(page_bytes, 0);
    bytes
}

fn put_page(disk: &mut Vec<u8>, page: usize, page_bytes: usize, content: &[u8]) {
    let start = page * page_bytes;
    disk.resize(disk.len().max(start + page_bytes), 0);
    disk[start..start + page_bytes].copy_from_slice(content);
}
