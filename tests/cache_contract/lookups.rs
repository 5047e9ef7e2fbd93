//! Reads are counted as hits and misses.

use leveret::cache::{AppendFsync, Cache, Recovery};
use leveret::journal::Journal;
use leveret::model::clock::SystemClock;
use metrics_exporter_prometheus::PrometheusBuilder;

#[test]
fn reads_are_counted_as_hits_and_misses() {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        let cache = Cache::new(
            Journal::in_memory(),
            SystemClock::shared(),
            AppendFsync::No,
            Recovery::default(),
        );
        let _ = cache.set("a", "1").unwrap();
        for key in ["a", "a", "missing"] {
            let _ = cache.get(key).unwrap();
        }
        let _ = cache.lrange("missing", 0, -1).unwrap();
        // To look whether a key is there reads no value.
        assert!(cache.exists("a"));
    });
    let text = recorder.handle().render();
    assert!(text.contains("redis_cache_hits_total{status=\"hit\"} 2"), "{text}");
    assert!(text.contains("redis_cache_hits_total{status=\"miss\"} 2"), "{text}");
}
