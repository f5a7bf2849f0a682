//! The only owner of sockets: runs an endpoint under tokio.
