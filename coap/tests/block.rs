//! Block-wise transfers (RFC 7959): the published sequences, negotiation, gaps, caps, changed bodies, and bodies of any
//! length through all four machines.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::convert::Infallible;

use lwm2m_coap::block::{
    Block, Download, DownloadError, Downloaded, Head, Receive, Received, Serve, ServeError, Served, Szx,
    Upload, UploadError, Uploaded, Window,
};
use lwm2m_coap::{
    Code, ContentFormat, Full, Header, Kind, Message, MessageId, OptionNumber, Room, Sink, Token, Writer, udp,
};
use proptest::prelude::*;

fn szx(size: usize) -> Szx {
    let szx = Szx::fitting(size);
    assert_eq!(szx.size(), size);
    szx
}

/// As the published sequences write it: `1/0/128`.
fn text(block: Option<Block>) -> String {
    block.map_or("-".into(), |block| {
        format!("{}/{}/{}", block.number(), u8::from(block.more()), block.szx().size())
    })
}

fn block(number: u32, more: bool, size: usize) -> Block {
    Block::new(number, more, szx(size)).unwrap()
}

/// A message as bytes.
fn datagram(code: Code, write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut buffer = vec![0; 2000];
    let mut writer = Writer::new(&mut buffer, Room::NONE, code);
    write(&mut writer);
    let header = Header { kind: Kind::Confirmable, id: MessageId(1) };
    let range = writer.finish().unwrap().emit(header, Token::EMPTY);
    buffer[range].to_vec()
}

fn message(datagram: &[u8]) -> Message<'_> {
    udp::parse(datagram).unwrap().1
}

fn produce(body: &[u8]) -> impl FnOnce(&mut dyn Sink) -> Result<(), Infallible> {
    // In uneven pieces, across the limits of blocks.
    move |sink| {
        body.chunks(7).for_each(|piece| sink.write(piece).unwrap());
        Ok(())
    }
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 256).to_le_bytes()[0]).collect()
}

/// The resource's side: one response for one request.
fn served(
    request: Option<Block>,
    largest: usize,
    body: &[u8],
) -> (Vec<u8>, Result<Served, ServeError<Infallible>>) {
    let mut result = Err(ServeError::OutOfRange);
    let bytes = datagram(Code::CONTENT, |writer| {
        let head = Head { content_format: Some(ContentFormat::TEXT), ..Head::default() };
        result = Serve::new(request, szx(largest)).respond(writer, &head, produce(body));
    });
    (bytes, result)
}

/// Fetches `body`: the Block2 options of requests and responses, and what arrived.
fn fetch(body: &[u8], largest: usize, asked: usize, early: bool) -> (Vec<String>, Vec<u8>) {
    let mut download = Download::new(szx(asked), 1 << 20);
    let (mut log, mut arrived) = (Vec::new(), Vec::new());
    let mut request = early.then(|| download.next_block());
    loop {
        log.push(text(request));
        let (response, result) = served(request, largest, body);
        log.push(text(result.unwrap().block));
        match download.handle(&message(&response)).unwrap() {
            Downloaded::Part { offset, bytes, last } => {
                assert_eq!(usize::try_from(offset).unwrap(), arrived.len());
                arrived.extend(bytes);
                if last {
                    return (log, arrived);
                }
            }
            Downloaded::Restart => panic!("the body did not change"),
        }
        request = Some(download.next_block());
    }
}

#[test]
fn a_get_follows_the_published_sequences() {
    let status = body(300);
    // Without negotiation.
    let (log, arrived) = fetch(&status, 128, 1024, false);
    assert_eq!(log, ["-", "0/1/128", "1/0/128", "1/1/128", "2/0/128", "2/0/128"]);
    assert_eq!(arrived, status);
    // Early negotiation.
    let (log, arrived) = fetch(&body(370), 128, 64, true);
    assert_eq!(log[..4], ["0/0/64", "0/1/64", "1/0/64", "1/1/64"]);
    assert_eq!(log[10..], ["5/0/64", "5/0/64"]);
    assert_eq!(arrived, body(370));
    // Late negotiation: after 128 bytes the next block of 64 is number 2.
    let (log, arrived) = fetch(&body(370), 128, 64, false);
    assert_eq!(log[..6], ["-", "0/1/128", "2/0/64", "2/1/64", "3/0/64", "3/1/64"]);
    assert_eq!(arrived, body(370));
}

#[test]
fn a_body_that_fits_has_no_block_unless_one_was_asked_for() {
    assert_eq!(fetch(&body(128), 128, 1024, false).0, ["-", "-"]);
    assert_eq!(fetch(&body(128), 128, 128, true).0, ["0/0/128", "0/0/128"]);
    assert_eq!(fetch(&body(0), 128, 128, true).0, ["0/0/128", "0/0/128"]);
    assert_eq!(fetch(&body(0), 128, 128, false), (vec!["-".into(), "-".into()], Vec::new()));
}

#[test]
fn a_response_carries_etag_and_size_with_its_block() {
    let (bytes, result) = served(None, 64, &body(100));
    let options = message(&bytes).options;
    assert_eq!(options.etag(), Some(&result.unwrap().etag.unwrap()[..]));
    assert_eq!((options.size2(), options.content_format()), (Some(100), Some(ContentFormat::TEXT)));
    let (bytes, _) = served(Some(block(1, false, 64)), 64, &body(100));
    assert_eq!(message(&bytes).options.size2(), None);
    assert_eq!(message(&bytes).payload, &body(100)[64..]);
    let (other, _) = served(Some(block(1, false, 64)), 64, &body(101));
    assert_ne!(message(&bytes).options.etag(), message(&other).options.etag());
}

#[test]
fn a_block_behind_the_body_is_out_of_range() {
    assert_eq!(served(Some(block(2, false, 64)), 64, &body(100)).1, Err(ServeError::OutOfRange));
    assert_eq!(served(Some(block(1, false, 64)), 64, &body(64)).1, Err(ServeError::OutOfRange));
    // The largest number times the largest size does not overflow.
    assert_eq!(served(Some(block(0xf_ffff, false, 1024)), 1024, &body(100)).1, Err(ServeError::OutOfRange));
}

#[test]
fn a_larger_block_than_the_resource_gives_is_served_in_smaller_ones_from_the_same_place() {
    let (bytes, result) = served(Some(block(1, false, 256)), 64, &body(1000));
    assert_eq!(text(result.unwrap().block), "4/1/64");
    assert_eq!(message(&bytes).payload, &body(1000)[256..320]);
}

#[test]
fn a_small_buffer_makes_small_blocks() {
    let mut buffer = [0; 12 + 27 + 1 + 40];
    let mut writer = Writer::new(&mut buffer, Room::NONE, Code::CONTENT);
    let served =
        Serve::new(None, Szx::LARGEST).respond(&mut writer, &Head::default(), produce(&body(100))).unwrap();
    assert_eq!(text(served.block), "0/1/32");
    let mut buffer = [0; 12 + 27 + 1 + 15];
    let mut writer = Writer::new(&mut buffer, Room::NONE, Code::CONTENT);
    let refused = Serve::new(None, Szx::LARGEST).respond(&mut writer, &Head::default(), produce(&body(100)));
    assert!(matches!(refused, Err(ServeError::Write(_))));
}

#[test]
fn a_body_that_cannot_be_produced_is_the_owners_error() {
    let mut buffer = [0; 100];
    let mut writer = Writer::new(&mut buffer, Room::NONE, Code::CONTENT);
    let result =
        Serve::new(None, Szx::LARGEST).respond(&mut writer, &Head::default(), |_| Err(Code::NOT_FOUND));
    assert_eq!(result, Err(ServeError::Produce(Code::NOT_FOUND)));
    writer.restart(Code::NOT_FOUND);
    assert!(writer.finish().unwrap().bytes().is_empty());
}

#[test]
fn a_download_of_a_changed_body_begins_again() {
    let (old, new) = (body(100), body(90));
    let mut download = Download::new(szx(64), 1000);
    let first = served(None, 64, &old).0;
    assert!(matches!(download.handle(&message(&first)), Ok(Downloaded::Part { last: false, .. })));
    for _ in 0..2 {
        let second = served(Some(download.next_block()), 64, &new).0;
        assert_eq!(download.handle(&message(&second)), Ok(Downloaded::Restart));
        assert_eq!(text(Some(download.next_block())), "0/0/64");
        let first = served(Some(download.next_block()), 64, &old).0;
        download.handle(&message(&first)).unwrap();
    }
    let second = served(Some(download.next_block()), 64, &new).0;
    download.handle(&message(&second)).unwrap();
    let first = served(Some(download.next_block()), 64, &old).0;
    download.handle(&message(&first)).unwrap();
    let second = served(Some(download.next_block()), 64, &new).0;
    assert_eq!(download.handle(&message(&second)), Err(DownloadError::Changing));
}

#[test]
fn a_download_takes_smaller_blocks_on_the_way() {
    let whole = body(300);
    let mut download = Download::new(szx(128), 1000);
    let mut arrived: Vec<u8> = Vec::new();
    for largest in [128, 32, 32, 16] {
        let bytes = served(Some(download.next_block()), largest, &whole).0;
        let Ok(Downloaded::Part { bytes, .. }) = download.handle(&message(&bytes)) else { panic!("refused") };
        arrived.extend(bytes);
    }
    assert_eq!(arrived, whole[..128 + 32 + 32 + 16]);
    assert_eq!(text(Some(download.next_block())), "13/0/16");
}

#[test]
fn a_download_refuses_what_it_did_not_ask_for() {
    let response = |block: Option<Block>, length: usize, size: Option<u32>| {
        datagram(Code::CONTENT, |writer| {
            if let Some(block) = block {
                writer.block2(block).unwrap();
            }
            if let Some(size) = size {
                writer.uint(OptionNumber::SIZE2, size).unwrap();
            }
            writer.payload(&body(length)).unwrap();
        })
    };
    let fresh = || Download::new(szx(64), 200);
    let mut begun = fresh();
    begun.handle(&message(&response(Some(block(0, true, 64)), 64, None))).unwrap();
    let error = |mut download: Download, bytes: Vec<u8>| download.handle(&message(&bytes)).unwrap_err();

    assert_eq!(error(fresh(), response(Some(block(1, true, 64)), 64, None)), DownloadError::Unexpected);
    assert_eq!(error(begun.clone(), response(Some(block(2, true, 64)), 64, None)), DownloadError::Unexpected);
    assert_eq!(error(begun.clone(), response(Some(block(0, true, 64)), 64, None)), DownloadError::Unexpected);
    assert_eq!(error(begun.clone(), response(None, 64, None)), DownloadError::Unexpected);
    assert_eq!(error(begun.clone(), response(Some(block(1, true, 64)), 63, None)), DownloadError::Length);
    assert_eq!(error(begun.clone(), response(Some(block(1, false, 64)), 65, None)), DownloadError::Length);
    assert_eq!(error(fresh(), response(None, 201, None)), DownloadError::TooLarge);
    assert_eq!(error(fresh(), response(Some(block(0, true, 64)), 64, Some(201))), DownloadError::TooLarge);
    let mut full = begun;
    for number in 1..3 {
        full.handle(&message(&response(Some(block(number, true, 64)), 64, None))).unwrap();
    }
    assert_eq!(error(full, response(Some(block(3, true, 64)), 64, None)), DownloadError::TooLarge);
    let reserved = datagram(Code::CONTENT, |writer| {
        writer.uint(OptionNumber::BLOCK2, 0x0f).unwrap();
    });
    assert_eq!(error(fresh(), reserved), DownloadError::BadBlock);
}

/// The body's side: one request.
fn upload_request(upload: &mut Upload, body: &[u8]) -> (Vec<u8>, Option<Block>) {
    upload_by(Code::PUT, upload, body)
}

fn upload_by(code: Code, upload: &mut Upload, body: &[u8]) -> (Vec<u8>, Option<Block>) {
    let mut window_space = [0; 1024];
    let mut window = upload.window(&mut window_space);
    produce(body)(&mut window).unwrap();
    let portion = upload.portion(&window).unwrap();
    assert_eq!(portion.length, window.length());
    let payload = window.bytes().to_vec();
    let bytes = datagram(code, |writer| {
        writer.option(OptionNumber::URI_PATH, b"options").unwrap();
        if let Some(block) = portion.block {
            writer.block1(block).unwrap();
        }
        if let Some(size) = portion.size {
            writer.uint(OptionNumber::SIZE1, size).unwrap();
        }
        writer.payload(&payload).unwrap();
    });
    (bytes, portion.block)
}

/// Sends `body`: the Block1 options of requests and responses, and what arrived.
fn send(body: &[u8], first: usize, largest: usize) -> (Vec<String>, Vec<u8>) {
    let mut upload = Upload::new(szx(first));
    let mut receive = Receive::new(szx(largest), 1 << 20);
    let (mut log, mut arrived) = (Vec::new(), Vec::new());
    loop {
        let (request, sent) = upload_request(&mut upload, body);
        log.push(text(sent));
        let Ok(Received::Part { offset, bytes, last, answer }) = receive.handle(&message(&request)) else {
            panic!("refused")
        };
        if offset == 0 {
            assert_eq!(message(&request).options.size1(), sent.map(|_| u32::try_from(body.len()).unwrap()));
        }
        arrived.truncate(offset.try_into().unwrap());
        arrived.extend(bytes);
        log.push(text(answer));
        let response = datagram(if last { Code::CHANGED } else { Code::CONTINUE }, |writer| {
            if let Some(answer) = answer {
                writer.block1(answer).unwrap();
            }
        });
        let done = upload.handle(&message(&response)).unwrap() == Uploaded::Done;
        assert_eq!((done, receive.is_active()), (last, !last));
        if done {
            return (log, arrived);
        }
    }
}

#[test]
fn a_put_follows_the_published_sequences() {
    let (log, arrived) = send(&body(300), 128, 1024);
    assert_eq!(log, ["0/1/128", "0/1/128", "1/1/128", "1/1/128", "2/0/128", "2/0/128"]);
    assert_eq!(arrived, body(300));
    // The other side asks for 32: the 128 bytes that were sent are 4 blocks of these.
    let (log, arrived) = send(&body(220), 128, 32);
    assert_eq!(log, ["0/1/128", "0/1/32", "4/1/32", "4/1/32", "5/1/32", "5/1/32", "6/0/32", "6/0/32"]);
    assert_eq!(arrived, body(220));
    assert_eq!(send(&body(128), 128, 32), (vec!["-".into(), "-".into()], body(128)));
    assert_eq!(send(&body(0), 128, 32), (vec!["-".into(), "-".into()], body(0)));
}

fn put(path: &[u8], block: Block, length: usize) -> Vec<u8> {
    datagram(Code::PUT, |writer| {
        writer.option(OptionNumber::URI_PATH, path).unwrap();
        writer.block1(block).unwrap();
        writer.payload(&vec![0; length]).unwrap();
    })
}

fn refusal(receive: &mut Receive, bytes: &[u8]) -> (String, Option<u32>) {
    let refusal = receive.handle(&message(bytes)).unwrap_err();
    let response = datagram(Code::CONTENT, |writer| refusal.write(writer).unwrap());
    (message(&response).code.to_string(), message(&response).options.size1())
}

#[test]
fn a_block_of_a_transfer_that_is_not_there_is_incomplete() {
    let mut receive = Receive::new(Szx::LARGEST, 1000);
    assert_eq!(refusal(&mut receive, &put(b"a", block(1, true, 64), 64)), ("4.08".into(), None));
    // A gap.
    receive.handle(&message(&put(b"a", block(0, true, 64), 64))).unwrap();
    assert_eq!(refusal(&mut receive, &put(b"a", block(2, true, 64), 64)), ("4.08".into(), None));
    assert!(!receive.is_active());
    // Another resource; what is under way goes on.
    receive.handle(&message(&put(b"a", block(0, true, 64), 64))).unwrap();
    assert_eq!(refusal(&mut receive, &put(b"b", block(1, true, 64), 64)), ("4.08".into(), None));
    assert!(receive.is_active());
    receive.handle(&message(&put(b"a", block(1, true, 64), 64))).unwrap();
    // After the end, and after the owner gave it up.
    receive.handle(&message(&put(b"a", block(0, false, 64), 64))).unwrap();
    assert_eq!(refusal(&mut receive, &put(b"a", block(1, false, 64), 64)), ("4.08".into(), None));
    receive.handle(&message(&put(b"a", block(0, true, 64), 64))).unwrap();
    receive.abort();
    assert_eq!(refusal(&mut receive, &put(b"a", block(1, false, 64), 64)), ("4.08".into(), None));
}

#[test]
fn a_body_past_the_cap_is_too_large() {
    let mut receive = Receive::new(Szx::LARGEST, 100);
    receive.handle(&message(&put(b"a", block(0, true, 64), 64))).unwrap();
    assert_eq!(refusal(&mut receive, &put(b"a", block(1, true, 64), 64)), ("4.13".into(), Some(100)));
    assert_eq!(refusal(&mut receive, &put(b"a", block(2, true, 64), 64)), ("4.08".into(), None));
    let announced = datagram(Code::PUT, |writer| {
        writer.block1(block(0, true, 16)).unwrap().uint(OptionNumber::SIZE1, 101).unwrap();
        writer.payload(&[0; 16]).unwrap();
    });
    assert_eq!(refusal(&mut receive, &announced), ("4.13".into(), Some(100)));
}

#[test]
fn a_payload_that_is_not_as_long_as_its_block_is_a_bad_request() {
    let mut receive = Receive::new(Szx::LARGEST, 1000);
    for (more, length) in [(true, 63), (true, 65), (true, 0), (false, 65)] {
        assert_eq!(refusal(&mut receive, &put(b"a", block(0, more, 64), length)), ("4.00".into(), None));
    }
    let reserved = datagram(Code::PUT, |writer| {
        writer.uint(OptionNumber::BLOCK1, 0x07).unwrap();
    });
    assert_eq!(refusal(&mut receive, &reserved), ("4.00".into(), None));
}

#[test]
fn a_repeated_block_is_answered_and_a_repeated_first_one_begins_again() {
    let mut receive = Receive::new(Szx::LARGEST, 1000);
    let first = put(b"a", block(0, true, 64), 64);
    let second = put(b"a", block(1, true, 64), 64);
    receive.handle(&message(&first)).unwrap();
    receive.handle(&message(&second)).unwrap();
    let answer = block(1, true, 64);
    assert_eq!(receive.handle(&message(&second)), Ok(Received::Repeated { answer }));
    assert_eq!(receive.handle(&message(&second)), Ok(Received::Repeated { answer }));
    // Block sizes may change on the way when the offset fits.
    let third = put(b"a", block(8, true, 16), 16);
    assert!(matches!(receive.handle(&message(&third)), Ok(Received::Part { offset: 128, .. })));
    assert!(matches!(receive.handle(&message(&first)), Ok(Received::Part { offset: 0, .. })));
    assert!(matches!(receive.handle(&message(&second)), Ok(Received::Part { offset: 64, .. })));
}

#[test]
fn a_late_copy_of_any_former_block_is_answered_and_taken_once() {
    let mut receive = Receive::new(Szx::LARGEST, 1000);
    for number in 0..5 {
        receive.handle(&message(&put(b"a", block(number, true, 64), 64))).unwrap();
    }
    // RFC 7959 §2.9.2: 4.08 is for blocks that are missing; these are here. One may span others, or lie within.
    for late in [block(1, true, 64), block(1, true, 128), block(12, true, 16)] {
        let copy = put(b"a", late, late.szx().size());
        assert_eq!(receive.handle(&message(&copy)), Ok(Received::Repeated { answer: late }));
    }
    // One that overlaps the end is neither here nor next.
    assert_eq!(refusal(&mut receive, &put(b"a", block(1, true, 256), 256)), ("4.08".into(), None));
}

/// A block of a PUT with these Request-Tag options.
fn tagged(tags: &[&[u8]], block: Block) -> Vec<u8> {
    datagram(Code::PUT, |writer| {
        writer.option(OptionNumber::URI_PATH, b"a").unwrap().block1(block).unwrap();
        for tag in tags {
            writer.option(OptionNumber::REQUEST_TAG, tag).unwrap();
        }
        writer.payload(&[0; 64]).unwrap();
    })
}

#[test]
fn blocks_with_other_request_tags_are_not_put_together() {
    // RFC 9175 §3.3: identical sets of Request-Tag options, none and an empty one being different sets.
    let sets: [&[&[u8]]; 5] = [&[], &[b""], &[b"1"], &[b"2"], &[b"1", b"2"]];
    for first in sets {
        for second in sets {
            let mut receive = Receive::new(Szx::LARGEST, 1000);
            receive.handle(&message(&tagged(first, block(0, true, 64)))).unwrap();
            let is_taken = receive.handle(&message(&tagged(second, block(1, false, 64)))).is_ok();
            assert_eq!(is_taken, first == second, "{first:?} {second:?}");
            assert_eq!(receive.is_active(), first != second);
        }
    }
}

#[test]
fn each_of_several_blocks_carries_the_tag_of_its_body() {
    let tag_of = |upload: &mut Upload, body: &[u8]| {
        let mut space = [0; 64];
        let mut window = upload.window(&mut space);
        produce(body)(&mut window).unwrap();
        upload.portion(&window).unwrap().tag
    };
    let goes_on = datagram(Code::CONTINUE, |_| {});
    let mut upload = Upload::new(szx(64));
    let first = tag_of(&mut upload, &body(300));
    upload.handle(&message(&goes_on)).unwrap();
    assert_eq!((tag_of(&mut upload, &body(300)), first.is_some()), (first, true));
    // RFC 9175 §3.4, §3.5.1: another body, another tag; what comes late of the former one cannot be mixed with it.
    upload.restart();
    assert_ne!(tag_of(&mut upload, &body(301)), first);
    upload.restart();
    assert_eq!(tag_of(&mut upload, &body(64)), None);
}

#[test]
fn a_request_without_blocks_leaves_a_transfer_in_place() {
    let mut receive = Receive::new(Szx::LARGEST, 1000);
    receive.handle(&message(&put(b"a", block(0, true, 64), 64))).unwrap();
    let whole = datagram(Code::PUT, |writer| writer.payload(b"x").unwrap());
    assert_eq!(
        receive.handle(&message(&whole)),
        Ok(Received::Part { offset: 0, bytes: b"x", last: true, answer: None })
    );
    receive.handle(&message(&put(b"a", block(1, false, 64), 1))).unwrap();
}

#[test]
fn an_upload_takes_smaller_blocks_and_final_answers() {
    let answer = |code: Code, block: Option<Block>| {
        datagram(code, |writer| {
            if let Some(block) = block {
                writer.block1(block).unwrap();
            }
        })
    };
    let text_of = |upload: &mut Upload| text(upload_request(upload, &body(300)).1);
    // RFC 7959 §2.9.3: 4.13 with a smaller size to the first block.
    let mut upload = Upload::new(szx(256));
    assert_eq!(text_of(&mut upload), "0/1/256");
    let too_large = answer(Code::REQUEST_ENTITY_TOO_LARGE, Some(block(0, true, 64)));
    assert_eq!(upload.handle(&message(&too_large)), Ok(Uploaded::Continue));
    assert_eq!(text_of(&mut upload), "0/1/64");
    assert_eq!(upload.handle(&message(&too_large)), Ok(Uploaded::Done));
    // The same to a body that went whole, until it is as small as can be; another 4.13 is final.
    let mut upload = Upload::new(szx(512));
    assert_eq!(text_of(&mut upload), "-");
    let too_large = answer(Code::REQUEST_ENTITY_TOO_LARGE, Some(block(0, false, 16)));
    assert_eq!(upload.handle(&message(&too_large)), Ok(Uploaded::Continue));
    assert_eq!(text_of(&mut upload), "0/1/16");
    assert_eq!(upload.handle(&message(&too_large)), Ok(Uploaded::Done));
    assert_eq!(
        Upload::new(szx(512)).handle(&message(&answer(Code::CONTINUE, None))),
        Ok(Uploaded::Done),
        "nothing was sent"
    );
    let mut upload = Upload::new(szx(512));
    text_of(&mut upload);
    assert_eq!(
        upload.handle(&message(&answer(Code::CONTINUE, Some(block(0, false, 512))))),
        Err(UploadError::Unexpected)
    );
    // A side without state answers each block with the final code.
    let mut upload = Upload::new(szx(64));
    text_of(&mut upload);
    upload.handle(&message(&answer(Code::CHANGED, Some(block(0, false, 64))))).unwrap();
    assert_eq!(text_of(&mut upload), "1/1/64");
    assert_eq!(
        upload.handle(&message(&answer(Code::CONTINUE, Some(block(0, true, 64))))),
        Err(UploadError::Unexpected)
    );
    text_of(&mut upload);
    assert_eq!(upload.handle(&message(&answer(Code::CONTINUE, None))), Ok(Uploaded::Continue));
    assert_eq!(text_of(&mut upload), "2/1/64");
    assert_eq!(upload.handle(&message(&answer(Code::REQUEST_ENTITY_INCOMPLETE, None))), Ok(Uploaded::Done));
    // A body that changed.
    upload.restart();
    text_of(&mut upload);
    upload.handle(&message(&answer(Code::CONTINUE, None))).unwrap();
    let mut space = [0; 64];
    let mut window = upload.window(&mut space);
    produce(&body(301))(&mut window).unwrap();
    assert_eq!(upload.portion(&window), Err(UploadError::Changed));
    // No room.
    let mut upload = Upload::new(szx(64));
    let mut window = upload.window(&mut space[..15]);
    produce(&body(301))(&mut window).unwrap();
    assert_eq!(upload.portion(&window), Err(UploadError::Space));
}

#[test]
fn a_smaller_size_counts_from_the_block_whose_answer_asked_for_it() {
    // RFC 7959 §2.5: all further blocks are that small, and the numbers are those of the smaller size.
    let body = body(700);
    let mut upload = Upload::new(szx(128));
    let mut receive = Receive::new(Szx::LARGEST, 1000);
    let (mut log, mut arrived) = (Vec::new(), Vec::<u8>::new());
    let mut asked = [128, 128, 32, 32, 64, 16, 16].into_iter();
    loop {
        let (request, sent) = upload_request(&mut upload, &body);
        let sent = sent.unwrap();
        log.push(text(Some(sent)));
        let Ok(Received::Part { offset, bytes, last, .. }) = receive.handle(&message(&request)) else {
            panic!("refused: {log:?}")
        };
        assert_eq!(usize::try_from(offset).unwrap(), arrived.len());
        arrived.extend(bytes);
        // The number is that of the request (§2.2), whatever size is asked for.
        let answer = block(sent.number(), sent.more(), asked.next().unwrap_or(16));
        let response = datagram(if last { Code::CHANGED } else { Code::CONTINUE }, |writer| {
            writer.block1(answer).unwrap();
        });
        if upload.handle(&message(&response)).unwrap() == Uploaded::Done {
            break;
        }
    }
    assert_eq!(log[..7], ["0/1/128", "1/1/128", "2/1/128", "12/1/32", "13/1/32", "14/1/32", "30/1/16"]);
    assert_eq!(log.last().unwrap(), "43/0/16");
    assert_eq!(arrived, body);
    // 4.13 with a smaller size asks for less of the first block only (§2.9.3); in the middle it refuses the body.
    let mut upload = Upload::new(szx(128));
    upload_request(&mut upload, &body);
    let goes_on = datagram(Code::CONTINUE, |_| {});
    upload.handle(&message(&goes_on)).unwrap();
    upload_request(&mut upload, &body);
    let too_large = datagram(Code::REQUEST_ENTITY_TOO_LARGE, |writer| {
        writer.block1(block(1, true, 32)).unwrap();
    });
    assert_eq!(upload.handle(&message(&too_large)), Ok(Uploaded::Done));
}

/// A block of a request with this method, to one path.
fn to_path(code: Code, block: Block, payload: &[u8]) -> Vec<u8> {
    datagram(code, |writer| {
        writer.option(OptionNumber::URI_PATH, b"a").unwrap().block1(block).unwrap();
        writer.payload(payload).unwrap();
    })
}

#[test]
fn a_fetch_goes_in_blocks_and_comes_back_in_blocks() {
    // RFC 8132 §2.3.1, RFC 7959 §3.3: the last block of the request is answered with the first one of the result.
    let (asked, result) = (body(150), body(200));
    let mut upload = Upload::new(szx(64));
    let mut receive = Receive::new(szx(64), 1000);
    let mut download = Download::new(szx(64), 1000);
    let (mut log, mut arrived, mut fetched) = (Vec::new(), Vec::<u8>::new(), Vec::<u8>::new());
    let answer = loop {
        let (request, sent) = upload_by(Code::FETCH, &mut upload, &asked);
        log.push(text(sent));
        let Ok(Received::Part { bytes, last, answer, .. }) = receive.handle(&message(&request)) else {
            panic!("refused: {log:?}")
        };
        arrived.extend(bytes);
        let response = match last {
            false => datagram(Code::CONTINUE, |writer| {
                writer.block1(answer.unwrap()).unwrap();
            }),
            true => {
                let mut space = [0; 64];
                let mut serve = Serve::new(None, szx(64));
                let mut window = serve.window(&mut space);
                produce(&result)(&mut window).unwrap();
                let part = serve.finish::<Infallible>(&window).unwrap();
                datagram(Code::CONTENT, |writer| {
                    writer.option(OptionNumber::ETAG, &part.etag.unwrap()).unwrap();
                    writer.block2(part.block.unwrap()).unwrap().block1(answer.unwrap()).unwrap();
                    writer.payload(window.bytes()).unwrap();
                })
            }
        };
        if upload.handle(&message(&response)).unwrap() == Uploaded::Done {
            break response;
        }
    };
    assert_eq!((log, arrived), (vec!["0/1/64".into(), "1/1/64".into(), "2/0/64".into()], asked));
    let mut response = answer;
    loop {
        let Downloaded::Part { bytes, last, .. } = download.handle(&message(&response)).unwrap() else {
            panic!("it did not change")
        };
        fetched.extend(bytes);
        if last {
            break;
        }
        response = served(Some(download.next_block()), 64, &result).0;
    }
    assert_eq!(fetched, result);
}

#[test]
fn blocks_of_one_method_are_none_of_another() {
    let methods = [Code::POST, Code::PUT, Code::FETCH, Code::PATCH, Code::IPATCH];
    for first in methods {
        for second in methods {
            let mut receive = Receive::new(Szx::LARGEST, 1000);
            receive.handle(&message(&to_path(first, block(0, true, 64), &[1; 64]))).unwrap();
            let last = to_path(second, block(1, false, 64), &[2; 9]);
            match receive.handle(&message(&last)) {
                Ok(Received::Part { offset: 64, last: true, .. }) => assert_eq!(first, second),
                Err(refusal) => {
                    assert_ne!(first, second);
                    assert_eq!(refusal.code, Code::REQUEST_ENTITY_INCOMPLETE);
                }
                Ok(other) => panic!("{first} {second}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_window_keeps_its_part_and_knows_the_whole() {
    let body = body(1000);
    for (offset, length) in
        [(0, 16), (16, 16), (990, 16), (984, 16), (1000, 16), (2000, 16), (0, 1000), (0, 2000)]
    {
        let mut space = vec![0; length];
        let mut window = Window::new(&mut space, offset);
        produce(&body)(&mut window).unwrap();
        let offset = usize::try_from(offset).unwrap().min(body.len());
        let end = (offset + length).min(body.len());
        assert_eq!(window.bytes(), &body[offset..end]);
        assert_eq!((window.total(), window.has_more()), (1000, end < 1000));
    }
    assert_eq!(Window::new(&mut [], 0).write(b"x"), Ok::<(), Full>(()));
}

proptest! {
    #[test]
    fn bodies_of_any_length_pass_in_blocks_of_any_size(
        length in 0_usize..3000,
        one in 0_u8..=6,
        other in 0_u8..=6,
        early: bool,
    ) {
        let (one, other) = (Szx::new(one).unwrap().size(), Szx::new(other).unwrap().size());
        let body = body(length);
        prop_assert_eq!(&fetch(&body, one, other, early).1, &body);
        prop_assert_eq!(&send(&body, one, other).1, &body);
    }

    #[test]
    fn any_message_is_taken_or_refused(options in proptest::collection::vec(any::<u8>(), 0..12), payload in 0_usize..70) {
        let mut bytes = vec![0x40, 0x02, 0, 0];
        bytes.extend([0xd1, 14]);
        bytes.extend(options);
        if payload > 0 {
            bytes.push(0xff);
            bytes.extend(vec![0; payload]);
        }
        if let Ok((_, message)) = udp::parse(&bytes) {
            let mut receive = Receive::new(Szx::LARGEST, 100);
            let _ = receive.handle(&message);
            let _ = receive.handle(&message);
            let _ = Download::new(Szx::LARGEST, 100).handle(&message);
            let _ = Upload::new(Szx::LARGEST).handle(&message);
        }
    }
}
