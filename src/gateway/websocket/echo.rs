//! Sends every message back. For conformance drivers, which test a WebSocket by its echo.

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Frame, Incoming, Limits, split};

/// Echoes until the client closes, or breaks a rule and is told so, or the stream fails. A client that
/// does not read is not read from.
pub async fn echo<IO>(io: IO, limits: Limits)
where
    IO: AsyncRead + AsyncWrite,
{
    let (mut reader, mut writer) = split(io, limits);
    loop {
        let incoming = reader.next().await;
        let (answer, goes_on) = match &incoming {
            Ok(Incoming::Text(text)) => (Some(Frame::text(text.as_bytes())), true),
            Ok(Incoming::Binary(bytes)) => (Some(Frame::binary(bytes)), true),
            Ok(control) => (control.answer(), !matches!(control, Incoming::Close { .. })),
            Err(error) => (error.close_frame(), false),
        };
        let Some(answer) = answer else {
            if goes_on {
                continue;
            } else {
                return;
            };
        };
        if writer.write(&[answer]).await.is_err() {
            return;
        }
        if !goes_on {
            // The peer may be gone already.
            let _ = writer.shutdown().await;
            return;
        }
    }
}
