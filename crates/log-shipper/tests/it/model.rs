//! Random lives of log files against a model: lines are written, files rotated, copied and emptied, deleted, the shipper is
//! killed and started again with what it saved; whatever comes, each line arrives that anybody could still read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use log_shipper::checkpoint::Positions;
use log_shipper::config::Config;
use log_shipper::name::Host;
use log_shipper::stream::Flight;
use log_shipper::watch::Changes;
use log_shipper::work::Work;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Write {
        file: usize,
        lines: usize,
    },
    /// Half a line, which the next write ends.
    Half {
        file: usize,
    },
    Rename {
        file: usize,
    },
    CopyAndEmpty {
        file: usize,
    },
    /// Nobody can read any more what was not read yet.
    Empty {
        file: usize,
    },
    /// The oldest that was renamed.
    Delete {
        file: usize,
    },
    Look,
    Fill {
        times: usize,
    },
    Send,
    Accept {
        which: usize,
    },
    /// It arrived, and the answer did not.
    LoseAnswer {
        which: usize,
    },
    Refuse {
        which: usize,
    },
    Save,
    Kill,
    Start,
    Wait {
        seconds: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let file = 0_usize..2;
    prop_oneof![
        6 => (file.clone(), 1_usize..30).prop_map(|(file, lines)| Step::Write { file, lines }),
        1 => file.clone().prop_map(|file| Step::Half { file }),
        3 => file.clone().prop_map(|file| Step::Rename { file }),
        2 => file.clone().prop_map(|file| Step::CopyAndEmpty { file }),
        1 => file.clone().prop_map(|file| Step::Empty { file }),
        1 => file.prop_map(|file| Step::Delete { file }),
        1 => Just(Step::Look),
        6 => (1_usize..6).prop_map(|times| Step::Fill { times }),
        5 => Just(Step::Send),
        5 => (0_usize..3).prop_map(|which| Step::Accept { which }),
        1 => (0_usize..3).prop_map(|which| Step::LoseAnswer { which }),
        1 => (0_usize..3).prop_map(|which| Step::Refuse { which }),
        3 => Just(Step::Save),
        1 => Just(Step::Kill),
        3 => Just(Step::Start),
        1 => (1_u64..30).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

struct World {
    folder: tempfile::TempDir,
    config: Config,
    /// Renamed files match the pattern, too.
    is_wide: bool,
    now: Instant,
    work: Option<Work>,
    saved: Positions,
    under_way: Vec<Flight>,
    next_line: u64,
    next_name: u64,
    /// Half a line stands at the file's end.
    half: [Option<u64>; 2],
    /// Lines by the file they are in: those of the file itself, and of the renamed ones with their paths.
    current: [Vec<u64>; 2],
    renamed: [Vec<(PathBuf, Vec<u64>)>; 2],
    /// Lines that nobody can read any more, unless they arrived.
    lost: BTreeSet<u64>,
    /// Lines that are lost if the shipper is killed.
    at_risk: BTreeSet<u64>,
    arrived: BTreeMap<u64, u32>,
    /// Nothing happened for which a line may come twice.
    is_calm: bool,
}

impl World {
    fn new(is_wide: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pattern = if is_wide { "*.log*" } else { "*.log" };
        let text = format!(
            "version = 1\n[[files]]\npath = \"{}/{pattern}\"\ngroup = \"g\"\nstream = \"{{file}}\"\n[delivery]\nparallel = 3\n",
            folder.path().display()
        );
        let mut world = Self {
            folder,
            config: Config::parse(&text).unwrap(),
            is_wide,
            now: Instant::now(),
            work: None,
            saved: Positions::default(),
            under_way: Vec::new(),
            next_line: 0,
            next_name: 0,
            half: [None; 2],
            current: Default::default(),
            renamed: Default::default(),
            lost: BTreeSet::new(),
            at_risk: BTreeSet::new(),
            arrived: BTreeMap::new(),
            is_calm: true,
        };
        world.start();
        world
    }

    fn path(&self, file: usize) -> PathBuf {
        self.folder.path().join(["a.log", "b.log"][file])
    }

    fn new_path(&mut self, file: usize) -> PathBuf {
        self.next_name += 1;
        self.folder.path().join(format!("{}.{}", ["a.log", "b.log"][file], self.next_name))
    }

    fn start(&mut self) {
        if self.work.is_none() {
            let mut work = Work::new(&self.config, &Host::default(), self.saved.clone());
            work.look_around(self.now, true);
            self.work = Some(work);
            self.save();
        }
    }

    fn kill(&mut self) {
        if self.work.take().is_some() {
            self.is_calm = false;
            self.under_way.clear();
            let at_risk = std::mem::take(&mut self.at_risk);
            self.lost.extend(at_risk.into_iter().filter(|line| !self.arrived.contains_key(line)));
        }
    }

    fn append(&mut self, file: usize, text: &str) {
        let path = self.path(file);
        let is_new = !path.exists();
        let mut opened = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        opened.write_all(text.as_bytes()).unwrap();
        let mut changes = Changes::default();
        if is_new {
            changes.made.push((path.clone(), path.clone()));
        }
        changes.written.insert(path);
        self.note(&changes);
        if is_new {
            // A file that is found is saved at once.
            self.save();
        }
    }

    fn note(&mut self, changes: &Changes) {
        if let Some(work) = &mut self.work {
            work.note(changes, self.now);
        }
    }

    fn line(number: u64) -> String {
        format!("{number:09} {}", "x".repeat((number % 37) as usize))
    }

    fn write(&mut self, file: usize, lines: usize) {
        let mut text = String::new();
        if let Some(number) = self.half[file].take() {
            text.push_str(&Self::line(number)[5..]);
            text.push('\n');
        }
        for _ in 0..lines {
            text.push_str(&Self::line(self.next_line));
            text.push('\n');
            self.current[file].push(self.next_line);
            self.next_line += 1;
        }
        self.append(file, &text);
    }

    fn half(&mut self, file: usize) {
        if self.half[file].is_none() {
            let number = self.next_line;
            self.next_line += 1;
            self.current[file].push(number);
            self.half[file] = Some(number);
            self.append(file, &Self::line(number)[..5]);
        }
    }

    fn rename(&mut self, file: usize) {
        let path = self.path(file);
        // What is made and renamed while nobody looks has never had a name that is asked for.
        if !path.exists() || (self.work.is_none() && !self.is_wide) {
            return;
        }
        self.write(file, 0);
        let to = self.new_path(file);
        fs::rename(&path, &to).unwrap();
        let lines = std::mem::take(&mut self.current[file]);
        self.renamed[file].push((to.clone(), lines));
        self.note(&Changes { made: vec![(path, to)], look_around: true, ..Changes::default() });
    }

    fn copy_and_empty(&mut self, file: usize) {
        let path = self.path(file);
        // Copies that are asked for come twice, and a copy that is emptied away while nobody looks is nobody's.
        if !path.exists() || self.is_wide || self.work.is_none() {
            return;
        }
        self.write(file, 0);
        let to = self.new_path(file);
        fs::copy(&path, &to).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        let lines = std::mem::take(&mut self.current[file]);
        self.renamed[file].push((to, lines));
        self.note(&Changes { written: [path].into(), ..Changes::default() });
        // It is found when the emptied file is looked at, and saved at once.
        self.fill_all();
        self.save();
    }

    fn empty(&mut self, file: usize) {
        if self.path(file).exists() {
            self.write(file, 0);
            File::options().write(true).open(self.path(file)).unwrap().set_len(0).unwrap();
            let lines = std::mem::take(&mut self.current[file]);
            self.lost.extend(lines.into_iter().filter(|line| !self.arrived.contains_key(line)));
            self.note(&Changes { written: [self.path(file)].into(), ..Changes::default() });
            self.fill_all();
        }
    }

    fn delete(&mut self, file: usize) {
        if self.renamed[file].is_empty() {
            return;
        }
        let (path, lines) = self.renamed[file].remove(0);
        fs::remove_file(path).unwrap();
        let unread = lines.into_iter().filter(|line| !self.arrived.contains_key(line));
        match self.work {
            // Its file is open still.
            Some(_) => self.at_risk.extend(unread),
            None => self.lost.extend(unread),
        }
        self.note(&Changes { look_around: true, ..Changes::default() });
    }

    fn fill_all(&mut self) {
        self.fill(usize::MAX);
    }

    fn fill(&mut self, times: usize) {
        if let Some(work) = &mut self.work {
            for _ in 0..times.min(1_000) {
                if !work.fill(self.now) {
                    break;
                }
            }
        }
    }

    fn send(&mut self) {
        if let Some(work) = &mut self.work {
            work.seal_due(self.now, true);
            self.under_way.extend(work.next_flight(self.now, 3, true));
        }
    }

    fn take(&mut self, which: usize) -> Option<Flight> {
        (!self.under_way.is_empty()).then(|| self.under_way.remove(which % self.under_way.len()))
    }

    fn arrive(&mut self, flight: &Flight) {
        let body: serde_json::Value =
            serde_json::from_slice(&flight.sealed.body(0..flight.sealed.events().len())).unwrap();
        for event in body["logEvents"].as_array().unwrap() {
            let message = event["message"].as_str().unwrap();
            let number = message[..9].parse().unwrap();
            assert_eq!(message, Self::line(number), "a line is whole");
            *self.arrived.entry(number).or_default() += 1;
        }
    }

    fn accept(&mut self, which: usize) {
        if let Some(flight) = self.take(which) {
            self.arrive(&flight);
            self.work.as_mut().unwrap().accepted(flight);
        }
    }

    fn fail(&mut self, which: usize, arrives: bool) {
        if let Some(flight) = self.take(which) {
            if arrives {
                self.is_calm = false;
                self.arrive(&flight);
            }
            self.work.as_mut().unwrap().failed(flight, "no answer".into(), false, self.now);
        }
    }

    fn save(&mut self) {
        if let Some(work) = self.work.as_mut().filter(|work| work.is_changed()) {
            self.saved = work.positions();
            work.was_saved(true);
        }
    }

    fn go(&mut self, step: &Step) {
        match step {
            Step::Write { file, lines } => self.write(*file, *lines),
            Step::Half { file } => self.half(*file),
            Step::Rename { file } => self.rename(*file),
            Step::CopyAndEmpty { file } => self.copy_and_empty(*file),
            Step::Empty { file } => self.empty(*file),
            Step::Delete { file } => self.delete(*file),
            Step::Look => {
                if let Some(work) = &mut self.work {
                    work.look_around(self.now, true);
                }
            }
            Step::Fill { times } => self.fill(*times),
            Step::Send => self.send(),
            Step::Accept { which } => self.accept(*which),
            Step::LoseAnswer { which } => self.fail(*which, true),
            Step::Refuse { which } => self.fail(*which, false),
            Step::Save => self.save(),
            Step::Kill => self.kill(),
            Step::Start => self.start(),
            Step::Wait { seconds } => self.now += Duration::from_secs(*seconds),
        }
    }

    /// Until nothing is left to be done.
    fn finish(&mut self) {
        self.start();
        (0..2).for_each(|file| {
            if self.half[file].is_some() {
                self.write(file, 0);
            }
        });
        for _ in 0..40 {
            self.now += Duration::from_secs(31);
            if let Some(work) = &mut self.work {
                work.look_around(self.now, true);
            }
            self.fill_all();
            for _ in 0..20 {
                self.send();
            }
            while !self.under_way.is_empty() {
                self.accept(0);
            }
            self.save();
        }
    }

    fn check(&self) {
        let missing: Vec<u64> =
            (0..self.next_line).filter(|line| !self.arrived.contains_key(line) && !self.lost.contains(line)).collect();
        assert_eq!(missing, [0; 0], "of {} lines these could have been read and did not arrive", self.next_line);
        if self.is_calm {
            let twice: Vec<&u64> = self.arrived.iter().filter(|(_, times)| **times > 1).map(|(line, _)| line).collect();
            assert!(twice.is_empty(), "{twice:?} came more than once");
        }
        let lag: u64 = self.work.as_ref().unwrap().status(self.now).lag_bytes;
        assert_eq!(lag, 0, "everything is accepted");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 4_000, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_to_files_each_line_arrives_that_could_be_read(
        is_wide in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new(is_wide);
        for step in &steps {
            world.go(step);
        }
        world.finish();
        world.check();
    }
}

fn cases() -> u32 {
    std::env::var("MODEL_CASES").map_or(300, |cases| cases.parse().unwrap())
}

#[test]
fn what_waits_behind_a_batch_that_failed_is_not_saved_again_and_again() {
    let mut world = World::new(false);
    for _ in 0..2 {
        world.write(0, 10);
        world.fill_all();
        world.send();
    }
    assert_eq!(world.under_way.len(), 2);
    world.accept(1);
    world.fail(0, false);
    world.save();
    assert!(!world.work.as_ref().unwrap().is_changed(), "there is nothing new to be saved");
    world.finish();
    world.check();
}
