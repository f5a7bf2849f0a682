//! What of the device is its maker's, without a client: the serial line and the storage. Its share in the figures.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
extern "C" fn program() -> ! {
    use lwm2m_bare_metal::application::MTU;
    use lwm2m_bare_metal::line::{Line, send};
    use lwm2m_bare_metal::{board, storage::Storage};
    use lwm2m_client::{Action, Key};

    let mut storage = Storage::default();
    let mut buffer = [0; MTU];
    let mut line = Line::default();
    board::paint_stack();
    while board::now() > 0 {
        let Some((what, length)) = line.receive(&mut buffer) else { continue };
        let bytes = buffer.get(..length).unwrap_or_default();
        let key = Key::Server(what as u16);
        let action = match bytes.first() {
            Some(0) => Action::Stage { key, bytes },
            Some(1) => Action::Remove { key },
            Some(2) => Action::Commit,
            Some(3) => Action::Confirm,
            Some(4) => Action::Discard,
            #[cfg(feature = "oscore")]
            Some(5) => Action::Put { name: [what as u8; 8], bytes },
            _ => Action::Revert,
        };
        if storage.apply(&action).is_ok() {
            send(what, storage.load(key).unwrap_or_default());
        }
    }
    board::exit(line.is_busy())
}

#[cfg(not(target_os = "none"))]
fn main() {}
