//! What a person types, and sees.

use std::fs;

use crate::room::{Room, lines};
use crate::service::Faults;

#[test]
fn check_shows_what_goes_where_and_tries_each_right_without_leaving_an_event() {
    let room = Room::new("retention_days = 14");
    room.append("log/a.log", lines(0, 1));
    let config = fs::read_to_string(room.path("config.toml")).unwrap();
    fs::write(room.path("config.toml"), format!("{config}[metrics]\nnamespace = \"Test\"\ndimensions = {{}}\n"))
        .unwrap();
    let (exit, text, said) = room.run(&["check"]);
    assert_eq!(exit, 0, "{said}");
    assert!(text.contains("log/*.log (1 file) → /test/app / {file}"), "{text}");
    assert!(text.contains("ok: logs:CreateLogStream on /test/app\nok: logs:PutRetentionPolicy on /test/app"), "{text}");
    assert!(
        text.contains("ok: logs:PutLogEvents on /test/app") && text.contains("ok: cloudwatch:PutMetricData in Test")
    );
    assert!(text.contains("arn:aws:logs:*:*:log-group:/test/app:*") && text.contains("cloudwatch:namespace"), "{text}");
    assert!(text.contains("/state can be written"), "{text}");
    assert!(!room.path("state").exists());
    assert_eq!(room.service.count(), 0);
    assert_eq!(room.service.accepted().retention["/test/app"], 14);
    room.assert_sound();

    room.service.set(Faults { denied: true, ..Faults::default() });
    let (exit, text, _) = room.run(&["check"]);
    assert_eq!(exit, 4, "{text}");
    assert!(text.contains("missing: logs:PutLogEvents on /test/app: refused for want of rights"), "{text}");
    let mut nameless = room.command(&["check"]);
    nameless.env_remove("AWS_ACCESS_KEY_ID").env("AWS_EC2_METADATA_DISABLED", "true");
    let output = nameless.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(
        text.contains("on /test/app: refused for want of rights (no credentials: give the instance a role"),
        "{text}"
    );
    let mut placeless = room.command(&["check"]);
    let output = placeless.env_remove("AWS_REGION").env("AWS_EC2_METADATA_DISABLED", "true").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("(no region: set AWS_REGION)"), "{text}");
    room.service.set(Faults { outage: true, ..Faults::default() });
    let (exit, text, _) = room.run(&["check"]);
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("not tried: logs:PutLogEvents on /test/app: no usable answer"), "{text}");
    // A host that is no instance is told what to do, and the rest is shown all the same.
    let named = config.replace("{file}", "{instance_id}");
    fs::write(room.path("config.toml"), &named).unwrap();
    let (exit, text, said) = room.run(&["check"]);
    assert!(exit == 1 && text.contains("log/*.log (1 file)") && text.contains("\"Version\""), "{text}");
    assert!(said.contains("on another host use {hostname}"), "{said}");
    let (exit, text, _) = room.run(&["check", "--offline", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (exit, document["command"].as_str(), document["sources"][0]["files"].as_u64()),
        (0, Some("log-shipper check"), Some(1))
    );
    assert_eq!(document["policy"]["Version"], "2012-10-17");
    // A place where nobody can keep anything, not even root.
    fs::write(room.path("config.toml"), config.replace(&room.path("state").display().to_string(), "/proc/log-shipper"))
        .unwrap();
    let (exit, text, said) = room.run(&["check"]);
    assert!(exit == 1 && text.contains("missing: /proc/log-shipper cannot be written"), "{text}");
    assert!(said.contains("`state` names another directory"), "{said}");
}

#[test]
fn a_mistake_in_the_configuration_is_shown_where_it_is() {
    let room = Room::new("retention_days = 15\nkepe = 'x'");
    let (exit, text, said) = room.run(&["run"]);
    assert_eq!((exit, text.as_str()), (2, ""));
    assert!(said.contains("config.toml:8:1: unknown field `kepe`") && said.contains("did you mean keep?"), "{said}");
    assert!(said.contains("8 | kepe = 'x'\n"), "{said}");
    room.configure("retention_days = 15\nkeep = '('", "");
    let (exit, _, said) = room.run(&["check", "--offline"]);
    assert_eq!(exit, 2);
    assert!(
        said.contains("no log group can keep events for 15 days") && said.contains("the next the service knows is 30"),
        "{said}"
    );
    assert!(said.contains("config.toml:8:8: keep: "), "both are told: {said}");
}

#[test]
fn status_shows_what_waits_and_why() {
    let room = Room::new("");
    let (exit, _, said) = room.run(&["status"]);
    assert!(exit == 1 && said.contains("has log-shipper been run"), "{said}");
    room.service.set(Faults { denied: true, ..Faults::default() });
    room.append("log/a.log", lines(0, 1_000));
    let running = room.start();
    // It is written every few seconds.
    room.until("it is told", || room.run(&["status"]).1.contains("trouble:"));
    let (_, text, _) = room.run(&["status"]);
    assert!(text.contains(&format!("running, pid {}", running.0.id())), "{text}");
    assert!(text.contains("trouble: /test/app / a.log: refused for want of rights (AccessDeniedException)"), "{text}");
    assert!(text.contains("lags: ") && text.contains("a.log by "), "{text}");
    room.service.set(Faults::default());
    room.until("all is there", || room.service.count() == 1_000);
    assert_eq!(running.stop(), 0);
    let (_, text, _) = room.run(&["status"]);
    assert!(text.contains("not running") && text.contains("1,000 read, 1,000 accepted"), "{text}");
    assert!(!text.contains("trouble:") && !text.contains("lags:"), "{text}");
}

#[test]
fn a_configuration_of_the_agent_becomes_one_that_ships() {
    let room = Room::new("");
    let agent = serde_json::json!({
        "agent": { "metrics_collection_interval": 60 },
        "logs": { "logs_collected": { "files": { "collect_list": [{
            "file_path": room.path("log/a.log").display().to_string(),
            "log_group_name": "/from/agent",
            "log_stream_name": "one",
            "retention_in_days": 7,
            "timestamp_format": "%Y-%m-%d %H:%M:%S",
            "multi_line_start_pattern": "{timestamp_format}",
            "auto_removal": true,
        }] } } },
    });
    fs::write(room.path("config.toml"), agent.to_string()).unwrap();
    let (exit, toml, said) = room.run(&["import-cwagent"]);
    assert_eq!(exit, 0, "{said}");
    assert!(said.contains("auto_removal"), "{said}");
    let state = format!("state = \"{}\"\n", room.path("state").display());
    fs::write(room.path("config.toml"), toml.replacen("version = 1\n", &format!("version = 1\n{state}"), 1)).unwrap();
    let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S").to_string();
    room.append("log/a.log", format!("{now} one\n  and more\n{now} two\n{now} three\n"));
    let running = room.start();
    room.until("two are there", || room.service.count() >= 2);
    assert_eq!(running.stop(), 0);
    let messages = room.service.messages("/from/agent", "one");
    assert_eq!(messages[..2], [format!("{now} one\n  and more"), format!("{now} two")]);
    assert_eq!(room.service.accepted().retention["/from/agent"], 7);
}

#[test]
fn the_unit_is_hardened_and_its_configuration_is_right() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/host/log-shipper.service");
    // 10 is a service that may do everything.
    let output = std::process::Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", "--threshold=20", unit])
        .output()
        .expect("systemd-analyze is missing: scripts/install-test-tools.sh");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let room = Room::new("");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/host/log-shipper.toml"), room.path("config.toml"))
        .unwrap();
    let (exit, text, said) = room.run(&["check", "--offline"]);
    assert_eq!(exit, 0, "{said}");
    assert!(text.contains("journal (all) → /aqueduct/host / {instance_id}/journal"), "{text}");
}
