//! Parameters of Register and Update, and what registrations list (LwM2M Core 1.2.1 §6.2).

use crate::Version;

/// Parameters of Register and Update. In an Update only what changed is present.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Parameters<'a> {
    /// `ep`: the endpoint name; may be absent from 1.1 on when credentials identify the client.
    pub endpoint: Option<&'a str>,
    /// `lt`: lifetime in seconds; 0 is without end.
    pub lifetime: Option<u32>,
    /// `lwm2m`: the enabler version.
    pub version: Option<Version>,
    /// `b`: letters of the bindings; absent means `U`.
    pub binding: Option<&'a str>,
    /// `Q`: the client sleeps between its messages. In 1.0 a letter of `b`, which is counted in.
    pub queue_mode: bool,
    /// `sms`: the number for the SMS binding.
    pub sms: Option<&'a str>,
}

/// The name of a registration: what stands behind `/rd/` in its path, such as `5a3f`. A text that starts with a slash
/// is a whole path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Location<'a>(pub &'a str);
