//! Who this host is: its name, and its instance id from the EC2 metadata service, version 2. The id is kept on disk, so that a
//! metadata service that does not answer at start changes no name of a stream.

use std::fs;
use std::path::Path;

use crate::name::Host;
use crate::pace;

const ID_FILE: &str = "instance-id";

/// The host has no instance id, and a name asks for one.
#[derive(Debug, thiserror::Error)]
#[error("a name or a dimension asks for {{instance_id}}, and the EC2 metadata service gives none ({0})")]
pub struct NoInstanceId(String);

/// The host, with its instance id where a name asks for it.
pub async fn find(state: &Path, asks: bool) -> Result<Host, NoInstanceId> {
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let instance_id = if asks { Some(instance_id(state).await?) } else { None };
    Ok(Host { hostname, instance_id })
}

/// The same, waited for: under another name a stream would stay for ever.
pub async fn known(state: &Path, asks: bool) -> Host {
    let mut failures: u32 = 0;
    loop {
        match find(state, asks).await {
            Ok(host) => return host,
            Err(error) => {
                failures += 1;
                if failures == 1 || failures.is_multiple_of(10) {
                    tracing::warn!(%error, "who this host is cannot be found out; it is tried again, and nothing that asks for it is shipped until then");
                }
                tokio::time::sleep(pace::back_off(failures, 1.0)).await;
            }
        }
    }
}

async fn instance_id(state: &Path) -> Result<String, NoInstanceId> {
    let path = state.join(ID_FILE);
    let found = cloudwatch::instance_id().await;
    let found = found.and_then(|id| if is_id(&id) { Ok(id) } else { Err("what it answers is no id".to_owned()) });
    let kept = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
    match found {
        Ok(id) => {
            if id != kept {
                keep(state, &path, &id);
            }
            Ok(id)
        }
        Err(_) if is_id(&kept) => Ok(kept),
        Err(error) => Err(NoInstanceId(error)),
    }
}

/// For a start at which nobody answers; without it that start waits.
fn keep(state: &Path, path: &Path, id: &str) {
    let new = state.join("instance-id.new");
    let kept = fs::create_dir_all(state).and_then(|()| fs::write(&new, id)).and_then(|()| fs::rename(&new, path));
    if let Err(error) = kept {
        tracing::debug!(%error, "the instance id is not kept");
    }
}

/// Whether a text is an id of an EC2 instance, and not a page of something that answers in its place.
fn is_id(text: &str) -> bool {
    text.strip_prefix("i-")
        .is_some_and(|digits| (8..=32).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_id_is_an_id() {
        assert!(is_id("i-0123456789abcdef0") && is_id("i-01234567"));
        for other in ["", "i-", "i-0123", "unknown", "<html>i-01234567", "i-0123456g"] {
            assert!(!is_id(other), "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_answer_of_whatever_kind_is_taken_for_an_id(answer in "\\PC{0,40}|i-[0-9a-g]{0,40}") {
            let form = regex::Regex::new("^i-[0-9a-fA-F]{8,32}$").unwrap();
            assert_eq!(is_id(&answer), form.is_match(&answer), "{answer:?}");
        }
    }
}
