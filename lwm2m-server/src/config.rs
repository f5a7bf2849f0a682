//! The configuration file of the server.
