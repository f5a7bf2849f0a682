//! A CoAP endpoint (RFC 7252, 7641, 7959, 9175) without std and without an allocator.
//!
//! Everything is a state machine driven by `(now, bytes in, buffer out)`: no socket, no clock, no randomness of its own.
//!
//! # Driving a [`Peer`]
//!
//! There is one [`Peer`] for each remote. Call one of its methods, send what it returns, then drain
//! [`Peer::poll_transmit`] and [`Peer::poll_event`]; sleep until [`Peer::poll_timeout`] or the next datagram.
//!
//! ```
//! use lwm2m_coap::protect::Plain;
//! use lwm2m_coap::*;
//!
//! // 1 message of ours at a time, 4 remembered messages of the remote, copies of at most 128 bytes.
//! type Remote = Peer<heapless::Vec<u8, 128>, 1, 4>;
//!
//! # fn main() -> Result<(), SendError> {
//! # let mut rng = |bytes: &mut [u8]| bytes.fill(7);
//! # let now = Instant::from_millis(0);
//! let mut client = Remote::new(&Parameters::DEFAULT, TokenPolicy::Random, &mut rng);
//! let mut server = Remote::new(&Parameters::DEFAULT, TokenPolicy::Random, &mut rng);
//! let mut buffer = [0; 256];
//!
//! // A request: write options and payload; the peer puts token and header in front. `Room` leaves space for DTLS.
//! let token = client.next_token(&mut rng, |_token| false); // true for tokens of living observations
//! let mut writer = Writer::new(&mut buffer, Room::NONE, Code::GET);
//! writer.observe(0)?.split(OptionNumber::URI_PATH, "3/0/9", '/')?.accept(ContentFormat::TEXT)?;
//! let (request, range) =
//!     client.request(now, Delivery::Confirmable, token, writer, &mut Plain, &mut rng)?;
//! let mut datagram = buffer[range].to_vec(); // send it
//!
//! // The other side: answer at once (piggybacked) or `defer` and answer later.
//! let Input::Request { mut exchange, message } = server.handle(now, &mut datagram, &mut Plain) else { panic!() };
//! assert!(message.options.uri_path().eq([&b"3"[..], b"0", b"9"]));
//! let observer = exchange.observer(); // keep it to notify later
//! let mut writer = Writer::new(&mut buffer, Room::NONE, Code::CONTENT);
//! writer.observe(2)?.content_format(ContentFormat::TEXT)?.payload(b"95")?;
//! let range = server.respond(now, &mut exchange, writer, &mut Plain, &mut rng)?;
//! let mut datagram = buffer[range].to_vec();
//!
//! // The response finds its request.
//! match client.handle(now, &mut datagram, &mut Plain) {
//!     Input::Response { request: answered, message } => assert_eq!((answered, message.payload), (request, &b"95"[..])),
//!     _ => panic!(),
//! }
//!
//! // A notification; the observing side looks the token up among its observations, then accepts or rejects.
//! let mut writer = Writer::new(&mut buffer, Room::NONE, Code::CONTENT);
//! writer.observe(3)?.content_format(ContentFormat::TEXT)?.payload(b"94")?;
//! let range = server.notify(now, Delivery::Confirmable, &observer, writer, &mut Plain, &mut rng)?;
//! let mut datagram = buffer[range].to_vec();
//! match client.handle(now, &mut datagram, &mut Plain) {
//!     Input::Unsolicited { header, message } if message.token == token => client.accept(header),
//!     Input::Unsolicited { header, .. } => client.reject(header),
//!     _ => panic!(),
//! }
//! let length = client.poll_transmit(now, &mut buffer).unwrap(); // the ACK
//! assert!(matches!(
//!     server.handle(now, &mut buffer[..length], &mut Plain),
//!     Input::Acknowledged(Sent::Notification(_))
//! ));
//! # Ok(())
//! # }
//! ```
//! What else a peer says:
//! - [`Input::Acknowledged`] and [`Input::Reset`] tell what of ours they hit; a Reset to a notification ends the observation.
//! - An answer that takes longer: [`Peer::defer`], keep the [`Exchange`], later [`Peer::respond`] as ever.
//! - [`SendError::Busy`]: NSTART is reached. The owner queues and tries again when something of ours is settled.
//! - [`Peer::suppress`] ends an exchange without a response, where [`Options::no_response`] covers it.
//! - [`Peer::poll_event`] tells what failed. [`Peer::fail_all`] when the association was replaced.
//!
//! # Bodies larger than a message
//!
//! The machines of [`block`] sit between the peer and the meaning of a message and hold no body: it is produced again for
//! each block into a [`block::Window`], and consumed as it comes.
//!
//! ```
//! use lwm2m_coap::block::*;
//! use lwm2m_coap::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let header = Header { kind: Kind::Confirmable, id: MessageId(1) };
//! # let body = [0x55; 100];
//! # let mut buffer = [0; 256];
//! // The resource's side: answers whatever block a GET asks for.
//! # let mut writer = Writer::new(&mut buffer, Room::NONE, Code::GET);
//! # let mut range = writer.finish()?.emit(header, Token::EMPTY);
//! # let mut request = buffer[range].to_vec();
//! # let (_, message) = udp::parse(&request)?;
//! let mut writer = Writer::new(&mut buffer, Room { head: 21, tail: 8 }, Code::CONTENT);
//! let head = Head { content_format: Some(ContentFormat::LINK_FORMAT), ..Head::default() };
//! let serve = Serve::new(message.options.block2()?, Szx::fitting(64));
//! serve.respond(&mut writer, &head, |sink| sink.write(&body))?; // then Peer::respond
//! # let range = writer.finish()?.emit(header, Token::EMPTY);
//! # let response = buffer[range].to_vec();
//!
//! // The other side: takes the response, or a notification, and asks for the rest.
//! # let (_, message) = udp::parse(&response)?;
//! let mut download = Download::new(Szx::LARGEST, 65_536);
//! match download.handle(&message)? {
//!     Downloaded::Part { offset: 0, bytes, last: false } => assert_eq!(bytes, &body[..64]),
//!     Downloaded::Part { .. } | Downloaded::Restart => panic!(),
//! }
//! let mut writer = Writer::new(&mut buffer, Room::NONE, Code::GET);
//! writer.block2(download.next_block())?; // then Peer::request, with a new token and without Observe
//!
//! // Sending a body: produce it into the window, send the portion, until the response says that it is done.
//! let mut upload = Upload::new(Szx::fitting(32));
//! let mut writer = Writer::new(&mut buffer, Room::NONE, Code::PUT);
//! let mut window = upload.window(writer.body(16)); // 16: the most bytes of options that follow
//! window.write(&body)?;
//! let portion = upload.portion(&window)?;
//! writer.set_body(portion.length)?;
//! if let Some(block) = portion.block {
//!     writer.block1(block)?;
//! }
//! if let Some(size) = portion.size {
//!     writer.uint(OptionNumber::SIZE1, size)?;
//! }
//! if let Some(tag) = portion.tag {
//!     writer.option(OptionNumber::REQUEST_TAG, &tag)?;
//! }
//! # let range = writer.finish()?.emit(header, Token::EMPTY);
//! # let request = buffer[range].to_vec();
//! // then Peer::request, and with its response `upload.handle(&message)?`
//!
//! // Taking a body: each part as it comes; a refusal is a response like any other.
//! # let (_, message) = udp::parse(&request)?;
//! let mut receive = Receive::new(Szx::fitting(256), 65_536);
//! let mut writer = Writer::new(&mut buffer, Room::NONE, Code::CHANGED);
//! match receive.handle(&message) {
//!     Ok(Received::Part { last: true, answer, .. }) => { /* the final answer, with `answer` as Block1 if there is one */ }
//!     Ok(Received::Part { answer: Some(answer), .. } | Received::Repeated { answer }) => {
//!         writer.restart(Code::CONTINUE);
//!         writer.block1(answer)?;
//!     }
//!     Ok(Received::Part { answer: None, .. }) => {}
//!     Err(refusal) => refusal.write(&mut writer)?,
//! }
//! # Ok(())
//! # }
//! ```
#![cfg_attr(not(test), no_std)]

pub mod block;
mod code;
mod content_format;
pub mod echo;
pub mod link;
mod message;
pub mod observe;
mod option;
mod parameters;
mod peer;
pub mod protect;
mod sink;
mod time;
mod token;
pub mod udp;
mod writer;

pub use code::Code;
pub use content_format::ContentFormat;
pub use message::Message;
pub use option::{NoResponse, OptionFault, OptionIter, OptionNumber, OptionValues, Options};
pub use parameters::Parameters;
pub use peer::{
    Delivery, Event, Exchange, Failure, Ignored, Input, Observer, Peer, Reply, RequestId, SendError, Sent,
    Settled, Stored, TokenPolicy,
};
pub use sink::{Buffer, Count, Full, Sink};
pub use time::Instant;
pub use token::Token;
pub use udp::{Header, Kind, Malformed, MessageId};
pub use writer::{Draft, Room, WriteError, Writer};

/// Randomness from the owner, cryptographically secure: fills the slice.
pub type Rng<'a> = dyn FnMut(&mut [u8]) + 'a;
