//! An interface without a listener and without a driver, for unit tests.

#![expect(clippy::unwrap_used, reason = "test")]

use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use super::guard::Holder;
use super::{Api, Services};
use crate::access::Tokens;
use crate::campaigns::Campaigns;
use crate::credentials::{Credentials, Settings};
use crate::endpoint::Shared;
use crate::models::Catalog;
use crate::observations::Observations;
use crate::queue::{Limits, Queue};
use crate::store::{RedbStore, Sealer};
use crate::{Event, Server};

/// The interface, who may do everything, and what says that the server stops.
pub(super) fn without_driver(events: &broadcast::Sender<Event>) -> (Api, Holder, watch::Sender<bool>) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(RedbStore::in_memory(Sealer::new(&[1; 32], "test").unwrap()).unwrap());
    let tokens = Tokens::open(store.clone(), folder.path(), 1).unwrap();
    let token = std::fs::read_to_string(folder.path().join("admin.token")).unwrap();
    let holder = Holder(tokens.check(Some(&format!("Bearer {token}")), 1).unwrap());
    let server = Server::new([].into(), Arc::new(Shared::new()), events.clone(), broadcast::channel(1).0);
    let queue = Queue::start(server.clone(), store.clone(), Limits::default()).unwrap();
    let credentials = Arc::new(Credentials::open(store.clone(), Settings::default()).unwrap());
    let campaigns = Campaigns::start(
        server.clone(),
        credentials.clone(),
        queue.clone(),
        store.clone(),
        Default::default(),
    );
    let services = Services {
        campaigns: campaigns.unwrap(),
        catalog: Catalog::new(Arc::default(), store.clone(), server.clone()),
        observations: Observations::start(server.clone(), store, Default::default()).unwrap(),
        server,
        queue,
        credentials,
        tokens,
    };
    let (running, stopping) = watch::channel(false);
    (Api::new(services, stopping), holder, running)
}
