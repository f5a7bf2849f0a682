//! Where credentials, profiles and audit rows are kept.
