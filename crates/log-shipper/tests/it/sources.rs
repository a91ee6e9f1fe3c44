//! The journal, the standard input, long lines, metrics; and the AWS emulator, which nobody of this project wrote.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::room::{Room, assert_all, lines, numbers};
use crate::service::Faults;

impl Room {
    /// Adds to the configuration.
    fn also(&self, text: &str) {
        let config = fs::read_to_string(self.path("config.toml")).unwrap();
        fs::write(self.path("config.toml"), format!("{config}\n{text}\n")).unwrap();
    }
}

/// A journal file with these messages, made by systemd's own program; `journal-remote` is in Debian's package of that name.
fn journal(room: &Room, name: &str, first: u64, count: u64, extra: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64 - 3_600_000_000;
    let mut text = String::new();
    for n in first..first + count {
        let boot = "a".repeat(32);
        text.push_str(&format!(
            "__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={}\n_BOOT_ID={boot}\n_MACHINE_ID={boot}\n\
             SYSLOG_IDENTIFIER=app\n_PID=7\nMESSAGE={}\n{extra}\n",
            now + n,
            1_000 + n,
            lines(n, 1).trim_end_matches('\n')
        ));
    }
    fs::write(room.path("export"), text).unwrap();
    let output = Command::new("/lib/systemd/systemd-journal-remote")
        .arg(format!("--output={}", room.path(&format!("journal/{name}.journal")).display()))
        .arg(room.path("export"))
        .output()
        .expect("systemd-journal-remote is missing: scripts/install-test-tools.sh");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn journal_numbers(room: &Room) -> std::collections::BTreeMap<u64, u64> {
    let messages = room.service.messages("/test/journal", "host");
    let text = |message: &String| message.strip_prefix("app[7]: ").unwrap().to_owned();
    numbers(&messages.iter().map(text).collect::<Vec<_>>())
}

fn with_journal(room: &Room) {
    fs::create_dir(room.path("journal")).unwrap();
    room.also(&format!(
        "[[journal]]\ngroup = \"/test/journal\"\nstream = \"host\"\ndirectory = \"{}\"",
        room.path("journal").display()
    ));
}

#[test]
fn the_journal_is_shipped_from_where_the_service_has_it_whatever_happens() {
    let room = Room::new("");
    with_journal(&room);
    journal(&room, "one", 0, 3_000, "");
    for faults in [
        Faults::default(),
        Faults { throttled: 30, reset: 20, ..Faults::default() },
        Faults { outage: true, ..Faults::default() },
    ] {
        room.service.set(faults);
        let mut running = room.start();
        std::thread::sleep(Duration::from_millis(400));
        running.kill();
    }
    room.service.set(Faults::default());
    let running = room.start();
    room.until("all is there", || journal_numbers(&room).len() == 3_000);
    // What comes later comes, too.
    journal(&room, "two", 3_000, 100, "");
    room.until("the rest is there", || journal_numbers(&room).len() == 3_100);
    assert_eq!(running.stop(), 0);
    let twice = assert_all(&journal_numbers(&room), 3_100);
    assert!(twice <= 3_000, "one batch was under way when it was killed: {twice}");
    // What was in a file that is gone is told as a gap; what is there comes.
    fs::remove_file(room.path("journal/two.journal")).unwrap();
    fs::remove_file(room.path("journal/one.journal")).unwrap();
    journal(&room, "three", 3_100, 50, "");
    let running = room.start();
    room.until("what is there has come", || journal_numbers(&room).len() == 3_150);
    room.until("the gap is told", || room.status()["counts"]["journal_gaps"] == 1);
    assert_eq!(running.stop(), 0);
    room.assert_sound();
}

#[test]
fn the_standard_input_is_shipped_to_its_end_and_what_cannot_be_sent_is_set_aside() {
    let room = Room::new("");
    let stdin = "version = 1\nstate = \"STATE\"\n[stdin]\ngroup = \"/test/app\"\nstream = \"stdin\"\n[delivery]\nstop = \"500ms\"\n";
    let config = stdin.replace("STATE", &room.path("state").display().to_string());
    fs::write(room.path("config.toml"), config).unwrap();
    let run = |text: &str, wait: Duration| {
        let mut running = room.start_with(|command| command.stdin(Stdio::piped()));
        let mut input = running.0.stdin.take().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        if !wait.is_zero() {
            // Somebody still holds it when it is to stop.
            std::thread::sleep(wait);
            assert_eq!(running.stop(), 0);
            return;
        }
        drop(input);
        assert_eq!(running.0.wait().unwrap().code(), Some(0), "{}", room.said());
    };
    run(&format!("{}and one without an end", lines(0, 60_000)), Duration::ZERO);
    let messages = room.messages("stdin");
    assert_eq!(assert_all(&numbers(&messages[..60_000]), 60_000), 0);
    assert_eq!(messages[60_000], "and one without an end");
    // Somebody still holds it when it is to stop: what was written is sent, the half line too.
    run(&format!("{}half a line", lines(60_000, 5)), Duration::from_millis(400));
    assert_eq!(room.messages("stdin")[60_001..60_006].len(), 5);
    assert_eq!(room.messages("stdin")[60_006], "half a line");
    assert!(!room.path("state/dead-letters.jsonl").exists());
    // Nobody takes it: it stands in the file of dead letters to the last line.
    room.service.set(Faults { outage: true, ..Faults::default() });
    run(&lines(0, 500), Duration::from_millis(400));
    let letters = fs::read_to_string(room.path("state/dead-letters.jsonl")).unwrap();
    assert_eq!(letters.lines().count(), 500);
    assert_eq!(room.service.count(), 60_007);
    room.assert_sound();
}

#[test]
fn lines_of_any_length_and_of_any_bytes_arrive_whole() {
    let room = Room::new("");
    let limit = 1_048_576 - 26;
    let fits = "f".repeat(limit);
    // A hundred times what one event can hold, with characters of several bytes and one that is none.
    let huge = format!("{}{}", "äöü€𝄞 ".repeat(7_500_000), "end");
    room.append("log/a.log", format!("{fits}\r\n{fits}g\n{huge}\n"));
    room.append("log/b.log", b"nul \0 inside\r\ncaf\xe9 \xff\n\xe2\x82\nlast");
    let running = room.start();
    room.until("all is there", || room.messages("b.log").len() == 3);
    room.until("the end is there", || room.messages("a.log").last().is_some_and(|last| last.contains("end [part")));
    assert!(running.peak() < 64 * 1024, "{} KiB", running.peak());
    // Nobody goes on with it any more.
    fs::remove_file(room.path("log/b.log")).unwrap();
    room.until("the last line is there", || room.messages("b.log").len() == 4);
    assert_eq!(running.stop(), 0);
    assert_eq!(room.messages("b.log"), ["nul \0 inside", "caf\u{fffd} \u{fffd}", "\u{fffd}", "last"]);
    let messages = room.messages("a.log");
    assert_eq!(messages[0], fits);
    let text = |message: &String| message.split(" [part ").next().unwrap().to_owned();
    assert_eq!(messages[1..3].iter().map(text).collect::<String>(), format!("{fits}g"));
    assert!(messages[3..].iter().map(text).collect::<String>() == huge);
    let numbers: Vec<String> =
        messages[3..].iter().map(|message| message.rsplit(" [part ").next().unwrap().to_owned()).collect();
    let last = numbers.len();
    let expected = (1..=last).map(|n| if n == last { format!("{n}, the last]") } else { format!("{n}]") });
    assert_eq!(numbers, expected.collect::<Vec<_>>());
    room.assert_sound();
}

#[test]
fn json_passes_through_and_lines_are_chosen_by_patterns() {
    let room = Room::new(
        "keep = 'level'\ndrop = '\"debug\"'\ntimestamp = { format = \"%Y-%m-%dT%H:%M:%SZ\", pattern = '\"at\":\"([^\"]+)\"' }",
    );
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let kept = format!(r#"{{"level":"info","at":"{now}","text":"\u00e9 \"quoted\" \\ \n","n":1.50}}"#);
    room.append("log/a.log", format!("{kept}\n{{\"level\":\"debug\"}}\nno\n{{\"level\":\"warn\"}}\n"));
    let running = room.start();
    room.until("both are there", || room.service.count() == 2);
    assert_eq!(running.stop(), 0);
    assert_eq!(room.messages("a.log"), [kept.as_str(), "{\"level\":\"warn\"}"]);
    let streams = room.service.accepted().streams;
    let time = streams.values().next().unwrap()[0].0;
    assert_eq!(time, now.parse::<jiff::Timestamp>().unwrap().as_millisecond());
    let counts = &room.status()["counts"];
    assert!(counts["filtered"] == 2 && counts["without_time"] == 1, "{counts}");
    room.assert_sound();
}

#[test]
fn metrics_of_the_host_and_of_the_shipper_are_sent_and_wait_out_an_outage() {
    let room = Room::new("");
    room.also(
        "[metrics]\nnamespace = \"Test\"\ninterval = \"1s\"\ndimensions = { host = \"{hostname}\" }\nlag_per_file = true\n\
         host = [\"cpu_usage_idle\", \"mem_used_percent\", \"disk_used_percent\"]\ndisks = [\"/\"]",
    );
    room.service.set(Faults { outage: true, ..Faults::default() });
    room.append("log/a.log", lines(0, 100));
    let running = room.start();
    std::thread::sleep(Duration::from_millis(2_500));
    assert!(room.service.accepted().metrics.is_empty());
    room.service.set(Faults::default());
    let values = |name: &str| -> Vec<(String, String, f64)> {
        let metrics = room.service.accepted().metrics.into_iter();
        let named = metrics.filter(|metric| metric.0 == "Test" && metric.1 == name);
        named.map(|(_, _, dimensions, unit, value)| (dimensions, unit, value)).collect()
    };
    room.until("those of the outage are there, and later ones", || values("mem_used_percent").len() >= 4);
    room.until("the first share of a processor is there", || !values("cpu_usage_idle").is_empty());
    assert_eq!(running.stop(), 0);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();
    assert_eq!(values("cpu_usage_idle")[0].0, format!("host={host},cpu=cpu-total"));
    let (dimensions, unit, value) = values("mem_used_percent")[0].clone();
    assert_eq!((dimensions, unit.as_str()), (format!("host={host}"), "Percent"));
    assert!(value > 0.0 && value < 100.0);
    assert!(values("disk_used_percent")[0].0.starts_with(&format!("host={host},path=/,device=")));
    let lags = values("log_shipper_lag_bytes");
    assert!(lags.iter().any(|lag| lag.2 > 0.0) && lags.last().unwrap().2 == 0.0, "{lags:?}");
    assert!(values("log_shipper_file_lag_seconds").iter().any(|lag| lag.2 > 0.5 && lag.0.ends_with("a.log")));
    assert!(values("log_shipper_retries_unavailable").iter().map(|retries| retries.2).sum::<f64>() >= 1.0);
    assert_eq!(values("log_shipper_events_accepted").iter().map(|accepted| accepted.2).sum::<f64>(), 100.0);
    room.assert_sound();
}

#[test]
fn the_emulator_of_aws_understands_it_as_well() {
    let aws = testkit::Aws::shared();
    let room = Room::new("");
    // It unpacks a compressed request twice, and fails.
    room.configure("retention_days = 7", "gzip = false");
    let group = aws.unique_name("/test/shipper");
    let config = fs::read_to_string(room.path("config.toml")).unwrap();
    fs::write(room.path("config.toml"), config.replace("/test/app", &group)).unwrap();
    room.append("log/a.log", lines(0, 50));
    let running = room.start_with(|command| command.envs(aws.env()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let settings = runtime.block_on(async {
        aws_config::defaults(aws_config::BehaviorVersion::latest())
            .endpoint_url(aws.endpoint())
            .region("us-east-1")
            .test_credentials()
            .load()
            .await
    });
    let logs = aws_sdk_cloudwatchlogs::Client::new(&settings);
    let messages = || -> Vec<String> {
        let events = runtime.block_on(logs.get_log_events().log_group_name(&group).log_stream_name("a.log").send());
        let events = events.map(|events| events.events.unwrap_or_default()).unwrap_or_default();
        events.into_iter().filter_map(|event| event.message).collect()
    };
    room.until("all is there", || messages().len() == 50);
    assert_eq!(running.stop(), 0);
    assert_eq!(assert_all(&numbers(&messages()), 50), 0);
    let groups = runtime.block_on(logs.describe_log_groups().log_group_name_prefix(&group).send()).unwrap();
    assert_eq!(groups.log_groups()[0].retention_in_days, Some(7));
}
