//! Who may connect, and the life cycle of every credential.
