//! What is to be backed up: the files under what the operator named, in the order of their names.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::{BackupError, at};

/// What an artifact is to the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The engine: a plan file, or a directory with one a rank.
    Plan,
    /// The tokenizer's description.
    TokenizerInfo,
    /// The tokenizer's files.
    Tokenizer,
    /// Output schemas of guided decoding.
    Schemas,
    /// The server's configuration.
    Config,
}

impl Kind {
    /// First part of the names of its files in the backup.
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::TokenizerInfo => "tokenizer-info",
            Self::Tokenizer => "tokenizer",
            Self::Schemas => "schemas",
            Self::Config => "config",
        }
    }
}

/// A file or directory that the operator named.
#[derive(Debug, Clone)]
pub struct Source {
    /// What it is.
    pub kind: Kind,
    /// Where it lies.
    pub path: PathBuf,
}

/// What becomes of symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// The backup is refused.
    Refuse,
    /// What they point to is backed up, under the link's name.
    Follow,
}

/// A file to back up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name in the backup: `plan/rank0.engine`.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// Every file under the sources, by name.
pub fn walk(sources: &[Source], links: Links) -> Result<Vec<Found>, BackupError> {
    let mut found = Vec::new();
    for source in sources {
        let before = found.len();
        let folder = source.kind.folder();
        if is_directory(&source.path, Links::Follow)? {
            descend(&source.path, folder, links, &mut found)?;
        } else {
            let name = name_of(&source.path)?;
            found.push(Found { name: format!("{folder}/{name}"), path: source.path.clone() });
        }
        if found.len() == before {
            return Err(BackupError::Empty { path: source.path.clone() });
        }
    }
    in_order(found)
}

/// Files in the order of their names, each of which is there once.
pub fn in_order(mut found: Vec<Found>) -> Result<Vec<Found>, BackupError> {
    found.sort_by(|one, other| by_name(&one.name, &other.name));
    match found.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(pair) => Err(BackupError::Twice { name: pair[0].name.clone() }),
        None => Ok(found),
    }
}

/// The order of names: part by part, as paths compare and not as texts do (`a/b` comes before `a-b`).
pub(super) fn by_name(one: &str, other: &str) -> std::cmp::Ordering {
    one.split('/').cmp(other.split('/'))
}

fn descend(directory: &Path, name: &str, links: Links, found: &mut Vec<Found>) -> Result<(), BackupError> {
    for entry in fs::read_dir(directory).map_err(at(directory))? {
        let path = entry.map_err(at(directory))?.path();
        let name = format!("{name}/{}", name_of(&path)?);
        if is_directory(&path, links)? {
            descend(&path, &name, links, found)?;
        } else {
            found.push(Found { name, path });
        }
    }
    Ok(())
}

fn is_directory(path: &Path, links: Links) -> Result<bool, BackupError> {
    let metadata = match links {
        Links::Follow => fs::metadata(path),
        Links::Refuse => fs::symlink_metadata(path),
    };
    let file_type = metadata.map_err(at(path))?.file_type();
    if file_type.is_symlink() {
        return Err(BackupError::Symlink { path: path.to_owned() });
    }
    if file_type.is_dir() || file_type.is_file() {
        Ok(file_type.is_dir())
    } else {
        Err(BackupError::Special { path: path.to_owned() })
    }
}

fn name_of(path: &Path) -> Result<&str, BackupError> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.filter(|name| !name.contains(['\\', '\0', '\n'])).ok_or_else(|| BackupError::Name { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        directory
    }

    fn source(kind: Kind, path: PathBuf) -> Source {
        Source { kind, path }
    }

    #[test]
    fn files_come_in_the_order_of_their_paths() {
        let tree = tree(&["schemas/a-b.json", "schemas/a/b.json", "schemas/a.json", "model.plan"]);
        let sources =
            [source(Kind::Schemas, tree.path().join("schemas")), source(Kind::Plan, tree.path().join("model.plan"))];
        let names: Vec<String> = walk(&sources, Links::Refuse).unwrap().into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["plan/model.plan", "schemas/a/b.json", "schemas/a-b.json", "schemas/a.json"]);
    }

    #[test]
    fn what_cannot_be_backed_up_is_named() {
        let tree = tree(&["tokenizer/vocab.json", "other/vocab.json"]);
        std::os::unix::fs::symlink("vocab.json", tree.path().join("tokenizer/link.json")).unwrap();
        let all = [source(Kind::Tokenizer, tree.path().join("tokenizer"))];
        assert!(walk(&all, Links::Refuse).unwrap_err().to_string().contains("link.json is a symbolic link"));
        assert_eq!(walk(&all, Links::Follow).unwrap().len(), 2);
        let twice =
            ["tokenizer/vocab.json", "other/vocab.json"].map(|file| source(Kind::Config, tree.path().join(file)));
        assert!(walk(&twice, Links::Refuse).unwrap_err().to_string().contains("config/vocab.json"));
        fs::create_dir(tree.path().join("empty")).unwrap();
        let empty = [source(Kind::Plan, tree.path().join("empty"))];
        assert!(matches!(walk(&empty, Links::Refuse), Err(BackupError::Empty { .. })));
    }
}
