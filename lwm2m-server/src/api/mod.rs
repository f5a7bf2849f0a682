//! REST over the server's handle.
