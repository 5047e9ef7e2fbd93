//! `leveret purge`.

use http::Method;
use serde::Deserialize;

use super::arguments::PurgeArgs;
use super::connection::{Client, encoded};
use super::{queue_path, understood};
use crate::server::{Error, print_line};

#[derive(Deserialize)]
struct Purged {
    purged: u64,
}

pub(super) async fn run(mut client: Client, arguments: PurgeArgs) -> Result<(), Error> {
    let selection = &arguments.selection;
    let ids = selection.ids.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let members = [
        ("ids", (!ids.is_empty()).then_some(ids)),
        ("error", selection.error.clone()),
        ("reason", selection.reason.clone()),
        ("queue", selection.from.clone()),
    ];
    let query: Vec<String> = members
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", encoded(&value?))))
        .collect();
    if query.is_empty() != arguments.all {
        let reason = "purge takes either --all or what is meant: --ids, --error, --reason, --from";
        return Err(Error::Usage(reason.to_owned()));
    }
    let path = queue_path(&arguments.queue, &format!("/messages?{}", query.join("&")))?;
    let answer = client.call(Method::DELETE, &path, None).await?;
    if arguments.server.json {
        return print_line(&answer.to_string());
    }
    let Purged { purged } = understood(answer)?;
    print_line(&format!("{purged} removed"))
}
