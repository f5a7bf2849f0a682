//! A backup of the store while the server runs.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::problem::Problem;
use super::{Actor, Api, now_ms};
use crate::credentials::utc;

/// Bytes that are read of the file at once, and how many such pieces wait for a slow reader.
const PIECE: usize = 64 << 10;
const PIECES: usize = 4;

/// Makes a backup and sends it; nothing is left of it here.
pub(super) async fn make(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
) -> Result<Response, Problem> {
    // One at a time: each holds a file as large as the store until it was read.
    let Ok(turn) = Arc::clone(&api.backups).try_acquire_owned() else {
        return Err(Problem::new(503, "Busy", "another backup is being made, or read: wait until it was"));
    };
    let (file, backup) = api.read_store(move |credentials| credentials.backup(now_ms(), &actor)).await?;
    let length = file.metadata().map_err(|_| Problem::internal())?.len();
    let (pieces, sent) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read(file, &pieces) {
            // The reader sees it by the length.
            tracing::error!(%error, "a backup could not be read");
            let _ = pieces.blocking_send(Err(error));
        }
        drop(turn);
    });
    let name =
        format!("attachment; filename=\"lwm2m-{}.backup\"", utc(backup.made_ms / 1000).replace(':', ""));
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, length.to_string()),
        (CONTENT_DISPOSITION, name),
    ];
    Ok((headers, Body::from_stream(ReceiverStream::new(sent))).into_response())
}

fn read(mut file: File, pieces: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    file.rewind()?;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        file.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
        // Nobody may be reading any more.
        if piece.is_empty() || pieces.blocking_send(Ok(piece.into())).is_err() {
            return Ok(());
        }
    }
}
