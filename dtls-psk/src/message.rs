//! Handshake messages (RFC 6347 §4.2.2, RFC 5246 §7.4, RFC 4279 §2; invariant: a parsed message was consumed to its last
//! byte).

use crate::connection_id::ENABLED;
use crate::error::{Dropped, Reason};
use crate::record::Version;
use crate::suite::{EMPTY_RENEGOTIATION_INFO_SCSV, Suite, Suites};
use crate::wire::{Reader, Writer};

/// Type, length, message_seq, fragment_offset, fragment_length.
pub(crate) const HEADER: usize = 12;

/// The type of a handshake message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum MessageType {
    HelloRequest = 0,
    ClientHello = 1,
    ServerHello = 2,
    HelloVerifyRequest = 3,
    /// Only sent: our clients keep no tickets.
    #[cfg(all(feature = "resumption", feature = "server"))]
    NewSessionTicket = 4,
    #[cfg(feature = "rpk")]
    Certificate = 11,
    ServerKeyExchange = 12,
    #[cfg(feature = "rpk")]
    CertificateRequest = 13,
    ServerHelloDone = 14,
    #[cfg(feature = "rpk")]
    CertificateVerify = 15,
    ClientKeyExchange = 16,
    Finished = 20,
}

impl MessageType {
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::HelloRequest),
            1 => Some(Self::ClientHello),
            2 => Some(Self::ServerHello),
            3 => Some(Self::HelloVerifyRequest),
            #[cfg(feature = "rpk")]
            11 => Some(Self::Certificate),
            12 => Some(Self::ServerKeyExchange),
            #[cfg(feature = "rpk")]
            13 => Some(Self::CertificateRequest),
            14 => Some(Self::ServerHelloDone),
            #[cfg(feature = "rpk")]
            15 => Some(Self::CertificateVerify),
            16 => Some(Self::ClientKeyExchange),
            20 => Some(Self::Finished),
            _ => None,
        }
    }
}

/// A whole handshake message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) message_type: MessageType,
    pub(crate) message_seq: u16,
    pub(crate) body: &'a [u8],
}

impl Message<'_> {
    /// The header as it stands in the transcript: unfragmented.
    pub(crate) fn header(&self) -> [u8; HEADER] {
        let length = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
        FragmentHeader { code: self.message_type as u8, length, message_seq: self.message_seq, offset: 0 }
            .emit(length)
    }
}

/// The header of a fragment without the fragment's own length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FragmentHeader {
    pub(crate) code: u8,
    /// The whole message's length, 24 bits.
    pub(crate) length: u32,
    pub(crate) message_seq: u16,
    /// 24 bits.
    pub(crate) offset: u32,
}

impl FragmentHeader {
    pub(crate) fn emit(self, fragment_length: u32) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut writer = Writer::new(&mut bytes);
        let written = writer
            .u8(self.code)
            .and_then(|()| writer.u24(self.length))
            .and_then(|()| writer.u16(self.message_seq))
            .and_then(|()| writer.u24(self.offset))
            .and_then(|()| writer.u24(fragment_length));
        debug_assert!(written.is_some(), "the header has 12 bytes");
        bytes
    }
}

/// A fragment of a handshake message, possibly the whole of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment<'a> {
    pub(crate) header: FragmentHeader,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// Takes the next fragment off a record's plaintext; a fragment lies within its message.
    pub(crate) fn parse(reader: &mut Reader<'a>) -> Option<Self> {
        let code = reader.u8()?;
        let length = reader.u24()?;
        let message_seq = reader.u16()?;
        let offset = reader.u24()?;
        let fragment_length = reader.u24()?;
        let bytes = reader.take(usize::try_from(fragment_length).ok()?)?;
        (offset.checked_add(fragment_length)? <= length)
            .then_some(Self { header: FragmentHeader { code, length, message_seq, offset }, bytes })
    }

    /// Whether it is the whole message.
    pub(crate) fn is_whole(&self) -> bool {
        u32::try_from(self.bytes.len()) == Ok(self.header.length)
    }
}

/// Numbers of extensions.
pub(crate) mod extension {
    #[cfg(feature = "ecdhe")]
    pub(crate) const SUPPORTED_GROUPS: u16 = 0x000a;
    #[cfg(feature = "ecdhe")]
    pub(crate) const EC_POINT_FORMATS: u16 = 0x000b;
    #[cfg(feature = "x509")]
    pub(crate) const SERVER_NAME: u16 = 0x0000;
    #[cfg(feature = "record-size-limit")]
    pub(crate) const MAX_FRAGMENT_LENGTH: u16 = 0x0001;
    #[cfg(feature = "rpk")]
    pub(crate) const SIGNATURE_ALGORITHMS: u16 = 0x000d;
    #[cfg(feature = "rpk")]
    pub(crate) const CLIENT_CERTIFICATE_TYPE: u16 = 0x0013;
    #[cfg(feature = "rpk")]
    pub(crate) const SERVER_CERTIFICATE_TYPE: u16 = 0x0014;
    #[cfg(feature = "cbc")]
    pub(crate) const ENCRYPT_THEN_MAC: u16 = 0x0016;
    pub(crate) const EXTENDED_MASTER_SECRET: u16 = 0x0017;
    #[cfg(feature = "record-size-limit")]
    pub(crate) const RECORD_SIZE_LIMIT: u16 = 0x001c;
    #[cfg(all(feature = "resumption", feature = "server"))]
    pub(crate) const SESSION_TICKET: u16 = 0x0023;
    pub(crate) const CONNECTION_ID: u16 = 0x0036;
    /// RFC 9853 §3
    pub(crate) const RETURN_ROUTABILITY_CHECK: u16 = 0x003d;
    pub(crate) const RENEGOTIATION_INFO: u16 = 0xff01;
}

/// The extensions of a hello that matter here.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct HelloExtensions<'a> {
    pub(crate) extended_master_secret: bool,
    pub(crate) secure_renegotiation: bool,
    /// The Connection ID that the sender wants in records to it.
    pub(crate) connection_id: Option<&'a [u8]>,
    pub(crate) return_routability: bool,
    /// The lists of supported_groups and ec_point_formats.
    #[cfg(feature = "ecdhe")]
    pub(crate) groups: Option<&'a [u8]>,
    #[cfg(feature = "ecdhe")]
    pub(crate) point_formats: Option<&'a [u8]>,
    #[cfg(feature = "cbc")]
    pub(crate) encrypt_then_mac: bool,
    /// The code of the length; whether it is one is not judged yet.
    #[cfg(feature = "record-size-limit")]
    pub(crate) max_fragment_length: Option<u8>,
    #[cfg(feature = "record-size-limit")]
    pub(crate) record_size_limit: Option<u16>,
    #[cfg(all(feature = "resumption", feature = "server"))]
    pub(crate) session_ticket: Option<&'a [u8]>,
    /// The values as they are: a client's holds a list, a server's one of it.
    #[cfg(feature = "rpk")]
    pub(crate) client_certificate_type: Option<&'a [u8]>,
    #[cfg(feature = "rpk")]
    pub(crate) server_certificate_type: Option<&'a [u8]>,
    #[cfg(feature = "rpk")]
    pub(crate) signature_algorithms: Option<&'a [u8]>,
    /// The host name, which a server answers with an empty one.
    #[cfg(feature = "x509")]
    pub(crate) server_name: Option<&'a [u8]>,
    /// Something else was there too.
    pub(crate) others: bool,
}

impl<'a> HelloExtensions<'a> {
    pub(crate) fn read(extensions: &'a [u8]) -> Result<Self, Reason> {
        let mut read = Self::default();
        for extension in Extensions(Reader::new(extensions)) {
            let (number, value) = extension.ok_or(Reason::ProtocolViolation)?;
            let is_repeated = match number {
                extension::EXTENDED_MASTER_SECRET if value.is_empty() => {
                    core::mem::replace(&mut read.extended_master_secret, true)
                }
                // RFC 5746 §3.6: in an initial handshake it is one zero byte.
                extension::RENEGOTIATION_INFO if value == [0] => {
                    core::mem::replace(&mut read.secure_renegotiation, true)
                }
                extension::RENEGOTIATION_INFO => return Err(Reason::InsecureRenegotiation),
                extension::CONNECTION_ID if ENABLED => {
                    let id = message_vector8(value).ok_or(Reason::ProtocolViolation)?;
                    read.connection_id.replace(id).is_some()
                }
                #[cfg(feature = "ecdhe")]
                extension::SUPPORTED_GROUPS => {
                    let groups = parse_vector(value).filter(|groups| groups.len().is_multiple_of(2));
                    read.groups.replace(groups.ok_or(Reason::ProtocolViolation)?).is_some()
                }
                #[cfg(feature = "ecdhe")]
                extension::EC_POINT_FORMATS => {
                    let formats = message_vector8(value).ok_or(Reason::ProtocolViolation)?;
                    read.point_formats.replace(formats).is_some()
                }
                #[cfg(all(feature = "resumption", feature = "server"))]
                extension::SESSION_TICKET => read.session_ticket.replace(value).is_some(),
                extension::RETURN_ROUTABILITY_CHECK if ENABLED && value.is_empty() => {
                    core::mem::replace(&mut read.return_routability, true)
                }
                #[cfg(feature = "cbc")]
                extension::ENCRYPT_THEN_MAC if value.is_empty() => {
                    core::mem::replace(&mut read.encrypt_then_mac, true)
                }
                #[cfg(feature = "record-size-limit")]
                extension::MAX_FRAGMENT_LENGTH => {
                    let [code] = value else { return Err(Reason::ProtocolViolation) };
                    read.max_fragment_length.replace(*code).is_some()
                }
                #[cfg(feature = "record-size-limit")]
                extension::RECORD_SIZE_LIMIT => {
                    let limit = value.try_into().ok().map(u16::from_be_bytes);
                    // RFC 8449 §4: less than 64 is an illegal_parameter.
                    let limit = limit.filter(|limit| *limit >= crate::limits::LIMIT_MIN);
                    read.record_size_limit.replace(limit.ok_or(Reason::ProtocolViolation)?).is_some()
                }
                #[cfg(feature = "rpk")]
                extension::CLIENT_CERTIFICATE_TYPE => read.client_certificate_type.replace(value).is_some(),
                #[cfg(feature = "rpk")]
                extension::SERVER_CERTIFICATE_TYPE => read.server_certificate_type.replace(value).is_some(),
                #[cfg(feature = "rpk")]
                extension::SIGNATURE_ALGORITHMS => {
                    let algorithms = parse_vector(value).filter(|list| list.len().is_multiple_of(2));
                    read.signature_algorithms.replace(algorithms.ok_or(Reason::ProtocolViolation)?).is_some()
                }
                #[cfg(feature = "x509")]
                extension::SERVER_NAME => {
                    let name = host_name(value).ok_or(Reason::ProtocolViolation)?;
                    read.server_name.replace(name).is_some()
                }
                #[cfg(feature = "cbc")]
                extension::ENCRYPT_THEN_MAC => return Err(Reason::ProtocolViolation),
                extension::EXTENDED_MASTER_SECRET => return Err(Reason::ProtocolViolation),
                extension::RETURN_ROUTABILITY_CHECK if ENABLED => return Err(Reason::ProtocolViolation),
                _ => {
                    read.others = true;
                    false
                }
            };
            // RFC 5246 §7.4.1.4: no extension twice.
            if is_repeated {
                return Err(Reason::ProtocolViolation);
            }
        }
        Ok(read)
    }

    /// What a client offers for itself; the outer `None` is no list.
    #[cfg(all(feature = "rpk", feature = "server"))]
    pub(crate) fn client_certificate_type_list(&self) -> Option<Option<&'a [u8]>> {
        self.client_certificate_type.map_or(Some(None), |value| message_vector8(value).map(Some))
    }

    /// What a client takes from its server; the outer `None` is no list.
    #[cfg(all(feature = "rpk", feature = "server"))]
    pub(crate) fn server_certificate_type_list(&self) -> Option<Option<&'a [u8]>> {
        self.server_certificate_type.map_or(Some(None), |value| message_vector8(value).map(Some))
    }

    /// Writes them, and nothing of `others`.
    pub(crate) fn emit(&self, writer: &mut Writer<'_>) -> Option<()> {
        let flag = |writer: &mut Writer<'_>, is_there: bool, number: u16, value: &[u8]| {
            if is_there {
                writer.u16(number)?;
                writer.vector16(value)?;
            }
            Some(())
        };
        flag(writer, self.secure_renegotiation, extension::RENEGOTIATION_INFO, &[0])?;
        flag(writer, self.extended_master_secret, extension::EXTENDED_MASTER_SECRET, &[])?;
        if let Some(id) = self.connection_id {
            writer.u16(extension::CONNECTION_ID)?;
            writer.vector16_of(|writer| writer.vector8(id))?;
        }
        #[cfg(feature = "cbc")]
        flag(writer, self.encrypt_then_mac, extension::ENCRYPT_THEN_MAC, &[])?;
        #[cfg(feature = "ecdhe")]
        if let Some(groups) = self.groups {
            writer.u16(extension::SUPPORTED_GROUPS)?;
            writer.vector16_of(|writer| writer.vector16(groups))?;
        }
        #[cfg(feature = "ecdhe")]
        if let Some(formats) = self.point_formats {
            writer.u16(extension::EC_POINT_FORMATS)?;
            writer.vector16_of(|writer| writer.vector8(formats))?;
        }
        #[cfg(feature = "record-size-limit")]
        {
            let code = self.max_fragment_length;
            flag(writer, code.is_some(), extension::MAX_FRAGMENT_LENGTH, code.as_slice())?;
            let limit = self.record_size_limit.map(u16::to_be_bytes);
            let value = limit.as_ref().map_or(&[][..], <[u8; 2]>::as_slice);
            flag(writer, limit.is_some(), extension::RECORD_SIZE_LIMIT, value)?;
        }
        #[cfg(feature = "rpk")]
        {
            for (number, value) in [
                (extension::CLIENT_CERTIFICATE_TYPE, self.client_certificate_type),
                (extension::SERVER_CERTIFICATE_TYPE, self.server_certificate_type),
            ] {
                flag(writer, value.is_some(), number, value.unwrap_or_default())?;
            }
            if let Some(algorithms) = self.signature_algorithms {
                writer.u16(extension::SIGNATURE_ALGORITHMS)?;
                writer.vector16_of(|writer| writer.vector16(algorithms))?;
            }
        }
        #[cfg(feature = "x509")]
        if let Some(name) = self.server_name {
            writer.u16(extension::SERVER_NAME)?;
            writer.vector16_of(|writer| match name {
                [] => Some(()),
                name => writer.vector16_of(|writer| {
                    writer.u8(HOST_NAME)?;
                    writer.vector16(name)
                }),
            })?;
        }
        #[cfg(all(feature = "resumption", feature = "server"))]
        flag(
            writer,
            self.session_ticket.is_some(),
            extension::SESSION_TICKET,
            self.session_ticket.unwrap_or_default(),
        )?;
        flag(writer, self.return_routability, extension::RETURN_ROUTABILITY_CHECK, &[])
    }
}

/// The type of a host name among server names.
#[cfg(feature = "x509")]
const HOST_NAME: u8 = 0;

/// The host name in the value of server_name (RFC 6066 §3: one of a type at most, and none that is empty); empty if there is
/// none.
#[cfg(feature = "x509")]
fn host_name(value: &[u8]) -> Option<&[u8]> {
    if value.is_empty() {
        return Some(&[]);
    }
    let mut names = Reader::new(parse_vector(value).filter(|names| !names.is_empty())?);
    let mut host: &[u8] = &[];
    while !names.is_empty() {
        let (kind, name) = (names.u8()?, names.vector16().filter(|name| !name.is_empty())?);
        if kind == HOST_NAME && !core::mem::replace(&mut host, name).is_empty() {
            return None;
        }
    }
    Some(host)
}

/// The one vector with a length of one byte that `value` consists of.
fn message_vector8(value: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(value);
    let content = reader.vector8()?;
    reader.is_empty().then_some(content)
}

/// Numbers and values of extensions; `None` in place of the first that cannot be decoded, and then it ends.
pub(crate) struct Extensions<'a>(pub(crate) Reader<'a>);

impl<'a> Iterator for Extensions<'a> {
    type Item = Option<(u16, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let extension = self.0.u16().and_then(|number| Some((number, self.0.vector16()?)));
        if extension.is_none() {
            self.0 = Reader::new(&[]);
        }
        Some(extension)
    }
}

/// Writes our ClientHello: the suites, the SCSV, and `extensions`.
pub(crate) fn emit_client_hello(
    buffer: &mut [u8],
    random: &[u8; 32],
    session_id: &[u8],
    cookie: &[u8],
    suites: &Suites,
    extensions: &HelloExtensions<'_>,
) -> Option<usize> {
    let mut writer = Writer::new(buffer);
    writer.u16(Version::DTLS_1_2.0)?;
    writer.bytes(random)?;
    writer.vector8(session_id)?;
    writer.vector8(cookie)?;
    writer.vector16_of(|writer| {
        for suite in suites.as_slice() {
            writer.u16(suite.code())?;
        }
        writer.u16(EMPTY_RENEGOTIATION_INFO_SCSV)
    })?;
    writer.vector8(&[0])?;
    writer.optional16_of(|writer| extensions.emit(writer))?;
    Some(writer.len())
}

/// The cookie in a ClientHello that [`emit_client_hello`] wrote.
pub(crate) fn own_cookie(body: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(body);
    // Version, random and session id.
    reader.take(2 + 32)?;
    reader.vector8()?;
    reader.vector8()
}

/// What a client takes from a ServerHello.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerHello<'a> {
    pub(crate) random: &'a [u8; 32],
    #[cfg(feature = "resumption")]
    pub(crate) session_id: &'a [u8],
    pub(crate) suite: Suite,
    pub(crate) extensions: HelloExtensions<'a>,
}

impl<'a> ServerHello<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Reason> {
        let mut reader = Reader::new(body);
        let mut fields = || {
            let version = Version(reader.u16()?);
            let random = reader.array()?;
            let session_id = reader.vector8()?;
            let suite = reader.u16()?;
            let compression = reader.u8()?;
            let extensions = if reader.is_empty() { &[] } else { reader.vector16()? };
            let is_whole = session_id.len() <= 32 && reader.is_empty();
            is_whole.then_some((version, random, session_id, suite, compression, extensions))
        };
        let (version, random, _session_id, suite, compression, extensions) =
            fields().ok_or(Reason::ProtocolViolation)?;
        if version != Version::DTLS_1_2 {
            return Err(Reason::UnsupportedVersion);
        }
        let suite = Suite::from_code(suite).ok_or(Reason::NoCommonSuite)?;
        let extensions = HelloExtensions::read(extensions)?;
        if compression != 0 {
            return Err(Reason::ProtocolViolation);
        }
        #[cfg(all(feature = "resumption", feature = "server"))]
        let extensions = HelloExtensions {
            // No client of ours offers it.
            others: extensions.others || extensions.session_ticket.is_some(),
            ..extensions
        };
        if extensions.others {
            return Err(Reason::UnofferedExtension);
        }
        Ok(Self {
            random,
            #[cfg(feature = "resumption")]
            session_id: _session_id,
            suite,
            extensions,
        })
    }
}

/// The cookie of a HelloVerifyRequest.
pub(crate) fn parse_hello_verify_request(body: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(body);
    let version = Version(reader.u16()?);
    let cookie = reader.vector8()?;
    let known = version == Version::DTLS_1_0 || version == Version::DTLS_1_2;
    (known && reader.is_empty()).then_some(cookie)
}

/// The one vector that ServerKeyExchange (identity hint) and ClientKeyExchange (identity) consist of.
pub(crate) fn parse_vector(body: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(body);
    let value = reader.vector16()?;
    reader.is_empty().then_some(value)
}

/// Turns a parse failure into what is counted.
pub(crate) fn or_malformed<T>(parsed: Option<T>) -> Result<T, Dropped> {
    parsed.ok_or(Dropped::Malformed)
}
