//! `leveret ready`.

use http::Method;

use super::arguments::ReadyArgs;
use super::connection::Client;
use crate::server::{Error, print_line};

pub(super) async fn run(mut client: Client, arguments: ReadyArgs) -> Result<(), Error> {
    let answer = client.call(Method::GET, "/ready", None).await?;
    match arguments.server.json {
        true => print_line(&answer.to_string()),
        false => print_line("ready"),
    }
}
