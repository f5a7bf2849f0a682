//! The definitions of a running server: one set in use, and another one in its place when a definition is added.
//!
//! Invariant: a definition is in the store before it is acknowledged, and every part of the server decodes with it by then.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use lwm2m_objects::Version;
use tokio::sync::Mutex;

use super::{Invalid, Model, Models, Source, parse};
use crate::api::now_ms;
use crate::server::Server;
use crate::store::{Store, StoreError};

/// What all parts of a server decode with.
pub struct Catalog {
    store: Arc<dyn Store>,
    server: Server,
    current: RwLock<Arc<Models>>,
    /// Held while one is added: each is added to those before it.
    adding: Mutex<()>,
}

/// Why a definition was not added.
#[derive(Debug)]
pub enum NotAdded {
    /// It is none.
    Invalid(Invalid),
    /// There are so many objects in it.
    Several(usize),
    /// That version of the object is defined in a file of the configured folder.
    InFile(PathBuf),
    /// There are as many as may be.
    Full,
    /// The store failed.
    Store(StoreError),
}

impl core::fmt::Display for NotAdded {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Invalid(invalid) => invalid.fmt(f),
            Self::Several(objects) => write!(f, "the file defines {objects} objects: send one at a time"),
            Self::InFile(path) => {
                write!(
                    f,
                    "this version is defined in {} of the server's folder: change it there",
                    path.display()
                )
            }
            Self::Full => write!(
                f,
                "there are as many definitions as a server may have, or they take as much as they may"
            ),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for NotAdded {}

impl Models {
    /// These with those that were added to former runs.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn with_added(mut self, store: &dyn Store) -> Result<Self, StoreError> {
        for xml in store.models()? {
            // It was good when it was added.
            match parse(&xml) {
                Ok(models) => {
                    for model in models {
                        let (id, Version { major, minor }) = (model.id, model.version);
                        if !self.put(model, Source::Added, xml.len()) {
                            tracing::error!(
                                "the definition of object {id} version {major}.{minor} that was added is not used: {}",
                                NotAdded::Full
                            );
                        }
                    }
                }
                Err(error) => tracing::error!(%error, "an object definition in the store is not used"),
            }
        }
        Ok(self)
    }
}

impl Catalog {
    /// The definitions that the parts of this server were started with.
    #[must_use]
    pub fn new(models: Arc<Models>, store: Arc<dyn Store>, server: Server) -> Self {
        Self { store, server, current: RwLock::new(models), adding: Mutex::new(()) }
    }

    /// Those that are in use.
    #[must_use]
    pub fn current(&self) -> Arc<Models> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds the definition of one object; `true` when it takes the place of another one of the same version.
    ///
    /// # Errors
    /// When it is no definition, or cannot be kept. Then nothing has changed.
    pub async fn add(&self, actor: Arc<str>, xml: Vec<u8>) -> Result<(Arc<Model>, bool), NotAdded> {
        let models = parse(&xml).map_err(NotAdded::Invalid)?;
        let objects = models.len();
        let model = models.into_iter().next().filter(|_| objects == 1).ok_or(NotAdded::Several(objects))?;
        let (id, version) = (model.id, model.version);
        let _adding = self.adding.lock().await;
        let mut models = Models::clone(&self.current());
        let former = models.exactly(id, version).map(|entry| entry.source.clone());
        if let Some(Source::File(path)) = former {
            return Err(NotAdded::InFile(path));
        }
        if !models.put(model, Source::Added, xml.len()) {
            return Err(NotAdded::Full);
        }
        let store = Arc::clone(&self.store);
        let written = move || store.put_model(&actor, now_ms(), (id, version), &xml);
        match tokio::task::spawn_blocking(written).await {
            Ok(written) => written.map_err(NotAdded::Store)?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
        let models = Arc::new(models);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&models);
        self.server.set_models(&models).await;
        let added = models.exactly(id, version).map(|entry| Arc::clone(&entry.model));
        Ok((added.ok_or(NotAdded::Full)?, former == Some(Source::Added)))
    }
}

impl core::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Catalog").finish_non_exhaustive()
    }
}
