//! Users: who may log in, and what each may do, in RabbitMQ 3.10's words (asked of it, row by row).

use leveret::broker::{BrokerError, ConsumeOptions, DeleteIf};
use leveret::journal::{FolderStore, Journal, JournalOptions};
use leveret::model::clock::SystemClock;
use leveret::model::message::Message;
use leveret::model::names::{UserName, VhostName};
use leveret::model::topology::{Binding, Destination, ExchangeKind, ExchangeSpec, QueueSpec};
use leveret::model::user::{PasswordHash, Permissions};
use leveret::{broker, journal};

use crate::fixture::{Fixture, dying_queue, key, name, queue_name};

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

fn vhost(name: &str) -> VhostName {
    VhostName::new(name).unwrap()
}

fn permissions(configure: &str, write: &str, read: &str) -> Permissions {
    let own = str::to_owned;
    Permissions { configure: own(configure), write: own(write), read: own(read) }
}

/// `OK`, or what a client reads.
fn answer<T>(outcome: Result<T, BrokerError>) -> String {
    match outcome {
        Ok(_) => "OK".to_owned(),
        Err(error) => {
            format!("{} {}", error.reply_code().unwrap_or(0), error.reply_text())
        }
    }
}

fn exchange_binding() -> Binding {
    let mut binding = Binding::queue(name("s"), queue_name("q"), key("k"));
    binding.destination = Destination::Exchange(name("d"));
    binding
}

/// Every operation that is checked, tried by a user with these permissions: what was refused for what.
async fn refused(f: &Fixture, given: Permissions) -> Vec<(&'static str, String)> {
    f.engine.set_permissions(&user("u"), given).unwrap().await.unwrap();
    let identity = f.engine.authenticate("u", "pw", true).unwrap();
    let connection = f.engine.connect_as(&identity, &VhostName::default_vhost()).unwrap();
    let b = &*connection;
    let (queue, nope) = (queue_name("q"), queue_name("nope"));
    let direct = |exchange: &str| ExchangeSpec::durable(name(exchange), ExchangeKind::Direct);
    let with_alternate = ExchangeSpec { alternate: Some(name("ae")), ..direct("new2") };
    let message = |exchange: &str| Message::new(name(exchange), key("q"), "x");
    let mut channel = b.channel(None);
    let outcomes = [
        ("exchange.declare", answer(b.declare_exchange(direct("new")))),
        ("exchange.declare passive", answer(b.exchange(&name("s")))),
        ("exchange.declare AE", answer(b.declare_exchange(with_alternate))),
        ("exchange.delete", answer(b.delete_exchange(&name("old"), false))),
        ("exchange.bind", answer(b.bind(exchange_binding()))),
        ("exchange.unbind", answer(b.unbind(exchange_binding()))),
        ("queue.declare", answer(b.declare_queue(QueueSpec::transient(queue_name("new"))))),
        ("queue.declare passive", answer(b.queue_status(&queue))),
        ("queue.declare DLX", answer(b.declare_queue(dying_queue("new3", "dlx", None)))),
        ("queue.bind", answer(b.bind(Binding::queue(name("s"), queue.clone(), key("k"))))),
        ("queue.unbind", answer(b.unbind(Binding::queue(name("s"), queue.clone(), key("k"))))),
        ("queue.delete", answer(b.delete_queue(&queue_name("old"), DeleteIf::default()))),
        ("queue.purge", answer(b.purge(&queue))),
        ("get", answer(b.get(&queue))),
        ("get missing", answer(b.get(&nope))),
        ("consume", answer(channel.consume(&queue, "", ConsumeOptions::default()))),
        ("publish s", answer(channel.publish(message("s"), false))),
        ("publish default", answer(channel.publish(message(""), false))),
        ("publish missing", answer(b.try_publish(message("nope")))),
    ];
    outcomes.into_iter().filter(|(_, answer)| answer != "OK").collect()
}

fn refusals(rows: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let text = |what: &str| {
        format!("403 ACCESS_REFUSED - access to {what} in vhost '/' refused for user 'u'")
    };
    rows.iter().map(|&(operation, what)| (operation, text(what))).collect()
}

async fn with_user() -> Fixture {
    let f = Fixture::new();
    for exchange in ["s", "d", "dlx", "ae"] {
        f.exchange(exchange, ExchangeKind::Direct).await;
    }
    f.queue("q").await;
    f.engine.set_user(&user("u"), "pw").unwrap().await.unwrap();
    f
}

#[tokio::test]
async fn each_operation_takes_its_permission() {
    let nothing = [
        ("exchange.declare", "exchange 'new'"),
        ("exchange.declare AE", "exchange 'new2'"),
        ("exchange.delete", "exchange 'old'"),
        ("exchange.bind", "exchange 'd'"),
        ("exchange.unbind", "exchange 'd'"),
        ("queue.declare", "queue 'new'"),
        ("queue.declare DLX", "queue 'new3'"),
        ("queue.bind", "queue 'q'"),
        ("queue.unbind", "queue 'q'"),
        ("queue.delete", "queue 'old'"),
        ("queue.purge", "queue 'q'"),
        ("get", "queue 'q'"),
        ("get missing", "queue 'nope'"),
        ("consume", "queue 'q'"),
        ("publish s", "exchange 's'"),
        ("publish default", "exchange 'amq.default'"),
        ("publish missing", "exchange 'nope'"),
    ];
    let f = with_user().await;
    assert_eq!(refused(&f, permissions("", "", "")).await, refusals(&nothing));
    // To configure is neither to write nor to read, which a dead-letter or alternate exchange takes.
    let f = with_user().await;
    let declares = ["exchange.declare", "exchange.delete", "queue.declare", "queue.delete"];
    let rest: Vec<_> = nothing.into_iter().filter(|(row, _)| !declares.contains(row)).collect();
    assert_eq!(refused(&f, permissions(".*", "^$", "^$")).await, refusals(&rest));
    // A binding takes write on its destination first, then read on its source.
    let f = with_user().await;
    let bindings = ["exchange.bind", "exchange.unbind", "queue.bind", "queue.unbind"];
    let found = refused(&f, permissions("^new", "^(q|d)$", "^$")).await;
    let of_bindings: Vec<_> = found.into_iter().filter(|(row, _)| bindings.contains(row)).collect();
    assert_eq!(of_bindings, refusals(&bindings.map(|row| (row, "exchange 's'"))));
    // Whoever may write is told what is not there.
    let f = with_user().await;
    let mut expected = refusals(&[
        ("exchange.bind", "exchange 's'"),
        ("exchange.unbind", "exchange 's'"),
        ("queue.bind", "exchange 's'"),
        ("queue.unbind", "exchange 's'"),
        ("queue.purge", "queue 'q'"),
        ("get", "queue 'q'"),
        ("get missing", "queue 'nope'"),
        ("consume", "queue 'q'"),
    ]);
    let missing = "404 NOT_FOUND - no exchange 'nope' in vhost '/'";
    expected.push(("publish missing", missing.to_owned()));
    assert_eq!(refused(&f, permissions(".*", ".*", "^new")).await, expected);
}

#[tokio::test]
async fn a_server_named_queue_takes_configure_on_its_name() {
    let f = with_user().await;
    f.engine
        .set_permissions(&user("u"), permissions(r"^amq\.gen-", "", ""))
        .unwrap()
        .await
        .unwrap();
    let identity = f.engine.authenticate("u", "pw", true).unwrap();
    let connection = f.engine.connect_as(&identity, &VhostName::default_vhost()).unwrap();
    let unnamed = || QueueSpec::transient(queue_name("unused"));
    connection.declare_generated_queue(unnamed()).unwrap();
    f.engine.set_permissions(&user("u"), permissions("^q$", "", "")).unwrap().await.unwrap();
    let refused = answer(connection.declare_generated_queue(unnamed()).map(|_| ()));
    assert!(refused.starts_with("403 ACCESS_REFUSED - access to queue 'amq.gen-"), "{refused}");
}

#[tokio::test]
async fn a_channel_notices_that_a_permission_is_gone() {
    let f = with_user().await;
    f.engine.set_permissions(&user("u"), Permissions::all()).unwrap().await.unwrap();
    let identity = f.engine.authenticate("u", "pw", true).unwrap();
    let connection = f.engine.connect_as(&identity, &VhostName::default_vhost()).unwrap();
    let mut channel = connection.channel(None);
    let message = || Message::new(name(""), key("q"), "x");
    assert_eq!(answer(channel.publish(message(), false)), "OK");
    let mut claiming = message();
    claiming.properties.user_id = Some("other".to_owned());
    let text = "user_id property set to 'other' but authenticated user was 'u'";
    let refused = answer(channel.publish(claiming, false));
    assert_eq!(refused, format!("406 PRECONDITION_FAILED - {text}"));
    f.engine.set_permissions(&user("u"), permissions("", "", "")).unwrap().await.unwrap();
    assert!(answer(channel.publish(message(), false)).starts_with("403"));
    f.engine.set_permissions(&user("u"), Permissions::all()).unwrap().await.unwrap();
    assert_eq!(answer(channel.publish(message(), false)), "OK");
    f.engine.delete_user(&user("u")).unwrap().await.unwrap();
    assert!(answer(channel.publish(message(), false)).starts_with("403"));
}

#[tokio::test]
async fn a_login_takes_the_password_and_a_vhost_with_permissions() {
    let f = with_user().await;
    let refused = "403 ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For \
                   details see the broker logfile.";
    for (name, password) in [("u", "bad"), ("nobody", "pw"), ("", "")] {
        assert_eq!(answer(f.engine.authenticate(name, password, true)), refused);
    }
    let identity = f.engine.authenticate("u", "pw", false).unwrap();
    f.engine.create_vhost(&vhost("v2"));
    let into = |name: &str| answer(f.engine.connect_as(&identity, &vhost(name)).map(|_| ()));
    let text = "530 NOT_ALLOWED - access to vhost 'v2' refused for user 'u'";
    assert_eq!(into("v2"), text);
    assert_eq!(into("nope"), "530 NOT_ALLOWED - vhost nope not found");
    let v2 = f.engine.in_vhost(&vhost("v2")).unwrap();
    v2.set_permissions(&user("u"), Permissions::all()).unwrap().await.unwrap();
    assert_eq!(into("v2"), "OK");
    v2.clear_permissions(&user("u")).unwrap().await.unwrap();
    assert_eq!(into("v2"), text);
    let unknown = answer(f.engine.set_permissions(&user("nobody"), Permissions::all()));
    assert_eq!(unknown, "406 PRECONDITION_FAILED - no user 'nobody'");
    assert!(f.engine.set_permissions(&user("u"), permissions("(", "", "")).is_err());
}

#[tokio::test]
async fn guest_comes_from_this_machine_only() {
    let f = Fixture::new();
    assert_eq!(f.engine.users(), [user("guest")]);
    assert!(f.engine.authenticate("guest", "guest", true).is_ok());
    assert!(f.engine.authenticate("guest", "guest", false).is_err());
}

fn open(folder: &std::path::Path) -> (broker::Broker, Journal) {
    let store = FolderStore::open(folder).unwrap();
    let mut recovery = broker::Recovery::default();
    let mut replay =
        |entry: journal::Entry, kind, payload: &[u8]| recovery.accept(entry, kind, payload);
    let journal = Journal::open(Box::new(store), JournalOptions::default(), &mut replay).unwrap();
    (broker::Broker::new(journal.clone(), SystemClock::shared(), recovery), journal)
}

#[tokio::test]
async fn users_and_permissions_are_durable() {
    let folder = tempfile::tempdir().unwrap();
    let (b, journal) = open(folder.path());
    b.create_vhost(&vhost("gone"));
    b.set_user(&user("ada"), "first").unwrap().await.unwrap();
    b.set_user(&user("ada"), "second").unwrap().await.unwrap();
    b.set_permissions(&user("ada"), permissions("^a", "", "")).unwrap().await.unwrap();
    b.set_permissions(&user("ada"), permissions("^b", "^c", "")).unwrap().await.unwrap();
    b.in_vhost(&vhost("gone"))
        .unwrap()
        .set_permissions(&user("ada"), Permissions::all())
        .unwrap()
        .await
        .unwrap();
    b.delete_vhost(&vhost("gone")).unwrap();
    // As RabbitMQ exported it.
    let hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
    b.set_user_hash(&user("imported"), PasswordHash::parse(hash).unwrap()).unwrap().await.unwrap();
    b.delete_user(&user("guest")).unwrap().await.unwrap();
    journal.close();
    drop((b, journal));

    let (b, journal) = open(folder.path());
    assert_eq!(b.users(), [user("ada"), user("imported")]);
    assert_eq!(b.permissions(), [(user("ada"), permissions("^b", "^c", ""))]);
    assert!(b.authenticate("ada", "first", true).is_err());
    assert!(b.authenticate("ada", "second", true).is_ok());
    assert!(b.authenticate("imported", "test12", true).is_ok());
    // A guest that was deleted stays away, until it is added as any other.
    assert!(b.authenticate("guest", "guest", true).is_err());
    b.set_user(&user("guest"), "new").unwrap().await.unwrap();
    b.delete_user(&user("ada")).unwrap().await.unwrap();
    journal.close();
    drop((b, journal));

    let (b, journal) = open(folder.path());
    assert_eq!(b.users(), [user("guest"), user("imported")]);
    assert!(b.permissions().is_empty());
    assert!(b.authenticate("guest", "new", true).is_ok());
    b.set_permissions(&user("guest"), Permissions::all()).unwrap().await.unwrap();
    journal.close();
}

#[tokio::test]
async fn the_first_guest_keeps_what_it_has_when_it_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (b, journal) = open(folder.path());
    b.set_user(&user("guest"), "secret").unwrap().await.unwrap();
    assert_eq!(b.permissions(), [(user("guest"), Permissions::all())]);
    journal.close();
    drop((b, journal));
    let (b, _journal) = open(folder.path());
    assert_eq!(b.permissions(), [(user("guest"), Permissions::all())]);
    assert!(b.authenticate("guest", "secret", true).is_ok());
    assert!(b.authenticate("guest", "guest", true).is_err());
}
