//! Bodies in blocks, both ways (RFC 7959).

use lwm2m_coap::block::{
    Block, Download, Downloaded, Head, Receive, Received, Serve, ServeError, Szx, Upload, Uploaded,
};
use lwm2m_coap::{
    Code, ContentFormat, Full, Header, Kind, Message, MessageId, OptionNumber, Room, Sink as _, Token,
    Writer, udp,
};

use crate::script::Script;

/// The longest body that is taken.
const CAP: u32 = 900;

/// A script: lengths and sizes, then what goes wrong on the way. What arrives in blocks is what was sent, or nothing.
pub fn blocks(script: &[u8]) {
    let mut script = Script(script);
    let Some([low, high, sizes]) =
        script.byte().zip(script.byte()).zip(script.byte()).map(|((a, b), c)| [a, b, c])
    else {
        return;
    };
    let length = usize::from(low) | usize::from(high & 0x03) << 8;
    let body: Vec<u8> = (0..length).map(|index| index.wrapping_mul(31) as u8).collect();
    let (mine, theirs) = (size(sizes & 0x07), size(sizes >> 3 & 0x07));
    if sizes & 0x40 == 0 {
        upload(&body, mine, theirs, script);
    } else {
        download(&body, mine, theirs, script);
    }
}

fn size(exponent: u8) -> Szx {
    let size = Szx::new(exponent).unwrap_or(Szx::LARGEST);
    assert_eq!(Szx::fitting(size.size()), size);
    assert!(exponent > 6 || size.exponent() == exponent);
    size
}

/// Writes a message and hands it, or with one byte changed, to its reader.
fn pass<T>(
    code: Code,
    fault: Option<&[u8]>,
    write: impl FnOnce(&mut Writer<'_>),
    read: impl FnOnce(&Message<'_>) -> T,
) -> Option<T> {
    let mut out = [0; 1400];
    let mut writer = Writer::new(&mut out, Room::NONE, code);
    write(&mut writer);
    let header = Header { kind: Kind::Confirmable, id: MessageId(1) };
    let range = writer.finish().expect("a block fits").emit(header, Token::default());
    let datagram = &mut out[range];
    if let Some([at, to, ..]) = fault {
        let at = usize::from(*at) % datagram.len();
        datagram[at] = *to;
    }
    udp::parse(datagram).ok().map(|(_, message)| read(&message))
}

fn upload(body: &[u8], mine: Szx, theirs: Szx, mut script: Script<'_>) {
    let mut upload = Upload::new(mine);
    let mut receive = Receive::new(theirs, CAP);
    let mut arrived = Vec::new();
    let mut is_honest = true;
    for _ in 0..200 {
        let fault = script.bytes().filter(|bytes| !bytes.is_empty());
        is_honest &= fault.is_none();
        let mut space = [0; 1024];
        let mut window = upload.window(&mut space);
        window.write(body).expect("a window takes everything");
        let portion = match upload.portion(&window) {
            Ok(portion) => portion,
            Err(error) => {
                assert!(!is_honest && !error.to_string().is_empty());
                return;
            }
        };
        let write = |writer: &mut Writer<'_>| {
            writer.option(OptionNumber::URI_PATH, b"x").expect("it fits");
            if let Some(block) = portion.block {
                writer.block1(block).expect("it fits");
            }
            if let Some(size) = portion.size {
                writer.uint(OptionNumber::SIZE1, size).expect("it fits");
            }
            if let Some(tag) = portion.tag {
                writer.option(OptionNumber::REQUEST_TAG, &tag).expect("it fits");
            }
            writer.payload(&window.bytes()[..portion.length]).expect("it fits");
        };
        let answer = pass(Code::PUT, fault, write, |message| match receive.handle(message) {
            Ok(Received::Part { offset, bytes, last, answer }) => {
                arrived.truncate(offset as usize);
                assert_eq!(arrived.len(), offset as usize, "parts come in order");
                arrived.extend_from_slice(bytes);
                assert!(arrived.len() <= CAP as usize || answer.is_none(), "not past the cap");
                (if last { Code::CHANGED } else { Code::CONTINUE }, answer, None)
            }
            Ok(Received::Repeated { answer }) => (Code::CONTINUE, Some(answer), None),
            Err(refusal) => (refusal.code, None, Some(refusal)),
        });
        let Some((code, block, refusal)) = answer else { return };
        let fault = script.bytes().filter(|bytes| !bytes.is_empty());
        is_honest &= fault.is_none();
        let write = |writer: &mut Writer<'_>| {
            if let Some(refusal) = refusal {
                refusal.write(writer).expect("it fits");
            }
            if let Some(block) = block {
                writer.block1(block).expect("it fits");
            }
        };
        let Some(next) = pass(code, fault, write, |message| upload.handle(message)) else { return };
        match next {
            Ok(Uploaded::Continue) => {}
            Ok(Uploaded::Done) => {
                assert!(!is_honest || code.class() == 4 || arrived == body, "the body arrives whole");
                assert!(!is_honest || code.is_success() || body.len() > CAP as usize);
                return;
            }
            Err(error) => {
                assert!(!is_honest, "an honest transfer ends: {error}");
                assert!(!error.to_string().is_empty());
                upload.restart();
                receive.abort();
                assert!(!receive.is_active());
                return;
            }
        }
    }
    assert!(!is_honest, "a transfer ends");
}

fn download(body: &[u8], mine: Szx, theirs: Szx, mut script: Script<'_>) {
    let mut download = Download::new(mine, CAP);
    let mut arrived = Vec::new();
    let mut body = body.to_vec();
    let mut requested: Option<Block> = None;
    let mut is_honest = true;
    for _ in 0..200 {
        let fault = script.bytes().filter(|bytes| !bytes.is_empty());
        is_honest &= fault.is_none();
        let write = |writer: &mut Writer<'_>| {
            let head = Head {
                observe: Some(3),
                content_format: Some(ContentFormat::OCTET_STREAM),
                max_age: Some(60),
            };
            let served: Result<_, ServeError<Full>> =
                Serve::new(requested, theirs).respond(writer, &head, |sink| sink.write(&body));
            if let Err(error) = served {
                assert!(!format!("{error:?}").is_empty());
                writer.restart(Code::BAD_REQUEST);
            }
        };
        let taken = pass(Code::CONTENT, fault, write, |message| {
            if !message.code.is_success() {
                return None;
            }
            let taken = download.handle(message);
            if let Ok(Downloaded::Part { offset, bytes, .. }) = taken {
                arrived.truncate(offset as usize);
                assert_eq!(arrived.len(), offset as usize, "parts come in order");
                arrived.extend_from_slice(bytes);
                assert!(arrived.len() <= CAP as usize, "not past the cap");
            }
            Some(taken.map(|taken| matches!(taken, Downloaded::Part { last: true, .. })))
        });
        match taken {
            Some(Some(Ok(true))) => {
                assert!(!is_honest || arrived == body, "the body arrives whole");
                return;
            }
            Some(Some(Ok(false))) => requested = Some(download.next_block()),
            failed => {
                assert!(!is_honest || body.len() > CAP as usize, "an honest transfer ends");
                assert!(!matches!(failed, Some(Some(Err(error))) if error.to_string().is_empty()));
                return;
            }
        }
        match script.byte() {
            // The body changes under way.
            Some(1) => {
                body.push(1);
                is_honest = false;
            }
            Some(2) => {
                download.restart();
                requested = Some(download.next_block());
                is_honest = false;
            }
            _ => {}
        }
    }
    assert!(!is_honest, "a transfer ends");
}
