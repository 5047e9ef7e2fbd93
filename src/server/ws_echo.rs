//! `leveret ws-echo`: a bare WebSocket echo, through the code that the gateway is served by.

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use http::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::runtime;

use super::command::WsEchoArgs;
use super::signals::Termination;
use super::{Error, amount, print_line, settings};
use crate::gateway::websocket::{self, Limits};
use crate::http::{self as serving, Listener};

/// Runs until the process is asked to end.
///
/// # Errors
/// When a value is wrong, or the address can't be listened on.
pub fn run(arguments: WsEchoArgs) -> Result<(), Error> {
    let wrong = |flag: &str, reason: String| Error::Usage(format!("--{flag}: {reason}"));
    let address = settings::address(&arguments.listen).map_err(|reason| wrong("listen", reason))?;
    let message_bytes_max = amount::parse(&arguments.max_message).ok_or_else(|| {
        wrong("max-message", format!("'{}' is no amount such as 16MiB", arguments.max_message))
    })?;
    let runtime =
        runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    runtime.block_on(async {
        let termination = Termination::watch().map_err(Error::Runtime)?;
        let listener = Listener::bind(address, serving::Limits::default())
            .await
            .map_err(|source| Error::Listen { address, source })?;
        print_line(&format!("ws-echo ws://{}/", listener.address()))?;
        listener.run(router(Limits { message_bytes_max }), termination.asked()).await;
        Ok(())
    })
}

fn router(limits: Limits) -> Router {
    Router::new().route("/", any(async move |request| answer(request, limits)))
}

fn answer(mut request: Request<Body>, limits: Limits) -> Response<Body> {
    let accepted = match websocket::accept(&request) {
        Ok(accepted) => accepted,
        Err(error) => return error.response().map(|()| Body::from(error.to_string())),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        // It fails when the client is gone before the answer is written.
        if let Ok(upgraded) = upgrade.await {
            websocket::echo(TokioIo::new(upgraded), limits).await;
        }
    });
    accepted.map(|()| Body::empty())
}
