//! Who may connect, and the life cycle of every credential.

use std::sync::Arc;

/// Which of the two servers a credential is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The bootstrap server.
    Bootstrap,
    /// The management server.
    Management,
}

/// Who a finished handshake proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    /// Endpoint client name.
    pub endpoint: Arc<str>,
    /// Which server the credential is for.
    pub role: Role,
    /// Which generation of the credential was used.
    pub generation: u32,
}
