//! The names of a disk in memory: a tree of directories, and changes to it that are checked first and applied later.
//!
//! It knows nothing of the bytes of files: `F` stands for a file. A change is worth a type of its own because the simulated
//! disk must be able to apply it to what is seen now and to lose it in a power cut.

use std::collections::BTreeMap;
#[cfg(feature = "sim")]
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Component, Path};

/// The number of the directory that all paths begin at, absolute and relative ones.
const ROOT: u64 = 0;

/// A tree of directories, each with a number that stays when it is renamed.
#[derive(Debug, Clone)]
pub(crate) struct Names<F> {
    directories: BTreeMap<u64, BTreeMap<String, Node<F>>>,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node<F> {
    File(F),
    Directory(u64),
}

/// The place of one name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) directory: u64,
    name: String,
}

/// One atomic change of the tree.
#[derive(Debug, Clone)]
pub(crate) enum Change<F> {
    Insert { slot: Slot, node: Node<F> },
    Rename { source: Slot, target: Slot, node: Node<F> },
    Remove { slot: Slot, node: Node<F> },
}

impl<F> Change<F> {
    /// Where the change takes place; for a rename, where the new name appears.
    pub(crate) fn slot(&self) -> &Slot {
        match self {
            Self::Insert { slot, .. } | Self::Remove { slot, .. } | Self::Rename { target: slot, .. } => slot,
        }
    }

    /// Every name that the change touches.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        let source = match self {
            Self::Rename { source, .. } => Some(source),
            Self::Insert { .. } | Self::Remove { .. } => None,
        };
        source.into_iter().chain([self.slot()])
    }

    /// What gets or loses a name.
    pub(crate) fn node(&self) -> &Node<F> {
        match self {
            Self::Insert { node, .. } | Self::Remove { node, .. } | Self::Rename { node, .. } => node,
        }
    }

    /// The directories in which the change is seen.
    pub(crate) fn directories(&self) -> impl Iterator<Item = u64> {
        let itself = match self.node() {
            Node::Directory(directory) => Some(*directory),
            Node::File(_) => None,
        };
        self.slots().map(|slot| slot.directory).chain(itself)
    }
}

#[cfg(feature = "sim")]
impl<F> fmt::Display for Change<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Insert { slot, .. } => write!(f, "make {}", slot.name),
            Self::Rename { source, target, .. } => write!(f, "rename {} to {}", source.name, target.name),
            Self::Remove { slot, .. } => write!(f, "remove {}", slot.name),
        }
    }
}

impl<F> Default for Names<F> {
    fn default() -> Self {
        Self { directories: BTreeMap::from([(ROOT, BTreeMap::new())]) }
    }
}

impl<F: Clone + PartialEq> Names<F> {
    /// What the path stands for.
    pub(crate) fn find(&self, path: &Path) -> io::Result<Node<F>> {
        let mut node = Node::Directory(ROOT);
        for name in names_of(path) {
            let Node::Directory(directory) = node else { return Err(ErrorKind::NotADirectory.into()) };
            node = self.get(directory, name?).ok_or(ErrorKind::NotFound)?.clone();
        }
        Ok(node)
    }

    /// The file that the path stands for.
    pub(crate) fn find_file(&self, path: &Path) -> io::Result<F> {
        match self.find(path)? {
            Node::File(file) => Ok(file),
            Node::Directory(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    /// The number of the directory that the path stands for.
    pub(crate) fn find_directory(&self, path: &Path) -> io::Result<u64> {
        match self.find(path)? {
            Node::Directory(directory) => Ok(directory),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    /// What is in a directory, by name.
    pub(crate) fn list(&self, path: &Path) -> io::Result<impl Iterator<Item = (&str, &Node<F>)>> {
        let directory = self.find_directory(path)?;
        Ok(self.directories.get(&directory).into_iter().flatten().map(|(name, node)| (name.as_str(), node)))
    }

    /// The change that gives `node` this name.
    pub(crate) fn insert(&self, path: &Path, node: Node<F>) -> io::Result<Change<F>> {
        let slot = self.slot(path)?;
        match self.get(slot.directory, &slot.name) {
            Some(_) => Err(ErrorKind::AlreadyExists.into()),
            None => Ok(Change::Insert { slot, node }),
        }
    }

    /// The change that renames; `None` if both names are the same file, which POSIX leaves alone.
    pub(crate) fn rename(&self, source: &Path, target: &Path) -> io::Result<Option<Change<F>>> {
        // Both parents are looked up before the file is, as the kernel does.
        let (source_slot, target_slot) = (self.slot(source)?, self.slot(target)?);
        let node = self.find(source)?;
        let change = Change::Rename { source: source_slot, target: target_slot, node: node.clone() };
        match (&node, self.get(change.slot().directory, &change.slot().name)) {
            (node, Some(replaced)) if node == replaced => Ok(None),
            // A directory would come to lie within itself.
            (Node::Directory(moved), _) if self.leads_through(target, *moved) => {
                Err(ErrorKind::InvalidInput.into())
            }
            (Node::File(_), Some(Node::Directory(_))) => Err(ErrorKind::IsADirectory.into()),
            (Node::Directory(_), Some(Node::File(_))) => Err(ErrorKind::NotADirectory.into()),
            (Node::Directory(_), Some(Node::Directory(_))) => Err(ErrorKind::AlreadyExists.into()),
            _ => Ok(Some(change)),
        }
    }

    /// The change that takes a name away.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<Change<F>> {
        let node = self.find(path)?;
        let full = |directory| self.directories.get(directory).is_some_and(|names| !names.is_empty());
        match &node {
            Node::Directory(directory) if full(directory) => Err(ErrorKind::DirectoryNotEmpty.into()),
            _ => Ok(Change::Remove { slot: self.slot(path)?, node }),
        }
    }

    /// Makes a change, of this tree or of one that was like it: what the change does not find is no error.
    pub(crate) fn apply(&mut self, change: &Change<F>) {
        match change {
            Change::Insert { slot, node } => self.set(slot, node),
            Change::Rename { source, target, node } => {
                if self.get(source.directory, &source.name) == Some(node) {
                    self.unset(source);
                }
                self.set(target, node);
            }
            Change::Remove { slot, node } => {
                self.unset(slot);
                if let Node::Directory(directory) = node {
                    self.directories.remove(directory);
                }
            }
        }
    }

    /// Every file, with repetitions if it has several names.
    pub(crate) fn files(&self) -> impl Iterator<Item = &F> {
        self.directories.values().flat_map(BTreeMap::values).filter_map(|node| match node {
            Node::File(file) => Some(file),
            Node::Directory(_) => None,
        })
    }

    /// The directories in which a file has a name. Cost: as the number of all names.
    pub(crate) fn homes<'a>(&'a self, file: &'a F) -> impl Iterator<Item = u64> {
        let is_it = move |node: &Node<F>| matches!(node, Node::File(found) if found == file);
        let directories = self.directories.iter();
        directories.filter(move |(_, names)| names.values().any(is_it)).map(|(directory, _)| *directory)
    }

    /// Calls `each` with the path of every file, and of every directory (as `None`) before what is in it.
    #[cfg(feature = "sim")]
    pub(crate) fn walk<'a>(&'a self, each: &mut impl FnMut(&Path, Option<&'a F>)) {
        self.walk_below(ROOT, Path::new(""), each);
    }

    #[cfg(feature = "sim")]
    fn walk_below<'a>(&'a self, directory: u64, path: &Path, each: &mut impl FnMut(&Path, Option<&'a F>)) {
        for (name, node) in self.directories.get(&directory).into_iter().flatten() {
            let path = path.join(name);
            match node {
                Node::File(file) => each(&path, Some(file)),
                Node::Directory(below) => {
                    each(&path, None);
                    self.walk_below(*below, &path, each);
                }
            }
        }
    }

    /// Forgets directories that no path leads to.
    #[cfg(feature = "sim")]
    pub(crate) fn drop_unreachable(&mut self) {
        let mut reachable = std::collections::BTreeSet::from([ROOT]);
        let mut todo = vec![ROOT];
        while let Some(directory) = todo.pop() {
            for node in self.directories.get(&directory).into_iter().flat_map(BTreeMap::values) {
                if let Node::Directory(below) = node
                    && reachable.insert(*below)
                {
                    todo.push(*below);
                }
            }
        }
        self.directories.retain(|directory, _| reachable.contains(directory));
    }

    fn get(&self, directory: u64, name: &str) -> Option<&Node<F>> {
        self.directories.get(&directory)?.get(name)
    }

    fn set(&mut self, slot: &Slot, node: &Node<F>) {
        self.directories.entry(slot.directory).or_default().insert(slot.name.clone(), node.clone());
        if let Node::Directory(directory) = node {
            self.directories.entry(*directory).or_default();
        }
    }

    fn unset(&mut self, slot: &Slot) {
        if let Some(names) = self.directories.get_mut(&slot.directory) {
            names.remove(&slot.name);
        }
    }

    /// Where the last name of the path is or would be.
    fn slot(&self, path: &Path) -> io::Result<Slot> {
        let name = names_of(path).last().ok_or(ErrorKind::InvalidInput)??.to_owned();
        let directory = self.find_directory(path.parent().unwrap_or(Path::new("")))?;
        Ok(Slot { directory, name })
    }

    /// Whether the path lies in this directory or below it.
    fn leads_through(&self, path: &Path, directory: u64) -> bool {
        path.ancestors().skip(1).any(|above| self.find_directory(above).ok() == Some(directory))
    }
}

/// The names that a path goes through. Absolute and relative paths begin at the same root; `..` is refused.
fn names_of(path: &Path) -> impl Iterator<Item = io::Result<&str>> {
    path.components().filter_map(|component| match component {
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
        Component::Normal(name) => Some(name.to_str().ok_or_else(|| ErrorKind::InvalidInput.into())),
        Component::ParentDir => Some(Err(ErrorKind::InvalidInput.into())),
    })
}
