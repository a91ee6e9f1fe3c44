//! The host's metrics, with the names, units and dimensions of the Amazon CloudWatch Agent (here: the agent), so that alarms
//! and dashboards made for it stay right. Pure functions make values of the texts of /proc; [`HostMetrics`] reads them.
//!
//! Formulas are those of what the agent runs: telegraf's inputs over gopsutil 3. The files are described in proc(5).

use std::array;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfs;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Percent,
    Bytes,
    Count,
    Seconds,
    None,
}

impl Unit {
    /// As PutMetricData spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Percent => "Percent",
            Self::Bytes => "Bytes",
            Self::Count => "Count",
            Self::Seconds => "Seconds",
            Self::None => "None",
        }
    }
}

/// A value, always finite: PutMetricData refuses others.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    pub name: &'static str,
    pub unit: Unit,
    pub value: f64,
    /// Fit for PutMetricData. The host's own comes on top.
    pub dimensions: Vec<(&'static str, String)>,
}

/// What is read; what nobody wants is not.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Of [`names`].
    pub names: Vec<&'static str>,
    /// Each CPU besides all of them.
    pub per_cpu: bool,
    /// Mount points; otherwise all of the host's own disks.
    pub disks: Option<Vec<PathBuf>>,
    /// Otherwise all that are up, without loopback.
    pub interfaces: Option<Vec<String>>,
}

/// A file that could not be read, or what was expected of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    pub file: PathBuf,
    pub problem: String,
}

impl fmt::Display for ReadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.file.display(), self.problem)
    }
}

impl Error for ReadError {}

// ---- names, each family in the order of its values

#[rustfmt::skip]
const CPU_TIME: [&str; 11] = [
    "cpu_time_user", "cpu_time_nice", "cpu_time_system", "cpu_time_idle", "cpu_time_iowait", "cpu_time_irq",
    "cpu_time_softirq", "cpu_time_steal", "cpu_time_guest", "cpu_time_guest_nice", "cpu_time_active",
];
#[rustfmt::skip]
const CPU_USAGE: [&str; 11] = [
    "cpu_usage_user", "cpu_usage_nice", "cpu_usage_system", "cpu_usage_idle", "cpu_usage_iowait", "cpu_usage_irq",
    "cpu_usage_softirq", "cpu_usage_steal", "cpu_usage_guest", "cpu_usage_guest_nice", "cpu_usage_active",
];
#[rustfmt::skip]
const MEM: [&str; 10] = [
    "mem_total", "mem_free", "mem_available", "mem_buffered", "mem_cached", "mem_active", "mem_inactive", "mem_used",
    "mem_used_percent", "mem_available_percent",
];
const SWAP: [&str; 3] = ["swap_free", "swap_used", "swap_used_percent"];
#[rustfmt::skip]
const DISK: [&str; 7] = [
    "disk_total", "disk_free", "disk_used", "disk_used_percent", "disk_inodes_total", "disk_inodes_free",
    "disk_inodes_used",
];
#[rustfmt::skip]
const NET: [&str; 8] = [
    "net_bytes_recv", "net_packets_recv", "net_err_in", "net_drop_in", "net_bytes_sent", "net_packets_sent",
    "net_err_out", "net_drop_out",
];

/// Every name that can be asked for.
pub fn names() -> impl Iterator<Item = &'static str> {
    [&CPU_TIME[..], &CPU_USAGE, &MEM, &SWAP, &DISK, &NET].into_iter().flatten().copied()
}

pub fn find(name: &str) -> Option<&'static str> {
    names().find(|known| *known == name)
}

/// The agent's receiver/adapter/accumulator/default_unit.go. Times of a CPU are not in it and go out without a unit.
fn unit(name: &str) -> Unit {
    let of = |prefix| name.starts_with(prefix);
    if of("cpu_time_") {
        Unit::None
    } else if of("cpu_usage_") || name.ends_with("_percent") {
        Unit::Percent
    } else if of("disk_inodes_") || (of("net_") && !of("net_bytes_")) {
        Unit::Count
    } else {
        Unit::Bytes
    }
}

// ---- texts become values

/// Ticks of user, nice, system, idle, iowait, irq, softirq, steal, guest and guest_nice.
type Ticks = [f64; 10];
/// Since the interface is there, in the order of [`NET`].
type Counters = [u64; 8];

/// Ticks in a second as user space sees them (USER_HZ), the same on all that Rust has a Linux target for.
const USER_HZ: f64 = 100.0;
const ALL_CPUS: &str = "cpu-total";

/// /proc/stat. The last three of a line came with later kernels.
fn cpus(text: &str) -> Result<BTreeMap<String, Ticks>, String> {
    let cpus = text.lines().filter(|line| line.starts_with("cpu")).map(cpu).collect::<Option<BTreeMap<_, _>>>();
    cpus.filter(|cpus| cpus.contains_key(ALL_CPUS)).ok_or("lines of `cpu` and 7 to 10 numbers expected".into())
}

fn cpu(line: &str) -> Option<(String, Ticks)> {
    let (name, numbers) = line.split_once(' ')?;
    let numbers = numbers.split_ascii_whitespace().map(|number| Some(number.parse::<u64>().ok()? as f64));
    let numbers: Vec<f64> = numbers.collect::<Option<_>>()?;
    let ticks = array::from_fn(|nth| numbers.get(nth).copied().unwrap_or_default());
    let name = if name == "cpu" { ALL_CPUS } else { name };
    (numbers.len() >= 7).then(|| (name.to_owned(), ticks))
}

/// Without guests: their time is in user and nice already (proc(5)).
fn all_ticks(ticks: &Ticks) -> f64 {
    ticks[..8].iter().sum()
}

/// Seconds since boot. The agent's documentation has hundredths of them, but seconds are what it sends: gopsutil divides by
/// USER_HZ, and nothing multiplies after that.
fn times(ticks: &Ticks) -> [f64; 11] {
    let active = all_ticks(ticks) - ticks[3];
    array::from_fn(|nth| ticks.get(nth).unwrap_or(&active) / USER_HZ)
}

/// Shares of the time since the last reading, as telegraf's plugins/inputs/cpu/cpu.go has them: user and nice are without
/// guests, active is all but idle.
fn usage(last: &Ticks, now: &Ticks) -> Option<[f64; 11]> {
    let all = all_ticks(now) - all_ticks(last);
    let [user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice] =
        array::from_fn(|nth| now[nth] - last[nth]);
    let (user, nice, active) = (user - guest, nice - guest_nice, all - idle);
    let shares = [user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice, active];
    // Idle and iowait can go back (proc(5)), so a share may be out of bounds where the sum is not.
    (all > 0.0).then(|| shares.map(|share| percent(share, all)))
}

/// 0 of nothing.
fn percent(part: f64, all: f64) -> f64 {
    if all > 0.0 { (100.0 * part / all).clamp(0.0, 100.0) } else { 0.0 }
}

/// /proc/meminfo, as gopsutil 3 reads it: what the kernel can take back of its slabs counts as cached. (From 4.25.8 on it has
/// total - available as used, which is more; the agent keeps to 3.)
fn memory(text: &str) -> Result<([f64; 10], [f64; 3]), String> {
    let of = |name: &str| bytes(text, name).ok_or_else(|| format!("`{name}:` and a number of kB expected"));
    let (total, free, available, buffered) = (of("MemTotal")?, of("MemFree")?, of("MemAvailable")?, of("Buffers")?);
    let cached = of("Cached")? + bytes(text, "SReclaimable").unwrap_or_default();
    let used = (total - free - buffered - cached).max(0.0);
    let (used_percent, available_percent) = (percent(used, total), percent(available, total));
    let (active, inactive) = (of("Active")?, of("Inactive")?);
    let (swap, swap_free) = (of("SwapTotal")?, of("SwapFree")?);
    let swap_used = (swap - swap_free).max(0.0);
    Ok((
        [total, free, available, buffered, cached, active, inactive, used, used_percent, available_percent],
        [swap_free, swap_used, percent(swap_used, swap)],
    ))
}

fn bytes(text: &str, name: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim().strip_suffix(" kB")?.parse::<u64>().ok()? as f64 * 1024.0)
}

/// /proc/net/dev: two lines of heads, then an interface a line.
fn interfaces(text: &str) -> Result<BTreeMap<String, Counters>, String> {
    let mut lines = text.lines();
    let heads = lines.by_ref().take(2).filter(|line| line.contains('|')).count();
    let interfaces = lines.map(interface).collect::<Option<_>>();
    interfaces.filter(|_| heads == 2).ok_or("two heads, then lines of a name and 16 numbers expected".into())
}

fn interface(line: &str) -> Option<(String, Counters)> {
    let (name, numbers) = line.rsplit_once(':')?;
    let numbers = numbers.split_ascii_whitespace().map(|number| number.parse().ok());
    let numbers: Vec<u64> = numbers.collect::<Option<_>>()?;
    // Behind bytes, packets, errors and drops are four of each way that the agent does not send.
    let counters = array::from_fn(|nth| numbers.get(nth + nth / 4 * 4).copied().unwrap_or_default());
    (numbers.len() >= 16).then(|| (name.trim().to_owned(), counters))
}

/// What was counted since the last reading, as the agent sends it (its delta pipeline). A counter that went back says that
/// the interface was made anew, and nothing of it can be compared.
fn deltas(last: &Counters, now: &Counters) -> Option<[f64; 8]> {
    let mut deltas = [0.0; 8];
    for (delta, (now, last)) in deltas.iter_mut().zip(now.iter().zip(last)) {
        *delta = now.checked_sub(*last)? as f64;
    }
    Some(deltas)
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    /// The device's major and minor number.
    number: String,
    /// Which of the file system's directories is mounted.
    root: String,
    path: PathBuf,
    fstype: String,
    device: String,
}

/// Types of file systems on the host's own disks. A list of what is asked, not of what is left out: a type that is not known
/// may be of a network that hangs. Images, which are always full, are not in it.
const OWN: [&str; 14] = [
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "nilfs2", "ntfs3", "reiserfs", "vfat", "xfs",
    "zfs",
];

impl Mount {
    /// A directory that is mounted once more is no disk of its own; subvolumes of btrfs always look like one.
    fn is_own_disk(&self) -> bool {
        OWN.contains(&self.fstype.as_str()) && (self.root == "/" || self.fstype == "btrfs")
    }
}

/// /proc/self/mountinfo, by mount point. What is mounted over another comes later and is what a path leads to.
fn mounts(text: &str) -> Result<BTreeMap<PathBuf, Mount>, String> {
    let mounts = text.lines().map(|line| mount(line).map(|mount| (mount.path.clone(), mount))).collect::<Option<_>>();
    mounts.ok_or("lines of a mount, ` - `, its type and its device expected".into())
}

fn mount(line: &str) -> Option<Mount> {
    let (mounted, what) = line.split_once(" - ")?;
    let mut mounted = mounted.split(' ').skip(2).map(unescaped);
    let mut what = what.split(' ').map(unescaped);
    Some(Mount {
        number: mounted.next()?,
        root: mounted.next()?,
        path: mounted.next()?.into(),
        fstype: what.next()?,
        device: what.next()?,
    })
}

/// Blanks, line ends, backslashes and `#` are written in octal, such as `\040`.
fn unescaped(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, behind)) = rest.split_once('\\') {
        bytes.extend(before.bytes());
        let octal = behind.get(..3).and_then(|octal| u8::from_str_radix(octal, 8).ok());
        bytes.push(octal.unwrap_or(b'\\'));
        rest = if octal.is_some() { &behind[3..] } else { behind };
    }
    bytes.extend(rest.bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// As df and telegraf's plugins/inputs/disk/disk.go: free is what users can have, and the share that is used is one of that and
/// of what is used, so that a disk is full when users find it so. Nothing of a file system without a size.
fn disk(sizes: &StatVfs) -> Option<[f64; 7]> {
    let bytes = |blocks: u64| blocks as f64 * sizes.f_frsize as f64;
    let (total, free) = (bytes(sizes.f_blocks), bytes(sizes.f_bavail));
    let used = bytes(sizes.f_blocks.saturating_sub(sizes.f_bfree));
    let inodes_used = sizes.f_files.saturating_sub(sizes.f_ffree);
    let inodes = [sizes.f_files, sizes.f_ffree, inodes_used].map(|count| count as f64);
    (total > 0.0).then(|| [total, free, used, percent(used, used + free), inodes[0], inodes[1], inodes[2]])
}

/// A dimension's value: 1 to 1024 of ASCII without control characters (API reference of CloudWatch, Dimension); anything else
/// becomes an underscore, for a single one that is refused takes its whole request with it.
pub(crate) fn dimension(value: &str) -> String {
    let safe = |char: char| if char.is_ascii_graphic() || char == ' ' { char } else { '_' };
    let value: String = value.chars().map(safe).take(1024).collect();
    if value.trim().is_empty() { "_".into() } else { value }
}

// ---- files are read

/// The host's metrics, reading after reading.
#[derive(Debug)]
pub struct HostMetrics {
    wanted: Wanted,
    proc: PathBuf,
    sys: PathBuf,
    /// As last read.
    cpus: BTreeMap<String, Ticks>,
    interfaces: BTreeMap<String, Counters>,
}

type Found = (Vec<Metric>, Vec<ReadError>);

impl HostMetrics {
    pub fn new(wanted: Wanted) -> Self {
        let (proc, sys) = ("/proc".into(), "/sys".into());
        Self { wanted, proc, sys, cpus: BTreeMap::new(), interfaces: BTreeMap::new() }
    }

    /// What is wanted, as far as it could be read. Usage of CPUs and counts of interfaces are of the time since the last
    /// reading, so the first gives none. May block for as long as a file system that is named in [`Wanted::disks`] does.
    pub fn read(&mut self) -> Found {
        let mut found = Found::default();
        if self.wants(&CPU_TIME) || self.wants(&CPU_USAGE) {
            self.read_cpus(&mut found);
        }
        if self.wants(&MEM) || self.wants(&SWAP) {
            self.read_memory(&mut found);
        }
        if self.wants(&DISK) {
            self.read_disks(&mut found);
        }
        if self.wants(&NET) {
            self.read_interfaces(&mut found);
        }
        found
    }

    fn wants(&self, names: &[&str]) -> bool {
        self.wanted.names.iter().any(|name| names.contains(name))
    }

    /// A file of /proc, understood.
    fn file<T>(&self, file: &str, parse: fn(&str) -> Result<T, String>, found: &mut Found) -> Option<T> {
        let file = self.proc.join(file);
        // A mount point that is no UTF-8 shall not hide the others.
        let text = fs::read(&file).map_err(|error| error.to_string());
        let parsed = text.and_then(|text| parse(&String::from_utf8_lossy(&text)));
        parsed.map_err(|problem| found.1.push(ReadError { file, problem })).ok()
    }

    fn add(&self, found: &mut Found, names: &[&'static str], values: &[f64], dimensions: &[(&'static str, &str)]) {
        let wanted = names.iter().zip(values).filter(|(name, _)| self.wanted.names.contains(*name));
        found.0.extend(wanted.map(|(name, value)| Metric {
            name,
            unit: unit(name),
            value: *value,
            dimensions: dimensions.iter().map(|(name, value)| (*name, dimension(value))).collect(),
        }));
    }

    fn read_cpus(&mut self, found: &mut Found) {
        let Some(mut now) = self.file("stat", cpus, found) else { return };
        now.retain(|name, _| self.wanted.per_cpu || name == ALL_CPUS);
        for (name, ticks) in &now {
            self.add(found, &CPU_TIME, &times(ticks), &[("cpu", name)]);
            if let Some(usage) = self.cpus.get(name).and_then(|last| usage(last, ticks)) {
                self.add(found, &CPU_USAGE, &usage, &[("cpu", name)]);
            }
        }
        self.cpus = now;
    }

    fn read_memory(&self, found: &mut Found) {
        let Some((memory, swap)) = self.file("meminfo", memory, found) else { return };
        self.add(found, &MEM, &memory, &[]);
        self.add(found, &SWAP, &swap, &[]);
    }

    fn read_disks(&self, found: &mut Found) {
        let Some(mounts) = self.file("self/mountinfo", mounts, found) else { return };
        let Some(paths) = &self.wanted.disks else {
            mounts.values().filter(|mount| mount.is_own_disk()).for_each(|mount| self.read_disk(mount, found));
            return;
        };
        for path in paths {
            match mounts.get(path) {
                Some(mount) => self.read_disk(mount, found),
                None => found.1.push(ReadError { file: path.clone(), problem: "a mount point expected".into() }),
            }
        }
    }

    fn read_disk(&self, mount: &Mount, found: &mut Found) {
        let sizes = rustix::fs::statvfs(&mount.path).map_err(|error| error.to_string());
        match sizes.and_then(|sizes| disk(&sizes).ok_or("a file system with a size expected".into())) {
            Ok(values) => {
                let (path, device) = (mount.path.to_string_lossy(), self.device(mount));
                let dimensions = [("path", &*path), ("device", &device), ("fstype", &mount.fstype)];
                self.add(found, &DISK, &values, &dimensions);
            }
            Err(problem) => found.1.push(ReadError { file: mount.path.clone(), problem }),
        }
    }

    /// As the agent names it: without /dev/ (a logical volume is `mapper/…`), and `root`, which a kernel says that mounted it
    /// without an initrd, by its number.
    fn device(&self, mount: &Mount) -> String {
        let number = self.sys.join("dev/block").join(&mount.number);
        let link = (mount.device == "/dev/root").then(|| fs::read_link(number).ok()).flatten();
        let name = link.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        name.unwrap_or_else(|| mount.device.replace("/dev/", ""))
    }

    fn read_interfaces(&mut self, found: &mut Found) {
        let Some(now) = self.file("net/dev", interfaces, found) else { return };
        for (name, counters) in now.iter().filter(|(name, _)| self.wants_interface(name)) {
            if let Some(deltas) = self.interfaces.get(name).and_then(|last| deltas(last, counters)) {
                self.add(found, &NET, &deltas, &[("interface", name)]);
            }
        }
        let missing = self.wanted.interfaces.iter().flatten().filter(|name| !now.contains_key(*name));
        let file = self.proc.join("net/dev");
        found.1.extend(missing.map(|name| ReadError { file: file.clone(), problem: format!("`{name}` expected") }));
        self.interfaces = now;
    }

    /// Where none are named: those that are up and no loopback, as telegraf chooses (netdevice(7)).
    fn wants_interface(&self, name: &str) -> bool {
        const UP: u32 = 1;
        const LOOPBACK: u32 = 8;
        if let Some(names) = &self.wanted.interfaces {
            return names.iter().any(|wanted| wanted == name);
        }
        let flags = fs::read_to_string(self.sys.join("class/net").join(name).join("flags")).ok();
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim().strip_prefix("0x")?, 16).ok());
        // Without /sys the name has to do.
        flags.map_or(name != "lo", |flags| flags & (UP | LOOPBACK) == UP)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;
    use std::thread;
    use std::time::Duration;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    const STAT: &str = "cpu  1000 200 300 4000 50 10 20 30 100 40\ncpu0 500 100 150 2000 25 5 10 15 50 20\nintr 5 1\n";
    const LATER: &str = "cpu  1150 220 340 4650 70 20 40 80 150 50\n\
                         cpu0 500 100 150 1990 25 5 10 15 50 20\ncpu1 9 0 0 9 0 0 0 0\nintr 6 1\n";
    const MEMINFO: &str = "MemTotal: 1000 kB\nMemFree:  100 kB\nMemAvailable:  600 kB\nBuffers:  50 kB\nCached:  300 kB\n\
                           SwapCached: 7 kB\nActive:  400 kB\nInactive:  200 kB\nActive(anon): 3 kB\nSwapTotal: 400 kB\n\
                           SwapFree: 300 kB\nSReclaimable: 150 kB\nHugePages_Total:       0\n";
    const HEADS: &str = "Inter-|   Receive  |  Transmit\n face |bytes packets |bytes packets\n";
    const NET_DEV: &str = "    lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n  eth0:1000 10 1 2 0 0 0 9 500 5 3 4 0 0 0 0\n";
    const NET_LATER: &str = "    lo: 9 2 0 0 0 0 0 0 9 2 0 0 0 0 0 0\n  eth0:1700 14 1 3 0 0 0 9 900 7 5 4 0 0 0 0\n";
    const MOUNTINFO: &str = "\
22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
23 22 0:21 / /proc rw - proc proc rw
24 22 0:5 / /mnt/data\\040one rw - xfs /dev/mapper/vg-data rw
25 22 0:41 / /mnt/share rw - nfs4 fs-1.efs:/ rw
26 22 0:42 / /mnt/hidden rw - ext4 /dev/sdb1 rw
27 26 0:43 / /mnt/hidden rw - fuse.sshfs me@far:/ rw
28 22 259:1 /etc/hosts /etc/hosts rw - ext4 /dev/root rw
29 22 0:44 /@home /home rw - btrfs /dev/sdc rw
30 22 0:45 / /run rw -  tmpfs  rw
31 22 7:1 / /snap/core rw - squashfs /dev/loop1 ro
";

    /// A host with a made-up /proc and /sys.
    struct Made(TempDir, HostMetrics);

    impl Made {
        fn new(names: &[&str], change: impl FnOnce(&mut Wanted)) -> Self {
            let names = super::names().filter(|name| names.iter().any(|start| name.starts_with(start))).collect();
            let mut wanted = Wanted { names, per_cpu: false, disks: None, interfaces: None };
            change(&mut wanted);
            let (dir, mut host) = (tempfile::tempdir().unwrap(), HostMetrics::new(wanted));
            (host.proc, host.sys) = (dir.path().to_owned(), dir.path().join("sys"));
            Self(dir, host)
        }

        fn file(&mut self, name: &str, text: impl AsRef<[u8]>) -> &mut Self {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }
    }

    fn value(metrics: &[Metric], name: &str) -> Option<f64> {
        metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value)
    }

    fn of<'a>(metrics: &'a [Metric], dimension: &str) -> Vec<&'a str> {
        let dimensions = metrics.iter().flat_map(|metric| &metric.dimensions);
        dimensions.filter(|(name, _)| *name == dimension).map(|(_, value)| value.as_str()).collect()
    }

    #[test]
    fn each_name_is_found_and_has_the_agents_unit() {
        let with = |unit: Unit| names().filter(|name| super::unit(name) == unit).count();
        assert_eq!([Unit::None, Unit::Percent, Unit::Bytes, Unit::Count].map(with), [11, 15, 15, 9]);
        assert!(names().all(|name| find(name) == Some(name)) && find("mem_wired").is_none());
        let units =
            ["cpu_time_user", "swap_used_percent", "disk_inodes_free", "net_bytes_sent", "net_err_in"].map(unit);
        assert_eq!(units.map(Unit::as_str), ["None", "Percent", "Count", "Bytes", "Count"]);
    }

    #[test]
    fn usage_is_of_the_time_since_the_last_reading_and_guests_are_not_counted_twice() {
        let mut made = Made::new(&["cpu_"], |_| ());
        made.file("stat", STAT);
        let (first, errors) = made.1.read();
        assert!(errors.is_empty() && first.len() == 11 && of(&first, "cpu").iter().all(|cpu| *cpu == "cpu-total"));
        assert_eq!(value(&first, "cpu_time_active"), Some(16.1));
        assert_eq!(value(&first, "cpu_time_guest"), Some(1.0));
        made.file("stat", LATER);
        // 960 ticks: user 150 of which 50 guest, nice 20 of which 10 guest, system 40, idle 650, 20, 10, 20, steal 50.
        let (second, _) = made.1.read();
        let ticks = [100.0, 10.0, 40.0, 650.0, 20.0, 10.0, 20.0, 50.0, 50.0, 10.0, 310.0];
        for (name, ticks) in CPU_USAGE.iter().zip(ticks) {
            assert_eq!(value(&second, name), Some(100.0 * ticks / 960.0), "{name}");
        }
        assert!(made.1.read().0.iter().all(|metric| metric.name.starts_with("cpu_time_")), "no time has gone by");
    }

    #[test]
    fn a_cpu_that_is_new_or_went_back_has_times_but_no_usage() {
        let mut made = Made::new(&["cpu_time_user", "cpu_usage_user"], |wanted| wanted.per_cpu = true);
        made.file("stat", STAT).1.read();
        made.file("stat", LATER);
        let (metrics, _) = made.1.read();
        let with = |name: &str| metrics.iter().filter(|metric| metric.name == name).cloned().collect::<Vec<_>>();
        assert_eq!(of(&with("cpu_time_user"), "cpu"), ["cpu-total", "cpu0", "cpu1"]);
        assert_eq!(of(&with("cpu_usage_user"), "cpu"), ["cpu-total"]);
    }

    #[test]
    fn memory_is_counted_as_gopsutil_3_does() {
        let (memory, swap) = memory(MEMINFO).unwrap();
        let kibibytes = [1000.0, 100.0, 600.0, 50.0, 450.0, 400.0, 200.0, 400.0].map(|kibibytes| kibibytes * 1024.0);
        assert_eq!((&memory[..8], &memory[8..]), (&kibibytes[..], &[40.0, 60.0][..]));
        assert_eq!(swap, [307_200.0, 102_400.0, 25.0]);
        let without = MEMINFO.replace("SwapTotal: 400", "SwapTotal: 0").replace("SwapFree: 300", "SwapFree: 0");
        assert_eq!(super::memory(&without).unwrap().1, [0.0; 3]);
    }

    #[test]
    fn interfaces_send_what_was_counted_since_the_last_reading() {
        let mut made = Made::new(&["net_"], |_| ());
        made.file("net/dev", HEADS.to_owned() + NET_DEV);
        assert_eq!(made.1.read(), Found::default());
        made.file("net/dev", HEADS.to_owned() + NET_LATER + "veth1: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n");
        let (metrics, errors) = made.1.read();
        assert!(errors.is_empty() && of(&metrics, "interface") == ["eth0"; 8], "no loopback, and none that is new");
        let values: Vec<_> = metrics.iter().map(|metric| (metric.name, metric.value)).collect();
        assert_eq!(values, NET.into_iter().zip([700.0, 4.0, 0.0, 1.0, 400.0, 2.0, 2.0, 0.0]).collect::<Vec<_>>());
        made.file("net/dev", HEADS.to_owned() + NET_DEV);
        assert_eq!(made.1.read(), Found::default(), "made anew");
    }

    #[test]
    fn interfaces_are_those_that_are_up_or_are_named() {
        let chosen = |interfaces: Option<&[&str]>| {
            let interfaces = interfaces.map(|names| names.iter().map(ToString::to_string).collect());
            let mut made = Made::new(&["net_err_in"], |wanted| wanted.interfaces = interfaces);
            made.file("sys/class/net/eth0/flags", "0x1002\n").file("sys/class/net/lo/flags", "0x9\n");
            made.file("net/dev", HEADS.to_owned() + NET_LATER + "wg0: 1 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n");
            made.1.read();
            let (metrics, errors) = made.1.read();
            (of(&metrics, "interface").join(" "), errors.len())
        };
        assert_eq!(chosen(None), ("wg0".into(), 0));
        assert_eq!(chosen(Some(&["eth0", "lo", "eth7"])), ("eth0 lo".into(), 1));
    }

    #[test]
    fn only_the_hosts_own_disks_are_asked_unless_a_path_is_named() {
        let mounts = mounts(MOUNTINFO).unwrap();
        let own = mounts.values().filter(|mount| mount.is_own_disk()).map(|mount| mount.path.to_str().unwrap());
        assert_eq!(own.collect::<Vec<_>>(), ["/", "/home", "/mnt/data one"]);
        let run = &mounts[Path::new("/run")];
        assert_eq!((run.fstype.as_str(), run.device.as_str()), ("", "tmpfs"));
        let fields = ["a\\134040\\011", "\\", "\\9é\\777", "\\303\\251"].map(unescaped);
        assert_eq!(fields, ["a\\040\t", "\\", "\\9é\\777", "é"]);
    }

    #[test]
    fn disks_have_the_agents_dimensions_and_their_values_are_dfs() {
        let disks = vec!["/".into(), "/nowhere".into(), "/proc/".into()];
        let mut made = Made::new(&["disk_total"], |wanted| wanted.disks = Some(disks));
        fs::create_dir_all(made.0.path().join("sys/dev/block")).unwrap();
        symlink("../../devices/pci0/nvme0n1/nvme0n1p1", made.0.path().join("sys/dev/block/259:1")).unwrap();
        made.file("self/mountinfo", [b"9 1 0:9 / /no\xffutf8 rw - xfs x rw\n", MOUNTINFO.as_bytes()].concat());
        let (metrics, errors) = made.1.read();
        let dimensions = [("path", "/"), ("device", "nvme0n1p1"), ("fstype", "ext4")];
        assert_eq!(metrics[0].dimensions, dimensions.map(|(name, value)| (name, value.to_owned())));
        let problems: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(problems, ["/nowhere: a mount point expected", "/proc: a file system with a size expected"]);
        let volume = &mounts(MOUNTINFO).unwrap()[Path::new("/mnt/data one")];
        assert_eq!(made.1.device(volume), "mapper/vg-data");

        let mut sizes = rustix::fs::statvfs("/").unwrap();
        (sizes.f_bsize, sizes.f_frsize, sizes.f_blocks, sizes.f_bfree, sizes.f_bavail) = (65536, 4096, 100, 40, 20);
        (sizes.f_files, sizes.f_ffree) = (10, 7);
        assert_eq!(disk(&sizes).unwrap(), [409_600.0, 81_920.0, 245_760.0, 75.0, 10.0, 7.0, 3.0]);
    }

    #[test]
    fn dimensions_are_fit_for_the_service() {
        assert_eq!(dimension("/mnt/é\n"), "/mnt/__");
        assert_eq!(["", "  "].map(dimension), ["_", "_"]);
        assert_eq!(dimension(&"x".repeat(2000)).len(), 1024);
    }

    #[test]
    fn what_is_not_understood_is_told_and_the_rest_is_read() {
        let mut made = Made::new(&[""], |_| ());
        made.file("stat", "cpu 1 2 3\n").file("meminfo", MEMINFO).file("net/dev", "eth0\n").file("self/mountinfo", "x");
        let (metrics, errors) = made.1.read();
        assert_eq!(metrics.len(), MEM.len() + SWAP.len());
        let files: Vec<_> = errors.iter().map(|error| error.file.strip_prefix(&made.0).unwrap().to_owned()).collect();
        assert_eq!(files, ["stat", "self/mountinfo", "net/dev"].map(PathBuf::from));
        assert!(errors.iter().all(|error| error.problem.ends_with("expected")), "{errors:?}");
        let problem = memory(&MEMINFO.replace("Buffers:  50", "Buffers:  -1")).unwrap_err();
        assert_eq!(problem, "`Buffers:` and a number of kB expected");
        assert!(cpus("cpu0 1 2 3 4 5 6 7\n").is_err(), "no line of all CPUs");
        assert!(interfaces(&(HEADS.to_owned() + "eth0: 1 2 3\n")).is_err(), "too few numbers");
    }

    #[test]
    fn what_nobody_wants_is_not_read() {
        let mut made = Made::new(&["mem_"], |_| ());
        assert_eq!(made.file("meminfo", MEMINFO).1.read().1, []);
        assert_eq!(Made::new(&["none"], |_| ()).1.read(), Found::default());
    }

    /// A text as the kernel writes it but with any numbers, or any text.
    fn text(regex: &str) -> impl Strategy<Value = String> + use<> {
        let regex = regex.replace('#', "[0-9]{1,19}");
        prop_oneof![5 => prop::string::string_regex(&regex).unwrap(), 1 => "[^ ]{0,4}[ \n\\PC]{0,50}"]
    }

    proptest! {
        /// Whatever the files say, and whatever they said before.
        #[test]
        fn no_text_makes_a_value_that_the_service_refuses(texts in prop::collection::vec((
            text("cpu( #){7,10}\n(cpu[01]( #){7,10}\n){0,2}"),
            text(&"MemTotal MemFree MemAvailable Buffers Cached Active Inactive SwapTotal SwapFree "
                .replace(' ', ": # kB\n")),
            text("a\\|b\nc\\|d\n(eth[01]:( #){16}\n){0,2}"),
            text("(1 2 0:1 / /[a-z0-7\\\\]{0,5} - (xfs|proc) [a-z/]{0,5} rw\n){0,2}"),
        ), 2..5)) {
            let mut made = Made::new(&[""], |wanted| wanted.per_cpu = true);
            for (stat, meminfo, net, mounts) in &texts {
                made.file("stat", stat).file("meminfo", meminfo).file("net/dev", net).file("self/mountinfo", mounts);
                for metric in made.1.read().0 {
                    let most = if metric.unit == Unit::Percent { 100.0 } else { f64::MAX };
                    prop_assert!((0.0..=most).contains(&metric.value), "{metric:?}");
                }
            }
        }
    }

    /// The numbers of a line of a program's output; none where it is not installed.
    fn said(program: &str, arguments: &[&str], line: &str) -> Option<Vec<f64>> {
        let output = Command::new(program).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|found| found.contains(line))?;
        Some(line.split_whitespace().filter_map(|number| number.parse().ok()).collect())
    }

    #[test]
    fn this_host_is_read_as_other_programs_read_it() {
        let disks = Some(vec!["/".into()]);
        let wanted = Wanted { names: names().collect(), per_cpu: true, disks, interfaces: None };
        let mut host = HostMetrics::new(wanted);
        assert_eq!(host.read().1, []);
        thread::sleep(Duration::from_millis(200));
        let (metrics, errors) = host.read();
        assert_eq!(errors, []);
        let value = |name| value(&metrics, name).unwrap();
        let near = |ours: f64, theirs: f64| assert!((ours - theirs).abs() <= ours / 10.0, "{ours} {theirs}");
        near(CPU_USAGE[..10].iter().map(|name| value(*name)).sum(), 100.0);
        if let Some(memory) = said("free", &["-b"], "Mem:") {
            assert_eq!(value("mem_total"), memory[0]);
            near(value("mem_available"), memory[5]);
        }
        if let Some(swap) = said("free", &["-b"], "Swap:") {
            assert_eq!(value("swap_free") + value("swap_used"), swap[0]);
        }
        if let Some(disk) = said("df", &["-B1", "--output=size,avail,itotal,iavail,target", "/"], " /") {
            let ours = ["disk_total", "disk_free", "disk_inodes_total", "disk_inodes_free"].map(value);
            ours.iter().zip(disk).for_each(|(ours, theirs)| near(*ours, theirs));
        }
    }
}
