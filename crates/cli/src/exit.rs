//! Exit codes: part of the interface, used by scripts, systemd units and schedulers.

use std::fmt::Write as _;
use std::process::ExitCode;

/// How a process ended. Each code has one meaning in every binary; none of them is a catch-all for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    Done,
    Failed,
    Usage,
    DataGate,
    Denied,
    SomeFailed,
    Differences,
    Temporary,
    Interrupted,
    Terminated,
}

impl Exit {
    /// In the order of their codes.
    pub const ALL: [Self; 10] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::DataGate,
        Self::Denied,
        Self::SomeFailed,
        Self::Differences,
        Self::Temporary,
        Self::Interrupted,
        Self::Terminated,
    ];

    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::DataGate => 3,
            Self::Denied => 4,
            Self::SomeFailed => 5,
            Self::Differences => 6,
            Self::Temporary => 75,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// One line for `--help` and the reference.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Done => "done; rejects within the limit included",
            Self::Failed => "failed; nothing was committed, unless the message says so",
            Self::Usage => "wrong usage, or a mistake in the pipeline file",
            Self::DataGate => "the data was refused: over the reject limit, or a check failed",
            Self::Denied => "credentials missing or wrong, or no permission",
            Self::SomeFailed => "several files or objects, and not all alike: some failed, or for different reasons",
            Self::Differences => "differences found",
            Self::Temporary => "temporary or busy: the same command can succeed later",
            Self::Interrupted => "interrupted (SIGINT), nothing committed",
            Self::Terminated => "terminated (SIGTERM), nothing committed",
        }
    }

    /// The codes a binary uses, as a section of its `--help`.
    pub fn help(used: &[Self]) -> String {
        let mut text = String::from("Exit codes:");
        for exit in used {
            let _ = write!(text, "\n  {:>3}  {}", exit.code(), exit.describe());
        }
        text
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn codes_are_distinct_and_in_order() {
        let codes = Exit::ALL.map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 75, 130, 143]);
    }

    #[test]
    fn help_lists_the_codes_a_binary_uses() {
        assert_eq!(
            Exit::help(&[Exit::Done, Exit::Temporary]),
            "Exit codes:\n    0  done; rejects within the limit included\n   75  temporary or busy: the same command \
             can succeed later"
        );
    }
}
