//! The gateway's metrics. The handles are made once, so that counting is one atomic addition.

use metrics::{Counter, Gauge, counter, gauge};

use super::close_reason::CloseReason;
use super::outbound::Transport;

pub struct Metrics {
    /// Connected Socket.IO sockets, whatever their transport; the application's name for them.
    pub websocket_connections: Gauge,
    /// Frames queued for members of rooms.
    pub deliveries: Counter,
    pub events: Counter,
    pub refusals: Counter,
    /// Messages that became durable and were broadcast.
    pub messages: Counter,
    /// Client events that were published.
    pub bridged: Counter,
    pub upgrades: Counter,
    pub authentication_failures: Counter,
    /// Engine.IO sessions that exist, closed ones counted until nothing holds them any more.
    pub sessions: Gauge,
    tasks: Gauge,
    sessions_polling: Counter,
    sessions_websocket: Counter,
}

impl Metrics {
    pub fn new() -> Self {
        Self {
            websocket_connections: gauge!("websocket_connections"),
            deliveries: counter!("leveret_gateway_deliveries_total"),
            events: counter!("leveret_gateway_events_total"),
            refusals: counter!("leveret_gateway_refusals_total"),
            messages: counter!("leveret_gateway_messages_total"),
            bridged: counter!("leveret_gateway_bridged_total"),
            upgrades: counter!("leveret_gateway_upgrades_total"),
            authentication_failures: counter!("leveret_gateway_authentication_failures_total"),
            sessions: gauge!("leveret_gateway_sessions"),
            tasks: gauge!("leveret_gateway_tasks"),
            sessions_polling: counter!("leveret_gateway_sessions_total", "transport" => "polling"),
            sessions_websocket: counter!("leveret_gateway_sessions_total", "transport" => "websocket"),
        }
    }

    /// Counts a session's task until it is dropped, at the task's end, however that comes.
    pub fn task(&self) -> CountedTask {
        self.tasks.increment(1.0);
        CountedTask(self.tasks.clone())
    }

    /// Looks its handle up: it is not the usual way.
    pub fn session_refused(&self, reason: &'static str) {
        counter!("leveret_gateway_sessions_refused_total", "reason" => reason).increment(1);
    }

    pub fn session_opened(&self, transport: Transport) {
        match transport {
            Transport::Polling => self.sessions_polling.increment(1),
            Transport::WebSocket => self.sessions_websocket.increment(1),
        }
    }

    /// Looks its handle up: a session ends once.
    pub fn session_closed(&self, reason: CloseReason) {
        counter!("leveret_gateway_sessions_closed_total", "reason" => reason.as_str()).increment(1);
    }
}

pub struct CountedTask(Gauge);

impl Drop for CountedTask {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
