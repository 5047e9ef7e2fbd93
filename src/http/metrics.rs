//! Prometheus metrics: one recorder a process, rendered on request.

use std::sync::OnceLock;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Samples of histograms wait in memory until they are folded in, at the latest after this time.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The process's metrics. Servers in one process share them, as they share the recorder.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Installs the recorder at the first call. Must come before the engines are made: a counter
    /// that was taken from no recorder counts nothing.
    pub fn install() -> Self {
        static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
        let handle = HANDLE.get_or_init(|| {
            let recorder = PrometheusBuilder::new().build_recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                // An embedding program's choice: its recorder gets the numbers.
                tracing::warn!("another metrics recorder is installed: /metrics stays empty");
            }
            describe();
            handle
        });
        Self { handle: handle.clone() }
    }

    /// The text format of Prometheus, version 0.0.4.
    pub fn render(&self) -> Response {
        let content_type = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
        ([content_type], self.handle.render()).into_response()
    }

    /// Keeps the memory of histograms bounded while nobody asks for them. Never ends.
    pub async fn upkeep(self) {
        let mut ticks = tokio::time::interval(UPKEEP_EVERY);
        loop {
            ticks.tick().await;
            self.handle.run_upkeep();
        }
    }
}

/// One line of help for every name, here for all floors so that the page of metrics reads as one.
fn describe() {
    use metrics::{describe_counter as counter, describe_gauge as gauge};
    counter!(
        "rabbitmq_messages_total",
        "Messages by queue and by what became of them (published, delivered, acked, failed, ...)"
    );
    gauge!("websocket_connections", "Socket.IO sockets that are connected now, over any transport");
    gauge!("leveret_gateway_sessions", "Engine.IO sessions that exist");
    gauge!("leveret_gateway_tasks", "Tasks that work for Engine.IO sessions");
    counter!(
        "leveret_gateway_sessions_refused_total",
        "Sessions refused by reason: address (too many sockets from one), full or ending (unavailable)"
    );
    gauge!(
        "leveret_alarm",
        "1 while publishers wait because this resource (memory, disk) is short"
    );
    counter!("redis_cache_hits_total", "Cache look-ups by outcome: hit or miss");
    counter!(
        "leveret_http_connections_refused_total",
        "Connections refused because as many as may be were open"
    );
    counter!(
        "leveret_http_accept_errors_total",
        "Failures to accept a connection, such as no file descriptor left"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_in_one_process_share_the_recorder() {
        let first = Metrics::install();
        let second = Metrics::install();
        metrics::counter!("leveret_http_accept_errors_total").increment(1);
        // Others in this process go on counting meanwhile.
        let lines = |metrics: &Metrics| {
            let text = metrics.handle.render();
            let of_it =
                text.lines().filter(|line| line.contains("leveret_http_accept_errors_total"));
            of_it.map(str::to_owned).collect::<Vec<_>>()
        };
        let line = "# HELP leveret_http_accept_errors_total Failures to accept a connection";
        assert!(lines(&first).iter().any(|shown| shown.starts_with(line)));
        assert_eq!(lines(&first), lines(&second));
    }
}
