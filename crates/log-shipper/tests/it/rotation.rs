//! Files that are renamed, copied, emptied, deleted, linked: what is in them arrives once.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::process::Command;
use std::time::Duration;

use crate::room::{Room, assert_all, lines, numbers};
use crate::service::Faults;

fn empty(room: &Room, name: &str) {
    OpenOptions::new().write(true).open(room.path(name)).unwrap().set_len(0).unwrap();
}

#[test]
fn a_chain_of_renames_as_logrotate_does_it_loses_nothing() {
    let room = Room::new("");
    room.append("log/a.log", lines(0, 1));
    let running = room.start();
    room.until("it looks", || room.service.count() == 1);
    let mut written = 1;
    for _ in 0..60 {
        for n in (0..5).rev() {
            let from = if n == 0 { "log/a.log".to_owned() } else { format!("log/a.log.{n}") };
            let _ = fs::rename(room.path(&from), room.path(&format!("log/a.log.{}", n + 1)));
        }
        room.append("log/a.log", lines(written, 500));
        written += 500;
        std::thread::sleep(Duration::from_millis(15));
    }
    room.until("all is there", || room.messages("a.log").len() as u64 >= written);
    assert_eq!(running.stop(), 0);
    assert_eq!(assert_all(&numbers(&room.messages("a.log")), written), 0);
    room.assert_sound();
}

#[test]
fn files_renamed_and_written_to_while_nobody_ships_are_shipped_to_their_end() {
    let room = Room::new("");
    room.append("log/a.log", lines(0, 100));
    let running = room.start();
    room.until("it is there", || room.service.count() == 100);
    assert_eq!(running.stop(), 0);
    room.append("log/a.log", lines(100, 100));
    fs::rename(room.path("log/a.log"), room.path("log/a-20261127.log.1")).unwrap();
    room.append("log/a.log", lines(200, 100));
    let running = room.start();
    room.until("all is there", || room.service.count() == 300);
    assert_eq!(running.stop(), 0);
    assert_eq!(assert_all(&numbers(&room.messages("a.log")), 300), 0);
    room.assert_sound();
}

#[test]
fn a_file_that_was_given_the_number_of_another_is_none_of_its_lines() {
    let room = Room::new("");
    let config = fs::read_to_string(room.path("config.toml")).unwrap();
    let exclude = format!("exclude = \"{}\"\ngroup", room.path("log/a-secret.log").display());
    fs::write(room.path("config.toml"), config.replacen("group", &exclude, 1)).unwrap();
    for other in ["log/a-secret.log", "log/a.key"] {
        room.append("log/a.log", lines(0, 10));
        let before = room.service.count();
        let running = room.start();
        room.until("it is there", || room.service.count() == before + 10);
        assert_eq!(running.stop(), 0);
        // File systems such as ext4 give the number to the next file at once.
        fs::remove_file(room.path("log/a.log")).unwrap();
        room.append(other, "a secret it is\n");
        let running = room.start();
        room.append("log/b.log", "another\n");
        room.until("the other is there", || room.service.count() == before + 11);
        assert_eq!(running.stop(), 0);
    }
    assert!(!room.messages("a.log").iter().any(|message| message.contains("secret")));
    room.assert_sound();
}

#[test]
fn a_file_that_is_rotated_again_and_again_in_an_outage_is_shipped_whole() {
    rotate_in(Faults { outage: true, ..Faults::default() });
}

#[test]
fn a_file_that_is_rotated_again_and_again_while_most_requests_are_throttled_is_shipped_whole() {
    rotate_in(Faults { throttled: 90, ..Faults::default() });
}

fn rotate_in(faults: Faults) {
    // `make chaos` takes five minutes.
    let seconds: u64 = std::env::var("OUTAGE_SECONDS").map_or(1, |seconds| seconds.parse().unwrap());
    let room = Room::new("");
    room.append("log/a.log", lines(0, 1));
    let running = room.start();
    room.until("it looks", || room.service.count() == 1);
    room.service.set(faults);
    let mut written = 1;
    for round in 0..10 {
        room.append("log/a.log", lines(written, 20_000));
        written += 20_000;
        std::thread::sleep(Duration::from_secs(seconds) / 10);
        if round % 2 == 0 {
            fs::rename(room.path("log/a.log"), room.path(&format!("log/a.log.{round}"))).unwrap();
        } else {
            fs::copy(room.path("log/a.log"), room.path(&format!("log/a.log.{round}"))).unwrap();
            empty(&room, "log/a.log");
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    room.service.set(Faults::default());
    room.until("all is there", || room.messages("a.log").len() as u64 >= written);
    assert_eq!(running.stop(), 0);
    assert_eq!(assert_all(&numbers(&room.messages("a.log")), written), 0);
    room.assert_sound();
}

#[test]
fn a_file_copied_and_emptied_each_second_at_fifty_thousand_lines_a_second_loses_only_what_it_says() {
    let room = Room::new("");
    room.append("log/a.log", lines(0, 1));
    let running = room.start();
    room.until("it looks", || room.service.count() == 1);
    let mut written = 1;
    for round in 0..5 {
        for _ in 0..20 {
            room.append("log/a.log", lines(written, 2_500));
            written += 2_500;
            std::thread::sleep(Duration::from_millis(40));
        }
        fs::copy(room.path("log/a.log"), room.path(&format!("log/a.log.{round}"))).unwrap();
        empty(&room, "log/a.log");
    }
    room.until("all is there", || room.messages("a.log").len() as u64 >= written);
    assert_eq!(running.stop(), 0);
    // The copies were whole: nothing had to be lost.
    assert_eq!(assert_all(&numbers(&room.messages("a.log")), written), 0);
    assert!(room.status()["counts"]["bytes_lost"] == 0 && room.status()["counts"]["files_emptied"] == 5);
    room.assert_sound();
}

#[test]
fn what_is_emptied_without_a_copy_is_told_in_bytes() {
    let room = Room::new("");
    room.append("log/a.log", lines(0, 1));
    let running = room.start();
    room.until("it looks", || room.service.count() == 1);
    room.service.set(Faults { outage: true, ..Faults::default() });
    // More than is read ahead.
    let text = lines(1, 200_000);
    room.append("log/a.log", &text);
    std::thread::sleep(Duration::from_millis(500));
    empty(&room, "log/a.log");
    room.append("log/a.log", lines(200_001, 10));
    std::thread::sleep(Duration::from_millis(300));
    room.service.set(Faults::default());
    room.until("what comes later is there", || {
        room.messages("a.log").iter().any(|message| message.starts_with("000200010"))
    });
    room.until("what was read is there", || room.status()["lag_bytes"] == 0);
    assert_eq!(running.stop(), 0);
    let arrived = numbers(&room.messages("a.log"));
    let missing: usize = (0..200_011)
        .filter(|number| !arrived.contains_key(number))
        .map(|number| 11 + (number % 20) as usize * 10)
        .sum();
    assert!(missing > 0);
    let status = room.status();
    assert_eq!(status["counts"]["bytes_lost"], missing, "{status}");
    assert!(room.said().contains("emptied before all of it was read"), "{}", room.said());
    room.assert_sound();
}

#[test]
fn files_that_look_alike_are_not_taken_for_each_other() {
    let room = Room::new("");
    // The same first lines, and after them others.
    let banner = "000000000 \n";
    for (name, first) in [("log/a.log", 1), ("log/b.log", 501)] {
        room.append(name, format!("{banner}{}", lines(first, 500)));
    }
    let running = room.start();
    room.until("both are there", || room.service.count() == 1_002);
    // A number that is given again: the file is another one.
    fs::remove_file(room.path("log/a.log")).unwrap();
    room.append("log/c.log", lines(1_001, 500));
    // As long as it was, at once.
    let length = fs::metadata(room.path("log/b.log")).unwrap().len() as usize;
    let text = lines(1_501, 600);
    let cut = text[..length].rfind('\n').unwrap() + 1;
    let padding = format!("{}\n", "p".repeat(length - cut - 1));
    fs::write(room.path("log/b.log"), format!("{}{padding}", &text[..cut])).unwrap();
    let count = text[..cut].lines().count();
    room.until("the others are there", || room.service.count() == 1_002 + 500 + count + 1);
    assert_eq!(running.stop(), 0);
    assert_eq!(numbers(&room.messages("c.log")).len(), 500);
    assert_eq!(numbers(&room.messages("a.log")).len(), 501);
    room.assert_sound();
}

#[test]
fn a_program_that_goes_on_at_its_old_place_leaves_a_hole_and_nothing_else() {
    let room = Room::new("");
    let file = File::create(room.path("log/a.log")).unwrap();
    let text = lines(0, 50_000);
    file.write_all_at(text.as_bytes(), 0).unwrap();
    let running = room.start();
    room.until("it is there", || room.service.count() == 50_000);
    file.set_len(0).unwrap();
    file.write_all_at(lines(50_000, 10).as_bytes(), text.len() as u64).unwrap();
    room.until("what comes behind the hole is there", || room.service.count() == 50_010);
    assert_eq!(running.stop(), 0);
    assert_eq!(assert_all(&numbers(&room.messages("a.log")), 50_010), 0);
    assert_eq!(room.status()["counts"]["bytes_of_holes"], text.len());
    room.assert_sound();
}

#[test]
fn a_link_that_is_led_elsewhere_is_followed_and_dated_names_are_files_like_others() {
    let room = Room::new("");
    fs::create_dir(room.path("real")).unwrap();
    room.append("real/1", lines(0, 10));
    symlink(room.path("real/1"), room.path("log/current.log")).unwrap();
    let running = room.start();
    room.until("the first is there", || room.service.count() == 10);
    // What is written to where it leads is noticed without a look around.
    room.append("real/1", lines(10, 10));
    room.until("the second is there", || room.service.count() == 20);
    room.append("real/2", lines(20, 10));
    symlink(room.path("real/2"), room.path("log/new")).unwrap();
    fs::rename(room.path("log/new"), room.path("log/current.log")).unwrap();
    room.append("real/1", lines(30, 10));
    room.until("both are there", || room.service.count() == 40);
    room.append("log/app-2026-11-26.log", lines(40, 10));
    room.append("log/app-2026-11-27.log", lines(50, 10));
    room.until("all are there", || room.service.count() == 60);
    assert_eq!(running.stop(), 0);
    assert_eq!(assert_all(&numbers(&room.messages("current.log")), 40), 0);
    assert_eq!(room.messages("app-2026-11-27.log").len(), 10);
    room.assert_sound();
}

#[test]
fn a_file_that_is_compressed_after_it_was_rotated_is_shipped_once_and_as_text() {
    let room = Room::new("");
    let config = fs::read_to_string(room.path("config.toml")).unwrap();
    fs::write(room.path("config.toml"), config.replace("*.log\"", "*.log*\"")).unwrap();
    room.append("log/a.log", lines(0, 1_000));
    let running = room.start();
    room.until("it is there", || room.service.count() == 1_000);
    fs::rename(room.path("log/a.log"), room.path("log/a.log.1")).unwrap();
    room.append("log/a.log", lines(1_000, 10));
    assert!(Command::new("gzip").arg(room.path("log/a.log.1")).status().unwrap().success());
    room.until("the archive is seen", || room.said().contains("a compressed file is left alone"));
    room.until("the new one is there", || room.service.count() == 1_010);
    assert_eq!(running.stop(), 0);
    assert_eq!(assert_all(&numbers(&room.messages("a.log")), 1_010), 0);
    room.assert_sound();
}

#[test]
fn what_stands_in_a_deleted_file_is_sent_or_set_aside_when_everything_stops() {
    let room = Room::new("");
    room.configure("", "stop = \"1s\"");
    room.append("log/a.log", lines(0, 1));
    let running = room.start();
    room.until("it looks", || room.service.count() == 1);
    room.service.set(Faults { outage: true, ..Faults::default() });
    room.append("log/a.log", lines(1, 1_000));
    std::thread::sleep(Duration::from_millis(300));
    fs::remove_file(room.path("log/a.log")).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(running.stop(), 0);
    let letters = fs::read_to_string(room.path("state/dead-letters.jsonl")).unwrap();
    assert_eq!(letters.lines().count(), 1_000);
    assert!(letters.lines().next().unwrap().contains("not sent when log-shipper stopped"));
    assert_eq!(room.status()["counts"]["dead_letters"], 1_000);
    // It is not sent again.
    room.service.set(Faults::default());
    room.append("log/b.log", "another\n");
    let running = room.start();
    room.until("the other is there", || room.service.count() == 2);
    assert_eq!(running.stop(), 0);
    room.assert_sound();
}

#[test]
fn directories_that_come_later_are_found_without_a_wait() {
    let room = Room::new("");
    let config = fs::read_to_string(room.path("config.toml")).unwrap();
    fs::write(room.path("config.toml"), config.replace("log/*.log\"", "log/**/*.log\"")).unwrap();
    let running = room.start();
    std::thread::sleep(Duration::from_millis(300));
    for n in 0..5 {
        fs::create_dir_all(room.path(&format!("log/{n}/deep"))).unwrap();
        room.append(&format!("log/{n}/deep/x.log"), lines(n * 10, 10));
    }
    room.until("all are there", || room.service.count() == 50);
    let mut file = File::options().append(true).open(room.path("log/3/deep/x.log")).unwrap();
    file.write_all(lines(50, 1).as_bytes()).unwrap();
    room.until("one more is there", || room.service.count() == 51);
    assert_eq!(running.stop(), 0);
    assert_eq!(assert_all(&numbers(&room.messages("x.log")), 51), 0);
    room.assert_sound();
}
