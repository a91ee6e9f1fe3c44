use super::*;
use crate::config::Config;
use crate::lines::Lines;
use proptest::prelude::*;
use serde_json::json;

/// As the agent's wizard makes it on Linux, with its advanced metrics.
fn wizard() -> Value {
    json!({
        "agent": { "metrics_collection_interval": 60, "run_as_user": "cwagent" },
        "logs": { "force_flush_interval": 15, "logs_collected": { "files": { "collect_list": [
            { "file_path": "/var/log/messages", "log_group_class": "STANDARD", "log_group_name": "messages",
              "log_stream_name": "{instance_id}", "retention_in_days": -1, "timestamp_format": "%b %d %H:%M:%S" },
            { "file_path": "/srv/app/*.log*", "log_group_name": "/acme/app", "log_stream_name": "{hostname}-{aws_region}",
              "retention_in_days": 30, "timestamp_format": "[%Y-%m-%dT%H:%M:%S.%f", "timezone": "UTC", "blacklist": "^debug\\.",
              "multi_line_start_pattern": "{timestamp_format}", "publish_multi_logs": true,
              "filters": [{ "type": "exclude", "expression": "health" }, { "type": "exclude", "expression": "it's \"up\"" },
                          { "type": "include", "expression": "WARN|ERROR" }] }
        ] }, "journald": { "collect_list": [
            { "log_group_name": "journal", "retention_in_days": 7, "units": ["ssh"], "mode": "native",
              "filters": [{ "type": "exclude", "expression": "x" }] }
        ] } } },
        "metrics": {
            "aggregation_dimensions": [["InstanceId"]],
            "append_dimensions": { "ImageId": "${aws:ImageId}", "InstanceId": "${aws:InstanceId}" },
            "metrics_collected": {
                "collectd": { "metrics_aggregation_interval": 60 },
                "cpu": { "measurement": ["cpu_usage_idle", "cpu_usage_iowait"], "metrics_collection_interval": 60,
                         "resources": ["*"], "totalcpu": false },
                "disk": { "measurement": ["used_percent", { "name": "inodes_free", "rename": "FREE" }],
                          "metrics_collection_interval": 60, "resources": ["*"] },
                "diskio": { "measurement": ["io_time"], "resources": ["*"] },
                "mem": { "measurement": ["mem_used_percent"], "metrics_collection_interval": 60 },
                "net": { "measurement": ["bytes_recv"], "resources": ["eth0"] }
            }
        }
    })
}

fn one(entry: Value) -> Imported {
    import(&json!({ "logs": { "logs_collected": { "files": { "collect_list": [entry] } } } }).to_string()).unwrap()
}

#[test]
fn what_the_wizard_made_is_carried_over() {
    let Imported { toml, notes } = import(&wizard().to_string()).unwrap();
    assert_eq!(
        toml,
        r#"# Made of a configuration of the Amazon CloudWatch Agent.
version = 1

[[files]]
path = "/var/log/messages"
group = "messages"
stream = "{instance_id}"
join = { continue = '^(\s|$)' }
timestamp = { format = "%b %d %H:%M:%S", zone = "local", pattern = '(\w{3} \s?\d{1,2} \d{2}:\d{2}:\d{2})' }

[[files]]
path = "/srv/app/*.log*"
exclude = [
    "/srv/app/debug.*",
    "/srv/app/*.bz2",
    "/srv/app/*.gz",
    "/srv/app/*.rar",
    "/srv/app/*.tar",
    "/srv/app/*.zip",
    "/srv/app/*.zst",
]
group = "/acme/app"
stream = "{hostname}-aws-region__srv_app_{file}"
retention_days = 30
join = { start = '(\[\d{4}\-\s?\d{1,2}\-\s?\d{1,2}T\d{2}:\d{2}:\d{2}\.\d{1,9})' }
timestamp = { format = "[%Y-%m-%dT%H:%M:%S.%f", zone = "UTC", pattern = '(\[\d{4}\-\s?\d{1,2}\-\s?\d{1,2}T\d{2}:\d{2}:\d{2}\.\d{1,9})' }
keep = "WARN|ERROR"
drop = "(?:health)|(?:it's \"up\")"

[[journal]]
group = "journal"
stream = "{instance_id}"
retention_days = 7
units = ["ssh"]
drop = "x"
from = "end"

[delivery]
flush = "15s"

[metrics]
namespace = "CWAgent"
interval = "60s"
dimensions = { InstanceId = "{instance_id}" }
host = [
    "cpu_usage_idle",
    "cpu_usage_iowait",
    "mem_used_percent",
    "disk_used_percent",
    "disk_inodes_free",
    "net_bytes_recv",
]
per_cpu = true
interfaces = ["eth0"]
"#
    );
    let expected = [
        "logs.logs_collected.files.collect_list[1].log_stream_name: {hostname} is {hostname}, the name that",
        "logs.logs_collected.files.collect_list[1].log_stream_name: there is no {aws_region} here: write it in by hand",
        "logs.logs_collected.journald.collect_list[0]: what is of priority debug is shipped, too",
        "logs.logs_collected.journald.collect_list[0].mode: not carried over",
        "metrics.metrics_collected.cpu.totalcpu: not carried over",
        "metrics.metrics_collected.disk.measurement[1].rename: not carried over: the metric keeps its own name",
        "metrics.metrics_collected.collectd: not carried over",
        "metrics.metrics_collected.diskio: not carried over",
        "metrics.append_dimensions.ImageId: not carried over: there is no such dimension",
        "metrics.aggregation_dimensions: not carried over: metrics have all their dimensions",
        "agent.run_as_user: not carried over: the unit",
    ];
    assert_eq!(notes.len(), expected.len(), "{notes:#?}");
    for (note, expected) in notes.iter().zip(expected) {
        assert!(note.starts_with(expected), "{note}");
    }
}

#[test]
fn times_are_found_where_the_agent_finds_them() {
    for (format, line, milliseconds) in [
        ("%Y-%m-%d %H:%M:%S", "x 2023-11-14 22:13:20 y", 1_700_000_000_000),
        ("%Y-%m-%d %H:%M:%S", "2023-11-14T22:13:20", 0),
        ("%y%m%d %-H:%-M:%-S,%f", "at 231114 22:13:20,25: y", 1_700_000_000_250),
        ("%d/%b/%Y:%H:%M:%S %z", "::1 - - [14/Nov/2023:23:13:20 +0100] \"GET /\"", 1_700_000_000_000),
        ("%a %b %d %H:%M:%S %Z %Y", "Tue Nov 14 22:13:20 CEST 2023: y", 1_700_000_000_000),
        ("%A, %B %-d, %Y %-I:%M:%S %p", "(Tuesday, November 14, 2023 10:13:20 PM)", 1_700_000_000_000),
        ("%m/%d/%Y %H:%M:%S", "11/14/2023 22:13:20", 1_700_000_000_000),
        ("%-m/%-d/%Y %H:%M:%S", " 3/ 2/2023 00:00:00", 1_677_715_200_000),
    ] {
        let toml = one(json!({ "file_path": "/a", "timestamp_format": format, "timezone": "UTC" })).toml;
        let config = Config::parse(&toml).unwrap();
        let time = config.files[0].rules.time.as_ref().unwrap().read(line, 1_700_000_000_000);
        assert_eq!(time.unwrap_or_default(), milliseconds, "{format}");
    }
    for other in ["%s", "%", "%-", "%Y%%", "%T", "at"] {
        let Imported { toml, notes } = one(json!({ "file_path": "/a", "timestamp_format": other }));
        assert!(!toml.contains("timestamp") && notes[0].contains("[0].timestamp_format: not carried over"), "{other}");
    }
}

#[test]
fn lines_are_joined_as_the_agent_joins_them() {
    let joined = |entry: Value, text: &str| -> Vec<String> {
        let config = Config::parse(&one(entry).toml).unwrap();
        let lines = Lines::new(text.as_bytes(), 0, &config.files[0].rules.joining, true);
        lines.map(|found| String::from_utf8_lossy(found.bytes).into_owned()).collect()
    };
    assert_eq!(joined(json!({ "file_path": "/a" }), "a\n\n b\nc"), ["a\n\n b", "c"]);
    let start = json!({ "file_path": "/a", "multi_line_start_pattern": "^-" });
    assert_eq!(joined(start, "-a\nb\n-c"), ["-a\nb", "-c"]);
    let time = json!({ "file_path": "/a", "multi_line_start_pattern": "{timestamp_format}", "timestamp_format": "%H:%M", "timezone": "UTC" });
    assert_eq!(joined(time, "x 10:00\ny\nz 10:01"), ["x 10:00\ny", "z 10:01"]);
}

#[test]
fn paths_become_patterns_of_ours() {
    for (path, expected) in [
        ("/var/log/[^a]?.log", Some("/var/log/[!a]?.log")),
        ("/var/log/{a}.log", Some("/var/log/{a}.log")),
        ("/var/log/**.log", Some("/var/log/**/*.log")),
        ("/var/**/a/**", Some("/var/**/a/**/*")),
        ("/var/[", None),
        ("/var/[/]", None),
        ("/var/a**b", None),
        ("/var/**/{a,b}", None),
        ("C:\\logs\\*.log", None),
        ("logs/a", None),
    ] {
        assert_eq!(path_glob(path).as_deref(), expected, "{path}");
    }
    for (regex, expected) in [
        (r"\.gz$", Some("*.gz")),
        (r"^a.c.*", Some("a?c*")),
        (r"^d\*$", Some("d[*]")),
        ("^a$", Some("a")),
        ("agent", Some("*agent*")),
        (".*", Some("*")),
        ("(?i)x", None),
        ("a|b", None),
        (r"\d", None),
    ] {
        assert_eq!(name_glob(regex).as_deref(), expected, "{regex}");
    }
}

#[test]
fn names_have_what_ours_can_say() {
    for (entry, group, stream) in [
        (json!({}), "/var/log/app", "{instance_id}"),
        (json!({ "log_group_name": "{local_hostname}/{date}" }), "{hostname}/date", "{instance_id}"),
        (json!({ "log_group_name": "a{file}", "log_stream_name": "{date}{" }), "a_file}", "{date}_"),
        (json!({ "publish_multi_logs": true }), "/var/log/{file}", "{instance_id}"),
        (json!({ "publish_multi_logs": true, "log_group_name": "g" }), "g", "{instance_id}__var_log_{file}"),
    ] {
        let mut all = json!({ "file_path": "/var/log/app.log" });
        all.as_object_mut().unwrap().extend(entry.as_object().unwrap().clone());
        let config = Config::parse(&one(all).toml).unwrap();
        assert_eq!((config.files[0].group.as_str(), config.files[0].stream.as_str()), (group, stream));
    }
}

#[test]
fn nothing_is_dropped_silently_and_no_value_is_told() {
    let config = json!({
        "agent": { "region": "SECRET", "metrics_collection_interval": "SECRET", "own\n": "SECRET" },
        "traces": { "SECRET": 1 },
        "logs": { "credentials": { "role_arn": "SECRET" }, "metrics_collected": { "emf": {} }, "concurrency": 99,
            "force_flush_interval": 0, "logs_collected": { "windows_events": { "collect_list": [] }, "files": { "x": "SECRET", "collect_list": [
                "SECRET", { "file_path": 1 }, { "file_path": "SECRET" },
                { "file_path": "/a", "auto_removal": true, "encoding": "SECRET", "retention_in_days": 2, "service.name": "SECRET",
                  "timezone": "UTC", "blacklist": "(SECRET", "multi_line_start_pattern": "(SECRET", "filters": [
                    { "type": "include", "expression": "a" }, { "type": "include", "expression": "SECRET" }, { "type": "SECRET", "expression": "a" }] },
                { "file_path": "/a", "timestamp_format": "%Z", "timezone": "SECRET" }
            ] } } },
        "metrics": { "endpoint_override": "SECRET", "metrics_collected": { "procstat": [], "mem": { "measurement": ["SECRET"] },
            "cpu": { "measurement": ["usage_idle"], "metrics_collection_interval": 10, "append_dimensions": { "SECRET": "SECRET" } },
            "swap": { "measurement": ["swap_used"] }, "net": { "measurement": ["err_in"], "resources": ["eth*"] } } }
    });
    let Imported { toml, notes } = import(&config.to_string()).unwrap();
    let places: Vec<&str> = notes.iter().filter_map(|note| Some(note.split_once(": ")?.0)).collect();
    let (list, metrics) = ("logs.logs_collected.files.collect_list", "metrics.metrics_collected");
    let expected = format!(
        "{list}[0] {list}[1].file_path {list}[1] {list}[2] {list}[3].blacklist {list}[3].timezone \
         {list}[3].multi_line_start_pattern {list}[3].filters[1] {list}[3].filters[2] {list}[3].retention_in_days \
         {list}[3].auto_removal {list}[3].encoding {list}[3].service.name {list}[4].file_path {list}[4].timezone \
         {list}[4].timestamp_format logs.logs_collected.files.x logs.logs_collected.windows_events \
         logs.force_flush_interval logs.concurrency logs.credentials logs.metrics_collected \
         agent.metrics_collection_interval {metrics}.cpu.append_dimensions {metrics}.mem.measurement[0] {metrics}.mem \
         {metrics}.net.resources {metrics}.procstat metrics.endpoint_override \
         {metrics}.swap.metrics_collection_interval {metrics}.net.metrics_collection_interval agent.own\\n agent.region traces"
    );
    assert_eq!(places, expected.split(' ').collect::<Vec<_>>(), "{notes:#?}");
    assert!(!notes.concat().contains("SECRET") && !toml.contains("SECRET"), "{notes:#?}");
}

#[test]
fn what_is_no_configuration_is_told_so() {
    let place = |text: &str| match import(text) {
        Err(ImportError::NoJson { line, column, .. }) => (line, column),
        other => panic!("{other:?}"),
    };
    assert_eq!(place("{\n  \"agent\": {},\n}"), (3, 1));
    assert_eq!(place(""), (1, 0));
    assert_eq!(import("[]"), Err(ImportError::NoObject));
    assert_eq!(import("\u{feff}{}"), Err(ImportError::Nothing { notes: Vec::new() }));
    let Err(ImportError::Nothing { notes }) = import(r#"{ "logs": 1, "metrics": null }"#) else { panic!() };
    assert_eq!(notes, ["logs: not carried over: it is no object", "metrics: not carried over: it is no object"]);
}

/// Puts a value where the `at`th value of the JSON stands.
fn put(json: &mut Value, at: &mut usize, value: &Value) {
    if *at == 0 {
        *json = value.clone();
    }
    *at = at.wrapping_sub(1);
    match json {
        Value::Array(list) => list.iter_mut().for_each(|json| put(json, at, value)),
        Value::Object(object) => object.values_mut().for_each(|json| put(json, at, value)),
        _ => {}
    }
}

fn values() -> impl Strategy<Value = Value> {
    let texts = ["{timestamp_format}", "include", "%d", "/var/**", "[", "("].map(|text| json!(text));
    prop_oneof![
        any::<String>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        proptest::sample::select(texts.to_vec()),
        proptest::sample::select(vec![Value::Null, json!([]), json!({}), json!([[1]]), json!({ "a'\n": 1.5 })]),
    ]
}

proptest! {
    #[test]
    fn whatever_stands_in_it_a_configuration_of_ours_comes_of_it_or_an_error(changes in proptest::collection::vec((0_usize..90, values()), 1..4)) {
        let mut json = wizard();
        for (mut at, value) in changes {
            put(&mut json, &mut at, &value);
        }
        if let Ok(Imported { toml, notes }) = import(&json.to_string()) {
            let config = Config::parse(&toml);
            prop_assert!(config.is_ok(), "{:?}\n{}", config, toml);
            prop_assert!(notes.iter().all(|note| !note.contains(char::is_control)));
        }
    }

    #[test]
    fn texts_of_any_kind_make_a_configuration_of_ours(
        path in "/(\\PC|[*?\\[\\]{}\\\\'\"\n]){0,12}", name in any::<String>(), regex in "(\\PC|['\"\\\\\n]){0,6}", format in "(%-?[a-zA-Z%]|\\PC){0,5}",
    ) {
        let entry = json!({
            "file_path": path, "log_group_name": name, "log_stream_name": name, "blacklist": regex, "timezone": "UTC",
            "timestamp_format": format, "multi_line_start_pattern": regex, "filters": [{ "type": "exclude", "expression": regex }],
        });
        let json = json!({ "logs": { "logs_collected": { "files": { "collect_list": [entry, { "file_path": "/a" }] } } } });
        let toml = import(&json.to_string()).unwrap().toml;
        let config = Config::parse(&toml);
        prop_assert!(config.is_ok(), "{:?}\n{}", config, toml);
        let files = &config.unwrap().files[0];
        if Regex::new(&regex).is_ok() && !regex.is_empty() && files.paths[0].as_str() != "/a" {
            prop_assert_eq!(files.rules.drop.as_ref().unwrap().as_str(), &regex);
        }
    }

    #[test]
    fn a_text_survives(text in any::<String>()) {
        let read: toml::Table = toml::from_str(&format!("a = {}", quoted(&text))).unwrap();
        prop_assert_eq!(read["a"].as_str(), Some(text.as_str()));
    }
}
