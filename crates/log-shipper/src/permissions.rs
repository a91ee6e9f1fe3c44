//! What rights a configuration takes, and whether they are there: one call each. No event and no metric is left behind; groups
//! and streams are made that are to be there anyway, and where a name asks for a file's, a stream called after this check.

use std::collections::BTreeSet;

use cloudwatch::{CallError, CloudWatch};
use serde_json::{Value, json};

use crate::config::Config;
use crate::name::{Host, Template, safe_group, safe_stream};
use crate::publish;
use crate::sink::Sink;

/// The least IAM policy with which everything works.
pub fn policy(config: &Config) -> Value {
    let mut groups: BTreeSet<String> = BTreeSet::new();
    let mut retains = false;
    for (group, _, retention_days) in destinations(config) {
        retains |= retention_days.is_some();
        // What is not known before it runs may be anything.
        let pattern: String = group.as_str().split('{').enumerate().fold(String::new(), |text, (index, part)| {
            let part = if index == 0 { part } else { part.split_once('}').map_or("", |(_, rest)| rest) };
            if index == 0 { part.to_owned() } else { format!("{text}*{part}") }
        });
        let pattern: String = pattern.split('*').map(safe_group).collect::<Vec<String>>().join("*");
        groups.insert(format!("arn:aws:logs:*:*:log-group:{pattern}:*"));
    }
    let mut statements = Vec::new();
    if !groups.is_empty() {
        let mut actions = vec!["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"];
        if retains {
            actions.push("logs:PutRetentionPolicy");
        }
        statements.push(json!({ "Effect": "Allow", "Action": actions, "Resource": groups }));
    }
    if let Some(metrics) = &config.metrics {
        // PutMetricData knows no resources; the namespace is what it can be held to.
        statements.push(json!({
            "Effect": "Allow", "Action": "cloudwatch:PutMetricData", "Resource": "*",
            "Condition": { "StringEquals": { "cloudwatch:namespace": metrics.namespace } },
        }));
    }
    json!({ "Version": "2012-10-17", "Statement": statements })
}

fn destinations(config: &Config) -> impl Iterator<Item = (&Template, &Template, Option<u32>)> {
    let files = config.files.iter().map(|files| (&files.group, &files.stream, files.retention_days));
    let journals = config.journals.iter().map(|journal| (&journal.group, &journal.stream, journal.retention_days));
    let stdin = config.stdin.iter().map(|stdin| (&stdin.group, &stdin.stream, stdin.retention_days));
    files.chain(journals).chain(stdin)
}

/// One right that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    pub what: String,
    pub found: Result<(), CallError>,
}

/// Tries each right once on each group.
pub async fn try_all(config: &Config, host: &Host, service: &CloudWatch) -> Vec<Tried> {
    let sink = Sink::new(service.clone());
    let mut tried = Vec::new();
    let mut seen = BTreeSet::new();
    for (group, stream, retention_days) in destinations(config) {
        let group = safe_group(&group.of_source(host, "log-shipper-check").on(""));
        if !seen.insert(group.clone()) {
            continue;
        }
        let stream = safe_stream(&stream.of_source(host, "log-shipper-check").on("1970-01-01"));
        // The group is made by this where it is not there; where it is, nothing tells whether it could be.
        let made = sink.create(&group, &stream).await;
        tried.push(Tried { what: format!("logs:CreateLogStream on {group}"), found: made });
        if let Some(days) = retention_days {
            let found = sink.retain(&group, days).await;
            tried.push(Tried { what: format!("logs:PutRetentionPolicy on {group}"), found });
        }
        let put = sink.put_nothing(&group, &stream).await;
        tried.push(Tried { what: format!("logs:PutLogEvents on {group}"), found: put });
    }
    if let Some(metrics) = &config.metrics {
        let found = publish::put_nothing(service, &metrics.namespace).await;
        tried.push(Tried { what: format!("cloudwatch:PutMetricData in {}", metrics.namespace), found });
    }
    tried
}
