//! INFO.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::greeting::REDIS_VERSION;
use super::{ANY, Row, is, process};
use crate::cache::{Topic, Visit};
use crate::model::text::Text;
use crate::resp::client::{Client, Outcome};

pub(super) const ROWS: &[Row] = &[Row::for_scripts("info", 0, ANY, |client, visit, args| {
    let text = info(client, visit, args.get(1..).unwrap_or_default());
    client.writer().verbatim(*b"txt", text.as_bytes());
    Outcome::Answered
})];

type Section = fn(&Client, &Visit<'_>, &mut String) -> std::fmt::Result;

const SECTIONS: [(&str, Section); 9] = [
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("CPU", cpu),
    ("Cluster", cluster),
    ("Keyspace", keyspace),
];

fn info(client: &Client, visit: &Visit<'_>, wanted: &[Text]) -> String {
    let is_wanted = |name: &str| {
        wanted.is_empty()
            || wanted.iter().any(|section| {
                ["all", "default", "everything", name].iter().any(|name| is(section, name))
            })
    };
    let mut text = String::new();
    for (name, section) in SECTIONS {
        if is_wanted(name) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            // A string takes every write.
            let _ = write!(text, "# {name}\r\n");
            let _ = section(client, visit, &mut text);
        }
    }
    text
}

fn server(client: &Client, _: &Visit<'_>, text: &mut String) -> std::fmt::Result {
    let shared = &client.shared;
    let uptime = shared.started.elapsed().as_secs();
    let port = shared.config.lock().port().to_owned();
    write!(
        text,
        "redis_version:{REDIS_VERSION}\r\n\
         leveret_version:{}\r\n\
         redis_mode:standalone\r\n\
         os:{}\r\n\
         arch_bits:{}\r\n\
         process_id:{}\r\n\
         run_id:{}\r\n\
         tcp_port:{port}\r\n\
         server_time_usec:{}\r\n\
         uptime_in_seconds:{uptime}\r\n\
         uptime_in_days:{}\r\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        usize::BITS,
        std::process::id(),
        shared.run_id,
        shared.clock.now_ms() * 1_000,
        uptime / (24 * 60 * 60),
    )
}

fn clients(client: &Client, _: &Visit<'_>, text: &mut String) -> std::fmt::Result {
    let all = client.shared.clients.all();
    let count = |is: fn(&crate::resp::clients::Info) -> bool| {
        all.iter().filter(|handle| is(&handle.info.lock())).count()
    };
    write!(
        text,
        "connected_clients:{}\r\nmaxclients:{}\r\nblocked_clients:{}\r\npubsub_clients:{}\r\n",
        all.len(),
        client.shared.config.lock().clients_max,
        count(|info| info.blocked),
        count(|info| info.is_subscriber()),
    )
}

fn memory(client: &Client, visit: &Visit<'_>, text: &mut String) -> std::fmt::Result {
    let (maxmemory, policy) = {
        let config = client.shared.config.lock();
        (config.maxmemory, config.maxmemory_policy().to_owned())
    };
    let mut amount = |name: &str, bytes: u64| {
        write!(text, "{name}:{bytes}\r\n{name}_human:{}\r\n", process::for_people(bytes))
    };
    let used = u64::try_from(visit.memory_bytes()).unwrap_or(u64::MAX);
    amount("used_memory", used)?;
    if let Some(bytes) = process::resident_bytes() {
        amount("used_memory_rss", bytes)?;
    }
    if let Some(bytes) = process::machine_bytes() {
        amount("total_system_memory", bytes)?;
    }
    amount("maxmemory", maxmemory)?;
    write!(
        text,
        "used_memory_dataset:{used}\r\nmaxmemory_policy:{policy}\r\nmem_allocator:jemalloc\r\n",
    )
}

fn persistence(client: &Client, _: &Visit<'_>, text: &mut String) -> std::fmt::Result {
    let journal = client.shared.cache.journal();
    write!(
        text,
        "loading:0\r\nrdb_bgsave_in_progress:0\r\nrdb_last_bgsave_status:ok\r\naof_enabled:{}\r\n\
         aof_rewrite_in_progress:0\r\naof_last_write_status:{}\r\n",
        u8::from(journal.keeps()),
        if journal.writable().is_ok() { "ok" } else { "err" },
    )
}

fn stats(client: &Client, visit: &Visit<'_>, text: &mut String) -> std::fmt::Result {
    let counters = &client.shared.counters;
    let (expired, evicted) = visit.removals();
    let (hits, misses) = visit.hits_and_misses();
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    write!(
        text,
        "total_connections_received:{}\r\ntotal_commands_processed:{}\r\n\
         total_net_input_bytes:{}\r\ntotal_net_output_bytes:{}\r\nrejected_connections:{}\r\n\
         total_error_replies:{}\r\nexpired_keys:{expired}\r\nevicted_keys:{evicted}\r\n\
         keyspace_hits:{hits}\r\nkeyspace_misses:{misses}\r\npubsub_channels:{}\r\n\
         pubsub_patterns:{}\r\npubsubshard_channels:{}\r\n",
        get(&counters.connections),
        get(&counters.commands),
        get(&counters.input_bytes),
        get(&counters.output_bytes),
        get(&counters.connections_refused),
        get(&counters.errors),
        visit.topic_count(Topic::Channel),
        visit.topic_count(Topic::Pattern),
        visit.topic_count(Topic::ShardChannel),
    )
}

fn replication(_: &Client, _: &Visit<'_>, text: &mut String) -> std::fmt::Result {
    write!(text, "role:master\r\nconnected_slaves:0\r\n")
}

fn cpu(_: &Client, _: &Visit<'_>, text: &mut String) -> std::fmt::Result {
    let Some((user, system, a_second)) = process::cpu_ticks() else { return Ok(()) };
    for (name, ticks) in [("sys", system), ("user", user)] {
        let micros = ticks % a_second * 1_000_000 / a_second;
        write!(text, "used_cpu_{name}:{}.{micros:06}\r\n", ticks / a_second)?;
    }
    Ok(())
}

fn cluster(_: &Client, _: &Visit<'_>, text: &mut String) -> std::fmt::Result {
    write!(text, "cluster_enabled:0\r\n")
}

fn keyspace(_: &Client, visit: &Visit<'_>, text: &mut String) -> std::fmt::Result {
    for (db, keys, expiring) in visit.databases() {
        write!(text, "db{db}:keys={keys},expires={expiring},avg_ttl=0\r\n")?;
    }
    Ok(())
}
