//! Whatever happens, each event arrives, and hardly any twice.

use std::fs::{self, OpenOptions};
use std::time::Duration;

use testkit::Random;

use crate::room::{Room, assert_all, lines, numbers};
use crate::service::Faults;

#[test]
fn what_is_there_and_what_comes_arrives_once_and_in_order() {
    let room = Room::new("retention_days = 14");
    room.append("log/a.log", lines(0, 20_000));
    room.append("log/b.log", "only one\nand one without an end");
    let running = room.start();
    room.until("all is there", || room.service.count() == 20_001);
    room.append("log/a.log", lines(20_000, 10));
    room.append("log/b.log", " that comes\n");
    room.append("log/c.log", "a file that is new\n\n  \n");
    room.until("the rest is there", || room.service.count() == 20_013);
    assert_eq!(running.stop(), 0);
    let messages = room.messages("a.log");
    assert_eq!(assert_all(&numbers(&messages), 20_010), 0);
    assert_eq!(room.messages("b.log"), ["only one", "and one without an end that comes"]);
    assert_eq!(room.messages("c.log"), ["a file that is new"]);
    let accepted = room.service.accepted();
    assert_eq!(accepted.retention["/test/app"], 14);
    assert!(accepted.gzipped == accepted.requests && accepted.gzipped > 0);
    // A stop forgets nothing.
    let running = room.start();
    room.append("log/a.log", lines(20_010, 1));
    room.until("the last is there", || room.service.count() == 20_014);
    assert_eq!(running.stop(), 0);
    assert_eq!(assert_all(&numbers(&room.messages("a.log")), 20_011), 0);
    room.assert_sound();
}

#[test]
fn requests_are_filled_to_the_services_limit() {
    let room = Room::new("");
    let text = lines(0, 100_000);
    let bytes = text.len() + 100_000 * 25;
    room.append("log/a.log", text);
    let running = room.start();
    room.until("all is there", || room.service.count() == 100_000);
    assert_eq!(running.stop(), 0);
    let least = bytes.div_ceil(1_048_576) as u64;
    let requests = room.service.accepted().requests;
    assert!(requests <= least + 1, "{requests} requests where {least} would do");
    room.assert_sound();
}

#[test]
fn a_shipper_that_is_killed_loses_nothing_and_doubles_what_was_under_way() {
    println!("{}", kill_again_and_again(1, 7));
}

#[test]
fn one_that_sends_four_batches_at_a_time_doubles_four_at_most() {
    println!("{}", kill_again_and_again(4, 8));
}

/// Gives the counts.
fn kill_again_and_again(parallel: u64, seed: u64) -> String {
    let rounds: u64 = std::env::var("SHIPPER_ROUNDS").map_or(20, |rounds| rounds.parse().unwrap());
    let room = Room::new("");
    room.configure("", &format!("parallel = {parallel}"));
    // Whatever a file is called, it is one of these, and has a stream in common with the others.
    let config = fs::read_to_string(room.path("config.toml")).unwrap();
    fs::write(room.path("config.toml"), config.replace("*.log", "a*").replace("{file}", "a.log")).unwrap();
    let (mut random, mut written) = (Random::new(seed), 0);
    for round in 0..rounds {
        let share = |random: &mut Random| if random.below(3) == 0 { random.below(30) } else { 0 };
        room.service.set(Faults {
            throttled: share(&mut random),
            unavailable: share(&mut random),
            reset: share(&mut random),
            answer_lost: share(&mut random),
            answer_cut: share(&mut random),
            garbage: share(&mut random),
            ..Faults::default()
        });
        let mut running = room.start();
        let count = random.below(60_000);
        room.append("log/a.log", lines(written, count));
        written += count;
        // Renamed while it is shipped, and while nobody ships it.
        if round % 3 == 0 {
            std::thread::sleep(Duration::from_millis(random.below(100)));
            fs::rename(room.path("log/a.log"), room.path(&format!("log/a.{round}"))).unwrap();
        }
        std::thread::sleep(Duration::from_millis(random.below(400)));
        running.kill();
        if round % 5 == 4 && room.path("log/a.log").exists() {
            fs::rename(room.path("log/a.log"), room.path(&format!("log/a.{round}x"))).unwrap();
        }
    }
    room.service.set(Faults::default());
    let running = room.start();
    room.until("all is there", || numbers(&room.messages("a.log")).len() as u64 == written);
    assert_eq!(running.stop(), 0);
    let twice = assert_all(&numbers(&room.messages("a.log")), written);
    // A kill doubles at most what was under way, and each answer that is lost one batch.
    let accepted = room.service.accepted();
    assert!(twice <= (rounds * parallel + accepted.unanswered) * events_of_a_batch());
    room.assert_sound();
    format!("{rounds} kills, {} answers lost, {written} events, {twice} of them more than once", accepted.unanswered)
}

/// As many of these lines as fit into a request.
fn events_of_a_batch() -> u64 {
    let bytes = lines(0, 20).len() as u64 - 20;
    1_048_576 / (bytes / 20 + 26) + 1
}

#[test]
fn trouble_of_the_service_costs_time_and_nothing_else() {
    let kinds: [(&str, Faults); 8] = [
        ("10 of 100 throttled", Faults { throttled: 10, ..Faults::default() }),
        ("30 of 100 throttled", Faults { throttled: 30, ..Faults::default() }),
        ("90 of 100 throttled", Faults { throttled: 90, ..Faults::default() }),
        ("pages instead of answers", Faults { garbage: 40, unavailable: 20, ..Faults::default() }),
        ("resets", Faults { reset: 40, ..Faults::default() }),
        ("an outage", Faults { outage: true, ..Faults::default() }),
        ("no rights", Faults { denied: true, ..Faults::default() }),
        ("no gzip", Faults { refuses_gzip: true, ..Faults::default() }),
    ];
    for (what, faults) in kinds {
        let room = Room::new("");
        let ends = faults.outage || faults.denied;
        room.service.set(faults);
        room.append("log/a.log", lines(0, 30_000));
        let running = room.start();
        if ends {
            std::thread::sleep(Duration::from_millis(1_500));
            assert_eq!(room.service.count(), 0);
            room.service.set(Faults::default());
        }
        room.until(what, || room.service.count() >= 30_000);
        assert_eq!(running.stop(), 0, "{what}");
        assert_eq!(assert_all(&numbers(&room.messages("a.log")), 30_000), 0, "{what}");
        room.assert_sound();
    }
}

#[test]
fn a_stream_that_is_refused_holds_up_no_other() {
    let room = Room::new("");
    let config = fs::read_to_string(room.path("config.toml")).unwrap();
    let mut more = String::new();
    for n in 0..30 {
        fs::create_dir(room.path(&format!("log{n}"))).unwrap();
        more.push_str(&format!(
            "[[files]]\npath = \"{}\"\ngroup = \"/refused\"\nstream = \"s{n}\"\n",
            room.path(&format!("log{n}/*.log")).display()
        ));
        room.append(&format!("log{n}/x.log"), lines(0, 20_000));
    }
    fs::write(room.path("config.toml"), config.replace("[delivery]", &format!("{more}[delivery]"))).unwrap();
    room.service.set(Faults { denied_group: Some("/refused".into()), ..Faults::default() });
    let running = room.start();
    for round in 0..5 {
        room.append("log/a.log", lines(round * 20_000, 20_000));
        room.until("the healthy one goes on", || room.messages("a.log").len() as u64 == (round + 1) * 20_000);
    }
    let peak = running.peak();
    assert!(peak < 64 * 1024, "{peak} KiB");
    room.service.set(Faults::default());
    room.until("the others come, too", || room.service.count() == 100_000 + 30 * 20_000);
    assert_eq!(running.stop(), 0);
    for n in 0..30 {
        assert_eq!(assert_all(&numbers(&room.service.messages("/refused", &format!("s{n}"))), 20_000), 0);
    }
    room.assert_sound();
}

#[test]
fn one_event_that_is_refused_costs_itself_alone_and_stands_in_a_file() {
    let room = Room::new("timestamp = { format = \"%s\", pattern = 't=(\\d+)' }");
    room.service.set(Faults { poison: Some("poison".into()), ..Faults::default() });
    let text = lines(0, 9_000);
    let (before, behind) = text.split_at(text.len() / 2 + text[text.len() / 2..].find('\n').unwrap() + 1);
    room.append("log/a.log", format!("{before}a poison it is\n{behind}"));
    room.append("log/b.log", "t=1000000000 from 2001\n");
    let running = room.start();
    room.until("all others are there", || room.service.count() == 9_000);
    let letters = || fs::read_to_string(room.path("state/dead-letters.jsonl")).unwrap_or_default();
    room.until("both are set aside", || letters().lines().count() == 2);
    assert_eq!(running.stop(), 0);
    let letters = letters();
    assert!(
        letters.contains("\"message\":\"a poison it is\"") && letters.contains("refused by the service"),
        "{letters}"
    );
    assert!(letters.contains("from 2001") && letters.contains("older than 14 days"), "{letters}");
    assert_eq!(assert_all(&numbers(&room.messages("a.log")), 9_000), 0);
    room.assert_sound();
}

#[test]
fn files_that_are_renamed_fifty_times_a_second_lose_nothing() {
    rename_again_and_again(50);
}

#[test]
fn files_that_are_renamed_five_times_a_second_lose_nothing() {
    rename_again_and_again(5);
}

#[test]
fn a_file_that_is_renamed_each_second_loses_nothing() {
    rename_again_and_again(1);
}

/// Three seconds of 50,000 lines each, written a thousand at a time.
fn rename_again_and_again(per_second: u64) {
    let room = Room::new("");
    room.append("log/a.log", lines(0, 1));
    let running = room.start();
    room.until("it looks", || room.service.count() == 1);
    let mut written = 1;
    for round in 0..150 {
        room.append("log/a.log", lines(written, 1_000));
        written += 1_000;
        if round % (50 / per_second) == 0 {
            fs::rename(room.path("log/a.log"), room.path(&format!("log/a.log.{round}"))).unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    room.until("all is there", || room.messages("a.log").len() as u64 >= written);
    assert_eq!(running.stop(), 0);
    assert_eq!(assert_all(&numbers(&room.messages("a.log")), written), 0);
    room.assert_sound();
}

#[test]
fn a_file_that_is_copied_and_emptied_is_read_anew() {
    let room = Room::new("");
    let running = room.start();
    let mut written = 0;
    for _ in 0..5 {
        room.append("log/a.log", lines(written, 1_000));
        written += 1_000;
        room.until("what was written is there", || room.messages("a.log").len() as u64 == written);
        fs::copy(room.path("log/a.log"), room.path("log/a.log.1")).unwrap();
        OpenOptions::new().write(true).open(room.path("log/a.log")).unwrap().set_len(0).unwrap();
    }
    assert_eq!(running.stop(), 0);
    assert_eq!(assert_all(&numbers(&room.messages("a.log")), written), 0);
    room.assert_sound();
}

#[test]
fn an_event_of_many_lines_is_joined_however_long_it_is() {
    let room = Room::new("join = { start = '^START', timeout = \"300ms\" }");
    let long: String = std::iter::once("START of a long one\n".to_owned())
        .chain((0..9_000).map(|n| format!("  at frame {n} of a very deep stack, {}\n", "x".repeat(40))))
        .collect();
    assert!(long.len() > 600_000 && long.len() < 1_000_000);
    room.append("log/a.log", format!("{long}START and another\n"));
    // Nothing ever begins one here.
    room.append("log/b.log", "no line of these begins an event\n".repeat(100_000));
    let running = room.start();
    room.until("both are there", || room.messages("a.log").len() == 2);
    room.until("the other is there", || {
        room.messages("b.log").iter().map(|message| message.matches("no line").count()).sum::<usize>() >= 99_990
    });
    assert_eq!(running.stop(), 0);
    assert_eq!(room.messages("a.log")[0], long.trim_end());
    room.assert_sound();
}

#[test]
fn a_date_in_a_streams_name_is_that_of_the_event() {
    let room = Room::new("timestamp = { format = \"%s\" }");
    let config = fs::read_to_string(room.path("config.toml")).unwrap();
    fs::write(room.path("config.toml"), config.replace("{file}", "{file}/{date}")).unwrap();
    let now = jiff::Timestamp::now();
    let days: Vec<jiff::Timestamp> = (0..3).map(|day| now - jiff::SignedDuration::from_hours(24 * day)).collect();
    // Of each day there are some between those of the others.
    room.append(
        "log/a.log",
        days.iter().cycle().take(30).map(|day| format!("{} x\n", day.as_second())).collect::<String>(),
    );
    let running = room.start();
    room.until("all is there", || room.service.count() == 30);
    assert_eq!(running.stop(), 0);
    for day in days {
        assert_eq!(room.messages(&format!("a.log/{}", day.strftime("%Y-%m-%d"))).len(), 10);
    }
    room.assert_sound();
}

#[test]
fn lines_are_kept_whole_joined_and_readable() {
    let room = Room::new("join = { start = '^[0-9]', timeout = \"300ms\" }\ndrop = \"noise\"");
    room.append("log/a.log", "1 first\n  at x\n  at y\n2 second\n3 noise\n4 last\n  of all\n");
    room.append("log/b.log", b"1 caf\xe9\n");
    let long = format!("1 {}", "é".repeat(700_000));
    room.append("log/c.log", format!("{long}\n"));
    let running = room.start();
    room.until("all is there", || room.service.count() == 6);
    assert_eq!(running.stop(), 0);
    assert_eq!(room.messages("a.log"), ["1 first\n  at x\n  at y", "2 second", "4 last\n  of all"]);
    assert_eq!(room.messages("b.log"), ["1 caf\u{fffd}"]);
    let parts = room.messages("c.log");
    let whole: String = parts.iter().map(|part| part.split(" [part ").next().unwrap()).collect();
    assert_eq!(whole, long);
    assert!(parts[0].ends_with(" [part 1]") && parts[1].ends_with(" [part 2, the last]"));
    room.assert_sound();
}
