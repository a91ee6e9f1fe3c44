//! Sample data: customers that look like a real export.
//!
//! Deterministic: the same rows and seed give the same bytes on every machine. Streaming: a row is forgotten once it is
//! written, so a file of any size takes the same memory. The draws for dirt come from a generator of their own: raising
//! `dirty` spoils rows, it does not change the others.

use std::io::{self, Write};

use serde::Serialize;

/// The columns, in order.
const HEADER: &str = "id,title,firstname,lastname,status,email,age,balance,signup_date,last_seen,country,notes\n";

/// Bytes gathered before they are written.
const BUFFER: usize = 64 * 1024;

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub struct Customers {
    pub rows: u64,
    pub seed: u64,
    /// Share of rows with one defect, 0 to 1.
    pub dirty: f64,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Without the header.
    pub rows: u64,
    pub bytes: u64,
    pub dirty_rows: u64,
    pub dirty: Dirty,
}

/// Rows with a defect, by its kind. A row has at most one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dirty {
    /// `signup_date` is no day of the calendar.
    pub bad_date: u64,
    /// `balance` is no number.
    pub bad_number: u64,
    /// The last field is left off.
    pub missing_field: u64,
    /// `lastname` is longer than 40 characters.
    pub too_long: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    BadDate,
    BadNumber,
    MissingField,
    TooLong,
}

impl Customers {
    /// Writes header and rows.
    pub fn write(&self, out: &mut impl Write) -> io::Result<Summary> {
        let mut random = Random::new(self.seed);
        let mut dirt = Random::new(self.seed ^ 0x6469_7274);
        let mut summary = Summary { rows: self.rows, ..Summary::default() };
        let mut buffer = Vec::with_capacity(BUFFER + 4096);
        buffer.extend_from_slice(HEADER.as_bytes());
        for id in 1..=self.rows {
            let defect = if dirt.chance(self.dirty) { Some(summary.dirty.pick(&mut dirt)) } else { None };
            push_customer(&mut buffer, id, &mut random, defect, &mut dirt);
            if buffer.len() >= BUFFER {
                out.write_all(&buffer)?;
                summary.bytes += buffer.len() as u64;
                buffer.clear();
            }
        }
        out.write_all(&buffer)?;
        out.flush()?;
        summary.bytes += buffer.len() as u64;
        let Dirty { bad_date, bad_number, missing_field, too_long } = summary.dirty;
        summary.dirty_rows = bad_date + bad_number + missing_field + too_long;
        Ok(summary)
    }
}

impl Dirty {
    fn pick(&mut self, dirt: &mut Random) -> Defect {
        let (count, defect) = match dirt.below(4) {
            0 => (&mut self.bad_date, Defect::BadDate),
            1 => (&mut self.bad_number, Defect::BadNumber),
            2 => (&mut self.missing_field, Defect::MissingField),
            _ => (&mut self.too_long, Defect::TooLong),
        };
        *count += 1;
        defect
    }
}

const TITLES: [&str; 8] = ["Mr", "Mrs", "Ms", "Dr", "Mx", "Prof", "Mr", "Ms"];

/// As written, and as it stands in an e-mail address.
const FIRST_NAMES: [(&str, &str); 32] = [
    ("Ana", "Ana"),
    ("José", "Jose"),
    ("Łucja", "Lucja"),
    ("Mary", "Mary"),
    ("John", "John"),
    ("Wei", "Wei"),
    ("Yuki", "Yuki"),
    ("Olena", "Olena"),
    ("Ahmed", "Ahmed"),
    ("Priya", "Priya"),
    ("Søren", "Soren"),
    ("Zoë", "Zoe"),
    ("Peter", "Peter"),
    ("Linda", "Linda"),
    ("Chloé", "Chloe"),
    ("Björn", "Bjorn"),
    ("Ivan", "Ivan"),
    ("Fatima", "Fatima"),
    ("Grace", "Grace"),
    ("Noah", "Noah"),
    ("花子", "Hanako"),
    ("Elena", "Elena"),
    ("Marek", "Marek"),
    ("Núria", "Nuria"),
    ("Kwame", "Kwame"),
    ("Aisha", "Aisha"),
    ("Liam", "Liam"),
    ("Emma", "Emma"),
    ("Hugo", "Hugo"),
    ("Inés", "Ines"),
    ("Javier", "Javier"),
    ("Karen", "Karen"),
];

const LAST_NAMES: [(&str, &str); 32] = [
    ("Peña", "Pena"),
    ("Nowak", "Nowak"),
    ("Smith", "Smith"),
    ("García", "Garcia"),
    ("Müller", "Muller"),
    ("O'Brien", "OBrien"),
    ("Johnson", "Johnson"),
    ("Lee", "Lee"),
    ("Kowalska", "Kowalska"),
    ("Ivanova", "Ivanova"),
    ("Hassan", "Hassan"),
    ("Sharma", "Sharma"),
    ("Jensen", "Jensen"),
    ("van der Berg", "vanderBerg"),
    ("Brown", "Brown"),
    ("山田", "Yamada"),
    ("Dubois", "Dubois"),
    ("Lindström", "Lindstrom"),
    ("Petrov", "Petrov"),
    ("Ali", "Ali"),
    ("Mensah", "Mensah"),
    ("Okafor", "Okafor"),
    ("Wilson", "Wilson"),
    ("Taylor", "Taylor"),
    ("Suzuki", "Suzuki"),
    ("Chen", "Chen"),
    ("Rossi", "Rossi"),
    ("Fernández", "Fernandez"),
    ("Horváth", "Horvath"),
    ("Novák", "Novak"),
    ("Kim", "Kim"),
    ("Anderson", "Anderson"),
];

/// Active customers are the most.
const STATUSES: [&str; 8] = ["active", "inactive", "pending", "blocked", "closed", "active", "active", "vip"];

const DOMAINS: [&str; 8] = [
    "example.com",
    "Example.COM",
    "mail.example.org",
    "bank.example.net",
    "example.co.uk",
    "EXAMPLE.com",
    "post.example.pl",
    "correo.example.es",
];

const COUNTRIES: [&str; 32] = [
    "ES", "PL", "JP", "GB", "US", "DE", "FR", "IT", "SE", "DK", "CZ", "HU", "GH", "NG", "IN", "EG", "UA", "CN", "KR",
    "NL", "BR", "MX", "AR", "CL", "CA", "AU", "NZ", "ZA", "PT", "IE", "AT", "CH",
];

const OFFSETS: [&str; 8] = ["Z", "+00:00", "+01:00", "+02:00", "-05:00", "-08:00", "+05:30", "+09:00"];

/// `#` stands for a number. None needs quotes.
const NOTES: [&str; 16] = [
    "",
    "Asked about savings rates; no offer made yet",
    "Prefers e-mail contact on weekdays",
    "card ending # was replaced",
    "account # opened online by customer",
    "Moved from 大阪 last year",
    "branch visit  ref #",
    "Spoke with Łucja in support",
    "Identity papers complete and archived",
    "call  again in spring #",
    "Referred by Sra. Peña",
    "no further remarks on this customer",
    "transfer # waits for review",
    "Likes the colour of the new card",
    "loan # settled early",
    "ticket # closed by phone and letter",
];

const QUOTED_NOTES: [&str; 8] = [
    "\"Said \"\"call me later\"\", ref #\"",
    "\"Address: 7 Mill Lane, Flat #, Leeds\"",
    "\"first line\nsecond line, account #\"",
    "\"Peña, Łucja; see note #\"",
    "\"question about balance, \n\ncase #\"",
    "\"\"\"VIP\"\", not before 9 o'clock, id #\"",
    "\"大阪, 東京 branch #\"",
    "\"shared with Sra. Peña, 50%, account #\"",
];

const BAD_DATES: [&str; 4] = ["2023-02-30", "31/12/2022", "0000-00-00", "day before"];
const BAD_NUMBERS: [&str; 4] = ["12O.50", "n/a", "1.2.3", "--5"];

/// Days from 1970-01-01 to the first possible `signup_date`, 2005-01-01, and `last_seen`, 2022-01-01.
const FIRST_SIGNUP: u32 = 12_784;
const FIRST_SEEN: u32 = 18_993;

fn push_customer(out: &mut Vec<u8>, id: u64, random: &mut Random, defect: Option<Defect>, dirt: &mut Random) {
    let mut draw = Bits(random.next());
    let first = FIRST_NAMES[draw.take(32)];
    let last = LAST_NAMES[draw.take(32)];
    push_number(out, id);
    push_field(out, TITLES[draw.take(8)]);
    push_field(out, first.0);
    if defect == Some(Defect::TooLong) {
        push_long_name(out, last.0);
    } else {
        push_field(out, last.0);
    }
    push_field(out, STATUSES[draw.take(8)]);

    // Spaces around some addresses: what `clean = ["trim", "lower"]` is for.
    let (before, after) = if draw.take(8) == 0 { (",  ", " ") } else { (",", "") };
    push(out, before);
    push(out, first.1);
    out.push(b'.');
    push(out, last.1);
    push_number(out, id % 99_991);
    out.push(b'@');
    push(out, DOMAINS[draw.take(8)]);
    push(out, after);

    out.push(b',');
    push_number(out, 18 + draw.take(64) as u64);
    if defect == Some(Defect::BadNumber) {
        push_field(out, BAD_NUMBERS[dirt.below(4) as usize]);
    } else {
        push_balance(out, draw.take(1 << 23) as i64 - 1_000_000);
    }

    let mut draw = Bits(random.next());
    if defect == Some(Defect::BadDate) {
        push_field(out, BAD_DATES[dirt.below(4) as usize]);
    } else {
        out.push(b',');
        push_date(out, FIRST_SIGNUP + (draw.0 >> 32) as u32 % 7000);
    }
    out.push(b',');
    push_date(out, FIRST_SEEN + draw.take(1024) as u32);
    out.push(b'T');
    push_two(out, draw.take(32) as u32 % 24);
    out.push(b':');
    push_two(out, draw.take(64) as u32 % 60);
    out.push(b':');
    push_two(out, draw.take(64) as u32 % 60);
    push(out, OFFSETS[draw.take(8)]);

    let mut draw = Bits(random.next());
    push_field(out, COUNTRIES[draw.take(32)]);
    if defect != Some(Defect::MissingField) {
        out.push(b',');
        let number = draw.take(1 << 28) as u64;
        let note = draw.take(16);
        let quoted = draw.0.is_multiple_of(10);
        push_note(out, if quoted { QUOTED_NOTES[note % 8] } else { NOTES[note] }, number);
    }
    out.push(b'\n');
}

#[inline]
fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

#[inline]
fn push_field(out: &mut Vec<u8>, text: &str) {
    out.push(b',');
    push(out, text);
}

/// The name over and over, up to 60 characters.
fn push_long_name(out: &mut Vec<u8>, name: &str) {
    out.push(b',');
    let mut buffer = [0; 4];
    for char in name.chars().cycle().take(60) {
        push(out, char.encode_utf8(&mut buffer));
    }
}

fn push_note(out: &mut Vec<u8>, note: &str, number: u64) {
    match note.split_once('#') {
        Some((before, after)) => {
            push(out, before);
            push_number(out, number);
            push(out, after);
        }
        None => push(out, note),
    }
}

fn push_balance(out: &mut Vec<u8>, cents: i64) {
    out.push(b',');
    if cents < 0 {
        out.push(b'-');
    }
    let cents = cents.unsigned_abs();
    push_number(out, cents / 100);
    out.push(b'.');
    push_two(out, (cents % 100) as u32);
}

/// Two digits.
#[inline]
fn push_two(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&[b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]);
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// `days` since 1970-01-01 as `2024-02-29`. Counts from 1 March, so that the leap day is the last of its year; good for
/// 1970 to 2099, where every fourth year is a leap year.
fn push_date(out: &mut Vec<u8>, days: u32) {
    let from_march = days + 671; // since 1968-03-01, the day after a leap day
    let cycle = from_march / 1461;
    let in_cycle = from_march % 1461;
    let year_of_cycle = (in_cycle / 365).min(3);
    let day_of_year = in_cycle - year_of_cycle * 365;
    // March to January in runs of five months with 153 days each.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = 1968 + 4 * cycle + year_of_cycle + u32::from(month >= 10);
    let month = if month < 10 { month + 3 } else { month - 9 };
    push_two(out, year / 100);
    push_two(out, year % 100);
    out.push(b'-');
    push_two(out, month);
    out.push(b'-');
    push_two(out, day);
}

/// One draw, used from its low end bit by bit.
struct Bits(u64);

impl Bits {
    /// A number below `bound`, a power of two.
    #[inline]
    fn take(&mut self, bound: u64) -> usize {
        debug_assert!(bound.is_power_of_two());
        let taken = self.0 & (bound - 1);
        self.0 >>= bound.trailing_zeros();
        taken as usize
    }
}

/// splitmix64: one addition and a mix per number, the same on every machine.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    #[inline]
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True with the probability `share`.
    #[inline]
    fn chance(&mut self, share: f64) -> bool {
        // 53 bits are what a double holds.
        ((self.next() >> 11) as f64) < share * (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generate(rows: u64, seed: u64, dirty: f64) -> (Vec<u8>, Summary) {
        let mut out = Vec::new();
        let summary = Customers { rows, seed, dirty }.write(&mut out).unwrap();
        assert_eq!(summary.bytes, out.len() as u64);
        (out, summary)
    }

    fn records(file: &[u8]) -> Vec<Vec<String>> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
        reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        assert_eq!(generate(500, 7, 0.01), generate(500, 7, 0.01));
        assert_ne!(generate(500, 7, 0.0).0, generate(500, 8, 0.0).0);
    }

    #[test]
    fn a_file_does_not_change_from_one_release_to_the_next() {
        let (file, _) = generate(3, 1, 0.0);
        let text = String::from_utf8(file).unwrap();
        assert_eq!(
            text.lines().nth(1).unwrap(),
            "1,Ms,José,Johnson,pending,Jose.Johnson1@example.com,54,12852.56,2022-02-18,2022-04-14T03:29:44-05:00,AT,\
             Spoke with Łucja in support"
        );
    }

    #[test]
    fn more_rows_only_add_to_the_file() {
        let (short, _) = generate(100, 3, 0.1);
        let (long, _) = generate(200, 3, 0.1);
        assert!(long.starts_with(&short));
    }

    #[test]
    fn dirt_spoils_rows_and_leaves_the_others_alone() {
        let clean = records(&generate(4000, 5, 0.0).0);
        let (file, summary) = generate(4000, 5, 0.05);
        let dirty = records(&file);
        let differ = clean.iter().zip(&dirty).filter(|(clean, dirty)| clean != dirty).count();
        assert_eq!(differ as u64, summary.dirty_rows);
        let Dirty { bad_date, bad_number, missing_field, too_long } = summary.dirty;
        assert!([bad_date, bad_number, missing_field, too_long].iter().all(|&count| (20..90).contains(&count)));
        assert_eq!(dirty.iter().filter(|record| record.len() == 11).count() as u64, missing_field);
        assert_eq!(dirty.iter().filter(|record| record[3].chars().count() > 40).count() as u64, too_long);
    }

    #[test]
    fn one_row_in_ten_has_a_quoted_note_and_a_row_has_about_150_bytes() {
        let (file, summary) = generate(20_000, 2, 0.0);
        assert_eq!(records(&file).len(), 20_000);
        let quoted = file.windows(2).filter(|pair| pair == b",\"").count();
        assert!((1800..2200).contains(&quoted), "{quoted}");
        let width = summary.bytes / summary.rows;
        assert!((120..170).contains(&width), "{width}");
    }

    #[test]
    fn dates_agree_with_a_calendar() {
        let date = |days| {
            let mut out = Vec::new();
            push_date(&mut out, days);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(58), "1970-02-28");
        assert_eq!(date(59), "1970-03-01");
        assert_eq!(date(FIRST_SIGNUP), "2005-01-01");
        assert_eq!(date(FIRST_SEEN), "2022-01-01");
        assert_eq!(date(19_781), "2024-02-28");
        assert_eq!(date(19_782), "2024-02-29");
        assert_eq!(date(19_783), "2024-03-01");
        assert_eq!(date(20_088), "2024-12-31");
        assert_eq!(date(20_089), "2025-01-01");
    }

    #[test]
    fn all_or_no_rows_may_be_dirty() {
        assert_eq!(generate(300, 1, 1.0).1.dirty_rows, 300);
        assert_eq!(generate(300, 1, 0.0).1.dirty_rows, 0);
        assert_eq!(generate(0, 1, 1.0).0, HEADER.as_bytes());
    }
}
