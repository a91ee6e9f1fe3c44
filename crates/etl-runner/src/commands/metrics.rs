//! One JSON log line per finished load, from which CloudWatch makes metrics (embedded metric format).
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use etl_runner::report::{LoadReport, Outcome};
use serde::Serialize;
use uuid::Uuid;

const NAMESPACE: &str = "Aqueduct";
const DIMENSIONS: [&str; 2] = ["Pipeline", "Table"];
const METRICS: [Metric; 6] = [
    Metric { name: "RecordsRead", unit: "Count" },
    Metric { name: "Loaded", unit: "Count" },
    Metric { name: "Rejected", unit: "Count" },
    Metric { name: "Bytes", unit: "Bytes" },
    Metric { name: "DurationMs", unit: "Milliseconds" },
    Metric { name: "LoadFailed", unit: "Count" },
];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metric {
    name: &'static str,
    unit: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive {
    namespace: &'static str,
    dimensions: [[&'static str; 2]; 1],
    metrics: &'static [Metric],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    /// Milliseconds since 1970.
    timestamp: i64,
    cloud_watch_metrics: [Directive; 1],
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "_aws")]
    metadata: Metadata,
    level: &'static str,
    message: &'static str,
    run_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<i64>,
    object: &'a str,
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(rename = "Pipeline")]
    pipeline: &'a str,
    #[serde(rename = "Table")]
    table: &'a str,
    #[serde(rename = "RecordsRead")]
    records_read: u64,
    #[serde(rename = "Loaded")]
    loaded: u64,
    #[serde(rename = "Rejected")]
    rejected: u64,
    #[serde(rename = "Bytes")]
    bytes: u64,
    #[serde(rename = "DurationMs")]
    duration_ms: u64,
    #[serde(rename = "LoadFailed")]
    load_failed: u8,
    /// No metric: what an alarm on failures leaves out, because the next run may do better.
    #[serde(rename = "MayPass")]
    may_pass: u8,
}

/// The line of a load that was committed or failed, without a line end. What was not tried has none.
pub(super) fn line(report: &LoadReport, run_id: Uuid, at_ms: i64) -> Option<String> {
    let (load, error) = match &report.outcome {
        Outcome::Loaded { load } => (Some(*load), None),
        Outcome::Failed { load, error, .. } => (*load, Some(error.as_str())),
        Outcome::WouldLoad | Outcome::AlreadyLoaded { .. } | Outcome::SameBytes { .. } | Outcome::Skipped { .. } => {
            return None;
        }
    };
    let directive = Directive { namespace: NAMESPACE, dimensions: [DIMENSIONS], metrics: &METRICS };
    let line = Line {
        metadata: Metadata { timestamp: at_ms, cloud_watch_metrics: [directive] },
        level: if error.is_some() { "ERROR" } else { "INFO" },
        message: if error.is_some() { "load failed" } else { "load finished" },
        run_id,
        load,
        object: &report.object,
        version: &report.version,
        error,
        pipeline: &report.pipeline,
        table: &report.table,
        records_read: report.counts.read,
        // Rows of a load that failed were rolled back, however many there were by then.
        loaded: if error.is_some() { 0 } else { report.counts.loaded },
        rejected: report.counts.rejected,
        bytes: report.bytes,
        duration_ms: (report.seconds * 1000.0).round() as u64,
        load_failed: u8::from(error.is_some()),
        may_pass: u8::from(matches!(report.outcome, Outcome::Failed { may_pass: true, .. })),
    };
    serde_json::to_string(&line).ok()
}

#[cfg(test)]
mod tests {
    use cli::Exit;
    use etl_runner::ledger::Counts;

    use super::*;

    fn report(outcome: Outcome) -> LoadReport {
        LoadReport {
            pipeline: "customers".into(),
            table: "public.customer".into(),
            object: "s3://b/customers/a.csv".into(),
            key: "customers/a.csv".into(),
            version: "v:3HL4k".into(),
            outcome,
            can_reload: true,
            counts: Counts { read: 25, loaded: 19, rejected: 6, ..Counts::default() },
            bytes: 4096,
            seconds: 0.0319,
            reject_totals: Vec::new(),
            first_rejects: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_load_is_one_line_of_embedded_metrics() {
        let line = line(&report(Outcome::Loaded { load: 2 }), Uuid::nil(), 1_764_000_000_123).unwrap();
        assert_eq!(
            line,
            concat!(
                r#"{"_aws":{"Timestamp":1764000000123,"CloudWatchMetrics":[{"Namespace":"Aqueduct","#,
                r#""Dimensions":[["Pipeline","Table"]],"Metrics":[{"Name":"RecordsRead","Unit":"Count"},"#,
                r#"{"Name":"Loaded","Unit":"Count"},{"Name":"Rejected","Unit":"Count"},{"Name":"Bytes","Unit":"Bytes"},"#,
                r#"{"Name":"DurationMs","Unit":"Milliseconds"},{"Name":"LoadFailed","Unit":"Count"}]}]},"#,
                r#""level":"INFO","message":"load finished","run_id":"00000000-0000-0000-0000-000000000000","load":2,"#,
                r#""object":"s3://b/customers/a.csv","version":"v:3HL4k","Pipeline":"customers","#,
                r#""Table":"public.customer","RecordsRead":25,"Loaded":19,"Rejected":6,"Bytes":4096,"DurationMs":32,"#,
                r#""LoadFailed":0,"MayPass":0}"#
            )
        );
    }

    #[test]
    fn a_failed_load_counts_no_rows_and_one_failure() {
        for may_pass in [false, true] {
            let failed = Outcome::Failed {
                error: "read the object".into(),
                help: Vec::new(),
                exit: Exit::Failed,
                concerns_all: false,
                may_pass,
                comes_first: false,
                load: Some(3),
            };
            let line = line(&report(failed), Uuid::nil(), 0).unwrap();
            for part in [r#""level":"ERROR""#, r#""error":"read the object""#, r#""Loaded":0"#, r#""LoadFailed":1"#] {
                assert!(line.contains(part), "{line}");
            }
            assert!(line.contains(&format!(r#""MayPass":{}"#, u8::from(may_pass))), "{line}");
        }
    }

    #[test]
    fn what_was_not_tried_makes_no_metric() {
        assert_eq!(line(&report(Outcome::WouldLoad), Uuid::nil(), 0), None);
        assert_eq!(line(&report(Outcome::SameBytes { load: 1 }), Uuid::nil(), 0), None);
    }
}
