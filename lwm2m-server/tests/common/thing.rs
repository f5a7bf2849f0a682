//! A device without security in a thread of its own, with one object: a whole client of this project with its UDP socket.

#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses a part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use lwm2m_client::objects::{Object, Path};
use lwm2m_client::{Config, FactoryAccount, Runner, Server, ShortServerId, Store, provision};

/// A running device.
pub(crate) struct Thing {
    is_off: Arc<AtomicBool>,
    wants_reboot: Arc<AtomicBool>,
    wants_update: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Thing {
    /// Starts it; `change` is called at each turn, several times a second, and says what has changed.
    pub(crate) fn start<O: Object + Send + 'static>(
        name: &str,
        server: &str,
        mut object: O,
        mut change: impl FnMut(&mut O) -> Option<Path> + Send + 'static,
    ) -> Self {
        let flags @ [is_off, wants_reboot, wants_update] =
            &[(); 3].map(|()| Arc::new(AtomicBool::new(false)));
        let [off, reboot, update] = flags.each_ref().map(Arc::clone);
        let (name, uri) = (name.to_owned(), format!("coap://{server}"));
        let thread = std::thread::spawn(move || {
            let account = FactoryAccount::server(1, &uri, Server::new(0, ShortServerId::FIRST, 3600), None);
            let mut store = Store::in_memory();
            provision(&[account], &mut |action| store.apply(action)).unwrap();
            let config = Config { mtu: 1280, block_size: 1024, ..Config::new(&name) };
            let mut runner = Runner::new(config, store);
            while !off.load(Ordering::Relaxed) {
                if let Some(path) = change(&mut object) {
                    runner.client().changed(path);
                }
                if update.swap(false, Ordering::Relaxed) {
                    runner.client().update();
                }
                runner.turn(&mut [&mut object], Duration::from_millis(50));
                if reboot.swap(false, Ordering::Relaxed) {
                    runner.reboot();
                }
            }
        });
        let [is_off, wants_reboot, wants_update] = [is_off, wants_reboot, wants_update].map(Arc::clone);
        Self { is_off, wants_reboot, wants_update, thread: Some(thread) }
    }

    /// Power off and on: what is not in its storage is gone.
    pub(crate) fn reboot(&self) {
        self.wants_reboot.store(true, Ordering::Relaxed);
    }

    /// It sends an Update, and registers anew where the server does not know it.
    pub(crate) fn update(&self) {
        self.wants_update.store(true, Ordering::Relaxed);
    }
}

impl Drop for Thing {
    fn drop(&mut self) {
        self.is_off.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What failed in it has been told on the terminal.
            let _ = thread.join();
        }
    }
}
