//! Link-format (RFC 6690).

use lwm2m_coap::link::{LinkWriter, parse};

/// Any text parses to an end within itself; a written link is parsed as it was meant.
pub fn link_format(text: &str) {
    let mut bytes = 0;
    for link in parse(text) {
        let Ok(link) = link else { break };
        bytes += link.target.len() + 2;
        for attribute in link.attributes() {
            bytes += attribute.name.len() + attribute.value.map_or(0, |value| value.len() + 1);
            let found = link.attribute(attribute.name).expect("what is listed is found");
            let first = link.attributes().find(|other| other.name == attribute.name);
            assert_eq!(Some(found), first.map(|first| first.value.unwrap_or_default()));
        }
        assert!(link.target.trim_end_matches('/').is_empty() || !link.path().ends_with('/'));
        // Written again as it is, it is the same link.
        let mut written: heapless::Vec<u8, 4096> = heapless::Vec::new();
        let mut writer = LinkWriter::new(&mut written);
        writer.link("/first").and_then(|writer| writer.link(link.target)).expect("there is room");
        let written = core::str::from_utf8(&written).expect("text is written as text");
        assert_eq!(parse(written).nth(1).map(|link| link.map(|link| link.target)), Some(Ok(link.target)));
    }
    assert!(bytes <= text.len());
    quoted(text);
}

/// Any text goes into a quoted value and comes out of it.
fn quoted(text: &str) {
    let mut written: heapless::Vec<u8, 8192> = heapless::Vec::new();
    let mut writer = LinkWriter::new(&mut written);
    let full = writer
        .path("", &[1, 0])
        .and_then(|writer| writer.quoted("a", text))
        .and_then(|writer| writer.flag("b"));
    if full.is_err() || writer.link("/last").is_err() {
        return;
    }
    let written = core::str::from_utf8(&written).expect("text is written as text");
    let links: Vec<_> = parse(written).map(|link| link.expect("what is written is parsed")).collect();
    let [first, last] = links.as_slice() else { panic!("two links were written") };
    assert_eq!((first.target, last.target), ("/1/0", "/last"));
    assert_eq!(first.attribute("b"), Some(""));
    let value = first.attribute("a").expect("the attribute was written");
    let mut plain = String::new();
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        plain.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    assert_eq!(plain, text);
}
