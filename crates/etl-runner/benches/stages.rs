//! Speed of the stages a block passes through on one core, beside the csv crate's raw loop.
//!
//! `cargo bench -p etl-runner -- customers.csv pipelines/customers.toml` prints MB/s of each stage, each including those
//! before it; `typed` is all of them, encoding included, without the pipeline's cleaning steps. With `--stage NAME` one stage runs once: `valgrind --tool=callgrind` then counts its instructions.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints and may stop")]

use std::hint::black_box;
use std::time::Instant;

use etl_runner::database::CopyEncoder;
use transform::csv::{Block, Cutter, Decoded, Decoder, Grammar, read_header};
use transform::{ColumnType, Discard, Pipeline, Plan, Worker};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STAGES: [&str; 6] = ["csv-crate", "cut", "decode", "typed", "transform", "encode"];

/// The best of them counts: on a shared machine most rounds are disturbed.
const ROUNDS: usize = 20;

struct Input {
    bytes: Vec<u8>,
    pipeline: Pipeline,
    grammar: Grammar,
    columns: std::sync::Arc<[ColumnType]>,
    plan: Plan,
    /// Without cleaning: types alone.
    typed: Plan,
}

impl Input {
    fn read(csv: &str, pipeline: &str) -> Self {
        let bytes = std::fs::read(csv).unwrap();
        let pipeline = Pipeline::parse(&std::fs::read_to_string(pipeline).unwrap()).unwrap();
        let grammar = Grammar::new(&pipeline.dialect, b',');
        let columns: std::sync::Arc<[_]> = pipeline.schema.fields.iter().map(|field| field.column_type()).collect();
        let header = {
            let mut cutter = Cutter::new(grammar, pipeline.source.encoding, pipeline.limits.record, true);
            cutter.push(&bytes[..bytes.len().min(65_536)]);
            read_header(&cutter.next().unwrap(), grammar, 1600).unwrap().0.unwrap()
        };
        let (plan, _) = Plan::compile(&pipeline, grammar, Some(&header), &columns).unwrap();
        let mut uncleaned = pipeline.clone();
        for field in &mut uncleaned.schema.fields {
            field.clean.clear();
        }
        let (typed, _) = Plan::compile(&uncleaned, grammar, Some(&header), &columns).unwrap();
        Self { bytes, pipeline, grammar, columns, plan, typed }
    }

    /// Cuts the input and gives each block with records to `each`, as the reader thread does.
    fn blocks(&self, mut each: impl FnMut(&Block)) {
        let mut cutter = Cutter::new(self.grammar, self.pipeline.source.encoding, self.pipeline.limits.record, true);
        let mut header = true;
        let mut drain = |cutter: &mut Cutter| {
            while let Some(block) = cutter.next() {
                if !std::mem::take(&mut header) {
                    each(&block);
                }
                cutter.recycle(block.into_buffer());
            }
        };
        for chunk in self.bytes.chunks(64 * 1024) {
            cutter.push(chunk);
            drain(&mut cutter);
        }
        cutter.finish();
        drain(&mut cutter);
    }

    /// Runs one stage over the whole input; the number only keeps the work from being optimised away.
    fn run(&self, stage: &str) -> u64 {
        let mut sum = 0;
        match stage {
            "csv-crate" => {
                let mut reader = csv::ReaderBuilder::new().from_reader(self.bytes.as_slice());
                let mut record = csv::ByteRecord::new();
                while reader.read_byte_record(&mut record).unwrap() {
                    sum += record.len() as u64;
                }
            }
            "cut" => self.blocks(|block| sum += block.len() as u64),
            "decode" => {
                let mut decoder = Decoder::new(self.grammar);
                self.blocks(|block| {
                    let text = std::str::from_utf8(block.bytes()).unwrap();
                    decoder.reset();
                    while let Decoded::Record { .. } = decoder.next(text) {
                        sum += decoder.len() as u64;
                    }
                });
            }
            "transform" => {
                let mut worker = Worker::new(&self.plan);
                self.blocks(|block| sum += worker.apply(block, &mut Discard).loaded);
            }
            "typed" | "encode" => {
                let mut worker = Worker::new(if stage == "typed" { &self.typed } else { &self.plan });
                let mut buffer = Vec::new();
                self.blocks(|block| {
                    let mut sink = CopyEncoder::new(self.columns.clone(), Some(1), std::mem::take(&mut buffer));
                    worker.apply(block, &mut sink);
                    buffer = black_box(sink.finish());
                    sum += buffer.len() as u64;
                });
            }
            other => panic!("no stage {other}; stages are {STAGES:?}"),
        }
        sum
    }
}

fn main() {
    // `cargo bench` adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let (files, stage) = match args.as_slice() {
        [csv, pipeline] => ((csv, pipeline), None),
        [csv, pipeline, flag, stage] if flag == "--stage" => ((csv, pipeline), Some(stage)),
        _ => {
            println!("usage: cargo bench -p etl-runner -- FILE.csv PIPELINE.toml [--stage NAME]");
            return;
        }
    };
    let input = Input::read(files.0, files.1);
    if let Some(stage) = stage {
        println!("{stage}: {}", input.run(stage));
        return;
    }
    for stage in STAGES {
        let mut best = f64::INFINITY;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            black_box(input.run(stage));
            best = best.min(start.elapsed().as_secs_f64());
        }
        let speed = input.bytes.len() as f64 / best / 1e6;
        println!("{stage:<10} {speed:>7.0} MB/s  {best:.3} s");
    }
}
