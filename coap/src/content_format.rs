//! Content-Format numbers (RFC 7252 §12.3 and the registry): those LwM2M names.

/// A Content-Format number, as in the options Content-Format and Accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentFormat(pub u16);

impl ContentFormat {
    /// `text/plain;charset=utf-8`.
    pub const TEXT: ContentFormat = ContentFormat(0);
    /// `application/link-format`.
    pub const LINK_FORMAT: ContentFormat = ContentFormat(40);
    /// `application/octet-stream`.
    pub const OCTET_STREAM: ContentFormat = ContentFormat(42);
    /// `application/cbor`.
    pub const CBOR: ContentFormat = ContentFormat(60);
    /// `application/senml+json`.
    pub const SENML_JSON: ContentFormat = ContentFormat(110);
    /// `application/senml+cbor`.
    pub const SENML_CBOR: ContentFormat = ContentFormat(112);
    /// `application/senml-etch+json`.
    pub const SENML_ETCH_JSON: ContentFormat = ContentFormat(320);
    /// `application/senml-etch+cbor`.
    pub const SENML_ETCH_CBOR: ContentFormat = ContentFormat(322);
    /// `application/vnd.oma.lwm2m+tlv`.
    pub const LWM2M_TLV: ContentFormat = ContentFormat(11542);
    /// `application/vnd.oma.lwm2m+json`.
    pub const LWM2M_JSON: ContentFormat = ContentFormat(11543);
    /// `application/vnd.oma.lwm2m+cbor`.
    pub const LWM2M_CBOR: ContentFormat = ContentFormat(11544);
}
