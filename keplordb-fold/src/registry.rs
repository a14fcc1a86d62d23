//! The views of a log by their names, whatever their types.

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use keplordb_disk::Disk;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::audit;
use crate::event::Event;
use crate::history::History;
use crate::paths::check_view_name;
use crate::reader::EventReader;
use crate::snapshot::PassedOver;
use crate::typed::TypedView;
use crate::verify::Verification;
use crate::view::{View, ViewOps};
use crate::view_options::ViewOptions;
use crate::views::refresh_all;

/// A moment of the past.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Moment {
    /// After so many events.
    Sequence(u64),
    /// In seconds since the Unix epoch.
    Time(u64),
}

/// How a view's state is got at whose type only the call that registered it knew.
#[derive(Clone, Copy)]
struct Looks {
    state: fn(&dyn ViewOps) -> Option<&dyn Any>,
    state_at: StateAt,
}

/// The state that a view had, of whatever type; `None` if the view is not of the kind that it was registered as.
type StateAt = fn(&dyn ViewOps, &EventReader, Moment) -> Option<io::Result<Box<dyn Any>>>;

/// Makes a view that keeps its state in this directory.
type Make = Box<dyn FnOnce(&Path) -> Box<dyn ViewOps> + Send>;

/// A view that is made when the log is opened and its directory known.
pub(crate) struct Registered {
    name: String,
    make: Make,
    looks: Looks,
}

/// The views of a log.
#[derive(Default)]
pub(crate) struct Registry {
    /// As a rotation takes them.
    pub(crate) views: HashMap<String, Box<dyn ViewOps>>,
    looks: HashMap<String, Looks>,
}

/// What every kind of view has under the same name.
macro_rules! looks {
    ($view:ty) => {
        Looks {
            state: |view| view.as_any().downcast_ref::<$view>().map(|view| view.state() as &dyn Any),
            state_at: |view, reader, moment| {
                let view = view.as_any().downcast_ref::<$view>()?;
                let state = match moment {
                    Moment::Sequence(sequence) => view.state_at(reader, sequence),
                    Moment::Time(ts) => view.state_at_time(reader, ts),
                };
                Some(state.map(|state| Box::new(state) as Box<dyn Any>))
            },
        }
    };
}

impl Registered {
    pub(crate) fn untyped<S>(
        name: &str,
        options: ViewOptions,
        reducer: impl Fn(S, &Event) -> S + Send + Sync + 'static,
    ) -> Self
    where
        S: Serialize + DeserializeOwned + Default + Clone + Send + 'static,
    {
        let owned = name.to_owned();
        let make = move |dir: &Path| -> Box<dyn ViewOps> {
            Box::new(View::new(&owned, reducer, dir).with_options(options))
        };
        Self { name: name.to_owned(), make: Box::new(make), looks: looks!(View<S>) }
    }

    pub(crate) fn typed<E, S>(
        name: &str,
        options: ViewOptions,
        reducer: impl Fn(S, E) -> S + Send + Sync + 'static,
    ) -> Self
    where
        E: DeserializeOwned + Send + 'static,
        S: Serialize + DeserializeOwned + Default + Clone + Send + 'static,
    {
        let owned = name.to_owned();
        let make = move |dir: &Path| -> Box<dyn ViewOps> {
            Box::new(TypedView::new(&owned, reducer, dir).with_options(options))
        };
        Self { name: name.to_owned(), make: Box::new(make), looks: looks!(TypedView<E, S>) }
    }

    /// Refuses a name that cannot be a file's.
    pub(crate) fn check(&self) -> io::Result<()> {
        check_view_name(&self.name)
    }
}

impl Registry {
    /// Makes the views; of several of one name the last.
    pub(crate) fn new(registered: Vec<Registered>, disk: &Arc<dyn Disk>, views_dir: &Path) -> Self {
        let mut registry = Self::default();
        for Registered { name, make, looks } in registered {
            let mut view = make(views_dir);
            view.on_disk(Arc::clone(disk));
            registry.views.insert(name.clone(), view);
            registry.looks.insert(name, looks);
        }
        registry
    }

    pub(crate) fn refresh_all(&mut self, history: &History) -> io::Result<()> {
        refresh_all(history, self.views.values_mut())
    }

    pub(crate) fn refresh(&mut self, name: &str, reader: &EventReader) -> io::Result<()> {
        self.views.get_mut(name).ok_or_else(|| missing(name))?.refresh_boxed(reader)
    }

    pub(crate) fn rebuild(&mut self, name: &str, history: &History) -> io::Result<()> {
        self.views.get_mut(name).ok_or_else(|| missing(name))?.rebuild_boxed(history)
    }

    /// Everything that the log has, and the views' states against a fresh fold.
    pub(crate) fn verify(&self, reader: &EventReader) -> io::Result<Verification> {
        let history = reader.history();
        let mut report = reader.verify()?;
        let present = history.present()?;
        let mut audits = Vec::new();
        for name in self.names() {
            let (view, _) = self.get(name)?;
            audits.extend(view.audit(history, &present)?);
        }
        audit::run(history, &present, audits, &mut report)?;
        Ok(report)
    }

    /// Sorted.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.views.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// A number that is another whenever the state of a view may be; 0 if there is none of that name.
    pub(crate) fn changes(&self, name: &str) -> u64 {
        self.views.get(name).map_or(0, |view| view.changes())
    }

    /// The damaged lines that a view passed over.
    pub(crate) fn passed_over(&self, name: &str) -> io::Result<Option<PassedOver>> {
        Ok(self.get(name)?.0.lacks())
    }

    /// The state of a view, of whatever type.
    pub(crate) fn any_state(&self, name: &str) -> io::Result<&dyn Any> {
        let (view, looks) = self.get(name)?;
        (looks.state)(view).ok_or_else(|| mismatch(name))
    }

    pub(crate) fn state<S: 'static>(&self, name: &str) -> io::Result<&S> {
        self.any_state(name)?.downcast_ref().ok_or_else(|| mismatch(name))
    }

    pub(crate) fn state_at<S: 'static>(
        &self,
        name: &str,
        reader: &EventReader,
        moment: Moment,
    ) -> io::Result<S> {
        // Whether the type is right is known before much is folded.
        self.state::<S>(name)?;
        let (view, looks) = self.get(name)?;
        let state = (looks.state_at)(view, reader, moment).ok_or_else(|| mismatch(name))??;
        state.downcast().map(|state| *state).map_err(|_| mismatch(name))
    }

    fn get(&self, name: &str) -> io::Result<(&dyn ViewOps, Looks)> {
        let (view, looks) = self.views.get(name).zip(self.looks.get(name)).ok_or_else(|| missing(name))?;
        Ok((view.as_ref(), *looks))
    }
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("view '{name}' not found"))
}

/// The view has a state of another type.
pub(crate) fn mismatch(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("view '{name}' type mismatch"))
}
