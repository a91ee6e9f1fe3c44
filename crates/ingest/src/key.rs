//! Under which key a file is stored.

use objects::{Glob, GlobError};
use transform::Pipeline;

/// S3's limit, in bytes.
const MAX_KEY: usize = 1024;

/// Gives each file its key.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Empty, or ends in `/`.
    prefix: String,
    /// What a pipeline will look for.
    glob: Option<Glob>,
}

/// Why a file has no key.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    #[error("source.path {path:?} of the pipeline is no pattern")]
    SourcePath { path: String, source: GlobError },
    #[error("{text:?} cannot be part of a key: {why}")]
    Illegal { text: String, why: &'static str },
    #[error("the key {key:?} is {length} bytes long, at most {MAX_KEY} are allowed")]
    TooLong { key: String, length: usize },
    /// Stored there, no run would ever find it.
    #[error("the key {key:?} does not match source.path {glob:?} of the pipeline")]
    NoMatch { key: String, glob: String },
}

impl Keys {
    /// Without a `prefix`, a pipeline's files go where its run looks: the directories its glob starts with.
    pub fn new(pipeline: Option<&Pipeline>, prefix: Option<&str>) -> Result<Self, KeyError> {
        let glob = match pipeline {
            Some(pipeline) => {
                let path = &pipeline.source.path;
                Some(path.parse::<Glob>().map_err(|source| KeyError::SourcePath { path: path.clone(), source })?)
            }
            None => None,
        };
        let prefix = match (prefix, &glob) {
            (Some(prefix), _) if prefix.is_empty() || prefix.ends_with('/') => prefix.to_owned(),
            (Some(prefix), _) => format!("{prefix}/"),
            (None, Some(glob)) => glob.prefix().rfind('/').map_or("", |slash| &glob.prefix()[..=slash]).to_owned(),
            (None, None) => String::new(),
        };
        if let Some(segments) = prefix.strip_suffix('/') {
            require_legal(segments)?;
        }
        Ok(Self { prefix, glob })
    }

    /// The key of a file called `name`, which may hold `/`.
    pub fn key_for(&self, name: &str) -> Result<String, KeyError> {
        require_legal(name)?;
        let key = format!("{}{name}", self.prefix);
        if key.len() > MAX_KEY {
            return Err(KeyError::TooLong { length: key.len(), key });
        }
        match &self.glob {
            Some(glob) if !glob.matches(&key) => Err(KeyError::NoMatch { key, glob: glob.to_string() }),
            _ => Ok(key),
        }
    }
}

/// A store takes stranger keys than this; we do not make any.
fn require_legal(text: &str) -> Result<(), KeyError> {
    let illegal = |why| Err(KeyError::Illegal { text: text.to_owned(), why });
    for segment in text.split('/') {
        match segment {
            "" => return illegal("it has an empty part between slashes"),
            "." | ".." => return illegal("it has . or .. as a part"),
            // A listing leaves hidden files aside: stored like that, no run would see it.
            _ if segment.starts_with('.') => return illegal("a part that starts with a dot is hidden"),
            _ if segment.contains('\\') => return illegal("it holds a backslash"),
            _ if segment.chars().any(char::is_control) => return illegal("it holds a control character"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(path: &str) -> Pipeline {
        let text = format!(
            "version = 1\nname = \"t\"\n[source]\npath = \"{path}\"\n[schema]\nfields = [{{ name = \"id\", type = \"string\" }}]\n[target]\ntable = \"t\"\n"
        );
        Pipeline::parse(&text).unwrap()
    }

    #[test]
    fn a_file_lands_where_the_pipeline_looks() {
        for (path, name, key) in [
            ("customers/*.csv*", "a.csv", "customers/a.csv"),
            ("in/{eu,us}/*.csv", "eu/a.csv", "in/eu/a.csv"),
            ("*.csv", "a.csv", "a.csv"),
            ("customers/new-*.csv", "new-1.csv", "customers/new-1.csv"),
            ("customers/one.csv", "one.csv", "customers/one.csv"),
        ] {
            let keys = Keys::new(Some(&pipeline(path)), None).unwrap();
            assert_eq!(keys.key_for(name).as_deref(), Ok(key), "{path}");
        }
    }

    #[test]
    fn a_key_no_run_would_find_is_refused() {
        let keys = Keys::new(Some(&pipeline("customers/*.csv")), None).unwrap();
        let error = keys.key_for("a.txt").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"the key "customers/a.txt" does not match source.path "customers/*.csv" of the pipeline"#
        );
        let keys = Keys::new(Some(&pipeline("customers/*.csv")), Some("other")).unwrap();
        assert!(matches!(keys.key_for("a.csv"), Err(KeyError::NoMatch { .. })));
    }

    #[test]
    fn a_prefix_is_a_directory() {
        for prefix in ["in/new", "in/new/"] {
            assert_eq!(Keys::new(None, Some(prefix)).unwrap().key_for("a.csv").unwrap(), "in/new/a.csv");
        }
        assert_eq!(Keys::new(None, Some("")).unwrap().key_for("a.csv").unwrap(), "a.csv");
        assert_eq!(Keys::new(None, None).unwrap().key_for("a.csv").unwrap(), "a.csv");
    }

    #[test]
    fn a_key_stays_below_its_store() {
        for prefix in ["..", "/etc", "a//b", "a/../b", "/", "a/./b", "a\nb"] {
            assert!(Keys::new(None, Some(prefix)).is_err(), "{prefix}");
        }
        let keys = Keys::new(None, None).unwrap();
        for name in ["", "../a.csv", "a\x1b.csv", "/a.csv", ".a.csv", "a\\b.csv"] {
            assert!(keys.key_for(name).is_err(), "{name}");
        }
        assert!(matches!(keys.key_for(&"a".repeat(1025)), Err(KeyError::TooLong { .. })));
    }
}
