//! The device on the board. Its serial line carries datagrams: the number of a socket, a length of two bytes, the bytes. For socket
//! 255 it carries one byte: whether there is a network.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod program {
    use lwm2m_bare_metal::application::{Application, Core, MTU};
    use lwm2m_bare_metal::board;
    use lwm2m_bare_metal::line::{Line, send};
    use lwm2m_client::Instant;

    /// What `run` prints: the size of the client, and of all that the application keeps.
    #[used]
    #[unsafe(link_section = ".figures")]
    static SIZES: [u32; 2] = [size_of::<Core>() as u32, size_of::<Application>() as u32];

    #[unsafe(no_mangle)]
    extern "C" fn program() -> ! {
        #[cfg(feature = "x509-path")]
        let account =
            ("coaps://lwm2m.example", Some(lwm2m_bare_metal::application::BELOW_AN_AUTHORITY.into()));
        #[cfg(all(feature = "x509", not(feature = "x509-path")))]
        let account = ("coaps://lwm2m.example", Some(lwm2m_bare_metal::application::CERTIFICATE.into()));
        #[cfg(all(feature = "rpk", not(feature = "x509")))]
        let account = ("coaps://10.0.0.1", Some(lwm2m_bare_metal::application::RAW_PUBLIC_KEYS.into()));
        #[cfg(all(feature = "psk", not(feature = "rpk")))]
        let account = ("coaps://10.0.0.1", Some(lwm2m_bare_metal::application::KEY.into()));
        #[cfg(not(feature = "psk"))]
        let account = ("coap://10.0.0.1", None);
        #[cfg(all(feature = "oscore", not(feature = "psk")))]
        let context = Some(lwm2m_bare_metal::application::CONTEXT);
        #[cfg(all(feature = "oscore", feature = "psk"))]
        let context = None;
        let application = Application::new(
            account.0,
            account.1,
            #[cfg(feature = "oscore")]
            context,
        );
        let Some(mut application) = application else { board::exit(false) };
        let mut buffer = [0; MTU];
        let mut line = Line::default();
        board::paint_stack();
        loop {
            let now = Instant::from_millis(board::now());
            match line.receive(&mut buffer) {
                #[cfg(feature = "offline")]
                Some((255, _)) => application.set_online(buffer.first() != Some(&0)),
                Some((socket, length)) => {
                    let datagram = buffer.get_mut(..length).unwrap_or_default();
                    application.handle(now, socket, datagram, &mut board::random);
                }
                None => application.handle_timeout(now, &mut board::random),
            }
            if !line.is_busy() {
                application.drain(now, &mut buffer, &mut board::random, &mut send, &mut |_| {});
            }
            if application.client.is_stopped() {
                board::exit(true);
            }
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {}
