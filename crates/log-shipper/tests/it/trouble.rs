//! The network, the service, the disk, the clock and the metadata service, when they do not do what they should.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use testkit::Random;

use crate::room::{Room, assert_all, lines, numbers};
use crate::service::{Faults, Service};

#[test]
fn a_request_that_hangs_and_one_that_is_read_slowly_cost_time_alone() {
    let room = Room::new("");
    room.append("log/a.log", lines(0, 30_000));
    room.service.set(Faults { hanging: 1, slow_reader: true, ..Faults::default() });
    let running = room.start();
    room.until("all is there", || room.service.count() >= 30_000);
    assert_eq!(running.stop(), 0);
    assert_eq!(assert_all(&numbers(&room.messages("a.log")), 30_000), 0);
    room.assert_sound();
}

#[test]
fn an_endpoint_that_is_not_there_yet_is_waited_for() {
    let mut room = Room::new("");
    room.append("log/a.log", lines(0, 10));
    // Nobody listens there until later.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{address}");
    let running = room.start_with(|command| command.env("AWS_ENDPOINT_URL", &endpoint));
    std::thread::sleep(Duration::from_millis(700));
    room.service = Service::at(address);
    room.until("all is there", || room.service.count() == 10);
    assert_eq!(running.stop(), 0);
    room.assert_sound();
    // A name that nobody knows: it goes on trying, and can be stopped.
    room.append("log/a.log", lines(10, 10));
    let running = room.start_with(|command| command.env("AWS_ENDPOINT_URL", "http://nowhere.invalid:1"));
    room.until("it says so", || room.said().matches("a batch waits for another try").count() >= 2);
    let begun = Instant::now();
    assert_eq!(running.stop(), 0);
    assert!(begun.elapsed() < Duration::from_secs(15));
    let running = room.start_with(|command| command.env("AWS_ENDPOINT_URL", &endpoint));
    room.until("the rest is there", || room.service.count() == 20);
    assert_eq!(running.stop(), 0);
}

#[test]
fn a_quota_of_requests_is_kept_to() {
    let room = Room::new("");
    room.service.set(Faults { per_second: Some(5), ..Faults::default() });
    room.append("log/a.log", lines(0, 100_000));
    let running = room.start();
    room.until("all is there", || room.service.count() >= 100_000);
    assert_eq!(running.stop(), 0);
    assert_eq!(assert_all(&numbers(&room.messages("a.log")), 100_000), 0);
    let accepted = room.service.accepted();
    assert!(accepted.tries <= 2 * accepted.requests + 10, "{} tries for {}", accepted.tries, accepted.requests);
    room.assert_sound();
}

#[test]
fn groups_and_streams_that_cannot_be_made_and_such_as_are_deleted_are_made_in_the_end() {
    let room = Room::new("");
    room.service.set(Faults { makes_nothing: true, ..Faults::default() });
    room.append("log/a.log", lines(0, 100));
    let running = room.start();
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(room.service.count(), 0);
    room.service.set(Faults::default());
    room.until("all is there", || room.service.count() == 100);
    let before = room.service.delete_streams();
    room.append("log/a.log", lines(100, 100));
    room.until("the rest is there", || room.service.count() == 100);
    assert_eq!(running.stop(), 0);
    let mut messages: Vec<String> = before.into_values().flatten().map(|(_, message)| message).collect();
    messages.extend(room.messages("a.log"));
    assert_eq!(assert_all(&numbers(&messages), 200), 0);
    room.assert_sound();
}

#[test]
fn events_the_service_keeps_no_more_or_not_yet_are_set_aside_each_with_its_reason() {
    let room = Room::new("timestamp = { format = \"%s\" }\nretention_days = 3");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let (hour, day) = (3_600, 86_400);
    for (name, ages) in
        [("all", [20 * day, 5 * day, day, -hour, -3 * hour]), ("more", [16 * day, 15 * day, 4 * day, hour, 0])]
    {
        let text: String = ages.iter().map(|age| format!("{} it was {age} s ago\n", now - age)).collect();
        room.append(&format!("log/{name}.log"), text);
    }
    let running = room.start();
    room.until("what is kept is there", || room.service.count() == 4);
    let letters = || fs::read_to_string(room.path("state/dead-letters.jsonl")).unwrap_or_default();
    room.until("the others are set aside", || letters().lines().count() == 6);
    assert_eq!(running.stop(), 0);
    let count = |reason: &str| letters().matches(reason).count();
    assert_eq!(count("\"older than 14 days\""), 3, "{}", letters());
    assert_eq!(count("\"older than the group keeps events\""), 2, "{}", letters());
    assert_eq!(count("\"more than two hours ahead\""), 1, "{}", letters());
    assert_eq!(room.messages("all.log").len() + room.messages("more.log").len(), 4);
    room.assert_sound();
}

#[test]
fn a_clock_that_steps_by_hours_loses_and_doubles_nothing() {
    let room = Room::new("");
    room.append("log/a.log", lines(0, 1_000));
    for (round, step) in ["+0", "-3h", "+90m", "-1y"].iter().enumerate() {
        let round = round as u64;
        let running = room.start_with(|command| {
            // Each program of the library has its own way to be told; this one reads the environment.
            command.env("LD_PRELOAD", faketime()).env("FAKETIME", step).env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        });
        room.append("log/a.log", lines(1_000 + round * 100, 100));
        let settled = || {
            let letters = fs::read_to_string(room.path("state/dead-letters.jsonl")).unwrap_or_default();
            room.service.count() + letters.lines().count() == 1_100 + round as usize * 100
        };
        room.until("all is there", settled);
        assert_eq!(running.stop(), 0);
    }
    // Of a year ago nothing is taken, and it says so.
    let letters = fs::read_to_string(room.path("state/dead-letters.jsonl")).unwrap();
    assert_eq!(letters.matches("older than 14 days").count(), 100);
    assert_eq!(assert_all(&numbers(&room.messages("a.log")), 1_300), 0);
    room.assert_sound();
}

fn faketime() -> String {
    let found = glob::glob("/usr/lib/*/faketime/libfaketime.so.1").unwrap().flatten().next();
    found.expect("faketime is missing: scripts/install-test-tools.sh").display().to_string()
}

#[test]
fn a_clock_that_steps_while_it_ships_loses_and_doubles_nothing() {
    let room = Room::new("");
    let clock = room.path("clock");
    let set = |offset: &str| {
        let new = room.path("clock.new");
        fs::write(&new, offset).unwrap();
        fs::rename(&new, &clock).unwrap();
    };
    set("+0");
    let running = room.start_with(|command| {
        command.env("LD_PRELOAD", faketime()).env("FAKETIME_TIMESTAMP_FILE", &clock);
        // A step is of the time of day. What waits and times out by another clock does not see it.
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    });
    // Into summer time and back, over the end of a year, and both ways.
    let mut written = 0;
    for offset in ["+0", "+1h", "-1h", "-3h", "+100m", "-35d", "+0", "-3h", "+0"] {
        set(offset);
        room.append("log/a.log", lines(written, 2_000));
        written += 2_000;
        let settled = || {
            let letters = fs::read_to_string(room.path("state/dead-letters.jsonl")).unwrap_or_default();
            room.service.count() + letters.lines().count() == written as usize
        };
        room.until("all is there or set aside", settled);
    }
    assert_eq!(running.stop(), 0);
    let letters = fs::read_to_string(room.path("state/dead-letters.jsonl")).unwrap();
    assert_eq!(letters.matches("older than 14 days").count(), 2_000, "those of 35 days ago, and no others");
    assert_eq!(room.status()["counts"]["dead_letters_too_old"], 2_000);
    assert_eq!(numbers(&room.messages("a.log")).len() as u64, written - 2_000);
    room.assert_sound();
}

#[test]
fn a_service_whose_clock_is_hours_away_gets_everything() {
    for hours in [3, -1] {
        let room = Room::new("");
        room.service.set(Faults { clock_ahead: hours * 3_600, ..Faults::default() });
        room.append("log/a.log", lines(0, 1_000));
        let running = room.start();
        room.until("all is there", || room.service.count() == 1_000);
        assert_eq!(running.stop(), 0);
        assert!(room.said().contains("this host's clock is not the service's"), "{}", room.said());
        // Whoever mends the clock changes nothing.
        room.service.set(Faults::default());
        room.append("log/a.log", lines(1_000, 10));
        let running = room.start();
        room.until("the rest is there", || room.service.count() == 1_010);
        assert_eq!(running.stop(), 0);
        assert_eq!(assert_all(&numbers(&room.messages("a.log")), 1_010), 0);
        room.assert_sound();
    }
}

#[test]
fn credentials_that_are_replaced_while_it_runs_are_taken_up() {
    for kind in ["file", "role", "file that comes later"] {
        let room = Room::new("");
        let give = |key: &str| match kind {
            "file" | "file that comes later" => {
                let text = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = testing\n");
                fs::write(room.path("credentials"), text).unwrap();
            }
            _ => room.service.set_role(key),
        };
        let is_late = kind == "file that comes later";
        if !is_late {
            give("FIRST");
        }
        room.append("log/a.log", lines(0, 100));
        let running = room.start_with(|command| {
            command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
            match kind {
                "role" => command,
                "file" => command.env("AWS_SHARED_CREDENTIALS_FILE", room.path("credentials")),
                _ => command
                    .env("AWS_SHARED_CREDENTIALS_FILE", room.path("credentials"))
                    .env("AWS_EC2_METADATA_DISABLED", "true"),
            }
        });
        if is_late {
            room.until("it says so", || room.said().contains("(no credentials: "));
            give("FIRST");
        }
        room.until("it is there", || room.service.count() == 100);
        // Nothing says that they have an end before they have come to it.
        room.service.set(Faults { refused_key: Some("FIRST".into()), ..Faults::default() });
        room.append("log/a.log", lines(100, 100));
        room.until("it says so", || room.said().contains("refused for want of rights (ExpiredTokenException)"));
        give("SECOND");
        room.until("the rest is there", || room.service.count() == 200);
        assert_eq!(running.stop(), 0);
        assert_eq!(assert_all(&numbers(&room.messages("a.log")), 200), 0, "{kind}");
        room.assert_sound();
    }
}

#[test]
fn a_full_disk_stops_nothing_that_can_be_sent() {
    let room = Room::new("");
    room.append("log/a.log", lines(0, 1));
    let running = room.start();
    room.until("it looks", || room.service.count() == 1);
    // What is written there ends as on a file system that is full.
    for name in ["positions.a", "positions.b", "dead-letters.jsonl"] {
        let _ = fs::remove_file(room.path(&format!("state/{name}")));
        symlink("/dev/full", room.path(&format!("state/{name}"))).unwrap();
    }
    room.service.set(Faults { poison: Some("poison".into()), ..Faults::default() });
    room.append("log/a.log", lines(1, 29_999));
    room.append("log/b.log", "a poison it is\n");
    room.until("the healthy one is there", || room.service.count() == 30_000);
    room.until("both are told", || {
        room.said().contains("positions cannot be saved") && room.said().contains("the file of dead letters: No space")
    });
    // There is room again.
    for name in ["positions.a", "positions.b", "dead-letters.jsonl"] {
        fs::remove_file(room.path(&format!("state/{name}"))).unwrap();
    }
    let letters = || fs::read_to_string(room.path("state/dead-letters.jsonl")).unwrap_or_default();
    room.until("the other is set aside", || letters().lines().count() == 1);
    room.until("positions are saved", || room.said().contains("positions are saved again"));
    assert_eq!(running.stop(), 0);
    assert_eq!(assert_all(&numbers(&room.messages("a.log")), 30_000), 0);
    let running = room.start();
    room.append("log/a.log", lines(30_000, 1));
    room.until("it goes on where it was", || room.service.count() == 30_001);
    assert_eq!(running.stop(), 0);
    room.assert_sound();
}

#[test]
fn events_that_can_neither_be_sent_nor_set_aside_at_the_end_are_a_failure() {
    let room = Room::new("");
    room.configure("", "stop = \"300ms\"");
    fs::create_dir(room.path("state")).unwrap();
    symlink("/dev/full", room.path("state/dead-letters.jsonl")).unwrap();
    room.append("log/a.log", lines(0, 1));
    let running = room.start();
    room.until("it looks", || room.service.count() == 1);
    room.service.set(Faults { outage: true, ..Faults::default() });
    room.append("log/a.log", lines(1, 10));
    room.until("it was read", || room.said().contains("a batch waits for another try"));
    fs::remove_file(room.path("log/a.log")).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(running.stop(), 1);
    assert!(room.said().contains("10 events could be neither sent nor set aside"), "{}", room.said());
    assert_eq!(room.status()["counts"]["lost"], 10);
}

#[test]
fn memory_does_not_grow_with_time() {
    // `make chaos` takes half an hour.
    let seconds: u64 = std::env::var("SOAK_SECONDS").map_or(8, |seconds| seconds.parse().unwrap());
    let room = Room::new("");
    let running = room.start();
    let (begun, mut written, mut rounds, mut early) = (Instant::now(), 0, 0, 0);
    while begun.elapsed() < Duration::from_secs(seconds) {
        room.append("log/a.log", lines(written, 1_000));
        written += 1_000;
        if rounds % 20 == 19 {
            let _ = fs::rename(room.path("log/a.log"), room.path("log/a.log.1"));
        }
        rounds += 1;
        std::thread::sleep(Duration::from_millis(100));
        let outage = rounds % 100 > 90;
        room.service.set(Faults { outage, throttled: 10, answer_lost: 1, ..Faults::default() });
        if begun.elapsed() < Duration::from_secs(seconds) / 4 {
            early = running.peak();
        }
    }
    room.service.set(Faults::default());
    room.until("all is there", || numbers(&room.messages("a.log")).len() as u64 == written);
    let late = running.peak();
    assert_eq!(running.stop(), 0);
    println!("{written} events in {seconds} s: a peak of {early} KiB in the first quarter, of {late} KiB in all");
    assert!(late < early + 4 * 1024, "{early} KiB in the first quarter, {late} KiB in the end");
    room.assert_sound();
}

#[test]
fn positions_that_cannot_be_saved_stop_nothing() {
    let room = Room::new("");
    room.append("log/a.log", lines(0, 100));
    let running = room.start();
    room.until("it is there", || room.service.count() == 100);
    // Something that nobody can write to, not even root.
    for name in ["positions.a", "positions.b"] {
        let _ = fs::remove_file(room.path(&format!("state/{name}")));
        fs::create_dir(room.path(&format!("state/{name}"))).unwrap();
    }
    room.append("log/a.log", lines(100, 50_000));
    room.until("it goes on", || room.service.count() == 50_100);
    room.until("it says so", || room.said().contains("positions cannot be saved"));
    for name in ["positions.a", "positions.b"] {
        fs::remove_dir(room.path(&format!("state/{name}"))).unwrap();
    }
    room.append("log/a.log", lines(50_100, 1));
    room.until("it says so", || room.said().contains("positions are saved again"));
    assert_eq!(running.stop(), 0);
    let running = room.start();
    room.append("log/a.log", lines(50_101, 1));
    room.until("the last is there", || room.service.count() == 50_102);
    assert_eq!(running.stop(), 0);
    assert_eq!(assert_all(&numbers(&room.messages("a.log")), 50_102), 0);
    room.assert_sound();
}

#[test]
fn positions_of_before_gone_or_damaged_double_what_came_since_and_lose_nothing() {
    let room = Room::new("");
    room.append("log/a.log", lines(0, 1_000));
    for damage in ["older", "cut", "gone"] {
        let running = room.start();
        let runs = || room.run(&["status"]).1.contains(&format!("running, pid {}", running.0.id()));
        room.until("it is there", || runs() && numbers(&room.messages("a.log")).len() == 1_000);
        assert_eq!(running.stop(), 0);
        let path = |name: &str| room.path(&format!("state/positions.{name}"));
        let newest = if fs::metadata(path("a")).unwrap().modified().unwrap()
            > fs::metadata(path("b")).unwrap().modified().unwrap()
        {
            "a"
        } else {
            "b"
        };
        match damage {
            // Power failed before the last write was on the disk.
            "older" => fs::remove_file(path(newest)).unwrap(),
            "cut" => {
                let bytes = fs::read(path(newest)).unwrap();
                fs::write(path(newest), &bytes[..bytes.len() / 2]).unwrap();
            }
            _ => ["a", "b"].iter().for_each(|name| fs::remove_file(path(name)).unwrap()),
        }
    }
    room.append("log/a.log", lines(1_000, 10));
    let running = room.start();
    room.until("all is there", || numbers(&room.messages("a.log")).len() == 1_010);
    assert_eq!(running.stop(), 0);
    let twice = assert_all(&numbers(&room.messages("a.log")), 1_010);
    assert!(twice <= 3_000, "{twice}");
    assert!(room.said().contains("a file of positions is damaged"), "{}", room.said());
    room.assert_sound();
}

#[test]
fn two_shippers_cannot_send_the_same_files() {
    let room = Room::new("");
    let running = room.start();
    room.until("it runs", || room.path("state/status.json").exists());
    let (exit, _, said) = room.run(&["run"]);
    assert_eq!(exit, 75, "{said}");
    assert!(said.contains(&format!("pid {}", running.0.id())), "{said}");
    assert_eq!(running.stop(), 0);
}

#[test]
fn without_its_id_a_host_ships_nothing_and_with_one_it_keeps_it() {
    let room = Room::new("");
    let config = fs::read_to_string(room.path("config.toml")).unwrap();
    fs::write(room.path("config.toml"), config.replace("{file}", "{instance_id}/{file}")).unwrap();
    room.append("log/a.log", lines(0, 10));
    // A page of something that answers in its place is no id.
    room.service.set_instance_id(Some("<html>log in here</html>"));
    let running = room.start();
    room.until("it says so", || room.said().contains("who this host is cannot be found out"));
    room.service.set_instance_id(None);
    assert_eq!(room.service.accepted().tries, 0);
    room.service.set_instance_id(Some("i-0123456789abcdef0"));
    room.until("all is there", || room.messages("i-0123456789abcdef0/a.log").len() == 10);
    assert_eq!(running.stop(), 0);
    // The metadata service is down when it starts again, and then something else answers.
    room.service.set_instance_id(None);
    room.append("log/a.log", lines(10, 10));
    let running = room.start();
    room.until("the rest is there", || room.messages("i-0123456789abcdef0/a.log").len() == 20);
    assert_eq!(running.stop(), 0);
    room.service.set_instance_id(Some("<html>log in here</html>"));
    room.append("log/a.log", lines(20, 10));
    let running = room.start();
    room.until("all is there", || room.messages("i-0123456789abcdef0/a.log").len() == 30);
    assert_eq!(running.stop(), 0);
    assert_eq!(room.service.accepted().streams.len(), 1, "no stream of another name");
    room.assert_sound();
}

#[test]
fn two_hundred_streams_that_all_fail_take_no_more_memory_than_a_few() {
    let room = Room::new("");
    for n in 0..200 {
        room.append(&format!("log/{n}.log"), lines(0, 4_000));
    }
    room.service.set(Faults { outage: true, ..Faults::default() });
    let running = room.start();
    std::thread::sleep(Duration::from_secs(5));
    let peak = running.peak();
    assert!(peak < 48 * 1024, "{peak} KiB");
    room.service.set(Faults::default());
    room.until("all is there", || room.service.count() == 800_000);
    assert_eq!(running.stop(), 0);
    for n in 0..200 {
        assert_eq!(assert_all(&numbers(&room.messages(&format!("{n}.log"))), 4_000), 0);
    }
    room.assert_sound();
}

#[test]
fn a_stop_in_the_middle_of_trouble_is_quick_and_forgets_nothing() {
    let room = Room::new("");
    room.configure("", "stop = \"500ms\"");
    let (mut random, mut written) = (Random::new(3), 0);
    for round in 0..6 {
        let outage = round % 2 == 0;
        room.service.set(Faults { outage, throttled: 50, answer_lost: 0, ..Faults::default() });
        let running = room.start();
        room.append("log/a.log", lines(written, 20_000));
        written += 20_000;
        std::thread::sleep(Duration::from_millis(random.below(500)));
        let begun = Instant::now();
        assert_eq!(running.stop(), 0);
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    room.service.set(Faults::default());
    let running = room.start();
    room.until("all is there", || numbers(&room.messages("a.log")).len() as u64 == written);
    assert_eq!(running.stop(), 0);
    let twice = assert_all(&numbers(&room.messages("a.log")), written);
    // A request under way when time is up may have arrived: one batch a stop at most.
    assert!(twice <= 6 * 10_000, "{twice}");
    assert!(!room.path("state/dead-letters.jsonl").exists());
    room.assert_sound();
}

#[test]
fn names_that_are_not_utf8_stop_nothing() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let room = Room::new("");
    let odd = |name: &[u8]| room.path("log").join(OsStr::from_bytes(name));
    fs::write(odd(b"caf\xe9.txt"), "not asked for\n").unwrap();
    room.append("log/a.log", lines(0, 100));
    let running = room.start();
    room.until("it is there", || room.service.count() == 100);
    // A name that cannot be written down: its position can.
    fs::rename(room.path("log/a.log"), odd(b"a.log-\xe9")).unwrap();
    room.append("log/a.log", lines(100, 100));
    room.until("the next is there", || room.service.count() == 200);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(running.stop(), 0);
    let (exit, _, said) = room.run(&["check", "--offline"]);
    assert_eq!(exit, 0, "{said}");
    let running = room.start();
    room.append("log/a.log", lines(200, 100));
    room.until("all is there", || room.service.count() == 300);
    assert_eq!(running.stop(), 0);
    assert_eq!(assert_all(&numbers(&room.messages("a.log")), 300), 0);
    room.assert_sound();
}

#[test]
fn a_stop_does_not_wait_for_a_stream_that_is_being_made() {
    let room = Room::new("");
    room.configure("", "stop = \"500ms\"");
    room.service.set(Faults { hanging: 100, hangs_when_making: true, ..Faults::default() });
    room.append("log/a.log", lines(0, 100));
    let running = room.start();
    std::thread::sleep(Duration::from_millis(700));
    let begun = Instant::now();
    assert_eq!(running.stop(), 0);
    assert!(begun.elapsed() < Duration::from_secs(10));
    room.service.set(Faults::default());
    let running = room.start();
    room.until("all is there", || room.service.count() == 100);
    assert_eq!(running.stop(), 0);
    assert_eq!(assert_all(&numbers(&room.messages("a.log")), 100), 0);
}

#[test]
fn streams_that_are_refused_leave_room_for_others_on_a_throttled_account() {
    let room = Room::new("");
    let config = fs::read_to_string(room.path("config.toml")).unwrap();
    fs::create_dir(room.path("refused")).unwrap();
    let more = format!(
        "[[files]]\npath = \"{}\"\ngroup = \"/refused\"\nstream = \"{{file}}\"\n",
        room.path("refused/*.log").display()
    );
    fs::write(room.path("config.toml"), config.replace("[delivery]", &format!("{more}[delivery]"))).unwrap();
    for n in 0..100 {
        room.append(&format!("refused/{n}.log"), lines(0, 10));
    }
    room.service.set(Faults { denied_group: Some("/refused".into()), throttled: 100, ..Faults::default() });
    let running = room.start();
    room.append("log/a.log", lines(0, 10));
    // Until the pace is as slow as it gets.
    std::thread::sleep(Duration::from_secs(6));
    room.service.set(Faults { denied_group: Some("/refused".into()), ..Faults::default() });
    for round in 0..5 {
        room.append("log/a.log", lines(10 + round * 10, 10));
        room.until("the healthy one goes on", || room.messages("a.log").len() as u64 >= 20 + round * 10);
    }
    room.service.set(Faults::default());
    room.until("the others come, too", || room.service.count() == 60 + 1_000);
    assert_eq!(running.stop(), 0);
    room.assert_sound();
}

#[test]
fn a_group_for_which_every_request_is_wrong_costs_no_event() {
    let room = Room::new("");
    room.append("log/a.log", lines(0, 5_000));
    room.service.set(Faults { wrong_group: Some("/test/app".into()), ..Faults::default() });
    let running = room.start();
    room.until("it is told", || room.run(&["status"]).1.contains("the service refuses it (InvalidParameterException)"));
    room.service.set(Faults::default());
    room.until("all is there", || room.service.count() == 5_000);
    assert_eq!(running.stop(), 0);
    assert!(!room.path("state/dead-letters.jsonl").exists());
    room.assert_sound();
}

#[test]
fn a_service_whose_certificate_nobody_vouches_for_gets_nothing() {
    let mut room = Room::new("");
    room.append("log/a.log", lines(0, 10));
    room.service = Service::secure(&room.path("."));
    let running = room.start();
    room.until("it says so", || room.said().contains("a batch waits for another try"));
    assert_eq!(room.service.accepted().tries, 0);
    drop(running);
    let trusted = room.path("cert.pem");
    let running = room.start_with(|command| command.env("SSL_CERT_FILE", &trusted));
    room.until("all is there", || room.service.count() == 10);
    assert_eq!(running.stop(), 0);
    room.assert_sound();
}
