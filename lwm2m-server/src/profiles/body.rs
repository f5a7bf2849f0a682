//! What a profile says, as it is given and kept.
//!
//! ```json
//! { "description": "meters in the field",
//!   "server_uri": "coaps://${site}.example:5684", "lifetime": 3600, "binding": "U", "retry": { "count": 5 },
//!   "discover": "first", "write_by": "instance", "quirks": { "format": "tlv", "leave_out": ["/0/x/15"] },
//!   "servers": [{ "short_server_id": 2, "uri": "coaps://data.example", "security": "psk",
//!                 "identity": "${endpoint}-data", "key": "${data_key}" }],
//!   "access_control": [{ "object": 3, "instance": 0, "owner": 1, "acl": { "2": ["read"] } }],
//!   "delete": ["/3303"],
//!   "write": [{ "path": "/3/0/15", "value": "Europe/Berlin" }] }
//! ```
//!
//! Whatever is left out is as the server is configured. Values are those of the HTTP interface ([`api::values`](crate::api::values)).

use std::collections::BTreeMap;

use lwm2m_objects::Format;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

use crate::credentials::Retry;

/// What bootstraps write and delete.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = BootstrapProfile)]
pub struct Body {
    /// What it is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// LwM2M Server URI of this server, `/0/x/0`, `coaps://`; may have variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_uri: Option<String>,
    /// The same of devices under OSCORE, and without security: `coap://`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_uri_nosec: Option<String>,
    /// Lifetime in seconds, `/1/x/1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<u32>,
    /// Binding, `/1/x/7`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    /// Notification Storing When Disabled or Offline, `/1/x/6`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification_storing: Option<bool>,
    /// Certificate Usage, `/0/x/15`, 0 to 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_usage: Option<u8>,
    /// `/0` instance to write where a Discover does not say otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_instance: Option<u16>,
    /// `/1` instance to write where a Discover does not say otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_instance: Option<u16>,
    /// How often and how long a device tries to register.
    #[serde(skip_serializing_if = "is_default")]
    pub retry: Retry,
    /// Whether the device is asked first what it has.
    #[serde(skip_serializing_if = "is_default")]
    pub discover: Discover,
    /// How much goes into one request.
    #[serde(skip_serializing_if = "is_default")]
    pub write_by: WriteBy,
    /// What its devices do otherwise than others.
    #[serde(skip_serializing_if = "is_default")]
    pub quirks: Quirks,
    /// Accounts of other servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<FurtherServer>,
    /// Instances of Access Control, from `/2/0` on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_control: Vec<AccessControl>,
    /// Objects and instances to delete, before anything is written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub delete: Vec<String>,
    /// Values of other objects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub write: Vec<WriteItem>,
}

/// Whether the device is asked first what it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Discover {
    /// Yes, and it is written as it answers.
    #[default]
    First,
    /// No: it is written blind, to the instances that are named.
    Never,
}

/// How much goes into one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WriteBy {
    /// An instance of an account or of Access Control; of other objects what one `write` gives.
    #[default]
    Instance,
    /// Everything of an object.
    Object,
    /// A resource.
    Resource,
}

/// What devices do otherwise than others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = BootstrapQuirks)]
pub struct Quirks {
    /// They are written in this format, whatever they ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<WriteFormat>,
    /// Whether a Discover after the writes must show the accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<bool>,
    /// Whether the time is written to `/3/0/13`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_time: Option<bool>,
    /// Resources of accounts that they do not take: `/0/x/13`, `/0/x/14`, `/0/x/15`, `/1/x/17` to `/1/x/20`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leave_out: Vec<String>,
    /// They do not take resources of zero length: those of `/0` that mean nothing are left out.
    #[serde(skip_serializing_if = "is_default")]
    pub leave_out_empty: bool,
}

/// A content format in which a bootstrap writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WriteFormat {
    /// 11542
    Tlv,
    /// 112
    SenmlCbor,
    /// 110
    SenmlJson,
}

impl From<WriteFormat> for Format {
    fn from(format: WriteFormat) -> Self {
        match format {
            WriteFormat::Tlv => Self::TLV,
            WriteFormat::SenmlCbor => Self::SENML_CBOR,
            WriteFormat::SenmlJson => Self::SENML_JSON,
        }
    }
}

/// The account of another server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FurtherServer {
    /// Short Server ID, 1 to 65534, that no other server has.
    pub short_server_id: u16,
    /// LwM2M Server URI; may have variables.
    pub uri: String,
    /// How it is secured.
    pub security: FurtherSecurity,
    /// PSK identity; may have variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The secret variable that holds the pre-shared key: `${name}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Lifetime in seconds; that of this server without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<u32>,
    /// Binding; that of this server without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    /// Notification Storing When Disabled or Offline; that of this server without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification_storing: Option<bool>,
    /// `/0` instance to write where a Discover does not say otherwise; the lowest free one without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_instance: Option<u16>,
    /// `/1` instance to write where a Discover does not say otherwise; the lowest free one without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_instance: Option<u16>,
}

/// How the account of another server is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FurtherSecurity {
    /// Not at all: `coap://`.
    NoSec,
    /// By a pre-shared key: `coaps://`.
    Psk,
}

/// Who may do what with an instance, or create instances of an object (object `/2`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessControl {
    /// Object id, 1 to 65534.
    pub object: u16,
    /// Object instance id; without, it is about creating instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<u16>,
    /// Short Server ID of who may change it; without, only a bootstrap may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<u16>,
    /// Operations by Short Server ID, 0 for all that are not named.
    #[serde(default)]
    pub acl: BTreeMap<String, Vec<Right>>,
}

/// What a server may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Read, Observe, Write-Attributes.
    Read,
    /// Write.
    Write,
    /// Execute.
    Execute,
    /// Delete.
    Delete,
    /// Create.
    Create,
}

impl Right {
    /// Its bit in `/2/x/2`.
    pub(super) const fn bit(self) -> i64 {
        match self {
            Self::Read => 1,
            Self::Write => 2,
            Self::Execute => 4,
            Self::Delete => 8,
            Self::Create => 16,
        }
    }
}

/// Values of another object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteItem {
    /// Path of an instance, resource or resource instance.
    pub path: String,
    /// As the body of a Write to that path; strings may have variables.
    pub value: Json,
    /// Also where the server does not know the object or resource; then each value says its type.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unchecked: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
