//! The database's user and password from AWS Secrets Manager, in the shape RDS writes.

use aws_config::BehaviorVersion;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use serde::Deserialize;
use sqlx::postgres::PgConnectOptions;

use super::url::SecretText;

/// Why a secret gave no credentials. Never holds any of its text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    #[error("there is no secret {id:?} in Secrets Manager in this account and region")]
    NotFound { id: String },
    #[error(
        "no permission to read the secret {id:?} ({code}); it needs secretsmanager:GetSecretValue, and kms:Decrypt for a key of its own"
    )]
    Denied { id: String, code: String },
    #[error("read the secret {id:?}: no AWS credentials or no region; set AWS_PROFILE, AWS_REGION or a role")]
    NoCredentials { id: String },
    #[error("Secrets Manager gave no answer for the secret {id:?}")]
    Unreachable { id: String },
    #[error("Secrets Manager refused to give the secret {id:?} ({code})")]
    Service { id: String, code: String },
    #[error("the secret {id:?} is not a JSON object with the texts `username` and `password`")]
    Shape { id: String },
    #[error("the secret {id:?} is for the engine {engine:?}, not for PostgreSQL")]
    Engine { id: String, engine: String },
}

impl SecretError {
    /// Whether asking again later can help.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Service { code, .. } => {
                matches!(code.as_str(), "InternalServiceError" | "ThrottlingException" | "ServiceUnavailable")
            }
            Self::NotFound { .. }
            | Self::Denied { .. }
            | Self::NoCredentials { .. }
            | Self::Shape { .. }
            | Self::Engine { .. } => false,
        }
    }

    /// Whether credentials or rights are what is missing.
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Denied { .. } | Self::NoCredentials { .. } | Self::NotFound { .. } => true,
            Self::Unreachable { .. } | Self::Service { .. } | Self::Shape { .. } | Self::Engine { .. } => false,
        }
    }
}

/// What RDS stores; `username` and `password` are required, the rest may come from the URL or `PG*`.
#[derive(Deserialize)]
struct Stored {
    username: String,
    password: String,
    host: Option<String>,
    port: Option<Port>,
    #[serde(alias = "database")]
    dbname: Option<String>,
    engine: Option<String>,
}

/// RDS writes a number, people write texts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Port {
    Number(u16),
    Text(String),
}

/// User and password, and perhaps where they are good for.
#[derive(Clone, Debug)]
pub(super) struct Secret {
    username: String,
    password: SecretText,
    host: Option<String>,
    port: Option<u16>,
    database: Option<String>,
}

impl Secret {
    /// Reads a secret's text.
    pub(super) fn parse(id: &str, text: &str) -> Result<Self, SecretError> {
        let shape = || SecretError::Shape { id: id.to_owned() };
        let stored: Stored = serde_json::from_str(text).map_err(|_| shape())?;
        if let Some(engine) = stored.engine.filter(|engine| !engine.contains("postgres")) {
            return Err(SecretError::Engine { id: id.to_owned(), engine });
        }
        let port = match stored.port {
            None => None,
            Some(Port::Number(port)) => Some(port),
            Some(Port::Text(text)) => Some(text.trim().parse().map_err(|_| shape())?),
        };
        Ok(Self {
            username: stored.username,
            password: SecretText::new(stored.password),
            host: stored.host.filter(|host| !host.is_empty()),
            port,
            database: stored.dbname.filter(|name| !name.is_empty()),
        })
    }

    /// Lays what the secret says over the options.
    pub(super) fn apply(&self, mut options: PgConnectOptions) -> PgConnectOptions {
        options = options.username(&self.username).password(self.password.expose());
        if let Some(host) = &self.host {
            options = options.host(host);
        }
        if let Some(port) = self.port {
            options = options.port(port);
        }
        if let Some(database) = &self.database {
            options = options.database(database);
        }
        options
    }

    /// Whether it tells another user or password than `other`: after a rotation it does.
    pub(super) fn differs_from(&self, other: &Self) -> bool {
        self.username != other.username || self.password != other.password
    }
}

/// Reads the current value of a secret, with the SDK's own settings.
pub(super) async fn fetch(id: &str) -> Result<Secret, SecretError> {
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    if config.region().is_none() {
        return Err(SecretError::NoCredentials { id: id.to_owned() });
    }
    let client = aws_sdk_secretsmanager::Client::new(&config);
    let answer = client.get_secret_value().secret_id(id).send().await.map_err(|error| {
        let id = id.to_owned();
        match &error {
            SdkError::ServiceError(service) => {
                let code = service.err().code().unwrap_or("no code").to_owned();
                match code.as_str() {
                    "ResourceNotFoundException" => SecretError::NotFound { id },
                    "AccessDeniedException"
                    | "AccessDenied"
                    | "DecryptionFailure"
                    | "DecryptionFailureException"
                    | "UnrecognizedClientException"
                    | "InvalidSignatureException"
                    | "ExpiredTokenException" => SecretError::Denied { id, code },
                    _ => SecretError::Service { id, code },
                }
            }
            // Without credentials no request can be signed: the SDK fails before anything is sent.
            SdkError::DispatchFailure(failure) if !failure.is_io() && !failure.is_timeout() => {
                SecretError::NoCredentials { id }
            }
            SdkError::ConstructionFailure(_) => SecretError::NoCredentials { id },
            _ => SecretError::Unreachable { id },
        }
    })?;
    match answer.secret_string() {
        Some(text) => Secret::parse(id, text),
        None => Err(SecretError::Shape { id: id.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_rds_writes_is_read() {
        let text = r#"{"username":"ada","password":"p@ss","engine":"postgres","host":"db.example","port":6000,
            "dbname":"shop","dbInstanceIdentifier":"x"}"#;
        let options = Secret::parse("s", text).unwrap().apply(PgConnectOptions::new_without_pgpass());
        assert_eq!((options.get_username(), options.get_host(), options.get_port()), ("ada", "db.example", 6000));
        assert_eq!(options.get_database(), Some("shop"));
    }

    #[test]
    fn what_a_secret_leaves_out_stays_as_it_was() {
        let options = PgConnectOptions::new_without_pgpass().host("kept").port(7000).database("kept_db");
        let options = Secret::parse("s", r#"{"username":"ada","password":"p"}"#).unwrap().apply(options);
        assert_eq!((options.get_host(), options.get_port(), options.get_database()), ("kept", 7000, Some("kept_db")));
        let texts = r#"{"username":"ada","password":"p","port":"6000"}"#;
        let options = Secret::parse("s", texts).unwrap().apply(options);
        assert_eq!(options.get_port(), 6000);
    }

    #[test]
    fn a_wrong_secret_is_named_and_never_shown() {
        for text in
            ["hunter2", "{\"password\":\"hunter2\"}", "[]", r#"{"username":"a","password":"hunter2","port":"x"}"#]
        {
            let error = Secret::parse("prod/db", text).unwrap_err();
            assert!(error.to_string().contains("prod/db"), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        let mysql = r#"{"username":"a","password":"p","engine":"mysql"}"#;
        assert!(matches!(Secret::parse("s", mysql).unwrap_err(), SecretError::Engine { .. }));
        assert!(!format!("{:?}", Secret::parse("s", r#"{"username":"a","password":"hunter2"}"#)).contains("hunter2"));
    }
}
