//! Who this host is: its name, and its instance id from the EC2 metadata service, version 2. The id is kept on disk, so that a
//! metadata service that does not answer at start changes no name of a stream.

use std::fs;
use std::path::Path;
use std::time::Duration;

use aws_config::imds;

use crate::config::Config;
use crate::name::Host;

const ID_FILE: &str = "instance-id";
const TIMEOUT: Duration = Duration::from_secs(2);

/// The host has no instance id, and a name asks for one.
#[derive(Debug, thiserror::Error)]
#[error("a name asks for {{instance_id}}, and the EC2 metadata service gives none ({0})")]
pub struct NoInstanceId(String);

/// The host, with its instance id where a name asks for it.
pub async fn find(config: &Config) -> Result<Host, NoInstanceId> {
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let asks = config.templates().any(|template| template.asks_for("instance_id"));
    let instance_id = if asks { Some(instance_id(&config.state).await?) } else { None };
    Ok(Host { hostname, instance_id })
}

async fn instance_id(state: &Path) -> Result<String, NoInstanceId> {
    let path = state.join(ID_FILE);
    let client = imds::Client::builder().connect_timeout(TIMEOUT).read_timeout(TIMEOUT).max_attempts(2).build();
    match client.get("/latest/meta-data/instance-id").await {
        Ok(id) => {
            let id = String::from(id).trim().to_owned();
            // Kept for a start at which nobody answers; without it that start waits.
            let _ = fs::create_dir_all(state).and_then(|()| fs::write(&path, &id));
            Ok(id)
        }
        Err(error) => match fs::read_to_string(&path) {
            Ok(id) if !id.trim().is_empty() => Ok(id.trim().to_owned()),
            _ => Err(NoInstanceId(error.to_string())),
        },
    }
}
