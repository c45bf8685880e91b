//! The table is whole, and the page shows all of it.

use super::*;

/// Reads this module's own source, since Rust can't list a module's constants.
fn constants() -> Vec<&'static str> {
    let source = include_str!("../metrics.rs");
    let body = source.split_once("pub mod names {").unwrap().1.split_once("\n}").unwrap().0;
    body.split('"').skip(1).step_by(2).collect()
}

#[test]
fn every_name_is_in_the_table() {
    let mut constants = constants();
    let mut table: Vec<_> = TABLE.iter().map(|metric| metric.name).collect();
    assert!(constants.len() > 20, "the source was not understood: {constants:?}");
    constants.sort_unstable();
    table.sort_unstable();
    assert_eq!(constants, table);
}

#[test]
fn rows_follow_the_conventions() {
    let labels =
        ["front", "peer", "reason", "kind", "limit", "task", "direction", "state", "version"];
    for metric in TABLE {
        assert!(metric.name.starts_with("waxwing_"), "{metric:?}");
        assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{metric:?}");
        assert!(metric.kind != Kind::Histogram || metric.name.ends_with("_seconds"), "{metric:?}");
        assert!(metric.labels.iter().all(|label| labels.contains(label)), "{metric:?}");
        assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{metric:?}");
    }
}

#[test]
fn every_row_is_on_the_page_once() {
    let exporter = Exporter::install();
    let page = exporter.render(|| metrics::gauge!(names::TOPICS).set(3.0));
    for metric in TABLE {
        let head = format!("# TYPE {} {}\n", metric.name, metric.kind.as_str());
        assert_eq!(page.matches(&head).count(), 1, "{head}\n{page}");
        assert!(page.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{page}");
    }
    assert!(page.contains("waxwing_subscribe_unconfirmed_total 0\n"), "{page}");
    #[cfg(target_os = "linux")]
    for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
        assert!(page.contains(&format!("\n{name} ")), "{name}\n{page}");
    }
}

#[test]
fn a_second_node_of_the_process_shares_the_recorder() {
    let first = Exporter::install();
    let second = Exporter::install();
    let counter = "waxwing_test_of_sharing_total";
    metrics::counter!(counter).increment(2);
    for exporter in [&first, &second] {
        let page = exporter.render(|| ());
        assert!(page.contains(&format!("{counter} 2\n")), "{page}");
        assert!(page.contains("nodes share this process"), "{page}");
    }
}

#[test]
fn histograms_have_the_buckets() {
    let exporter = Exporter::install();
    metrics::histogram!(names::SUBSCRIBE_CONFIRM).record(0.003);
    exporter.upkeep();
    let page = exporter.render(|| ());
    assert!(page.contains("waxwing_subscribe_confirm_seconds_bucket{le=\"0.005\"}"), "{page}");
}
