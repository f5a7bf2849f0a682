//! The server side of LwM2M as a state machine: bytes, time and randomness in; bytes, events and questions out.
